//! Builds wallet, mesh and engines, and knows the order in which they start and stop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tirami_manifest::genesis::Genesis;
use tirami_manifest::key::SecretKey;
use tirami_manifest::{Clock, Multiplier, NodeId, Timestamp};
use tirami_mesh::engine::Engine;
use tirami_mesh::net::iroh::{IrohOptions, IrohTransport};
use tirami_mesh::net::transport::{NetError, Transport};
use tirami_wallet::intent::IntentKey;
use tirami_wallet::jobs::Lane;
use tirami_wallet::store::{CACHE_BYTES, Storage};
use tirami_wallet::token::{main_agent, token_hash};
use tirami_wallet::{OpenOptions, Wallet};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::Agent;
use crate::clock::{SystemClock, random};
use crate::config::NodeConfig;
use crate::data_dir;
use crate::failure::{Failure, FailureCode};
use crate::heard::Heard;
use crate::ops::{Caller, Operation};
use crate::privacy::Privacy;
use crate::records::Records;
use crate::selling::Desk;
use crate::{accept, claiming, keys, recover, staying, sync};

/// Why a node does not start.
pub type StartError = Failure;

/// A running node. Cheap to clone; every clone is the same node.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) wallet: Wallet,
    pub(crate) key: SecretKey,
    pub(crate) genesis: Mutex<Genesis>,
    pub(crate) engine: Option<Arc<dyn Engine>>,
    /// `None` for a node that only looks into its books.
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) token: String,
    /// True while the kill switch is on; running purchases watch it.
    pub(crate) frozen: watch::Sender<bool>,
    /// One lock per intent that is being worked on, so that equal keys wait for each other. The map
    /// is only held to look one up.
    pub(crate) intents: Mutex<BTreeMap<Vec<u8>, Arc<tokio::sync::Mutex<()>>>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jobs: Arc<tokio::sync::Semaphore>,
    pub(crate) selling: Desk,
    pub(crate) records: Records,
    pub(crate) heard: Heard,
    /// How many requests of each peer are being served.
    served: Mutex<BTreeMap<NodeId, usize>>,
    /// Why the witness refused when it was last asked; held for an assignment only.
    uncertified: Mutex<Option<String>>,
    /// Jobs that run at this provider.
    running: Mutex<BTreeSet<Lane>>,
    tasks: Mutex<JoinSet<()>>,
}

/// Jobs and other requests of peers served at once; beyond it they are told to come back.
pub(crate) const SERVED_AT_ONCE: usize = 256;

/// What a node is built from.
#[derive(Debug)]
pub struct Builder {
    config: NodeConfig,
    books_only: bool,
    clock: Arc<dyn Clock>,
    transport: Option<Arc<dyn Transport>>,
    engine: Option<Arc<dyn Engine>>,
    storage: Option<Storage>,
}

impl Builder {
    /// A node as the config says.
    pub fn new(config: NodeConfig) -> Self {
        Self {
            config,
            books_only: false,
            clock: Arc::new(SystemClock),
            transport: None,
            engine: None,
            storage: None,
        }
    }

    /// Opens the books only: no network, no model.
    #[must_use]
    pub fn books_only(mut self) -> Self {
        self.books_only = true;
        self
    }

    /// Joins the network of this ticket at the start, unless the node is a member already.
    ///
    /// # Errors
    ///
    /// What starting and joining fail with.
    pub async fn join(self, ticket: &str) -> Result<Runtime, StartError> {
        let runtime = self.start().await?;
        match sync::join(&runtime, ticket).await {
            Ok(_) => Ok(runtime),
            Err(failure) => {
                runtime.shutdown().await;
                Err(failure)
            }
        }
    }

    /// Another clock, for tests and simulation.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another wire, for tests and simulation.
    #[must_use]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Another engine, for tests and simulation.
    #[must_use]
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Another place for the wallet's bytes, for tests.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Another model.
    #[must_use]
    pub fn model(mut self, model: Option<tirami_mesh::models::Source>) -> Self {
        self.config.model = model;
        self
    }

