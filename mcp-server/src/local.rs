//! The local socket: how a second process on the same data directory reaches the node.
//!
//! One connection carries one call: a line of JSON with the operation, then lines of JSON with text
//! as it comes, then one line with the outcome. A connection that says `attach` is kept open so that
//! the other side sees when this process ends. The socket lies in the data directory and can
//! be opened by its user alone.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tirami_agent_runtime::ops::{
    AcceptMandate, Accounts, Alerts, Approvals, Archive, Audit, AuditLog, Backup, Balance, Budget,
    ChainEntries, ChangeServe, Chat, Deny, Earnings, ExplainBudget, Freeze, GetManifest,
    GetReceipt, GiveBackMandate, GrantMandate, HandOutMandate, History, Identity, Join, KnowsAgent,
    Loans, MakeAnchor, MakeTicket, Mandates, Models, NetCheck, Network, Obey, Operation, Peers,
    PingPeer, ProveBalance, ProveLog, ProveReceipt, ProveStatement, Quote, ReclaimAllMandates,
    ReclaimMandate, RepayLoan, RevokeMandate, Schedule, Serve, SetOwner, Statement, Status,
    TextSink, TightenBudget, Tokens, TravellingMandates, Unarchive, Verify,
};
use tirami_agent_runtime::{Failure, FailureCode, Runtime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Longest line either side reads; a request carries a prompt of at most 200 kB.
const LINE_MAX: u64 = 4 * 1_024 * 1_024;

/// Calls worked on at once; further ones wait, but for a freeze, which never does.
const CALLS_AT_ONCE: usize = 256;

/// Connections at once, those that wait and those that are attached included; further ones wait in the
/// system's queue.
const CONNECTIONS_MAX: usize = 512;

/// Wait after a failed accept, which is mostly the lack of file descriptors. Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Pieces of text that wait for a slow reader; the generation waits when it is full.
pub(crate) const TEXT_AHEAD: usize = 64;

/// Name of the call that only wants to know when this process ends.
const ATTACH: &str = "attach";

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    token: String,
    op: String,
    input: Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Text(String),
    Done(Value),
    Failed(Failure),
    Attached,
}

/// How a call over the socket can end without an outcome.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The node answered with a failure.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// What the node answered cannot be read.
    #[error("the process that has the node answered what cannot be read: {0}")]
    Malformed(String),
    /// Nobody listens, or the node went away in the middle: the outcome is unknown.
    #[error("the process that had the node is gone: {0}")]
    Gone(#[from] io::Error),
}

