//! Holding: what was handed to this node, and spending it.
//!
//! A spend costs this node nothing, so its own ledger moves nothing; the gate still says whether its
//! agent may do this, and a freeze stops it.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate_chain::{
    Action, Grant, MandateChain, RangeReturn, SKEW_MS, Spend, SpendError, VerifiedChain, is_over,
};
use tirami_manifest::range::Range;
use tirami_manifest::signed::Signed;
use tirami_manifest::{AgentId, Amount, GrantId, Multiplier, NodeId, Timestamp, TransferId};

use super::{Under, damaged};
use crate::error::WalletError;
use crate::hold::HoldRequest;
use crate::ledger::gate;
use crate::ledger::ranges::{self, RangesError, Source};
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::membership::network;
use crate::wallet::Wallet;

/// How long a spend may be accepted: an hour, longer than a job takes. What became of units that were
/// named in one and never answered for is forgotten after it.
const SPEND_VALID_MS: u64 = 3_600_000;

/// Most mandates held at once; chosen.
const HELD_MAX: usize = 1_000;

/// A mandate that was handed to this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRow {
    /// Which agent may spend it.
    pub agent: AgentId,
    /// The chain, as its bytes.
    chain: Vec<u8>,
    /// When it was accepted.
    pub at: Timestamp,
    /// When what was left of it was given back.
    pub given_back: Option<Timestamp>,
}

impl HeldRow {
    /// The chain that ends in it.
    ///
    /// # Errors
    ///
    /// A store failure when the row is damaged.
    pub fn chain(&self) -> Result<MandateChain, WalletError> {
        let chain = MandateChain::from_bytes(&self.chain);
        Ok(chain.map_err(|_| damaged(Table::Held))?)
    }
}

/// A mandate held here, with its terms.
#[derive(Clone, Debug)]
pub struct Held {
    /// What is kept of it.
    pub row: HeldRow,
    /// Its terms.
    pub grant: Grant,
    /// The most that one request can still name, by units and by the limit per request; zero once it
    /// is over.
    pub left: Amount,
    /// How much of it this node neither named nor handed on.
    pub free: Amount,
}

impl Wallet {
    /// Takes a mandate that was handed to this node, for one of its agents to spend.
    ///
    /// # Errors
    ///
    /// [`WalletError::Chain`] when it does not hold; [`WalletError::Mandate`] when it is another's.
    pub async fn accept_mandate(
        &self,
        agent: AgentId,
        chain: MandateChain,
    ) -> Result<GrantId, WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let verified = verify(tables, &chain, now)?;
            if verified.holder() != node {
                return Err(WalletError::Mandate(format!(
                    "the mandate is for node {}; this is {}",
                    verified.holder().short(),
                    node.short()
                )));
            }
            let id = verified.id();
            if let Some(present) = tables.row::<HeldRow>(Table::Held, id.as_bytes())? {
                if present.agent != agent {
                    let text = "another agent of this node holds the mandate already";
                    return Err(WalletError::Mandate(text.into()));
                }
                return Ok(id);
            }
            forget(tables, now)?;
            let row = HeldRow {
                agent,
                chain: chain.to_bytes(),
                at: now,
                given_back: None,
            };
            tables.put_row(Table::Held, id.as_bytes(), &row)?;
            Ok(id)
        })
        .await
    }

    /// Every mandate held here, the newest last.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn held(&self) -> Result<Vec<Held>, WalletError> {
        let (view, now) = self.view_now()?;
        let mut all = Vec::new();
        for (_, bytes) in view.scan(Table::Held, &[], None, Order::Ascending, usize::MAX)? {
            all.push(shown(&view, decode(Table::Held, &bytes)?, now)?);
        }
        all.sort_by_key(|held| held.row.at);
        Ok(all)
    }

    /// One mandate that an agent holds.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`].
    pub fn held_by(&self, agent: &AgentId, grant: &GrantId) -> Result<Held, WalletError> {
        let (view, now) = self.view_now()?;
        let row = held(&view, grant, agent)?;
        shown(&view, row, now)
    }

    /// What to send to the tracker of a mandate held here, to give back what is left of it, or of some
    /// of its units: the chain, and the request with the holder's signature. From now on nothing is
    /// spent under it.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`].
    pub async fn give_back_request(
        &self,
        agent: AgentId,
        (grant, part): (GrantId, Option<Range>),
    ) -> Result<(MandateChain, Signed<RangeReturn>), WalletError> {
        let key = self.inner.key.clone();
        self.write(move |tables, now| {
            let mut row = held(tables, &grant, &agent)?;
            let chain = row.chain()?;
            let terms = chain.last().ok_or(damaged(Table::Held))?;
            let back = RangeReturn::of(terms, part.unwrap_or(terms.range));
            if row.given_back.is_none() {
                row.given_back = Some(now);
                tables.put_row(Table::Held, grant.as_bytes(), &row)?;
            }
            Ok((chain, Signed::new(back, &key)))
        })
        .await
    }
}

