//! Units of travelling mandates against a bitmap: every unit at most once, whatever the order of
//! spends, repeats, returns, ends and epochs.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate_chain::{
    Action, Actions, Allowed, CheckedSpend, Grant, MandateChain, RangeReturn, SKEW_MS, Spend,
};
use tirami_manifest::range::{Range, RangeSet};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, GrantId, ModelId, NetworkId, NodeId, Timestamp, TransferId};
use tirami_wallet::ledger::ranges::{
    Outcome, RangesError, Refusal, Reserved, ReturnRequest, Share, Source, bump_epoch, carve,
    carvings, commit, commit_late, epoch, forget_names, forget_spends, free_rest, free_units,
    give_back, give_up, keep_units, name_units, next_serial, open_reservations, release,
    reservation, reserve, seal, take_back, used,
};
use tirami_wallet::ledger::tables::{MemoryTables, Order, ReadTables, Table};

#[path = "ranges/granter.rs"]
mod granter;
#[path = "ranges/holder.rs"]
mod holder;
#[path = "ranges/tracker.rs"]
mod tracker;

const NETWORK: NetworkId = NetworkId::from_bytes([0x4e; 32]);
const START: Timestamp = Timestamp::from_ms(1_700_000_000_000);
/// When the grants of these tests expire, after the start.
const LIFE: u64 = 1_000_000;
/// Units of the budget.
const UNITS: u64 = 48;

/// Secrets by number; 0 is the root payer, 1 the pinned provider, the rest are holders.
fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number.wrapping_add(60); 32])
}

fn id(number: u8) -> NodeId {
    key(number).id()
}

fn utrm(utrm: u64) -> Amount {
    Amount::from_utrm(utrm).unwrap()
}

fn range(lo: u64, hi: u64) -> Range {
    Range::new(lo, hi).unwrap()
}

fn hold_id(number: u8) -> TransferId {
    TransferId::from_bytes([number; 16])
}

fn place(unit: u64) -> usize {
    usize::try_from(unit).unwrap()
}

fn places(range: Range) -> std::ops::Range<usize> {
    place(range.lo())..place(range.hi())
}

fn refused<T: std::fmt::Debug>(answer: Result<T, RangesError>) -> Refusal {
    match answer {
        Err(RangesError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn root_grant(range: Range, pinned: Option<NodeId>, epoch: u64) -> Grant {
    Grant {
        network: NETWORK,
        root: id(0),
        parent: Grant::NO_PARENT,
        serial: 1,
        range,
        holder: id(2),
        pinned,
        per_request: utrm(UNITS),
        ceiling: None,
        actions: Actions::CHAT,
        models: Allowed::ANY,
        payees: Allowed::ANY,
        expires: START.after_ms(LIFE),
        epoch,
        depth_left: 3,
    }
}

fn child_of(parent: &Grant, range: Range, holder: u8) -> Grant {
    Grant {
        parent: parent.id(),
        serial: u64::from(holder),
        range,
        holder: id(holder),
        depth_left: parent.depth_left - 1,
        ..parent.clone()
    }
}

/// A grant with its chain and the number of its holder's key.
#[derive(Clone, Debug)]
struct Link {
    grant: Grant,
    chain: MandateChain,
    holder: u8,
}

impl Link {
    fn root(range: Range, pinned: Option<NodeId>, epoch: u64) -> Self {
        let grant = root_grant(range, pinned, epoch);
        Self {
            chain: MandateChain::start(grant.clone(), &key(0)),
            grant,
            holder: 2,
        }
    }

    fn child(&self, range: Range, holder: u8) -> Self {
        let grant = child_of(&self.grant, range, holder);
        Self {
            chain: self.chain.extend(grant.clone(), &key(self.holder)),
            grant,
            holder,
        }
    }

    /// A spend, checked as its tracker checks it; `None` when the chain does not allow it.
    fn spend(&self, units: Range, nonce: u8, now: Timestamp) -> Option<CheckedSpend> {
        let spend = Spend {
            network: NETWORK,
            chain: self.grant.id(),
            range: units,
            payee: id(1),
            action: Action::Chat,
            model: ModelId::from_bytes([1; 32]),
            request: [0; 32],
            nonce: [nonce; 16],
            expires: START.after_ms(2 * LIFE),
        };
        let epoch = self.chain.root_epoch(&id(0)).unwrap();
        let chain = self.chain.verify(id(0), NETWORK, now, epoch).ok()?;
        let signed = Signed::new(spend, &key(self.holder));
        chain.check(&signed, id(1), now).ok()
    }
}

/// Rows of a table under a tag: a set of units is the fewest that say it.
fn count_rows(tables: &MemoryTables, table: Table, tag: u8) -> usize {
    let found = tables.scan(table, &[tag], None, Order::Ascending, usize::MAX);
    found.unwrap().len()
}
