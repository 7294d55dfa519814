//! How the views of a device, of alerts and of incidents look, and whether everyone can use them.

use super::browser::Browser;
use super::house::{House, TOKEN};
use super::page_commands::{faults, give_token, press};
use super::past::Past;

const DAY: u64 = 86_400;

const SECTIONS: &str = "[device_attic]\nwatchTimeOut = 1\nwatchTopics = \"attic/#\"\n\
    [device_gateway]\nwatchTopics = \"gw/#\"\nwatchTimeOut = \"1h\"\narea = \"Cellar\"\n\
    [device_esp04]\nwatchTimeOut = \"10min\"\nwatchTopics = \"home/esp04/#\"\ndependsOn = \"gateway\"\n\
    stateTopics = \"home/esp04/set/#\"\narea = \"Kitchen\"\n\
    [\"device_<img src=x onerror=alert(1)>\"]\nwatchTimeOut = 1\nwatchTopics = \"x\"\ndependsOn = \"gateway\"\n\
    [agent_bridge]\nexec = \"exec sleep infinity\"\nwatchTimeOut = 0\n";

/// A house with a past of four months, of which `esp04` was silent now and then.
fn house() -> House {
    let names = ["attic", "gateway", "esp04", "bridge"];
    let mut past = Past::of(&names, 120 * DAY);
    for day in [1, 3, 8, 9, 20, 40, 41, 70] {
        past.alarm("esp04", day * DAY + 7 * 3_600, 1_800 + day * 700);
    }
    for hour in 1..90 * 24_u64 {
        let swing = u32::try_from(hour % 24).unwrap();
        past.contacts("esp04", hour * 3_600, 240 + 9 * swing.abs_diff(12));
        past.usage("bridge", hour * 3_600, (40 << 20) + (swing << 19), 20_000 + 700 * swing);
    }
    for hour in 1..40 {
        past.restart(
            "bridge",
            hour * 7 * 3_600,
            if hour % 3 == 0 { "killed by SIGKILL" } else { "exited with 1" },
        );
    }
    let house = House::with_past(&format!("token = \"{TOKEN}\"\n"), SECTIONS, past);
    house.publish("home/esp04/x", "1");
    house.until_state("esp04", "alive");
    house.until_state("attic", "expired");
    house.until_recorded("esp04", "home/esp04/set/color", "{\"red\":255,\"white\":<b>0}");
    house
}

fn until_shown(browser: &mut Browser, words: &str) {
    browser.until(words, &format!("(document.body?.innerText ?? '').includes({words:?})"));
}

/// Nothing is wider than a phone, and no name has become an element.
fn check(browser: &mut Browser, name: &str) {
    browser.assert_accessible(name);
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.value(overflow), 0, "{name} is wider than a phone");
    assert_eq!(browser.value("document.querySelectorAll('#view img').length"), 0);
    assert_eq!(faults(browser), [""; 0], "{name}");
}

#[test]
fn the_page_of_a_device_is_readable_by_everyone() {
    let house = house();
    let at = |hash: &str| format!("http://127.0.0.1:{}/#/{hash}", house.port);
    let mut browser = Browser::at(&at("device/esp04"));
    until_shown(&mut browser, "it was heard again");
    until_shown(&mut browser, "Contacts a");
    check(&mut browser, "device");
    press(&mut browser, "Disable");
    browser.until("the dialog", "document.querySelector('dialog[open] input') !== null");
    check(&mut browser, "token");
    give_token(&mut browser, TOKEN);
    browser.until("the choice", "document.querySelector('dialog[open] fieldset') !== null");
    check(&mut browser, "for-how-long");
    browser.value("document.querySelector('dialog').close()");
    until_shown(&mut browser, "{\"red\":255,\"white\":<b>0}");
    browser.value("document.querySelectorAll('details').forEach((it) => { it.open = true; })");
    check(&mut browser, "device-open");

    browser.value("location.hash = '#/device/bridge?since=30d'");
    until_shown(&mut browser, "killed by SIGKILL");
    check(&mut browser, "agent");
    browser.value("location.hash = '#/device/attic'");
    until_shown(&mut browser, "nothing was heard from it within its timeout");
    check(&mut browser, "device-in-alarm");
    browser.value("location.hash = '#/device/nobody'");
    until_shown(&mut browser, "No device or agent has the name nobody");
    check(&mut browser, "device-unknown");
}

#[test]
fn alerts_and_incidents_are_readable_by_everyone() {
    let house = house();
    let at = |hash: &str| format!("http://127.0.0.1:{}/#/{hash}", house.port);
    let mut browser = Browser::at(&at("alerts"));
    until_shown(&mut browser, "device `attic` is silent");
    press(&mut browser, "Acknowledge");
    give_token(&mut browser, TOKEN);
    until_shown(&mut browser, "The alert is acknowledged.");
    check(&mut browser, "alerts");
    browser.value("location.hash = '#/alerts?show=incidents&since=90d'");
    until_shown(&mut browser, "it was heard again");
    check(&mut browser, "incidents");
}

/// The words of a cluster need none: an agent that is pinned to another node is there for good.
#[test]
fn an_agent_of_another_node_says_where_it_is() {
    let sections = "[cluster]\nname = \"house\"\nendpoints = \"http://127.0.0.1:9\"\nnode = \"pi1\"\n\
        [agent_far]\nexec = \"exec sleep infinity\"\nnodes = [\"pi2\"]\nwatchTimeOut = 0\n\
        [agent_near]\nexec = \"exec sleep infinity\"\nnodes = [\"pi1\"]\nwatchTimeOut = 0\n";
    let house = House::with(sections);
    let at = |hash: &str| format!("http://127.0.0.1:{}/{hash}", house.port);
    let mut browser = Browser::at(&at(""));
    until_shown(&mut browser, "on node pi2");
    let counts_as_disabled = "document.body.innerText.includes('Disabled')";
    assert_eq!(browser.value(counts_as_disabled), false);
    check(&mut browser, "nodes");
    browser.value("location.hash = '#/device/far'");
    until_shown(&mut browser, "node pi2 has it, whose page shows more.");
    check(&mut browser, "device-elsewhere");
    browser.value("location.hash = '#/device/near'");
    until_shown(&mut browser, "Node pi1 has it.");
}
