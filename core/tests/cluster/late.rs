//! One member, whose changes and answers arrive late.

use crate::store::Store;
use crate::timetable::agent;
use iotmonitor_core::machines::cluster::{Guarded, Member, MemberOutcome, MemberSettings};
use iotmonitor_core::model::cluster::store::{
    Compare, Put, RequestNumber, Revision, StoreAnswer, StoreRequest, Transaction,
};
use iotmonitor_core::model::cluster::timing::Timing;
use iotmonitor_core::model::cluster::{
    Allowed, Item, Items, NodeName, NodeRecord, Owner, OwnerPlan, SessionId, Stamp,
};
use std::collections::BTreeMap;
use std::time::Duration;

type Session = (&'static str, SessionId);

const PI1: Session = ("pi1", SessionId { boot: 1, number: 1 });
const PI2: Session = ("pi2", SessionId { boot: 2, number: 1 });
const STEP: Duration = Duration::from_millis(10);

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn settings() -> MemberSettings {
    MemberSettings {
        name: node("pi1"),
        machine: "machine-1".to_owned(),
        timing: Timing::new(Duration::from_secs(8), Duration::from_secs(1)).unwrap(),
        broker: true,
        drains: false,
        config: None,
    }
}

fn items(names: &[Item]) -> Items {
    Items::new(names.iter().map(|item| (item.clone(), Allowed::Everywhere)))
}

fn puts_plan(request: &StoreRequest) -> bool {
    let StoreRequest::Commit(Transaction { puts, .. }) = request else { return false };
    puts.iter().any(|put| matches!(put, Put::Plan(_)))
}

fn confirms_plan(request: &StoreRequest) -> bool {
    let StoreRequest::Commit(Transaction { compares, .. }) = request else { return false };
    !puts_plan(request) && compares.iter().any(|compare| matches!(compare, Compare::Plan(_)))
}

fn is_read(request: &StoreRequest) -> bool {
    *request == StoreRequest::Read
}

/// A member, its store, and another node that renews and does nothing else.
struct Stage {
    member: Member,
    store: Store,
    now: Duration,
    answers: Vec<(RequestNumber, StoreAnswer)>,
    runs: BTreeMap<Item, Revision>,
    stops: u32,
    guarded: Option<Guarded>,
    other_renews: bool,
    other_n: u64,
    holds_changes: bool,
    /// Changes that are under way.
    held: Vec<(RequestNumber, StoreRequest)>,
    /// Requests whose answers remain under way.
    holds_answers: fn(&StoreRequest) -> bool,
    held_answers: Vec<(RequestNumber, StoreAnswer)>,
}

impl Stage {
    /// The member has settled, and runs the agent.
    fn settled() -> Self {
        Self::settled_with(&[(agent("rules"), PI1)])
    }

    /// The member has settled, and runs what it owns.
    fn settled_with(owners: &[(Item, Session)]) -> Self {
        let names: Vec<Item> = owners.iter().map(|(item, _)| item.clone()).collect();
        let mut stage = Self {
            member: Member::new(settings(), items(&names), PI1.1),
            store: Store::default(),
            now: Duration::from_secs(1),
            answers: Vec::new(),
            runs: BTreeMap::new(),
            stops: 0,
            guarded: None,
            other_renews: true,
            other_n: 0,
            holds_changes: false,
            held: Vec::new(),
            holds_answers: |_| false,
            held_answers: Vec::new(),
        };
        stage.put_plan(owners);
        stage.pass(12_000, |_| ());
        let own = owners.iter().filter(|(_, owner)| *owner == PI1);
        assert!(own.map(|(item, _)| item).eq(stage.runs.keys()));
        stage
    }

    /// Another node writes a plan.
    fn put_plan(&mut self, owners: &[(Item, Session)]) {
        let by = Stamp { session: PI2.1, number: self.now.as_millis() as u64 };
        let owner = |&(name, session)| Owner { node: node(name), session };
        let owners = owners.iter().map(|(item, of)| (item.clone(), owner(of))).collect();
        self.commit(vec![Put::Plan(OwnerPlan { by, owners })]);
    }

    fn commit(&mut self, puts: Vec<Put>) {
        let transaction = Transaction { compares: vec![], puts };
        self.store.answer(&StoreRequest::Commit(transaction));
    }

    fn renew_other(&mut self) {
        self.other_n += 1;
        let record = NodeRecord {
            session: PI2.1,
            n: self.other_n,
            evict_after: Duration::from_secs(8),
            machine: "machine-2".to_owned(),
            evicted: false,
            broker: true,
            drains: false,
            config: None,
        };
        self.commit(vec![Put::Node(node("pi2"), record)]);
    }

    /// Lets time pass, and looks at the stage after each step.
    fn pass(&mut self, millis: u64, mut look: impl FnMut(&Self)) {
        let end = self.now + Duration::from_millis(millis);
        while self.now < end {
            self.now += STEP;
            if self.other_renews && self.now.as_millis().is_multiple_of(2_000) {
                self.renew_other();
            }
            for (number, answer) in std::mem::take(&mut self.answers) {
                self.call(|member, now| member.answered(now, number, answer));
            }
            if self.member.next_deadline(self.now) <= self.now {
                self.call(Member::time_passed);
            }
            look(self);
        }
    }

    fn call(&mut self, call: impl FnOnce(&mut Member, Duration) -> Vec<MemberOutcome>) {
        let outcomes = call(&mut self.member, self.now);
        self.carry_out(outcomes);
    }

    fn carry_out(&mut self, outcomes: Vec<MemberOutcome>) {
        for outcome in outcomes {
            match outcome {
                MemberOutcome::Send { number, request } => self.sent(number, request),
                MemberOutcome::Start { item, epoch } => {
                    self.runs.insert(item, epoch);
                }
                MemberOutcome::Stop(item) => {
                    self.stops += 1;
                    self.runs.remove(&item);
                    let outcomes = self.member.stopped(self.now, &item);
                    self.carry_out(outcomes);
                }
                MemberOutcome::Guard(guarded) => self.guarded = Some(guarded),
                MemberOutcome::Fence(_) | MemberOutcome::NameTaken => panic!("{outcome:?}"),
            }
        }
    }

    fn sent(&mut self, number: RequestNumber, request: StoreRequest) {
        if puts_plan(&request) && self.holds_changes {
            self.held.push((number, request));
            return;
        }
        let answer = self.store.answer(&request);
        if (self.holds_answers)(&request) {
            self.held_answers.push((number, answer));
        } else {
            self.answers.push((number, answer));
        }
    }

    fn release_answers(&mut self) {
        self.holds_answers = |_| false;
        self.answers.append(&mut self.held_answers);
    }

    fn drain(&mut self, drains: bool) {
        self.call(|member, now| member.set_drains(now, drains));
    }

    /// Whether the agent runs here although a change that is under way would give it away.
    fn runs_in_danger(&self) -> bool {
        let commits = |request: &StoreRequest| {
            matches!(self.store.clone().answer(request), StoreAnswer::Committed(_))
        };
        self.runs.contains_key(&agent("rules")) && self.held.iter().any(|held| commits(&held.1))
    }

    /// Lets the changes under way go on for so long, and then lets everything pass. Nothing is in
    /// danger at any moment, and the agent runs in the end.
    fn recovers_from(&mut self, late: u64) {
        let safe = |stage: &Self| assert!(!stage.runs_in_danger(), "{:?}", stage.held);
        self.pass(late, safe);
        self.holds_changes = false;
        self.pass(3_000, safe);
        assert!(self.runs.contains_key(&agent("rules")));
    }
}

/// The agent has been stopped to be given away, and the change that gives it away is under way.
fn giving() -> Stage {
    let mut stage = Stage::settled();
    stage.holds_changes = true;
    stage.drain(true);
    stage.pass(300, |_| ());
    assert!(stage.runs.is_empty() && !stage.held.is_empty());
    stage
}

#[test]
fn nothing_is_started_by_a_plan_that_an_unanswered_change_may_still_replace() {
    for late in [100, 600, 900, 1_500, 4_000] {
        let mut stage = giving();
        stage.drain(false);
        stage.recovers_from(late);
    }
}

#[test]
fn a_monitor_that_is_back_starts_nothing_by_a_plan_that_the_one_before_it_may_have_changed() {
    // It starts nothing at all before it has settled.
    for late in [8_500, 12_000] {
        let mut stage = giving();
        stage.answers.clear();
        stage.member =
            Member::resumed(settings(), items(&[agent("rules")]), stage.guarded.unwrap(), []);
        stage.recovers_from(late);
    }
}

#[test]
fn no_two_plans_of_a_session_have_the_same_stamp() {
    let mut stage = giving();
    stage.answers.clear();
    let items = items(&[agent("rules")]);
    stage.member = Member::resumed(settings(), items, stage.guarded.unwrap(), []);
    stage.pass(12_000, |_| ());
    let puts = stage.held.iter().filter_map(|(_, request)| match request {
        StoreRequest::Commit(Transaction { puts, .. }) => puts.first(),
        StoreRequest::Read => None,
    });
    let stamps = puts.filter_map(|put| match put {
        Put::Plan(plan) => Some(plan.by.number),
        Put::Node(..) => None,
    });
    let stamps: Vec<u64> = stamps.collect();
    assert!(stamps.len() > 2 && stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");
}

#[test]
fn a_renewal_that_confirms_a_plan_starts_nothing_after_a_change_of_it_was_sent() {
    let mut stage = Stage::settled();
    // The other node has the agent for some time.
    stage.put_plan(&[(agent("rules"), PI2)]);
    stage.pass(2_000, |_| ());
    assert!(stage.runs.is_empty());
    (stage.holds_changes, stage.holds_answers) = (true, confirms_plan);
    stage.put_plan(&[(agent("rules"), PI1)]);
    while stage.held_answers.is_empty() {
        stage.pass(10, |_| ());
    }
    stage.drain(true);
    stage.drain(false);
    assert!(!stage.held.is_empty());
    stage.release_answers();
    stage.recovers_from(3_000);
}

#[test]
fn what_was_read_before_a_session_was_ended_does_not_revive_it() {
    let shards = (0..4).map(|number| (Item::Shard(number), PI2));
    let owners: Vec<_> = shards.chain([(agent("rules"), PI1)]).collect();
    let mut stage = Stage::settled_with(&owners);
    (stage.other_renews, stage.holds_changes) = (false, true);
    while stage.held.is_empty() {
        stage.pass(10, |_| ());
    }
    stage.holds_answers = is_read;
    while stage.held_answers.is_empty() {
        stage.pass(10, |_| ());
    }
    let (number, change) = stage.held.pop().unwrap();
    let answer = stage.store.answer(&change);
    assert!(matches!(answer, StoreAnswer::Committed(_)) && stage.held.is_empty());
    stage.answers.push((number, answer));
    stage.holds_changes = false;
    stage.pass(20, |_| ());
    stage.release_answers();
    stage.pass(5_000, |stage| {
        let plan = stage.store.contents().plan.as_ref().unwrap();
        assert!(plan.value.owners.values().all(|owner| owner.node == node(PI1.0)), "{plan:?}");
    });
    assert_eq!(stage.runs.len(), 5);
}

#[test]
fn a_late_answer_to_a_change_does_not_bring_back_the_plan_before_the_one_that_was_read() {
    let before = [(agent("rules"), PI1), (agent("lights"), PI2)];
    let mut stage = Stage::settled_with(&before);
    stage.holds_answers = puts_plan;
    // Nobody has the house. The member hands it out.
    let all = items(&[agent("rules"), agent("lights"), Item::House]);
    stage.call(|member, now| member.set_items(now, all));
    while stage.held_answers.is_empty() {
        stage.pass(10, |_| ());
    }
    stage.put_plan(&[(agent("rules"), PI1), (agent("lights"), PI1), (Item::House, PI2)]);
    while !stage.runs.contains_key(&agent("lights")) {
        stage.pass(10, |_| ());
    }
    assert_eq!(stage.held_answers.len(), 1);
    stage.release_answers();
    stage.pass(3_000, |_| ());
    assert_eq!((stage.stops, stage.runs.len()), (0, 2));
}
