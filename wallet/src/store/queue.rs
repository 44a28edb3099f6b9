//! What waits for the writer: a bounded lane, and one that is served first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Commands that may wait in each lane; beyond it callers are told to try again.
pub(super) const QUEUE: usize = 1_024;

/// Which lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// In the order of asking.
    Usual,
    /// Before everything that waits in the other.
    First,
}

/// Why something may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// Too many wait.
    Full,
    /// Nobody serves any more.
    Closed,
}

struct State<T> {
    first: VecDeque<T>,
    usual: VecDeque<T>,
    closed: bool,
}

/// The queue. Its lock is held for moments only; no await happens inside.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let waiting = (state.first.len(), state.usual.len());
        f.debug_tuple("Queue").field(&waiting).finish()
    }
}

impl<T> Queue<T> {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            first: VecDeque::new(),
            usual: VecDeque::new(),
            closed: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, item: T, lane: Lane) -> Result<(), Turned> {
        let mut state = self.lock();
        if state.closed {
            return Err(Turned::Closed);
        }
        let waiting = match lane {
            Lane::Usual => &mut state.usual,
            Lane::First => &mut state.first,
        };
        if waiting.len() >= QUEUE {
            return Err(Turned::Full);
        }
        waiting.push_back(item);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// The next, waiting for one; `None` once closed and served.
    pub(super) fn wait(&self) -> Option<(T, Lane)> {
        let mut state = self.lock();
        loop {
            let next = next(&mut state);
            if next.is_some() || state.closed {
                return next;
            }
            let woken = self.ready.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next, if there is one.
    pub(super) fn next(&self) -> Option<(T, Lane)> {
        next(&mut self.lock())
    }

    /// The next of the first lane, if there is one.
    pub(super) fn next_first(&self) -> Option<T> {
        self.lock().first.pop_front()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        let state = self.lock();
        state.first.len().saturating_add(state.usual.len())
    }

    /// Lets nothing more in; what waits is still served.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }
}

fn next<T>(state: &mut State<T>) -> Option<(T, Lane)> {
    let first = state.first.pop_front().map(|item| (item, Lane::First));
    first.or_else(|| state.usual.pop_front().map(|item| (item, Lane::Usual)))
}

/// Held by whoever serves: when it goes, by an end or a panic, nobody waits in vain.
pub(super) struct Server<T>(pub(super) Arc<Queue<T>>);

impl<T> Drop for Server<T> {
    fn drop(&mut self) {
        self.0.close();
        while self.0.next().is_some() {}
    }
}

/// Held by those who ask: when the last goes, the server ends.
pub(super) struct Asking<T>(pub(super) Arc<Queue<T>>);

impl<T> fmt::Debug for Asking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Drop for Asking<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}
