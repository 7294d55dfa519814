//! Reads what the nodes share in etcd, from beside the broker.

use super::harness::enter_network;
use iotmonitor::etcd::EtcdStore;
use iotmonitor::etcd::settings::EtcdSettings;
use iotmonitor_core::model::cluster::store::{StoreAnswer, StoreContents, StoreRequest};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A thread in the network of the machines, which ends with it.
pub struct Observer {
    questions: Sender<()>,
    answers: Receiver<Option<StoreContents>>,
}

impl Observer {
    pub fn new(network: u32, settings: EtcdSettings) -> Self {
        let (questions, asked) = channel();
        let (reply, answers) = channel();
        std::thread::spawn(move || {
            enter_network(network).expect("root may go there");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("there can be a runtime");
            let store = EtcdStore::new(&settings);
            while let Ok(()) = asked.recv() {
                let answer = runtime.block_on(store.request(&StoreRequest::Read));
                let contents = match answer {
                    Ok(StoreAnswer::Read(contents)) => Some(contents),
                    Ok(_) | Err(_) => None,
                };
                if reply.send(contents).is_err() {
                    return;
                }
            }
        });
        Self { questions, answers }
    }

    /// What is there, if etcd answers in time.
    pub fn contents(&self) -> Option<StoreContents> {
        self.questions.send(()).expect("the thread waits for it");
        self.answers.recv().expect("the thread answers")
    }
}
