//! The charts of the page, drawn by a browser.

use super::browser::Browser;
use super::house::House;
use super::page_commands::faults;
use serde_json::{Value, json};

/// A page whose browser is in this time zone.
fn in_zone(house: &House, zone: &str) -> Browser {
    let mut browser = Browser::at("about:blank");
    browser.call("Emulation.setTimezoneOverride", json!({"timezoneId": zone}));
    browser.call("Page.navigate", json!({"url": format!("http://127.0.0.1:{}/", house.port)}));
    browser.until("the page", "document.querySelector('#view > div') !== null");
    browser
}

/// What a function of the charts returns.
fn call(browser: &mut Browser, expression: &str) -> Value {
    browser.value(&format!("import('./charts.js').then((charts) => charts.{expression})"))
}

#[test]
fn axes_have_round_figures_and_times_of_the_local_clock() {
    let house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let mut browser = in_zone(&house, "Europe/Berlin");
    for (arguments, ticks) in [
        ("0, 61, 3", json!([0, 50, 100])),
        ("0, 60, 3", json!([0, 20, 40, 60])),
        ("0, 0, 3, { whole: true }", json!([0, 1])),
        ("0, 2, 3, { whole: true }", json!([0, 1, 2])),
        ("-7, 12, 3", json!([-10, 0, 10, 20])),
        ("0, 3 * 2 ** 20, 3, { bytes: true }", json!([0, 1_048_576, 2_097_152, 3_145_728])),
        ("0, 900, 3, { bytes: true }", json!([0, 500, 1_000])),
    ] {
        assert_eq!(call(&mut browser, &format!("valueTicks({arguments})")), ticks, "{arguments}");
    }
    // The day of 25 hours, 2026-10-25, and that of 23, 2026-03-29: midnights are 25 and 23 hours apart, and no
    // hour is passed over or named twice.
    for (midnight, hours, spring) in [(1_792_879_200_u64, 25, false), (1_774_738_800, 23, true)] {
        let (begin, end) = (midnight - 86_400, midnight + 2 * 86_400);
        let days = call(&mut browser, &format!("timeTicks({begin}, {end}, 5)"));
        let times: Vec<u64> =
            days.as_array().unwrap().iter().map(|it| it["time"].as_u64().unwrap()).collect();
        assert_eq!(times[1], midnight);
        assert_eq!(times[2] - times[1], hours * 3_600, "{times:?}");
        let end = midnight + hours * 3_600;
        let ticks = call(&mut browser, &format!("timeTicks({midnight}, {end}, 30)"));
        let times: Vec<u64> =
            ticks.as_array().unwrap().iter().map(|it| it["time"].as_u64().unwrap()).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 3_600), "{times:?}");
        assert_eq!(times.len() as u64, hours + 1, "{times:?}");
        let coarse = call(&mut browser, &format!("timeTicks({midnight}, {end}, 4)"));
        let labels: Vec<&str> =
            coarse.as_array().unwrap().iter().map(|it| it["label"].as_str().unwrap()).collect();
        let noon = labels.iter().filter(|it| it.contains("12:00")).count();
        assert_eq!(noon, 1, "{labels:?}, spring: {spring}");
    }
    // Midnight in India is at half past an hour of UTC.
    let mut kolkata = in_zone(&house, "Asia/Kolkata");
    let ticks = call(&mut kolkata, "timeTicks(1792866600, 1792866600 + 86400, 4)");
    assert_eq!(ticks[0]["time"], 1_792_866_600_u64, "midnight in India: {ticks}");
    assert_eq!(faults(&mut browser), [""; 0]);
}

/// Whether no two labels of the time axis touch, and none leaves the picture.
const READABLE: &str = "(image) => {
    document.body.append(image);
    const width = image.width.baseVal.value;
    const boxes = [...image.querySelectorAll('text[text-anchor=middle]')].map((it) => it.getBBox());
    const sides = [...image.querySelectorAll('text[text-anchor=end]')].map((it) => it.getBBox());
    image.remove();
    const apart = boxes.every((it, index) => index == 0 || it.x >= boxes[index - 1].x + boxes[index - 1].width);
    const inside = [...boxes, ...sides].every((it) => it.x >= 0 && it.x + it.width <= width + .5);
    return boxes.length >= 2 && apart && inside;
}";

#[test]
fn labels_are_apart_and_complete_on_a_phone_and_on_a_screen() {
    let house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let mut browser = in_zone(&house, "America/New_York");
    let unreadable = browser.value(&format!(
        "import('./charts.js').then(({{ draw }}) => {{
            const isReadable = {READABLE};
            const bad = [];
            for (const width of [290, 336, 500, 1090]) {{
                for (const hours of [1, 3, 24, 50, 7 * 24, 30 * 24, 90 * 24, 400 * 24]) {{
                    for (const most of [0, 1, 4321, 987654321]) {{
                        const end = 1_792_879_200 + 1234, step = hours * 36;
                        const points = Array.from({{ length: 100 }}, (_, index) =>
                            [end - hours * 3600 + index * step, most * (index % 10) / 9]);
                        const data = {{ title: 'x', begin: end - hours * 3600, end, step, points,
                            words: String, columns: true, whole: true }};
                        const image = draw(data, width)[0];
                        const labels = [...image.querySelectorAll('text')].map((it) => it.textContent);
                        if (!isReadable(image)) bad.push([width, hours, most, labels.join()]);
                    }}
                }}
            }}
            return bad;
        }})"
    ));
    assert_eq!(unreadable, json!([]));
}

#[test]
fn what_was_not_recorded_is_a_gap_and_what_is_said_agrees_with_what_is_drawn() {
    let house = House::with("[device_lamp]\nwatchTopics = \"home/lamp/#\"\n");
    let mut browser = in_zone(&house, "UTC");
    let drawn = browser.value(
        "import('./charts.js').then(({ draw }) => {
            const at = (index, value) => [1_792_800_000 + index * 3600, value];
            const data = { title: 'Memory', begin: 1_792_800_000, end: 1_792_800_000 + 6 * 3600, step: 3600,
                points: [at(0, 2), at(1, 4), at(2, null), at(3, 3), at(4, null), at(5, 5), at(6, 6)],
                words: (value) => `${value} B` };
            const [image] = draw(data, 400);
            const band = draw({ ...data, points: [[1_792_800_000, 1, 2, 3], [1_792_803_600, 2, 3, 9]] }, 400)[0];
            return [image.querySelectorAll('.line').length, image.querySelectorAll('.dot').length,
                image.getAttribute('role'), image.getAttribute('aria-label'),
                band.querySelectorAll('.band').length, band.getAttribute('aria-label')];
        })",
    );
    assert_eq!(drawn[0], 2, "two lines, and one point alone: {drawn}");
    assert_eq!((&drawn[1], &drawn[2], &drawn[4]), (&json!(1), &json!("img"), &json!(1)));
    let words = drawn[3].as_str().unwrap();
    assert!(words.starts_with("Memory: from 2 B to 6 B, 4 B on average, "), "{words}");
    assert!(drawn[5].as_str().unwrap().starts_with("Memory: from 1 B to 9 B, 2.5 B on average, "));
}
