//! Time, processor time, and what goes to the disk.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Flushes and bytes of one file, counted where redb asks for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    flushes: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

/// A file that counts.
#[derive(Debug)]
struct Counted {
    file: FileBackend,
    traffic: Traffic,
}

/// Opens or makes the file at `path`.
pub(crate) fn counted(path: &Path, traffic: &Traffic) -> Box<dyn StorageBackend> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("the folder takes files");
    Box::new(Counted {
        file: FileBackend::new(file).expect("nobody else has it"),
        traffic: traffic.clone(),
    })
}

impl StorageBackend for Counted {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.traffic.flushes.fetch_add(1, Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.traffic.written.fetch_add(len, Relaxed);
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}

/// What a number of operations took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lap {
    pub(crate) operations: u64,
    pub(crate) wall: Duration,
    /// Of this whole process: with another in it, its client only.
    pub(crate) processor: Duration,
    pub(crate) flushes: u64,
    pub(crate) written: u64,
}

impl Lap {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.operations) / self.wall.as_secs_f64()
    }

    pub(crate) fn processor_us(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / count(self.operations)
    }

    pub(crate) fn flushes_each(&self) -> f64 {
        count(self.flushes) / count(self.operations)
    }

    pub(crate) fn bytes_each(&self) -> f64 {
        count(self.written) / count(self.operations)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(crate) fn count(n: u64) -> f64 {
    n as f64
}

/// A watch that can be stopped and started.
#[derive(Debug)]
pub(crate) struct Watch {
    traffic: Traffic,
    started: Option<(Instant, Duration, u64, u64)>,
    lap: Lap,
}

impl Watch {
    pub(crate) fn new(traffic: &Traffic) -> Self {
        Self {
            traffic: traffic.clone(),
            started: None,
            lap: Lap {
                operations: 0,
                wall: Duration::ZERO,
                processor: Duration::ZERO,
                flushes: 0,
                written: 0,
            },
        }
    }

    pub(crate) fn start(&mut self) {
        let traffic = &self.traffic;
        let (flushes, written) = (traffic.flushes.load(Relaxed), traffic.written.load(Relaxed));
        self.started = Some((now(), processor(), flushes, written));
    }

    /// Stops, after so many operations.
    pub(crate) fn stop(&mut self, operations: u64) {
        let Some((wall, cpu, flushes, written)) = self.started.take() else {
            return;
        };
        self.lap.wall += wall.elapsed();
        self.lap.processor += processor().saturating_sub(cpu);
        self.lap.flushes += self.traffic.flushes.load(Relaxed) - flushes;
        self.lap.written += self.traffic.written.load(Relaxed) - written;
        self.lap.operations += operations;
    }

    pub(crate) fn lap(&self) -> Lap {
        self.lap
    }
}

/// How long one call takes.
pub(crate) fn timed<R>(call: impl FnOnce() -> R) -> (R, Duration) {
    let start = now();
    let result = call();
    (result, start.elapsed())
}

#[expect(clippy::disallowed_methods, reason = "this program measures time")]
fn now() -> Instant {
    Instant::now()
}

fn processor() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(spent.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Median time of writing 4 KiB over themselves and flushing them.
pub(crate) fn flush_time(folder: &Path) -> Duration {
    use std::os::unix::fs::FileExt;
    let path = folder.join("flush");
    let file = File::create(&path).expect("the folder takes files");
    let mut times: Vec<Duration> = (0..100)
        .map(|n: u8| {
            let write = || {
                file.write_all_at(&[n; 4096], 0).expect("the disk writes");
                file.sync_data().expect("the disk flushes");
            };
            timed(write).1
        })
        .collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
