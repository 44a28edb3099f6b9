//! A backend whose writes wait until what is there was found sound.
//!
//! Opening a database can write: it repairs after a crash, and marks the file as open. A file that
//! turns out to be damaged or another program's must be left byte for byte as it was, so everything
//! written before [`Staged::accept`] stays in memory, in order, and is dropped with the backend when
//! the file is refused. On a full disk it waits there until there is room, while reads go on.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use redb::StorageBackend;

/// Something redb wrote, in the order it wrote it.
#[derive(Debug)]
enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

#[derive(Debug)]
struct Stage {
    steps: VecDeque<Step>,
    len: u64,
}

#[derive(Debug)]
enum State {
    /// Writes wait.
    Waiting(Stage),
    /// Writes go through.
    Accepted,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Staged {
    beneath: Arc<dyn StorageBackend>,
    /// Changed only by redb's writes and [`Staged::accept`]; no await happens inside.
    state: RwLock<State>,
}

impl Staged {
    pub(super) fn new(beneath: Arc<dyn StorageBackend>) -> io::Result<Arc<Self>> {
        let len = beneath.len()?;
        let steps = VecDeque::new();
        Ok(Arc::new(Self {
            beneath,
            state: RwLock::new(State::Waiting(Stage { steps, len })),
        }))
    }

    pub(super) fn beneath(&self) -> &dyn StorageBackend {
        self.beneath.as_ref()
    }

    /// Does what was put off, in its order, and writes directly from now on. Stopping in the middle
    /// leaves what a crash during redb's own repair leaves; what is not done yet still waits, so that
    /// it can be tried again.
    pub(super) fn accept(&self) -> io::Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Waiting(stage) = &mut *state {
            while let Some(step) = stage.steps.front() {
                self.now(step)?;
                stage.steps.pop_front();
            }
            *state = State::Accepted;
        }
        Ok(())
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self, step: &Step) -> io::Result<()> {
        match step {
            Step::Write(offset, data) => self.beneath.write(*offset, data),
            Step::SetLen(len) => self.beneath.set_len(*len),
            // Of a failed sync nothing is known, for want of room or not: it is never tried again.
            Step::Sync => self.beneath.sync_data().map_err(io::Error::other),
        }
    }

    /// Does `step` later, or at once.
    fn does(&self, step: Step) -> io::Result<()> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Waiting(Stage { steps, len }) => {
                match &step {
                    Step::Write(offset, data) => *len = end(*offset, data).max(*len),
                    Step::SetLen(to) => *len = *to,
                    Step::Sync => {}
                }
                steps.push_back(step);
                Ok(())
            }
            // Reads need not wait for a sync; redb itself keeps its writes apart.
            State::Accepted => {
                drop(state);
                self.now(&step)
            }
        }
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        match &*self.state() {
            State::Waiting(stage) => Ok(stage.len),
            State::Accepted => self.beneath.len(),
        }
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.state() {
            State::Waiting(stage) => stage.read(self.beneath.as_ref(), offset, out),
            State::Accepted => self.beneath.read(offset, out),
        }
    }

    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.does(Step::SetLen(len))
    }

    pub(super) fn sync_data(&self) -> io::Result<()> {
        self.does(Step::Sync)
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if matches!(&*self.state(), State::Accepted) {
            return self.beneath.write(offset, data);
        }
        self.does(Step::Write(offset, data.to_vec()))
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

/// A file in memory, to be written out whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Image(pub(super) Arc<Mutex<Vec<u8>>>);

impl Image {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_long() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}

impl StorageBackend for Image {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.bytes().len()).map_err(|_| too_long())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| too_long())?;
        let bytes = self.bytes();
        let there = bytes.get(start..).and_then(|b| b.get(..out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| too_long())?;
        self.bytes().resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| too_long())?;
        let end = start.checked_add(data.len()).ok_or_else(too_long)?;
        let mut bytes = self.bytes();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        if let Some(there) = bytes.get_mut(start..end) {
            there.copy_from_slice(data);
        }
        Ok(())
    }
}