/// Names units for a purchase and signs the spend; the gate and the mandate's own terms say no here.
pub(crate) fn name_units(
    tables: &mut impl Tables,
    wallet: &Wallet,
    (request, grant): (&HoldRequest, GrantId),
    now: Timestamp,
) -> Result<Under, WalletError> {
    let spend = request.spend();
    let payer = tables
        .mandate(&spend.agent)?
        .map_or(spend.agent, |row| row.payer);
    gate::check(tables, &payer, &spend, Amount::ZERO, now)?;
    let row = held(tables, &grant, &spend.agent)?;
    let chain = verified(tables, &row, now)?;
    let until = now.after_ms(SPEND_VALID_MS).min(chain.limits().expires);
    let (Some(provider), Some(model)) = (request.work.payee, request.work.model) else {
        let text = "a spend under a mandate names provider and model";
        return Err(WalletError::Mandate(text.into()));
    };
    if let Some(price) = request
        .work
        .price
        .filter(|price| !chain.admits_price(*price))
    {
        return Err(WalletError::Mandate(format!(
            "the price is {} parts per million of par; the mandate allows {}",
            price.ppm(),
            chain.limits().ceiling.map_or(0, Multiplier::ppm)
        )));
    }
    let most = chain.limits().per_request;
    if request.amount > most {
        let asked = request.amount;
        return Err(SpendError::PerRequest { most, asked }.into());
    }
    let source = Source {
        parent: grant,
        range: chain.range(),
    };
    let hold = request.attempt.hold_id();
    let named = ranges::name_units(tables, &source, (hold, request.amount), (now, until))?;
    let spend = Spend {
        network: chain.limits().network,
        chain: grant,
        range: named,
        payee: provider,
        action: Action::Chat,
        model,
        request: *request.quote.as_bytes(),
        nonce: *hold.as_bytes(),
        expires: until,
    };
    let spend = Signed::new(spend, &wallet.inner.key);
    chain.check(&spend, provider, now)?;
    Ok(Under {
        chain: row.chain()?,
        spend,
    })
}

/// Of the units that were named, `actual` were spent.
pub(crate) fn settle_units(
    tables: &mut impl Tables,
    hold: TransferId,
    actual: Amount,
) -> Result<(), WalletError> {
    Ok(ranges::keep_units(tables, hold, actual)?)
}

/// The provider knows what was spent of the units that were named, or did not take the job: the others
/// are free.
pub(crate) fn free_units(tables: &mut impl Tables, hold: TransferId) -> Result<(), WalletError> {
    match ranges::free_rest(tables, hold) {
        // Nobody answered for so long that it was forgotten, and with it freed.
        Ok(()) | Err(RangesError::Refused(ranges::Refusal::Unknown { .. })) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A mandate that this agent holds.
pub(super) fn held(
    tables: &impl ReadTables,
    grant: &GrantId,
    agent: &AgentId,
) -> Result<HeldRow, WalletError> {
    tables
        .row(Table::Held, grant.as_bytes())?
        .filter(|row: &HeldRow| row.agent == *agent)
        .ok_or_else(|| WalletError::UnknownGrant(grant.short()))
}

/// Its chain, checked anew: time has passed since it was accepted.
pub(super) fn verified(
    tables: &impl ReadTables,
    row: &HeldRow,
    now: Timestamp,
) -> Result<VerifiedChain, WalletError> {
    if row.given_back.is_some() {
        return Err(WalletError::Mandate("the mandate was given back".into()));
    }
    verify(tables, &row.chain()?, now)
}

/// Checks a chain as one that is held: of this network, by the root payer it names, in the epoch it
/// names. Whether that epoch still is the root payer's, only the tracker knows.
fn verify(
    tables: &impl ReadTables,
    chain: &MandateChain,
    now: Timestamp,
) -> Result<VerifiedChain, WalletError> {
    let network = network(tables)?.ok_or(WalletError::NoNetwork)?.id();
    let first = chain.links.first().map(|link| &link.body);
    let root = first.map_or(NodeId::from_bytes([0; 32]), |grant| grant.root);
    let epoch = first.map_or(0, |grant| grant.epoch);
    Ok(chain.verify(root, network, now, epoch)?)
}

fn shown(tables: &impl ReadTables, row: HeldRow, now: Timestamp) -> Result<Held, WalletError> {
    let chain = row.chain()?;
    let grant = chain.last().ok_or(damaged(Table::Held))?.clone();
    let source = Source {
        parent: grant.id(),
        range: grant.range,
    };
    let (longest, free) = ranges::free_units(tables, &source)?;
    let over = row.given_back.is_some() || now >= grant.expires;
    let left = if over {
        Amount::ZERO
    } else {
        longest.min(grant.per_request)
    };
    Ok(Held {
        row,
        grant,
        left,
        free,
    })
}

/// Drops mandates that were over for long, when there are many.
fn forget(tables: &mut impl Tables, now: Timestamp) -> Result<(), WalletError> {
    let all = tables.scan(Table::Held, &[], None, Order::Ascending, HELD_MAX)?;
    if all.len() < HELD_MAX {
        return Ok(());
    }
    for (key, bytes) in all {
        let row: HeldRow = decode(Table::Held, &bytes)?;
        let chain = row.chain()?;
        let expires = chain.last().ok_or(damaged(Table::Held))?.expires;
        if is_over(
            expires.after_ms(SPEND_VALID_MS.saturating_add(SKEW_MS)),
            now,
        ) {
            tables.remove(Table::Held, &key)?;
            return Ok(());
        }
    }
    Err(WalletError::Mandate(format!(
        "this node holds {HELD_MAX} mandates, which is the most"
    )))
}
