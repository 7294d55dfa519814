//! The MQTT adapter against a real mosquitto, and against scripted brokers for the faults that
//! mosquitto does not make.

#[path = "common/certificates.rs"]
mod certificates;
mod common;

#[path = "mqtt/closings.rs"]
mod closings;
#[path = "mqtt/cut.rs"]
mod cut;
#[path = "mqtt/fake.rs"]
mod fake;
#[path = "mqtt/faults.rs"]
mod faults;
#[path = "mqtt/hostile.rs"]
mod hostile;
#[path = "mqtt/messages.rs"]
mod messages;
#[path = "mqtt/nodes.rs"]
mod nodes;
#[path = "mqtt/outbox.rs"]
mod outbox;
#[path = "mqtt/refusals.rs"]
mod refusals;
#[path = "mqtt/state.rs"]
mod state;
#[path = "mqtt/transports.rs"]
mod transports;
