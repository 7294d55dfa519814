//! The bars of past days and hours: what was when, by pointer, finger and keys, in the browser's time zone.

use super::super::browser::Browser;
use super::super::house::House;
use super::super::proxy::Proxy;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Two hours ago was an incident of ten minutes, and the first half of the days is not known.
fn bars(path: &str) -> Option<String> {
    let query = path.strip_prefix("/api/v1/bars?")?;
    let times = query.split("at=").nth(1)?.split(',');
    let times: Vec<u64> = times.map(|time| time.parse().unwrap()).collect();
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 2 * 3600;
    let of = |place: usize, begin: u64, end: u64| match place {
        _ if place < 15 => Value::Null,
        _ if (begin..end).contains(&at) => json!([600, 0, 0, 1]),
        _ => json!([0, 0, 0, 0]),
    };
    let stretches = times.windows(2).enumerate();
    let items: Vec<Value> = stretches.map(|(place, it)| of(place, it[0], it[1])).collect();
    Some(json!({"devices": {"lamp": items}}).to_string())
}

const TIP: &str = "(() => { const it = document.querySelector('.tip');
    return it.hidden ? '' : it.innerText; })()";

fn box_of(browser: &mut Browser, selector: &str) -> (f64, f64, f64) {
    let value = browser.value(&format!(
        "(() => {{ const it = document.querySelector('{selector}').getBoundingClientRect();
            return [it.left, it.top + it.height / 2, it.width]; }})()"
    ));
    let number = |place: usize| value[place].as_f64().unwrap();
    (number(0), number(1), number(2))
}

/// Where the steps of a bar begin is what a clock on the wall of this zone says.
#[test]
fn bars_say_what_was_when_in_the_zone_of_the_browser() {
    let house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let proxy = Proxy::answering(&house, bars);
    let mut browser = Browser::at("about:blank");
    // Its hours begin at a quarter to those of UTC.
    browser.call("Emulation.setTimezoneOverride", json!({"timezoneId": "Asia/Kathmandu"}));
    browser.call("Page.navigate", json!({"url": format!("http://127.0.0.1:{}/", proxy.port)}));
    browser.until(
        "the uptime",
        "/^9\\d\\.\\d+ %$/.test(document.querySelector('.body .uptime')?.textContent)",
    );

    let (left, middle, width) = box_of(&mut browser, ".bar.hours");
    let step = width / 24.0;
    let at = json!({"type": "mouseMoved", "x": left + 21.5 * step, "y": middle});
    browser.call("Input.dispatchMouseEvent", at);
    browser.until(
        "the words at the pointer",
        &format!("{TIP}.includes('1 incident, 10 min in alarm')"),
    );
    let tip = browser.value(TIP);
    assert_eq!(tip.as_str().unwrap().matches(":00").count(), 2, "whole hours of the zone: {tip}");
    browser.call("Input.dispatchMouseEvent", json!({"type": "mouseMoved", "x": 5, "y": 5}));
    browser.until("nothing elsewhere", &format!("{TIP} == ''"));

    let (left, middle, width) = box_of(&mut browser, ".bar.days");
    let point = json!([{"x": left + width * 0.5 / 30.0, "y": middle}]);
    browser.call("Input.dispatchTouchEvent", json!({"type": "touchStart", "touchPoints": point}));
    browser.until("the words at the finger", &format!("{TIP}.includes('not known yet')"));
    browser.call("Input.dispatchTouchEvent", json!({"type": "touchEnd", "touchPoints": []}));

    browser.value("document.querySelector('.bar.hours').focus(); 1");
    // It begins at the present hour.
    let words = "document.activeElement.getAttribute('aria-valuetext')";
    assert!(browser.value(words).as_str().unwrap().ends_with(": no alarm"));
    for _ in 0..2 {
        let press = json!({"type": "keyDown", "key": "ArrowLeft", "code": "ArrowLeft"});
        browser.call("Input.dispatchKeyEvent", press);
    }
    let said = browser.value(words);
    assert!(said.as_str().unwrap().ends_with(": 1 incident, 10 min in alarm"), "{said}");
    assert!(browser.value(TIP).as_str().unwrap().contains("10 min in alarm"));
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// A day on which the clocks change has 23 or 25 hours, and no request has more than 64 times.
#[test]
fn the_days_of_bars_follow_summer_time() {
    let house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let mut browser = Browser::at("about:blank");
    for (zone, noon, short) in [
        ("Europe/Berlin", "2026-03-29T10:00:00Z", 23),
        ("Europe/Berlin", "2026-10-25T11:00:00Z", 25),
        ("America/Los_Angeles", "2026-11-01T20:00:00Z", 25),
        ("Australia/Lord_Howe", "2026-04-05T02:00:00Z", 24),
    ] {
        browser.call("Emulation.setTimezoneOverride", json!({"timezoneId": zone}));
        browser.call("Page.navigate", json!({"url": format!("http://127.0.0.1:{}/", house.port)}));
        browser.until("the page", "document.querySelector('#devices') !== null");
        let found = browser.value(&format!(
            "import('/bars.js').then(({{boundaries}}) => {{
                const {{days, hours, all}} = boundaries(Date.parse('{noon}') / 1000);
                return [days.length, hours.length, all.length <= 64, (days[30] - days[29]) / 3600,
                    days.every((it) => new Date(it * 1000).getHours() === 0),
                    all.every((it, place) => place === 0 || it > all[place - 1])]; }})"
        ));
        let hours = if zone == "Australia/Lord_Howe" { json!(24.5) } else { json!(short) };
        assert_eq!(found, json!([31, 25, true, hours, true, true]), "{zone}");
    }
}
