//! The notices that connected programs receive: each change once, and nothing else.

use super::expect::{agent, device_name, watched};
use super::timetable::{House, START, secs};
use iotmonitor_core::model::action::Action;
use iotmonitor_core::model::event::Event;
use iotmonitor_core::model::notice::Notice;
use iotmonitor_core::model::unit::{ActiveState, UnitReport};

/// Notices in short, with the state that each shows.
fn notices(house: &House) -> Vec<String> {
    let notices = house.log.iter().filter_map(|(_, action)| match action {
        Action::Notify(notice) => Some(match notice {
            Notice::Expired { device, last_contact } => {
                format!("{device} expired {}", last_contact.unwrap_or_default().as_secs())
            }
            Notice::Recovered { device, contact } => {
                format!("{device} recovered {}", contact.as_secs())
            }
            Notice::AgentRestarted { device, main_pid } => format!("{device} restarted {main_pid}"),
            Notice::StateChanged(view) => format!("{} is {}", view.name, view.state.as_str()),
            Notice::UnitChanged(view) => {
                let agent = view.agent.as_ref().unwrap();
                format!("{} {} {} {}", view.name, agent.state, agent.main_pid, agent.restarts)
            }
            Notice::SummaryChanged(_) => panic!("the daemon sends that"),
        }),
        _ => None,
    });
    notices.collect()
}

#[test]
fn silence_and_return_are_announced_with_the_new_state() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    assert!(notices(&house).is_empty(), "a connection does not change a device");
    house.hear("home/lamp/x");
    house.hear("home/lamp/x");
    assert_eq!(notices(&house), ["lamp is alive"]);
    house.turn_the_page();
    house.advance(secs(100));
    assert_eq!(notices(&house), [format!("lamp expired {START}"), "lamp is expired".to_owned()]);
    house.turn_the_page();
    house.lose_watch();
    house.connect_watch();
    assert!(notices(&house).is_empty());
    house.hear("home/lamp/x");
    let back = format!("lamp recovered {}", START + 100);
    assert_eq!(notices(&house), [back, "lamp is alive".to_owned()]);
}

#[test]
fn a_persons_choice_is_announced() {
    let mut house = House::running(vec![watched("lamp", 30)]);
    house.turn_the_page();
    house.happen(Event::Disabled { device: device_name("lamp") });
    house.happen(Event::Enabled { device: device_name("lamp") });
    assert_eq!(notices(&house), ["lamp is disabled", "lamp is unknown"]);
}

#[test]
fn a_restart_is_announced_and_a_first_start_is_not() {
    let mut house = House::running(vec![agent("box", 0)]);
    let last = notices(&house).pop();
    assert_eq!(last.as_deref(), Some("box active 101 0"));
    assert!(!notices(&house).iter().any(|notice| notice.contains("restarted")));
    house.turn_the_page();
    let unit = house.manager.units.keys().next().unwrap().clone();
    let before = house.manager.units[&unit].clone();
    let died = UnitReport { active: ActiveState::Activating, main_pid: 0, ..before.clone() };
    house.happen(Event::UnitChanged(Box::new(died)));
    let report =
        UnitReport { restarts: 1, ..house.manager.run(&unit, &before.definition.unwrap()) };
    house.happen(Event::UnitChanged(Box::new(report)));
    let all = notices(&house);
    assert_eq!(all.iter().filter(|notice| *notice == "box restarted 102").count(), 1, "{all:?}");
    assert_eq!(all.last().map(String::as_str), Some("box active 102 1"));
}
