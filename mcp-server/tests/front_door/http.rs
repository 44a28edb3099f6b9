//! The HTTP door, as any HTTP client sees it; and the tests of what it keeps out.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::nodes::{Pair, Up, WITHIN, trm};

/// A node's HTTP door, with a token to come in.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    base: String,
    token: String,
    client: Client,
}

/// Where chats go.
pub(crate) const CHAT: &str = "/v1/chat/completions";

impl Http {
    pub(crate) fn new(base: &str, token: &str) -> Self {
        // Fails when another test of this process was first, which serves as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            .no_proxy()
            .timeout(WITHIN)
            .build()
            .unwrap();
        Self {
            base: base.to_owned(),
            token: token.to_owned(),
            client,
        }
    }

    /// The same door for the bearer of another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.bare(Method::GET, path).bearer_auth(&self.token);
        read(request.send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body).await.unwrap()
    }

    /// The same for a node that may die meanwhile.
    pub(crate) async fn try_post(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), reqwest::Error> {
        let response = self
            .bare(Method::POST, path)
            .bearer_auth(&self.token)
            .json(body);
        let response = response.send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// Begins a chat that is answered as a stream of events.
    pub(crate) async fn stream(&self, body: &Value) -> Result<Stream, reqwest::Error> {
        let mut body = body.clone();
        body["stream"] = true.into();
        let request = self
            .bare(Method::POST, CHAT)
            .bearer_auth(&self.token)
            .json(&body);
        let response = request.send().await?;
        // A refusal before the first piece is no stream; it is read as if it were its only event.
        let refused = !response.status().is_success();
        let waiting = if refused {
            b"data: ".to_vec()
        } else {
            Vec::new()
        };
        Ok(Stream { response, waiting })
    }
}

/// An answer that comes piece by piece.
pub(crate) struct Stream {
    response: Response,
    waiting: Vec<u8>,
}

impl Stream {
    /// The next event; `None` at the end, also at one that nobody announced.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                if let Some(event) = event(&line) {
                    return Some(event);
                }
            }
            let chunk = timeout(WITHIN, self.response.chunk()).await;
            match chunk.expect("a stream goes on").ok()? {
                Some(chunk) => self.waiting.extend_from_slice(&chunk),
                None => return event(&std::mem::take(&mut self.waiting)),
            }
        }
    }

    /// The next piece of text.
    pub(crate) async fn piece(&mut self) -> Option<String> {
        loop {
            if let Some(text) = text(&self.next().await?) {
                return Some(text);
            }
        }
    }
}

/// The event that a line carries; none where the line was cut off.
fn event(line: &[u8]) -> Option<Value> {
    let line = std::str::from_utf8(line).ok()?;
    let data = line.trim().strip_prefix("data: ")?;
    serde_json::from_str(data).ok()
}

/// The piece of text in an event.
pub(crate) fn text(event: &Value) -> Option<String> {
    let text = event["choices"][0]["delta"]["content"].as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// A chat in OpenAI's shape.
pub(crate) fn chat(prompt: &str, key: &str) -> Value {
    json!({
        "model": "echo",
        "messages": [{ "role": "user", "content": prompt }],
        "x_tirami": { "idempotency_key": key },
    })
}

/// A buyer's door, what it has, and the pair it belongs to.
async fn door() -> (Pair, Up, Http, Value) {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let http = up.http(&pair.b);
    let before = pair.b.books().await;
    (pair, up, http, before)
}

#[tokio::test]
async fn nobody_spends_or_looks_without_a_token_that_is_known() {
    let (pair, _up, http, before) = door().await;
    let sellers = pair.a.token();
    for token in [None, Some("tirami_wrong"), Some(sellers.as_str())] {
        for (method, path, body) in [
            (Method::POST, CHAT, chat("hello", "k")),
            (Method::POST, "/v1/tirami/freeze", json!({})),
            (Method::GET, "/v1/tirami/balance", json!({})),
            (Method::GET, "/v1/models", json!({})),
        ] {
            let mut request = http.bare(method, path).json(&body);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            let (status, body) = read(request.send().await.unwrap()).await;
            assert_eq!(status, 401, "{path}: {body}");
            assert_eq!(body["error"]["code"], "unauthorized", "{path}: {body}");
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains("tirami-agent token show"), "{message}");
        }
    }
    assert_eq!(pair.b.books().await, before);
}

