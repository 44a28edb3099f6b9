//! Which jobs run at this provider now, so that nobody settles them from aside.

use tirami_wallet::jobs::Lane;

use crate::runtime::Runtime;

/// A job that runs, for as long as this lives.
pub(crate) struct Running {
    runtime: Runtime,
    job: Lane,
}

impl Running {
    /// Marks a job as running; `None` when it is already.
    pub(crate) fn mark(runtime: &Runtime, job: Lane) -> Option<Self> {
        let is_new = runtime.running().insert(job);
        is_new.then(|| Self {
            runtime: runtime.clone(),
            job,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.runtime.running().remove(&self.job);
    }
}
