//! The page with many devices: only what is in sight is drawn, and a crowd of alarms does not freeze it.

use super::super::browser::Browser;
use super::super::house::House;
use super::shown;
use std::time::{Duration, Instant};

fn fleet(count: usize, lines: &str) -> String {
    let section =
        |number| format!("[device_d{number:05}]\nwatchTopics = \"d/{number}\"\n{lines}\n");
    (0..count).map(section).collect()
}

fn press(browser: &mut Browser, key: &str, modifiers: u32) {
    for kind in ["keyDown", "keyUp"] {
        let event =
            serde_json::json!({"type": kind, "key": key, "code": key, "modifiers": modifiers});
        browser.call("Input.dispatchKeyEvent", event);
    }
}

const ROWS: &str = "document.querySelectorAll('#devices [data-name]').length";

const NOTHING: &str = "document.querySelector('#devices').hidden
    && document.querySelector('#note').textContent != ''";

/// Each device is found by its name, by scrolling and by keys.
#[test]
fn a_fleet_is_drawn_in_part_and_reached_whole() {
    let house = House::with(&fleet(3_000, "watchTimeOut = 0"));
    let mut browser = Browser::at(&format!("http://127.0.0.1:{}/", house.port));
    browser.until("the first devices", &shown("d00000", "unknown"));
    let listed = |count: usize| {
        let rows = "document.querySelector('#devices').getAttribute('aria-rowcount')";
        format!("{rows} == '{}'", count + 1)
    };
    browser.until("all of them", &listed(3_000));
    let is_small = format!("{ROWS} < 60");
    assert_eq!(browser.value(&is_small), true);

    browser.value("scrollTo(0, document.documentElement.scrollHeight); 1");
    browser.until("the last one", &shown("d02999", "unknown"));
    assert_eq!(browser.value(&is_small), true);
    browser.value("scrollTo(0, 0); 1");
    browser.until("the first one again", &shown("d00000", "unknown"));

    let focused = |name: &str| format!("document.activeElement.textContent == '{name}'");
    browser.value("document.querySelector('[data-name=d00000] a').focus(); 1");
    press(&mut browser, "ArrowDown", 0);
    assert_eq!(browser.value(&focused("d00001")), true);
    press(&mut browser, "End", 0);
    browser.until("the focus on the last one", &focused("d02999"));
    for _ in 0..2 {
        press(&mut browser, "PageUp", 0);
    }
    assert_eq!(browser.value(&focused("d02979")), true);
    let in_sight = "(() => { const it = document.activeElement.getBoundingClientRect();
        return it.top >= 0 && it.bottom <= innerHeight; })()";
    assert_eq!(browser.value(in_sight), true);

    // The browser would find only what is drawn.
    press(&mut browser, "f", 2);
    assert_eq!(browser.value("document.activeElement.id"), "filter");
    browser.call("Input.insertText", serde_json::json!({"text": "D0299 "}));
    browser.until("the ten", &listed(10));
    browser.call("Input.insertText", serde_json::json!({"text": "none"}));
    browser.until("the words that say that there is none", NOTHING);
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}

/// Notes each task that takes long, from the page's first moment.
const WATCH: &str = "window.tasks = []; new PerformanceObserver((list) =>
    tasks.push(...list.getEntries().map((it) => [it.startTime, it.duration]))).observe({type: 'longtask'}); 1";

/// What a crowd of alarms cost the page.
struct Crowd {
    /// The duration of the longest task, and for how long at most it had no processor, in milliseconds.
    longest: f64,
    waited: f64,
    /// Until all was shown.
    calm: Duration,
}

/// Lets all devices expire at the same moment.
fn expire_at_once(count: usize) -> Crowd {
    // Longer than the browser takes to start.
    let house = House::with(&fleet(count, "watchTimeOut = 25"));
    let mut browser = Browser::at(&format!("http://127.0.0.1:{}/", house.port));
    let all = format!(
        "document.querySelector('#devices')?.getAttribute('aria-rowcount') == {}",
        count + 1
    );
    browser.until("the devices", &all);
    assert_eq!(browser.value("document.querySelectorAll('[data-state=expired]').length"), 0);
    browser.value(WATCH);
    house.until("the first alarm", || house.said("is silent") > 0);
    let began = Instant::now();
    let waited_before = browser.waited_for_a_processor();
    // The program under test is not optimized: what it takes itself is not the page's, and where
    // that is too long, it refuses to answer.
    house.until("the last alarm", || house.said("is silent") == count);
    let took = began.elapsed();
    let verdict =
        format!("document.querySelector('#verdict')?.textContent == '{count} of {count} in alarm'");
    browser.until("all alarms", &verdict);
    let calm = began.elapsed();
    println!("{count}: the monitor took {took:.1?}");
    let longest =
        browser.value("Math.max(0, ...tasks.map(([, length]) => length))").as_f64().unwrap();
    let waited = browser.waited_for_a_processor().saturating_sub(waited_before);
    let waited = waited.as_secs_f64() * 1e3;
    let is_late = |complaint: &&String| complaint.contains("a status of 503");
    let complaints: Vec<_> = browser.complaints().iter().filter(|it| !is_late(it)).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Crowd { longest, waited, calm }
}

#[test]
fn a_crowd_of_alarms_does_not_freeze_the_page() {
    for (count, longest_task, calm_after) in
        [(300, 400.0, 5), (1_000, 800.0, 10), (10_000, 2_500.0, 20)]
    {
        let Crowd { longest, waited, calm } = expire_at_once(count);
        println!(
            "{count} expire at once: the longest task {longest:.0} ms (waited {waited:.0}), calm after {calm:.1?}"
        );
        assert!(longest < longest_task + waited, "{count}: {longest} ms, waited {waited} ms");
        assert!(calm < Duration::from_secs(calm_after), "{count}: {calm:?}");
    }
}

#[test]
fn the_first_picture_of_a_large_fleet_comes_soon() {
    let house = House::with(&fleet(10_000, "watchTimeOut = 0"));
    let mut browser = Browser::at("about:blank");
    let began = Instant::now();
    let url = format!("http://127.0.0.1:{}/", house.port);
    browser.call("Page.navigate", serde_json::json!({"url": url}));
    browser.until("the first rows", &format!("{ROWS} > 0"));
    let shown = began.elapsed();
    let paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0";
    let paint = browser.value(paint).as_f64().unwrap();
    println!("10,000 devices: the frame after {paint:.0} ms, the first rows after {shown:.1?}");
    assert!(shown < Duration::from_secs(10), "{shown:?}");
}
