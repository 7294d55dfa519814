//! Timetables of the monitor's core: what happens at t, what it does at t.
//!
//! No runtime, no sleep, no clock: time is simulated, see `timetable`.

#[path = "monitor/agents.rs"]
mod agents;
#[path = "monitor/alarm.rs"]
mod alarm;
#[path = "monitor/answers.rs"]
mod answers;
#[path = "monitor/availability.rs"]
mod availability;
#[path = "monitor/control.rs"]
mod control;
#[path = "monitor/covering.rs"]
mod covering;
#[path = "monitor/echoes.rs"]
mod echoes;
#[path = "monitor/expect.rs"]
mod expect;
#[path = "monitor/flapping.rs"]
mod flapping;
#[path = "monitor/fleets.rs"]
mod fleets;
#[path = "monitor/handover.rs"]
mod handover;
#[path = "monitor/hello_restore.rs"]
mod hello_restore;
#[path = "monitor/history.rs"]
mod history;
#[path = "monitor/home_assistant.rs"]
mod home_assistant;
#[path = "monitor/identity.rs"]
mod identity;
#[path = "monitor/liveness.rs"]
mod liveness;
#[path = "monitor/notices.rs"]
mod notices;
#[path = "monitor/notifications.rs"]
mod notifications;
#[path = "monitor/outages.rs"]
mod outages;
#[path = "monitor/pauses.rs"]
mod pauses;
#[path = "../../tests/common/plain_agent.rs"]
mod plain_agent;
#[path = "monitor/reasons.rs"]
mod reasons;
#[path = "monitor/redelivered.rs"]
mod redelivered;
#[path = "monitor/refusals.rs"]
mod refusals;
#[path = "monitor/relaunches.rs"]
mod relaunches;
#[path = "monitor/reload.rs"]
mod reload;
#[path = "monitor/replays.rs"]
mod replays;
#[path = "monitor/restart.rs"]
mod restart;
#[path = "monitor/rhythm.rs"]
mod rhythm;
#[path = "monitor/session.rs"]
mod session;
#[path = "monitor/shared_orders.rs"]
mod shared_orders;
#[path = "monitor/sharing.rs"]
mod sharing;
#[path = "monitor/stand_in.rs"]
mod stand_in;
#[path = "monitor/states.rs"]
mod states;
#[path = "monitor/status.rs"]
mod status;
#[path = "monitor/timetable.rs"]
mod timetable;
#[path = "monitor/upstream.rs"]
mod upstream;
#[path = "monitor/voices.rs"]
mod voices;
