//! What happens when, without any randomness.

use crate::world::{Fate, Mistake, World};
use iotmonitor_core::model::cluster::{Allowed, Item, Items, NodeName};
use iotmonitor_core::model::device_name::DeviceName;
use std::time::Duration;

pub fn agent(name: &str) -> Item {
    Item::Agent(DeviceName::new(name).unwrap())
}

pub fn seconds(time: f64) -> Duration {
    Duration::from_secs_f64(time)
}

/// Two agents, one of which runs nowhere but on `a` and `b`, the house and three shards.
pub fn items() -> Items {
    let on = ["a", "b"].map(|name| NodeName::new(name).unwrap());
    let agents = [
        (agent("rules"), Allowed::Everywhere),
        (agent("zigbee"), Allowed::On(on.to_vec())),
        (Item::House, Allowed::Everywhere),
    ];
    Items::new(agents.into_iter().chain((0..3).map(|n| (Item::Shard(n), Allowed::Everywhere))))
}

/// Three nodes that have everything.
pub fn settled(rates: &[i64], mistake: Option<Mistake>) -> World {
    let mut world = World::new(rates, items(), mistake);
    world.run_until(seconds(20.0), Fate::FAST);
    assert_eq!(world.unowned(), [], "{world:#?}");
    world
}

#[test]
fn three_nodes_that_start_share_everything_after_they_have_settled() {
    let mut world = World::new(&[0, 10_000, -10_000], items(), None);
    world.run_until(seconds(8.9), Fate::FAST);
    assert_eq!(world.tally.starts, 0);
    world.run_until(seconds(11.0), Fate::FAST);
    assert_eq!(world.unowned(), []);
    assert_eq!(world.tally.starts, 6);
    assert!(world.nodes.iter().all(|node| !node.runs.is_empty()), "{:#?}", world.nodes);
}

/// How long no node has an item, looked at each 10 ms until a time.
fn gaps(world: &mut World, until: Duration, fate: Fate) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    while world.now < until {
        world.run_until(world.now + seconds(0.01), fate);
        let begin = if world.unowned().is_empty() { None } else { since.or(Some(world.now)) };
        since = begin;
        longest = longest.max(since.map_or(longest, |since| world.now - since));
    }
    longest
}

#[test]
fn a_node_without_power_is_replaced_within_ten_seconds_and_nothing_else_moves() {
    for tenth in 0..20 {
        let mut world = settled(&[10_000, -10_000, 3_000], None);
        world.run_until(world.now + seconds(f64::from(tenth) / 10.0), Fate::FAST);
        let before = world.clone();
        world.power_off(0, seconds(60.0));
        let end = world.now + seconds(15.0);
        let gap = gaps(&mut world, end, Fate::FAST);
        assert!(gap > seconds(6.0) && gap < seconds(10.0), "{gap:?}");
        for node in 1..3 {
            let kept = &before.nodes[node].runs;
            assert!(kept.iter().all(|run| world.nodes[node].runs.get(run.0) == Some(run.1)));
        }
        assert_eq!(world.double, None);
    }
}

#[test]
fn agents_are_not_handed_back_and_shards_are() {
    let mut world = settled(&[0, 0, 0], None);
    let first = world.clone();
    world.power_off(0, seconds(20.0));
    world.run_until(seconds(39.0), Fate::FAST);
    assert!(world.nodes[0].runs.is_empty());
    let agents = [agent("rules"), agent("zigbee"), Item::House];
    let owners = agents.clone().map(|item| world.owner(&item));
    world.run_until(seconds(70.0), Fate::FAST);
    assert_eq!(agents.map(|item| world.owner(&item)), owners);
    for shard in (0..3).map(Item::Shard) {
        assert_eq!(world.owner(&shard), first.owner(&shard));
    }
}

/// Lets a node use another version of the shared sections, with these further agents.
fn take_sections(world: &mut World, node: usize, number: u64, agents: &[Item]) {
    let all = items();
    let old = all.iter().map(|(item, allowed)| (item.clone(), allowed.clone()));
    let more = agents.iter().map(|item| (item.clone(), Allowed::Everywhere));
    let all = Items::new(old.chain(more));
    world.call(node, |member, now| member.set_config(now, Some(number)));
    world.call(node, |member, now| member.set_items(now, all));
}

fn twelve() -> Vec<Item> {
    (0..12).map(|number| agent(&format!("new{number}"))).collect()
}

#[test]
fn a_node_that_cannot_use_the_shared_sections_is_given_none_of_their_agents() {
    let mut world = settled(&[0, 0, 0], None);
    let agents = twelve();
    for node in 0..2 {
        take_sections(&mut world, node, 8, &agents);
    }
    world.run_until(seconds(30.0), Fate::FAST);
    assert!(agents.iter().all(|agent| world.owner(agent).is_some_and(|owner| owner < 2)));
    let plan = |world: &World| world.store.contents().plan.as_ref().map(|plan| plan.revision);
    let before = plan(&world);
    world.run_until(seconds(60.0), Fate::FAST);
    assert_eq!(plan(&world), before, "nothing goes to and fro");

    // It still has its own, and takes over what it knows.
    world.power_off(0, seconds(120.0));
    world.power_off(1, seconds(120.0));
    world.run_until(seconds(80.0), Fate::FAST);
    assert_eq!(world.owner(&agent("rules")), Some(2));
    assert!(world.double.is_none());
}

