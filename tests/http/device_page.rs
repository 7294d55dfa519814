//! The page of one device or agent, as a browser shows it.

use super::browser::Browser;
use super::house::{House, TOKEN, free_port};
use super::page_commands::faults;
use super::past::Past;
use std::time::{Duration, Instant};

const DAY: u64 = 86_400;

/// The text of what a selector finds; empty where there is nothing.
fn text(selector: &str) -> String {
    format!("(document.querySelector({selector:?})?.textContent ?? '')")
}

/// A section by its heading.
fn section(title: &str) -> String {
    format!(
        "[...document.querySelectorAll('section')].find((it) => \
         it.querySelector('h2')?.textContent.startsWith('{title}') && it.checkVisibility())"
    )
}

fn includes(what: &str, words: &str) -> String {
    format!("{what}.includes({words:?})")
}

fn link(house: &House, hash: &str) -> String {
    format!("http://127.0.0.1:{}/#/{hash}", house.port)
}

const LAMP: &str = "[device_lamp]\nwatchTimeOut = \"1h\"\nwatchTopics = \"home/lamp/#\"\n\
    [agent_bridge]\nexec = \"exec sleep infinity\"\nwatchTimeOut = 0\n";

/// An alarm of an hour every fourth day, contacts in each hour of three months, and of an agent what it
/// used, and a restart every fifth day.
fn past_of_400_days() -> Past {
    let mut past = Past::of(&["lamp", "bridge"], 400 * DAY);
    for day in (1..400).step_by(4) {
        past.alarm("lamp", day * DAY, 3_600);
    }
    for hour in 1..90 * 24 {
        past.contacts("lamp", hour * 3_600, 60);
        past.usage("bridge", hour * 3_600, 24 << 20, 36_000);
    }
    for day in (1..400).step_by(5) {
        past.restart("bridge", day * DAY, "exited with 7");
    }
    past
}

