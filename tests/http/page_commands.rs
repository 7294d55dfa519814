//! Commands from the page, with the token.

use super::browser::Browser;
use super::house::{House, Subscriber, TOKEN, free_port};
use serde_json::json;

const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 0\nhelloTopic = \"home/lamp\"\n\
    watchTopics = \"home/lamp/sensors/#\"\nstateTopics = \"home/lamp/set/#\"\nrestoreOnStart = false\n\
    [agent_bridge]\nexec = \"exec sleep infinity\"\n";

const BEARER: &str = "Bearer a-token-of-32-good-characters-at-least";

fn house() -> House {
    House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS)
}

fn at(house: &House, hash: &str) -> String {
    format!("http://127.0.0.1:{}/#/{hash}", house.port)
}

/// A visible button with these words, or, if they end in `*`, one whose words begin so.
fn button(words: &str) -> String {
    let matches = match words.strip_suffix('*') {
        Some(start) => format!("startsWith('{start}')"),
        None => format!("match('^{words}( …)?$')"),
    };
    format!(
        "[...document.querySelectorAll('button')].find((it) => \
         it.textContent.{matches} && it.checkVisibility())"
    )
}

pub fn press(browser: &mut Browser, words: &str) {
    browser.until(words, &format!("{} !== undefined", button(words)));
    browser
        .value(&format!("(() => {{ const it = {}; it.focus(); it.click(); }})()", button(words)));
}

const SAID: &str = "(document.querySelector('.said')?.textContent ?? '')";

/// What the browser complains about, without the requests that the server refuses, which it notes by itself.
pub fn faults(browser: &mut Browser) -> Vec<String> {
    let is_fault = |it: &&String| !it.contains("Failed to load resource");
    browser.complaints().iter().filter(is_fault).cloned().collect()
}

/// Types the token into the dialog, as a person does who has no mouse.
pub fn give_token(browser: &mut Browser, token: &str) {
    browser.until("the dialog", "document.querySelector('dialog[open] input') !== null");
    let focused = "document.activeElement === document.querySelector('dialog[open] input')";
    browser.until("the focus in the dialog", focused);
    browser.value("document.activeElement.value = ''; 1");
    browser.call("Input.insertText", json!({"text": token}));
    key(browser, "Enter", 13, "\r");
}

fn key(browser: &mut Browser, name: &str, code: u32, text: &str) {
    for kind in ["keyDown", "keyUp"] {
        let mut event = json!({"type": kind, "key": name, "windowsVirtualKeyCode": code});
        if kind == "keyDown" && !text.is_empty() {
            event["text"] = text.into();
        }
        browser.call("Input.dispatchKeyEvent", event);
    }
}

