//! The status page of the service as it is installed, with all its restrictions.

use super::browser::Browser;
use super::harness::{Machine, config};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::time::Duration;

const SECTIONS: &str = "[http]\nport = 8079\n\
    [device_lamp]\nwatchTimeOut = 2\nwatchTopics = \"home/lamp/#\"\n\
    [agent_sleeper]\nexec = \"exec sleep infinity\"\n";
const UNIT: &str = "iotmonitor-agent-sleeper.service";
const TOKEN: &str = "token-of-the-system-test-4417";
const DROP_IN: &str = "/etc/systemd/system/iotmonitor.service.d/token.conf";

/// The answer to a request, from its first line to its end.
fn ask(machine: &Machine, method: &str, path: &str, headers: &str) -> String {
    let mut stream = machine.connect_to_page(8079);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("20 s is no 0");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the page takes requests");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the page answers");
    answer
}

#[test]
fn the_service_offers_the_page_and_takes_the_token_as_a_credential() {
    let machine = Machine::boot();
    machine.write_file("/etc/iotmonitor/token", TOKEN);
    machine.write_file(DROP_IN, "[Service]\nLoadCredential=http-token:/etc/iotmonitor/token\n");
    machine.ok(&["systemctl", "daemon-reload"]);
    let bus = machine.launch(&config("auto", SECTIONS));
    bus.wait_topic(0, "home/monitoring/startedprocess/sleeper");
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    let pid = machine.main_pid(UNIT);

    let agents = ask(&machine, "GET", "/api/v1/agents", "");
    assert!(agents.starts_with("HTTP/1.1 200 "), "{agents}");
    assert!(agents.contains(&format!("\"state\":\"active\",\"mainPid\":{pid}")), "{agents}");
    let metrics = ask(&machine, "GET", "/metrics", "");
    for line in [
        "iotmonitor_agent_running{device=\"sleeper\"} 1",
        "iotmonitor_device_expired{device=\"lamp\"} 1",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(&format!("\n{line}")), "{line}: {metrics}");
    }

    let restart = "/api/v1/devices/sleeper/restart";
    assert!(ask(&machine, "POST", restart, "").starts_with("HTTP/1.1 401 "));
    assert_eq!(machine.main_pid(UNIT), pid);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = ask(&machine, "POST", restart, &bearer);
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    machine.await_new_main_pid(UNIT, pid);
    // To read the file again, the service needs the same credential.
    assert!(machine.reload_monitor().status.success());
    assert!(ask(&machine, "POST", restart, &bearer).starts_with("HTTP/1.1 204 "));

    let journal = machine.sh("journalctl --sync; journalctl --all --output=export");
    assert!(!journal.contains(TOKEN), "the token is in the journal");
}

/// An agent's own output, the alerts about it and systemd's messages, which others wrote.
#[test]
fn the_journal_of_an_agent_is_read_with_the_token() {
    let machine = Machine::boot();
    let sections = format!(
        "[http]\nport = 8079\ntoken = \"{TOKEN}\"\n[device_lamp]\nwatchTimeOut = 2\n\
         watchTopics = \"home/lamp/#\"\n[agent_talker]\n\
         exec = \"\"\"printf 'first\\\\n<b>last \\\\033[2J\\\\n'; exec sleep infinity\"\"\"\n"
    );
    let bus = machine.launch(&config("auto", &sections));
    bus.wait_topic(0, "home/monitoring/startedprocess/talker");
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    machine.sh("journalctl --sync");
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let entries = |name: &str, lines: u16| -> Vec<(f64, u64, String)> {
        let path = format!("/api/v1/devices/{name}/journal?lines={lines}");
        let answer = ask(&machine, "GET", &path, &bearer);
        let body = answer.split_once("\r\n\r\n").expect("it has a body").1;
        let list: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
        let list = list.as_array().expect("it is a list").clone();
        list.iter()
            .map(|entry| {
                let time = entry["time"].as_f64().expect("it has a time");
                let priority = entry["priority"].as_u64().expect("it has a priority");
                (time, priority, entry["message"].as_str().expect("it has one").to_owned())
            })
            .collect()
    };
    let talked = entries("talker", 50);
    let place = |words: &str| talked.iter().position(|(_, _, message)| message == words);
    let (first, last) = (place("first"), place("<b>last \\x1b[2J"));
    assert!(first.is_some() && first < last, "oldest first, and safe to be shown: {talked:?}");
    assert!(talked.is_sorted_by(|a, b| a.0 <= b.0), "{talked:?}");
    assert!(talked.iter().any(|(_, _, message)| message.contains("Started ")), "{talked:?}");
    assert_eq!(entries("talker", 1), talked[talked.len() - 1..]);
    let lamp = entries("lamp", 50);
    assert!(
        lamp.iter().any(|(_, priority, it)| *priority == 4 && it.contains("`lamp` is silent")),
        "{lamp:?}"
    );
    assert!(!lamp.iter().any(|(_, _, message)| message.contains("first")), "{lamp:?}");
}

