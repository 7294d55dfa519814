//! The page, as a browser shows it.

mod bars;
mod faults;
mod fleet;
mod recovery;
mod tabs;

use super::browser::Browser;
use super::house::{House, Subscriber, free_port};
use std::time::UNIX_EPOCH;

/// Returns the time at which a device is first shown with this state, by the clock that the test has too.
fn watch_for(browser: &mut Browser, name: &str, state: &str) {
    browser.value(&format!(
        "window.seen = new Promise((done) => {{
            const look = () => {{
                const shown = document.querySelector('[data-name=\"{name}\"]');
                if (shown?.dataset.state == '{state}') done(Date.now());
            }};
            new MutationObserver(look).observe(document.body,
                {{subtree: true, childList: true, attributes: true}});
            look();
        }}); 1"
    ));
}

fn shown(name: &str, state: &str) -> String {
    format!("document.querySelector('[data-name=\"{name}\"]')?.dataset.state == '{state}'")
}

#[test]
fn an_expiry_is_shown_within_a_second_without_a_reload() {
    let house = House::with("[device_lamp]\nwatchTimeOut = 3\nwatchTopics = \"home/lamp/#\"\n");
    let expiries = Subscriber::to(&house, "home/monitoring/expire/lamp");
    let mut browser = Browser::at(&format!("http://127.0.0.1:{}/", house.port));
    // Not before the browser has started, which may take longer than the lamp's timeout.
    house.publish("home/lamp/sensors", "1");
    browser.until("the device to be shown", &shown("lamp", "alive"));
    browser.value("window.marker = 'the same page'; 1");
    for _ in 0..2 {
        let before = expiries.times().len();
        watch_for(&mut browser, "lamp", "expired");
        house.until("the expiry", || expiries.times().len() > before);
        let reported = expiries.times()[before].duration_since(UNIX_EPOCH).unwrap();
        let seen = browser.value("window.seen").as_f64().unwrap() / 1_000.0;
        let late = seen - reported.as_secs_f64();
        println!("shown {:.0} ms after its publication", late * 1_000.0);
        assert!(late < 1.0, "shown {late} s after its publication");
        browser.until(
            "the verdict",
            "document.querySelector('#verdict')?.textContent == '1 of 1 in alarm'",
        );
        browser.until(
            "the alert",
            "document.querySelector('#alerts li p')?.textContent.includes('`lamp` is silent')",
        );
        browser.until("the number in the title", "document.title == '(1) iotmonitor'");
        let icon = "document.querySelector('link[rel=icon]').getAttribute('href') == 'icon-1.svg'";
        browser.until("the number in the icon", icon);
        house.publish("home/lamp/sensors", "1");
        browser.until("the recovery", &shown("lamp", "alive"));
    }
    browser.until("the good word", "document.querySelector('#verdict')?.textContent == 'No alarm'");
    assert_eq!(browser.value("window.marker"), "the same page");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn what_the_broker_and_the_monitor_do_is_shown() {
    let mut house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let mut browser = Browser::at(&format!("http://localhost:{}/", house.port));
    let says = |words: &str| {
        format!("document.querySelector('#verdict')?.textContent?.includes('{words}')")
    };
    browser.until("the device", &shown("lamp", "unknown"));
    browser.value("window.marker = 'the same page'; 1");
    house.broker.kill();
    browser.until("the broker's loss", &says("The broker cannot be reached"));
    house.broker.restart();
    browser.until("the broker", &says("No alarm"));
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    house.stop();
    browser.until("the monitor's end", &says("does not answer"));
    house.write(&format!("[http]\nport = {}\n[device_bell]\nwatchTopics = \"b\"\n", house.port));
    house.start();
    browser.until("the monitor, with another device", &shown("bell", "unknown"));
    assert_eq!(
        browser.value("document.querySelector('[data-name=\"lamp\"]')"),
        serde_json::Value::Null
    );
    assert_eq!(browser.value("window.marker"), "the same page");
}

/// Those of a house, among them names that are HTML.
const HOUSE: &str = "[device_attic_sensor]\nwatchTimeOut = 1\nwatchTopics = \"attic/#\"\n\
    [device_esp04]\nwatchTimeOut = 60\nwatchTopics = \"home/esp04/#\"\n\
    [\"device_<img src=x onerror=alert(1)>\"]\nwatchTopics = \"x\"\n\
    [device_garage-door]\nwatchTimeOut = \"1h 30min\"\nwatchTopics = \"home/garage/#\"\n\
    [device_plug_kitchen_with_a_rather_long_name]\nwatchTimeOut = 1\nwatchTopics = \"home/plug/#\"\n\
    [device_well]\nwatchTopics = \"well\"\nenabled = false\n\
    [agent_ledbox]\nexec = \"exec sleep infinity\"\nwatchTopics = \"home/agents/ledbox/#\"\n\
    [agent_bridge]\nexec = \"exec sleep infinity\"\n";

/// How far apart the brightness of two colours is (WCAG 2.2, "contrast ratio"), the least of all words.
const CONTRAST: &str = "(() => {
    const channel = (value) => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
    const brightness = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).map((it) => channel(it / 255));
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const color = getComputedStyle(node).backgroundColor;
            if (color !== 'rgba(0, 0, 0, 0)') return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const words = [...document.querySelectorAll('h1, h2, [role=cell], [role=columnheader], [role=rowheader] *, .state, #verdict, li p, time, footer p')];
    return Math.min(...words.filter((it) => it.textContent && it.checkVisibility()).map((it) => {
        const [a, b] = [brightness(getComputedStyle(it).color), brightness(ground(it))];
        return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    }));
})()";

#[test]
fn it_is_readable_in_light_and_dark_and_on_a_phone() {
    let house = House::on(free_port(), "", HOUSE);
    for topic in ["home/esp04/sensors", "home/garage/door", "home/agents/ledbox/x"] {
        house.publish(topic, "1");
    }
    house.until_state("esp04", "alive");
    house.until_state("plug_kitchen_with_a_rather_long_name", "expired");
    let mut browser = Browser::at(&format!("http://127.0.0.1:{}/", house.port));
    browser.until("the devices", &shown("esp04", "alive"));
    let first = browser.value("document.querySelector('#devices [data-name]').dataset.name");
    assert_eq!(first, "attic_sensor", "what is in alarm comes first");
    assert_eq!(browser.value("document.images.length"), 1, "a name is no HTML");
    for (width, scheme) in [(1_100, "light"), (1_100, "dark"), (360, "light"), (360, "dark")] {
        browser.look((width, 900), scheme, &format!("{width}-{scheme}"));
        let contrast = browser.value(CONTRAST).as_f64().unwrap();
        println!("{width} {scheme}: least contrast {contrast:.1}");
        assert!(contrast >= 4.5, "{width} {scheme}: {contrast}");
        let overflow =
            "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.value(overflow), 0, "{width} {scheme}: it is wider than the window");
    }
    let ground =
        |browser: &mut Browser| browser.value("getComputedStyle(document.body).backgroundColor");
    let dark = ground(&mut browser);
    browser.look((1_100, 900), "light", "1100-light");
    assert_ne!(ground(&mut browser), dark);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

#[test]
fn axe_finds_nothing_on_the_overview() {
    let house = House::on(free_port(), "", HOUSE);
    house.until_state("plug_kitchen_with_a_rather_long_name", "expired");
    let mut browser = Browser::at(&format!("http://127.0.0.1:{}/", house.port));
    browser.until("the devices", &shown("plug_kitchen_with_a_rather_long_name", "expired"));
    browser.assert_accessible("overview");
}
