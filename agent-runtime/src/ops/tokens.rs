//! The tokens that speak for agents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::id::to_hex;
use tirami_wallet::WalletError;

use super::books::Names;
use super::{Caller, Operation, TextSink};
use crate::failure::Failure;
use crate::runtime::Runtime;
use crate::{data_dir, owner};

super::empty_input!(
    /// The tokens that open this node.
    Tokens
);

/// The tokens that open this node, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokensOutput {
    /// One for each; nobody can tell the token itself.
    pub tokens: Vec<TokenOutput>,
}

/// A token that was made and not taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenOutput {
    /// What the wallet keeps of it: its hash, 64 hexadecimal digits.
    pub token_hash: String,
    /// For whom it speaks.
    pub agent: String,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// Whether this node's own commands and doors speak with it; such a one is not taken back.
    pub is_own: bool,
}

impl Operation for Tokens {
    const NAME: &'static str = "tokens";
    type Output = TokensOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<TokensOutput, Failure> {
        caller.must_be_main()?;
        let mut tokens = runtime.inner.wallet.tokens()?;
        tokens.sort_by_key(|(_, row)| row.created);
        let (names, own) = (Names::load(runtime)?, own(runtime)?);
        let tokens = tokens.into_iter().map(|(hash, row)| TokenOutput {
            token_hash: to_hex(&hash),
            agent: names.agent(&row.agent),
            created_at: row.created.to_rfc3339(),
            is_own: own.contains(&hash),
        });
        Ok(TokensOutput {
            tokens: tokens.collect(),
        })
    }
}

/// Whether there is an agent with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnowsAgent {
    /// The agent's name.
    pub agent: String,
}

/// Whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnowsAgentOutput {
    /// Whether it is there.
    pub is_known: bool,
}

impl Operation for KnowsAgent {
    const NAME: &'static str = "knows_agent";
    // It tells an owner, who has no token, what an order will do.
    const NEEDS_TOKEN: bool = false;
    type Output = KnowsAgentOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<KnowsAgentOutput, Failure> {
        match runtime.inner.wallet.agent(&self.agent) {
            Ok(_) => Ok(KnowsAgentOutput { is_known: true }),
            Err(WalletError::UnknownAgent(_)) => Ok(KnowsAgentOutput { is_known: false }),
            Err(error) => Err(error.into()),
        }
    }
}

/// Hashes of the token in the data directory, and of the one that this node was started with.
pub(super) fn own(runtime: &Runtime) -> Result<[[u8; 32]; 2], Failure> {
    let kept = data_dir::read_token(&runtime.inner.config.data_dir)?;
    Ok([kept.as_str(), runtime.token()].map(owner::token_hash))
}
