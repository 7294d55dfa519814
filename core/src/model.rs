//! The vocabulary of the core: types without any decision.

pub mod action;
pub mod alert;
pub mod availability_words;
pub mod cluster;
pub mod description;
pub mod device_id;
pub mod device_name;
pub mod event;
pub mod fleet;
pub mod history;
pub mod identity;
pub mod message;
pub mod name_pattern;
pub mod notice;
pub mod notification;
pub mod plan;
pub mod progress;
pub mod snapshot;
pub mod spec;
pub mod state;
pub mod status;
pub mod time;
pub mod unit;
pub mod unit_name;
pub mod view;
pub mod words;
