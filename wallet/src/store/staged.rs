//! A backend whose writes wait until what is there was found sound.
//!
//! Opening a database can write: it repairs after a crash, and marks the file as open. A file that
//! turns out to be damaged or another program's must be left byte for byte as it was, so everything
//! written before [`Staged::accept`] stays in memory, in order, and is dropped with the backend when
//! the file is refused.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use redb::{BackendError, StorageBackend};

/// Something redb wrote, in the order it wrote it.
#[derive(Debug)]
enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

#[derive(Debug)]
struct Stage {
    steps: Vec<Step>,
    len: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Staged {
    beneath: Box<dyn StorageBackend>,
    /// `None` once accepted. Written only by redb and [`Staged::accept`]; no await happens inside.
    stage: RwLock<Option<Stage>>,
}

impl Staged {
    pub(super) fn new(beneath: Box<dyn StorageBackend>) -> io::Result<Arc<Self>> {
        let len = beneath.len()?;
        let steps = Vec::new();
        Ok(Arc::new(Self {
            beneath,
            stage: RwLock::new(Some(Stage { steps, len })),
        }))
    }

    /// True when nothing is beneath and nothing was written.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        match self.stage().as_ref() {
            Some(stage) => Ok(stage.len == 0),
            None => Ok(self.beneath.len()? == 0),
        }
    }

    /// Does what was put off, in its order, and writes directly from now on. Stopping in the middle
    /// leaves what a crash during redb's own repair leaves.
    pub(super) fn accept(&self) -> io::Result<()> {
        let mut stage = self.stage.write().unwrap_or_else(PoisonError::into_inner);
        for step in stage.take().map(|stage| stage.steps).unwrap_or_default() {
            match step {
                Step::Write(offset, data) => self.beneath.write(offset, &data)?,
                Step::SetLen(len) => self.beneath.set_len(len)?,
                Step::Sync => self.beneath.sync_data()?,
            }
        }
        Ok(())
    }

    fn stage(&self) -> RwLockReadGuard<'_, Option<Stage>> {
        self.stage.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `step` off; `None` when it is to be done at once.
    fn put_off(&self, step: Step) -> Option<()> {
        if self.stage().is_none() {
            return None;
        }
        let mut stage = self.stage.write().unwrap_or_else(PoisonError::into_inner);
        let stage = stage.as_mut()?;
        match &step {
            Step::Write(offset, data) => stage.len = stage.len.max(end(*offset, data)),
            Step::SetLen(len) => stage.len = *len,
            Step::Sync => {}
        }
        stage.steps.push(step);
        Some(())
    }
}

/// Where `bytes` that start at `offset` end.
fn end(offset: u64, bytes: &[u8]) -> u64 {
    offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
}

impl Stage {
    /// What a read finds: the bytes beneath, and every step over them.
    fn read(&self, beneath: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if end(offset, out) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = beneath.len()?.saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(out.len());
        let (inside, beyond) = out.split_at_mut(there);
        if !inside.is_empty() {
            beneath.read(offset, inside)?;
        }
        beyond.fill(0);
        for step in &self.steps {
            match step {
                Step::Write(at, data) => overlay(out, offset, *at, data),
                Step::SetLen(len) => {
                    let keep = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
                    if let Some(cut) = out.get_mut(keep..) {
                        cut.fill(0);
                    }
                }
                Step::Sync => {}
            }
        }
        Ok(())
    }
}

/// Copies the part of `data` (at `at`) that lies within `out` (at `offset`).
fn overlay(out: &mut [u8], offset: u64, at: u64, data: &[u8]) {
    let skip = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let to = out
        .get_mut(skip(at.saturating_sub(offset))..)
        .unwrap_or_default();
    let from = data
        .get(skip(offset.saturating_sub(at))..)
        .unwrap_or_default();
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// What redb is given; the wallet keeps the other reference, to accept with.
#[derive(Debug)]
pub(super) struct Handle(pub(super) Arc<Staged>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        match self.0.stage().as_ref() {
            Some(stage) => Ok(stage.len),
            None => self.0.beneath.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.stage().as_ref() {
            Some(stage) => stage.read(self.0.beneath.as_ref(), offset, out),
            None => self.0.beneath.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.0.put_off(Step::SetLen(len)) {
            Some(()) => Ok(()),
            None => self.0.beneath.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.0.put_off(Step::Sync) {
            Some(()) => Ok(()),
            None => self.0.beneath.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.0.stage().is_none() {
            return self.0.beneath.write(offset, data);
        }
        match self.0.put_off(Step::Write(offset, data.to_vec())) {
            Some(()) => Ok(()),
            None => self.0.beneath.write(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.0.beneath.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.beneath.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.beneath.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.beneath.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.beneath.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.beneath.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.beneath.query_lock_range(start, end)
    }
}
