//! Who the node is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::did::did_key;
use tirami_manifest::{AgentId, NetworkId, NodeId, OwnerId};
use tirami_wallet::succession::Successor;

use super::books::Names;
use super::{Caller, Operation, TextSink};
use crate::failure::Failure;
use crate::runtime::Runtime;

super::empty_input!(
    /// Who this node is.
    Identity
);

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IdentityOutput {
    /// Its id: an Ed25519 public key.
    pub node: NodeId,
    /// The same as others name it.
    pub did: String,
    /// The network it belongs to.
    pub network: NetworkId,
    /// Its owner, if it has one.
    pub owner: Option<OwnerId>,
    /// The owner's key as others name it.
    pub owner_did: Option<String>,
    /// Name of the agent that asks.
    pub agent: String,
    /// Its id.
    pub agent_id: AgentId,
    /// Whether a key may succeed the node's: `open` while its chain has not begun, `named` when the chain
    /// names it, `never` when it began without one.
    pub successor: String,
    /// The keys that were the node's before, the oldest first.
    pub keys_before: Vec<NodeId>,
}

impl Operation for Identity {
    const NAME: &'static str = "identity";
    type Output = IdentityOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<IdentityOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let owner = wallet.owner()?.map(|owner| owner.id);
        let before = wallet.chains_before()?;
        Ok(IdentityOutput {
            node: runtime.node(),
            did: did_key(&runtime.node()),
            network: runtime.genesis().id(),
            owner,
            owner_did: owner.as_ref().map(did_key),
            agent: Names::load(runtime)?.agent(&caller.agent),
            agent_id: caller.agent,
            successor: match wallet.successor()? {
                Successor::Open => "open",
                Successor::Named => "named",
                Successor::Never => "never",
            }
            .to_owned(),
            keys_before: before.iter().map(|ended| ended.author).collect(),
        })
    }
}
