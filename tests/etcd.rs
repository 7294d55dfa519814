//! The shared store of a cluster: etcd, as Debian has it, with members that fail.

#[path = "common/certificates.rs"]
mod certificates;
#[path = "etcd/failing.rs"]
mod failing;
#[path = "etcd/fake.rs"]
mod fake;
#[path = "etcd/init.rs"]
mod init;
#[path = "etcd/members.rs"]
mod members;
#[path = "etcd/nodes.rs"]
mod nodes;
#[path = "etcd/restarts.rs"]
mod restarts;
#[path = "etcd/sections.rs"]
mod sections;
#[path = "etcd/secured.rs"]
mod secured;
#[path = "etcd/transactions.rs"]
mod transactions;
