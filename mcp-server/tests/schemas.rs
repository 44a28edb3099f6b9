//! What `tools/list` says, kept in files: a change of a tool shows as a change of its file, and
//! the whole stays small enough for a model's context. `UPDATE=1` writes the files anew.

use std::path::PathBuf;

use serde_json::Value;
use tirami_mcp_server::mcp::INSTRUCTIONS;
use tirami_mcp_server::tools;

/// Bytes of the whole list; clients show all of it to a model.
const LIST_BYTES_MAX: usize = 24 * 1_024;

/// Bytes of one description.
const DESCRIPTION_BYTES_MAX: usize = 600;

/// Bytes of the introduction; clients cut at some 4,096.
const INSTRUCTIONS_BYTES_MAX: usize = 2_048;

fn list() -> Vec<Value> {
    tools::list()
        .iter()
        .map(|tool| serde_json::to_value(tool).expect("a tool is JSON"))
        .collect()
}

fn name(tool: &Value) -> &str {
    tool["name"].as_str().expect("a tool has a name")
}

#[test]
fn golden_schemas() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let mut files: Vec<String> = Vec::new();
    for tool in list() {
        let path = folder.join(format!("{}.json", name(&tool)));
        let now = format!("{}\n", serde_json::to_string_pretty(&tool).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == now,
            "{} is not what it was; see the file, and UPDATE=1",
            path.display()
        );
        files.push(format!("{}.json", name(&tool)));
    }
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut found: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, files, "a file without a tool");
}

#[test]
fn the_list_fits_into_a_models_context() {
    let whole = serde_json::to_string(&list()).unwrap();
    assert!(
        whole.len() <= LIST_BYTES_MAX,
        "tools/list has {} bytes",
        whole.len()
    );
    assert!(
        INSTRUCTIONS.len() <= INSTRUCTIONS_BYTES_MAX,
        "{} bytes",
        INSTRUCTIONS.len()
    );
    assert!(INSTRUCTIONS.is_ascii() && whole.is_ascii());
    for tool in list() {
        let description = tool["description"].as_str().unwrap();
        assert!(
            description.len() <= DESCRIPTION_BYTES_MAX,
            "{}: {}",
            name(&tool),
            description.len()
        );
        assert!(!description.contains("  "), "{}: two spaces", name(&tool));
    }
}

#[test]
fn every_tool_is_typed_and_says_what_it_may_do() {
    for tool in list() {
        let name = name(&tool);
        assert!(tool["title"].is_string(), "{name} has no title");
        for hint in [
            "readOnlyHint",
            "destructiveHint",
            "idempotentHint",
            "openWorldHint",
        ] {
            assert!(
                tool["annotations"][hint].is_boolean(),
                "{name} does not set {hint}"
            );
        }
        let writes = ["chat", "freeze"].contains(&name);
        assert_eq!(tool["annotations"]["readOnlyHint"], !writes, "{name}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{name}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{name}");
        for field in tool["inputSchema"]["properties"]
            .as_object()
            .unwrap()
            .values()
        {
            assert!(
                field["description"].is_string(),
                "{name} does not explain {field}"
            );
        }
    }
}

#[test]
fn schemas_use_only_what_every_client_understands() {
    for tool in list() {
        let text = tool.to_string();
        for strange in [
            "$ref",
            "$defs",
            "\"null\"",
            "\"format\"",
            "\"oneOf\"",
            "nullable",
        ] {
            assert!(!text.contains(strange), "{} uses {strange}", name(&tool));
        }
    }
}

#[test]
fn the_list_is_the_same_every_time() {
    assert_eq!(list(), list());
    assert!(list().is_sorted_by_key(|tool| name(tool).to_owned()));
}
