//! One member, whose store is played by hand.

use iotmonitor_core::machines::cluster::roster::{NodeRoster, RosterChange};
use iotmonitor_core::machines::cluster::{Guarded, Member, MemberOutcome, MemberSettings};
use iotmonitor_core::model::cluster::EndReason;
use iotmonitor_core::model::cluster::store::{
    Compare, Put, RequestNumber, Revision, StoreAnswer, StoreContents, StoreRequest, Transaction,
    Versioned,
};
use iotmonitor_core::model::cluster::timing::Timing;
use iotmonitor_core::model::cluster::{Items, NodeName, NodeRecord, SessionId};
use std::time::Duration;

const SESSION: SessionId = SessionId { boot: 1, number: 7 };

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn name() -> NodeName {
    NodeName::new("pi1").unwrap()
}

fn settings() -> MemberSettings {
    MemberSettings {
        name: name(),
        machine: "own".to_owned(),
        timing: Timing::new(at(8_000), at(1_000)).unwrap(),
        broker: true,
        drains: false,
        config: None,
    }
}

fn sent(outcomes: &[MemberOutcome]) -> Vec<(RequestNumber, StoreRequest)> {
    let sent = outcomes.iter().filter_map(|outcome| match outcome {
        MemberOutcome::Send { number, request } => Some((*number, request.clone())),
        _ => None,
    });
    sent.collect()
}

/// The renewal among what is sent, with what it compares and puts.
fn renewal(outcomes: &[MemberOutcome]) -> (RequestNumber, Transaction, NodeRecord) {
    let mut all = sent(outcomes).into_iter().filter_map(|(number, request)| match request {
        StoreRequest::Commit(transaction) => match transaction.puts.clone().as_slice() {
            [Put::Node(_, record)] => Some((number, transaction, record.clone())),
            _ => None,
        },
        StoreRequest::Read => None,
    });
    all.next().unwrap_or_else(|| panic!("no renewal in {outcomes:?}"))
}

fn read(outcomes: &[MemberOutcome]) -> RequestNumber {
    let mut reads =
        sent(outcomes).into_iter().filter(|(_, request)| *request == StoreRequest::Read);
    reads.next().unwrap_or_else(|| panic!("no read in {outcomes:?}")).0
}

fn holding(revision: u64, record: &NodeRecord) -> StoreAnswer {
    let found = Versioned { revision: Revision(revision), value: record.clone() };
    StoreAnswer::Read(StoreContents { nodes: [(name(), found)].into(), ..StoreContents::default() })
}

fn guarded(outcomes: &[MemberOutcome]) -> Option<Guarded> {
    outcomes.iter().find_map(|outcome| match outcome {
        MemberOutcome::Guard(guarded) => Some(*guarded),
        _ => None,
    })
}

/// A member that has sent its first renewal at 0.2 s, confirmed at 0.9 s.
fn joined() -> (Member, Vec<MemberOutcome>, NodeRecord) {
    let mut member = Member::new(settings(), Items::default(), SESSION);
    let first = read(&member.time_passed(at(100)));
    let out = member.answered(at(200), first, StoreAnswer::Read(StoreContents::default()));
    let (number, transaction, record) = renewal(&out);
    assert_eq!(transaction.compares, [Compare::Node(name(), None)]);
    let out = member.answered(at(900), number, StoreAnswer::Committed(Revision(1)));
    (member, out, record)
}

#[test]
fn the_deadline_counts_from_the_time_before_the_renewal_was_sent() {
    let (member, out, record) = joined();
    let deadline = at(200 + 6_000);
    assert_eq!(guarded(&out), Some(Guarded { session: SESSION, n: record.n, deadline }));
    assert!(member.next_deadline(at(900)) <= deadline);
}

