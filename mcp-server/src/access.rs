//! Reaching the node: in this process, or in the one that has the data directory.
//!
//! Whoever opens the wallet first has the node; everyone else is attached to it through the local
//! socket. When the process that had it ends, an attached one takes over, and a call that was under
//! way is made again: calls that pay carry an idempotency key for that.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tirami_agent_runtime::ops::{Operation, TextSink};
use tirami_agent_runtime::{Builder, Failure, FailureCode, NodeConfig, Runtime, data_dir};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use crate::local::{self, CallError};

/// How long another process may have the wallet without listening, before that is an error: one
/// that starts, stops or does a short errand needs less.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a command needs of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The books: no network, no model. For short errands.
    Books,
    /// Everything.
    Mesh,
}

/// A way to the node. Cheap to clone; every clone is the same way.
#[derive(Clone, Debug)]
pub struct Access {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: NodeConfig,
    need: Need,
    /// Read by calls, written when the node changes hands.
    way: RwLock<Way>,
}

#[derive(Debug)]
enum Way {
    Own {
        runtime: Runtime,
        listener: Option<JoinHandle<()>>,
    },
    Attached {
        watcher: Option<JoinHandle<()>>,
    },
    Closed,
}

impl Access {
    /// Opens the node, or attaches to the process that has it.
    ///
    /// # Errors
    ///
    /// What starting a node fails with; [`FailureCode::InUse`] when another process keeps the
    /// wallet and does not answer.
    pub async fn open(config: &NodeConfig, need: Need) -> Result<Self, Failure> {
        data_dir::prepare(&config.data_dir)?;
        let way = find(config, need).await?;
        let shared = Shared {
            config: config.clone(),
            need,
            way: RwLock::new(way),
        };
        let access = Self {
            shared: Arc::new(shared),
        };
        access.watch().await;
        Ok(access)
    }

    /// Whether a process has the node of the data directory and listens.
    pub async fn is_served(config: &NodeConfig) -> bool {
        is_alive(&data_dir::socket(&config.data_dir)).await
    }

    /// Carries out `op` for the agent whose token this is.
    ///
    /// # Errors
    ///
    /// What the operation fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop what was begun: it comes to its end in the node.
    pub async fn call<O: Operation + Clone>(
        &self,
        token: &str,
        op: O,
    ) -> Result<O::Output, Failure> {
        self.carry_out(token, op, None).await
    }

    /// As [`Access::call`]; generated text goes to `text` as it comes. When a call has to be made
    /// again with another process, text may be said again from its beginning: the outcome counts.
    ///
    /// # Errors
    ///
    /// As [`Access::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Access::call`].
    pub async fn call_streaming<O: Operation + Clone>(
        &self,
        token: &str,
        op: O,
        text: TextSink,
    ) -> Result<O::Output, Failure> {
        self.carry_out(token, op, Some(text)).await
    }

    /// Whether another process has the node.
    pub async fn is_attached(&self) -> bool {
        matches!(*self.shared.way.read().await, Way::Attached { .. })
    }

    /// Lets go: stops the node when it is this process's.
    pub async fn close(self) {
        let way = std::mem::replace(&mut *self.shared.way.write().await, Way::Closed);
        match way {
            Way::Own { runtime, listener } => {
                if let Some(listener) = listener {
                    listener.abort();
                    let socket = data_dir::socket(&self.shared.config.data_dir);
                    if let Err(error) = std::fs::remove_file(socket) {
                        tracing::debug!(%error, "the local socket was gone already");
                    }
                }
                runtime.shutdown().await;
            }
            Way::Attached { watcher } => {
                if let Some(watcher) = watcher {
                    watcher.abort();
                }
            }
            Way::Closed => {}
        }
    }

    async fn carry_out<O: Operation + Clone>(
        &self,
        token: &str,
        mut op: O,
        text: Option<TextSink>,
    ) -> Result<O::Output, Failure> {
        op.prepare();
        loop {
            let own = match &*self.shared.way.read().await {
                Way::Own { runtime, .. } => Some(runtime.clone()),
                Way::Attached { .. } => None,
                Way::Closed => return Err(closed()),
            };
            if let Some(runtime) = own {
                return in_process(runtime, token, op, text).await;
            }
            let socket = data_dir::socket(&self.shared.config.data_dir);
            match local::call(&socket, token, &op, text.clone()).await {
                Ok(output) => return Ok(output),
                Err(CallError::Failed(failure)) => return Err(failure),
                Err(error @ CallError::Malformed(_)) => {
                    return Err(Failure::new(FailureCode::Internal, error.to_string())
                        .hint("stop that process, so that this version takes over"));
                }
                Err(CallError::Gone(error)) => {
                    tracing::info!(%error, "the node changes hands");
                    self.take_over().await?;
                }
            }
        }
    }

