//! The one thread that writes.
//!
//! It takes as many waiting commands as there are, runs each on an overlay of its own inside one
//! transaction, commits, and only then answers. A refused command leaves nothing behind and does not
//! disturb its neighbours. After a failed commit nothing more is written: what the disk holds is
//! then unknown until the file is opened again.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tirami_manifest::{Clock, Timestamp};
use tokio::sync::oneshot;

use super::{Opened, ReadTransaction, StoreError, WriteTransaction};
use crate::error::WalletError;
use crate::ledger::apply::expire_due;
use crate::ledger::refusal::ApplyError;
use crate::ledger::tables::{Overlay, ReadTables, Table, Tables};

/// Commands that may wait for the writer; beyond it callers are told to try again.
const QUEUE: usize = 1_024;

/// Commands in one transaction; chosen so that the first of them does not wait long.
const BATCH: usize = 256;

/// Holds expired on the way in one transaction; the rest waits for the next.
const EXPIRE_AT_ONCE: usize = 64;

/// The latest time this wallet has seen, in [`Table::Meta`].
const CLOCK: &[u8] = b"clock";

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

/// The way to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    commands: SyncSender<Message>,
}

enum Message {
    Run(Command),
    Stop(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(opened: Opened, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let (commands, inbox) = sync_channel(QUEUE);
        let seen = (latest_time(&opened)?, clock.elapsed_ms());
        std::thread::Builder::new()
            .name("wallet-writer".into())
            .spawn(move || {
                Loop {
                    opened,
                    clock,
                    seen,
                    failed: None,
                }
                .run(&inbox);
            })
            .map_err(StoreError::io)?;
        Ok(Self { commands })
    }

    /// Runs `command` in a transaction and answers after its commit. When it refuses, nothing of it
    /// is written.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the command: it runs or not, whole.
    pub(crate) async fn run<R, F>(&self, command: F) -> Result<R, WalletError>
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
        match self.commands.try_send(Message::Run(command)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(WalletError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(StoreError::Closed.into()),
        }
        answer.await.unwrap_or(Err(StoreError::Closed.into()))
    }

    /// Ends the thread after everything that was asked before, and releases the file.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        let commands = self.commands.clone();
        // The queue may be full: waiting for room must not hold up an async thread.
        let sent = tokio::task::spawn_blocking(move || commands.send(Message::Stop(done))).await;
        if matches!(sent, Ok(Ok(()))) {
            drop(stopped.await);
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
    fn run(mut self, inbox: &Receiver<Message>) {
        while let Ok(first) = inbox.recv() {
            let mut batch = Vec::new();
            let mut stop = None;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Run(command) => batch.push(command),
                    Message::Stop(done) => {
                        stop = Some(done);
                        break;
                    }
                }
                if batch.len() < BATCH {
                    next = inbox.try_recv().ok();
                }
            }
            if !batch.is_empty() {
                self.transaction(batch);
            }
            if let Some(done) = stop {
                drop(self);
                // The one who asked may be gone; the file is released all the same.
                if done.send(()).is_err() {
                    tracing::debug!("nobody waits for the wallet's writer to end");
                }
                return;
            }
        }
    }

    fn transaction(&mut self, batch: Vec<Command>) {
        let mut answers = Vec::new();
        let outcome = self.attempt(batch, &mut answers);
        if let Err(error) = &outcome
            && self.failed.is_none()
        {
            tracing::error!(%error, "the wallet stops writing until it is opened again");
            self.failed = Some(StoreError::Failed(error.to_string()));
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    fn attempt(
        &mut self,
        batch: Vec<Command>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        let mut batch = batch.into_iter();
        let outcome = self.run_and_commit(&mut batch, answers);
        // After a failure some commands have not run: they only make their answers.
        answers.extend(batch.map(|command| command(None).answer));
        outcome
    }

    fn run_and_commit(
        &mut self,
        batch: &mut impl Iterator<Item = Command>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), StoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut write = WriteTransaction::begin(&self.opened.0)?;
        let now = self.now();
        let mut tables = Overlay::new(&mut write);
        match expire_due(&mut tables, now, EXPIRE_AT_ONCE) {
            Ok(_) => {}
            Err(ApplyError::Store(error)) => return Err(error),
            Err(ApplyError::Refused(refusal)) => {
                tracing::error!(%refusal, "a hold that is due did not expire");
            }
        }
        for command in batch {
            let Ran { answer, failed } = command(Some((&mut tables, now)));
            answers.push(answer);
            if let Some(error) = failed {
                return Err(error);
            }
        }
        // Refusals change nothing, and cost no write to the disk.
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

fn latest_time(opened: &Opened) -> Result<Timestamp, StoreError> {
    let bytes = ReadTransaction::begin(&opened.0)?.get(Table::Meta, CLOCK)?;
    match bytes.map(TryInto::try_into) {
        None => Ok(Timestamp::EPOCH),
        Some(Ok(ms)) => Ok(Timestamp::from_ms(u64::from_be_bytes(ms))),
        Some(Err(_)) => Err(StoreError::Row { table: Table::Meta }),
    }
}
