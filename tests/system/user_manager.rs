//! iotmonitor in a user's service manager, without any privilege.

use super::harness::{Machine, config, eventually};

/// Runs systemctl for the user's manager.
fn systemctl(machine: &Machine, arguments: &str) -> String {
    machine.sh(&format!("systemctl --user --machine=pi@ {arguments}"))
}

#[test]
fn a_users_own_monitor_runs_the_users_agents() {
    let machine = Machine::boot();
    machine.ok(&["useradd", "--create-home", "--shell", "/bin/bash", "pi"]);
    machine.ok(&["loginctl", "enable-linger", "pi"]);
    let agent = "[agent_own]\nexec = 'echo \"own agent of $(id -un)\"; exec sleep infinity'\n";
    let file = "/home/pi/.config/iotmonitor/config.toml";
    machine.write_file(file, &config("auto", agent));
    machine.ok(&["chown", "-R", "pi:", "/home/pi"]);
    eventually("the user's manager", || machine.is_active("user@1000.service").then_some(()));

    let bus = machine.subscribe(&["home/#"]);
    systemctl(&machine, "start iotmonitor");
    bus.wait_exact(0, "home/monitoring/availability", "online");
    bus.wait_topic(0, "home/monitoring/startedprocess/own");
    machine.journal().wait_for("the agent's word", |entry| {
        entry.message() == "own agent of pi"
            && entry.field("_SYSTEMD_USER_UNIT") == "iotmonitor-agent-own.service"
    });
    let pid = || systemctl(&machine, "show --value -p MainPID iotmonitor-agent-own.service");
    let first = pid();
    systemctl(&machine, "restart iotmonitor");
    bus.let_seconds_pass(2);
    assert_eq!(pid(), first);
    systemctl(&machine, "reload iotmonitor");
    systemctl(&machine, "stop iotmonitor-agent-own.service");
    eventually("a new process", || {
        let now = pid();
        (now != "0" && now != first).then_some(())
    });
    machine.write_file(file, &config("auto", "[agent_own]\nexex = \"\"\n"));
    machine.ok(&["chown", "pi:", file]);
    let reload = ["systemctl", "--user", "--machine=pi@", "reload", "iotmonitor"];
    assert!(!machine.run(&reload).status.success());
}
