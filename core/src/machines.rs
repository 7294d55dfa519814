//! Closed types, each of which handles one matter. A method takes what it needs and returns an
//! outcome; the monitor decides the consequences.

pub mod agent;
pub mod alert_queue;
pub mod areas;
pub mod availability;
pub mod clock;
pub mod cluster;
pub mod covering;
pub mod deadline;
pub mod dependency;
pub mod echoes;
pub mod episode;
pub mod flapping;
pub mod fleets;
pub mod history;
pub mod monitoring;
pub mod mutes;
pub mod notifications;
pub mod orders;
pub mod pauses;
pub mod probes;
pub mod random;
pub mod refusals;
pub mod restores;
pub mod retained;
pub mod save_queue;
pub mod shared_base;
pub mod sharing;
pub mod silence;
pub mod state_session;
pub mod takedown;
pub mod uptimes;
pub mod usage;
pub mod wall_clock;
pub mod watch_link;
