//! Failures in OpenAI's dialect. The one file of this door that does it.

use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use tirami_agent_runtime::clock;
use tirami_agent_runtime::failure::{Failure, FailureCode};

/// The longest wait after which OpenAI's clients repeat a request by themselves.
const REPEAT_WITHIN_S: u64 = 60;

/// A failure on its way out.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    failure: Box<Failure>,
    param: Option<&'static str>,
    purchase: Option<Purchase>,
}

/// Which purchase failed.
#[derive(Clone, Debug)]
struct Purchase {
    key: String,
    /// Whether the caller chose the key, so that its own retry carries it again.
    callers: bool,
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        Self::with_status(status(failure.code), failure)
    }
}

impl ApiError {
    /// With a status of HTTP's own, such as for a body that is too large.
    pub(crate) fn with_status(status: StatusCode, failure: Failure) -> Self {
        Self {
            status,
            failure: Box::new(failure),
            param: None,
            purchase: None,
        }
    }

    /// What failed, for a door that speaks otherwise.
    pub(crate) fn into_failure(self) -> Failure {
        *self.failure
    }

    /// Names the field of the request that is wrong.
    #[must_use]
    pub(crate) fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// Names the purchase that failed, and says whether its key is the caller's.
    #[must_use]
    pub(crate) fn purchase(mut self, key: &str, callers: bool) -> Self {
        self.purchase = Some(Purchase {
            key: key.to_owned(),
            callers,
        });
        self
    }

    /// Whether a client may repeat the very same request by itself. Where the effect is unknown it
    /// must not, unless it carries its own key: it would buy twice.
    fn may_repeat(&self) -> bool {
        let named = self
            .purchase
            .as_ref()
            .is_none_or(|purchase| purchase.callers);
        self.failure.retryable
            && (named || self.failure.code != FailureCode::Internal)
            // A person decides, which takes longer than a program tries.
            && self.failure.code != FailureCode::ApprovalRequired
            && self.wait_s() <= REPEAT_WITHIN_S
    }

    /// Seconds until the same request may pass, at least one.
    fn wait_s(&self) -> u64 {
        let at = self.failure.retry_at.as_deref();
        let at = at.and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let ms = at.map_or(0, |at| u64::try_from(at.as_millisecond()).unwrap_or(0));
        ms.saturating_sub(clock::now().ms()).div_ceil(1_000).max(1)
    }

    /// The body; also what a stream carries that fails halfway.
    pub(crate) fn body(&self) -> Value {
        let Failure {
            code,
            message,
            retryable,
            hint,
            next_tool,
            approval,
            retry_at,
            seen_by,
        } = &*self.failure;
        let message = match hint {
            Some(hint) => format!("{message}; {hint}"),
            None => message.clone(),
        };
        json!({ "error": {
            "message": message,
            "type": kind(self.status),
            "param": self.param,
            "code": code.name(),
            "x_tirami": {
                "retryable": retryable,
                "hint": hint,
                "next_tool": next_tool,
                "approval": approval,
                "retry_at": retry_at,
                "seen_by": seen_by,
                "idempotency_key": self.purchase.as_ref().map(|purchase| &purchase.key),
            },
        }})
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // OpenAI's clients repeat many statuses by themselves, unless told.
        let retry = if self.may_repeat() { "true" } else { "false" };
        headers.insert(
            HeaderName::from_static("x-should-retry"),
            HeaderValue::from_static(retry),
        );
        if self.failure.retryable {
            headers.insert(RETRY_AFTER, HeaderValue::from(self.wait_s()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"tirami\""),
            );
        }
        headers
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, self.headers(), Json(self.body())).into_response()
    }
}

/// A refusal with a status that says more than the failure's code.
pub(crate) fn refused(status: StatusCode, failure: &Failure) -> Response {
    ApiError::with_status(status, failure.clone()).into_response()
}

