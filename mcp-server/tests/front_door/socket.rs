//! The local socket, as any program of the same user can speak to it.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::cli::Home;
use crate::nodes::WITHIN;

/// Asks the node through its local socket, as any program of the same user can, with the agent's
/// token.
pub(crate) async fn ask_socket(home: &Home, op: &str, input: Value) -> Result<Value, Value> {
    let socket = tirami_agent_runtime::data_dir::socket(&home.data());
    let (read, mut write) = UnixStream::connect(socket).await.unwrap().into_split();
    let request = json!({ "token": home.token(), "op": op, "input": input });
    let request = format!("{request}\n");
    write.write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(read);
    let read = timeout(WITHIN, lines.read_line(&mut line)).await;
    read.expect("an answer").unwrap();
    let mut answer: Value = serde_json::from_str(&line).unwrap();
    match answer["done"].take() {
        Value::Null => Err(answer["failed"].take()),
        done => Ok(done),
    }
}