    /// Starts the node: directory, wallet, model, network, recovery, then serving.
    ///
    /// # Errors
    ///
    /// A [`Failure`] that names what is in the way.
    pub async fn start(self) -> Result<Runtime, StartError> {
        let Self {
            config,
            books_only,
            clock,
            transport,
            engine,
            storage,
        } = self;
        data_dir::prepare(&config.data_dir)?;
        let engine = match engine {
            Some(engine) => Some(engine),
            None if books_only => None,
            None => open_model(&config)?,
        };
        let options = |storage, key| OpenOptions {
            storage,
            clock: clock.clone(),
            key,
            hold_timeout_ms: config.hold_timeout_ms,
            stranger_budget: config.stranger_budget,
            cache_bytes: CACHE_BYTES,
        };
        let (wallet, key) = keys::open(&config, storage, options)?;
        let token = data_dir::ensure_token(&config.data_dir)?;
        let founded = Genesis::private(&config.network_name, key.id(), clock.now(), random());
        // While the disk works the network gets ready.
        let books = begin(&config, &wallet, (founded, &token));
        let network = async {
            Ok(match transport {
                Some(transport) => Some(transport),
                None if books_only => None,
                None => Some(listen(&config, &key).await?),
            })
        };
        let (genesis, transport) = tokio::try_join!(books, network)?;
        let frozen = watch::Sender::new(wallet.frozen()?.is_some());
        let inner = Inner {
            records: Records::new(clock.clone()),
            selling: Desk::open(&wallet, clock.clone(), config.load_file.clone())?,
            config,
            wallet,
            key,
            genesis: Mutex::new(genesis),
            engine,
            transport,
            token,
            frozen,
            intents: Mutex::default(),
            clock,
            jobs: Arc::new(tokio::sync::Semaphore::new(SERVED_AT_ONCE)),
            heard: Heard::default(),
            served: Mutex::default(),
            uncertified: Mutex::default(),
            running: Mutex::default(),
            tasks: Mutex::default(),
        };
        let runtime = Runtime {
            inner: Arc::new(inner),
        };
        recover::recover(&runtime).await?;
        runtime.begin_tasks();
        if let Some(engine) = &runtime.inner.engine {
            engine.preload();
        }
        Ok(runtime)
    }
}

impl Runtime {
    /// What a node does unasked, for as long as it runs.
    fn begin_tasks(&self) {
        self.spawn(recover::keep_swept(self.clone()));
        if self.inner.transport.is_some() {
            self.spawn(accept::accept(self.clone()));
            self.spawn(sync::keep_in_step(self.clone()));
            self.spawn(sync::keep_delivering(self.clone()));
            self.spawn(claiming::keep_claiming(self.clone()));
            self.spawn(recover::count_earnings(self.clone()));
            self.spawn(staying::stay_connected(self.clone()));
        }
    }

    /// A node with its keys and wallet in `data_dir`, at the defaults.
    pub fn builder(data_dir: impl Into<PathBuf>) -> Builder {
        Builder::new(NodeConfig::new(data_dir))
    }

    /// The main agent of this node.
    pub fn agent(&self) -> Agent {
        Agent::main(self.clone())
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.key.id()
    }

    /// The main agent's bearer token.
    pub fn token(&self) -> &str {
        &self.inner.token
    }

