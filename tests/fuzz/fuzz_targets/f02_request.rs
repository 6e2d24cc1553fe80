#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| blkfault_fuzz::request::run(input));
