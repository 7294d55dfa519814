//! The shared store of a cluster: etcd, through the JSON gateway that each of its members serves.
//!
//! A request goes to the member that has answered last, and a moment later to the next one too
//! (`client`). Each request may arrive several times: reads change nothing, and of equal commits one
//! succeeds, which `store` notices. A member is an `endpoint`, with its connections and its token.
//!
//! The gateway instead of gRPC costs base64 and a name for each field, a few kilobytes a second. It
//! needs no compiler of protocol buffers and a tenth of the crates. It cannot log in by the common
//! name of a certificate: the user and password are needed for that.

mod client;
mod endpoint;
mod error;
mod gateway;
mod orders;
mod sections;
pub mod settings;
mod shared_task;
mod store;

pub use error::{EndpointError, EtcdError};
pub use sections::Applied;
pub use store::EtcdStore;
