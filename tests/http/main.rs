//! The status page, its JSON and the metrics: the real program with a real broker, over real sockets.

mod answers;
mod browser;
mod commands;
mod dashboards;
mod house;
mod limits;
mod page;
mod promtool;
