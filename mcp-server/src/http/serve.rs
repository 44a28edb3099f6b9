//! Connections: accepted up to a limit, without Nagle's delay, closed when a head does not come.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};
use tower::ServiceExt;

use super::{HttpState, app};

/// Open connections; beyond it new ones wait in the system's queue. Chosen.
const CONNECTIONS_MAX: usize = 256;

/// Longest time for a request's head to arrive; also how long an idle connection stays. Chosen.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest head; chosen, four times what browsers send.
const HEAD_BYTES_MAX: usize = 32 * 1_024;

/// How long running requests may go on after a shutdown begins; chosen.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Wait after a failed accept, which is mostly the lack of file descriptors. Chosen.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves HTTP/1 on `listener` until `shutdown` resolves; then running requests get a moment to
/// end, and the rest is cut off.
///
/// # Errors
///
/// None at present: a failed accept is logged and tried again.
pub async fn serve(
    listener: TcpListener,
    state: HttpState,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let router = app(state);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = &mut shutdown => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, permit)) => {
                let work = connection(stream, router.clone(), graceful.watcher());
                connections.spawn(async move {
                    work.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were still open at shutdown");
    }
    connections.shutdown().await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Without this every small answer waits some 40 ms for the other side's delayed ACK.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(stream: TcpStream, router: Router, watcher: Watcher) {
    let service = router.map_request(|request: Request<Incoming>| request.map(Body::new));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended badly");
    }
}
