//! How a tool answers: the operation's output, or one shape of failure a model can act on.

use rmcp::model::CallToolResult;
use serde::Serialize;
use serde_json::Value;
use tirami_agent_runtime::failure::{Failure, FailureCode};

/// The result of a tool.
pub(crate) fn answer<T: Serialize>(result: Result<T, Failure>) -> CallToolResult {
    match result.and_then(|output| structured(&output)) {
        Ok(value) => CallToolResult::structured(value),
        Err(failure) => failed(&failure),
    }
}

/// A failure as a tool's result: never a protocol error, so that a model reads it.
pub(crate) fn failed(failure: &Failure) -> CallToolResult {
    let value = structured(failure).unwrap_or_else(|_| {
        serde_json::json!({
            "code": FailureCode::Internal.name(),
            "message": "the failure itself could not be written",
            "retryable": false,
        })
    });
    CallToolResult::structured_error(value)
}

/// The value as JSON, with absent fields left out: `null` costs tokens and says nothing more.
fn structured<T: Serialize>(output: &T) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(output).map_err(|error| {
        Failure::new(
            FailureCode::Internal,
            format!("the result could not be written: {error}"),
        )
    })?;
    leave_out_nulls(&mut value);
    Ok(value)
}

fn leave_out_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(leave_out_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(leave_out_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_is_a_result_in_one_shape() {
        let failure = Failure::new(FailureCode::OverBudget, "5 TRM asked, 2 left this hour")
            .hint("ask for less")
            .next_tool("budget");
        let result = answer::<()>(Err(failure));
        assert_eq!(result.is_error, Some(true));
        assert_eq!(
            result.structured_content,
            Some(json!({
                "code": "over_budget",
                "message": "5 TRM asked, 2 left this hour",
                "retryable": false,
                "hint": "ask for less",
                "next_tool": "budget",
            }))
        );
    }

    #[test]
    fn absent_fields_are_left_out() {
        let result = answer(Ok(json!({"a": null, "b": [{"c": null, "d": 1}]})));
        assert_eq!(result.structured_content, Some(json!({"b": [{"d": 1}]})));
        assert_eq!(result.is_error, Some(false));
    }
}