#[test]
fn an_answer_after_the_deadline_finds_no_session() {
    let (mut member, _, _) = joined();
    let (number, ..) = renewal(&member.time_passed(at(2_200)));
    let out = member.answered(at(6_200), number, StoreAnswer::Committed(Revision(2)));
    assert!(out.contains(&MemberOutcome::Fence(EndReason::Deadline)) && guarded(&out).is_none());
    let pending = read(&out);
    assert!(sent(&member.fenced(at(6_500), SessionId { boot: 1, number: 8 })).is_empty());
    let out = member.answered(at(6_600), pending, StoreAnswer::Read(StoreContents::default()));
    assert_eq!(renewal(&out).2.session.number, 8);
}

#[test]
fn a_first_record_that_is_confirmed_after_its_own_deadline_is_built_upon() {
    let mut member = Member::new(settings(), Items::default(), SESSION);
    let first = read(&member.time_passed(at(100)));
    let out = member.answered(at(200), first, StoreAnswer::Read(StoreContents::default()));
    let (number, _, record) = renewal(&out);
    let out = member.answered(at(6_200), number, StoreAnswer::Committed(Revision(1)));
    assert_eq!(guarded(&out), None);
    let (number, transaction, _) = renewal(&out);
    let found = Versioned { revision: Revision(1), value: record };
    assert_eq!(transaction.compares, [Compare::Node(name(), Some(found))]);
    let out = member.answered(at(6_300), number, StoreAnswer::Committed(Revision(2)));
    assert_eq!(guarded(&out).map(|guarded| guarded.deadline), Some(at(6_200 + 6_000)));
}

#[test]
fn a_renewal_that_was_committed_unseen_extends_nothing_and_is_built_upon() {
    let (mut member, _, first) = joined();
    let (_, transaction, unseen) = renewal(&member.time_passed(at(2_200)));
    let base = Versioned { revision: Revision(1), value: first };
    assert_eq!(transaction.compares, [Compare::Node(name(), Some(base.clone()))]);
    // No answer within a second: the next one is sent, and refused.
    let out = member.time_passed(at(3_200));
    let (number, transaction, _) = renewal(&out);
    assert_eq!(transaction.compares, [Compare::Node(name(), Some(base))]);
    assert!(guarded(&out).is_none());
    let pending = read(&out);
    let out = member.answered(at(3_250), pending, StoreAnswer::Read(StoreContents::default()));
    // What was read after the commit of the first record does not contain it.
    assert!(out.contains(&MemberOutcome::Fence(EndReason::StoreLostWrites)), "{out:?}");

    let (mut member, ..) = joined();
    member.time_passed(at(2_200));
    let out = member.time_passed(at(3_200));
    let out = [out, member.answered(at(3_210), number, StoreAnswer::Refused)].concat();
    let out = member.answered(at(3_250), read(&out), holding(2, &unseen));
    assert!(guarded(&out).is_none(), "{out:?}");
    let (number, transaction, next) = renewal(&out);
    let found = Versioned { revision: Revision(2), value: unseen.clone() };
    assert_eq!(transaction.compares, [Compare::Node(name(), Some(found))]);
    assert!(next.n > unseen.n);
    let out = member.answered(at(3_300), number, StoreAnswer::Committed(Revision(3)));
    assert_eq!(guarded(&out).map(|guarded| guarded.deadline), Some(at(3_250 + 6_000)));
}

#[test]
fn a_late_answer_to_a_renewal_that_was_given_up_extends_nothing() {
    let (mut member, ..) = joined();
    let (late, ..) = renewal(&member.time_passed(at(2_200)));
    renewal(&member.time_passed(at(3_200)));
    assert_eq!(
        guarded(&member.answered(at(3_300), late, StoreAnswer::Committed(Revision(2)))),
        None
    );
}

#[test]
fn a_session_that_others_have_ended_does_not_return() {
    let (mut member, _, record) = joined();
    let ended = NodeRecord { evicted: true, ..record };
    let pending = read(&member.time_passed(at(1_200)));
    let out = member.answered(at(1_300), pending, holding(2, &ended));
    assert!(out.contains(&MemberOutcome::Fence(EndReason::Evicted)));
    for time in 14..80 {
        let out = member.time_passed(at(100 * time));
        assert!(sent(&out).iter().all(|(_, request)| *request == StoreRequest::Read), "{out:?}");
    }
}

