//! Everything of `freehold-private` that reads bytes from outside, on any bytes the fuzzer comes up
//! with.
#![no_main]

#[path = "../../private/tests/decoding/mod.rs"]
mod decoding;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoding::decode(bytes));
