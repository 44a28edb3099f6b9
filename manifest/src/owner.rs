//! What only the owner may decide, as a signed order.
//!
//! The node keeps the owner's public key and never the secret. An order names the node and the
//! number of orders it has taken so far, so that each order works once and nowhere else.

use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{AgentId, NodeId};
use crate::mandate::Limits;
use crate::signed::Document;

/// Longest agent name in bytes; chosen.
pub const AGENT_NAME_MAX: usize = 32;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Replaces an agent's limits, looser ones included.
    SetLimits {
        /// Whose.
        agent: AgentId,
        /// By what.
        limits: Limits,
    },
    /// Lifts the freeze.
    Unfreeze,
    /// Makes a token that speaks for an agent, which is created when it is new.
    CreateToken {
        /// The agent's name.
        agent_name: String,
        /// SHA-256 of the token, which the node never sees in this order.
        token_hash: [u8; 32],
    },
    /// Takes a token's right away.
    RevokeToken {
        /// SHA-256 of the token.
        token_hash: [u8; 32],
    },
}

/// A decision, for one node, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerOrder {
    /// The node that shall obey.
    pub node: NodeId,
    /// Orders that node has obeyed so far.
    pub number: u64,
    /// What shall be done.
    pub decision: Decision,
}

impl Document for OwnerOrder {
    const DOMAIN: &'static [u8] = b"trm/v1/owner-order\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1).raw(self.node.as_bytes()).u64(self.number);
        match &self.decision {
            Decision::SetLimits { agent, limits } => {
                out.u8(1).raw(agent.as_bytes());
                limits.encode(out);
            }
            Decision::Unfreeze => {
                out.u8(2);
            }
            Decision::CreateToken {
                agent_name,
                token_hash,
            } => {
                out.u8(3).string(agent_name.as_bytes()).raw(token_hash);
            }
            Decision::RevokeToken { token_hash } => {
                out.u8(4).raw(token_hash);
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let node = NodeId::from_bytes(from.raw("node")?);
        let number = from.u64("number")?;
        let decision = match from.u8("decision")? {
            1 => Decision::SetLimits {
                agent: AgentId::from_bytes(from.raw("agent")?),
                limits: Limits::decode(from)?,
            },
            2 => Decision::Unfreeze,
            3 => {
                let agent_name = from.text("agent name")?;
                if agent_name.is_empty() || agent_name.len() > AGENT_NAME_MAX {
                    return Err(DecodeError::Value("agent name"));
                }
                Decision::CreateToken {
                    agent_name,
                    token_hash: from.raw("token hash")?,
                }
            }
            4 => Decision::RevokeToken {
                token_hash: from.raw("token hash")?,
            },
            _ => return Err(DecodeError::Value("decision")),
        };
        Ok(Self {
            node,
            number,
            decision,
        })
    }
}
