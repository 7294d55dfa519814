//! The scripts behind `make test`, `make run` and `make run-cluster` say what cannot be had where no container can be booted.

use super::root;
use nix::unistd::geteuid;
use std::process::{Command, Output};

/// A script as an ordinary user or a process without CAP_SYS_ADMIN sees this machine.
fn without_containers(script: &str) -> Command {
    let script = root().join(script);
    if geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_admin"]).arg(script);
        return command;
    }
    Command::new(script)
}

fn words(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn the_reason_why_no_container_can_be_booted_is_one_line() {
    let output = without_containers("packaging/container.sh").output().unwrap();
    assert!(!output.status.success());
    let said = words(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("container"), "{said}");
}

#[test]
fn the_demonstration_of_a_cluster_says_in_one_line_what_it_needs() {
    let output = without_containers("packaging/demo-cluster.sh").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = words(&output);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("needs root with CAP_SYS_ADMIN"), "{said}");
}

#[test]
fn what_would_be_left_out_is_a_failure_where_all_is_required() {
    let mut script = without_containers("packaging/test.sh");
    // Nothing is run: the script would not get past this.
    let output = script.arg("all").env("REQUIRE", "all").env("CARGO", "false").output().unwrap();
    let said = words(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not everything can be tested here: "), "{said}");
    assert!(said.contains("the system tests"), "{said}");
}

#[test]
fn what_is_left_out_is_named_and_does_not_fail() {
    let mut script = without_containers("packaging/test.sh");
    let output = script.arg("all").env_remove("REQUIRE").env("CARGO", "true").output().unwrap();
    let said = words(&output);
    assert!(output.status.success(), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("not run: ") && last.contains("container"), "{said}");
}
