//! An answer in OpenAI's shapes, whole or in pieces.

use serde_json::{Value, json};
use tirami_agent_runtime::ops::ChatOutput;

use super::created;

/// A whole answer.
pub(crate) fn completion(output: &ChatOutput) -> Value {
    json!({
        "id": id(&output.idempotency_key),
        "object": "chat.completion",
        "created": created(),
        "model": output.model,
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": output.text, "refusal": null },
            "logprobs": null,
            "finish_reason": finish_reason(output),
        }],
        "usage": usage(output),
        "x_tirami": x_tirami(output),
    })
}

/// What it cost and how it is proven.
pub(crate) fn x_tirami(output: &ChatOutput) -> Value {
    json!({
        "trm_cost": output.trm_cost,
        "trm_balance": output.trm_balance,
        "trm_would_cost": output.trm_would_cost,
        "receipt": output.receipt,
        "provider": output.provider,
        "local": output.local,
        "capped_by": output.capped_by,
        "idempotency_key": output.idempotency_key,
        "replayed": output.replayed,
        "parts": output.parts,
        "seen_by": output.seen_by,
    })
}

/// Tokens in and out.
pub(crate) fn usage(output: &ChatOutput) -> Value {
    json!({
        "prompt_tokens": output.tokens_in,
        "completion_tokens": output.tokens_out,
        "total_tokens": u64::from(output.tokens_in) + u64::from(output.tokens_out),
    })
}

/// OpenAI knows no answer that was cancelled; `x_tirami` aside, such a one just stops.
pub(crate) fn finish_reason(output: &ChatOutput) -> &'static str {
    if output.finish_reason == "length" {
        "length"
    } else {
        "stop"
    }
}

/// The answer's id: the same for a purchase however often it is asked for.
fn id(key: &str) -> String {
    format!("chatcmpl-{key}")
}

/// What all pieces of one stream have in common.
#[derive(Debug)]
pub(crate) struct Pieces {
    id: String,
    created: u64,
    model: String,
    include_usage: bool,
}

impl Pieces {
    /// Pieces of the purchase with this key, of the model that was asked for.
    pub(crate) fn new(key: &str, model: Option<&str>, include_usage: bool) -> Self {
        let model = model.unwrap_or("any").to_owned();
        Self {
            id: id(key),
            created: created(),
            model,
            include_usage,
        }
    }

    /// From now on the pieces name the model that answered.
    pub(crate) fn answered_by(&mut self, model: &str) {
        model.clone_into(&mut self.model);
    }

    /// A piece with one choice.
    pub(crate) fn choice(&self, delta: &Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({
            "index": 0,
            "delta": delta,
            "logprobs": null,
            "finish_reason": finish_reason,
        });
        self.piece(&json!([choice]))
    }

    /// The pieces that end a stream. The very last carries the cost.
    pub(crate) fn end(&self, output: &ChatOutput) -> Vec<Value> {
        let mut pieces = vec![self.choice(&json!({}), Some(finish_reason(output)))];
        if self.include_usage {
            let mut last = self.piece(&json!([]));
            set(&mut last, "usage", usage(output));
            pieces.push(last);
        }
        if let Some(last) = pieces.last_mut() {
            set(last, "x_tirami", x_tirami(output));
        }
        pieces
    }

    fn piece(&self, choices: &Value) -> Value {
        let mut piece = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            set(&mut piece, "usage", Value::Null);
        }
        piece
    }
}

fn set(piece: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = piece {
        fields.insert(name.to_owned(), value);
    }
}
