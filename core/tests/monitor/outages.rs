//! Time in which the monitor cannot hear is not silence.

use super::expect::watched;
use super::timetable::{House, filter, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::message::{Connection, LossReason};
use iotmonitor_core::model::spec::DeviceSpec;
use std::time::Duration;

fn expiry(house: &House, device: &str) -> Vec<Duration> {
    house.published(&format!("expire/{device}")).iter().map(|(at, _)| *at).collect()
}

#[test]
fn an_outage_does_not_count() {
    let mut house = House::running(vec![watched("lamp", 100)]);
    house.hear("home/lamp/x");
    house.advance(secs(10));
    house.lose_watch();
    house.advance(secs(5000));
    house.expect_silence_on("expire/lamp");
    house.connect_watch();
    let back = house.mono;
    house.advance(secs(200));
    assert_eq!(expiry(&house, "lamp"), [back + secs(90)]);
}

#[test]
fn subscriptions_that_are_not_acknowledged_do_not_count() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.hear("home/lamp/x");
    house.lose_watch();
    house.broker.answers_subscribe = false;
    house.connect_watch();
    house.advance(secs(1000));
    house.expect_silence_on("expire/lamp");
    assert!(!house.monitor.summary().watching);
    house.happen(Event::Subscribed { connection: Connection::Watch, refused: Vec::new() });
    assert!(house.monitor.summary().watching);
    let back = house.mono;
    house.advance(secs(100));
    assert_eq!(expiry(&house, "lamp"), [back + secs(30)]);
}

#[test]
fn a_monitor_that_never_connects_lets_no_device_expire() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    house.open_store();
    house.advance(secs(3000));
    house.expect_silence_on("expire/lamp");
    house.connect_watch();
    let back = house.mono;
    house.advance(secs(100));
    assert_eq!(expiry(&house, "lamp"), [back + secs(30)]);
}

#[test]
fn after_an_outage_there_is_a_grace_of_60_seconds_or_the_timeout() {
    for (timeout, grace) in [(20, 20), (60, 60), (3600, 60)] {
        let mut house = House::running(vec![watched("lamp", timeout)]);
        house.hear("home/lamp/x");
        house.advance(secs(timeout - 1));
        house.lose_watch();
        house.advance(secs(100));
        house.connect_watch();
        let back = house.mono;
        house.advance(secs(4000));
        assert_eq!(expiry(&house, "lamp"), [back + secs(grace)], "with watchTimeOut {timeout}");
    }
}

/// Loses the connection one second before the device would expire, again and again.
fn flap(house: &mut House, times: u32, up: Duration) {
    for _ in 0..times {
        house.advance(up);
        house.lose_watch();
        house.advance(secs(5));
        house.connect_watch();
    }
}

#[test]
fn three_graces_at_most_in_a_row() {
    let mut house = House::running(vec![watched("lamp", 60)]);
    house.hear("home/lamp/x");
    flap(&mut house, 4, secs(59));
    house.expect_silence_on("expire/lamp");
    house.advance(secs(5));
    assert_eq!(
        expiry(&house, "lamp").len(),
        1,
        "a flapping broker does not hide a device for ever"
    );
}

#[test]
fn a_contact_gives_new_graces() {
    let mut house = House::running(vec![watched("lamp", 60)]);
    house.hear("home/lamp/x");
    for _ in 0..5 {
        flap(&mut house, 3, secs(59));
        house.hear("home/lamp/x");
    }
    house.advance(secs(59));
    house.expect_silence_on("expire/lamp");
}

#[test]
fn a_broker_that_flaps_each_second_hides_no_device_for_ever() {
    let mut house = House::running(vec![watched("lamp", 60)]);
    house.hear("home/lamp/x");
    // 60 s of its own and three graces of 60 s, on watched time.
    flap(&mut house, 260, secs(1));
    assert_eq!(expiry(&house, "lamp").len(), 1);
}

#[test]
fn an_expired_device_is_not_reported_again_after_an_outage() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.advance(secs(40));
    house.lose_watch();
    house.advance(secs(100));
    house.connect_watch();
    house.advance(secs(1000));
    assert_eq!(expiry(&house, "lamp").len(), 1);
    assert_eq!(house.count(AlertKind::Expired), 1);
    house.hear("home/lamp/x");
    assert_eq!(house.published("recover/lamp").len(), 1);
}

#[test]
fn a_loss_during_the_round_trip_is_an_outage_like_another() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.broker.acknowledges = false;
    house.advance(secs(31));
    house.lose_watch();
    house.broker.acknowledges = true;
    house.advance(secs(100));
    house.settle_acknowledgements();
    house.expect_silence_on("expire/lamp");
    house.connect_watch();
    let back = house.mono;
    house.settle_acknowledgements();
    house.expect_silence_on("expire/lamp");
    house.advance(secs(100));
    assert_eq!(expiry(&house, "lamp"), [back + secs(30)]);
}

#[test]
fn when_the_broker_fell_silent_nothing_since_its_last_packet_counts() {
    let mut house = House::running(vec![watched("lamp", 100), watched("pump", 1000)]);
    house.hear("home/lamp/x");
    house.advance(secs(10));
    house.hear("home/pump/x");
    house.advance(secs(85));
    let (sentence, quiet) = ("no answer for 85 s".into(), secs(85));
    house.lose(Connection::Watch, LossReason::Silent { sentence, quiet });
    house.connect_watch();
    let back = house.mono;
    house.advance(secs(200));
    assert_eq!(expiry(&house, "lamp"), [back + secs(90)]);
}