#[test]
fn a_port_that_is_taken_ends_nothing() {
    let machine = Machine::boot();
    let taken = machine.listen(8079).expect("it is not in use yet");
    let bus = machine.launch(&config("auto", SECTIONS));
    let failed = machine.journal().wait_for_alert("page-failed", "");
    assert!(failed.message().contains("another program uses it"), "{}", failed.message());
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    drop(taken);
    machine.journal().wait_for_alert("page-back", "");
    assert!(ask(&machine, "GET", "/healthz", "").contains("\r\nok\n"));
}

/// A house as it may be. Its picture is what `make picture` puts into the README.
const HOUSE: &str = r#"
[http]
[device_boiler]
area = "Cellar"
watchTopics = "home/boiler/#"
watchTimeOut = "5m"
[device_esp04]
area = "Kitchen"
watchTopics = "home/esp04/sensors/#"
watchTimeOut = 60
helloTopic = "home/esp04/hello"
stateTopics = "home/esp04/actuators/#"
[device_garage_door]
area = "Garden"
watchTopics = "home/garage/#"
watchTimeOut = 5
[device_greenhouse]
area = "Garden"
watchTopics = "home/greenhouse/#"
watchTimeOut = "1h 30min"
[device_kitchen_plug]
area = "Kitchen"
watchTopics = "tele/kitchen/+"
watchTimeOut = "20min"
availabilityTopic = "tele/kitchen/LWT"
[device_pool_pump]
area = "Garden"
watchTopics = "home/pool/#"
enabled = false
[agent_ledbox]
area = "Kitchen"
exec = "exec sleep infinity"
watchTopics = "home/agents/ledbox/#"
watchTimeOut = 60
[agent_zigbee2mqtt]
exec = "exec sleep infinity"
"#;

/// The month before, which is invented: the service has just started. Each device has other bad days.
const MONTH: &str = "(() => {
    const fetched = window.fetch;
    const random = (name) => {
        let seed = [...name].reduce((sum, it) => (sum * 31 + it.charCodeAt()) >>> 0, 7);
        return () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 32;
    };
    const past = (name, times) => {
        const next = random(name);
        const isOften = next() < .3;
        return times.slice(1).map((end, place) => {
            const length = end - times[place];
            const draw = next();
            if (name === 'pool_pump' && place > 11) return [0, 0, length, 0];
            if (name === 'garage_door' && place < 9) return null;
            const isNow = times[place] * 1000 <= Date.now() && Date.now() < end * 1000;
            if (name === 'kitchen_plug' && isNow) return [60, 0, 0, 1];
            if (draw < (isOften ? .09 : .012)) return [length * .18, 0, 0, 2];
            if (draw < (isOften ? .16 : .03)) return [length * .012, 0, 0, 1];
            return draw > .985 ? [0, length * .7, 0, 0] : [0, 0, 0, 0];
        });
    };
    window.fetch = async (path, ...rest) => {
        if (!String(path).startsWith('api/v1/bars?')) return fetched(path, ...rest);
        const query = new URLSearchParams(path.split('?')[1]);
        const times = query.get('at').split(',').map(Number);
        const devices = Object.fromEntries(query.getAll('name').map((it) => [it, past(it, times)]));
        return new Response(JSON.stringify({devices}));
    };
})()";

