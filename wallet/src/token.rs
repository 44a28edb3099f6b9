//! Agents and the tokens that speak for them.
//!
//! A token is kept as its SHA-256, so that the wallet file opens nothing. The node makes the main
//! agent and its first token by itself; every other token needs the owner.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::Terms;
use tirami_manifest::signed::hash;
use tirami_manifest::{AgentId, Timestamp};

use crate::error::WalletError;
use crate::ledger::journal::{self, Event};
use crate::ledger::mandate::MandateRow;
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::store::StoreError;
use crate::wallet::Wallet;

/// Domain of an agent id.
const AGENT_DOMAIN: &[u8] = b"trm/v1/agent\0";
/// Domain of a token's hash.
const TOKEN_DOMAIN: &[u8] = b"trm/v1/token\0";

/// Name of the agent every node has.
pub const MAIN_AGENT: &str = "main";

/// One spender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id, made from its name.
    pub id: AgentId,
    /// Its name.
    pub name: String,
}

/// What a token opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Whose it is.
    pub agent: AgentId,
    /// When it was made.
    pub created: Timestamp,
}

/// The id of the agent with this name.
pub fn agent_id(name: &str) -> AgentId {
    let digest = hash(AGENT_DOMAIN, &[name.as_bytes()]);
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    AgentId::from_bytes(id)
}

/// The id of the agent every node has.
pub fn main_agent() -> AgentId {
    agent_id(MAIN_AGENT)
}

/// What the wallet keeps of a token.
pub fn token_hash(token: &str) -> [u8; 32] {
    hash(TOKEN_DOMAIN, &[token.as_bytes()])
}

impl Wallet {
    /// Makes the main agent, its mandate at the default limits, and its token's right, unless they
    /// are there.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn ensure_main_agent(&self, token: [u8; 32]) -> Result<(), WalletError> {
        self.write(move |tables, now| {
            let fresh = tables
                .get(Table::Agents, main_agent().as_bytes())?
                .is_none();
            ensure_agent(tables, MAIN_AGENT, now)?;
            if fresh {
                let row = TokenRow {
                    agent: main_agent(),
                    created: now,
                };
                tables.put_row(Table::Tokens, &token, &row)?;
                journal::note(tables, Event::Token(main_agent(), token, true))?;
            }
            Ok(())
        })
        .await
    }

    /// Whose token this is.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownToken`].
    pub fn agent_of_token(&self, token: &str) -> Result<AgentId, WalletError> {
        let row: Option<TokenRow> = self.view()?.row(Table::Tokens, &token_hash(token))?;
        row.map(|row| row.agent).ok_or(WalletError::UnknownToken)
    }

    /// Every token that opens something, by its hash.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn tokens(&self) -> Result<Vec<([u8; 32], TokenRow)>, WalletError> {
        let damaged = || StoreError::Row {
            table: Table::Tokens,
        };
        self.view()?
            .scan(Table::Tokens, &[], None, Order::Ascending, usize::MAX)?
            .iter()
            .map(|(hash, bytes)| {
                let hash = hash.as_slice().try_into().map_err(|_| damaged())?;
                Ok((hash, decode(Table::Tokens, bytes)?))
            })
            .collect()
    }

    /// Every agent.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn agents(&self) -> Result<Vec<Agent>, WalletError> {
        self.view()?
            .scan(Table::Agents, &[], None, Order::Ascending, usize::MAX)?
            .iter()
            .map(|(_, bytes)| Ok(decode(Table::Agents, bytes)?))
            .collect()
    }

    /// The agent with this name.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownAgent`].
    pub fn agent(&self, name: &str) -> Result<AgentId, WalletError> {
        let id = agent_id(name);
        match self.view()?.get(Table::Agents, id.as_bytes())? {
            Some(_) => Ok(id),
            None => Err(WalletError::UnknownAgent(name.chars().take(64).collect())),
        }
    }
}

/// Makes an agent with a mandate at the default limits unless there is one.
pub(crate) fn ensure_agent(
    tables: &mut (impl Tables + ReadRows),
    name: &str,
    now: Timestamp,
) -> Result<AgentId, WalletError> {
    let id = agent_id(name);
    if tables.get(Table::Agents, id.as_bytes())?.is_none() {
        name_agent(tables, id, name)?;
        let row = MandateRow::from_owner(id, Terms::standard(), now);
        tables.set_mandate(&id, &row)?;
    }
    Ok(id)
}

/// Remembers an agent's name.
pub(crate) fn name_agent(
    tables: &mut impl Tables,
    id: AgentId,
    name: &str,
) -> Result<(), WalletError> {
    let name = name.to_owned();
    Ok(tables.put_row(Table::Agents, id.as_bytes(), &Agent { id, name })?)
}
