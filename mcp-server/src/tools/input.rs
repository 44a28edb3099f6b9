//! Arguments: read strictly, bounded by their types, refused with the field, the value and what is
//! allowed. What a schema here says, the type enforces.

use std::borrow::Cow;
use std::fmt;

use rmcp::ErrorData;
use rmcp::handler::server::common::FromContextPart;
use rmcp::handler::server::tool::ToolCallContext;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use tirami_agent_runtime::failure::{Failure, FailureCode};

/// Longest prompt, all its messages together, in bytes; chosen, far above any model's context here.
pub(crate) const PROMPT_BYTES_MAX: usize = 200_000;

/// Most tokens that may be asked for; chosen, above any model's context.
pub(crate) const TOKENS_MAX: u64 = 1_000_000;

/// Longest idempotency key in characters; chosen.
pub(crate) const KEY_LEN_MAX: usize = 128;

/// Highest temperature in thousandths, as in OpenAI's API.
pub(crate) const TEMPERATURE_MILLI_MAX: u32 = 2_000;

/// How much of a complaint is repeated: a wrong value may be a whole prompt.
const COMPLAINT_CHARS_MAX: usize = 400;

/// A tool's arguments, or why they are refused.
#[derive(Debug)]
pub(crate) struct Input<T>(pub(crate) Result<T, Failure>);

impl<S, T: DeserializeOwned> FromContextPart<ToolCallContext<'_, S>> for Input<T> {
    fn from_context_part(context: &mut ToolCallContext<'_, S>) -> Result<Self, ErrorData> {
        let arguments = context.arguments.take().unwrap_or_default();
        Ok(Self(read(Value::Object(arguments))))
    }
}

/// Reads a value as `T`.
///
/// # Errors
///
/// [`FailureCode::InvalidInput`], naming the field.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let field = error.path().to_string();
        invalid(&field, error.into_inner())
    })
}

/// The refusal of one field; `.` and nothing stand for the whole.
pub(crate) fn invalid(field: &str, complaint: impl fmt::Display) -> Failure {
    let complaint = complaint.to_string();
    let mut shown: String = complaint.chars().take(COMPLAINT_CHARS_MAX).collect();
    if shown.len() < complaint.len() {
        shown.push_str("...");
    }
    let message = match field {
        "" | "." => shown,
        field if shown.contains(&format!("`{field}`")) => shown,
        field => format!("{field}: {shown}"),
    };
    Failure::new(FailureCode::InvalidInput, message)
        .hint("correct what the message names; nothing was done")
}

/// A whole number in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Whole<MIN, MAX> {
    /// The number where a `u32` is wanted.
    pub(crate) fn to_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        // JSON knows one kind of number: 5.0 is 5.
        let number = value.as_u64().or_else(|| whole(value.as_f64()?));
        number
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| {
                de::Error::custom(format!("{value} is not a whole number from {MIN} to {MAX}"))
            })
    }
}

fn whole(number: f64) -> Option<u64> {
    format!("{number:.0}")
        .parse()
        .ok()
        .filter(|_| number.fract() == 0.0)
}

impl<const MIN: u64, const MAX: u64> JsonSchema for Whole<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Whole{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A text of so many characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<const MIN: usize, const MAX: usize>(pub(crate) String);

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let count = text.chars().count();
        if (MIN..=MAX).contains(&count) {
            return Ok(Self(text));
        }
        Err(de::Error::custom(format!(
            "{count} characters long; allowed are {MIN} to {MAX}"
        )))
    }
}

impl<const MIN: usize, const MAX: usize> JsonSchema for Text<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Text{MIN}To{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": MIN, "maxLength": MAX })
    }
}

/// Name or id of a model.
pub(crate) type ModelName = Text<1, 200>;

/// Tokens to generate.
pub(crate) type MaxTokens = Whole<1, TOKENS_MAX>;

/// A prompt: not empty, and of at most [`PROMPT_BYTES_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prompt(pub(crate) String);

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        prompt_length(text.len()).map_err(de::Error::custom)?;
        Ok(Self(text))
    }
}

/// Whether a prompt of so many bytes is accepted.
///
/// # Errors
///
/// What to tell the caller.
pub(crate) fn prompt_length(bytes: usize) -> Result<(), String> {
    if (1..=PROMPT_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    Err(format!(
        "{bytes} bytes long; allowed are 1 to {PROMPT_BYTES_MAX}"
    ))
}

impl JsonSchema for Prompt {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Prompt".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": PROMPT_BYTES_MAX })
    }
}

/// The name of a purchase: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Takes the caller's key.
    ///
    /// # Errors
    ///
    /// What to tell the caller.
    pub(crate) fn new(text: String) -> Result<Self, String> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=KEY_LEN_MAX).contains(&text.len()) {
            return Ok(Self(text));
        }
        let shown: String = text.chars().take(40).collect();
        Err(format!(
            "{shown:?} is not 1 to {KEY_LEN_MAX} visible ASCII characters without spaces"
        ))
    }

    /// The text.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for IdempotencyKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IdempotencyKey".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": KEY_LEN_MAX,
            "pattern": "^[!-~]{1,128}$",
        })
    }
}

