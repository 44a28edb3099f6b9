//! Reading a chat request in OpenAI's shape: what we do, what may be ignored, and what would
//! change the meaning and is therefore refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tirami_agent_runtime::ops::{Chat, Operation};
use tirami_agent_runtime::privacy::Privacy;
use tirami_manifest::job::{Message, Role};
use tirami_manifest::{Amount, GrantId};

use super::error::ApiError;
use crate::tools::input::{
    IdempotencyKey, MaxTokens, ModelName, Seed, Temperature, Whole, invalid, prompt_length, read,
};

/// Fields that change nothing in the answer; accepted and ignored.
const HARMLESS: [&str; 12] = [
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "store",
    "top_logprobs",
    "user",
    "verbosity",
    "cache_prompt",
];

/// A chat request, read and within bounds.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    /// What to do, its idempotency key included.
    pub(crate) chat: Chat,
    /// The key.
    pub(crate) key: String,
    /// Whether the caller chose the key.
    pub(crate) callers_key: bool,
    /// Whether to answer as a stream.
    pub(crate) stream: bool,
    /// Whether the stream ends with the number of tokens.
    pub(crate) include_usage: bool,
}

/// Our own part of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension {
    max_trm: Option<Amount>,
    idempotency_key: Option<IdempotencyKey>,
    mandate: Option<GrantId>,
    privacy: Option<Privacy>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl ChatRequest {
    /// Reads the body, and the header `Idempotency-Key`.
    ///
    /// # Errors
    ///
    /// 400, naming the field.
    pub(crate) fn read(body: Option<Value>, key_header: Option<&str>) -> Result<Self, ApiError> {
        let Some(Value::Object(mut body)) = body else {
            return Err(invalid("", "the body must be a JSON object").into());
        };
        let messages = messages(&mut body)?;
        let extension: Extension = take(&mut body, "x_tirami")?.unwrap_or_default();
        let key = key(key_header, extension.idempotency_key)?;
        let callers_key = key.is_some();
        let stream = take(&mut body, "stream")?.unwrap_or(false);
        let options: Option<StreamOptions> = take(&mut body, "stream_options")?;
        let mut chat = Chat {
            model: take::<ModelName>(&mut body, "model")?.map(|model| model.0),
            max_tokens: max_tokens(&mut body)?,
            max_trm: extension.max_trm,
            idempotency_key: key,
            temperature_milli: take::<Temperature>(&mut body, "temperature")?
                .unwrap_or_default()
                .0,
            top_k: take::<Whole<0, 1_000_000>>(&mut body, "top_k")?.map_or(0, Whole::to_u32),
            seed: seed(&mut body)?,
            stop: stop(&mut body)?,
            mandate: extension.mandate,
            privacy: extension.privacy.unwrap_or_default(),
            ..Chat::new(messages)
        };
        refuse_the_rest(&body)?;
        chat.prepare();
        let key = chat.idempotency_key.clone().unwrap_or_default();
        let include_usage = options.unwrap_or_default().include_usage;
        Ok(Self {
            chat,
            key,
            callers_key,
            stream,
            include_usage,
        })
    }
}

/// Takes a field out of the body; `null` is the same as absent.
fn take<T: DeserializeOwned>(
    body: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>, ApiError> {
    let Some(value) = body.remove(name).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    // Inside a map, so that the complaint's path begins with the name.
    let read: Result<BTreeMap<String, T>, _> = read(json!({ name: value }));
    let mut read = read.map_err(|failure| ApiError::from(failure).param(name))?;
    Ok(read.remove(name))
}

fn wrong(name: &'static str, complaint: &str) -> ApiError {
    ApiError::from(invalid(name, complaint)).param(name)
}

fn key(header: Option<&str>, body: Option<IdempotencyKey>) -> Result<Option<String>, ApiError> {
    let body = body.map(IdempotencyKey::into_text);
    let Some(header) = header else {
        return Ok(body);
    };
    let header = IdempotencyKey::new(header.to_owned())
        .map_err(|complaint| wrong("Idempotency-Key", &complaint))?
        .into_text();
    match body {
        Some(body) if body != header => Err(wrong(
            "x_tirami",
            "its idempotency_key is not the one in the header",
        )),
        _ => Ok(Some(header)),
    }
}

fn max_tokens(body: &mut Map<String, Value>) -> Result<Option<u32>, ApiError> {
    let new: Option<MaxTokens> = take(body, "max_completion_tokens")?;
    let old: Option<MaxTokens> = take(body, "max_tokens")?;
    match (new, old) {
        (Some(new), Some(old)) if new != old => Err(wrong(
            "max_tokens",
            "it differs from max_completion_tokens; leave one out",
        )),
        (new, old) => Ok(new.or(old).map(Whole::to_u32)),
    }
}

/// OpenAI's seeds may be negative; ours are the same 64 bits.
fn seed(body: &mut Map<String, Value>) -> Result<Option<u64>, ApiError> {
    if let Some(negative) = body
        .get("seed")
        .and_then(Value::as_i64)
        .filter(|seed| *seed < 0)
    {
        body.remove("seed");
        return Ok(Some(negative.cast_unsigned()));
    }
    Ok(take::<Seed>(body, "seed")?.map(|seed| seed.0))
}

fn stop(body: &mut Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let stops = match body.remove("stop") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(many) => {
            let mut field = Map::from_iter([("stop".to_owned(), many)]);
            take::<Vec<String>>(&mut field, "stop")?.unwrap_or_default()
        }
    };
    if stops.len() > 4 || stops.iter().any(|stop| !(1..=256).contains(&stop.len())) {
        return Err(wrong(
            "stop",
            "allowed are at most 4 texts of 1 to 256 bytes",
        ));
    }
    Ok(stops)
}