    /// Finds the node again after the process that had it ended: here, or with another.
    ///
    /// Boxed, because a watcher takes over and taking over starts a watcher.
    fn take_over(&self) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + '_>> {
        Box::pin(async move {
            let mut way = self.shared.way.write().await;
            if !matches!(*way, Way::Attached { .. }) {
                return Ok(());
            }
            // Somebody else may have taken over while this one waited for its turn.
            let found = find(&self.shared.config, self.shared.need).await?;
            let before = std::mem::replace(&mut *way, found);
            drop(way);
            self.watch().await;
            if let Way::Attached {
                watcher: Some(watcher),
            } = before
            {
                watcher.abort();
            }
            Ok(())
        })
    }

    /// Watches the process that has the node, to take over when it ends. Short errands do not.
    async fn watch(&self) {
        if self.shared.need == Need::Books {
            return;
        }
        let mut way = self.shared.way.write().await;
        let Way::Attached { watcher } = &mut *way else {
            return;
        };
        let (shared, socket) = (
            Arc::downgrade(&self.shared),
            data_dir::socket(&self.shared.config.data_dir),
        );
        *watcher = Some(tokio::spawn(async move {
            if let Ok(ended) = local::attach(&socket).await {
                ended.await;
            }
            let Some(shared) = shared.upgrade() else {
                return;
            };
            // In a task of its own: taking over ends this watcher.
            tokio::spawn(async move {
                if let Err(failure) = (Self { shared }).take_over().await {
                    tracing::error!(%failure, "the node could not be taken over");
                }
            });
        }));
    }
}

/// Takes the node or finds who has it.
async fn find(config: &NodeConfig, need: Need) -> Result<Way, Failure> {
    let socket = data_dir::socket(&config.data_dir);
    let search = async {
        loop {
            if is_alive(&socket).await {
                return Ok(Way::Attached { watcher: None });
            }
            match start(config, need).await {
                Err(failure) if failure.code == FailureCode::InUse => {}
                other => return other,
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(found) => found,
        Err(_) => Err(Failure::new(
            FailureCode::InUse,
            format!(
                "another process has {} and does not answer",
                data_dir::wallet(&config.data_dir).display()
            ),
        )
        .hint("stop that process, or use another --data-dir")),
    }
}

async fn is_alive(socket: &std::path::Path) -> bool {
    tokio::net::UnixStream::connect(socket).await.is_ok()
}

async fn start(config: &NodeConfig, need: Need) -> Result<Way, Failure> {
    let builder = Builder::new(config.clone());
    let builder = match need {
        Need::Books => builder.books_only(),
        Need::Mesh => builder,
    };
    let runtime = builder.start().await?;
    let listener = match need {
        Need::Books => None,
        Need::Mesh => {
            let socket = data_dir::socket(&config.data_dir);
            match local::listen(&socket, runtime.clone()) {
                Ok(listener) => Some(listener),
                Err(error) => {
                    runtime.shutdown().await;
                    return Err(no_socket(&socket, &error));
                }
            }
        }
    };
    Ok(Way::Own { runtime, listener })
}

fn no_socket(socket: &std::path::Path, error: &io::Error) -> Failure {
    Failure::new(
        FailureCode::Store,
        format!("cannot listen on {}: {error}", socket.display()),
    )
    .hint("a --data-dir with a shorter path may help: socket paths end at about 100 bytes")
}

fn closed() -> Failure {
    Failure::new(FailureCode::Busy, "the node is shutting down").retryable()
}

/// In a task of its own: a caller that goes away does not leave half a purchase behind.
async fn in_process<O: Operation>(
    runtime: Runtime,
    token: &str,
    op: O,
    text: Option<TextSink>,
) -> Result<O::Output, Failure> {
    let caller = runtime.caller_of::<O>(token)?;
    let call = tokio::spawn(async move { op.carry_out(&runtime, caller, text).await });
    call.await
        .unwrap_or_else(|error| Err(local::effect_unknown(&error.to_string())))
}