    /// Where other nodes reach this one.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner
            .transport
            .as_ref()
            .map_or_else(Vec::new, |t| t.addresses())
    }

    /// Whose token this is.
    ///
    /// # Errors
    ///
    /// [`FailureCode::Unauthorized`].
    pub fn caller(&self, token: &str) -> Result<Caller, Failure> {
        Ok(Caller {
            agent: self.inner.wallet.agent_of_token(token)?,
        })
    }

    /// Who asks for an operation with this token.
    ///
    /// # Errors
    ///
    /// [`FailureCode::Unauthorized`] when the operation needs a token and this is none.
    pub fn caller_of<O: Operation>(&self, token: &str) -> Result<Caller, Failure> {
        match self.caller(token) {
            Err(_) if !O::NEEDS_TOKEN => Ok(Caller {
                agent: main_agent(),
            }),
            other => other,
        }
    }

    /// Stops serving, ends connections, and closes the wallet. Purchases that run are given up:
    /// what was signed is on disk, and the rest is owed to nobody.
    pub async fn shutdown(&self) {
        let tasks = std::mem::take(&mut *self.tasks());
        drop(tasks);
        if let Some(transport) = &self.inner.transport {
            transport.close().await;
        }
        self.inner.wallet.close().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    pub(crate) fn genesis(&self) -> Genesis {
        self.inner
            .genesis
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Whether another node may see a prompt of this one.
    pub(crate) fn may_see(&self, privacy: &Privacy, node: &NodeId) -> bool {
        let config = &self.inner.config;
        let allows = |privacy: &Privacy| privacy.allows(node, &config.own_nodes);
        allows(&config.privacy) && allows(privacy)
    }

    /// What this node asks relative to par unless its owner sets another price.
    pub(crate) fn multiplier(&self) -> Multiplier {
        self.inner
            .config
            .multiplier
            .unwrap_or_else(|| self.genesis().base_price)
    }

    pub(crate) fn set_genesis(&self, genesis: Genesis) {
        *self
            .inner
            .genesis
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = genesis;
    }

    pub(crate) fn transport(&self) -> Result<&Arc<dyn Transport>, Failure> {
        self.inner.transport.as_ref().ok_or_else(|| {
            Failure::new(
                FailureCode::NoProvider,
                "this process opened the books only",
            )
            .hint("start the node with 'tirami-agent up'")
        })
    }

    /// The lock of an intent: whoever holds it works on the intent, equal keys wait.
    pub(crate) fn turn(&self, intent: &IntentKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut intents = self
            .inner
            .intents
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        intents.retain(|_, turn| Arc::strong_count(turn) > 1);
        intents
            .entry(intent.row_key().to_vec())
            .or_default()
            .clone()
    }

    pub(crate) fn served(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, usize>> {
        self.inner
            .served
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Jobs that run at this provider now.
    pub(crate) fn running(&self) -> std::sync::MutexGuard<'_, BTreeSet<Lane>> {
        self.inner
            .running
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Why the witness refused to certify the chain when it was last asked.
    pub(crate) fn uncertified(&self) -> Option<String> {
        self.refusal().clone()
    }

    /// Remembers why the witness does not certify this node's chain, nothing when it did; whether that is new.
    pub(crate) fn set_uncertified(&self, why: Option<String>) -> bool {
        let mut refusal = self.refusal();
        let is_new = *refusal != why;
        *refusal = why;
        is_new
    }

    fn refusal(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        let refusal = &self.inner.uncertified;
        refusal
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells running purchases whether the kill switch is on.
    pub(crate) fn publish_freeze(&self) {
        self.inner
            .frozen
            .send_modify(|frozen| match self.inner.wallet.frozen() {
                Ok(freeze) => *frozen = freeze.is_some(),
                Err(error) => tracing::error!(%error, "the freeze could not be read"),
            });
    }

    /// Runs a task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What a wallet needs to begin with, in one commit.
async fn begin(
    config: &NodeConfig,
    wallet: &Wallet,
    (founded, token): (Genesis, &str),
) -> Result<Genesis, Failure> {
    let agent = wallet.ensure_main_agent(token_hash(token));
    let (genesis, (), ()) = tokio::try_join!(
        async { wallet.found(founded).await.map_err(Failure::from) },
        async { agent.await.map_err(Failure::from) },
        keys::name_successor(config, wallet),
    )?;
    Ok(genesis)
}

fn open_model(config: &NodeConfig) -> Result<Option<Arc<dyn Engine>>, Failure> {
    let Some(source) = &config.model else {
        return Ok(None);
    };
    tirami_mesh::models::open(source)
        .map(Some)
        .map_err(|error| {
            let mut message = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                message = format!("{message}: {error}");
                cause = error.source();
            }
            Failure::new(FailureCode::Model, message).hint(
                "give --model the path of a GGUF file, or leave it out for the embedded model",
            )
        })
}

async fn listen(config: &NodeConfig, key: &SecretKey) -> Result<Arc<dyn Transport>, Failure> {
    let options = || IrohOptions {
        relay: config.relay.clone(),
        ..IrohOptions::default()
    };
    let bind = |address| IrohTransport::bind(key, address, options());
    let mut address = config.mesh_listen;
    let chosen = address.port() == 0;
    if chosen && let Some(port) = data_dir::read_port(&config.data_dir) {
        address.set_port(port);
    }
    let bound = match bind(address).await {
        Err(error) if chosen && address.port() != 0 => {
            tracing::warn!(%error, "the mesh port of the last start is taken; using another");
            bind(config.mesh_listen).await
        }
        other => other,
    };
    let transport = bound.map_err(|error| {
        let (code, hint) = match error {
            NetError::Relay { .. } => (
                FailureCode::InvalidInput,
                "write --relay http://NAME:PORT, and the same for its peers",
            ),
            _ => (
                FailureCode::Busy,
                "choose another --mesh-listen address, or stop what uses this one",
            ),
        };
        Failure::new(code, error.to_string()).hint(hint)
    })?;
    if chosen && let Some(address) = transport.addresses().first() {
        data_dir::write_port(&config.data_dir, address.port());
    }
    Ok(Arc::new(transport))
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        Self::new(FailureCode::ProviderFailed, error.to_string()).retryable()
    }
}