#[test]
fn a_restore_takes_the_token_once_and_is_seen_at_the_broker() {
    let house = house();
    house.until_recorded("lamp", "home/lamp/set/color", "red");
    let heard = Subscriber::to(&house, "home/lamp/set/#");
    let mut browser = Browser::at(&at(&house, "device/lamp"));
    press(&mut browser, "Restore states");
    // A wrong token is named as such, and nothing is sent.
    give_token(&mut browser, "another-token-of-32-characters-or-more");
    let problem = "document.querySelector('dialog .problem').textContent.includes('not the token')";
    browser.until("the refusal of a wrong token", problem);
    assert_eq!(heard.count("red"), 0);
    give_token(&mut browser, TOKEN);
    browser.until("the answer", &format!("{SAID}.includes('states of lamp were published')"));
    house.until("the restore", || heard.count("red") == 1);
    let focused = "document.activeElement.textContent";
    assert_eq!(browser.value(focused), "Restore states", "the focus is where it was");

    // It is not asked for again, also after a reload, and in no other tab is it known.
    browser.call("Page.reload", json!({}));
    browser.until(
        "the page anew",
        &format!("{SAID} == '' && {} !== undefined", button("Restore states")),
    );
    press(&mut browser, "Restore states");
    house.until("another restore", || heard.count("red") == 2);
    assert_eq!(browser.value("document.querySelector('dialog')"), serde_json::Value::Null);
    let kept = "JSON.stringify(localStorage) + document.cookie";
    assert!(!browser.value(kept).as_str().unwrap().contains(TOKEN));
    let mut other = Browser::at(&at(&house, "device/lamp"));
    press(&mut other, "Restore states");
    other.until("the dialog", "document.querySelector('dialog[open]') !== null");
    // Escape closes it, and nothing has happened.
    key(&mut other, "Escape", 27, "");
    other.until("its end", "document.querySelector('dialog') === null");
    assert_eq!(other.value(SAID), "");
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn what_is_refused_is_said_in_the_servers_words() {
    let house = house();
    let mut browser = Browser::at(&at(&house, "device/lamp"));
    // No alertUnit is configured.
    press(&mut browser, "Send a test alert");
    give_token(&mut browser, TOKEN);
    browser.until("a sentence", &format!("{SAID} != ''"));
    let shown = browser.value(SAID).as_str().unwrap().to_owned();
    let answer =
        house.ask("POST", "/api/v1/devices/lamp/test", &[("authorization", BEARER)]).unwrap();
    assert_eq!(answer.status, 409);
    assert_eq!(answer.json()["error"], shown.as_str());
    assert!(shown.contains("alertUnit"), "{shown}");
    assert_eq!(browser.value("document.querySelector('.said').className"), "said problem");
    assert_eq!(browser.value(&format!("{}.disabled", button("Send a test alert"))), false);
}

#[test]
fn a_device_is_disabled_for_a_time_and_enabled() {
    let house = house();
    let published = Subscriber::to(&house, "home/monitoring/status/lamp");
    let mut browser = Browser::at(&at(&house, "device/lamp"));
    press(&mut browser, "Disable");
    give_token(&mut browser, TOKEN);
    browser.until("the choice", "document.querySelector('dialog[open] fieldset') !== null");
    browser.value("document.querySelector('dialog input[value=\"30min\"]').click()");
    browser.value("document.querySelector('dialog button[type=submit]').click()");
    browser.until("the answer", &format!("{SAID} == 'lamp is disabled for 30 minutes.'"));
    house.until_state("lamp", "disabled");
    let device = house.get("/api/v1/devices/lamp").json();
    let until = device["disabledUntil"].as_u64().unwrap();
    let since = device["since"].as_u64().unwrap();
    assert!((1_795..=1_805).contains(&(until - since)), "{device}");
    house.until("the published state", || published.last().contains("\"disabled\""));
    let state = "document.querySelector('h2.title .state').textContent";
    browser.until("the state", &format!("{state}.startsWith('disabled until')"));
    press(&mut browser, "Enable");
    browser.until("the answer", &format!("{SAID} == 'lamp is enabled.'"));
    browser.until("the state", &format!("{state} == 'not heard yet'"));
    house.until("the published state", || published.last().contains("\"unknown\""));
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn alerts_are_silenced_for_a_time() {
    let house = house();
    let mut browser = Browser::at(&at(&house, "device/lamp"));
    press(&mut browser, "Silence alerts");
    give_token(&mut browser, TOKEN);
    browser.until("the choice", "document.querySelector('dialog[open] fieldset') !== null");
    browser.value("document.querySelector('dialog button[type=submit]').click()");
    let silenced = "document.querySelector('.device-view').innerText.includes('Its alerts are silenced until')";
    browser.until("the silence", silenced);
    let device = house.get("/api/v1/devices/lamp").json();
    assert!(device["silencedUntil"].is_u64(), "{device}");
    press(&mut browser, "Unsilence alerts");
    browser.until("its end", &format!("!{silenced}"));

    browser.value("location.hash = '#/alerts'");
    press(&mut browser, "Silence all alerts");
    browser.until("the choice", "document.querySelector('dialog[open] fieldset') !== null");
    browser.value("document.querySelector('dialog button[type=submit]').click()");
    let verdict = "document.querySelector('#verdict').textContent";
    browser.until("the verdict", &format!("{verdict}.includes('all alerts are silenced')"));
    press(&mut browser, "Unsilence all alerts");
    browser.until("the verdict", &format!("!{verdict}.includes('silenced')"));
}

#[test]
fn without_a_token_in_the_file_the_page_says_how_to_set_one() {
    let house = House::with(SECTIONS);
    for hash in ["device/lamp", "alerts"] {
        let mut browser = Browser::at(&at(&house, hash));
        let hint = "[...document.querySelectorAll('.commands .note')].some((it) => \
            it.checkVisibility() && it.textContent.includes('set tokenFile in [http]'))";
        browser.until("the hint", hint);
        let buttons = "[...document.querySelectorAll('.commands button')]\
            .filter((it) => it.checkVisibility()).length";
        assert_eq!(browser.value(buttons), 0);
        assert_eq!(faults(&mut browser), [""; 0]);
    }
}

#[test]
fn recorded_states_are_shown_with_the_token_alone() {
    let house = house();
    house.until_recorded("lamp", "home/lamp/set/text", "<img src=x onerror=alert(1)>");
    house.publish("home/lamp/set/long", &"x".repeat(2_000));
    house.broker.publish_bytes("home/lamp/set/binary", false, &[0, 255]);
    let states = || {
        house
            .ask("GET", "/api/v1/devices/lamp/states", &[("authorization", BEARER)])
            .unwrap()
            .json()
    };
    house.until("the states to be recorded", || states().as_array().unwrap().len() == 3);
    let mut browser = Browser::at(&at(&house, "device/lamp"));
    browser.until("the page", &format!("{} !== undefined", button("Show the states")));
    assert_eq!(browser.value("document.body.innerText.includes('home/lamp/set')"), false);
    press(&mut browser, "Show the states");
    give_token(&mut browser, TOKEN);
    let rows = "[...document.querySelectorAll('.device-view td code')].map((it) => it.textContent)";
    browser.until("the states", &format!("{rows}.length == 3"));
    let shown = browser.value(rows);
    assert_eq!(shown[0], "base64: AP8=");
    assert_eq!(shown[1].as_str().unwrap().chars().count(), 501, "a long one is cut");
    assert_eq!(shown[2], "<img src=x onerror=alert(1)>");
    assert_eq!(browser.value("document.querySelectorAll('#view img').length"), 0);
    // What is changed meanwhile is read on request.
    house.publish("home/lamp/set/text", "on");
    house.until("it to be recorded", || states().to_string().contains("\"on\""));
    press(&mut browser, "Read again");
    browser.until("it on the page", &format!("{rows}[2] == 'on'"));
    assert_eq!(faults(&mut browser), [""; 0]);
}
