//! A bare axum handler: the least that any server of this kind does for a request.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// The word that makes this program that server.
pub(crate) const COMMAND: &str = "bare";

/// Reads a JSON body and answers one of so many bytes. Says its address, and ends with its input.
pub(crate) async fn serve(bytes: Option<String>) -> Result<()> {
    let bytes: usize = bytes.context("how many bytes?")?.parse()?;
    let around = json!({ "text": "" }).to_string().len();
    let text: Arc<str> = "x".repeat(bytes.saturating_sub(around)).into();
    let app = Router::new().route("/", post(answer)).with_state(text);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    let mut input = tokio::io::stdin();
    let ended = async move {
        // An error ends it as well.
        drop(input.read_u8().await);
    };
    let listener =
        axum::serve::ListenerExt::tap_io(listener, |stream: &mut tokio::net::TcpStream| {
            // Where it fails, answers are only later.
            drop(stream.set_nodelay(true));
        });
    tokio::select! {
        served = axum::serve(listener, app) => Ok(served?),
        () = ended => Ok(()),
    }
}

async fn answer(State(text): State<Arc<str>>, Json(_): Json<Value>) -> Json<Value> {
    Json(json!({ "text": &*text }))
}
