//! Everything that reads bytes of a log's files, on any bytes the fuzzer comes up with.
#![no_main]

#[path = "../../shards/tests/decoding/mod.rs"]
mod decoding;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decoding::decode(bytes));
