//! What a node signs of the account of one of its agents: what moved on it between two moments.
//!
//! It is the node's own word about its own books. What binds it is the journal it names: whoever was given
//! two statements that contradict each other has both under the node's signature, each with the size and root
//! of the journal it was made from.

use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{NetworkId, NodeId, ReceiptId};
use crate::merkle::{self, Frontier, Hash};
use crate::signed::Document;
use crate::time::Timestamp;

/// Most lines of one statement; chosen: a file of them fits through every door.
pub const LINES_MAX: usize = 1_000;

/// Longest word of a line in bytes: the longest there is names a kind of account and a node.
const WORD_MAX: usize = 128;

/// One movement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementLine {
    /// The number of the transfer.
    pub seq: u64,
    /// When it was applied.
    pub at: Timestamp,
    /// Why, in one word.
    pub reason: String,
    /// The other account.
    pub other: String,
    /// The agent that spent, where one did.
    pub agent: Option<String>,
    /// What came in.
    pub came_in: Amount,
    /// What went out.
    pub went_out: Amount,
    /// The balance after it.
    pub balance: Amount,
    /// The receipt it follows from, where it follows from one.
    pub receipt: Option<ReceiptId>,
}

impl StatementLine {
    /// The bytes of its leaf.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u64(self.seq)
            .u64(self.at.ms())
            .string(self.reason.as_bytes())
            .string(self.other.as_bytes());
        match &self.agent {
            Some(agent) => out.u8(1).string(agent.as_bytes()),
            None => out.u8(0),
        };
        out.u64(self.came_in.utrm())
            .u64(self.went_out.utrm())
            .u64(self.balance.utrm());
        match &self.receipt {
            Some(receipt) => out.u8(1).raw(receipt.as_bytes()),
            None => out.u8(0),
        };
        out.finish()
    }

    /// Whether every word of it is one.
    pub(crate) fn has_words(&self) -> bool {
        let agent = self.agent.as_deref().unwrap_or("-");
        [&self.reason, &self.other, agent].into_iter().all(is_word)
    }
}

/// Root of the Merkle tree over lines.
pub fn root(lines: &[StatementLine]) -> Hash {
    let mut tree = Frontier::default();
    for line in lines {
        tree.push(merkle::leaf(&line.to_bytes()), |_, _, _| ());
    }
    tree.root()
}

/// What may stand for a name: not nothing, not long, and nothing that moves the cursor.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= WORD_MAX && !text.chars().any(char::is_control)
}

/// What a node signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The network.
    pub network: NetworkId,
    /// Whose books; the signer.
    pub node: NodeId,
    /// Whose account, by name.
    pub agent: String,
    /// From this moment on.
    pub from: Timestamp,
    /// Before this moment.
    pub to: Timestamp,
    /// The balance before the first line.
    pub opening: Amount,
    /// The balance after the last.
    pub closing: Amount,
    /// How many lines.
    pub count: u32,
    /// Root of the tree over them.
    pub lines: Hash,
    /// How many records the node's journal had.
    pub size: u64,
    /// Root of the journal's tree.
    pub root: Hash,
    /// When it was signed.
    pub at: Timestamp,
}

impl Document for Statement {
    const DOMAIN: &'static [u8] = b"trm/v1/statement\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.node.as_bytes())
            .string(self.agent.as_bytes())
            .u64(self.from.ms())
            .u64(self.to.ms())
            .u64(self.opening.utrm())
            .u64(self.closing.utrm())
            .u32(self.count)
            .raw(&self.lines.0)
            .u64(self.size)
            .raw(&self.root.0)
            .u64(self.at.ms());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let statement = Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            node: NodeId::from_bytes(from.raw("node")?),
            agent: from.text("agent")?,
            from: Timestamp::from_ms(from.u64("from")?),
            to: Timestamp::from_ms(from.u64("to")?),
            opening: from.amount("opening")?,
            closing: from.amount("closing")?,
            count: from.u32("count of lines")?,
            lines: Hash(from.raw("root of the lines")?),
            size: from.u64("size of the journal")?,
            root: Hash(from.raw("root of the journal")?),
            at: Timestamp::from_ms(from.u64("at")?),
        };
        if is_word(&statement.agent) {
            Ok(statement)
        } else {
            Err(DecodeError::Value("agent"))
        }
    }
}
