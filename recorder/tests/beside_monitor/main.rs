//! What the monitor does with recorded messages, beside a real broker, on a bus of its own.
//!
//! This program is also the monitor: started by one of its tests, it does what `iotmonitor` does with
//! the same arguments. Cargo gives the tests of a package only the programs of that package.

#[path = "../../../tests/common/broker.rs"]
#[allow(dead_code, reason = "the tests of the MQTT adapter use the rest of it")]
mod broker;
mod house;
mod sql;
mod values;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

const TESTS: &[(&str, fn())] = &[
    ("values::a_chart_and_all_messages", values::a_chart_and_all_messages),
    ("values::a_topic_of_another_device", values::a_topic_of_another_device),
    ("values::over_http", values::over_http),
    ("with_engines::documented_programs", sql::documented_programs),
    ("with_engines::documented_queries", sql::documented_queries),
    (
        "with_engines::topics_belong_to_devices_as_mqtt_says",
        sql::topics_belong_to_devices_as_mqtt_says,
    ),
    (
        "with_engines::formats_and_exit_codes_are_the_engines",
        sql::formats_and_exit_codes_are_the_engines,
    ),
    ("with_engines::a_prompt_keeps_its_messages", sql::a_prompt_keeps_its_messages),
    (
        "with_engines::without_a_monitor_there_are_messages",
        sql::without_a_monitor_there_are_messages,
    ),
    ("with_engines::what_is_missing_is_said", sql::what_is_missing_is_said),
    ("with_engines::datafusion_where_there_is_no_duckdb", sql::datafusion_where_there_is_no_duckdb),
];

fn main() -> ExitCode {
    if std::env::var_os(house::IS_MONITOR).is_some() {
        return iotmonitor::cli::main();
    }
    let tests = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit_code()
}
