//! See `bundle::fuzz::bundle`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| bundle::fuzz::bundle(input));
