//! Reads all of a wallet once after it was opened, so that damage is found before it is met.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::writer::join;
use super::{Opened, StoreError};
use crate::ledger::tables::Table;

/// Rows read at a time; chosen so that closing waits for milliseconds.
const CHUNK: usize = 1_024;

/// What is known of a wallet's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// What was read so far is sound, and the rest is being read.
    Checking,
    /// Everything was read and is what was written.
    Sound,
    /// Something went wrong, and nothing more is written.
    Failed(String),
}

/// The thread that reads.
#[derive(Debug)]
pub(crate) struct Check {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    /// True once the thread has nothing more to read, whatever it found.
    ended: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Check {
    pub(crate) fn start(opened: Opened) -> Result<Self, StoreError> {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, finished) = (stop.clone(), done.clone());
        let (end, ended) = watch::channel(false);
        let thread = std::thread::Builder::new().name("wallet-check".into());
        let thread = thread.spawn(move || {
            match walk(&opened, &stopped) {
                Ok(whole) => finished.store(whole, Ordering::SeqCst),
                Err(error) => tracing::error!(%error, "reading all of the wallet failed"),
            }
            end.send_replace(true);
        });
        Ok(Self {
            stop,
            done,
            ended,
            thread: Mutex::new(Some(thread.map_err(StoreError::io)?)),
        })
    }

    pub(crate) fn integrity(&self, opened: &Opened) -> Integrity {
        match opened.fault() {
            Some(StoreError::Full) | None if self.done.load(Ordering::SeqCst) => Integrity::Sound,
            Some(StoreError::Full) | None => Integrity::Checking,
            Some(fault) => Integrity::Failed(fault.to_string()),
        }
    }

    /// Waits until everything was read, or the reading ended otherwise.
    pub(crate) async fn ended(&self) {
        // A thread that died reads nothing more either.
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }

    /// Ends the thread, and releases the file.
    pub(crate) async fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.take()
        };
        join(thread).await;
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Reads every row that was there when it began; what is added behind it was written meanwhile.
/// `false` when it was told to stop.
fn walk(opened: &Opened, stop: &AtomicBool) -> Result<bool, StoreError> {
    for (table, _) in Table::ALL {
        let mut beyond = None;
        loop {
            if stop.load(Ordering::SeqCst) {
                return Ok(false);
            }
            // A view of its own each time: an old one keeps pages from being used again. One that
            // fell to a full disk is begun anew.
            let walked = opened
                .read()
                .and_then(|read| read.walk(table, beyond.as_deref(), CHUNK));
            match walked {
                Ok((None, _)) => break,
                Ok((last, _)) => beyond = last,
                Err(StoreError::Full) => std::thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(true)
}
