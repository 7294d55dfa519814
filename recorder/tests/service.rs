//! The recorder as a process of its own beside a real broker: what is acknowledged is recorded,
//! whatever happens to the two of them.

#[path = "service/acknowledgements.rs"]
mod acknowledgements;
#[path = "../../tests/common/broker.rs"]
mod broker;
#[path = "service/faults.rs"]
mod faults;
#[path = "service/house.rs"]
mod house;
#[path = "service/messages.rs"]
mod messages;
#[path = "service/transports.rs"]
mod transports;
