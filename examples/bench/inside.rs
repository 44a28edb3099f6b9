//! Two nodes inside this program: their commits can be counted, and the engine can be one that takes no time.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use redb::StorageBackend;
use tirami_agent_runtime::ops::ChangeServe;
use tirami_agent_runtime::ops::{
    Audit, Balance, Budget, Join, MakeTicket, Obey, Operation, SetOwner, Status,
};
use tirami_agent_runtime::owner::{MAIN_AGENT, agent_id};
use tirami_agent_runtime::{Ask, Builder, FailureCode, NodeConfig, Runtime};
use tirami_manifest::Multiplier;
use tirami_manifest::id::to_hex;
use tirami_manifest::key::SecretKey;
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Signed;
use tirami_mesh::engine::Engine;
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::memory::MemoryNetwork;
use tirami_wallet::keystore::node_key;
use tirami_wallet::store::Storage;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::WORKERS;
use crate::commits::{Counted, Flushes};
use crate::pair::{CHEAP, OWNER, unbroken};
use crate::process::{WITHIN, cpu};

/// Who asks at the same time, in the figure that is about many.
pub(crate) const CLIENTS: u32 = 64;

/// Requests after which a pair is warm; the first of them makes the buyer known to the seller.
const WARM_UP: u32 = 20;

/// Requests whose commits are counted.
const COUNTED: u32 = 20;

/// Long enough for what goes on after an answer.
const PAUSE: Duration = Duration::from_millis(30);

/// Runs work on threads of its own, as many as a node has, while this one waits.
pub(crate) fn apart<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?;
        threads.block_on(work)
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(done) => done,
        Err(_) => bail!("the nodes inside panicked"),
    })
}

/// What the two speak over.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    /// Memory of this program.
    Memory(MemoryNetwork),
    /// The loopback of this machine.
    Loopback,
}

/// Who sells, and who buys from it.
pub(crate) struct Inside {
    pub(crate) seller: Runtime,
    pub(crate) buyer: Runtime,
    flushes: (Flushes, Flushes),
}

async fn node(
    (dir, wire): (&Path, &Wire),
    engine: Option<Arc<dyn Engine>>,
) -> Result<(Runtime, Flushes)> {
    fs::create_dir_all(dir)?;
    // What makes it a node's directory.
    let key = node_key(&dir.join("node.key"), None)?;
    let flushes = Flushes::default();
    let file = Counted::new(&dir.join("counted.redb"), flushes.clone())?;
    let file: Box<dyn StorageBackend> = Box::new(file);
    let mut config = NodeConfig::new(dir);
    config.model = None;
    config.multiplier = Some(Multiplier::from_ppm(CHEAP));
    let mut builder = Builder::new(config).storage(Storage::Backend(file));
    if let Some(engine) = engine {
        builder = builder.engine(engine);
    }
    if let Wire::Memory(network) = wire {
        builder = builder.transport(Arc::new(network.transport(key.id())));
    }
    Ok((builder.start().await?, flushes))
}

async fn run<O: Operation>(runtime: &Runtime, mut op: O) -> Result<O::Output> {
    op.prepare();
    let caller = runtime.caller(runtime.token())?;
    Ok(op.run(runtime, caller, None).await?)
}

/// Takes away what would stop a program that buys much.
async fn without_breakers(node: &Runtime) -> Result<()> {
    let owner = SecretKey::from_bytes(&OWNER);
    let set = SetOwner {
        owner: owner.owner_id(),
    };
    run(node, set).await?;
    let terms = run(node, Budget::default()).await?.terms;
    let order = OwnerOrder {
        node: node.node(),
        number: run(node, Status {}).await?.next_order,
        decision: Decision::SetTerms {
            agent: agent_id(MAIN_AGENT),
            terms: Box::new(unbroken(terms)),
        },
    };
    let order = to_hex(&Signed::new(order, &owner).to_bytes());
    run(node, Obey { order }).await?;
    Ok(())
}

impl Inside {
    /// Starts both, and buys until they know each other.
    pub(crate) async fn start(dir: &Path, wire: Wire, engine: Arc<dyn Engine>) -> Result<Self> {
        let (seller, sold) = node((&dir.join("seller"), &wire), Some(engine)).await?;
        let (buyer, bought) = node((&dir.join("buyer"), &wire), None).await?;
        let ticket = run(&seller, MakeTicket {}).await?.ticket;
        run(&buyer, Join { ticket }).await?;
        without_breakers(&buyer).await?;
        run(&seller, ChangeServe::Slots { count: CLIENTS }).await?;
        Ok(Self {
            seller,
            buyer,
            flushes: (sold, bought),
        })
    }

