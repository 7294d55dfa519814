//! Replaces many subscriptions that differ in a single level by one.
//!
//! Brokers limit the subscriptions of a connection, or take longer for each the more there are.
//! Where a fleet has `home/d1/sensors/#`, `home/d2/sensors/#` and so on, `home/+/sensors/#` brings
//! the same messages. It may bring others, too, so it is used only above a limit, and given up when
//! too many unwanted messages arrive.
//!
//! Some brokers send a message once for each matching subscription. So a wildcard that overlaps any
//! other subscription without covering it is not used, and neither is one that would bring what the
//! monitor itself publishes.

mod groups;

use crate::model::message::{QoS, Subscription};
use crate::model::plan::{Plan, wanted};
use crate::topic::TopicFilter;
use groups::{Group, groups};
use std::time::Duration;

/// A wildcard that replaces fewer subscriptions than this is not worth the additional messages.
const FEWEST: usize = 4;

/// The number of filter comparisons that a plan may cost, which is a fraction of a second.
/// Subscriptions that are not covered by then stay as they are.
const MOST_COMPARISONS: usize = 20_000_000;

/// Unwanted messages are counted for this long before their share is judged.
const SURPLUS_TIME: Duration = Duration::from_secs(10);

/// This many in that time are harmless, whatever their share.
const SLIGHT_SURPLUS: u32 = 100;

/// Replaces groups of subscriptions by wildcards, the largest group first, until no more than `most`
/// are left or nothing else can be replaced. No wildcard brings what one of `own` matches.
#[must_use]
pub fn cover(plan: Plan, most: usize, own: &[TopicFilter]) -> Plan {
    if plan.len() <= most { plan } else { cover_within(plan, most, own, MOST_COMPARISONS) }
}

fn cover_within(mut plan: Plan, most: usize, own: &[TopicFilter], mut comparisons: usize) -> Plan {
    let mut is_covered = vec![false; plan.len()];
    let mut left = plan.len();
    let mut wildcards: Vec<TopicFilter> = Vec::new();
    for group in groups(&plan, FEWEST) {
        if left <= most {
            break;
        }
        let Some(wildcard) = wildcard_of(&plan, &group) else { continue };
        if own.iter().chain(&wildcards).any(|other| other.overlaps(&wildcard)) {
            continue;
        }
        let Some(members) = members(&plan, &is_covered, &wildcard, &mut comparisons) else {
            continue;
        };
        if members.len() >= FEWEST {
            left = left + 1 - members.len();
            members.into_iter().for_each(|member| is_covered[member] = true);
            wildcards.push(wildcard);
        }
    }
    let mut covered = is_covered.into_iter();
    plan.retain(|_| !covered.next().unwrap_or(false));
    plan.extend(wildcards.into_iter().map(|wildcard| wanted(wildcard, QoS::AtMostOnce)));
    plan.sort_unstable_by(|a, b| a.filter.cmp(&b.filter));
    plan
}

fn wildcard_of(plan: &[Subscription], group: &Group) -> Option<TopicFilter> {
    let filter = plan[group.example].filter.as_str();
    let levels = filter.split('/').enumerate();
    let levels: Vec<&str> =
        levels.map(|(at, level)| if at == group.level { "+" } else { level }).collect();
    TopicFilter::new(levels.join("/")).ok()
}

/// The subscriptions that the wildcard can replace; `None` where it would bring a message twice.
fn members(
    plan: &[Subscription],
    is_covered: &[bool],
    wildcard: &TopicFilter,
    comparisons: &mut usize,
) -> Option<Vec<usize>> {
    *comparisons = comparisons.checked_sub(plan.len())?;
    let mut members = Vec::new();
    for (at, subscription) in plan.iter().enumerate() {
        if is_covered[at] || !wildcard.overlaps(&subscription.filter) {
            continue;
        }
        if !is_coverable(subscription) || !wildcard.covers(&subscription.filter) {
            return None;
        }
        members.push(at);
    }
    Some(members)
}

