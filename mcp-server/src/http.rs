//! The HTTP door: OpenAI's routes, a few of our own, health and discovery.
//!
//! Whoever comes in has passed `guard`: a loopback or allowed `Host`, no foreign `Origin`, room for
//! one more request, and, where money or books are concerned, a bearer token. The wallet decides
//! whose token it is.

mod body;
mod chain;
mod guard;
mod health;
pub(crate) mod openai;
mod peers;
mod selling;
mod serve;
mod tirami;
mod well_known;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::access::Access;

pub use serve::serve;

/// Requests worked on at once, streams included; beyond it callers are told to come back. Chosen,
/// above what one machine's model can serve.
const REQUESTS_MAX: usize = 64;

/// Requests to stop all spending that are worked on at once: in a room of their own, so that they come
/// in however many spend. Chosen.
const FREEZES_MAX: usize = 8;

/// Where a freeze goes.
pub(crate) const FREEZE: &str = "/v1/tirami/freeze";

/// What every request of this door shares.
#[derive(Clone)]
pub struct HttpState {
    pub(crate) access: Access,
    /// The door's own token: for readiness and the manifest, which callers without one may ask.
    pub(crate) token: Arc<str>,
    /// Names beside loopback that `Host` and `Origin` may carry, in lower case, without port.
    allowed_hosts: Arc<[String]>,
    room: Arc<Semaphore>,
    room_to_freeze: Arc<Semaphore>,
}

impl std::fmt::Debug for HttpState {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpState")
            .field("allowed_hosts", &self.allowed_hosts)
            .finish_non_exhaustive()
    }
}

impl HttpState {
    /// A door to the node behind `access`. `token` is the one the door itself asks with; callers
    /// bring their own.
    pub fn new(access: Access, token: impl Into<Arc<str>>) -> Self {
        Self {
            access,
            token: token.into(),
            allowed_hosts: Arc::default(),
            room: Arc::new(Semaphore::new(REQUESTS_MAX)),
            room_to_freeze: Arc::new(Semaphore::new(FREEZES_MAX)),
        }
    }

    /// Accepts requests for these names and from pages of these, beside loopback.
    #[must_use]
    pub fn allow_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.allowed_hosts = hosts.into_iter().map(|host| host.to_lowercase()).collect();
        self
    }
}

/// Every route.
pub fn app(state: HttpState) -> Router {
    let with_token = Router::new()
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{model}", get(openai::models::one))
        .route("/v1/chat/completions", post(openai::chat::completions))
        .route("/v1/tirami/balance", get(tirami::balance))
        .route(
            "/v1/tirami/serve",
            get(selling::serve).post(selling::change),
        )
        .route("/v1/tirami/earnings", get(selling::earnings))
        .route("/v1/tirami/network", get(chain::network))
        .route("/v1/tirami/chain", get(chain::entries))
        .route("/v1/tirami/prove/balance", get(chain::balance))
        .route("/v1/tirami/prove/receipt/{id}", get(chain::receipt))
        .route("/v1/tirami/verify", post(chain::verify))
        .route("/v1/tirami/identity", get(chain::identity))
        .route("/v1/tirami/anchor", get(chain::anchor))
        .route("/v1/tirami/audit", get(chain::audit))
        .route("/v1/tirami/audit_log", get(chain::audit_log))
        .route("/v1/tirami/prove/log", get(chain::prove_log))
        .route("/v1/tirami/prove/statement", get(chain::prove_statement))
        .route("/v1/tirami/statement", post(chain::statement))
        .route("/v1/tirami/peers", get(peers::peers))
        .route("/v1/tirami/peers/ping", post(peers::ping))
        .route("/v1/tirami/net", get(peers::net))
        .route(FREEZE, post(tirami::freeze))
        .route_layer(from_fn(guard::bearer));
    let open = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/.well-known/tirami-agent.json", get(well_known::manifest));
    with_token
        .merge(open)
        .fallback(guard::no_route)
        .method_not_allowed_fallback(guard::no_method)
        .layer(from_fn_with_state(state.clone(), guard::enter))
        .with_state(state)
}

#[cfg(test)]
mod tests;