fn messages(body: &mut Map<String, Value>) -> Result<Vec<Message>, ApiError> {
    let Some(raw): Option<Vec<Map<String, Value>>> = take(body, "messages")? else {
        return Err(wrong(
            "messages",
            "missing; a list of {role, content} is needed",
        ));
    };
    let messages = raw
        .iter()
        .enumerate()
        .map(|(index, raw)| {
            message(raw).map_err(|complaint| {
                ApiError::from(invalid(&format!("messages[{index}]"), complaint)).param("messages")
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    prompt_length(messages.iter().map(|message| message.content.len()).sum())
        .map_err(|complaint| wrong("messages", &complaint))?;
    Ok(messages)
}

fn message(raw: &Map<String, Value>) -> Result<Message, String> {
    let role = match raw.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err("role must be system, developer, user or assistant".to_owned()),
    };
    for field in ["tool_calls", "function_call", "audio"] {
        if raw.get(field).is_some_and(|value| !is_nothing(value)) {
            return Err(format!("{field} is not supported"));
        }
    }
    let content = match raw.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(text_part).collect::<Result<_, _>>()?,
        _ => return Err("content must be a text, or a list of text parts".to_owned()),
    };
    Ok(Message { role, content })
}

fn text_part(part: &Value) -> Result<&str, String> {
    let is_text = part.get("type").and_then(Value::as_str) == Some("text");
    part.get("text")
        .and_then(Value::as_str)
        .filter(|_| is_text)
        .ok_or_else(|| "content parts must be {\"type\": \"text\", \"text\": ...}".to_owned())
}

/// Refuses what is left in the body, unless it says nothing or may be ignored.
fn refuse_the_rest(body: &Map<String, Value>) -> Result<(), ApiError> {
    let told = body
        .iter()
        .find(|(name, value)| !HARMLESS.contains(&name.as_str()) && !is_default(name, value));
    let Some((name, value)) = told else {
        return Ok(());
    };
    let value: String = value.to_string().chars().take(80).collect();
    let complaint = format!("{value} is not supported here; leave the field out");
    Err(ApiError::from(invalid(name, complaint)).param(known(name)))
}

/// Whether a field that we do not implement asks for what happens anyway.
fn is_default(name: &str, value: &Value) -> bool {
    let default = match name {
        "n" | "best_of" | "top_p" | "repetition_penalty" => value.as_f64() == Some(1.0),
        "response_format" => *value == json!({ "type": "text" }),
        "modalities" => *value == json!(["text"]),
        "tool_choice" | "function_call" => value == "none" || value == "auto",
        _ => is_nothing(value),
    };
    default || value.is_null()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::String(_) => false,
    }
}

/// The name as OpenAI's `param`, where it is a name we know.
fn known(name: &str) -> &'static str {
    const NAMES: [&str; 20] = [
        "n",
        "best_of",
        "top_p",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "logprobs",
        "logit_bias",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "modalities",
        "audio",
        "prediction",
        "web_search_options",
        "min_p",
        "grammar",
        "json_schema",
    ];
    NAMES
        .into_iter()
        .find(|known| *known == name)
        .unwrap_or("body")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: Value) -> Result<ChatRequest, String> {
        let mut body =
            json!({ "model": "sprout", "messages": [{ "role": "user", "content": "hi" }] });
        let Value::Object(fields) = fields else {
            panic!("an object")
        };
        body.as_object_mut().unwrap().extend(fields);
        ChatRequest::read(Some(body), None).map_err(|error| {
            let body = error.body();
            format!("{} | {}", body["error"]["param"], body["error"]["message"])
        })
    }

    #[test]
    fn a_full_request_is_read() {
        let request = request(json!({
            "messages": [
                { "role": "developer", "content": "be brief" },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
                { "role": "assistant", "content": "c", "refusal": null, "tool_calls": null },
                { "role": "user", "content": "d", "name": "x" },
            ],
            "max_completion_tokens": 5, "temperature": 0.25, "top_p": 1, "seed": -1, "stop": "END",
            "stream": true, "stream_options": { "include_usage": true }, "n": 1, "user": "u",
            "tools": [], "response_format": { "type": "text" }, "logprobs": false,
            "presence_penalty": 0.0, "metadata": { "a": "b" },
            "x_tirami": { "max_trm": "1.5", "idempotency_key": "k" },
        }))
        .unwrap();
        assert_eq!(request.chat.messages.len(), 4);
        assert_eq!(request.chat.messages[0].role, Role::System);
        assert_eq!(request.chat.messages[1].content, "ab");
        assert_eq!(request.chat.max_tokens, Some(5));
        assert_eq!(request.chat.temperature_milli, 250);
        assert_eq!(request.chat.seed, Some(u64::MAX));
        assert_eq!(request.chat.stop, ["END"]);
        assert_eq!(request.chat.max_trm.map(Amount::utrm), Some(1_500_000));
        assert!(request.stream && request.include_usage && request.callers_key);
        assert_eq!(request.key, "k");
    }

    #[test]
    fn what_would_change_the_meaning_is_refused_by_name() {
        for (fields, param) in [
            (json!({ "n": 2 }), "n"),
            (json!({ "n": 0 }), "n"),
            (json!({ "tools": [{ "type": "function" }] }), "tools"),
            (
                json!({ "response_format": { "type": "json_schema" } }),
                "response_format",
            ),
            (json!({ "logprobs": true }), "logprobs"),
            (json!({ "logit_bias": { "5": 1 } }), "logit_bias"),
            (json!({ "top_p": 0.9 }), "top_p"),
            (json!({ "presence_penalty": 0.5 }), "presence_penalty"),
            (json!({ "modalities": ["audio"] }), "modalities"),
            (json!({ "max_tokns": 5 }), "body"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (
                json!({ "max_tokens": 5, "max_completion_tokens": 6 }),
                "max_tokens",
            ),
            (json!({ "temperature": 3 }), "temperature"),
            (json!({ "seed": 1.5 }), "seed"),
            (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop"),
            (json!({ "stop": [""] }), "stop"),
            (json!({ "stop": [1] }), "stop"),
            (json!({ "stream": "yes" }), "stream"),
            (json!({ "model": 5 }), "model"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "messages": null }), "messages"),
            (json!({ "messages": "hi" }), "messages"),
            (
                json!({ "messages": [{ "role": "tool", "content": "x" }] }),
                "messages",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
                "messages",
            ),
            (json!({ "messages": [{ "role": "user" }] }), "messages"),
            (json!({ "x_tirami": { "max_trm": "-5" } }), "x_tirami"),
            (json!({ "x_tirami": { "max_trn": "5" } }), "x_tirami"),
            (
                json!({ "x_tirami": { "idempotency_key": "a b" } }),
                "x_tirami",
            ),
        ] {
            let complaint = request(fields.clone()).expect_err(&fields.to_string());
            assert!(
                complaint.starts_with(&format!("\"{param}\" | ")),
                "{fields}: {complaint}"
            );
        }
    }

    #[test]
    fn a_complaint_names_the_place() {
        let complaint = request(json!({ "x_tirami": { "max_trm": "-5" } })).unwrap_err();
        assert!(
            complaint.contains("x_tirami.max_trm: '-5' is negative"),
            "{complaint}"
        );
        let complaint = request(json!({ "messages": ["x"] })).unwrap_err();
        assert!(complaint.contains("messages[0]: "), "{complaint}");
    }

    #[test]
    fn the_key_comes_from_header_or_body_but_not_two_from_both() {
        let body = |key: Option<&str>| {
            json!({
                "messages": [{ "role": "user", "content": "hi" }],
                "x_tirami": { "idempotency_key": key },
            })
        };
        let read = |key, header| ChatRequest::read(Some(body(key)), header);
        assert_eq!(read(None, Some("h")).unwrap().key, "h");
        assert_eq!(read(Some("b"), None).unwrap().key, "b");
        assert_eq!(read(Some("b"), Some("b")).unwrap().key, "b");
        assert!(read(Some("b"), Some("h")).is_err());
        let generated = read(None, None).unwrap();
        assert!(!generated.callers_key && !generated.key.is_empty());
    }
}
