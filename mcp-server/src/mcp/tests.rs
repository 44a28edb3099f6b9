//! The MCP door as a client sees it, in front of a whole node with the echo engine.

use std::sync::Mutex;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, ClientRequest,
    ProgressNotificationParam, ProgressToken, RequestMetaObject, ServerResult,
};
use rmcp::service::{NotificationContext, RoleClient, RunningService};
use rmcp::{ClientHandler, ServiceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tirami_agent_runtime::{ModelSource, NodeConfig, data_dir};

use super::*;
use crate::access::Need;

/// A client that remembers the progress it was told.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<f64>>>);

impl ClientHandler for Listener {
    async fn on_progress(
        &self,
        params: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.0.lock().unwrap().push(params.progress);
    }
}

struct Door {
    client: RunningService<RoleClient, Listener>,
    progress: Listener,
    access: Access,
    _dir: TempDir,
}

impl Door {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::new(dir.path());
        config.model = Some(ModelSource::Echo);
        let access = Access::open(&config, Need::Mesh).await.unwrap();
        let token = data_dir::read_token(dir.path()).unwrap();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = TiramiServer::new(access.clone(), token);
        tokio::spawn(async move { server.serve(ours).await.unwrap().waiting().await });
        let progress = Listener::default();
        let client = progress.clone().serve(theirs).await.unwrap();
        Self {
            client,
            progress,
            access,
            _dir: dir,
        }
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> CallToolResult {
        let Value::Object(arguments) = arguments else {
            panic!("an object")
        };
        let params = CallToolRequestParams::new(tool).with_arguments(arguments);
        self.client.call_tool(params).await.unwrap()
    }

    /// The structured content of an answer that is none of a failure.
    async fn ask(&self, tool: &'static str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(false), "{result:?}");
        result.structured_content.unwrap()
    }

    /// The structured content of a failure.
    async fn fail(&self, tool: &'static str, arguments: Value) -> Value {
        let result = self.call(tool, arguments).await;
        assert_eq!(result.is_error, Some(true), "{result:?}");
        let failure = result.structured_content.unwrap();
        for field in ["code", "message", "retryable"] {
            assert!(failure.get(field).is_some(), "{failure}");
        }
        failure
    }

    async fn close(self) {
        self.client.cancel().await.unwrap();
        self.access.close().await;
    }
}

#[tokio::test]
async fn we_say_who_we_are() {
    let door = Door::open().await;
    let info = door.client.peer_info().unwrap();
    let who = info.server_info.clone().unwrap();
    assert_eq!(
        (who.name.as_str(), who.version.as_str()),
        ("tirami", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(info.instructions.as_deref(), Some(INSTRUCTIONS));
    let names: Vec<String> = door
        .client
        .list_all_tools()
        .await
        .unwrap()
        .iter()
        .map(|tool| tool.name.to_string())
        .collect();
    let all = "audit_log balance budget chat freeze history identity models network peers quote receipt schedule statement verify";
    assert_eq!(names.join(" "), all);
    door.close().await;
}

#[tokio::test]
async fn the_tools_that_ask_nothing_answer() {
    let door = Door::open().await;
    for tool in [
        "balance", "history", "schedule", "peers", "models", "budget",
    ] {
        let answer = door.ask(tool, json!({})).await;
        assert!(answer.is_object(), "{tool}: {answer}");
        assert!(!answer.to_string().contains("null"), "{tool}: {answer}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_chat_is_answered_and_tells_its_progress() {
    let door = Door::open().await;
    let mut meta = RequestMetaObject::default();
    meta.set_progress_token(ProgressToken(rmcp::model::NumberOrString::Number(7)));
    let mut params = CallToolRequestParams::new("chat")
        .with_arguments(serde_json::from_value(json!({ "prompt": "one two three" })).unwrap());
    params.meta = Some(meta);
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let answer = door.client.send_request(request).await.unwrap();
    let ServerResult::CallToolResult(result) = answer else {
        panic!("{answer:?}")
    };
    let answer = result.structured_content.unwrap();
    assert!(
        answer["text"].as_str().unwrap().contains("one two three"),
        "{answer}"
    );
    assert!(!answer["idempotency_key"].as_str().unwrap().is_empty());
    let told = door.progress.0.lock().unwrap().clone();
    assert!(
        told.iter().all(|bytes| *bytes > 0.0) && !told.is_empty(),
        "{told:?}"
    );
    assert!(told.is_sorted());
    door.close().await;
}

#[tokio::test]
async fn the_same_key_answers_the_same() {
    let door = Door::open().await;
    let question = json!({ "prompt": "hello", "idempotency_key": "k1", "max_trm": "1.5" });
    let first = door.ask("chat", question.clone()).await;
    let again = door.ask("chat", question).await;
    assert_eq!(first["text"], again["text"]);
    assert_eq!(again["idempotency_key"], "k1");
    let other = door
        .fail("chat", json!({ "prompt": "bye", "idempotency_key": "k1" }))
        .await;
    assert_eq!(other["code"], "idempotency_key_reused");
    door.close().await;
}

#[tokio::test]
async fn wrong_arguments_are_a_result_that_names_them() {
    let door = Door::open().await;
    for (tool, arguments, said) in [
        ("chat", json!({}), "missing field `prompt`"),
        (
            "chat",
            json!({ "prompt": "" }),
            "prompt: 0 bytes long; allowed are 1 to 200000",
        ),
        (
            "chat",
            json!({ "prompt": "x", "max_trm": "-5" }),
            "max_trm: '-5' is negative",
        ),
        (
            "chat",
            json!({ "prompt": "x", "max_trm": "NaN" }),
            "max_trm: 'NaN' is not an amount",
        ),
        (
            "chat",
            json!({ "prompt": "x", "max_trm": "1e99" }),
            "max_trm: '1e99' is not an amount",
        ),
        (
            "chat",
            json!({ "prompt": "x", "max_token": 5 }),
            "unknown field `max_token`",
        ),
        ("balance", json!({ "x": 1 }), "unknown field `x`"),
        (
            "history",
            json!({ "limit": 101 }),
            "limit: 101 is not a whole number from 1 to 100",
        ),
        (
            "receipt",
            json!({ "receipt": "zz" }),
            "receipt: 'zz' is no receipt id",
        ),
        (
            "freeze",
            json!({ "reason": "" }),
            "reason: 0 characters long; allowed are 1 to 200",
        ),
    ] {
        let failure = door.fail(tool, arguments).await;
        assert_eq!(failure["code"], "invalid_input");
        let message = failure["message"].as_str().unwrap();
        assert!(message.starts_with(said), "{tool}: {message}");
    }
    let failure = door.fail("get_balance", json!({})).await;
    assert_eq!(
        (&failure["code"], &failure["next_tool"]),
        (&json!("not_found"), &json!("balance"))
    );
    door.close().await;
}

#[tokio::test]
async fn freeze_stops_chat() {
    let door = Door::open().await;
    let frozen = door.ask("freeze", json!({ "reason": "a test" })).await;
    assert_eq!(frozen["frozen"], true);
    let failure = door.fail("chat", json!({ "prompt": "hello" })).await;
    assert_eq!(failure["code"], "frozen");
    assert_eq!(door.ask("balance", json!({})).await["frozen"], "a test");
    door.close().await;
}

#[tokio::test]
async fn a_panic_becomes_an_answer() {
    let failure = caught(async { panic!("a bug") })
        .await
        .map(|(): ()| ())
        .unwrap_err();
    assert_eq!(failure.code, FailureCode::Internal);
    assert!(
        failure
            .hint
            .is_some_and(|hint| hint.contains("idempotency key"))
    );
}
