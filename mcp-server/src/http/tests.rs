//! The HTTP door as its callers see it, in front of a whole node with the echo engine.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use tirami_agent_runtime::{ModelSource, NodeConfig, data_dir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::*;
use crate::access::Need;

struct Door {
    app: Router,
    access: Access,
    token: String,
    _dir: TempDir,
}

impl Door {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::new(dir.path());
        config.model = Some(ModelSource::Echo);
        let access = Access::open(&config, Need::Mesh).await.unwrap();
        let token = data_dir::read_token(dir.path()).unwrap();
        let app = app(HttpState::new(access.clone(), token.as_str()));
        Self {
            app,
            access,
            token,
            _dir: dir,
        }
    }

    async fn send(&self, request: Request<Body>) -> Response {
        self.app.clone().oneshot(request).await.unwrap()
    }

    fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:8000")
            .header("authorization", format!("Bearer {}", self.token))
    }

    async fn get(&self, path: &str) -> Response {
        self.send(self.request("GET", path).body(Body::empty()).unwrap())
            .await
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self
            .request("POST", path)
            .header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    async fn close(self) {
        self.access.close().await;
    }
}

async fn text(response: Response) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn body(response: Response) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

fn question(fields: Value) -> Value {
    let mut body =
        json!({ "model": "echo", "messages": [{ "role": "user", "content": "one two three" }] });
    let Value::Object(fields) = fields else {
        panic!("an object")
    };
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test]
async fn a_chat_is_answered_whole_and_says_what_it_cost() {
    let door = Door::open().await;
    let key = json!({ "x_tirami": { "idempotency_key": "k1" } });
    let response = door.post("/v1/chat/completions", &question(key)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer = body(response).await;
    assert_eq!(answer["object"], "chat.completion");
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.contains("one two three"), "{answer}");
    let extra = &answer["x_tirami"];
    assert_eq!(extra["idempotency_key"], "k1");
    assert_eq!(extra["trm_cost"], "0", "work on this node is free");
    for field in ["trm_balance", "receipt", "provider", "capped_by"] {
        assert!(extra.get(field).is_some(), "{field} is missing: {extra}");
    }
    let usage = &answer["usage"];
    let sum =
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    door.close().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_cost_and_done() {
    let door = Door::open().await;
    let whole = body(
        door.post("/v1/chat/completions", &question(json!({})))
            .await,
    )
    .await;
    for usage in [false, true] {
        let fields = json!({ "stream": true, "stream_options": { "include_usage": usage } });
        let response = door.post("/v1/chat/completions", &question(fields)).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = text(response).await;
        let data: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .collect();
        assert_eq!(data.last(), Some(&"[DONE]"));
        let pieces: Vec<Value> = data[..data.len() - 1]
            .iter()
            .map(|data| serde_json::from_str(data).unwrap())
            .collect();
        assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
        let content: String = pieces
            .iter()
            .filter_map(|piece| piece["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(whole["choices"][0]["message"]["content"], content.as_str());
        let last = pieces.last().unwrap();
        assert_eq!(last["x_tirami"]["trm_cost"], "0");
        assert_eq!(last["usage"].is_object(), usage);
        assert_eq!(last["choices"].as_array().unwrap().is_empty(), usage);
        assert!(
            pieces
                .iter()
                .any(|piece| piece["choices"][0]["finish_reason"] == "stop")
        );
    }
    door.close().await;
}

#[tokio::test]
async fn a_refusal_before_the_first_text_is_an_http_error_in_a_stream_too() {
    let door = Door::open().await;
    for stream in [false, true] {
        let fields = json!({ "stream": stream, "model": "no-such-model" });
        let response = door.post("/v1/chat/completions", &question(fields)).await;
        assert!(response.status().is_client_error() || response.status().is_server_error());
        let error = body(response).await;
        assert!(error["error"]["code"].is_string(), "{error}");
    }
    door.close().await;
}

#[tokio::test]
async fn nobody_gets_in_without_a_known_token() {
    let door = Door::open().await;
    for path in ["/v1/models", "/v1/models/echo", "/v1/tirami/balance"] {
        for token in [
            None,
            Some("Bearer wrong"),
            Some("Basic abc"),
            Some("Bearer "),
        ] {
            let mut request = Request::builder().uri(path).header("host", "localhost");
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let response = door.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(
                response.status(),
                StatusCode::UNAUTHORIZED,
                "{path} {token:?}"
            );
            assert!(response.headers().contains_key("www-authenticate"));
            assert_eq!(
                body(response).await["error"]["type"],
                "authentication_error"
            );
        }
        assert_eq!(door.get(path).await.status(), StatusCode::OK, "{path}");
    }
    door.close().await;
}

#[tokio::test]
async fn foreign_hosts_and_pages_are_kept_out_of_every_route() {
    let door = Door::open().await;
    for path in [
        "/healthz",
        "/readyz",
        "/v1/models",
        "/.well-known/tirami-agent.json",
        "/nowhere",
    ] {
        for (name, value) in [
            ("host", "evil.example"),
            ("host", "127.0.0.1.evil.example:8000"),
            ("origin", "http://evil.example"),
            ("origin", "null"),
        ] {
            let mut request = door.request("GET", path).body(Body::empty()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
            let status = door.send(request).await.status();
            assert_eq!(status, StatusCode::FORBIDDEN, "{path} {name}: {value}");
        }
        let mut request = door.request("GET", path).body(Body::empty()).unwrap();
        request.headers_mut().remove("host");
        assert_eq!(
            door.send(request).await.status(),
            StatusCode::FORBIDDEN,
            "{path} without a host"
        );
    }
    let request = door
        .request("GET", "/healthz")
        .header("origin", "http://localhost:3000");
    let response = door.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
    door.close().await;
}

#[tokio::test]
async fn health_needs_no_token_and_the_manifest_is_served_as_signed() {
    let door = Door::open().await;
    let open = |path: &str| {
        Request::builder()
            .uri(path)
            .header("host", "[::1]:80")
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(door.send(open("/healthz")).await.status(), StatusCode::OK);
    assert_eq!(door.send(open("/readyz")).await.status(), StatusCode::OK);
    let response = door.send(open("/.well-known/tirami-agent.json")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let etag = response.headers()["etag"].clone();
    assert_eq!(etag.len(), 66);
    assert!(body(response).await.is_object());
    door.close().await;
}

#[tokio::test]
async fn a_frozen_node_refuses_to_spend_but_still_answers() {
    let door = Door::open().await;
    let long = json!({ "reason": "x".repeat(201) });
    assert_eq!(
        door.post("/v1/tirami/freeze", &long).await.status(),
        StatusCode::BAD_REQUEST
    );
    let response = door
        .post("/v1/tirami/freeze", &json!({ "reason": "a test" }))
        .await;
    assert_eq!(body(response).await["frozen"], true);
    let balance = body(door.get("/v1/tirami/balance").await).await;
    assert_eq!(balance["frozen"], "a test");
    let response = door
        .post("/v1/chat/completions", &question(json!({})))
        .await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(body(response).await["error"]["code"], "frozen");
    door.close().await;
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused_in_openais_shape() {
    let door = Door::open().await;
    let path = "/v1/chat/completions";
    let send = async |content_type: &str, body: String| {
        let request = door
            .request("POST", path)
            .header("content-type", content_type);
        door.send(request.body(Body::from(body)).unwrap()).await
    };
    for (content_type, sent, status) in [
        ("application/json", String::new(), 400),
        ("application/json", "{".to_owned(), 400),
        ("application/json", "[]".to_owned(), 400),
        ("text/plain", "{}".to_owned(), 415),
        (
            "application/json",
            "x".repeat(super::body::BODY_BYTES_MAX + 1),
            413,
        ),
    ] {
        let response = send(content_type, sent).await;
        assert_eq!(response.status().as_u16(), status);
        assert!(body(response).await["error"]["message"].is_string());
    }
    let response = door.get(path).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(door.get("/nowhere").await.status(), StatusCode::NOT_FOUND);
    door.close().await;
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_to_come_back() {
    let door = Door::open().await;
    let mut state = HttpState::new(door.access.clone(), door.token.as_str());
    state.room = Arc::new(Semaphore::new(0));
    let request = door.request("GET", "/healthz").body(Body::empty()).unwrap();
    let response = app(state).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["x-should-retry"], "true");
    door.close().await;
}

#[tokio::test]
async fn a_listener_serves_until_it_is_told_to_stop() {
    let door = Door::open().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let state = HttpState::new(door.access.clone(), door.token.as_str());
    let serving = tokio::spawn(serve(listener, state, async move {
        drop(stopped.await);
    }));
    let mut caller = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    caller.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    door.close().await;
}
