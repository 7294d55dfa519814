#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| iotmonitor::fuzzing::unit_names(data));