/// A hello or an availability topic is subscribed at QoS 1, and a wildcard may match no topic that
/// begins with `$`.
fn is_coverable(subscription: &Subscription) -> bool {
    subscription.qos == QoS::AtMostOnce
        && !subscription.replay
        && !subscription.filter.as_str().starts_with('$')
}

/// The reason why wildcards are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The broker refuses one, or closes the connection on it.
    Refused,
    /// More than half of the messages are unwanted.
    Surplus,
}

/// The use of wildcards in place of single subscriptions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Covering,
    /// The single subscriptions are requested, and the wildcards stay until they are granted.
    Leaving(Cause),
    Single(Cause),
    /// The broker refused single subscriptions in their place.
    Kept,
}

/// Whether wildcards are used, how many unwanted messages they bring, and which subscriptions are
/// about to end.
#[derive(Debug, Default)]
pub struct Covering {
    phase: Phase,
    /// Whether the plan in force has any.
    has_wildcards: bool,
    /// Subscriptions that are no longer wanted, until their replacement is granted.
    leaving: Plan,
    /// The time since which these are counted.
    since: Duration,
    came: u32,
    unwanted: u32,
}

impl Covering {
    /// Whether wildcards are to be requested.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        matches!(self.phase, Phase::Covering | Phase::Kept)
    }

    /// Whether wildcards bring the present messages: until their replacement is granted, too.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        self.is_wanted() || matches!(self.phase, Phase::Leaving(_))
    }

    /// Notes a plan that is requested.
    pub fn planned(&mut self, now: Duration, has_wildcards: bool) {
        self.has_wildcards = has_wildcards;
        self.count_anew(now);
    }

    /// Wildcards are given up for the life of the process. A refused wildcard may be allowed by the
    /// next reload.
    pub fn give_up(&mut self, cause: Cause) {
        self.phase = Phase::Leaving(cause);
        self.has_wildcards = false;
    }

    /// The broker answered the last request. Returns whether to request the wildcards again,
    /// because the broker accepts fewer single subscriptions than there are.
    pub fn answered(&mut self, is_single_refused: bool) -> bool {
        let Phase::Leaving(cause) = self.phase else { return false };
        let is_kept = cause == Cause::Surplus && is_single_refused;
        self.phase = if is_kept { Phase::Kept } else { Phase::Single(cause) };
        is_kept
    }

    /// These are to end when their replacement is granted.
    pub fn leave(&mut self, leaving: Plan) {
        self.leaving = leaving;
    }

    pub fn take_leaving(&mut self) -> Plan {
        std::mem::take(&mut self.leaving)
    }

    /// The connection is gone, and all its subscriptions with it.
    pub fn disconnected(&mut self) {
        self.leaving.clear();
        if let Phase::Leaving(cause) = self.phase {
            self.phase = Phase::Single(cause);
        }
    }

    /// A person may have changed the broker's permissions.
    pub fn reloaded(&mut self) {
        if matches!(self.phase, Phase::Leaving(Cause::Refused) | Phase::Single(Cause::Refused)) {
            self.phase = Phase::Covering;
        }
    }

    /// A live message came.
    pub fn came(&mut self) {
        self.came = self.came.saturating_add(1);
    }

    /// The last message was unwanted. Returns whether there are too many of them.
    pub fn was_unwanted(&mut self, now: Duration) -> bool {
        if !self.has_wildcards || self.phase != Phase::Covering {
            return false;
        }
        self.unwanted = self.unwanted.saturating_add(1);
        if now < self.since + SURPLUS_TIME {
            return false;
        }
        let is_too_much = self.unwanted > SLIGHT_SURPLUS && self.unwanted > self.came / 2;
        self.count_anew(now);
        is_too_much
    }

    fn count_anew(&mut self, now: Duration) {
        (self.since, self.came, self.unwanted) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests;
