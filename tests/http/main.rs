//! The status page, its JSON and the metrics: the real program with a real broker, over real sockets.

mod alerts;
mod alerts_page;
mod answers;
mod browser;
mod charts;
mod commands;
mod compression;
mod dashboards;
mod device_page;
mod embedding;
mod house;
mod limits;
mod page;
mod page_commands;
mod past;
mod promtool;
mod proxy;
mod views;
