//! What the views do when an answer was not to be had, is late, or contradicts another one, and when the
//! clock of the browser's machine is set.

use super::super::browser::Browser;
use super::super::house::{House, free_port};
use super::super::proxy::{Fault, Proxy};
use super::shown;
use std::time::{Duration, Instant};

const LAMP: &str = "[device_lamp]\nwatchTopics = \"home/lamp/#\"\nwatchTimeOut = 0\n";
const IS_FINE: &str = "document.querySelector('#verdict')?.textContent == 'No alarm'";

/// How soon a view shows what it lacked, and what a busy machine needs for that.
const SOON: Duration = Duration::from_secs(20);

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

fn shows(words: &str) -> String {
    format!("document.querySelector('#view').innerText.includes({words:?})")
}

/// A person opens each view while the monitor cannot be reached, and waits.
#[test]
fn a_view_that_was_opened_during_an_outage_is_filled_when_it_is_over() {
    let house = House::with(LAMP);
    for (hash, words) in [
        ("#/alerts", "watching 1 device"),
        ("#/alerts?show=incidents", "No device or agent had an incident."),
        ("#/device/lamp", "Recorded since"),
    ] {
        let proxy = Proxy::to(&house);
        let mut browser = Browser::at(&address(proxy.port));
        browser.until("the verdict", IS_FINE);
        proxy.set(Fault::BadGateway);
        browser.value(&format!("location.hash = {hash:?}; 1"));
        browser.until("the refusal", &shows("the server answers 502"));
        proxy.set(Fault::None);
        let began = Instant::now();
        browser.until(&format!("{words} in {hash}"), &shows(words));
        assert!(began.elapsed() < SOON, "{hash}: {:?}", began.elapsed());
    }
}

/// The list of devices is older than the answer about one of them, as for a moment after a reload.
#[test]
fn a_device_that_has_just_gone_is_not_asked_for_without_end() {
    const STRETCH: Duration = Duration::from_secs(5);
    let house = House::with(LAMP);
    let proxy = Proxy::answering(&house, |path| {
        let ghost = "[{\"name\":\"ghost\",\"kind\":\"device\",\"state\":\"alive\",\"since\":1,\
            \"lastContact\":1,\"watchTimeOut\":60}]";
        (path == "/api/v1/devices").then(|| ghost.to_owned())
    });
    let mut browser = Browser::at(&format!("{}#/device/ghost", address(proxy.port)));
    browser.until("the list", "document.querySelector('#about')?.textContent.includes('1 device')");
    browser.until("the refusal", &shows("No device or agent has the name ghost"));
    // What is measured is a rate, so that this is a wait for time.
    let before = proxy.requests();
    std::thread::sleep(STRETCH);
    let asked = proxy.requests() - before;
    println!("{asked} requests in {STRETCH:?}");
    assert!(asked <= 30, "{asked} requests in {STRETCH:?}");
}

/// The clock of the browser's machine is set back by an hour, and forward again.
#[test]
fn a_step_of_the_browsers_clock_holds_nothing_up() {
    const BELL: &str = "[device_bell]\nwatchTopics = \"home/bell/#\"\nwatchTimeOut = 0\n";
    let port = free_port();
    let sections = |more: &str| format!("[http]\nport = {port}\n{LAMP}{more}");
    let house = House::on(port, "", LAMP);
    let mut browser = Browser::at(&address(port));
    browser.until("the verdict", IS_FINE);
    browser.until("the device", &shown("lamp", "unknown"));
    for (step, more, count) in [(-3_600_000, BELL, 2), (3_600_000, "", 1)] {
        browser.value(&format!(
            "(() => {{ const right = Date.now; Date.now = () => right() + {step}; return 1; }})()"
        ));
        let began = Instant::now();
        house.reload(&sections(more));
        browser.until(
            &format!("the list after a step of {step} ms"),
            &format!("document.querySelectorAll('#devices [data-name]').length == {count}"),
        );
        browser.until("the verdict", IS_FINE);
        assert!(began.elapsed() < SOON, "{step}: {:?}", began.elapsed());
    }
    // The monitor is stopped while the clock goes backward, which is no proof of life.
    browser.value("(() => { const right = Date.now; Date.now = () => right() - 7200000; })(); 1");
    nix::sys::signal::kill(house.pid(), nix::sys::signal::Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    browser.until("the loss", "document.title.startsWith('(?)')");
    assert!(began.elapsed() < SOON + Duration::from_secs(10), "{:?}", began.elapsed());
    nix::sys::signal::kill(house.pid(), nix::sys::signal::Signal::SIGCONT).unwrap();
    let began = Instant::now();
    browser.until("the verdict again", IS_FINE);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

/// Of two answers about different stretches of time the one that was asked for last counts.
#[test]
fn a_late_answer_replaces_no_later_one() {
    let house = House::with(LAMP);
    let mut browser = Browser::at(&address(house.port));
    browser.until("the verdict", IS_FINE);
    let title = browser.value(
        "import('./past.js').then(async ({ Past }) => {
            const waiting = [];
            const get = (path) => new Promise((done) => waiting.push([path, done]));
            const past = new Past({ get }, 'lamp', '7d');
            const loads = [past.load()];
            past.range = '30d';
            loads.push(past.load());
            const incident = (length) => ({ kind: 'alarm', reason: 'silent', begin: 1, end: 1 + length, seconds: length });
            const report = (length) => ({ since: 1, uptime: {}, incidents: [incident(length)], restarts: [], days: [], unwatched: [] });
            const hours = { begin: 0, contacts: [] };
            for (const [path, done] of waiting.reverse()) {
                done(path.includes('hours') ? hours : report(path.includes('30d') ? 30 : 7));
                await new Promise((next) => setTimeout(next));
            }
            await Promise.all(loads);
            return past.incidents.body.innerText ?? past.incidents.body.textContent;
        })",
    );
    let title = title.as_str().unwrap();
    assert!(title.contains("30 s"), "{title}");
}

