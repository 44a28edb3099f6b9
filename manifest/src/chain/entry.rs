//! One step of a chain: what every kind has in common.

use super::step::Step;
use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{EntryId, NetworkId, NodeId};
use crate::merkle::Hash;
use crate::signed::Document;
use crate::time::Timestamp;

/// Most bytes of a signed entry: below what gossip carries in one piece.
pub const ENTRY_MAX: usize = 4_096;

/// Set on a credit that waits outside what is spendable, because the debit is not certified.
const WAITS: u16 = 1;

/// One signed step of a node's public history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The network whose TRM it is about.
    pub network: NetworkId,
    /// Whose chain; the signer.
    pub author: NodeId,
    /// From 1, without gaps.
    pub seq: u64,
    /// Id of the entry before; the network's id in the first.
    pub prev: [u8; 32],
    /// Hybrid time, 48 bits of milliseconds and 16 of counter; later than the entry before.
    pub hlc: u64,
    /// What the node may spend after this entry.
    pub spendable: Amount,
    /// What it has set aside on this chain after this entry.
    pub held: Amount,
    /// What it has staked after this entry.
    pub staked: Amount,
    /// Root of the Merkle tree over the ids of all entries before.
    pub log_root: Hash,
    /// Whether what it credits waits outside what is spendable.
    pub waits: bool,
    /// What happened.
    pub step: Step,
}

impl Entry {
    /// The id: digest of the unsigned body.
    pub fn id(&self) -> EntryId {
        EntryId::from_bytes(self.digest())
    }

    /// What the entry adds to what is spendable, and what it takes from it.
    pub fn moves(&self) -> (Amount, Amount) {
        let none = Amount::ZERO;
        match &self.step {
            Step::Trade(trade) if trade.agreement.provider == self.author => {
                let earned = trade.agreement.amount;
                (if self.waits { none } else { earned }, none)
            }
            Step::Trade(trade) => (none, trade.agreement.amount),
            Step::Receive { amount, .. } => (*amount, none),
            Step::Borrow(grant) => (grant.body.principal, none),
            Step::Repay(repaid) => (none, repaid.amount),
            Step::Genesis { .. }
            | Step::Checkpoint { .. }
            | Step::Succession { .. }
            | Step::Mint(_)
            | Step::Retire(_) => (none, none),
        }
    }

    /// When it was appended, without the counter.
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_ms(self.hlc >> 16)
    }
}

/// The hybrid time of what happens at `now`, after `before`.
pub fn after(before: u64, now: Timestamp) -> u64 {
    (now.ms() << 16).max(before.saturating_add(1))
}

impl Document for Entry {
    const DOMAIN: &'static [u8] = b"trm/v1/entry\0";

    fn encode(&self, out: &mut Writer) {
        let mut payload = Writer::default();
        self.step.encode(&mut payload);
        out.u8(1)
            .u16(self.step.kind())
            .u16(if self.waits { WAITS } else { 0 })
            .raw(self.network.as_bytes())
            .raw(self.author.as_bytes())
            .u64(self.seq)
            .raw(&self.prev)
            .u64(self.hlc)
            .u64(self.spendable.utrm())
            .u64(self.held.utrm())
            .u64(self.staked.utrm())
            .raw(&self.log_root.0)
            .string(&payload.finish());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let kind = from.u16("type")?;
        let waits = match from.u16("flags")? {
            0 => false,
            WAITS => true,
            _ => return Err(DecodeError::Value("flags")),
        };
        let network = NetworkId::from_bytes(from.raw("network")?);
        let author = NodeId::from_bytes(from.raw("author")?);
        let seq = from.u64("seq")?;
        let prev = from.raw("prev")?;
        let hlc = from.u64("time")?;
        let spendable = from.amount("spendable")?;
        let held = from.amount("held")?;
        let staked = from.amount("staked")?;
        let log_root = Hash(from.raw("log root")?);
        let mut payload = Reader::new(from.string("payload")?);
        let step = Step::decode(kind, &mut payload)?;
        payload.finish()?;
        Ok(Self {
            network,
            author,
            seq,
            prev,
            hlc,
            spendable,
            held,
            staked,
            log_root,
            waits,
            step,
        })
    }
}
