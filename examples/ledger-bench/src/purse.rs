//! The wallet as its callers use it: so many in flight, each waiting for its answer.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::meter::{Lap, Traffic, Watch, counted};
use crate::subject::{Begun, Held, Node, PAYMENT_UTRM};

pub(crate) struct Purse {
    runtime: Runtime,
    node: Node,
    traffic: Traffic,
}

/// Keys of all wallets so far, so that no wallet sees one again after it was closed.
static NAMES: AtomicU64 = AtomicU64::new(0);

impl Purse {
    pub(crate) fn new(path: &Path) -> Self {
        let traffic = Traffic::default();
        // The writer has a thread of its own; callers share one.
        let runtime = Builder::new_current_thread().build().expect("it starts");
        let node = runtime.block_on(Node::open(counted(path, &traffic)));
        Self {
            runtime,
            node,
            traffic,
        }
    }

    /// Whole payments, one after the other. Signing is not the ledger's and not counted.
    pub(crate) fn payments(&mut self, count: u64) -> Lap {
        let mut watch = Watch::new(&self.traffic);
        for _ in 0..count {
            let name = next_name();
            self.runtime.block_on(async {
                watch.start();
                let begun = self.node.begin(&name).await;
                let held = self.node.hold(begun, PAYMENT_UTRM).await;
                watch.stop(0);
                let paper = self.node.sign(&held);
                watch.start();
                self.node.settle(held, paper).await;
                watch.stop(1);
            });
        }
        watch.lap()
    }

    /// Commands that write nothing: the way to the writer's thread and back.
    pub(crate) fn nothing(&mut self, count: u64) -> Lap {
        let mut watch = Watch::new(&self.traffic);
        watch.start();
        for _ in 0..count {
            self.runtime.block_on(self.node.nothing());
        }
        watch.stop(count);
        watch.lap()
    }

    /// Begins, holds and voids: `count` of each, `in_flight` at a time.
    pub(crate) fn steps(&mut self, count: u64, in_flight: u64) -> [Lap; 3] {
        let names: Vec<String> = (0..count).map(|_| next_name()).collect();
        let (begun, begins) = self.drive(names, in_flight, |node, name| async move {
            node.begin(&name).await
        });
        let (held, holds) = self.drive(begun, in_flight, |node, begun: Begun| async move {
            node.hold(begun, 1).await
        });
        let (_, voids) = self.drive(held, in_flight, |node, held: Held| async move {
            node.void(held).await;
        });
        [begins, holds, voids]
    }

    pub(crate) fn close(self) {
        self.runtime.block_on(self.node.close());
    }

    fn drive<A, B, F>(
        &self,
        mut work: Vec<A>,
        in_flight: u64,
        step: impl Fn(Node, A) -> F + Clone + Send + 'static,
    ) -> (Vec<B>, Lap)
    where
        A: Send + 'static,
        B: Send + 'static,
        F: Future<Output = B> + Send,
    {
        let count = u64::try_from(work.len()).unwrap_or_default();
        let share = work.len().div_ceil(usize::try_from(in_flight).unwrap_or(1));
        let mut clients = JoinSet::new();
        let mut watch = Watch::new(&self.traffic);
        let results = self.runtime.block_on(async {
            let mut shares = Vec::new();
            while !work.is_empty() {
                shares.push(work.split_off(work.len().saturating_sub(share)));
            }
            watch.start();
            for mine in shares {
                let (node, step) = (self.node.clone(), step.clone());
                clients.spawn(async move {
                    let mut results = Vec::with_capacity(mine.len());
                    for one in mine {
                        results.push(step(node.clone(), one).await);
                    }
                    results
                });
            }
            let all = clients.join_all().await;
            watch.stop(count);
            all
        });
        (results.into_iter().flatten().collect(), watch.lap())
    }
}

fn next_name() -> String {
    NAMES.fetch_add(1, Relaxed).to_string()
}
