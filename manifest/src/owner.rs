//! What only the owner may decide, as a signed order.
//!
//! The node keeps the owner's public key and never the secret. An order names the node and the
//! number of orders it has taken so far, so that each order works once and nowhere else.

use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{AgentId, ApprovalId, NodeId};
use crate::mandate::{Pot, Terms};
use crate::signed::Document;

/// Longest agent name in bytes; chosen.
pub const AGENT_NAME_MAX: usize = 32;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Replaces the terms of an agent's mandate, looser ones included.
    SetTerms {
        /// Whose.
        agent: AgentId,
        /// By what.
        terms: Box<Terms>,
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
    /// Gives an agent a mandate, also one that was revoked. The agent is created when it is new.
    Grant {
        /// The agent's name.
        agent_name: String,
        /// Out of whose mandate, whose account then pays; absent for one straight from the owner,
        /// with an account of its own.
        parent: Option<AgentId>,
        /// What it may do.
        terms: Box<Terms>,
    },
    /// Lets one request through that waits for approval.
    Approve {
        /// Which.
        approval: ApprovalId,
        /// The most that it may cost.
        amount: Amount,
    },
    /// Moves money between agents' pots, or between two pots of one agent.
    Fund {
        /// From this agent.
        from: AgentId,
        /// Out of this pot.
        from_pot: Pot,
        /// To this agent.
        to: AgentId,
        /// Into this pot.
        to_pot: Pot,
        /// How much.
        amount: Amount,
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
            Decision::SetTerms { agent, terms } => {
                out.u8(1).raw(agent.as_bytes());
                terms.encode(out);
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
            Decision::Grant {
                agent_name,
                parent,
                terms,
            } => {
                out.u8(5).string(agent_name.as_bytes());
                match parent {
                    None => out.u8(0),
                    Some(parent) => out.u8(1).raw(parent.as_bytes()),
                };
                terms.encode(out);
            }
            Decision::Approve { approval, amount } => {
                out.u8(6).raw(approval.as_bytes()).u64(amount.utrm());
            }
            Decision::Fund {
                from,
                from_pot,
                to,
                to_pot,
                amount,
            } => {
                out.u8(7)
                    .raw(from.as_bytes())
                    .u8(from_pot.number())
                    .raw(to.as_bytes())
                    .u8(to_pot.number())
                    .u64(amount.utrm());
            }
        }
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let node = NodeId::from_bytes(from.raw("node")?);
        let number = from.u64("number")?;
        let decision = match from.u8("decision")? {
            1 => Decision::SetTerms {
                agent: AgentId::from_bytes(from.raw("agent")?),
                terms: Box::new(Terms::decode(from)?),
            },
            2 => Decision::Unfreeze,
            3 => Decision::CreateToken {
                agent_name: agent_name(from)?,
                token_hash: from.raw("token hash")?,
            },
            4 => Decision::RevokeToken {
                token_hash: from.raw("token hash")?,
            },
            5 => Decision::Grant {
                agent_name: agent_name(from)?,
                parent: match from.u8("parent")? {
                    0 => None,
                    1 => Some(AgentId::from_bytes(from.raw("parent")?)),
                    _ => return Err(DecodeError::Value("parent")),
                },
                terms: Box::new(Terms::decode(from)?),
            },
            6 => Decision::Approve {
                approval: ApprovalId::from_bytes(from.raw("approval")?),
                amount: amount(from)?,
            },
            7 => Decision::Fund {
                from: AgentId::from_bytes(from.raw("from")?),
                from_pot: pot(from)?,
                to: AgentId::from_bytes(from.raw("to")?),
                to_pot: pot(from)?,
                amount: amount(from)?,
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

fn agent_name(from: &mut Reader<'_>) -> Result<String, DecodeError> {
    let name = from.text("agent name")?;
    if name.is_empty() || name.len() > AGENT_NAME_MAX {
        return Err(DecodeError::Value("agent name"));
    }
    Ok(name)
}

fn amount(from: &mut Reader<'_>) -> Result<Amount, DecodeError> {
    Amount::from_utrm(from.u64("amount")?).map_err(|_| DecodeError::Value("amount"))
}

fn pot(from: &mut Reader<'_>) -> Result<Pot, DecodeError> {
    Pot::from_number(from.u8("pot")?).ok_or(DecodeError::Value("pot"))
}
