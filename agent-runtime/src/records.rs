//! What the jobs of each provider came to, while this node runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tirami_manifest::{Clock, NodeId};
use tirami_mesh::scheduler::record::Record;

/// Most providers remembered; chosen. One more makes those with the least to remember forgotten.
const RECORDS_MAX: usize = 4_096;

/// When something was begun with a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(u64);

/// The records of all providers.
#[derive(Debug)]
pub(crate) struct Records {
    /// Held for a few steps at a time; no await happens inside.
    of: Mutex<BTreeMap<NodeId, Record>>,
    clock: Arc<dyn Clock>,
}

impl Records {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            of: Mutex::default(),
            clock,
        }
    }

    /// What is remembered of a provider, and for how many milliseconds it is not asked yet.
    pub(crate) fn of(&self, provider: &NodeId) -> (Record, Option<u64>) {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let record = of.get(provider).copied().unwrap_or_default();
        (record, record.shut_for(self.clock.elapsed_ms()))
    }

    /// It is given a job: since when. `None` when another job tries it already.
    pub(crate) fn tried(&self, provider: NodeId) -> Option<Since> {
        self.change(provider, |record, now_ms| {
            let free = record.shut_for(now_ms).is_none();
            free.then(|| {
                record.tried(now_ms);
                Since(now_ms)
            })
        })
    }

    /// For something that is asked of a provider without a job.
    pub(crate) fn since(&self) -> Since {
        Since(self.clock.elapsed_ms())
    }

    /// A job came to its receipt.
    pub(crate) fn succeeded(&self, provider: NodeId) {
        self.change(provider, |record, _| record.succeeded());
    }

    /// What was begun then broke off by no fault of this node.
    pub(crate) fn failed(&self, provider: NodeId, Since(begun_ms): Since) {
        self.change(provider, |record, now_ms| record.failed(begun_ms, now_ms));
    }

    /// A job ended, and not by the provider's doing.
    pub(crate) fn not_judged(&self, provider: NodeId) {
        self.change(provider, Record::not_judged);
    }

    fn change<T>(&self, provider: NodeId, change: impl FnOnce(&mut Record, u64) -> T) -> T {
        let now_ms = self.clock.elapsed_ms();
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = of.remove(&provider).unwrap_or_default();
        let changed = change(&mut record, now_ms);
        if !record.is_clean() {
            if of.len() >= RECORDS_MAX {
                of.retain(|_, record| record.in_a_row() > 0);
            }
            if of.len() < RECORDS_MAX {
                of.insert(provider, record);
            }
        }
        changed
    }
}
