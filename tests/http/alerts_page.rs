//! Alerts and incidents on the page, as a browser shows them.

use super::browser::Browser;
use super::house::{House, TOKEN, free_port};
use super::page_commands::{faults, give_token, press};
use super::past::Past;

fn at(house: &House, hash: &str) -> String {
    format!("http://127.0.0.1:{}/#/{hash}", house.port)
}

/// The restarts of an agent are in the list as often as it was restarted, but are one row; those of
/// another day, and of another agent, are rows of their own, and so is everything else.
#[test]
fn the_restarts_of_an_agent_on_a_day_are_one_row_that_counts() {
    let house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let mut browser = Browser::at(&at(&house, "alerts"));
    browser.until("the view", "document.querySelector('.alerts-view') !== null");
    let rows = browser.value(
        "import('./rows.js').then(({ AlertList }) => {
            const noon = new Date(2026, 9, 25, 12).getTime() / 1000;
            const alerts = [];
            const add = (age, event, device, priority = 'notice') => alerts.push({
                id: 1000 - age, time: noon - age * 60, event, device, priority,
                message: `<b>${event}</b> ${device}` });
            for (let age = 0; age < 28; age += 1) add(age, 'agent-started', 'bridge');
            add(5.5, 'agent-relaunched', 'bridge', 'warning');
            add(6.5, 'expired', 'lamp', 'warning');
            add(7.5, 'agent-started', 'ledbox');
            add(24 * 60, 'agent-started', 'bridge');
            alerts.sort((a, b) => b.time - a.time);
            const list = new AlertList();
            document.body.append(list.node);
            list.show(alerts);
            list.node.querySelector('details').open = true;
            list.show([{ ...alerts[0], id: 2000, time: noon + 30 }, ...alerts]);
            return [...list.node.children].map((it) => [it.className,
                it.querySelector(':scope > .body > p, summary').textContent.split(' since')[0],
                it.querySelectorAll('details li').length, it.querySelector('details')?.open ?? null]);
        })",
    );
    let expected = serde_json::json!([
        ["warning", "bridge was started 29 times", 30, true],
        ["warning", "<b>expired</b> lamp", 0, null],
        ["notice", "<b>agent-started</b> ledbox", 0, null],
        ["notice", "<b>agent-started</b> bridge", 0, null],
    ]);
    assert_eq!(rows, expected);
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn a_filter_is_in_the_address_and_holds_for_what_comes_later() {
    const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp/#\"\n\
        [device_plug]\nwatchTimeOut = 1\nwatchTopics = \"home/plug/#\"\n";
    let house = House::on(free_port(), "", SECTIONS);
    house.until("the alarms", || {
        house.said("`lamp` is silent") > 0 && house.said("`plug` is silent") > 0
    });
    let mut browser = Browser::at(&at(&house, "alerts"));
    let shown = |words: &str| {
        format!(
            "[...document.querySelectorAll('.alerts-view li')].filter((it) => \
             it.checkVisibility() && it.textContent.includes('{words}')).length"
        )
    };
    for words in ["`lamp` is silent", "`plug` is silent", "watching 2 devices"] {
        browser.until(words, &format!("{} == 1", shown(words)));
    }
    // A person chooses with the keyboard, and keeps the focus.
    browser.value(
        "(() => { const it = document.querySelector('.filters input'); it.focus(); it.value = 'lamp';
            it.dispatchEvent(new Event('change')); return 1; })()",
    );
    browser.until("the address", "location.hash == '#/alerts?device=lamp'");
    browser.until("the filter", &format!("{} == 0", shown("`plug`")));
    assert_eq!(browser.value("document.activeElement.type"), "search");
    browser.value("window.marker = 'the same page'; 1");
    let before = house.said("`lamp`");
    house.publish("home/lamp/x", "1");
    house.publish("home/plug/x", "1");
    house.until("the alarms anew", || {
        house.said("`lamp`") >= before + 2 && house.said("`plug` is silent") > 1
    });
    browser.until("what came later", &format!("{} == 2", shown("`lamp` is silent")));
    assert_eq!(browser.value(&shown("`plug`")), 0);
    // Whoever gets the link sees the same, and nothing else.
    let address = format!("{}&priority=warning&since=1h", at(&house, "alerts?device=lamp"));
    let mut other = Browser::at(&address);
    other.until("the alarms", &format!("{} == 2", shown("`lamp` is silent")));
    assert_eq!(other.value(&shown("notice")), 0);
    let chosen = "[...document.querySelectorAll('.filters select')].map((it) => it.value).join()";
    assert_eq!(other.value(chosen), "warning,1h");
    assert_eq!(faults(&mut other), [""; 0]);
    assert_eq!(browser.value("window.marker"), "the same page");
    assert_eq!(faults(&mut browser), [""; 0]);
}

/// An item of the list that has these words, and whether it is shown as acknowledged.
fn seen(words: &str) -> String {
    format!(
        "[...document.querySelectorAll('.alerts-view li')].find((it) => \
         it.textContent.includes('{words}'))?.classList.contains('seen')"
    )
}

