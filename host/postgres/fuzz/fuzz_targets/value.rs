//! See `postgres::fuzz::value`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use postgres_fuzz::within_bounds;

fuzz_target!(|input: &[u8]| within_bounds(input, postgres::fuzz::value));
