#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| agentsight_replay::fuzz::mcp(data));