/// The status of a failure.
fn status(code: FailureCode) -> StatusCode {
    use FailureCode as Code;
    match code {
        Code::InvalidInput | Code::Ticket => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::OverBudget
        | Code::NotAllowed
        | Code::ApprovalRequired
        | Code::AboveMaxTrm
        | Code::InsufficientFunds => StatusCode::PAYMENT_REQUIRED,
        Code::Frozen | Code::Denied | Code::OwnerRequired => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::IdempotencyKeyReused | Code::InProgress => StatusCode::CONFLICT,
        Code::Busy | Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::ProviderFailed => StatusCode::BAD_GATEWAY,
        Code::NoProvider | Code::InUse => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// OpenAI's word for a kind of error.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::PAYMENT_REQUIRED => "insufficient_quota",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_status() {
        for (code, number) in [
            (FailureCode::InvalidInput, 400),
            (FailureCode::Ticket, 400),
            (FailureCode::Unauthorized, 401),
            (FailureCode::OverBudget, 402),
            (FailureCode::NotAllowed, 402),
            (FailureCode::ApprovalRequired, 402),
            (FailureCode::AboveMaxTrm, 402),
            (FailureCode::InsufficientFunds, 402),
            (FailureCode::Frozen, 403),
            (FailureCode::Denied, 403),
            (FailureCode::OwnerRequired, 403),
            (FailureCode::NotFound, 404),
            (FailureCode::IdempotencyKeyReused, 409),
            (FailureCode::InProgress, 409),
            (FailureCode::Busy, 429),
            (FailureCode::RateLimited, 429),
            (FailureCode::Model, 500),
            (FailureCode::Store, 500),
            (FailureCode::Internal, 500),
            (FailureCode::ProviderFailed, 502),
            (FailureCode::NoProvider, 503),
            (FailureCode::InUse, 503),
        ] {
            let response = ApiError::from(Failure::new(code, "x")).into_response();
            assert_eq!(response.status().as_u16(), number, "{code:?}");
            assert_eq!(response.headers()["x-should-retry"], "false");
        }
    }

    #[test]
    fn an_unknown_effect_is_not_repeated_without_the_callers_key() {
        let repeat = |code, callers| {
            let error = ApiError::from(Failure::new(code, "x").retryable());
            error.purchase("k1", callers).headers()["x-should-retry"] == "true"
        };
        assert!(!repeat(FailureCode::Internal, false));
        assert!(repeat(FailureCode::Internal, true));
        assert!(repeat(FailureCode::ProviderFailed, false));
    }

    #[test]
    fn a_client_is_told_how_long_to_wait_and_not_to_wait_for_a_person() {
        let wait = |code, ms| {
            let mut failure = Failure::new(code, "x").retryable();
            failure.retry_at = Some(clock::now().after_ms(ms).to_rfc3339().into());
            let headers = ApiError::from(failure).headers();
            let seconds: u64 = headers[RETRY_AFTER].to_str().unwrap().parse().unwrap();
            (seconds, headers["x-should-retry"] == "true")
        };
        let (soon, repeats) = wait(FailureCode::RateLimited, 30_000);
        assert!((25..=30).contains(&soon) && repeats, "{soon}");
        let (late, repeats) = wait(FailureCode::OverBudget, 3_600_000);
        assert!((3_590..=3_600).contains(&late) && !repeats, "{late}");
        assert_eq!(wait(FailureCode::ApprovalRequired, 0), (1, false));
    }

    #[test]
    fn an_error_has_openais_shape_and_ours_inside() {
        let failure = Failure::new(FailureCode::OverBudget, "too dear").hint("ask for less");
        let body = ApiError::from(failure)
            .purchase("k1", true)
            .param("max_tokens")
            .body();
        assert_eq!(
            body,
            json!({ "error": {
                "message": "too dear; ask for less",
                "type": "insufficient_quota",
                "param": "max_tokens",
                "code": "over_budget",
                "x_tirami": {
                    "retryable": false,
                    "hint": "ask for less",
                    "next_tool": null,
                    "approval": null,
                    "retry_at": null,
                    "seen_by": [],
                    "idempotency_key": "k1",
                },
            }})
        );
    }
}
