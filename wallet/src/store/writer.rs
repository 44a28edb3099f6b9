//! The one thread that writes.
//!
//! It takes as many waiting commands as there are, runs each on an overlay of its own inside one
//! transaction, commits, and only then answers. A refused command leaves nothing behind and does not
//! disturb its neighbours. A disk without room refuses the commands of one transaction, and the next
//! tries again. After any other failure nothing more is written: what the disk holds is then unknown
//! until the file is opened again.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tirami_manifest::{Clock, Timestamp};
use tokio::sync::oneshot;

use super::queue::{Asking, Lane, Queue, Server, Turned};
use super::{Opened, StoreError, WriteTransaction};
use crate::error::WalletError;
use crate::journal;
use crate::ledger::apply::expire_due;
use crate::ledger::refusal::ApplyError;
use crate::ledger::tables::{Overlay, ReadTables, Table, Tables};

/// Commands in one transaction; chosen so that the first of them does not wait long.
const BATCH: usize = 64;

/// Milliseconds after which a transaction takes no more commands; chosen for the same reason.
const BATCH_MS: u64 = 5;

/// Holds expired on the way in one transaction; the rest waits for the next.
const EXPIRE_AT_ONCE: usize = 64;

/// The latest time this wallet has seen, in [`Table::Meta`].
pub(crate) const CLOCK: &[u8] = b"clock";

/// What a command works on.
pub(crate) type Scratch<'a, 'b> = Overlay<'a, Overlay<'b, WriteTransaction>>;

/// A command that ran, waiting for the commit: told whether it happened.
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Runs inside the transaction and keeps or drops its overlay itself; given no transaction, it only
/// makes its answer.
type Command = Box<
    dyn for<'a, 'b> FnOnce(Option<(&'a mut Overlay<'b, WriteTransaction>, Timestamp)>) -> Ran
        + Send,
>;

struct Ran {
    answer: Answer,
    /// Set when the store itself failed, which ends the transaction for everybody.
    failed: Option<StoreError>,
}

/// The way to the writer.
#[derive(Debug)]
pub(crate) struct Writer {
    commands: Asking<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(opened: Opened, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let queue = Queue::new();
        let seen = (latest_time(&opened.read()?)?, clock.elapsed_ms());
        let served = Server(queue.clone());
        let thread = std::thread::Builder::new().name("wallet-writer".into());
        let thread = thread.spawn(move || {
            Loop {
                opened,
                clock,
                seen,
                failed: None,
            }
            .run(&served.0);
        });
        Ok(Self {
            commands: Asking(queue),
            thread: Mutex::new(Some(thread.map_err(StoreError::io)?)),
        })
    }

    /// Runs `command` in a transaction and answers after its commit. When it refuses, nothing of it
    /// is written. In the first lane it runs before whatever waits in the other, and is committed
    /// with no more of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the command: it runs or not, whole.
    pub(crate) async fn run<R, F>(&self, lane: Lane, command: F) -> Result<R, WalletError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Scratch<'_, '_>, Timestamp) -> Result<R, WalletError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |transaction| {
            let (outcome, failed) = match transaction {
                None => (Err(StoreError::Closed.into()), None),
                Some((tables, now)) => {
                    let mut scratch = Overlay::new(tables);
                    let outcome = command(&mut scratch, now);
                    let kept = if outcome.is_ok() {
                        scratch.keep()
                    } else {
                        Ok(())
                    };
                    let failed = match (&outcome, kept) {
                        (_, Err(error)) => Some(error),
                        (Err(WalletError::Store(error)), _) => Some(error.clone()),
                        _ => None,
                    };
                    (outcome, failed)
                }
            };
            let answer: Answer = Box::new(move |committed| {
                // The caller may be gone; what was committed stays committed.
                drop(reply.send(match committed {
                    Ok(()) => outcome,
                    Err(error) => Err(WalletError::Store(error)),
                }));
            });
            Ran { answer, failed }
        });
        match self.commands.0.push(command, lane) {
            Ok(()) => {}
            Err(Turned::Full) => return Err(WalletError::Busy),
            Err(Turned::Closed) => return Err(StoreError::Closed.into()),
        }
        answer.await.unwrap_or(Err(StoreError::Closed.into()))
    }

    /// Ends the thread after everything that was asked before, and releases the file.
    pub(crate) async fn stop(&self) {
        self.commands.0.close();
        let thread = {
            let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            thread.take()
        };
        join(thread).await;
    }
}

/// Waits for a thread to end without holding up an async one.
pub(crate) async fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread {
        let ended = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
        if !matches!(ended, Ok(true)) {
            tracing::error!("a thread of the wallet died");
        }
    }
}

