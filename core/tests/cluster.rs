//! Several nodes and a store in simulated time: no two of them run one item.
//!
//! No runtime, no sleep, no clock: see `world`.

#[path = "cluster/exhaustive.rs"]
mod exhaustive;
#[path = "cluster/late.rs"]
mod late;
#[path = "cluster/member.rs"]
mod member;
#[path = "cluster/schedules.rs"]
mod schedules;
#[path = "cluster/store.rs"]
mod store;
#[path = "cluster/timetable.rs"]
mod timetable;
#[path = "cluster/world.rs"]
mod world;
