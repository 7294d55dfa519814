//! The session of this node: begun, renewed, and ended for ever by its deadline or by others.

use super::{Guarded, MemberSettings, TIMEOUT};
use crate::model::cluster::EndReason;
use crate::model::cluster::store::{Compare, Put, Revision, Transaction, Versioned};
use crate::model::cluster::timing::{LEASE, RENEW_EVERY};
use crate::model::cluster::{NodeRecord, OwnerPlan, SessionId};
use std::time::Duration;

/// The lease, with at most one renewal on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    session: SessionId,
    stage: Stage,
    /// What the store holds of this node.
    base: Base,
    /// When `base` was last confirmed. What was read earlier may be older.
    base_at: Duration,
    /// Of the last record that was sent.
    n: u64,
    sending: Option<Sending>,
    next: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    /// Nothing runs. The first record of the session has not been confirmed.
    Begins,
    Held {
        deadline: Duration,
        /// The record by which it is held.
        n: u64,
    },
    /// What runs is being stopped.
    Ended,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Base {
    /// It has to be read.
    Unknown,
    Absent,
    Versioned(Versioned<NodeRecord>),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sending {
    sent: Duration,
    record: NodeRecord,
    /// The plan that holds at the renewal, if it is to start something.
    plan: Option<Revision>,
}

/// A renewal that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    pub guarded: Guarded,
    /// The plan that held.
    pub plan: Option<Revision>,
}

/// What a read shows of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnRecord {
    Fine,
    /// The name belongs to a living session of another machine.
    NameTaken,
    Ended(EndReason),
}

impl Lease {
    /// Begins a session when the store has been read.
    #[must_use]
    pub fn new(session: SessionId) -> Self {
        Self {
            session,
            stage: Stage::Begins,
            base: Base::Unknown,
            base_at: Duration::ZERO,
            n: 0,
            sending: None,
            next: Duration::ZERO,
        }
    }

