//! Schemas from types, in the dialect every client understands: no references, no lists of types,
//! no `null`, no formats that only Rust knows.
//!
//! A field that may be absent is not required, and absent in the answer; see `answer.rs`. An output
//! schema also admits a failure, because the TypeScript SDK 1.x checks failures against it.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// The schema of a tool's arguments.
pub(crate) fn input<T: JsonSchema>() -> Arc<JsonObject> {
    Arc::new(object::<T>(SchemaSettings::draft2020_12(), &STRANGE))
}

/// The schema of a tool's structured content: the output, or a failure.
pub(crate) fn output<T: JsonSchema>() -> Arc<JsonObject> {
    let mut schema = object::<T>(SchemaSettings::draft2020_12().for_serialize(), &OBVIOUS);
    let required = schema.remove("required").unwrap_or_else(|| json!([]));
    let failure = json!({ "required": ["code", "message", "retryable"] });
    schema.insert("anyOf".into(), json!([{ "required": required }, failure]));
    Arc::new(schema)
}

/// Keywords that not every client knows, or that say nothing.
const STRANGE: [&str; 4] = ["$schema", "title", "format", "default"];

/// Beside these, what a reader of our own answers need not check, and models would pay for: names speak
/// for themselves there.
const OBVIOUS: [&str; 10] = [
    "description",
    "$schema",
    "title",
    "format",
    "default",
    "pattern",
    "minimum",
    "maximum",
    "uniqueItems",
    "additionalProperties",
];

fn object<T: JsonSchema>(mut settings: SchemaSettings, without: &[&str]) -> JsonObject {
    settings.inline_subschemas = true;
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let Value::Object(mut schema) = schema.to_value() else {
        panic!("the schema of a struct is an object");
    };
    plain(&mut schema, without);
    // The tool's own description says what these would.
    schema.remove("description");
    schema.entry("properties").or_insert_with(|| json!({}));
    schema
}

/// Rewrites one schema and all inside it; true when its value may be absent.
fn plain(schema: &mut JsonObject, without: &[&str]) -> bool {
    for keyword in without {
        schema.remove(*keyword);
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    let nullable = unwrap_null_type(schema) | unwrap_null_choice(schema);
    constants_to_enum(schema);
    let mut absent = Vec::new();
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for (name, property) in properties {
            if let Value::Object(property) = property
                && plain(property, without)
            {
                absent.push(name.clone());
            }
        }
    }
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.retain(|name| {
            name.as_str()
                .is_none_or(|name| !absent.iter().any(|a| a == name))
        });
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(keyword) {
            plain(inner, without);
        }
    }
    for keyword in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(choices)) = schema.get_mut(keyword) {
            for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
                plain(choice, without);
            }
        }
    }
    nullable
}

/// `type: [X, "null"]` becomes `type: X`.
fn unwrap_null_type(schema: &mut JsonObject) -> bool {
    let Some(Value::Array(types)) = schema.get_mut("type") else {
        return false;
    };
    types.retain(|t| t != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        schema.insert("type".into(), only);
    }
    true
}

/// `anyOf: [X, {type: null}]` becomes X; what stands beside it, such as a description, wins.
fn unwrap_null_choice(schema: &mut JsonObject) -> bool {
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else {
        return false;
    };
    let before = choices.len();
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    let nullable = choices.len() < before;
    if nullable && let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        for (keyword, value) in only {
            schema.entry(keyword).or_insert(value);
        }
    }
    nullable
}

/// A choice among documented constants becomes a plain enum.
fn constants_to_enum(schema: &mut JsonObject) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else {
        return;
    };
    let constants: Option<Vec<Value>> = choices
        .iter()
        .map(|choice| choice.get("const").cloned())
        .collect();
    if let Some(constants) = constants {
        schema.remove("oneOf");
        schema.insert("type".into(), json!("string"));
        schema.insert("enum".into(), Value::Array(constants));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize, JsonSchema)]
    struct Inner {
        x: u8,
    }

    /// One of two.
    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Word {
        /// Yes.
        Yes,
        /// No.
        No,
    }

    #[derive(Serialize, JsonSchema)]
    struct Outer {
        /// A name.
        title: Option<String>,
        inner: Option<Inner>,
        word: Word,
        n: u64,
    }

    #[test]
    fn a_schema_is_plain_and_admits_failures() {
        let schema = Value::Object(output::<Outer>().as_ref().clone());
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "title": { "type": "string" },
                    "inner": {
                        "type": "object",
                        "properties": { "x": { "type": "integer" } },
                        "required": ["x"],
                    },
                    "word": { "type": "string", "enum": ["yes", "no"] },
                    "n": { "type": "integer" },
                },
                "anyOf": [
                    { "required": ["word", "n"] },
                    { "required": ["code", "message", "retryable"] },
                ],
            })
        );
    }
}