#[test]
fn a_shared_link_shows_a_device_with_400_days_of_history() {
    let house = House::with_past("", LAMP, past_of_400_days());
    house.publish("home/lamp/x", "1");
    house.until_state("lamp", "alive");
    let began = Instant::now();
    let mut browser = Browser::at(&link(&house, "device/lamp?since=400d"));
    let incidents = section("Incidents");
    let count = format!("{incidents}?.querySelector('.count').textContent == '100'");
    browser.until("all incidents", &count);
    println!("shown {:.1} s after the browser's start", began.elapsed().as_secs_f64());
    assert_eq!(browser.value(&text("h2.title .state")), "alive");
    browser.until("the sentence", &includes(&text(".sentence"), "Present since"));
    let uptime = format!(
        "[...{}.querySelectorAll('dd')].map((it) => it.textContent).join(' ')",
        section("Uptime")
    );
    // 1, 2, 8 and 23 hours of alarm.
    let found = browser.value(&uptime);
    let windows: Vec<_> = [(24, 1), (7 * 24, 2), (30 * 24, 8), (90 * 24, 23)]
        .map(|(hours, alarm)| 100.0 * (1.0 - f64::from(alarm) / f64::from(hours)))
        .to_vec();
    let shown = found.as_str().unwrap().replace(" %", "");
    for (shown, computed) in shown.split(' ').zip(&windows) {
        let shown: f64 = shown.parse().unwrap();
        assert!((shown - computed).abs() < 0.15, "{found}: {windows:?}");
    }
    // The latest of many, and the rest on request.
    let rows = format!("{incidents}.querySelectorAll('tbody tr').length");
    assert_eq!(browser.value(&rows), 10);
    let first = format!("{incidents}.querySelector('tbody tr').innerText");
    let row = browser.value(&first).as_str().unwrap().to_owned();
    for words in ["1 h", "silent", "it was heard again"] {
        assert!(row.contains(words), "{row}");
    }
    browser.value(&format!("{incidents}.querySelector('button').click()"));
    assert_eq!(browser.value(&rows), 100);

    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn an_unknown_name_and_one_that_is_html_are_named_as_they_are() {
    const NAMES: &str = "[\"device_<img src=x onerror=alert(1)>\"]\nwatchTopics = \"x\"\n\
        [device_50%]\nwatchTopics = \"y\"\n";
    let sections = NAMES.replace("[device_50%]", "[\"device_50%\"]");
    let house = House::with(&sections);
    let mut browser = Browser::at(&link(&house, "device/lammp"));
    let words = "(document.body?.innerText ?? '')";
    browser.until("the sentence", &includes(words, "No device or agent has the name lammp"));
    assert_eq!(browser.value(&text(".commands")), browser.value(&text(".absent.commands")));
    // A link leads from the overview to each, and back.
    for name in ["<img src=x onerror=alert(1)>", "50%"] {
        browser.value("location.hash = '#/'");
        let link = format!(
            "[...document.querySelectorAll('#view a')].find((it) => it.textContent == {name:?})"
        );
        browser.until("the overview", &format!("{link} !== undefined"));
        browser.value(&format!("{link}.click()"));
        let is_there = format!("{} == {name:?}", text("h2.title span"));
        browser.until(name, &is_there);
        browser.until("its state", &includes(&text(".sentence"), "It was never heard"));
        assert_eq!(browser.value("document.querySelectorAll('#view img').length"), 0);
        // Whoever opens the address anew sees the same.
        let address = browser.value("location.href").as_str().unwrap().to_owned();
        browser.call("Page.navigate", serde_json::json!({"url": "about:blank"}));
        browser.call("Page.navigate", serde_json::json!({"url": address}));
        browser.until(name, &is_there);
    }
    // A device that is put into the configuration later appears without a reload.
    browser.value("location.hash = '#/device/lammp'");
    browser.until("the sentence", &includes(words, "No device or agent has the name lammp"));
    house.reload(&format!("[http]\nport = {}\n[device_lammp]\nwatchTopics = \"z\"\n", house.port));
    browser.until("the device", &includes(&text(".sentence"), "It was never heard"));
}

#[test]
fn a_gateway_and_what_is_behind_it_are_linked() {
    const GATEWAY: &str = "[device_gateway]\nwatchTopics = \"gw/#\"\n\
        [device_lamp]\nwatchTopics = \"lamp/#\"\ndependsOn = \"gateway\"\n\
        [device_plug]\nwatchTopics = \"plug/#\"\ndependsOn = \"gateway\"\n";
    let house = House::with(GATEWAY);
    let mut browser = Browser::at(&link(&house, "device/gateway"));
    let names =
        "[...document.querySelectorAll('.relations a')].map((it) => it.textContent).join(' ')";
    browser.until("those behind it", &format!("{names} == 'lamp plug'"));
    browser.value("document.querySelector('.relations a').click()");
    browser.until("the gateway of the lamp", &format!("{names} == 'gateway'"));
    assert_eq!(browser.value(&text("h2.title span")), "lamp");
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn contacts_are_charted_by_the_day_and_by_the_hour() {
    let house = House::with_past("", LAMP, past_of_400_days());
    let mut browser = Browser::at(&link(&house, "device/lamp?since=400d"));
    let label = "document.querySelector('.plot')?.getAttribute('aria-label') ?? ''";
    browser.until("a chart of days", &format!("({label}).startsWith('Contacts a day')"));
    browser.value("window.marker = 'the same page'; 1");
    browser.value("document.querySelector('.choices a[href$=\"since=7d\"]').click()");
    let hourly = format!("({label}).startsWith('Contacts an hour: from 0 to 60')");
    browser.until("a chart of hours", &hourly);
    assert_eq!(browser.value("location.hash"), "#/device/lamp?since=7d");
    // The same in words, for whoever does not see it.
    browser.value("document.querySelector('.chart details').open = true");
    let table = "document.querySelector('.chart table')?.tBodies[0].rows.length >= 7 * 24";
    browser.until("the table", table);
    assert_eq!(browser.value("window.marker"), "the same page");
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn an_agent_has_its_restarts_memory_and_cpu_time() {
    let house = House::with_past("", LAMP, past_of_400_days());
    let mut browser = Browser::at(&link(&house, "device/bridge?since=30d"));
    let restarts = section("Restarts");
    let count = format!("{restarts}?.querySelector('.count').textContent == '6'");
    browser.until("the restarts", &count);
    let exit = format!("{restarts}.querySelector('tbody tr').innerText");
    assert!(browser.value(&exit).as_str().unwrap().contains("exited with 7"));
    let labels = format!(
        "[...({})?.querySelectorAll('.plot') ?? []].map((it) => it.ariaLabel).join('; ')",
        section("Memory and CPU time")
    );
    browser.until("the memory", &includes(&labels, "always 24 MiB"));
    browser.until("the CPU time", &includes(&labels, "always 1 %"));
    let facts = format!("{}.textContent", section("Process"));
    assert!(browser.value(&includes(&facts, "iotmonitor-agent-bridge.service")) == true);
    assert_eq!(faults(&mut browser), [""; 0]);
}

#[test]
fn the_rhythm_is_a_sentence_with_the_timeout_and_what_auto_would_do() {
    const SECTIONS: &str = "[device_lamp]\nwatchTimeOut = 90\nwatchTopics = \"home/lamp/#\"\n\
        [device_bell]\nwatchTimeOut = 0\nwatchTopics = \"home/bell/#\"\n";
    let house = House::with(SECTIONS);
    let rhythm = format!("{}.querySelector('p:not(.note)').textContent", section("Rhythm"));
    let mut browser = Browser::at(&link(&house, "device/lamp"));
    let nothing = "Its timeout is 1 min 30 s. How long it is usually silent is not learned yet.";
    browser
        .until("the timeout", &format!("({} ? {rhythm} : '') == {nothing:?}", section("Rhythm")));
    let learned = |house: &House| house.get("/api/v1/devices/lamp").json()["rhythm"].clone();
    // Messages within a second are one contact.
    let mut spoken = Instant::now();
    house.publish("home/lamp/x", "1");
    house.until("a silence to be learned", || {
        if spoken.elapsed() > Duration::from_millis(1_200) {
            spoken = Instant::now();
            house.publish("home/lamp/x", "1");
        }
        learned(&house)["usual"].is_number()
    });
    browser.call("Page.reload", serde_json::json!({}));
    let sentence = format!("({} ? {rhythm} : '')", section("Rhythm"));
    browser
        .until("what is learned", &format!("{sentence}.startsWith('Half of its silences last')"));
    let words = browser.value(&sentence).as_str().unwrap().to_owned();
    assert!(words.contains("Its timeout is 1 min 30 s."), "{words}");
    assert!(words.contains("auto"), "{words}");
    browser.value("location.hash = '#/device/bell'");
    browser.until("no timeout", &format!("{sentence}.startsWith('It has no timeout')"));
    assert_eq!(faults(&mut browser), [""; 0]);
}

/// What `iotmonitor-recorder` prints, of a device with two topics.
const RECORDER: &str = "#!/bin/sh\ncase $1 in\n\
    topics) echo '[{\"topic\":\"home/lamp/temperature\",\"messages\":9,\"numbers\":9},\
        {\"topic\":\"home/lamp/<b>\",\"messages\":9,\"numbers\":3},\
        {\"topic\":\"home/lamp/word\",\"messages\":9,\"numbers\":0}]' ;;\n\
    values) for topic; do :; done; now=$(date +%s)\n\
        echo '{\"topic\":\"'\"$topic\"'\",\"points\":[['$((now - 7200))',-4.5,1,6],['$((now - 3600))',0,2,60]]}' ;;\n\
    esac\n";

#[test]
fn recorded_values_are_charted_where_a_recorder_is_installed() {
    const SECTIONS: &str = "[device_lamp]\nwatchTopics = \"home/lamp/#\"\n";
    let house = House::on(free_port(), &format!("token = \"{TOKEN}\""), SECTIONS);
    let mut browser = Browser::at(&link(&house, "device/lamp"));
    browser.until("the page", &includes(&text(".sentence"), "It was never heard"));
    let values = section("Recorded values");
    assert_eq!(browser.value(&format!("{values} === undefined")), true, "not without the token");
    browser.value(&format!("sessionStorage.setItem('iotmonitor-token', '{TOKEN}'); 1"));
    browser.call("Page.reload", serde_json::json!({}));
    browser
        .until("the states", &includes("(document.body?.innerText ?? '')", "No state is recorded"));
    assert_eq!(browser.value(&format!("{values} === undefined")), true, "nor without a recorder");

    house.install("iotmonitor-recorder", RECORDER);
    browser.call("Page.reload", serde_json::json!({}));
    let label = format!("({values}?.querySelector('.plot')?.ariaLabel ?? '')");
    let first = "home/lamp/temperature: from -4.5 to 60, 1.5 on average";
    browser.until("the chart", &format!("{label}.startsWith({first:?})"));
    let topics = format!("[...{values}.querySelectorAll('option')].map((it) => it.value).join()");
    assert_eq!(browser.value(&topics), "home/lamp/temperature,home/lamp/<b>");
    // What is chosen is in the address.
    browser.value(&format!(
        "(() => {{ const it = {values}.querySelector('select'); it.value = 'home/lamp/<b>';
            it.dispatchEvent(new Event('change')); return 1; }})()"
    ));
    browser.until("another chart", &format!("{label}.startsWith('home/lamp/<b>: from -4.5')"));
    browser.call("Page.reload", serde_json::json!({}));
    browser.until("the same", &format!("{label}.startsWith('home/lamp/<b>: from -4.5')"));
    house.install("iotmonitor-recorder", "#!/bin/sh\necho 'the disk is gone' >&2\nexit 1\n");
    browser.call("Page.reload", serde_json::json!({}));
    browser.until(
        "the reason",
        &includes(&format!("({values}?.textContent ?? '')"), "the disk is gone"),
    );
    assert_eq!(faults(&mut browser), [""; 0]);
}