#[test]
fn a_monitor_that_is_back_continues_only_from_what_its_guard_has_seen() {
    let (_, out, record) = joined();
    let before = guarded(&out).unwrap();
    let resume = || Member::resumed(settings(), Items::default(), before, []);
    let mut member = resume();
    let first = read(&member.time_passed(at(4_000)));
    let out = member.answered(at(4_010), first, holding(1, &record));
    let (number, ..) = renewal(&out);
    let out = member.answered(at(4_020), number, StoreAnswer::Committed(Revision(2)));
    assert_eq!(guarded(&out).map(|guarded| guarded.deadline), Some(at(4_010 + 6_000)));

    let mut member = resume();
    let first = read(&member.time_passed(at(4_000)));
    let older = NodeRecord { n: 0, ..record };
    let out = member.answered(at(4_010), first, holding(1, &older));
    assert!(out.contains(&MemberOutcome::Fence(EndReason::StoreLostWrites)));

    let out = resume().time_passed(before.deadline);
    assert!(out.contains(&MemberOutcome::Fence(EndReason::Deadline)));
}

#[test]
fn a_changed_time_for_others_to_wait_takes_effect_with_a_new_session() {
    let (_, out, record) = joined();
    let before = guarded(&out).unwrap();
    let longer = NodeRecord { evict_after: at(12_000), ..record };
    let mut member = Member::resumed(settings(), Items::default(), before, []);
    let first = read(&member.time_passed(at(3_000)));
    let out = member.answered(at(3_010), first, holding(1, &longer));
    assert_eq!(renewal(&out).2.evict_after, at(12_000));

    let mut member = Member::new(settings(), Items::default(), SessionId { boot: 1, number: 8 });
    let first = read(&member.time_passed(at(3_000)));
    let out = member.answered(at(3_010), first, holding(1, &longer));
    assert_eq!(renewal(&out).2.evict_after, at(8_000));
}

#[test]
fn no_two_processes_of_a_session_send_the_same_record() {
    let (_, out, record) = joined();
    let before = guarded(&out).unwrap();
    let first_record = |time| {
        let mut member = Member::resumed(settings(), Items::default(), before, []);
        let first = read(&member.time_passed(at(time)));
        renewal(&member.answered(at(time + 10), first, holding(1, &record))).2
    };
    // The record of the one that is started at first is under way when the next one is started.
    assert!(first_record(3_000).n < first_record(4_000).n);
}

#[test]
fn the_name_of_another_machine_is_left_to_it_while_it_lives() {
    let mut member = Member::new(settings(), Items::default(), SESSION);
    let (_, _, record) = joined();
    let mut other = NodeRecord { machine: "other".to_owned(), ..record };
    let mut told = 0;
    for second in 1..=20_u64 {
        let out = member.time_passed(at(1_000 * second));
        other.n = second;
        let out = member.answered(at(1_000 * second + 1), read(&out), holding(second, &other));
        told += out.iter().filter(|outcome| **outcome == MemberOutcome::NameTaken).count();
        assert!(sent(&out).is_empty(), "{out:?}");
    }
    assert_eq!(told, 1);
    // It renews no more, and can be taken for dead after 8 s.
    let mut taken_at = None;
    for second in 21..=40 {
        let out = member.time_passed(at(1_000 * second));
        let Some((number, _)) = sent(&out).first().cloned() else { break };
        let out = member.answered(at(1_000 * second + 1), number, holding(20, &other));
        if !sent(&out).is_empty() {
            taken_at = Some(second);
            break;
        }
    }
    assert_eq!(taken_at, Some(28));
}