    /// Continues a session of an earlier process, whose guard lives.
    #[must_use]
    pub fn resumed(guarded: Guarded) -> Self {
        let Guarded { session, n, deadline } = guarded;
        Self { stage: Stage::Held { deadline, n }, n, ..Self::new(session) }
    }

    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Whether the session lives. Every method that uses it asks this first: an answer that comes
    /// after the deadline finds no session.
    #[must_use]
    pub fn is_held(&self, now: Duration) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Held { deadline, .. } => Some(deadline),
            Stage::Begins | Stage::Ended => None,
        }
    }

    /// Ends the session when its deadline has passed. Returns whether it has.
    pub fn expire(&mut self, now: Duration) -> bool {
        let is_over = self.deadline().is_some_and(|deadline| now >= deadline);
        if is_over {
            self.end();
        }
        is_over
    }

    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Ends the session for ever.
    pub fn end(&mut self) {
        self.stage = Stage::Ended;
        self.sending = None;
    }

    /// Takes what a read found of this node. `is_overdue` says that others could end the session
    /// that was found.
    pub fn read(
        &mut self,
        now: Duration,
        sent: Duration,
        own: Option<&Versioned<NodeRecord>>,
        machine: &str,
        is_overdue: bool,
    ) -> OwnRecord {
        match self.stage {
            Stage::Ended => OwnRecord::Fine,
            Stage::Begins => {
                let is_taken = own.is_some_and(|found| {
                    found.value.machine != machine && !found.value.evicted && !is_overdue
                });
                if is_taken {
                    self.base = Base::Unknown;
                    return OwnRecord::NameTaken;
                }
                self.base = own.map_or(Base::Absent, |found| Base::Versioned(found.clone()));
                let unseen = own.filter(|found| found.value.session == self.session);
                if unseen.is_some_and(|found| found.value.evicted) {
                    self.end();
                    return OwnRecord::Ended(EndReason::Evicted);
                }
                OwnRecord::Fine
            }
            Stage::Held { n, .. } => self.read_held(now, sent, n, own),
        }
    }

    fn read_held(
        &mut self,
        now: Duration,
        sent: Duration,
        n: u64,
        own: Option<&Versioned<NodeRecord>>,
    ) -> OwnRecord {
        let own_session = own.filter(|found| found.value.session == self.session);
        let ended = match own_session {
            Some(found) if found.value.evicted => Some(EndReason::Evicted),
            Some(found) if found.value.n >= n => {
                // Also a renewal of which no answer came: it extends nothing, and is built upon.
                if self.base != Base::Versioned(found.clone()) {
                    (self.base, self.base_at) = (Base::Versioned(found.clone()), now);
                    self.n = self.n.max(found.value.n);
                }
                None
            }
            _ if sent < self.base_at => None,
            Some(_) => Some(EndReason::StoreLostWrites),
            None if own.is_some() => Some(EndReason::Evicted),
            None => Some(EndReason::StoreLostWrites),
        };
        ended.map_or(OwnRecord::Fine, |reason| {
            self.end();
            OwnRecord::Ended(reason)
        })
    }

    /// Returns the next renewal if it is time, or at once if something waits for it to start. Its
    /// answer counts from now on.
    pub fn renew(
        &mut self,
        now: Duration,
        settings: &MemberSettings,
        starts_by: Option<&Versioned<OwnerPlan>>,
    ) -> Option<Transaction> {
        self.give_up(now);
        let is_due = now >= self.next || (starts_by.is_some() && self.deadline().is_some());
        if self.sending.is_some() || !is_due || self.stage == Stage::Ended {
            return None;
        }
        let found = match &self.base {
            Base::Unknown => return None,
            Base::Absent => None,
            Base::Versioned(found) => Some(found.clone()),
        };
        // An earlier process of the session may have sent records without a confirmation. By the
        // clock, their numbers are smaller.
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.n = self.n.saturating_add(1).max(millis);
        // Agents that are running stop in the time that was allowed when the session began. A time that
        // has been configured since takes effect with the next session.
        let own = found.as_ref().filter(|found| found.value.session == self.session);
        let evict_after =
            own.map_or(settings.timing.evict_after(), |found| found.value.evict_after);
        let record = NodeRecord {
            session: self.session,
            n: self.n,
            evict_after,
            machine: settings.machine.clone(),
            evicted: false,
            broker: settings.broker,
            drains: settings.drains,
            config: settings.config,
        };
        let mut compares = vec![Compare::Node(settings.name.clone(), found)];
        // A renewal that is later than the plan, in a history that contains the plan.
        compares.extend(starts_by.map(|plan| Compare::Plan(Some(plan.clone()))));
        let puts = vec![Put::Node(settings.name.clone(), record.clone())];
        let plan = starts_by.map(|plan| plan.revision);
        self.sending = Some(Sending { sent: now, record, plan });
        self.next = now + RENEW_EVERY;
        Some(Transaction { compares, puts })
    }

    /// A renewal without an answer extends nothing. The next one is sent at once.
    fn give_up(&mut self, now: Duration) {
        if self.sending.as_ref().is_some_and(|sending| now >= sending.sent + TIMEOUT) {
            self.sending = None;
            self.next = now;
        }
    }

    /// Takes the answer to the renewal that is on its way.
    pub fn committed(&mut self, now: Duration, revision: Revision) -> Option<Renewed> {
        let Sending { sent, record, plan } = self.sending.take()?;
        let (deadline, n) = (sent + LEASE, record.n);
        (self.base, self.base_at) = (Base::Versioned(Versioned { revision, value: record }), now);
        if now >= deadline {
            // Only the first record of a session can be confirmed so late. The next one builds upon it.
            self.next = now;
            return None;
        }
        self.stage = Stage::Held { deadline, n };
        Some(Renewed { guarded: Guarded { session: self.session, n, deadline }, plan })
    }

    /// The store refused the renewal: what it holds has to be read before the next one.
    pub fn refused(&mut self, now: Duration) {
        self.sending = None;
        self.base = Base::Unknown;
        self.next = now;
    }

    /// Whether nothing can be sent before the store has been read.
    #[must_use]
    pub fn needs_read(&self) -> bool {
        self.base == Base::Unknown && self.stage != Stage::Ended
    }

    /// When [`renew`](Self::renew) has something to do.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        match (&self.stage, &self.sending, &self.base) {
            (Stage::Ended, ..) => None,
            (_, Some(sending), _) => Some(sending.sent + TIMEOUT),
            (_, None, Base::Unknown) => None,
            (_, None, _) => Some(self.next),
        }
    }

    /// Renews at once, to write what has changed of this node.
    pub fn hasten(&mut self, now: Duration) {
        self.next = self.next.min(now);
    }
}