/// Others read recorded messages at the moment, so that the answer is no reason to give up.
#[test]
fn recorded_values_that_could_not_be_read_can_be_asked_for_again() {
    let house = House::with(LAMP);
    let mut browser = Browser::at(&address(house.port));
    browser.until("the verdict", IS_FINE);
    let seen = browser.value(
        "import('./contents.js').then(async ({ Values }) => {
            let isBusy = true;
            const busy = Object.assign(new Error('others are reading: try again'), { status: 503 });
            const source = { token: 'x', status: { commands: true },
                getWithToken: async () => { if (isBusy) throw busy; return []; } };
            const commands = { source, possible: true, token: async () => true, withToken: (work) => work() };
            const values = new Values(source, 'lamp', commands, { range: '7d', topic: null, choose() {} });
            document.body.append(values.node);
            const settled = () => new Promise((next) => setTimeout(next, 10));
            const look = () => [...values.node.querySelectorAll('button')].filter((it) => it.checkVisibility()).length;
            values.update();
            await settled();
            values.update();
            const offered = look();
            isBusy = false;
            values.node.querySelector('button').click();
            await settled();
            values.update();
            return [offered, values.node.hidden];
        })",
    );
    assert_eq!(
        seen,
        serde_json::json!([1, true]),
        "a button, and nothing where no value is recorded"
    );
}

/// A page is open for months, on a device that comes and goes.
#[test]
fn alerts_that_are_too_old_to_be_shown_are_not_kept() {
    let house = House::with(LAMP);
    let mut browser = Browser::at(&address(house.port));
    browser.until("the verdict", IS_FINE);
    let kept = browser.value(
        "import('./alerts.js').then(async ({ open }) => {
            const source = { devices: new Map(), alerts: [], status: null, on: () => () => {}, get: async () => [] };
            const view = open(document.createElement('div'), { since: '1h' }, source);
            await new Promise((next) => setTimeout(next, 10));
            const now = Date.now() / 1000;
            for (let id = 1; id <= 5000; id += 1) {
                source.alerts = [{ id, time: now - 5000 + id, event: 'expired', priority: 'warning', message: 'x' }];
                view.take(source.alerts);
            }
            view.update({ alerts: true });
            return view.alerts.size;
        })",
    );
    let kept = kept.as_u64().unwrap();
    assert!((3_500..=3_601).contains(&kept), "{kept}");
}

/// Those that were loaded have become too old; what comes now is shown all the same.
#[test]
fn new_alerts_are_shown_when_all_that_were_loaded_are_too_old() {
    let house = House::with(LAMP);
    let mut browser = Browser::at(&address(house.port));
    browser.until("the verdict", IS_FINE);
    let shown = browser.value(
        "import('./alerts.js').then(async ({ open }) => {
            const now = Date.now() / 1000;
            const alert = (id, time) => ({ id, time, event: 'expired', priority: 'warning', message: `number ${id}` });
            const loaded = Array.from({ length: 200 }, (_, place) => alert(500 - place, now - 3500));
            const source = { devices: new Map(), alerts: [], status: null, on: () => () => {}, get: async () => loaded };
            const root = document.createElement('div');
            const view = open(root, { since: '1h' }, source);
            await new Promise((next) => setTimeout(next, 10));
            const right = Date.now;
            Date.now = () => right() + 600_000;
            view.update({ alerts: true });
            source.alerts = [alert(501, now + 600)];
            view.update({ alerts: true });
            Date.now = right;
            return [...root.querySelectorAll('.alerts > li > .body > p')].map((it) => it.textContent);
        })",
    );
    assert_eq!(shown, serde_json::json!(["number 501"]));
}
