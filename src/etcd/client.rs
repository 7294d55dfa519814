//! Sends each request to the members of etcd until one has answered.

use super::endpoint::EtcdEndpoint;
use super::error::{EndpointError, EtcdError};
use super::settings::EtcdSettings;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A request has an answer after this time, or none. The rule of the cluster does not wait longer.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(1);

/// The head start of a member before the next one is asked as well. A member in good order answers
/// within it, also while its disk is busy.
const HEAD_START: Duration = Duration::from_millis(300);

/// Between two rounds, if all members fail at once, as in an election.
const NEXT_ROUND: Duration = Duration::from_millis(100);

/// All members of one etcd.
#[derive(Debug)]
pub struct EtcdClient {
    endpoints: Vec<Arc<EtcdEndpoint>>,
    /// The member that has answered last.
    preferred: AtomicUsize,
}

/// What one member has said, by its place in the list.
type Attempt<T> = (usize, Result<T, EndpointError>);

impl EtcdClient {
    #[must_use]
    pub fn new(settings: &EtcdSettings, prefix: &str) -> Self {
        let endpoints = settings.endpoints.iter();
        let endpoints =
            endpoints.map(|at| Arc::new(EtcdEndpoint::new(at.clone(), settings, prefix)));
        Self { endpoints: endpoints.collect(), preferred: AtomicUsize::new(0) }
    }

    /// Returns the first usable answer. Several members may carry out the request.
    ///
    /// # Errors
    /// Returns what each member that was asked has said, if none has answered in time.
    pub async fn call<T: Send + 'static>(
        &self,
        path: &'static str,
        body: Bytes,
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, EtcdError> {
        let limit = Instant::now() + REQUEST_LIMIT;
        loop {
            let errors = match self.round(path, &body, parse, limit).await {
                Ok(answer) => return Ok(answer),
                Err(errors) => errors,
            };
            let next = Instant::now() + NEXT_ROUND;
            if next >= limit || !errors.iter().any(EndpointError::is_passing) {
                return Err(EtcdError::NoAnswer(errors));
            }
            sleep_until(next).await;
        }
    }

    /// Asks each member once.
    async fn round<T: Send + 'static>(
        &self,
        path: &'static str,
        body: &Bytes,
        parse: fn(&[u8]) -> Result<T, String>,
        limit: Instant,
    ) -> Result<T, Vec<EndpointError>> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let count = self.endpoints.len();
        let mut waiting = (0..count).map(|place| (preferred + place) % count);
        let mut asked = Vec::new();
        let mut errors = Vec::new();
        // What is still on its way when this is dropped is given up.
        let mut attempts = JoinSet::new();
        let mut next_at = Instant::now();
        loop {
            if Instant::now() >= next_at
                && let Some(place) = waiting.next()
            {
                asked.push(place);
                self.ask(place, path, body, parse, &mut attempts);
                next_at = Instant::now() + HEAD_START;
            }
            if attempts.is_empty() {
                return Err(errors);
            }
            tokio::select! {
                Some(attempt) = attempts.join_next() => match attempt {
                    Ok((place, Ok(answer))) => {
                        self.preferred.store(place, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Ok((place, Err(error))) => {
                        asked.retain(|asked| *asked != place);
                        errors.push(error);
                        next_at = Instant::now();
                    }
                    Err(_) => next_at = Instant::now(),
                },
                () = sleep_until(next_at), if waiting.len() > 0 => {}
                () = sleep_until(limit) => {
                    let silent = asked.iter().filter_map(|place| self.endpoints.get(*place));
                    errors.extend(silent.map(|endpoint| endpoint.silent(REQUEST_LIMIT)));
                    return Err(errors);
                }
            }
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        place: usize,
        path: &'static str,
        body: &Bytes,
        parse: fn(&[u8]) -> Result<T, String>,
        attempts: &mut JoinSet<Attempt<T>>,
    ) {
        let Some(endpoint) = self.endpoints.get(place) else { return };
        let (endpoint, body) = (Arc::clone(endpoint), body.clone());
        attempts.spawn(async move {
            let answer = endpoint.call(path, body).await;
            let answer =
                answer.and_then(|body| parse(&body).map_err(|what| endpoint.not_etcd(what)));
            (place, answer)
        });
    }
}
