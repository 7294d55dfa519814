//! A growing list that one thread fills and others wait on.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub struct Log<T> {
    items: Mutex<Vec<T>>,
    grown: Condvar,
}

impl<T: Clone> Log<T> {
    pub fn new() -> Self {
        Self { items: Mutex::new(Vec::new()), grown: Condvar::new() }
    }

    pub fn push(&self, item: T) {
        self.lock().push(item);
        self.grown.notify_all();
    }

    pub fn all(&self) -> Vec<T> {
        self.lock().clone()
    }

    /// Those from index `from` on.
    pub fn since(&self, from: usize) -> Vec<T> {
        self.lock().get(from..).unwrap_or_default().to_vec()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn count(&self, fits: impl Fn(&T) -> bool) -> usize {
        self.lock().iter().filter(|item| fits(item)).count()
    }

    /// The first item from index `from` on that fits; `None` when none came in time.
    pub fn wait_for(
        &self,
        from: usize,
        fits: impl Fn(&T) -> bool,
        patience: Duration,
    ) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut seen = from;
        let mut items = self.lock();
        loop {
            if let Some(item) = items.iter().skip(seen).find(|item| fits(item)) {
                return Some(item.clone());
            }
            seen = items.len().max(from);
            let left = deadline.checked_duration_since(Instant::now())?;
            items = self.grown.wait_timeout(items, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
