//! Alerts and incidents on the page, as a browser shows them.

use super::browser::Browser;
use super::house::House;
use super::page_commands::faults;

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
