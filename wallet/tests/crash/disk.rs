//! A disk that records what is done to it, and fails when it is told to.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use tirami_wallet::store::Storage;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
    /// The wallet answered everything that was asked.
    Answered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This and every later write fails, as on a full disk.
    Full,
    /// This one sync fails and later ones say nothing, as Linux does.
    Sync,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) bytes: Vec<u8>,
    pub(crate) steps: Vec<Step>,
    /// What goes wrong, and after how many more writes or syncs.
    pub(crate) fault: Option<(Fault, usize)>,
    /// Steps asked for after one failed.
    pub(crate) after: Vec<&'static str>,
    fired: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

pub(crate) fn place(offset: u64, len: usize) -> Range<usize> {
    let from = usize::try_from(offset).unwrap();
    from..from + len
}

impl State {
    fn does(&mut self, step: Step) -> io::Result<()> {
        if self.fired {
            self.after.push(match step {
                Step::Write(..) => "write",
                Step::SetLen(_) => "length",
                Step::Sync => "sync",
                Step::Answered => "answer",
            });
        }
        let meets = matches!(
            (&step, self.fault),
            (Step::Write(..) | Step::SetLen(_), Some((Fault::Full, _)))
                | (Step::Sync, Some((Fault::Sync, _)))
        );
        if meets && let Some((fault, left)) = &mut self.fault {
            if *left == 0 {
                self.fired = true;
                let code = if *fault == Fault::Full { 28 } else { 5 };
                if *fault == Fault::Sync {
                    self.fault = None;
                }
                return Err(io::Error::from_raw_os_error(code));
            }
            *left -= 1;
        }
        replay(&mut self.bytes, &step);
        self.steps.push(step);
        Ok(())
    }
}

pub(crate) fn replay(bytes: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write(offset, data) => {
            let at = place(*offset, data.len());
            if bytes.len() < at.end {
                bytes.resize(at.end, 0);
            }
            bytes[at].copy_from_slice(data);
        }
        Step::SetLen(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        Step::Sync | Step::Answered => {}
    }
}

impl Disk {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            bytes,
            ..State::default()
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn storage(&self) -> Storage {
        Storage::Backend(Box::new(self.clone()))
    }

    pub(crate) fn answered(&self) {
        self.state().steps.push(Step::Answered);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.state().bytes.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let there = state.bytes.get(place(offset, out.len()));
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().does(Step::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().does(Step::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().does(Step::Write(offset, data.to_vec()))
    }
}

/// `SplitMix64`: the same disks from the same seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }
}

/// Everything written so far.
pub(crate) fn all(steps: &[Step]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for step in steps {
        replay(&mut bytes, step);
    }
    bytes
}
