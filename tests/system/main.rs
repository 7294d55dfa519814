//! iotmonitor under a real systemd, with a real D-Bus, journal and mosquitto.
//!
//! Each test boots a machine of its own: a container with its own network, cgroup and process tree,
//! from an image that is built once from Debian's packages. Needs root and the tools that
//! `make deps` installs; without them the tests fail and say so. `harness` has no opinion on
//! iotmonitor beyond how it is started; what it is to do is decided in the other modules.

mod accounts;
mod agents;
mod alert_units;
mod availability;
mod board;
#[path = "../http/browser.rs"]
#[allow(dead_code, reason = "the tests of the page use the rest of it")]
mod browser;
mod bus;
mod calls;
mod cluster;
mod continuity;
mod control;
mod credentials;
mod episodes;
mod fleets;
mod guard;
#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the fault tests use the rest of it")]
mod harness;
mod history;
mod home_assistant;
mod identity;
mod idle;
mod instances;
mod learning;
mod liveness;
mod notify;
mod package;
mod page;
mod presence;
mod reasons;
mod recorded_values;
mod recorder;
mod relaunch;
mod reload;
mod rights;
mod secrets;
mod sections;
mod selftest;
mod start;
mod state_commands;
mod states;
mod status;
mod store;
mod strangers;
mod surroundings;
mod threats;
mod trouble;
mod user_manager;

/// Makes of a test function that takes a protocol one test for each protocol version.
macro_rules! for_both_protocols {
    ($($test:ident),* $(,)?) => {
        mod v5 {
            $(#[test] fn $test() { super::$test("5"); })*
        }
        mod v311 {
            $(#[test] fn $test() { super::$test("3.1.1"); })*
        }
    };
}
use for_both_protocols;

/// Makes of a test function that takes a bus one test for each of the two that Debian has.
macro_rules! for_both_buses {
    ($($test:ident),* $(,)?) => {
        mod dbus_daemon {
            $(#[test] fn $test() { super::$test(super::Bus::Daemon); })*
        }
        mod dbus_broker {
            $(#[test] fn $test() { super::$test(super::Bus::Broker); })*
        }
    };
}
use for_both_buses;
