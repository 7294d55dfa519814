//! Several tabs of one browser, which opens six connections to a server at most.

use super::super::browser::Browser;
use super::super::house::{House, free_port};
use super::super::proxy::Proxy;
use super::shown;

const SECTIONS: &str = "[device_lamp]\navailabilityTopic = \"home/lamp/LWT\"\n\
    [device_bell]\navailabilityTopic = \"home/bell/LWT\"\n";

/// A name of the local network: what browsers offer to pages of this machine alone, the tabs do without.
const LAN: &str = "--host-resolver-rules=MAP pi.lan 127.0.0.1";

#[test]
fn eight_tabs_share_one_stream_and_stay_current() {
    let house = House::on(free_port(), "hostNames = [\"pi.lan\"]", SECTIONS);
    let proxy = Proxy::to(&house);
    let address = format!("http://pi.lan:{}/", proxy.port);
    let mut browser = Browser::with_option(LAN, &address);
    assert_eq!(browser.value("isSecureContext"), false);
    browser.until("the first tab", &shown("lamp", "unknown"));
    let tabs: Vec<_> = (0..8)
        .map(|number| {
            let tab = browser.open_tab(&address);
            browser.until(&format!("tab {number}"), &shown("lamp", "unknown"));
            tab
        })
        .collect();
    house.until("one stream for all", || proxy.streams() == 1);
    house.publish("home/lamp/LWT", "offline");
    for (number, tab) in tabs.iter().enumerate() {
        browser.turn_to(tab);
        browser.until(&format!("the alarm in tab {number}"), "document.title == '(1) iotmonitor'");
    }
    // The tab that led is gone, and another one takes its place.
    browser.close_first_tab();
    house.until("another stream", || proxy.streams() == 1);
    house.publish("home/bell/LWT", "offline");
    for (number, tab) in tabs.iter().enumerate() {
        browser.turn_to(tab);
        browser
            .until(&format!("both alarms in tab {number}"), "document.title == '(2) iotmonitor'");
    }
    assert_eq!(proxy.streams(), 1);
    browser.turn_to(&tabs[3]);
    browser.call("Page.bringToFront", serde_json::json!({}));
    browser.until("the picture of a tab that was hidden", &shown("bell", "expired"));
    // It says once a tab that one header needs encryption.
    let complaints = browser.complaints().iter().filter(|it| !it.contains("Cross-Origin-Opener"));
    assert_eq!(complaints.collect::<Vec<_>>(), Vec::<&String>::new());
}