#[test]
fn an_alert_that_is_acknowledged_in_one_tab_is_in_another() {
    const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp/#\"\n\
        [device_plug]\nwatchTimeOut = 1\nwatchTopics = \"home/plug/#\"\n";
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    house.until("the alarms", || {
        house.said("`lamp` is silent") > 0 && house.said("`plug` is silent") > 0
    });
    let mut one = Browser::at(&at(&house, "alerts?device=lamp"));
    let mut other = Browser::at(&at(&house, "alerts"));
    for browser in [&mut one, &mut other] {
        browser.until("the alarm", &format!("{} == false", seen("`lamp` is silent")));
    }
    press(&mut one, "Acknowledge");
    give_token(&mut one, TOKEN);
    for browser in [&mut one, &mut other] {
        browser.until("its mark", &format!("{} == true", seen("`lamp` is silent")));
    }
    assert_eq!(other.value(&seen("`plug` is silent")), false);
    let said = "document.querySelector('.said').textContent";
    assert_eq!(one.value(said), "The alert is acknowledged.");
    // All that are shown, and nothing else.
    let before = house.get("/api/v1/alerts").json().as_array().unwrap().len();
    press(&mut other, "Acknowledge all*");
    give_token(&mut other, TOKEN);
    other.until("the mark of another", &format!("{} == true", seen("`plug` is silent")));
    let open = "document.querySelectorAll('.alerts-view ol.alerts > li:not(.seen)').length == 0";
    other.until("all marks", open);
    let alerts = house.get("/api/v1/alerts").json();
    let alerts = alerts.as_array().unwrap();
    assert_eq!(alerts.len(), before, "to acknowledge is no alert");
    assert!(alerts.iter().all(|it| it["acknowledged"].is_u64()), "{alerts:?}");
    // Who comes later sees it too.
    one.call("Page.reload", serde_json::json!({}));
    one.until("the mark", &format!("{} == true", seen("`lamp` is silent")));
    let mut fresh = Browser::at(&at(&house, "alerts?priority=warning"));
    fresh.until("the mark", &format!("{} == true", seen("`plug` is silent")));
    for mut browser in [one, other, fresh] {
        assert_eq!(faults(&mut browser), [""; 0]);
    }
}

#[test]
fn older_alerts_are_read_from_the_server_page_by_page() {
    let sections: String = (0..230)
        .map(|it| format!("[device_d{it}]\nwatchTimeOut = 1\nwatchTopics = \"d/{it}\"\n"))
        .collect();
    let house = House::with(&sections);
    house.until("the alarms", || house.said("is silent: no contact") == 230);
    let mut browser = Browser::at(&at(&house, "alerts?priority=warning"));
    let rows = "document.querySelectorAll('.alerts-view ol.alerts > li').length";
    browser.until("a page", &format!("{rows} == 200"));
    // What comes meanwhile stands before them, and makes no gap.
    house.publish("d/7", "1");
    house.until("another alarm", || house.said("`d7` is silent") == 2);
    browser.until("it on the page", &format!("{rows} == 201"));
    press(&mut browser, "Show older ones");
    browser.until("all", &format!("{rows} == 231"));
    let more = "[...document.querySelectorAll('button')].some((it) => \
        it.textContent == 'Show older ones' && it.checkVisibility())";
    assert_eq!(browser.value(more), false);
    let names = "new Set([...document.querySelectorAll('.alerts-view .about a')].map((it) => it.textContent)).size";
    assert_eq!(browser.value(names), 230);
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn incidents_of_the_past_and_of_the_present_are_listed() {
    const DAY: u64 = 86_400;
    const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 1\nwatchTopics = \"home/lamp/#\"\n\
        [device_plug]\nwatchTopics = \"home/plug/#\"\nwatchTimeOut = 0\n";
    let mut past = Past::of(&["lamp", "plug"], 300 * DAY);
    past.alarm("lamp", 200 * DAY, 60);
    past.alarm("plug", 50 * DAY, 7_200);
    past.alarm("plug", 3 * DAY, 90);
    let house = House::with_past("", SECTIONS, past);
    house.publish("home/lamp/x", "1");
    house.until_state("lamp", "expired");
    let mut browser = Browser::at(&at(&house, "alerts?show=incidents&since=90d"));
    let rows = "[...document.querySelectorAll('.alerts-view tbody tr')].map((it) => it.innerText)";
    browser.until("those of 90 days", &format!("{rows}.length == 3"));
    let shown = browser.value(rows);
    let has = |row: usize, words: &[&str]| {
        let text = shown[row].as_str().unwrap();
        words.iter().for_each(|it| assert!(text.contains(it), "{it}: {text}"));
    };
    has(0, &["lamp", "silent", "it lasts"]);
    has(1, &["plug", "1 min 30 s", "silent", "it was heard again"]);
    has(2, &["plug", "2 h"]);
    // It ends, and another begins, before the eyes of the person.
    browser.value("window.marker = 'the same page'; 1");
    house.publish("home/lamp/x", "1");
    browser
        .until("both", &format!("{rows}.length == 4 && {rows}[1].includes('it was heard again')"));
    assert_eq!(browser.value("window.marker"), "the same page");
    // One device of all time, from the list of choices.
    browser.value(
        "(() => { const it = document.querySelectorAll('.filters select')[1]; it.value = '400d';
            it.dispatchEvent(new Event('change')); return 1; })()",
    );
    browser.until("all", &format!("{rows}.length == 5"));
    browser.value("location.hash = '#/alerts?show=incidents&since=400d&device=plug'");
    browser.until("one device", &format!("{rows}.length == 2"));
    browser.value("location.hash = '#/alerts?show=incidents&device=nobody'");
    let nothing = "document.querySelector('.alerts-view').innerText.includes('had an incident')";
    browser.until("none", nothing);
    assert_eq!(faults(&mut browser), [""; 0]);
}
