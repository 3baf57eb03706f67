#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quorate_fuzz::snapshot_chunks(data));
