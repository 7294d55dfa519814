//! Incoming calls: determines their senders, and which is next.
//!
//! Invariant: nothing of a call's body is read before its turn, and nothing here waits: while the
//! bus's messages are not received, no answer of the bus arrives either.

use super::calls::{Calls, purpose};
use super::error::BusError;
use super::lanes::{Lane, LaneTurn, Lanes, Purpose};
use super::unknown::Unknown;
use crate::dbus::CALL_TIMEOUT;
use std::collections::{HashMap, VecDeque};
use tokio::task::JoinSet;
use zbus::Message;
use zbus::message::Flags;
use zbus::names::OwnedUniqueName;

/// The number of callers about which the bus is asked at a time.
const MOST_QUESTIONS: usize = 16;

/// The number of tasks beyond which no more refusals are written.
const MOST_REFUSALS: usize = 512;

/// The number of callers whose user is remembered. A connection's name is never reused.
const MOST_KNOWN: usize = 1_024;

/// All calls of one connection to the bus.
pub(super) struct Callers {
    server: Calls,
    known: HashMap<OwnedUniqueName, u32>,
    unknown: Unknown<OwnedUniqueName, Message>,
    /// Callers about which the bus is still to be asked.
    unasked: VecDeque<OwnedUniqueName>,
    questions: usize,
    lanes: Lanes<Message>,
    tasks: JoinSet<Done>,
}

enum Done {
    /// The user of a caller, if the bus knows it.
    Identified(OwnedUniqueName, Option<u32>),
    Answered(LaneTurn),
    Refused,
}

impl Callers {
    pub fn of(server: Calls) -> Self {
        Self {
            server,
            known: HashMap::new(),
            unknown: Unknown::new(),
            unasked: VecDeque::new(),
            questions: 0,
            lanes: Lanes::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Accepts a call.
    pub fn push(&mut self, call: Message) {
        let header = call.header();
        let Some(sender) = header.sender().map(|sender| sender.to_owned().into()) else { return };
        let (purpose, most_bytes) = purpose(&header);
        let wants_answer = !header.primary().flags().contains(Flags::NO_REPLY_EXPECTED);
        if purpose == Purpose::Look && !wants_answer {
            return;
        }
        if call.data().len() > most_bytes {
            self.refuse(&call, BusError::TooLong);
        } else if let Some(user) = self.known.get(&sender) {
            self.line_up(*user, call);
        } else {
            self.hold(sender, call);
        }
        self.proceed();
    }

    /// Waits until something has been completed; forever where there is nothing to do.
    pub async fn done(&mut self) {
        let Some(done) = self.tasks.join_next().await else { return std::future::pending().await };
        match done {
            Ok(Done::Identified(caller, user)) => {
                self.questions -= 1;
                self.identified(caller, user);
            }
            Ok(Done::Answered(turn)) => self.lanes.done(turn),
            Ok(Done::Refused) | Err(_) => {}
        }
        self.proceed();
    }

    /// Keeps a call until its sender is known.
    fn hold(&mut self, caller: OwnedUniqueName, call: Message) {
        let bytes = call.data().len();
        let (is_new, given_way) = self.unknown.push(&caller, call, bytes);
        if is_new {
            self.unasked.push_back(caller);
        }
        for call in given_way {
            self.refuse(&call, BusError::TooMany);
        }
    }

    fn identified(&mut self, caller: OwnedUniqueName, user: Option<u32>) {
        let calls = self.unknown.take(&caller);
        // A caller that the bus does not know has gone.
        let Some(user) = user else { return };
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        self.known.insert(caller, user);
        for call in calls {
            self.line_up(user, call);
        }
    }

    fn line_up(&mut self, user: u32, call: Message) {
        let (purpose, _) = purpose(&call.header());
        let lane = Lane { user, purpose, is_trusted: self.server.trusts(user) };
        let bytes = call.data().len();
        if let Err(call) = self.lanes.push(lane, call, bytes) {
            self.refuse(&call, BusError::TooMany);
        }
    }

    /// Starts the calls whose turn it is.
    fn proceed(&mut self) {
        while self.questions < MOST_QUESTIONS
            && let Some(caller) = self.unasked.pop_front()
        {
            self.questions += 1;
            self.tasks.spawn(ask_for_user(self.server.clone(), caller));
        }
        while let Some((turn, call)) = self.lanes.next() {
            let server = self.server.clone();
            self.tasks.spawn(async move {
                server.answer(call, turn.lane.user).await;
                Done::Answered(turn)
            });
        }
    }

    fn refuse(&mut self, call: &Message, error: BusError) {
        let wants_answer = !call.primary_header().flags().contains(Flags::NO_REPLY_EXPECTED);
        // Only a few refusals are being written; beyond that the bus is slower than the caller,
        // which receives none.
        if wants_answer && self.tasks.len() < MOST_REFUSALS {
            let Ok(reply) = error.reply(&call.header()) else { return };
            let connection = self.server.connection().clone();
            self.tasks.spawn(async move {
                // A caller that has gone does not receive it.
                let _ = connection.send(&reply).await;
                Done::Refused
            });
        }
    }
}

async fn ask_for_user(server: Calls, caller: OwnedUniqueName) -> Done {
    let user = async {
        let bus = zbus::fdo::DBusProxy::new(server.connection()).await.ok()?;
        bus.get_connection_unix_user(caller.inner().clone().into()).await.ok()
    };
    let user = tokio::time::timeout(CALL_TIMEOUT, user).await.ok().flatten();
    Done::Identified(caller, user)
}
