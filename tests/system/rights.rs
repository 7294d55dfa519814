//! What the service may do, and what an agent may.

use super::harness::{Machine, config, eventually};
use std::io::Write as _;

const UNIT: &str = "iotmonitor-agent-probe.service";

/// systemd's own judgement; 0 is a service that may do nothing, 10 one that may do everything. What it
/// finds fault with is a right that the unit's file gives a reason for.
fn exposure(suite: &str) {
    let machine = Machine::boot_suite(suite);
    let said = machine.ok(&["systemd-analyze", "security", "--no-pager", "iotmonitor.service"]);
    let verdict = said.lines().rfind(|line| line.contains("Overall exposure level")).unwrap();
    // Not by a macro, whose output is shown of failed tests only.
    let _ = writeln!(std::io::stderr(), "{suite}: {verdict}");
    let level = verdict.split(": ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(level.parse::<f64>().unwrap() <= 1.7, "{said}");
    let faults = said.lines().filter_map(|line| line.strip_prefix("✗ "));
    let faults: Vec<&str> = faults.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert!(faults.len() > 5, "{said}");
    for file in [
        include_str!("../../systemd/usr/lib/systemd/system/iotmonitor.service"),
        include_str!("../../systemd/usr/lib/systemd/system/iotmonitor@.service"),
    ] {
        let reasons: String = file.lines().filter(|line| line.starts_with('#')).collect();
        for fault in &faults {
            // Some stand for two settings, of which one is enough.
            let setting = fault.split('/').next().unwrap();
            assert!(reasons.contains(setting), "no reason is given for {fault}");
        }
    }
}

#[test]
fn the_service_is_hardly_exposed_on_debian_12() {
    exposure("bookworm");
}

#[test]
fn the_service_is_hardly_exposed_on_debian_13() {
    exposure("trixie");
}

/// Root at a terminal may read everything, the service not.
#[test]
fn check_shows_root_what_the_service_cannot_read_and_so_does_the_service() {
    let machine = Machine::boot();
    machine.ok(&["useradd", "--create-home", "pi"]);
    machine.write_file("/home/pi/password", "hunter2\n");
    machine.ok(&["chown", "pi:", "/home/pi/password"]);
    let text =
        config("auto", "").replace("1883\"\n", "1883\"\npasswordFile = \"/home/pi/password\"\n");
    machine.write_config(&text);

    let checked = machine.run(&["iotmonitor", "check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("/home/pi/password is closed to it"), "{said}");
    assert!(said.contains("LoadCredential=mqtt-password:/home/pi/password"), "{said}");

    assert!(!machine.run(&["systemctl", "start", "iotmonitor"]).status.success());
    machine.journal().wait_for("the error with its way out", |entry| {
        entry.is_alert("start-failed", "")
            && entry.message().contains("LoadCredential=mqtt-password:/home/pi/password")
    });

    // The way out is one.
    machine.write_file(
        "/etc/systemd/system/iotmonitor.service.d/password.conf",
        "[Service]\nLoadCredential=mqtt-password:/home/pi/password\n",
    );
    machine.ok(&["systemctl", "daemon-reload"]);
    machine.start_monitor();
}

/// mosquitto makes its socket as a user of its own, and lets no other user write to it.
#[test]
fn a_socket_that_the_service_may_not_write_to_is_reported_with_the_remedy() {
    const SOCKET: &str = "/run/mosquitto/house.sock";
    let machine = Machine::boot();
    let listeners = format!("allow_anonymous true\nlistener 1883 localhost\nlistener 0 {SOCKET}\n");
    machine.write_file("/etc/mosquitto/conf.d/socket.conf", &listeners);
    machine.sh("chmod 644 /etc/mosquitto/conf.d/socket.conf; systemctl restart mosquitto");
    let socket = format!("stat -c '%U %a' {SOCKET}");
    eventually("mosquitto's socket", || {
        (machine.run(&["test", "-S", SOCKET]).status.success()).then_some(())
    });
    let mode = machine.sh(&socket);
    assert!(["mosquitto 755", "mosquitto 770"].contains(&mode.as_str()), "{mode}");
    let text = config("auto", "").replace("tcp://localhost:1883", &format!("unix://{SOCKET}"));
    machine.write_config(&text);

    let way_out = [
        "ExecStartPost=+/bin/chmod a+x /run/mosquitto".to_owned(),
        format!("ExecStartPost=+/bin/chown root {SOCKET}"),
    ];
    let has_way_out = |said: &str| way_out.iter().all(|line| said.contains(line));
    let checked = machine.run(&["iotmonitor", "check"]);
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.contains("is closed to it"), "{said}");
    assert!(has_way_out(&said), "{said}");
    machine.start_monitor();
    machine.journal().wait_for("the closed socket with its way out", |entry| {
        entry.message().contains("is closed to iotmonitor") && has_way_out(entry.message())
    });

    // The way out is one.
    machine.write_file(
        "/etc/systemd/system/mosquitto.service.d/override.conf",
        &format!("[Service]\n{}\n", way_out.join("\n")),
    );
    machine.sh("systemctl daemon-reload; systemctl restart mosquitto");
    let checked = machine.run(&["iotmonitor", "check"]);
    assert!(!String::from_utf8_lossy(&checked.stderr).contains("is closed"), "{checked:?}");
    let bus = machine.subscribe(&["home/#"]);
    bus.wait_topic(0, "home/monitoring/up");
}

/// A machine with an agent that runs this script, and then waits.
fn with_probe(keys: &str, script: &str) -> Machine {
    let machine = Machine::boot();
    let agent =
        format!("[agent_probe]\n{keys}exec = '''\n{script}\necho done; exec sleep infinity\n'''\n");
    let states = "[device_lamp]\nstateTopics = \"home/lamp/set/#\"\n";
    machine.launch(&config("auto", &format!("{states}{agent}")));
    machine
}

/// Waits for a line of the agent.
fn await_said(machine: &Machine, line: &str) {
    machine
        .journal()
        .wait_for(line, |entry| entry.field("_SYSTEMD_UNIT") == UNIT && entry.message() == line);
}

#[test]
fn an_agent_runs_as_an_unprivileged_user_and_reads_neither_configuration_nor_store() {
    let machine = with_probe(
        "",
        "id -un\n\
         for file in /etc/iotmonitor/config.toml /var/lib/iotmonitor/data.mdb; do\n\
         if cat $file > /tmp/probe 2>&1; then echo open $file; else echo closed $file; fi; done",
    );
    machine.ok(&["test", "-e", "/var/lib/iotmonitor/data.mdb"]);
    await_said(&machine, "iotmonitor");
    await_said(&machine, "closed /etc/iotmonitor/config.toml");
    await_said(&machine, "closed /var/lib/iotmonitor/data.mdb");
}

#[test]
fn a_strict_sandbox_closes_the_system_and_leaves_a_state_directory() {
    let machine = with_probe(
        "sandbox = \"strict\"\n",
        "grep -E '^(CapEff|NoNewPrivs)' /proc/self/status | tr -d '\\t'\n\
         for place in /etc /usr /var/lib/iotmonitor-agents; do\n\
         if touch $place/x 2> /dev/null; then echo open $place; else echo closed $place; fi; done\n\
         if unshare --user true 2> /dev/null; then echo may unshare; else echo no unshare; fi\n\
         stat -c %a $STATE_DIRECTORY; touch $STATE_DIRECTORY/mark && echo kept",
    );
    for line in [
        "CapEff:0000000000000000",
        "NoNewPrivs:1",
        "closed /etc",
        "closed /usr",
        "closed /var/lib/iotmonitor-agents",
        "no unshare",
        "700",
        "kept",
        "done",
    ] {
        await_said(&machine, line);
    }
    machine.sh(&format!(
        "test -e /var/lib/iotmonitor-agents/{}/mark",
        UNIT.trim_end_matches(".service")
    ));
}