/// Serves the socket until the handle is aborted.
pub(crate) fn listen(path: &Path, runtime: Runtime) -> io::Result<JoinHandle<()>> {
    // Whoever has the wallet's lock is the only one who may listen; what is there is left over.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let room = Arc::new(Semaphore::new(CALLS_AT_ONCE));
    Ok(tokio::spawn(async move {
        let mut calls = JoinSet::new();
        loop {
            if calls.len() >= CONNECTIONS_MAX {
                calls.join_next().await;
                continue;
            }
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = calls.join_next() => continue,
            };
            match stream {
                Ok((stream, _)) => {
                    let (runtime, room) = (runtime.clone(), room.clone());
                    calls.spawn(async move {
                        if let Err(error) = serve(stream, &runtime, room).await {
                            tracing::debug!(%error, "a local call broke off");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a local call could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }))
}

async fn serve(stream: UnixStream, runtime: &Runtime, room: Arc<Semaphore>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LINE_MAX));
    let mut line = String::new();
    lines.read_line(&mut line).await?;
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let failure = Failure::new(FailureCode::InvalidInput, format!("local call: {error}"));
            return say(&mut write, &Line::Failed(failure)).await;
        }
    };
    if request.op == ATTACH {
        say(&mut write, &Line::Attached).await?;
        // Ends when the other side goes away.
        line.clear();
        lines.read_line(&mut line).await?;
        return Ok(());
    }
    let permit = match request.op.as_str() {
        <Freeze as Operation>::NAME => None,
        _ => Some(room.acquire_owned().await.map_err(io::Error::other)?),
    };
    let (sink, mut text) = mpsc::channel(TEXT_AHEAD);
    let runtime = runtime.clone();
    // In a task of its own: a caller that goes away does not leave half a purchase behind.
    let mut call = tokio::spawn(async move {
        let outcome = dispatch(&runtime, request, sink).await;
        drop(permit);
        outcome
    });
    let outcome = loop {
        tokio::select! {
            Some(piece) = text.recv() => say(&mut write, &Line::Text(piece)).await?,
            outcome = &mut call => break outcome,
        }
    };
    while let Ok(piece) = text.try_recv() {
        say(&mut write, &Line::Text(piece)).await?;
    }
    let last = match outcome {
        Ok(Ok(value)) => Line::Done(value),
        Ok(Err(failure)) => Line::Failed(failure),
        Err(error) => Line::Failed(effect_unknown(&error.to_string())),
    };
    say(&mut write, &last).await
}

/// A call that did not come to its end for a reason of this program's.
pub(crate) fn effect_unknown(what: &str) -> Failure {
    Failure::new(
        FailureCode::Internal,
        format!("the call did not end as it should: {what}"),
    )
    .retryable()
    .hint("its effect is unknown; ask again with the same idempotency_key")
}

async fn say(write: &mut (impl AsyncWriteExt + Unpin), line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}

macro_rules! dispatch {
    ($($op:ty),+ $(,)?) => {
        async fn dispatch(
            runtime: &Runtime,
            request: Request,
            text: TextSink,
        ) -> Result<Value, Failure> {
            match request.op.as_str() {
                $(<$op>::NAME => {
                    let caller = runtime.caller_of::<$op>(&request.token)?;
                    let op: $op = serde_json::from_value(request.input).map_err(invalid)?;
                    let output = op.carry_out(runtime, caller, Some(text)).await?;
                    serde_json::to_value(output).map_err(invalid)
                })+
                other => Err(Failure::new(
                    FailureCode::InvalidInput,
                    format!("the process that has this data directory does not know '{other}'"),
                )
                .hint("stop it, so that this version takes over")),
            }
        }
    };
}

dispatch!(
    AcceptMandate,
    Accounts,
    Alerts,
    Approvals,
    Archive,
    Audit,
    AuditLog,
    Backup,
    Balance,
    Budget,
    ChainEntries,
    ChangeServe,
    Chat,
    Deny,
    Earnings,
    ExplainBudget,
    Freeze,
    GetManifest,
    GetReceipt,
    GiveBackMandate,
    GrantMandate,
    HandOutMandate,
    History,
    Identity,
    Join,
    KnowsAgent,
    Loans,
    MakeAnchor,
    MakeTicket,
    Mandates,
    Models,
    NetCheck,
    Network,
    Obey,
    Peers,
    PingPeer,
    ProveBalance,
    ProveLog,
    ProveReceipt,
    ProveStatement,
    Quote,
    ReclaimAllMandates,
    ReclaimMandate,
    RepayLoan,
    RevokeMandate,
    Schedule,
    Serve,
    SetOwner,
    Statement,
    Status,
    TightenBudget,
    Tokens,
    TravellingMandates,
    Unarchive,
    Verify,
);

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err takes")]
fn invalid(error: serde_json::Error) -> Failure {
    Failure::new(FailureCode::InvalidInput, error.to_string())
}

/// Makes one call.
pub(crate) async fn call<O: Operation>(
    path: &Path,
    token: &str,
    op: &O,
    text: Option<TextSink>,
) -> Result<O::Output, CallError> {
    let request = Request {
        token: token.to_owned(),
        op: O::NAME.to_owned(),
        input: serde_json::to_value(op).map_err(invalid)?,
    };
    let (mut lines, _write) = ask(path, &request).await?;
    loop {
        match next(&mut lines).await? {
            Line::Text(piece) => {
                let unread = match &text {
                    Some(sink) => sink.send(piece).await.is_err(),
                    None => false,
                };
                // Hanging up tells the node that nobody reads; it decides what that means.
                if unread {
                    let what = io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the text");
                    return Err(CallError::Failed(effect_unknown(&what.to_string())));
                }
            }
            Line::Done(value) => return Ok(serde_json::from_value(value).map_err(invalid)?),
            Line::Failed(failure) => return Err(failure.into()),
            Line::Attached => {}
        }
    }
}

/// Waits until the process that has the node ends; fails at once when nobody is there.
pub(crate) async fn attach(path: &Path) -> io::Result<impl Future<Output = ()> + use<>> {
    let request = Request {
        token: String::new(),
        op: ATTACH.to_owned(),
        input: Value::Null,
    };
    let (mut lines, write) = ask(path, &request).await?;
    next(&mut lines).await.map_err(io::Error::other)?;
    Ok(async move {
        let mut rest = String::new();
        while matches!(lines.read_line(&mut rest).await, Ok(read) if read > 0) {
            rest.clear();
        }
        drop(write);
    })
}

type Lines = BufReader<tokio::io::Take<tokio::net::unix::OwnedReadHalf>>;

async fn ask(
    path: &Path,
    request: &Request,
) -> io::Result<(Lines, tokio::net::unix::OwnedWriteHalf)> {
    let (read, mut write) = UnixStream::connect(path).await?.into_split();
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    Ok((BufReader::new(read.take(LINE_MAX)), write))
}

async fn next(lines: &mut Lines) -> Result<Line, CallError> {
    lines.get_mut().set_limit(LINE_MAX);
    let mut line = String::new();
    lines.read_line(&mut line).await?;
    if line.ends_with('\n') {
        return serde_json::from_str(&line).map_err(|e| CallError::Malformed(e.to_string()));
    }
    if u64::try_from(line.len()).unwrap_or(u64::MAX) >= LINE_MAX {
        return Err(CallError::Malformed(format!(
            "a line of more than {LINE_MAX} bytes"
        )));
    }
    // Nothing, or half a line: the other side ended.
    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
}
