//! The handle: opening, reading, and the way to the writer.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tirami_manifest::key::SecretKey;
use tirami_manifest::ticket::Ticket;
use tirami_manifest::{Amount, Clock, NodeId, Timestamp};

use crate::chain::publish;
use crate::error::WalletError;
use crate::journal;
use crate::ledger::apply::expire_due;
use crate::ledger::rows::ReadRows;
use crate::store::queue::Lane;
use crate::store::writer::{Scratch, Writer, latest_time};
use crate::store::{
    BackupInfo, Check, Integrity, Opened, ReadTransaction, Storage, StoreError, backup, check_node,
    open_cached,
};
use crate::travelling::sweeping::Marks;
use crate::witness::ReadChains;

/// What a wallet needs to open.
#[derive(Debug)]
pub struct OpenOptions {
    /// Where the bytes are.
    pub storage: Storage,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// The node's key: signs receipts, and keeps stored answers unreadable to others.
    pub key: SecretKey,
    /// How long a hold lives after the last sign of life, in milliseconds.
    pub hold_timeout_ms: u64,
    /// What is accepted in any 24 hours from payers that no witness stands behind.
    pub stranger_budget: Amount,
    /// Memory for the file's pages, in bytes; [`crate::store::CACHE_BYTES`] by default.
    pub cache_bytes: usize,
}

/// How long a hold lives by default: 120 s.
pub const HOLD_TIMEOUT_MS: u64 = 120_000;

/// One node's money. Cheap to clone; every clone is the same wallet.
#[derive(Clone, Debug)]
pub struct Wallet {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// `None` once closed. Guards nothing but that; no await happens inside.
    opened: RwLock<Option<Opened>>,
    /// Up to where was looked for rows to forget; held for an assignment only.
    marks: Mutex<Marks>,
    writer: Writer,
    check: Check,
    clock: Arc<dyn Clock>,
    pub(crate) key: SecretKey,
    pub(crate) hold_timeout_ms: u64,
    pub(crate) stranger_budget: Amount,
    /// The ticket of the inviting node, as text and as it was read; no await happens inside.
    inviter: Mutex<Option<(String, Ticket)>>,
    /// Others' chains as far as a witness read them; no await happens inside.
    pub(crate) read_chains: ReadChains,
    /// Whether the chain covers every transfer that was committed; not until the first command looked.
    covered: AtomicBool,
}

impl Wallet {
    /// Opens or creates a wallet and starts its writer.
    ///
    /// # Errors
    ///
    /// [`crate::store::StoreError`]: in use, foreign or damaged, or not readable.
    pub fn open(options: OpenOptions) -> Result<Self, WalletError> {
        let OpenOptions {
            storage,
            clock,
            key,
            hold_timeout_ms,
            stranger_budget,
            cache_bytes,
        } = options;
        let opened = open_cached(storage, cache_bytes)?;
        check_node(&opened.read()?, Some(&key.id()))?;
        let writer = Writer::start(opened.clone(), clock.clone())?;
        let check = Check::start(opened.clone())?;
        let inner = Inner {
            opened: RwLock::new(Some(opened)),
            marks: Mutex::default(),
            writer,
            check,
            clock,
            key,
            hold_timeout_ms,
            stranger_budget,
            inviter: Mutex::default(),
            read_chains: ReadChains::default(),
            covered: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The node whose wallet this is.
    pub fn node(&self) -> NodeId {
        self.inner.key.id()
    }

    /// The present time: the clock's, but never earlier than one the books have seen, so that what was
    /// over stays so when the clock is set back.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn now(&self) -> Result<Timestamp, WalletError> {
        Ok(self.view_now()?.1)
    }

    /// Expires every hold whose time is over. The writer also does so on its way; this is for quiet
    /// times.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn sweep(&self) -> Result<usize, WalletError> {
        self.write(|tables, now| Ok(expire_due(tables, now, usize::MAX)?))
            .await
    }

    pub(crate) fn marks(&self) -> MutexGuard<'_, Marks> {
        self.inner
            .marks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inviter_read(&self) -> MutexGuard<'_, Option<(String, Ticket)>> {
        self.inner
            .inviter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Finishes what was asked before and releases the file. Later calls answer that it is closed.
    pub async fn close(&self) {
        self.inner.writer.stop().await;
        self.inner.check.stop().await;
        let opened = &self.inner.opened;
        *opened.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is known of the file: all of it is read once, beside the work, after it was opened.
    ///
    /// # Errors
    ///
    /// The wallet is closed.
    pub fn integrity(&self) -> Result<Integrity, WalletError> {
        Ok(self.inner.check.integrity(&self.opened()?))
    }

    /// Waits until all of the file was read, and says what was found. This takes time in proportion to
    /// the wallet, from its opening on.
    ///
    /// # Errors
    ///
    /// The wallet is closed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn whole_integrity(&self) -> Result<Integrity, WalletError> {
        self.inner.check.ended().await;
        self.integrity()
    }

    /// Copies everything committed to a new file while the wallet goes on working. The copy is
    /// checked completely before it gets its name, and only its user can read it. It does not hold
    /// the node's key. This takes time in proportion to the wallet: call it on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`] when there is a file at `to`; no room, or another failure of a disk.
    pub fn backup(&self, to: &Path) -> Result<BackupInfo, WalletError> {
        Ok(backup(&self.opened()?, to)?)
    }

    fn opened(&self) -> Result<Opened, StoreError> {
        let opened = &self.inner.opened;
        let opened = opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or(StoreError::Closed)
    }

    /// A consistent view of everything committed.
    pub(crate) fn view(&self) -> Result<ReadTransaction, WalletError> {
        let opened = &self.inner.opened;
        let opened = opened.read().unwrap_or_else(PoisonError::into_inner);
        Ok(opened.as_ref().ok_or(StoreError::Closed)?.read()?)
    }

    /// What is committed, and the time: never earlier than what the writer saw.
    pub(crate) fn view_now(&self) -> Result<(ReadTransaction, Timestamp), WalletError> {
        let view = self.view()?;
        let now = self.inner.clock.now().max(latest_time(&view)?);
        Ok((view, now))
    }

    pub(crate) async fn write<R, F>(&self, command: F) -> Result<R, WalletError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Scratch<'_, '_>, Timestamp) -> Result<R, WalletError> + Send + 'static,
    {
        self.run(Lane::Usual, command).await
    }

    /// [`Wallet::write`], before everything that waits there: for what must not wait behind spends.
    pub(crate) async fn write_first<R, F>(&self, command: F) -> Result<R, WalletError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Scratch<'_, '_>, Timestamp) -> Result<R, WalletError> + Send + 'static,
    {
        self.run(Lane::First, command).await
    }

    /// Runs a command, and in the same transaction appends to the chain what follows from it.
    async fn run<R, F>(&self, lane: Lane, command: F) -> Result<R, WalletError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Scratch<'_, '_>, Timestamp) -> Result<R, WalletError> + Send + 'static,
    {
        let inner = self.inner.clone();
        let covers = self.inner.writer.run(lane, move |tables, now| {
            let before = tables.last_seq()?;
            let covered = inner.covered.load(Ordering::Relaxed);
            let done = command(tables, now)?;
            let covered = publish(tables, &inner.key, covered.then_some(before))?;
            journal::seal(tables, now)?;
            Ok((done, covered))
        });
        let (done, covered) = covers.await?;
        self.inner.covered.store(covered, Ordering::Relaxed);
        Ok(done)
    }
}
