//! Running the node: it serves peers and HTTP clients until it is told to stop.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::ops::Status;
use tirami_agent_runtime::{FailureCode, ModelSource, NodeConfig, Relay};
use tirami_manifest::Amount;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::context::{Context, Session};
use super::exit::{Exit, Problem};
use super::output::Style;
use crate::access::Need;
use crate::config::{HOLD_TIMEOUT_SECONDS_MAX, Listen, Overrides, Settings, source};
use crate::http::{self, HttpState};

/// How long running HTTP requests may take to end, and how long the node may; together below the
/// second in which a stopped service should be gone. Chosen.
const STOP_HTTP: Duration = Duration::from_millis(400);
const STOP_NODE: Duration = Duration::from_millis(500);

/// How a node is started.
#[derive(Clone, Debug, Args)]
pub(super) struct NodeArgs {
    /// Have no model of one's own; only buy
    #[arg(long)]
    no_local: bool,
    /// The model to sell: sprout (the embedded one), echo, or the path of a GGUF file
    #[arg(long, value_name = "MODEL", value_parser = model, conflicts_with = "no_local")]
    model: Option<ModelSource>,
    /// Where other nodes reach this one [default: loopback, the port of the last start]
    #[arg(long, value_name = "ADDR")]
    mesh_listen: Option<SocketAddr>,
    /// A relay of your own for what finds no straight way; its peers name the same one [default: none]
    #[arg(long, value_name = "URL")]
    relay: Option<Relay>,
    /// Price in parts per million of par [default: 1000000]
    #[arg(long, value_name = "PPM", value_parser = ppm)]
    price: Option<u32>,
    /// Seconds until what is set aside for a silent job comes back [default: 120]
    #[arg(long, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=HOLD_TIMEOUT_SECONDS_MAX))]
    hold_timeout: Option<u64>,
    /// TRM accepted in any 24 hours from payers that no witness stands behind [default: 500]
    #[arg(long, value_name = "TRM")]
    stranger_budget: Option<Amount>,
}

fn ppm(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(ppm) if ppm > 0 => Ok(ppm),
        _ => Err(format!(
            "a price is a whole number of millionths of par from 1 to {}, such as 800000 for 0.8 of it",
            u32::MAX
        )),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
fn model(text: &str) -> Result<ModelSource, String> {
    Ok(source(text))
}

impl NodeArgs {
    pub(super) fn overrides(self) -> Overrides {
        Overrides {
            no_local: self.no_local,
            model: self.model,
            mesh_listen: self.mesh_listen,
            relay: self.relay,
            price_ppm: self.price,
            hold_timeout_seconds: self.hold_timeout,
            stranger_budget: self.stranger_budget,
            ..Overrides::default()
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// Where HTTP clients reach the node, or 'off' [default: 127.0.0.1:8474]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Listen>,
    /// A name beside loopback under which clients may call; can be given more than once
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    #[command(flatten)]
    node: NodeArgs,
    /// Stop when standard input ends: a node that shall not outlive the program that started it
    #[arg(long, hide = true)]
    until_eof: bool,
}

pub(super) async fn up(context: &Context, args: UpArgs) -> Result<Exit, Problem> {
    let overrides = Overrides {
        listen: args.listen,
        ..args.node.overrides()
    };
    let Settings {
        listen, mut node, ..
    } = context.settings(overrides)?;
    // First of all, so that a port in use is said before anything is touched.
    let listener = bind(listen).await?;
    let address = match &listener {
        Some(listener) => Some(
            listener
                .local_addr()
                .map_err(|e| cannot_listen(listen, &e))?,
        ),
        None => None,
    };
    node.http = address.map(|address| format!("http://{address}"));
    let stop = Stop::prepare(args.until_eof)?;
    let session = context
        .open_with(&node, Need::Mesh)
        .await
        .map_err(|p| mesh_port(p, &node))?;
    let hosts = args.allow_host.into_iter().chain(
        address
            .filter(|address| !address.ip().is_unspecified())
            .map(|a| a.ip().to_string()),
    );
    let state = HttpState::new(session.access.clone(), session.token.as_str()).allow_hosts(hosts);
    let door = listener.map(|listener| open_door(listener, state));
    let announced = announce(context, &session, address).await;
    let exit = match announced {
        Ok(()) => {
            stop.wait().await;
            Ok(Exit::Ok)
        }
        Err(problem) => Err(problem),
    };
    if let Some((close, task)) = door {
        close_door(close, task).await;
    }
    if tokio::time::timeout(STOP_NODE, session.close())
        .await
        .is_err()
    {
        tracing::warn!("the node did not stop in time; its books are safe");
    }
    exit
}

async fn bind(listen: Listen) -> Result<Option<TcpListener>, Problem> {
    let Listen::At(address) = listen else {
        return Ok(None);
    };
    TcpListener::bind(address)
        .await
        .map(Some)
        .map_err(|error| cannot_listen(listen, &error))
}

fn cannot_listen(listen: Listen, error: &std::io::Error) -> Problem {
    let what = match error.kind() {
        ErrorKind::AddrInUse => format!("the address {listen} is already in use"),
        _ => format!("cannot listen on {listen}: {error}"),
    };
    Problem::new(FailureCode::Busy, what)
        .hint("choose another with --listen ADDR, or none with --listen off")
}

/// A mesh port that is taken is told apart from other failures, with the flag that helps.
fn mesh_port(problem: Problem, node: &NodeConfig) -> Problem {
    let address = node.mesh_listen;
    let taken = address.port() != 0
        && std::net::UdpSocket::bind(address)
            .is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if !taken || problem.failure.code != FailureCode::Busy {
        return problem;
    }
    let text = format!("the mesh address {address} is already in use");
    Problem::new(FailureCode::Busy, text).hint("choose another with --mesh-listen ADDR")
}

type Door = (oneshot::Sender<()>, JoinHandle<()>);

fn open_door(listener: TcpListener, state: HttpState) -> Door {
    let (close, closed) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let shutdown = async move {
            // A sender that is gone means the same.
            drop(closed.await);
        };
        if let Err(error) = http::serve(listener, state, shutdown).await {
            tracing::error!(%error, "HTTP is not served any more");
        }
    });
    (close, task)
}

async fn close_door(close: oneshot::Sender<()>, mut task: JoinHandle<()>) {
    drop(close);
    if tokio::time::timeout(STOP_HTTP, &mut task).await.is_err() {
        task.abort();
    }
}

/// Says that the node is ready, and where.
async fn announce(
    context: &Context,
    session: &Session,
    address: Option<SocketAddr>,
) -> Result<(), Problem> {
    let status = session.call(Status {}).await?;
    let attached = session.access.is_attached().await;
    let out = &context.out;
    let http = address.map(|address| format!("http://{address}"));
    if out.is_json() {
        out.event(&json!({
            "event": "ready", "pid": std::process::id(), "node": status.node, "http": http,
            "addresses": status.addresses, "attached": attached, "data_dir": status.data_dir,
            "network": status.network, "role": status.role, "models": status.models,
        }));
    } else {
        let (node, network) = (status.node.short(), &status.network_name);
        out.tell(
            Style::Good,
            "ready:",
            &format!("node {node}, {} of {network}", status.role),
        );
        let sells = if status.models.is_empty() {
            "nothing".into()
        } else {
            status.models.join(", ")
        };
        out.note(&format!("  peers    {}", status.addresses.join(", ")));
        out.note(&format!(
            "  clients  {}",
            http.as_deref().unwrap_or("no HTTP")
        ));
        out.note(&format!("  sells    {sells}"));
    }
    if attached {
        out.warn(&format!(
            "process {} has this data directory; attached to it, and taking over when it ends",
            status.pid
        ));
    }
    if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
        out.warn(&format!(
            "{address} can be reached from other machines, without encryption; every route that \
             spends or shows money asks for a token ('tirami-agent token show')"
        ));
    }
    for warning in &status.warnings {
        out.warn(warning);
    }
    Ok(())
}