/// A temperature from 0 to 2, kept in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Temperature(pub(crate) u32);

impl<'de> Deserialize<'de> for Temperature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let milli = value
            .as_f64()
            .filter(|t| (0.0..=2.0).contains(t))
            .and_then(|t| {
                // Through text, because there is no checked conversion from a float.
                format!("{:.0}", t * 1_000.0).parse().ok()
            });
        milli
            .filter(|milli| *milli <= TEMPERATURE_MILLI_MAX)
            .map(Self)
            .ok_or_else(|| {
                de::Error::custom(format!("{value} is not a temperature; allowed are 0 to 2"))
            })
    }
}

impl JsonSchema for Temperature {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Temperature".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 2 })
    }
}

/// The seed of a sampler; a number, or a decimal string where numbers are only exact to 2^53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u64);

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let seed = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        seed.map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "{value} is not a seed; allowed are 0 to {}",
                u64::MAX
            ))
        })
    }
}

impl JsonSchema for Seed {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seed".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tirami_manifest::Amount;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Everything {
        prompt: Prompt,
        limit: Option<Whole<1, 100>>,
        reason: Option<Text<1, 5>>,
        key: Option<IdempotencyKey>,
        temperature: Option<Temperature>,
        seed: Option<Seed>,
        max_trm: Option<Amount>,
    }

    #[test]
    fn what_is_within_bounds_is_read() {
        let input: Everything = read(json!({
            "prompt": "hi", "limit": 100.0, "reason": "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", "key": "a!~",
            "temperature": 0.7, "seed": "18446744073709551615", "max_trm": 0.5,
        }))
        .unwrap();
        assert_eq!(input.prompt.0, "hi");
        assert_eq!(input.limit.map(Whole::to_u32), Some(100));
        assert_eq!(input.reason.map(|r| r.0.len()), Some(10));
        assert_eq!(
            input.key.map(IdempotencyKey::into_text),
            Some("a!~".to_owned())
        );
        assert_eq!(input.temperature, Some(Temperature(700)));
        assert_eq!(input.seed, Some(Seed(u64::MAX)));
        assert_eq!(input.max_trm.map(Amount::utrm), Some(500_000));
    }

    #[test]
    fn a_refusal_names_field_value_and_what_is_allowed() {
        let not_a_key = "is not 1 to 128 visible ASCII characters without spaces";
        let not_whole = "is not a whole number from 1 to 100";
        for (field, value, said) in [
            ("prompt", json!(""), "0 bytes long; allowed are 1 to 200000"),
            ("limit", json!(0), &format!("0 {not_whole}")),
            ("limit", json!(2.5), &format!("2.5 {not_whole}")),
            ("limit", json!("5"), &format!("\"5\" {not_whole}")),
            ("limit", json!(-1), &format!("-1 {not_whole}")),
            (
                "reason",
                json!("123456"),
                "6 characters long; allowed are 1 to 5",
            ),
            ("key", json!("a b"), &format!("\"a b\" {not_a_key}")),
            ("key", json!(""), &format!("\"\" {not_a_key}")),
            (
                "temperature",
                json!(2.1),
                "2.1 is not a temperature; allowed are 0 to 2",
            ),
            ("seed", json!(-3), "-3 is not a seed; allowed are 0 to"),
            (
                "max_trm",
                json!("-5"),
                "'-5' is negative; an amount of TRM is zero or more",
            ),
            ("max_trm", json!("NaN"), "'NaN' is not an amount of TRM"),
            ("max_trm", json!("1e99"), "'1e99' is not an amount of TRM"),
            ("max_trm", json!(""), "'' is not an amount of TRM"),
        ] {
            let mut arguments = json!({ "prompt": "x" });
            arguments[field] = value;
            let failure = read::<Everything>(arguments).unwrap_err();
            assert_eq!(failure.code, FailureCode::InvalidInput);
            let said = format!("{field}: {said}");
            assert!(failure.message.starts_with(&said), "{}", failure.message);
        }
    }

    #[test]
    fn an_unknown_and_a_missing_field_are_named() {
        for (arguments, said) in [
            (json!({}), "missing field `prompt`"),
            (
                json!({ "promt": "x" }),
                "unknown field `promt`, expected one of `prompt`, `limit`",
            ),
        ] {
            let failure = read::<Everything>(arguments).unwrap_err();
            assert!(failure.message.starts_with(said), "{}", failure.message);
        }
    }

    #[test]
    fn a_prompt_may_be_so_long_and_no_longer() {
        let prompt = |bytes: usize| read::<Prompt>(json!("x".repeat(bytes)));
        assert!(prompt(PROMPT_BYTES_MAX).is_ok());
        assert!(prompt(PROMPT_BYTES_MAX + 1).is_err());
    }

    #[test]
    fn a_complaint_does_not_repeat_a_whole_prompt() {
        let failure = read::<Whole<1, 2>>(json!("x".repeat(100_000))).unwrap_err();
        assert!(failure.message.len() < 500);
    }
}