struct Loop {
    opened: Opened,
    clock: Arc<dyn Clock>,
    /// The latest time seen, and how much had elapsed then.
    seen: (Timestamp, u64),
    failed: Option<StoreError>,
}

impl Loop {
    fn run(mut self, queue: &Queue<Command>) {
        while let Some(first) = queue.wait() {
            let mut answers = Vec::new();
            let outcome = self.transaction(first, queue, &mut answers);
            for answer in answers {
                answer(outcome.clone());
            }
        }
    }

    fn transaction(
        &mut self,
        (first, lane): (Command, Lane),
        queue: &Queue<Command>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let failed = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.opened.catch_up(),
        };
        if let Err(error) = failed {
            answers.push(first(None).answer);
            return self.ends(Err(error));
        }
        let turns = self.opened.turns();
        let outcome = self.run_and_commit((first, lane), queue, answers);
        if !matches!(outcome, Err(StoreError::Full)) {
            return self.ends(outcome);
        }
        // Without room nothing was committed, unless it was noticed past the point of no return:
        // then nobody may be told that nothing happened.
        if self.opened.turns() != turns {
            let unknown = "no room at the end of a commit";
            return self.ends(Err(StoreError::Io(unknown.into())));
        }
        match self.opened.again() {
            Ok(()) => outcome,
            Err(error) => self.ends(Err(error)),
        }
    }

    /// After a failure nothing more is written, but for want of room.
    fn ends(&mut self, outcome: Result<(), StoreError>) -> Result<(), StoreError> {
        if let Err(error) = &outcome
            && self.failed.is_none()
            && !matches!(error, StoreError::Full)
        {
            tracing::error!(%error, "the wallet stops writing until it is opened again");
            self.failed = Some(match error {
                StoreError::Damaged(_) => error.clone(),
                _ => StoreError::Failed(error.to_string()),
            });
        }
        outcome
    }

    fn run_and_commit(
        &mut self,
        (first, lane): (Command, Lane),
        queue: &Queue<Command>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let started = self.clock.elapsed_ms();
        let now = self.now();
        let mut next = Some(first);
        let prepared = self.opened.write();
        let mut write = match prepared {
            Ok(write) => write,
            Err(error) => {
                answers.extend(next.map(|command| command(None).answer));
                return Err(error);
            }
        };
        let mut tables = Overlay::new(&mut write);
        let opened = journal::open(&mut tables);
        if let Err(error) = opened {
            answers.extend(next.map(|command| command(None).answer));
            return Err(error);
        }
        let expired = expire_due(&mut tables, now, EXPIRE_AT_ONCE)
            .and_then(|_| Ok(journal::seal(&mut tables, now)?));
        match expired {
            Ok(()) => {}
            Err(ApplyError::Store(error)) => {
                answers.extend(next.map(|command| command(None).answer));
                return Err(error);
            }
            Err(ApplyError::Refused(refusal)) => {
                tracing::error!(%refusal, "a hold that is due did not expire");
            }
        }
        let mut urgent = lane == Lane::First;
        while let Some(command) = next.take() {
            let Ran { answer, failed } = command(Some((&mut tables, now)));
            answers.push(answer);
            if let Some(error) = failed {
                return Err(error);
            }
            let took = self.clock.elapsed_ms().saturating_sub(started);
            if answers.len() >= BATCH || took >= BATCH_MS {
                break;
            }
            // What is urgent is committed with what else is, and with nothing more.
            next = if urgent {
                queue.next_first()
            } else {
                queue.next().map(|(command, lane)| {
                    urgent = lane == Lane::First;
                    command
                })
            };
        }
        // What changed nothing costs no write to the disk.
        if tables.is_empty() {
            return Ok(());
        }
        tables.put(Table::Meta, CLOCK, &now.ms().to_be_bytes())?;
        tables.keep()?;
        write.commit()
    }

    /// The clock's time, but never earlier than one seen before, and always as much later as time
    /// has passed: a clock set back reopens nothing, and one that was once set far ahead does not
    /// stop the time here.
    fn now(&mut self) -> Timestamp {
        let (seen, then) = self.seen;
        let elapsed = self.clock.elapsed_ms();
        let passed = seen.after_ms(elapsed.saturating_sub(then));
        self.seen = (passed.max(self.clock.now()), elapsed);
        self.seen.0
    }
}

/// The latest time that was written down.
pub(crate) fn latest_time(tables: &impl ReadTables) -> Result<Timestamp, StoreError> {
    let bytes = tables.get(Table::Meta, CLOCK)?;
    match bytes.map(TryInto::try_into) {
        None => Ok(Timestamp::EPOCH),
        Some(Ok(ms)) => Ok(Timestamp::from_ms(u64::from_be_bytes(ms))),
        Some(Err(_)) => Err(StoreError::Row { table: Table::Meta }),
    }
}

#[cfg(test)]
mod tests;