#[test]
fn a_browser_shows_devices_agents_and_alerts_of_the_service() {
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", HOUSE));
    bus.wait_topic(0, "home/monitoring/startedprocess/zigbee2mqtt");
    for topic in ["home/boiler/flow", "home/esp04/hello", "home/garage/door"] {
        machine.publish(topic, "1");
    }
    for topic in ["home/greenhouse/humidity", "tele/kitchen/STATE", "home/agents/ledbox/alive"] {
        machine.publish(topic, "1");
    }
    bus.wait_topic(0, "home/monitoring/expire/garage_door");
    machine.publish("home/garage/door", "1");
    bus.wait_topic(0, "home/monitoring/recover/garage_door");
    machine.publish("tele/kitchen/LWT", "Offline");
    bus.wait_topic(0, "home/monitoring/expire/kitchen_plug");

    let network = format!("/proc/{}/ns/net", machine.init());
    let mut browser = Browser::in_network(&network, "about:blank");
    browser.call("Page.addScriptToEvaluateOnNewDocument", json!({"source": MONTH}));
    browser.call("Page.navigate", json!({"url": "http://127.0.0.1:8079/"}));
    // Rows are drawn only where they are in sight.
    let size = (1_160, 1_320);
    browser.look(size, "light", "service");
    let shows = |name: &str, state: &str| {
        format!("document.querySelector('[data-name=\"{name}\"]')?.dataset.state == '{state}'")
    };
    for (name, state) in [("kitchen_plug", "expired"), ("greenhouse", "alive"), ("ledbox", "alive")]
    {
        browser.until(name, &shows(name, state));
    }
    let agents = "[...document.querySelectorAll('#devices .tag')].filter((it) => it.textContent == 'agent').length == 2";
    browser.until("both agents", agents);
    let alerts = "document.querySelectorAll('#alerts > ol > li').length >= 3";
    browser.until("the alerts", alerts);
    let bars =
        "[...document.querySelectorAll('.body .uptime')].every((it) => it.textContent != '–')";
    browser.until("a month of each", bars);
    browser.look(size, "light", "service");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// An agent that is killed again and again: its page, its journal, and one row for all its restarts.
#[test]
fn a_browser_shows_the_restarts_and_the_journal_of_an_agent() {
    const WORKER: &str = "iotmonitor-agent-worker.service";
    let section = format!(
        "[http]\ntoken = \"{TOKEN}\"\n[agent_worker]\n\
         exec = \"echo 'speaks <b>loudly</b>'; exec sleep infinity\"\n"
    );
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", &section));
    bus.wait_topic(0, "home/monitoring/startedprocess/worker");
    for _ in 0..3 {
        let pid = machine.main_pid(WORKER);
        machine.ok(&["kill", "-KILL", &pid.to_string()]);
        machine.await_new_main_pid(WORKER, pid);
    }
    let network = format!("/proc/{}/ns/net", machine.init());
    let address = "http://127.0.0.1:8079/#/alerts?device=worker";
    let mut browser = Browser::in_network(&network, address);
    let summary = "document.querySelector('.alerts summary')?.textContent ?? ''";
    browser
        .until("one row", &format!("({summary}).startsWith('worker was started 4 times since')"));
    let others = "[...document.querySelectorAll('ol.alerts > li > .body > p')]\
        .filter((it) => it.textContent.includes('systemd has restarted it')).length";
    assert_eq!(browser.value(others), 0, "no restart has a row of its own");
    browser.look((900, 700), "light", "restarts");

    browser.value("location.hash = '#/device/worker'");
    let text = "document.querySelector('#view').innerText";
    browser.until("the exits", &format!("{text}.includes('Restarts 3')"));
    browser.until("the last one", &format!("{text}.includes('killed by SIGKILL')"));
    browser.value(&format!("sessionStorage.setItem('iotmonitor-token', '{TOKEN}')"));
    let press = "[...document.querySelectorAll('button')].find((it) => \
        it.textContent == 'Show the last lines').click()";
    browser.value(press);
    let journal = "document.querySelector('.journal')?.innerText ?? ''";
    browser.until("the journal", &format!("({journal}).includes('speaks <b>loudly</b>')"));
    let pid = machine.main_pid(WORKER);
    browser.value(
        "[...document.querySelectorAll('button')].find((it) => it.textContent == 'Restart').click()",
    );
    machine.await_new_main_pid(WORKER, pid);
    let said = "document.querySelector('.said').textContent == 'worker was restarted.'";
    browser.until("what came of it", said);
    browser.until("the restart", &format!("{text}.includes('Restarts 4')"));
    browser.look((900, 700), "light", "agent-service");
}

#[test]
fn a_browser_shows_a_silence_and_its_end() {
    const LAMP: &str = "[http]\n[device_lamp]\navailabilityTopic = \"home/lamp/LWT\"\n\
        [device_bell]\nwatchTopics = \"home/bell/#\"\n";
    let machine = Machine::boot();
    let bus = machine.launch(&config("auto", LAMP));
    machine.make_alive(&bus, "lamp", "home/lamp/LWT");
    machine.publish("home/lamp/LWT", "offline");
    bus.wait_topic(0, "home/monitoring/expire/lamp");
    let network = format!("/proc/{}/ns/net", machine.init());
    let mut browser = Browser::in_network(&network, "http://127.0.0.1:8079/");
    let state = |name: &str| {
        format!("document.querySelector('[data-name=\"{name}\"] .state')?.textContent")
    };
    let is_silenced = |name: &str| {
        format!(
            "document.querySelector('[data-name=\"{name}\"] .quiet')?.textContent.startsWith('silenced until ') ?? false"
        )
    };
    let is_as_before = format!(
        "/^offline for \\d+ (s|min)$/.test({}) && !({})",
        state("lamp"),
        is_silenced("lamp")
    );
    let verdict =
        |words: &str| format!("document.querySelector('#verdict').textContent == '{words}'");
    browser.until("the alarm", &is_as_before);
    browser.value("window.marker = 'the same page'; 1");

    machine.ok(&["iotmonitor", "silence", "lamp", "--for", "2h"]);
    browser.until("the silence of a device", &is_silenced("lamp"));
    assert_eq!(browser.value(&is_silenced("bell")), false);
    browser.look((900, 700), "light", "silenced");
    browser.look((400, 900), "dark", "silenced-narrow");
    let fits = "document.documentElement.scrollWidth <= 400";
    assert_eq!(browser.value(fits), true, "it is wider than a narrow window");
    machine.ok(&["iotmonitor", "unsilence", "lamp"]);
    browser.until("its end by order", &is_as_before);

    machine.ok(&["iotmonitor", "silence", "lamp", "--for", "3s"]);
    browser.until("a short silence", &is_silenced("lamp"));
    browser.until("its end by itself", &is_as_before);
    machine.journal().wait_for_alert("unsilenced", "lamp");

    machine.ok(&["iotmonitor", "silence", "--all", "--for", "2h"]);
    browser
        .until("the silence of everything", &verdict("1 of 2 in alarm; all alerts are silenced"));
    machine.ok(&["iotmonitor", "unsilence", "--all"]);
    browser.until("its end", &verdict("1 of 2 in alarm"));
    assert_eq!(browser.value("window.marker"), "the same page");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