#[test]
fn agents_of_new_sections_are_spread_although_one_node_takes_them_first() {
    let mut world = settled(&[0, 0, 0], None);
    let agents = twelve();
    for node in [2, 0, 1] {
        take_sections(&mut world, node, 8, &agents);
        world.run_until(world.now + seconds(1.0), Fate::FAST);
    }
    world.run_until(world.now + seconds(6.0), Fate::FAST);
    let owned = |node| agents.iter().filter(|agent| world.owner(agent) == Some(node)).count();
    let counts = [0, 1, 2].map(owned);
    assert!(counts.iter().sum::<usize>() == 12 && counts.iter().all(|&n| n > 0), "{counts:?}");
}

#[test]
fn what_lasts_shorter_than_a_lease_moves_nothing() {
    let faults: [fn(&mut World); 5] = [
        |world| world.lose_writes(0, seconds(2.1)),
        |world| world.kill_monitor(1, seconds(1.5)),
        |world| world.pause(1, seconds(3.0), false),
        |world| world.pause(1, seconds(3.0), true),
        |world| {
            let until = world.now + seconds(3.0);
            world.run_until(until, Fate::ANSWER_LOST);
        },
    ];
    for fault in faults {
        let mut world = settled(&[0, 0, 0], None);
        let before = world.clone();
        fault(&mut world);
        world.run_until(seconds(60.0), Fate::FAST);
        for (was, node) in before.nodes.iter().zip(&world.nodes) {
            assert_eq!(was.runs, node.runs);
        }
        assert_eq!((world.tally.starts, world.tally.fences), (before.tally.starts, 0));
    }
}

#[test]
fn a_monitor_that_is_killed_has_its_parts_again_as_soon_as_it_is_back() {
    for tenth in 0..20 {
        let mut world = settled(&[0, 0, 0], None);
        world.run_until(world.now + seconds(f64::from(tenth) / 10.0), Fate::FAST);
        let house = world.owner(&Item::House).unwrap();
        world.kill_monitor(house, seconds(1.0));
        assert!(world.unowned().contains(&Item::House));
        let end = world.now + seconds(30.0);
        let gap = gaps(&mut world, end, Fate::FAST);
        assert!(gap < seconds(1.02), "{gap:?}");
    }
}

#[test]
fn a_node_that_drains_gives_everything_away_without_a_timeout() {
    let mut world = settled(&[0, 0, 0], None);
    let before = world.clone();
    world.drain(0, true);
    let gap = gaps(&mut world, seconds(25.0), Fate::FAST);
    // A stop takes 1.2 s, and the next owner reads the plan each second.
    assert!(gap < seconds(2.4), "{gap:?}");
    assert!(world.nodes[0].runs.is_empty() && world.double.is_none());
    assert_eq!(world.tally.fences, 0);
    for node in 1..3 {
        let kept = &before.nodes[node].runs;
        assert!(kept.keys().all(|item| world.nodes[node].runs.contains_key(item)));
    }
}

#[test]
fn an_item_is_moved_where_a_person_wants_it_and_nowhere_else() {
    let mut world = settled(&[0, 0, 0], None);
    let rules = agent("rules");
    let to = (world.owner(&rules).unwrap() + 1) % 3;
    world.move_to(&rules, to);
    world.run_until(seconds(30.0), Fate::FAST);
    assert_eq!(world.owner(&rules), Some(to));
    // The section of this one allows only the first two.
    let zigbee = agent("zigbee");
    let stays = world.owner(&zigbee);
    world.move_to(&zigbee, 2);
    world.run_until(seconds(40.0), Fate::FAST);
    assert_eq!(world.owner(&zigbee), stays);
}

#[test]
fn without_the_broker_a_node_gives_up_what_needs_it() {
    let mut world = settled(&[0, 0, 0], None);
    let agents: Vec<Option<usize>> =
        [agent("rules"), agent("zigbee")].iter().map(|item| world.owner(item)).collect();
    let house = world.owner(&Item::House).unwrap();
    world.call(house, |member, now| member.set_broker(now, false));
    world.run_until(seconds(30.0), Fate::FAST);
    assert!(world.nodes[house].runs.keys().all(|item| !item.needs_broker()));
    assert_eq!(world.unowned(), []);
    assert_eq!(
        agents,
        [agent("rules"), agent("zigbee")].iter().map(|item| world.owner(item)).collect::<Vec<_>>()
    );
    // A broker that no node can reach moves nothing.
    for node in 0..3 {
        world.call(node, |member, now| member.set_broker(now, false));
    }
    // They learn of it from each other.
    world.run_until(seconds(40.0), Fate::FAST);
    let starts = world.tally.starts;
    world.run_until(seconds(60.0), Fate::FAST);
    assert_eq!((world.tally.starts, world.unowned()), (starts, vec![]));
}

#[test]
fn the_end_of_a_session_and_its_new_owners_are_one_commit() {
    let mut world = settled(&[0, 0, 0], None);
    world.power_off(0, seconds(60.0));
    while world.tally.evictions == 0 {
        world.step(Fate::FAST);
    }
    let contents = world.store.contents();
    let (node, plan) = (&contents.nodes[&world.nodes[0].name], contents.plan.as_ref().unwrap());
    assert!(node.value.evicted && node.revision == plan.revision);
    assert!(plan.value.owners.values().all(|owner| owner.node != world.nodes[0].name));
    assert_eq!(plan.value.owners.len(), 6);
}

#[test]
fn a_store_that_loses_writes_ends_the_sessions_that_they_renewed() {
    let mut world = settled(&[0, 0, 0], None);
    world.lose_writes(3, seconds(5.0));
    world.run_until(world.now + seconds(8.0), Fate::FAST);
    assert!(world.tally.fences >= 2, "{:?}", world.tally);
    world.run_until(world.now + seconds(10.0), Fate::FAST);
    assert_eq!((world.unowned(), world.double), (vec![], None));
}
