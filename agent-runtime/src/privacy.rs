//! Who may see a prompt. Whoever does the work does: there is no hiding it from the provider.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tirami_manifest::NodeId;

/// Most nodes that a request names; chosen.
pub const NAMED_MAX: usize = 16;

/// The most that a prompt is shown to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Privacy {
    /// Nobody but this node.
    Local,
    /// This node and those of the same owner, which its configuration names.
    Own,
    /// This node and these.
    Named(Vec<NodeId>),
    /// Any provider.
    #[default]
    Any,
}

impl Privacy {
    /// Whether it keeps nobody out.
    pub const fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// Whether another node may see the prompt.
    pub(crate) fn allows(&self, node: &NodeId, own: &[NodeId]) -> bool {
        match self {
            Self::Local => false,
            Self::Own => own.contains(node),
            Self::Named(nodes) => nodes.contains(node),
            Self::Any => true,
        }
    }
}

impl FromStr for Privacy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => return Ok(Self::Local),
            "own" => return Ok(Self::Own),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let shown: String = text.chars().take(120).collect();
        let nodes = text.split(',').map(|id| id.trim().parse());
        let nodes: Vec<NodeId> = nodes.collect::<Result<_, _>>().map_err(|_| {
            format!(
                "'{shown}' is no privacy; write local, own, any, or node ids with commas between"
            )
        })?;
        if nodes.len() > NAMED_MAX {
            return Err(format!(
                "privacy names {} nodes; at most {NAMED_MAX} are taken",
                nodes.len()
            ));
        }
        Ok(Self::Named(nodes))
    }
}

impl JsonSchema for Privacy {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Privacy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl TryFrom<String> for Privacy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Privacy> for String {
    fn from(privacy: Privacy) -> Self {
        privacy.to_string()
    }
}

impl fmt::Display for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Own => f.write_str("own"),
            Self::Any => f.write_str("any"),
            Self::Named(nodes) => {
                for (n, node) in nodes.iter().enumerate() {
                    let comma = if n == 0 { "" } else { "," };
                    write!(f, "{comma}{node}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        tirami_manifest::key::SecretKey::from_bytes(&[n; 32]).id()
    }

    #[test]
    fn each_floor_shows_a_prompt_to_whom_it_says() {
        let own = [node(1)];
        let named = Privacy::Named(vec![node(2)]);
        for (privacy, mine, theirs, others) in [
            (Privacy::Local, false, false, false),
            (Privacy::Own, true, false, false),
            (named, false, true, false),
            (Privacy::Any, true, true, true),
        ] {
            let seen = [1, 2, 3].map(|n| privacy.allows(&node(n), &own));
            assert_eq!(seen, [mine, theirs, others], "{privacy}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_anything_else_is_named() {
        let both = Privacy::Named(vec![node(1), node(2)]);
        for privacy in [Privacy::Local, Privacy::Own, Privacy::Any, both] {
            assert_eq!(privacy.to_string().parse(), Ok(privacy));
        }
        for text in ["", "LOCAL", "nobody", "local,own", "12,34"] {
            let complaint = text.parse::<Privacy>().unwrap_err();
            assert!(complaint.contains(&format!("'{text}'")), "{complaint}");
        }
        let many = vec![node(1).to_string(); NAMED_MAX + 1].join(",");
        assert!(many.parse::<Privacy>().unwrap_err().contains("at most 16"));
    }
}
