//! A chat over HTTP, read event by event, as a program with an OpenAI client does.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tirami_manifest::{Amount, ReceiptId};
use tokio::time::Instant;

use super::stage::{Broken, WITHIN, ensure};
use crate::cli::web;

/// Longest event that is read; chosen.
const EVENT_MAX: usize = 64 * 1_024;

/// What came.
#[derive(Debug, Default)]
pub(super) struct Streamed {
    pub(super) text: String,
    pub(super) pieces: u32,
    pub(super) first: Duration,
    pub(super) last: Duration,
    pub(super) cost: Option<Cost>,
}

/// What the last event says beside OpenAI's fields.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Cost {
    pub(super) trm_cost: Amount,
    pub(super) receipt: Option<ReceiptId>,
}

/// Asks and reads to the end.
pub(super) async fn chat(http: &str, token: &str, prompt: &str) -> Result<Streamed, Broken> {
    let read = read(http, token, prompt);
    let streamed = tokio::time::timeout(WITHIN, read)
        .await
        .map_err(|_| Broken::new("the stream did not end"))??;
    ensure(streamed.cost.is_some(), || {
        "the stream does not say what it cost".to_owned()
    })?;
    Ok(streamed)
}

async fn read(http: &str, token: &str, prompt: &str) -> Result<Streamed, Broken> {
    let failed = |error| Broken::because("the stream", web::chain(error));
    let body = json!({
        "model": "sprout", "stream": true, "max_tokens": 48,
        "messages": [{ "role": "user", "content": prompt }],
    });
    let started = tokio::time::Instant::now();
    let answer = web::client()
        .map_err(failed)?
        .post(format!("{http}/v1/chat/completions"))
        .bearer_auth(token)
        .json(&body)
        .send()
        .await
        .map_err(failed)?;
    let status = answer.status();
    ensure(status.is_success(), || {
        format!("the stream was answered with {status}")
    })?;
    let mut streamed = Streamed::default();
    let (mut chunks, mut waiting) = (answer.bytes_stream(), Vec::new());
    while let Some(chunk) = chunks.next().await {
        waiting.extend_from_slice(&chunk.map_err(failed)?);
        ensure(waiting.len() <= EVENT_MAX, || {
            "an event has no end".to_owned()
        })?;
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = waiting.drain(..=end).collect();
            streamed.take(&String::from_utf8_lossy(&line), started)?;
        }
    }
    Ok(streamed)
}

impl Streamed {
    fn take(&mut self, line: &str, started: Instant) -> Result<(), Broken> {
        let Some(data) = line.trim().strip_prefix("data: ") else {
            return Ok(());
        };
        if data == "[DONE]" {
            return Ok(());
        }
        let event: Value =
            serde_json::from_str(data).map_err(|error| Broken::because("an event", error))?;
        ensure(event.get("error").is_none(), || {
            format!("the stream broke: {event}")
        })?;
        let piece = event
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str);
        if let Some(piece) = piece.filter(|piece| !piece.is_empty()) {
            self.last = started.elapsed();
            if self.pieces == 0 {
                self.first = self.last;
            }
            self.pieces = self.pieces.saturating_add(1);
            self.text.push_str(piece);
        }
        if let Some(cost) = event.get("x_tirami") {
            let cost = serde_json::from_value(cost.clone())
                .map_err(|error| Broken::because("x_tirami", error))?;
            self.cost = Some(cost);
        }
        Ok(())
    }
}
