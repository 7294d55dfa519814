//! The covering plan against a naive matcher, and when it is given up.

use super::*;
use crate::model::plan::plan;
use proptest::prelude::*;

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).unwrap()
}

fn own() -> Vec<TopicFilter> {
    ["m/base/up/#", "m/base/status/#"].map(filter).to_vec()
}

fn texts(plan: &Plan) -> Vec<&str> {
    plan.iter().map(|subscription| subscription.filter.as_str()).collect()
}

/// Filters `before/0/after`, `before/1/after` and so on.
fn row(count: usize, before: &str, after: &str) -> Vec<Subscription> {
    (0..count).map(|n| wanted(filter(&format!("{before}{n}{after}")), QoS::AtMostOnce)).collect()
}

fn covered(all: &[Vec<Subscription>], most: usize) -> Vec<String> {
    let plan = cover(plan(all.iter().flatten().cloned()), most, &own());
    texts(&plan).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_largest_group_goes_first_and_no_more_than_has_to() {
    let (large, small) = (row(20, "a/", "/s/#"), row(10, "b/", "/s"));
    assert_eq!(covered(&[large.clone(), small.clone()], 30).len(), 30);
    let once = covered(&[large.clone(), small.clone()], 29);
    assert_eq!(once.len(), 11);
    assert!(once.contains(&"a/+/s/#".to_owned()), "{once:?}");
    assert_eq!(covered(&[large, small], 10), ["a/+/s/#", "b/+/s"]);
}

#[test]
fn few_are_left_as_they_are() {
    assert_eq!(covered(&[row(FEWEST - 1, "a/", "/s")], 1).len(), FEWEST - 1);
    assert_eq!(covered(&[row(FEWEST, "a/", "/s")], 1), ["a/+/s"]);
}

#[test]
fn what_the_monitor_publishes_is_not_brought() {
    for (before, after) in [("m/", "/#"), ("", "/base/up"), ("m/", "/status/x"), ("m/base/", "")] {
        assert_eq!(covered(&[row(20, before, after)], 10).len(), 20, "{before}+{after}");
    }
    assert_eq!(covered(&[row(20, "m/", "/sensors/#")], 10), ["m/+/sensors/#"]);
}

#[test]
fn a_hello_or_an_availability_topic_is_overlapped_by_no_wildcard() {
    let of = |text: &str, replay| {
        vec![Subscription { replay, ..wanted(filter(text), QoS::AtLeastOnce) }]
    };
    for replay in [false, true] {
        assert_eq!(covered(&[row(20, "a/", "/s"), of("a/x/s", replay)], 10).len(), 21);
        assert_eq!(covered(&[row(20, "a/", "/s"), of("a/x/+", replay)], 10).len(), 21);
        let beside = covered(&[row(20, "a/", "/s"), of("a/x/hello", replay)], 10);
        assert_eq!(beside, ["a/+/s", "a/x/hello"]);
    }
}

#[test]
fn a_wider_filter_that_is_asked_for_anyway_is_not_overlapped() {
    let wide = vec![wanted(filter("a/x/#"), QoS::AtMostOnce)];
    assert_eq!(covered(&[row(20, "a/", "/s"), wide], 10).len(), 21);
    // One that the wildcard covers is in the wildcard.
    let narrow = vec![wanted(filter("a/x/s/t"), QoS::AtMostOnce)];
    assert_eq!(covered(&[row(20, "a/", "/s/#"), narrow], 10), ["a/+/s/#"]);
}

#[test]
fn topics_of_the_broker_stay_single() {
    assert_eq!(covered(&[row(20, "$SYS/", "/load")], 10).len(), 20);
    let beside = vec![wanted(filter("$SYS/load"), QoS::AtMostOnce)];
    assert_eq!(covered(&[row(20, "", "/load"), beside], 10).len(), 21);
}

#[test]
fn covering_ends_with_its_allowance_of_comparisons() {
    let kinds: Plan =
        (0..100).flat_map(|kind| row(10, "home/", &format!("/kind{kind}/#"))).collect();
    let all = plan(kinds.into_iter());
    let left = |comparisons| cover_within(all.clone(), 1, &own(), comparisons).len();
    // Of the ten devices one each, for all kinds.
    assert_eq!(left(MOST_COMPARISONS), 10);
    assert_eq!(left(3 * all.len()), all.len() - 3 * 99);
    assert_eq!(left(0), all.len());
}

#[test]
fn a_surplus_of_more_than_half_for_ten_seconds_is_too_much() {
    let second = Duration::from_secs(1);
    // Messages a second that a device wants, and that none wants.
    for (wanted, surplus, is_too_much) in
        [(100, 110, true), (100, 90, false), (0, 9, false), (0, 11, true)]
    {
        let mut covering = Covering::default();
        covering.planned(second, true);
        let mut noticed = None;
        for at in 1..=30_u32 {
            let now = second * at;
            (0..wanted).for_each(|_| covering.came());
            for _ in 0..surplus {
                covering.came();
                if covering.was_unwanted(now) && noticed.is_none() {
                    noticed = Some(now - second);
                }
            }
        }
        assert_eq!(noticed, is_too_much.then_some(SURPLUS_TIME), "{wanted} and {surplus}");
    }
}

#[test]
fn nothing_is_counted_where_no_wildcard_is_used() {
    let mut covering = Covering::default();
    for at in 0..100_000 {
        covering.came();
        assert!(!covering.was_unwanted(Duration::from_millis(at)));
    }
}

#[test]
fn wildcards_hold_until_what_replaces_them_is_granted() {
    let mut covering = Covering::default();
    assert!(covering.is_wanted() && covering.is_in_force());
    covering.give_up(Cause::Surplus);
    assert!(!covering.is_wanted() && covering.is_in_force());
    assert!(!covering.answered(false));
    assert!(!covering.is_wanted() && !covering.is_in_force());
    covering.reloaded();
    assert!(!covering.is_wanted(), "for the life of the process");
}

#[test]
fn wildcards_that_are_refused_are_asked_for_again_by_a_reload() {
    let mut covering = Covering::default();
    covering.give_up(Cause::Refused);
    covering.disconnected();
    assert!(!covering.is_in_force());
    covering.reloaded();
    assert!(covering.is_wanted());
}

#[test]
fn where_the_broker_takes_no_single_ones_the_wildcards_stay() {
    let mut covering = Covering::default();
    covering.give_up(Cause::Surplus);
    assert!(covering.answered(true));
    assert!(covering.is_wanted());
    covering.planned(Duration::ZERO, true);
    for at in 0..100_000 {
        covering.came();
        assert!(!covering.was_unwanted(Duration::from_millis(at)), "it was tried");
    }
    let mut covering = Covering::default();
    covering.give_up(Cause::Refused);
    assert!(!covering.answered(true), "both are refused: there is nothing else to ask for");
}

/// Section 4.7 of MQTT 5 word by word, without the code under test.
fn naive(filter: &str, name: &str) -> bool {
    fn levels(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            ([first, filter @ ..], [level, name @ ..]) => {
                (*first == "+" || first == level) && levels(filter, name)
            }
            _ => false,
        }
    }
    let (filter, name): (Vec<_>, Vec<_>) = (filter.split('/').collect(), name.split('/').collect());
    let is_hidden = name[0].starts_with('$') && matches!(filter[0], "+" | "#");
    !is_hidden && levels(&filter, &name)
}