    /// Two that sell and buy echo over memory.
    pub(crate) async fn echo(dir: &Path) -> Result<Self> {
        let wire = Wire::Memory(MemoryNetwork::new());
        let pair = Self::start(dir, wire, Arc::new(Echo)).await?;
        for _ in 0..WARM_UP {
            pair.buyer.agent().ask(question(20, 20)).await?;
            pair.seller.agent().ask(question(20, 20)).await?;
        }
        Ok(pair)
    }

    /// Commits of the seller and of the buyer so far.
    fn commits(&self) -> (f64, f64) {
        (self.flushes.0.commits(), self.flushes.1.commits())
    }

    /// Checks the books of both, and that they say the same.
    pub(crate) async fn stop(self) -> Result<()> {
        let agree = async {
            loop {
                let sold = run(&self.seller, Balance {}).await?.trm_earned;
                let bought = run(&self.buyer, Balance {}).await?.trm_spent;
                if sold == bought {
                    return Ok::<_, anyhow::Error>(());
                }
                sleep(PAUSE).await;
            }
        };
        timeout(WITHIN, agree).await??;
        for node in [&self.seller, &self.buyer] {
            let books = run(node, Audit::default()).await?;
            ensure!(books.holds, "the books do not hold: {books:?}");
        }
        self.buyer.shutdown().await;
        self.seller.shutdown().await;
        Ok(())
    }
}

/// So many words to say again, and how many at most.
fn question(words: u32, tokens: u32) -> Ask {
    let said: Vec<String> = (0..words).map(|n| format!("w{n:03}")).collect();
    Ask::new(said.join(" ")).max_tokens(tokens)
}

/// Commits until an answer is there, at home and bought.
pub(crate) async fn on_the_path(dir: &Path) -> Result<(f64, f64)> {
    let pair = Inside::echo(dir).await?;
    let mut counts = [0.0; 2];
    for _ in 0..COUNTED {
        for (node, count) in [&pair.seller, &pair.buyer].into_iter().zip(&mut counts) {
            sleep(PAUSE).await;
            let before = pair.commits();
            node.agent().ask(question(20, 64)).await?;
            let after = pair.commits();
            *count += after.0 - before.0 + after.1 - before.1;
        }
    }
    pair.stop().await?;
    let [home, bought] = counts.map(|count| count / f64::from(COUNTED));
    Ok((home, bought))
}

/// What a job takes here and there when making the answer takes no time, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Job {
    pub(crate) home: f64,
    pub(crate) bought: f64,
}

/// Jobs of so many tokens, of each so many, one after the other in turns.
pub(crate) async fn jobs(pair: &Inside, sizes: [u32; 2], each: u32) -> Result<[Job; 2]> {
    let mut all = <[[Vec<f64>; 2]; 2]>::default();
    let [longest, _] = sizes;
    for _ in 0..each {
        for (tokens, of_size) in sizes.into_iter().zip(&mut all) {
            for (node, times) in [&pair.seller, &pair.buyer].into_iter().zip(of_size) {
                let start = Instant::now();
                node.agent().ask(question(longest, tokens)).await?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(all.map(|of_size| {
        let [home, bought] = of_size.map(crate::report::median);
        Job { home, bought }
    }))
}

/// What many bought at the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trades {
    pub(crate) per_second: f64,
    /// Commits of both sides for each.
    pub(crate) commits: f64,
    /// Milliseconds of processor time of both sides and the client, for each.
    pub(crate) cpu: f64,
    /// Processors that this program got meanwhile.
    pub(crate) processors: f64,
    /// Requests that were told to come back, for each that was answered.
    pub(crate) refused: f64,
}

/// All clients buy for so long, each one answer after the other.
pub(crate) async fn trades(pair: &Inside, lasts: Duration) -> Result<Trades> {
    let spent = cpu(std::process::id())?;
    let (start, before) = (Instant::now(), pair.commits());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let agent = pair.buyer.agent();
        clients.spawn(async move {
            let (mut done, mut refused) = (0_u32, 0_u32);
            while start.elapsed() < lasts {
                match agent.ask(question(3, 8)).await {
                    Ok(_) => done += 1,
                    Err(failure) if failure.retryable || failure.code == FailureCode::Busy => {
                        refused += 1;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Ok((done, refused))
        });
    }
    let (mut done, mut refused) = (0_u32, 0_u32);
    while let Some(client) = clients.join_next().await {
        let (answered, turned) = client??;
        done += answered;
        refused += turned;
    }
    let (wall, after) = (start.elapsed().as_secs_f64(), pair.commits());
    let spent = cpu(std::process::id())?.saturating_sub(spent).as_secs_f64();
    ensure!(done > 0, "nothing was bought");
    let done = f64::from(done);
    Ok(Trades {
        per_second: done / wall,
        commits: (after.0 - before.0 + after.1 - before.1) / done,
        cpu: spent * 1e3 / done,
        processors: spent / wall,
        refused: f64::from(refused) / done,
    })
}