/// What ends a process that serves.
pub(crate) struct Stop {
    until_eof: bool,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    /// Listens for signals from now on.
    pub(crate) fn prepare(until_eof: bool) -> Result<Self, Problem> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let terminate = signal(SignalKind::terminate())
                .map_err(|error| Problem::internal(format!("signals: {error}")))?;
            Ok(Self {
                until_eof,
                terminate,
            })
        }
        #[cfg(not(unix))]
        Ok(Self { until_eof })
    }

    /// Waits for SIGINT, SIGTERM or, if asked for, the end of standard input.
    pub(crate) async fn wait(mut self) {
        let until_eof = self.until_eof;
        tokio::select! {
            result = tokio::signal::ctrl_c() => {
                if let Err(error) = result {
                    tracing::error!(%error, "signals cannot be received");
                }
            }
            () = self.terminated() => (),
            () = end_of_input(until_eof) => (),
        }
    }

    #[cfg(unix)]
    async fn terminated(&mut self) {
        self.terminate.recv().await;
    }

    #[cfg(not(unix))]
    async fn terminated(&mut self) {
        std::future::pending().await
    }
}

async fn end_of_input(wanted: bool) {
    if !wanted {
        return std::future::pending().await;
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut byte = [0];
        while std::io::stdin()
            .read(&mut byte)
            .is_ok_and(|count| count > 0)
        {}
    });
    if read.await.is_err() {
        tracing::debug!("the end of standard input could not be waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HTTP_LISTEN;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_flag_that_helps() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let problem = bind(Listen::At(address)).await.unwrap_err();
        assert!(
            problem.failure.message.contains(&address.to_string()),
            "{problem}"
        );
        assert!(problem.failure.hint.unwrap().contains("--listen"));
    }

    #[test]
    fn a_price_is_a_whole_number_of_millionths() {
        assert_eq!(ppm("800000"), Ok(800_000));
        for bad in ["0", "0.8", "-1", "4294967296", ""] {
            assert!(ppm(bad).unwrap_err().contains("800000 for 0.8"), "{bad:?}");
        }
    }

    #[test]
    fn a_mesh_port_in_use_is_named_with_the_flag_that_helps() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut node = NodeConfig::new("/d");
        node.mesh_listen = taken.local_addr().unwrap();
        let problem = mesh_port(Problem::new(FailureCode::Busy, "no"), &node);
        assert!(
            problem
                .failure
                .message
                .contains(&node.mesh_listen.to_string()),
            "{problem}"
        );
        assert!(problem.failure.hint.unwrap().contains("--mesh-listen"));
    }

    #[test]
    fn the_default_in_the_help_is_the_default() {
        use clap::CommandFactory;
        let mut command = super::super::Cli::command();
        let up = command.find_subcommand_mut("up").unwrap();
        assert!(up.render_long_help().to_string().contains(HTTP_LISTEN));
    }
}