#[test]
fn each_loss_is_reported_with_its_kind_and_so_is_the_return() {
    for (reason, kind) in [
        (LossReason::Other("connection refused".into()), AlertKind::BrokerLost),
        (
            LossReason::Silent { sentence: "no answer".into(), quiet: secs(1) },
            AlertKind::BrokerLost,
        ),
        (LossReason::Refused("bad user name".into()), AlertKind::BrokerRefused),
        (LossReason::TakenOver, AlertKind::ClientIdTaken),
    ] {
        let mut house = House::running(vec![watched("lamp", 30)]);
        house.turn_the_page();
        house.lose(Connection::Watch, reason);
        assert_eq!(house.count(kind), 1);
        if kind == AlertKind::ClientIdTaken {
            assert!(house.alerts(kind)[0].1.message.contains("`iotmonitor`"), "names the clientid");
        }
        house.connect_watch();
        // After a take-over only a connection that has lasted is one.
        house.advance(secs(60));
        assert_eq!(house.count(AlertKind::BrokerBack), 1);
    }
}

#[test]
fn two_programs_with_one_clientid_are_reported_once_however_long_they_go_on() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.turn_the_page();
    for _ in 0..5 {
        house.lose(Connection::Watch, LossReason::TakenOver);
        house.advance(secs(30));
        house.connect_watch();
        house.advance(secs(1));
    }
    assert_eq!(house.count(AlertKind::ClientIdTaken), 1);
    assert_eq!(house.count(AlertKind::BrokerBack), 0);
    house.advance(secs(60));
    assert_eq!(house.count(AlertKind::BrokerBack), 1);
    house.lose(Connection::Watch, LossReason::TakenOver);
    assert_eq!(house.count(AlertKind::ClientIdTaken), 2, "a new episode is reported again");
}

#[test]
fn expire_is_not_repeated_into_the_void_and_goes_on_after_an_outage() {
    let repeating = DeviceSpec { expire_repeat: Some(secs(10)), ..watched("lamp", 30) };
    let mut house = House::running(vec![repeating]);
    house.advance(secs(35));
    house.lose_watch();
    house.turn_the_page();
    house.advance(secs(100));
    house.connect_watch();
    house.advance(secs(10));
    assert_eq!(expiry(&house, "lamp").len(), 1);
}

#[test]
fn a_device_whose_filter_the_broker_refused_does_not_expire() {
    let mut house = House::dark(vec![watched("lamp", 30), watched("pump", 30)]);
    house.broker.refused.insert(filter("home/lamp/#"));
    house.power_up();
    house.advance(secs(1000));
    house.expect_silence_on("expire/lamp");
    assert_eq!(expiry(&house, "pump").len(), 1);
    assert_eq!(house.count(AlertKind::FilterRefused), 1);
    assert!(house.alerts(AlertKind::FilterRefused)[0].1.message.contains("home/lamp/#"));
}

#[test]
fn a_refusal_is_reported_once_also_across_reconnections() {
    let mut house = House::dark(vec![watched("lamp", 30)]);
    house.broker.refused.insert(filter("home/lamp/#"));
    house.power_up();
    flap(&mut house, 5, secs(40));
    assert_eq!(house.count(AlertKind::FilterRefused), 1);
    house.expect_silence_on("expire/lamp");
    // Taken at last, it has its full timeout; refused again, that is news.
    house.broker.refused.clear();
    flap(&mut house, 1, secs(40));
    let back = house.mono;
    house.advance(secs(40));
    assert_eq!(expiry(&house, "lamp"), [back + secs(30)]);
    house.broker.refused.insert(filter("home/lamp/#"));
    flap(&mut house, 1, secs(1));
    assert_eq!(house.count(AlertKind::FilterRefused), 2);
}

/// A broker drops a client that says nothing for one and a half times the keep alive.
#[test]
fn a_hold_up_in_which_the_broker_hung_up_does_not_count() {
    let mut house = House::running(vec![watched("lamp", 300)]);
    house.hear("home/lamp/x");
    house.advance(secs(100));
    house.broker.acknowledges = false;
    house.stall(secs(1000));
    house.happen(Event::TimePassed);
    house.lose_watch();
    house.broker.acknowledges = true;
    house.connect_watch();
    let back = house.mono;
    house.advance(secs(400));
    assert_eq!(expiry(&house, "lamp"), [back + secs(200)]);
}

#[test]
fn a_hold_up_counts_once_a_round_trip_shows_that_the_line_stood() {
    let mut house = House::running(vec![watched("lamp", 300), watched("pump", 2000)]);
    house.hear("home/pump/x");
    house.advance(secs(100));
    house.stall(secs(1000));
    house.happen(Event::TimePassed);
    assert_eq!(expiry(&house, "lamp"), [house.mono]);
    house.lose_watch();
    house.connect_watch();
    let back = house.mono;
    house.advance(secs(1000));
    assert_eq!(expiry(&house, "pump"), [back + secs(900)]);
}

/// The answer to a probe from before a hold-up stands on the socket before the contacts of the
/// hold-up.
#[test]
fn no_verdict_after_a_hold_up_comes_before_what_waits_on_the_socket() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.broker.acknowledges = false;
    house.advance(secs(30));
    house.stall(secs(100));
    house.happen(Event::TimePassed);
    house.settle_acknowledgements();
    house.hear("home/lamp/x");
    house.broker.acknowledges = true;
    house.settle_acknowledgements();
    house.advance(secs(29));
    house.expect_silence_on("expire/lamp");
    house.advance(secs(1));
    assert_eq!(expiry(&house, "lamp").len(), 1);
}
