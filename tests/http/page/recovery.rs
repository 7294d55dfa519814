//! What the page does when the clock of the browser's machine is set.

use super::super::browser::Browser;
use super::super::house::{House, free_port};
use super::shown;
use std::time::{Duration, Instant};

const LAMP: &str = "[device_lamp]\nwatchTopics = \"home/lamp/#\"\nwatchTimeOut = 0\n";
const IS_FINE: &str = "document.querySelector('#verdict')?.textContent == 'No alarm'";

/// How soon a view shows what it lacked, and what a busy machine needs for that.
const SOON: Duration = Duration::from_secs(20);

fn address(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
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