#[tokio::test]
async fn a_foreign_page_and_a_foreign_name_are_kept_out() {
    let (pair, _up, http, before) = door().await;
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("host", "evil.example"),
        ("host", "127.0.0.1.evil.example:80"),
    ] {
        for path in [CHAT, "/v1/tirami/freeze"] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            let request = http.bare(Method::POST, path).bearer_auth(&http.token);
            let request = request.json(&chat("hello", "k")).headers(headers);
            let (status, body) = read(request.send().await.unwrap()).await;
            assert_eq!(status, 403, "{name}: {value}: {body}");
            assert!(body["error"]["message"].is_string(), "{body}");
        }
    }
    assert_eq!(pair.b.books().await, before);
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused_before_anything_is_spent() {
    let (pair, _up, http, before) = door().await;
    let long = format!("{{\"model\": \"{}\"}}", "x".repeat(2 << 20));
    let wrong = |fields: Value| {
        let mut body = chat("hello", "k");
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        body.to_string()
    };
    for (body, status, says) in [
        (String::new(), 400, "object"),
        ("{\"model\": ".to_owned(), 400, "not JSON"),
        ("[]".to_owned(), 400, "object"),
        (long, 413, "larger than"),
        (wrong(json!({ "max_tokens": -1 })), 400, "max_tokens"),
        (wrong(json!({ "messages": "hello" })), 400, "messages"),
        (wrong(json!({ "surprise": 1 })), 400, "surprise"),
        (
            wrong(json!({ "x_tirami": { "max_trm": "-5" } })),
            400,
            "negative",
        ),
        (
            wrong(json!({ "x_tirami": { "max_trm": "NaN" } })),
            400,
            "not an amount",
        ),
        (
            wrong(json!({ "x_tirami": { "max_trm": "1e99" } })),
            400,
            "not an amount",
        ),
        (
            wrong(json!({ "x_tirami": { "max_trm": "" } })),
            400,
            "not an amount",
        ),
        (
            wrong(json!({ "x_tirami": { "max_trm": -5 } })),
            400,
            "negative",
        ),
        (
            wrong(json!({ "x_tirami": { "max_trm": 1e99 } })),
            400,
            "max_trm",
        ),
        (
            wrong(json!({ "x_tirami": { "idempotency_key": "" } })),
            400,
            "idempotency_key",
        ),
    ] {
        let request = http.bare(Method::POST, CHAT).bearer_auth(&http.token);
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let (is, answer) = read(request.send().await.unwrap()).await;
        assert_eq!(is, status, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "'{says}' is not said: {message}");
    }
    assert_eq!(pair.b.books().await, before);
}

#[tokio::test]
async fn a_streamed_chat_says_what_it_cost_and_the_receipt_says_the_same() {
    let (pair, _up, http, _) = door().await;
    let mut stream = http.stream(&chat("one two three", "k")).await.unwrap();
    let (mut text, mut cost) = (String::new(), None);
    while let Some(event) = stream.next().await {
        text.push_str(
            event["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or_default(),
        );
        if event["x_tirami"].is_object() {
            cost = Some(event["x_tirami"].clone());
        }
    }
    let cost = cost.expect("the last event says what it cost");
    assert_eq!(text.trim(), "one two three");
    let receipt = pair
        .b
        .ask(&["receipt", cost["receipt"].as_str().unwrap()])
        .await;
    assert_eq!(receipt["trm_amount"], cost["trm_cost"]);
    assert_eq!(pair.agree().await, trm(&cost["trm_cost"]));
    let (_, balance) = http.get("/v1/tirami/balance").await;
    assert_eq!(balance["trm_balance"], cost["trm_balance"]);
}
