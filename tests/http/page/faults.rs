//! The page when something between it and the devices fails: it says nothing good without a proof.

use super::super::browser::Browser;
use super::super::house::{Answer, House};
use super::super::proxy::{Fault, Proxy};
use super::shown;
use nix::sys::signal::{Signal, kill};
use std::io::{BufReader, Write};
use std::time::{Duration, Instant};

/// It is in alarm when it says so, and never by its silence, however long a test takes.
const LAMP: &str = "[device_lamp]\nwatchTopics = \"home/lamp/#\"\nwatchTimeOut = 0\n\
    availabilityTopic = \"home/lamp/LWT\"\n";

/// How old a proof of life may be, and what a busy machine needs to notice.
const PROOF: Duration = Duration::from_secs(15);
const SLACK: Duration = Duration::from_secs(10);

const IS_FINE: &str = "document.querySelector('#verdict')?.className == 'good' \
    && document.querySelector('#verdict')?.textContent == 'No alarm'";
const IS_LOST: &str = "document.querySelector('#verdict')?.className == 'bad' \
    && document.querySelector('#verdict')?.textContent?.startsWith('iotmonitor does not answer') \
    && document.title.startsWith('(?)')";
const SAYS_HOW: &str = "document.querySelector('#how')?.textContent.includes('Live updates')";

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

#[test]
fn a_monitor_that_is_stopped_is_not_fine() {
    let house = House::with(LAMP);
    let mut browser = Browser::at(&address(house.port));
    browser.until("the verdict", IS_FINE);
    kill(house.pid(), Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    browser.until("the loss", IS_LOST);
    let late = began.elapsed();
    println!("the loss was shown after {late:?}");
    assert!(late < PROOF + SLACK, "{late:?}");
    kill(house.pid(), Signal::SIGCONT).unwrap();
    browser.until("the verdict again", IS_FINE);
    browser.until("the title", "document.title == 'iotmonitor'");
}

/// The stream is silent, so that the page asks instead, and says so.
#[test]
fn a_proxy_that_holds_the_events_hides_nothing() {
    let house = House::with(LAMP);
    let proxy = Proxy::to(&house);
    let mut browser = Browser::at(&address(proxy.port));
    browser.until("the verdict", IS_FINE);
    house.until("the stream to be open", || proxy.streams() == 1);
    proxy.set(Fault::HoldsEvents);
    browser.until("the page to ask instead", SAYS_HOW);
    assert_eq!(browser.value(IS_FINE), true);
    house.publish("home/lamp/LWT", "offline");
    house.until_state("lamp", "expired");
    let began = Instant::now();
    browser.until("the alarm", &shown("lamp", "expired"));
    assert!(began.elapsed() < PROOF + SLACK, "{:?}", began.elapsed());
    kill(house.pid(), Signal::SIGSTOP).unwrap();
    let began = Instant::now();
    browser.until("the loss", IS_LOST);
    assert!(began.elapsed() < PROOF + SLACK, "{:?}", began.elapsed());
    kill(house.pid(), Signal::SIGCONT).unwrap();
    proxy.set(Fault::None);
    browser.until(
        "the alarm again",
        "document.querySelector('#verdict')?.textContent == '1 of 1 in alarm'",
    );
}

#[test]
fn a_bad_gateway_is_not_asked_ever_more() {
    const STRETCH: Duration = Duration::from_secs(15);
    let house = House::with(LAMP);
    let proxy = Proxy::to(&house);
    let mut browser = Browser::at(&address(proxy.port));
    browser.until("the verdict", IS_FINE);
    proxy.set(Fault::BadGateway);
    browser.until("the loss", IS_LOST);
    // What is measured is a rate, so that this is a wait for time.
    let count = || {
        let before = proxy.requests();
        std::thread::sleep(STRETCH);
        proxy.requests() - before
    };
    let counts = [count(), count(), count()];
    println!("requests in each {STRETCH:?}: {counts:?}");
    // Three lists and a stream at a time, at most every two seconds and then more seldom.
    assert!(counts.iter().all(|it| *it <= 30), "{counts:?}");
    assert!(counts[2] <= counts[0] && counts[2] <= 12, "{counts:?}");
    proxy.set(Fault::None);
    browser.until("the verdict again", IS_FINE);
}

#[test]
fn one_onlooker_too_many_asks_and_says_so() {
    let house = House::with(LAMP);
    let streams: Vec<_> = (0..32)
        .map(|_| {
            let mut stream = house.connect();
            stream.write_all(house.request("GET", "/api/v1/events", &[]).as_bytes()).unwrap();
            let mut stream = BufReader::new(stream);
            assert_eq!(Answer::read_head(&mut stream).unwrap().status, 200);
            stream
        })
        .collect();
    let mut browser = Browser::at(&address(house.port));
    browser.until("the verdict", IS_FINE);
    browser.until("how it knows", SAYS_HOW);
    house.publish("home/lamp/LWT", "offline");
    house.until_state("lamp", "expired");
    let began = Instant::now();
    while browser.value(&shown("lamp", "expired")) != true {
        let verdict = browser.value("document.querySelector('#verdict')?.textContent");
        assert!(!verdict.as_str().unwrap().contains("does not answer"), "{verdict}");
        assert!(began.elapsed() < PROOF + SLACK, "{:?}", began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(streams);
    browser.until("the live updates", &format!("!({SAYS_HOW})"));
}

/// Below any path, as a proxy or a panel offers it.
#[test]
fn it_works_below_a_path() {
    let house = House::with(LAMP);
    let proxy = Proxy::below("/home/iot", &house);
    let mut browser = Browser::at(&format!("http://127.0.0.1:{}/home/iot/", proxy.port));
    browser.until("the verdict", IS_FINE);
    house.publish("home/lamp/LWT", "offline");
    browser.until("the alarm", &shown("lamp", "expired"));
    browser.until(
        "the icon",
        "document.querySelector('link[rel=icon]')?.href.endsWith('/home/iot/icon-1.svg')",
    );
    assert_eq!(proxy.streams(), 1);
    browser.value("document.querySelector('#devices [data-name=lamp] a').click(); 1");
    browser.until("the device", "document.querySelector('#view h2')?.textContent.includes('lamp')");
    assert_eq!(browser.value("location.hash"), "#/device/lamp");
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
}