#[test]
fn a_guard_that_ends_ends_the_session_and_another_one_begins_when_all_is_stopped() {
    let (mut member, _, record) = joined();
    let out = member.guard_ended(at(1_000));
    assert!(out.contains(&MemberOutcome::Fence(EndReason::GuardEnded)), "{out:?}");
    let again = member.guard_ended(at(1_100));
    let fences = again.iter().filter(|it| matches!(it, MemberOutcome::Fence(_)));
    assert_eq!(fences.count(), 0, "it has ended already");
    let late = member.time_passed(at(2_300));
    let renewals = sent(&late).into_iter().filter(|(_, it)| *it != StoreRequest::Read);
    assert_eq!(renewals.count(), 0, "nothing is renewed while something may run");
    let out = member.fenced(at(2_400), SessionId { boot: 1, number: 8 });
    let out = member.answered(at(2_500), read(&[out, late].concat()), holding(1, &record));
    assert_eq!(renewal(&out).2.session.number, 8);
}

#[test]
fn the_last_renewal_of_a_process_is_sent_at_once() {
    let (mut member, _, _) = joined();
    let (number, ..) = renewal(&member.renew_now(at(1_000)));
    let out = member.answered(at(1_010), number, StoreAnswer::Committed(Revision(2)));
    assert_eq!(guarded(&out).map(|guarded| guarded.deadline), Some(at(1_000 + 6_000)));
}

/// What `pi1` sees of another node.
fn other(name: &str, session: u64, n: u64) -> (NodeName, Versioned<NodeRecord>) {
    let record = NodeRecord {
        session: SessionId { boot: 2, number: session },
        n,
        evict_after: at(8_000),
        machine: name.to_owned(),
        evicted: false,
        broker: true,
        drains: false,
        config: None,
    };
    (NodeName::new(name).unwrap(), Versioned { revision: Revision(n), value: record })
}

#[test]
fn nodes_are_lost_and_back_once_and_one_that_leaves_is_not_lost() {
    let (mut member, _, own) = joined();
    let mut roster = NodeRoster::default();
    let mut time = 1_100;
    let mut reads = read(&member.time_passed(at(time)));
    let mut see = |nodes: Vec<(NodeName, Versioned<NodeRecord>)>| {
        let found = Versioned { revision: Revision(1), value: own.clone() };
        let nodes = nodes.into_iter().chain([(name(), found)]).collect();
        let contents = StoreContents { nodes, ..Default::default() };
        member.answered(at(time + 10), reads, StoreAnswer::Read(contents));
        time += 1_000;
        reads = read(&member.time_passed(at(time)));
        let changes = roster.look(&member);
        changes.into_iter().filter(|it| !matches!(it, RosterChange::Owners(_))).collect::<Vec<_>>()
    };
    let evicted = |mut node: (NodeName, Versioned<NodeRecord>)| {
        node.1.value.evicted = true;
        node
    };
    let drained = |mut node: (NodeName, Versioned<NodeRecord>)| {
        node.1.value.drains = true;
        node
    };
    let (nas, pi2) = (other("nas", 1, 1), other("pi2", 1, 1));
    assert_eq!(see(vec![evicted(nas.clone()), pi2.clone()]), [], "that was before");
    let back = RosterChange::NodeBack(nas.0.clone());
    assert_eq!(see(vec![other("nas", 2, 2), pi2.clone()]), [back]);
    let lost = RosterChange::NodeLost(nas.0.clone());
    assert_eq!(see(vec![evicted(other("nas", 2, 2)), pi2.clone()]), [lost]);
    assert_eq!(see(vec![evicted(other("nas", 2, 2)), pi2]), [], "once");
    assert_eq!(see(vec![evicted(other("nas", 2, 2)), drained(other("pi2", 1, 3))]), []);
    let gone = evicted(drained(other("pi2", 1, 3)));
    assert_eq!(see(vec![evicted(other("nas", 2, 2)), gone]), [], "it has left");
}
