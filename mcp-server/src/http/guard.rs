//! Who may come in: checks before any route runs.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tirami_agent_runtime::failure::{Failure, FailureCode};
use tokio::sync::OwnedSemaphorePermit;

use super::openai::error::{ApiError, refused};
use super::{FREEZE, HttpState};
use crate::mcp::caught;

/// Longest bearer token that is looked at; ours are about 70 characters.
const TOKEN_LEN_MAX: usize = 512;

/// The caller's bearer token. The wallet looks it up by its hash.
#[derive(Clone)]
pub(crate) struct Bearer(Arc<str>);

impl Bearer {
    /// The token.
    pub(crate) fn token(&self) -> &str {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::from(no_token()))
    }
}

/// Room for one request; freed with its last clone. A stream keeps one until it ends.
#[derive(Clone, Debug)]
pub(crate) struct Room(#[expect(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>);

impl<S: Send + Sync> FromRequestParts<S> for Room {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::from(busy()))
    }
}

/// The outermost layer: addressed to us, from no foreign page, with room, and answered even when
/// the route panics.
pub(crate) async fn enter(
    State(state): State<HttpState>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(refusal) = addressed(&state.allowed_hosts, &request) {
        return refusal;
    }
    let room = if request.uri().path() == FREEZE {
        &state.room_to_freeze
    } else {
        &state.room
    };
    let Ok(permit) = room.clone().try_acquire_owned() else {
        return ApiError::from(busy()).into_response();
    };
    request.extensions_mut().insert(Room(Arc::new(permit)));
    let mut response = match caught(next.run(request)).await {
        Ok(response) => response,
        Err(failure) => ApiError::from(failure).into_response(),
    };
    response.headers_mut().insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Asks for a bearer token; whose it is shows when it is used.
pub(crate) async fn bearer(mut request: Request, next: Next) -> Response {
    let Some(token) = bearer_token(request.headers()).map(|token| Bearer(token.into())) else {
        return ApiError::from(no_token()).into_response();
    };
    request.extensions_mut().insert(token);
    next.run(request).await
}

/// No such path.
pub(crate) async fn no_route(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(100).collect();
    Failure::new(FailureCode::NotFound, format!("there is no route {path}"))
        .hint("see docs/mcp-tools.md for the routes")
        .into()
}

/// No such method on this path.
pub(crate) async fn no_method(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(100).collect();
    let message = format!("{path} does not answer {method}");
    refused(
        StatusCode::METHOD_NOT_ALLOWED,
        &Failure::new(FailureCode::InvalidInput, message),
    )
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let possible = (1..=TOKEN_LEN_MAX).contains(&token.len());
    (scheme.eq_ignore_ascii_case("bearer") && possible).then_some(token)
}

fn no_token() -> Failure {
    Failure::new(
        FailureCode::Unauthorized,
        "this route needs the header 'Authorization: Bearer TOKEN'",
    )
    .hint("'tirami-agent token show' prints the token of this node's agent")
}

fn busy() -> Failure {
    Failure::new(FailureCode::Busy, "too many requests at once")
        .retryable()
        .hint("ask again later")
}

/// Refuses what is addressed to another name, or sent by a page of another. Together they keep web
/// pages out, those that rebind their name to loopback included.
fn addressed(allowed: &[String], request: &Request) -> Option<Response> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let named = host.is_some_and(|host| is_ours(allowed, host)) && hosts.next().is_none();
    let target = request
        .uri()
        .authority()
        .is_none_or(|to| is_ours(allowed, to.as_str()));
    if !named || !target {
        let message = "the Host header is neither loopback nor an allowed host";
        return Some(forbidden(
            message,
            "use http://127.0.0.1:PORT, or start the node with --allow-host NAME",
        ));
    }
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| {
        let from = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"));
        !from.is_some_and(|(_, host)| is_ours(allowed, host))
    });
    foreign.then(|| {
        forbidden(
            "pages of this origin may not use this node",
            "call it from a program instead",
        )
    })
}

fn forbidden(message: &str, hint: &str) -> Response {
    let failure = Failure::new(FailureCode::Unauthorized, message).hint(hint);
    refused(StatusCode::FORBIDDEN, &failure)
}

/// Whether `host`, perhaps with a port, is loopback or allowed.
fn is_ours(allowed: &[String], host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if host.contains('@') {
        return false;
    }
    let name = authority.host().to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_allowed_names_are_ours() {
        let allowed = ["node.example".to_owned()];
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:80",
            "[::1]",
            "Node.Example:443",
        ] {
            assert!(is_ours(&allowed, host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "0.0.0.0",
            "192.168.1.1",
            "null",
            "node.example.evil",
        ] {
            assert!(!is_ours(&allowed, host), "{host}");
        }
    }

    #[test]
    fn a_bearer_token_is_taken_whatever_the_case_of_its_scheme() {
        let token = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, text.parse().unwrap());
            bearer_token(&headers).map(ToOwned::to_owned)
        };
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic abc",
            &format!("Bearer {}", "x".repeat(513)),
        ] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }
}