fn level() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "m", "base", "up", "", "$S"])
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let part = prop_oneof![12 => level(), 1 => Just("+")];
    let text = (prop::collection::vec(part, 1..4), prop::bool::weighted(0.3)).prop_map(
        |(mut levels, rest)| {
            if rest {
                levels.push("#");
            }
            levels.join("/")
        },
    );
    let kind = prop_oneof![20 => Just((0, false)), 1 => Just((1, false)), 1 => Just((1, true))];
    (text, kind).prop_filter_map("a filter is not empty", |(text, (qos, replay))| {
        let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        TopicFilter::new(text).ok().map(|filter| Subscription { filter, qos, replay })
    })
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic is not empty", |text| !text.is_empty())
}

/// The subscriptions that bring a message on this topic.
fn bringing<'p>(plan: &'p Plan, topic: &str) -> Vec<&'p Subscription> {
    plan.iter().filter(|subscription| naive(subscription.filter.as_str(), topic)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_message_is_lost_and_none_comes_twice(
        all in prop::collection::vec(subscription(), 0..120),
        most in 1_usize..30,
        topics in prop::collection::vec(topic(), 100),
    ) {
        let before = plan(all.into_iter());
        let after = cover(before.clone(), most, &own());
        prop_assert!(after.len() <= before.len());
        let is_new = |subscription: &Subscription| !before.contains(subscription);
        for topic in &topics {
            let (had, has) = (bringing(&before, topic), bringing(&after, topic));
            if has.iter().any(|subscription| is_new(subscription)) {
                prop_assert_eq!(has.len(), 1, "`{}` comes twice: {:?}", topic, has);
                let is_own = own().iter().any(|own| naive(own.as_str(), topic));
                prop_assert!(!is_own && !topic.starts_with('$'), "{}", topic);
                prop_assert!(had.iter().all(|subscription| is_coverable(subscription)));
            } else {
                prop_assert_eq!(had, has);
            }
        }
    }
}
