//! Who can read the credentials of an agent, and what an agent can have read for it.

use super::harness::{Entry, Machine, config, eventually};

fn said(machine: &Machine, unit: &str, word: &str) -> Entry {
    machine
        .journal()
        .wait_for(word, |entry| entry.field("_SYSTEMD_UNIT") == unit && entry.message() == word)
}

/// The configuration with a password and a client certificate.
fn with_secrets(mqtt: &str, sections: &str) -> String {
    config("auto", sections)
        .replace("[mqtt]\n", &format!("[mqtt]\nuser = \"iot\"\npassword = \"a secret\"\n{mqtt}"))
}

const TRIES: &str = "cat /run/credentials/iotmonitor-agent-guest.service/mqtt-password \
    2> /dev/null && echo got it || echo closed; exec sleep infinity";

#[test]
fn a_dynamic_user_keeps_its_credentials_from_all_other_agents() {
    let machine = Machine::boot();
    let sections = |user: &str| {
        format!(
            "[agent_guest]\n{user}passCredentials = true\n\
             exec = 'cat $CREDENTIALS_DIRECTORY/mqtt-password; echo; exec sleep infinity'\n\
             [agent_other]\nexec = '{TRIES}'\n[agent_dynamic]\nuser = \"dynamic\"\nexec = '{TRIES}'\n"
        )
    };
    let guest = "iotmonitor-agent-guest.service";
    machine.launch(&with_secrets("", &sections("user = \"dynamic\"\n")));
    said(&machine, guest, "a secret");
    for agent in ["other", "dynamic"] {
        // From now on the credential is there to be read.
        machine.ok(&["iotmonitor", "restart", agent]);
        let unit = format!("iotmonitor-agent-{agent}.service");
        eventually("both of its tries", || {
            let tries = machine.journal().now(&machine, |entry| {
                entry.field("_SYSTEMD_UNIT") == unit && entry.message() == "closed"
            });
            (tries.len() == 2).then_some(())
        });
    }
    assert_eq!(machine.property(guest, "DynamicUser"), "yes");

    // A file of 0.3.0 goes on working, and `check` says which users can read it.
    machine.write_config(&with_secrets("", &sections("")));
    let checked = machine.run(&["iotmonitor", "check"]);
    assert!(checked.status.success());
    let warned = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(warned.contains("`other` with the same user can read the credentials"), "{warned}");
    assert!(warned.contains("user = \"dynamic\""), "{warned}");
    assert!(machine.reload_monitor().status.success());
    machine.ok(&["iotmonitor", "restart", "other"]);
    said(&machine, "iotmonitor-agent-other.service", "got it");
}

/// systemd reads the file as root: a link to the shadow file would reach the agent.
#[test]
fn a_credential_that_others_could_replace_is_refused() {
    let machine = Machine::boot();
    machine.sh("useradd --create-home pi; cd /home/pi; echo certificate > cert.pem
        ln -s /etc/shadow key.pem; echo A=1 > env; chown -h pi:pi cert.pem key.pem env");
    let keys = "certFile = \"/home/pi/cert.pem\"\nkeyFile = \"/home/pi/key.pem\"\n";
    let sections = "[agent_thief]\nuser = \"pi\"\npassCredentials = true\n\
        environmentFile = \"/home/pi/env\"\n\
        exec = 'grep root $CREDENTIALS_DIRECTORY/mqtt-key; exec sleep infinity'\n";
    let text = with_secrets(keys, sections);
    machine.launch(&text);
    let alert = machine.journal().wait_for_alert("agent-failed", "thief");
    assert!(alert.message().contains("/home/pi"), "{}", alert.message());
    assert!(alert.message().contains("not to root"), "{}", alert.message());
    assert_eq!(machine.main_pid("iotmonitor-agent-thief.service"), 0);

    let checked = machine.run(&["iotmonitor", "check"]);
    let warned = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success(), "{warned}");
    assert!(warned.contains("[agent_thief] will not be started with mqtt-key"), "{warned}");
    assert!(warned.contains("environmentFile of [agent_thief]: /home/pi belongs to"), "{warned}");

    // In root's hands it is passed on.
    machine.sh("mkdir /etc/iotmonitor/tls; cd /etc/iotmonitor/tls; echo certificate > cert.pem
        echo the root key > key.pem; chmod 600 key.pem");
    machine.write_config(
        &text
            .replace("/home/pi/cert", "/etc/iotmonitor/tls/cert")
            .replace("/home/pi/key", "/etc/iotmonitor/tls/key"),
    );
    assert!(machine.reload_monitor().status.success());
    said(&machine, "iotmonitor-agent-thief.service", "the root key");
}
