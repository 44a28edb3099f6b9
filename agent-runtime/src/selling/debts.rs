//! What consumers vouched for in jobs that ended and that no receipt has settled yet: whoever leaves many of them
//! open gets no more on credit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tirami_manifest::{Amount, NodeId};
use tirami_wallet::jobs::Lane;

/// Jobs of one consumer that may be open so; chosen: as many as the streams that one peer may have open here, for a
/// cut connection leaves all of them open at once.
pub(crate) const OPEN_MAX: usize = 64;

/// Most consumers that are doubted at once; chosen. Only those get here that have paid before.
const DOUBTED_MAX: usize = 4_096;

/// What consumers owe.
#[derive(Debug, Default)]
pub(crate) struct Debts(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By consumer and job.
    owed: BTreeMap<NodeId, BTreeMap<Lane, Amount>>,
    /// Whose last job was worked on and not paid to its end.
    doubted: BTreeSet<NodeId>,
}

/// What one consumer owes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) jobs: usize,
    pub(crate) sum: Amount,
}

impl Debts {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was vouched for in a job that ended is not settled.
    pub(crate) fn left(&self, consumer: NodeId, job: Lane, vouched: Amount) {
        let mut kept = self.lock();
        kept.owed.entry(consumer).or_default().insert(job, vouched);
    }

    /// A job was worked on and not paid to its end.
    pub(crate) fn doubt(&self, consumer: NodeId) {
        let mut kept = self.lock();
        if kept.doubted.len() < DOUBTED_MAX {
            kept.doubted.insert(consumer);
        }
    }

    /// A consumer paid what it owed for a job.
    pub(crate) fn paid(&self, consumer: &NodeId, job: &Lane) {
        self.settled(consumer, job);
        self.lock().doubted.remove(consumer);
    }

    /// A job is settled, by whom ever.
    pub(crate) fn settled(&self, consumer: &NodeId, job: &Lane) {
        let mut kept = self.lock();
        if let Some(jobs) = kept.owed.get_mut(consumer) {
            jobs.remove(job);
            if jobs.is_empty() {
                kept.owed.remove(consumer);
            }
        }
    }

    /// All jobs that are owed for.
    pub(crate) fn jobs(&self) -> Vec<(NodeId, Lane)> {
        let kept = self.lock();
        let jobs = kept.owed.iter();
        jobs.flat_map(|(consumer, jobs)| jobs.keys().map(|job| (*consumer, *job)))
            .collect()
    }

    /// What a consumer owes now.
    pub(crate) fn of(&self, consumer: &NodeId) -> Debt {
        let kept = self.lock();
        let amounts = kept
            .owed
            .get(consumer)
            .into_iter()
            .flat_map(BTreeMap::values);
        let sum = amounts
            .clone()
            .try_fold(Amount::ZERO, |sum, amount| sum.checked_add(*amount));
        Debt {
            jobs: amounts.count(),
            sum: sum.unwrap_or(Amount::MAX),
        }
    }

    /// Whether a consumer's last job was worked on and not paid to its end.
    pub(crate) fn doubts(&self, consumer: &NodeId) -> bool {
        self.lock().doubted.contains(consumer)
    }
}
