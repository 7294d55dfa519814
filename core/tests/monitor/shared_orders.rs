//! What people disable, enable and silence on any node of a cluster.

use super::agents::UNIT;
use super::expect::{agent, device_name, watched};
use super::sharing::{house_of, pinned, shared};
use super::timetable::{House, secs};
use iotmonitor_core::model::alert::AlertKind;
use iotmonitor_core::model::cluster::orders::{OrderStamp, SharedChoice, SharedOrders, TimedOrder};
use iotmonitor_core::model::cluster::sharing::ClusterFact;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::view::{DeviceView, Liveness};
use std::sync::Arc;
use std::time::Duration;

/// An agent on this node and one that another node has.
fn house() -> House {
    let devices = vec![agent("box", 30), agent("far", 30)];
    let agents = [("box", pinned("pi1")), ("far", shared())];
    let mut house = house_of(devices, &agents);
    house.advance(secs(1));
    read(&mut house, SharedOrders::default());
    house.turn_the_page();
    house
}

fn read(house: &mut House, orders: SharedOrders) {
    house.happen(Event::Cluster(ClusterFact::Orders(Arc::new(orders))));
}

fn order(stamp: u64, given: Duration, lasts: Option<u64>) -> TimedOrder {
    TimedOrder { stamp: OrderStamp { stamp }, given: given.as_secs(), lasts }
}

fn choice(enabled: bool, time: TimedOrder) -> SharedChoice {
    SharedChoice { enabled, enabled_before: false, time }
}

fn chosen(name: &str, choice: SharedChoice) -> SharedOrders {
    SharedOrders { choices: [(device_name(name), choice)].into(), ..SharedOrders::default() }
}

fn silenced(name: Option<&str>, time: TimedOrder) -> SharedOrders {
    let silences = [(name.map(device_name), time)].into();
    SharedOrders { silences, ..SharedOrders::default() }
}

fn view(house: &House, name: &str) -> DeviceView {
    house.monitor.view(&device_name(name)).unwrap()
}

#[test]
fn what_is_disabled_on_another_node_is_so_here_until_it_is_enabled() {
    let mut house = house();
    let disabled = || chosen("box", choice(false, order(1, Duration::ZERO, None)));
    read(&mut house, disabled());
    assert_eq!(view(&house, "box").state, Liveness::Disabled);
    assert_eq!((house.stops(UNIT).len(), house.count(AlertKind::Disabled)), (1, 1));
    // Another order changes nothing about it.
    let others = SharedOrders {
        silences: silenced(None, order(2, house.now().wall, Some(60))).silences,
        ..disabled()
    };
    read(&mut house, others);
    assert_eq!((house.stops(UNIT).len(), house.count(AlertKind::Disabled)), (1, 1));
    read(&mut house, SharedOrders::default());
    assert_ne!(view(&house, "box").state, Liveness::Disabled);
    assert_eq!(house.count(AlertKind::Enabled), 1);
}

#[test]
fn an_order_that_this_node_has_taken_is_carried_out_once() {
    let mut house = house();
    let given = house.now().wall;
    house.happen(Event::Paused { device: device_name("box"), span: secs(7_200) });
    house.happen(Event::Silenced { device: None, span: secs(600) });
    house.advance(secs(1));
    read(
        &mut house,
        SharedOrders {
            silences: silenced(None, order(1, given, Some(600))).silences,
            ..chosen("box", choice(false, order(2, given, Some(7_200))))
        },
    );
    assert_eq!((house.count(AlertKind::Disabled), house.count(AlertKind::Silenced)), (1, 1));
    // Its time is over on each node by itself, and the order may stay in the store.
    house.advance(secs(7_300));
    assert_eq!((house.count(AlertKind::Enabled), house.count(AlertKind::Unsilenced)), (1, 1));
    read(&mut house, chosen("box", choice(false, order(2, given, Some(7_200)))));
    assert_eq!(house.count(AlertKind::Disabled), 1);
}

#[test]
fn an_agent_of_another_node_is_disabled_here_too_and_that_node_reports_it() {
    let mut house = house();
    assert_eq!(view(&house, "far").state, Liveness::Elsewhere);
    read(&mut house, chosen("far", choice(false, order(1, Duration::ZERO, None))));
    assert_eq!(view(&house, "far").state, Liveness::Disabled);
    assert_eq!(house.count(AlertKind::Disabled), 0);
    house.own("far", 9);
    house.advance(secs(60));
    assert!(house.starts("iotmonitor-agent-far.service").is_empty(), "whoever has it");
    read(&mut house, SharedOrders::default());
    assert_eq!(house.starts("iotmonitor-agent-far.service").len(), 1);
    assert_eq!(house.count(AlertKind::Enabled), 1);
}

#[test]
fn the_first_orders_replace_what_this_node_has_recorded() {
    let mut house = house_of(vec![watched("lamp", 60), watched("plug", 60)], &[]);
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.happen(Event::Silenced { device: Some(device_name("plug")), span: secs(600) });
    house.turn_the_page();
    // It holds without the store.
    house.advance(secs(30));
    assert_eq!(view(&house, "lamp").state, Liveness::Disabled);
    read(&mut house, chosen("plug", choice(false, order(1, Duration::ZERO, None))));
    assert_ne!(view(&house, "lamp").state, Liveness::Disabled);
    assert_eq!(view(&house, "plug").state, Liveness::Disabled);
    assert_eq!(view(&house, "plug").silenced_until, None);
}

#[test]
fn a_silence_of_another_node_ends_when_it_ends_there() {
    let mut house = house();
    let given = house.now().wall - secs(600);
    read(&mut house, silenced(Some("box"), order(1, given, Some(3_600))));
    let until = house.now().wall + secs(3_000);
    assert_eq!(view(&house, "box").silenced_until, Some(until));
    assert_eq!(house.count(AlertKind::Silenced), 1);
    // Somebody has made it longer.
    let now = house.now().wall;
    read(&mut house, silenced(Some("box"), order(2, now, Some(7_200))));
    assert_eq!(view(&house, "box").silenced_until, Some(house.now().wall + secs(7_200)));
    read(&mut house, SharedOrders::default());
    assert_eq!(view(&house, "box").silenced_until, None);
    assert_eq!(house.count(AlertKind::Unsilenced), 1);
    // What was over before this node came is not begun again.
    read(&mut house, silenced(Some("box"), order(3, given, Some(60))));
    assert_eq!((view(&house, "box").silenced_until, house.count(AlertKind::Silenced)), (None, 2));
}
