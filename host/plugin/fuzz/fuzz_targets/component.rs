//! See `plugin::fuzz::component`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| plugin::fuzz::component(input));
