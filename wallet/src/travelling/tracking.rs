//! The provider's side of a job that a mandate pays for, and the side that remembers which units were
//! used: the pinned provider, or the root payer.

use serde::{Deserialize, Serialize};
use tirami_manifest::commerce::Quote;
use tirami_manifest::key::{SecretKey, Signature};
use tirami_manifest::mandate::Action;
use tirami_manifest::mandate_chain::{
    Action as Granted, CheckedSpend, Grant, MandateChain, RangeReturn, Spend, VerifiedChain,
};
use tirami_manifest::range::Range;
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{Amount, NodeId, QuoteId, ReceiptId, Timestamp};

use super::drawing::can_be_paid;
use super::handing_out::HandedOut;
use super::{Under, damaged, units_hold};
use crate::error::WalletError;
use crate::hold::Work;
use crate::ledger::ranges::{self, RangesError, Reserved, ReturnRequest};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::membership::network;
use crate::store::StoreError;
use crate::wallet::Wallet;

/// Reservations of spends that are over which are given up, per new one; two, so that they never
/// pile up.
const GIVE_UP_AT_ONCE: usize = 2;

/// The same, when units are asked back; chosen: one request does not keep the writer for long.
const GIVE_UP_FOR_RETURN: usize = 1_000;

/// Most runs of units that one request gives back; chosen: the answer fits into a frame. Whoever asks
/// asks again for what is above the last: [`super::reclaiming::rest`].
pub const RETURNS_MAX: usize = 1_000;

/// A job that a mandate pays for, by its quote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drawing {
    /// Who pays.
    pub(crate) payer: NodeId,
    /// Who remembers the units.
    tracker: NodeId,
    chain: Vec<u8>,
    spend: Vec<u8>,
}

impl Drawing {
    fn of(spend: &CheckedSpend, under: &Under) -> Self {
        Self {
            payer: spend.root(),
            tracker: spend.tracker(),
            chain: under.chain.to_bytes(),
            spend: under.spend.to_bytes(),
        }
    }

    /// Whether nothing can come of it any more: its spend was over at `before`, and its receipt has
    /// reached its payer or never will. Without a receipt it says who is to pay for one that comes.
    pub(super) fn is_over(
        &self,
        tables: &impl ReadTables,
        quote: &[u8],
        before: Timestamp,
    ) -> Result<bool, StoreError> {
        if self.under()?.spend.body.expires >= before {
            return Ok(false);
        }
        match tables.row::<ReceiptId>(Table::Drawn, quote)? {
            Some(receipt) => Ok(tables.get(Table::Outbox, receipt.as_bytes())?.is_none()),
            None => Ok(false),
        }
    }

    pub(crate) fn under(&self) -> Result<Under, StoreError> {
        let damaged = || damaged(Table::Drawings);
        Ok(Under {
            chain: MandateChain::from_bytes(&self.chain).map_err(|_| damaged())?,
            spend: Signed::<Spend>::from_bytes(&self.spend).map_err(|_| damaged())?,
        })
    }
}

/// A spend that its chain allows for one quote; [`Wallet::check_under`] makes it.
#[derive(Clone, Debug)]
pub struct CheckedUnder {
    spend: CheckedSpend,
    under: Under,
}

impl CheckedUnder {
    /// Who pays.
    pub const fn payer(&self) -> NodeId {
        self.spend.root()
    }

    /// Who remembers the units and says whether they are free.
    pub const fn tracker(&self) -> NodeId {
        self.spend.tracker()
    }

    /// Chain and spend, as they came.
    pub const fn under(&self) -> &Under {
        &self.under
    }

    pub(crate) fn drawing(&self) -> Drawing {
        Drawing::of(&self.spend, &self.under)
    }
}

impl Wallet {
    /// Checks that a chain and a spend pay for a quote of this node: everything but whether the units
    /// are free.
    ///
    /// # Errors
    ///
    /// [`WalletError::Chain`], [`WalletError::Spend`], or [`WalletError::Mandate`] when the spend is
    /// for something else than the quote.
    pub fn check_under(
        &self,
        quote: &Verified<Quote>,
        under: Under,
    ) -> Result<CheckedUnder, WalletError> {
        let (view, now) = self.view_now()?;
        let chain = verified(&view, &under.chain, now)?;
        let spend = chain.check(&under.spend, quote.provider, now)?;
        let body = &under.spend.body;
        for (holds, what) in [
            (body.request == *quote.id().as_bytes(), "another quote"),
            (body.model == quote.card.id, "another model"),
            (chain.holder() == quote.consumer, "another consumer"),
            (
                body.range.amount() >= quote.max_amount,
                "less than the quote",
            ),
            (chain.admits_price(quote.multiplier), "a lower price"),
        ] {
            if !holds {
                return Err(WalletError::Mandate(format!("the spend is for {what}")));
            }
        }
        Ok(CheckedUnder { spend, under })
    }

    /// The root payer's word on a spend of a mandate that it handed out without a pin: sets its units
    /// aside for `provider`. What the agent that handed it out may not do now, its holders may not
    /// either: a freeze, a revocation and quiet hours hold here.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`], what chain, spend, gate or units refuse.
    pub async fn reserve_units(
        &self,
        provider: NodeId,
        under: Under,
        amount: Amount,
    ) -> Result<(), WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let chain = verified(tables, &under.chain, now)?;
            let spend = chain.check(&under.spend, provider, now)?;
            can_be_paid(tables, &node, &provider)?;
            let root = *spend.grants().first().ok_or(damaged(Table::HandedOut))?;
            let row: HandedOut = tables
                .row(Table::HandedOut, root.as_bytes())?
                .ok_or_else(|| WalletError::UnknownGrant(root.short()))?;
            let body = &under.spend.body;
            let work = Work {
                action: match body.action {
                    Granted::Chat => Action::Chat,
                    _ => return Err(WalletError::Mandate("the action is not known here".into())),
                },
                payee: Some(body.payee),
                model: Some(body.model),
                price: None,
            };
            row.allows(tables, &work, now)?;
            reserve(tables, &node, &spend, amount, now)
        })
        .await
    }

    /// The job that units were set aside for was not done and will not be paid for: they are free.
    /// Only the provider that was to be paid may say so.
    ///
    /// # Errors
    ///
    /// What the units refuse, or a store failure.
    pub async fn release_units(
        &self,
        provider: NodeId,
        spend: Signed<Spend>,
    ) -> Result<(), WalletError> {
        self.write(move |tables, _| {
            if spend.body.payee != provider {
                return Err(WalletError::Mandate(
                    "another provider was to be paid".into(),
                ));
            }
            free(tables, &spend.body)
        })
        .await
    }

    /// Grants a request to give units back, as the one that remembers them: every unit of the range
    /// that was not used goes back and can never be used under that grant; of many runs of them the
    /// lowest [`RETURNS_MAX`]. Answers the proofs.
    ///
    /// # Errors
    ///
    /// What chain or units refuse.
    pub async fn give_units_back(
        &self,
        chain: MandateChain,
        back: RangeReturn,
        by: Signature,
    ) -> Result<Vec<Signed<RangeReturn>>, WalletError> {
        let key = self.inner.key.clone();
        self.write(move |tables, now| {
            let network = network(tables)?.ok_or(WalletError::NoNetwork)?.id();
            let first = chain.links.first().map(|link| &link.body);
            let (root, epoch) = first.map_or((NodeId::from_bytes([0; 32]), 0), |grant| {
                (grant.root, grant.epoch)
            });
            // A chain that is over can still be given back: only who signed what matters.
            chain.verify(root, network, Timestamp::from_ms(0), epoch)?;
            let grant = chain.last().ok_or(damaged(Table::Ranges))?;
            give_units_back(tables, &key, (grant, &back, &by), now)
        })
        .await
    }
}

/// The chain, in the newest epoch of its root payer that is known here: the chain itself proves one.
fn verified(
    tables: &impl ReadTables,
    chain: &MandateChain,
    now: Timestamp,
) -> Result<VerifiedChain, WalletError> {
    let network = network(tables)?.ok_or(WalletError::NoNetwork)?.id();
    let root = chain
        .links
        .first()
        .map_or(NodeId::from_bytes([0; 32]), |link| link.body.root);
    let known = ranges::epoch(tables, &root)?;
    let epoch = chain.root_epoch(&root).map_or(known, |own| own.max(known));
    Ok(chain.verify(root, network, now, epoch)?)
}

/// Sets a spend's units aside where this node remembers them.
pub(crate) fn reserve(
    tables: &mut impl Tables,
    node: &NodeId,
    spend: &CheckedSpend,
    amount: Amount,
    now: Timestamp,
) -> Result<(), WalletError> {
    ranges::give_up(tables, now, GIVE_UP_AT_ONCE)?;
    let hold = units_hold(&spend.spend().signed().body);
    match ranges::reserve(tables, node, spend, hold, amount)? {
        Reserved::New(_) => Ok(()),
        Reserved::Again(row) if row.outcome.is_none() => Ok(()),
        Reserved::Again(_) => Err(WalletError::Mandate(
            "the spend was used before; each job needs one of its own".into(),
        )),
    }
}

/// What this job is paid under, when it is by a mandate.
pub(crate) fn drawing(
    tables: &impl ReadTables,
    quote: &QuoteId,
) -> Result<Option<Drawing>, StoreError> {
    tables.row(Table::Drawings, quote.as_bytes())
}

/// Sets units aside for a quote, where this node remembers them, and notes what pays.
pub(crate) fn begin(
    tables: &mut impl Tables,
    node: &NodeId,
    (quote, checked): (&Quote, &CheckedUnder),
    now: Timestamp,
) -> Result<(), WalletError> {
    if checked.tracker() == *node {
        if checked.payer() == *node {
            // Its own grant: what the agent that handed it out may not do now, nobody may.
            let root = checked.spend.grants().first();
            let row: Option<HandedOut> = match root {
                Some(root) => tables.row(Table::HandedOut, root.as_bytes())?,
                None => None,
            };
            let row = row.ok_or_else(|| WalletError::UnknownGrant(checked.payer().short()))?;
            let work = Work {
                action: Action::Chat,
                payee: Some(*node),
                model: Some(quote.card.id),
                price: Some(quote.multiplier),
            };
            row.allows(tables, &work, now)?;
        }
        reserve(tables, node, &checked.spend, quote.max_amount, now)?;
    }
    let row = checked.drawing();
    Ok(tables.put_row(Table::Drawings, quote.id().as_bytes(), &row)?)
}

/// Whether a job that a mandate pays for was begun here and may still end.
pub(crate) fn is_any_open(tables: &impl ReadTables, now: Timestamp) -> Result<bool, StoreError> {
    for (quote, row) in tables.scan(Table::Drawings, &[], None, Order::Ascending, usize::MAX)? {
        let row: Drawing = decode(Table::Drawings, &row)?;
        if tables.get(Table::Drawn, &quote)?.is_none() && row.under()?.spend.body.expires > now {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The job was done: `actual` units stay used, where this node remembers them.
pub(crate) fn done(
    tables: &mut impl Tables,
    node: &NodeId,
    drawing: &Drawing,
    actual: Amount,
) -> Result<(), WalletError> {
    if drawing.tracker == *node {
        let under = drawing.under()?;
        ranges::commit_late(tables, units_hold(&under.spend.body), actual)?;
    }
    Ok(())
}

/// The job was earned: a mandate pays for this receipt.
pub(crate) fn earned(
    tables: &mut impl Tables,
    (quote, receipt): (&QuoteId, ReceiptId),
) -> Result<(), StoreError> {
    tables.put_row(Table::Drawn, quote.as_bytes(), &receipt)
}

/// The job was not done: its units are free, where this node remembers them. Answers whom else to
/// tell, and of which spend.
pub(crate) fn not_done(
    tables: &mut impl Tables,
    node: &NodeId,
    quote: &QuoteId,
) -> Result<Option<(NodeId, Signed<Spend>)>, WalletError> {
    let Some(row) = drawing(tables, quote)? else {
        return Ok(None);
    };
    let spend = row.under()?.spend;
    tables.remove(Table::Drawings, quote.as_bytes())?;
    if row.tracker != *node {
        return Ok(Some((row.tracker, spend)));
    }
    free(tables, &spend.body)?;
    Ok(None)
}

fn free(tables: &mut impl Tables, spend: &Spend) -> Result<(), WalletError> {
    match ranges::release(tables, units_hold(spend)) {
        // It was paid for, or nothing was set aside: nothing to free.
        Ok(_)
        | Err(RangesError::Refused(
            ranges::Refusal::Ended { .. } | ranges::Refusal::Unknown { .. },
        )) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives back units of a grant that are not used, with the proof for each run of them.
pub(super) fn give_units_back(
    tables: &mut impl Tables,
    key: &SecretKey,
    (grant, back, by): (&Grant, &RangeReturn, &Signature),
    now: Timestamp,
) -> Result<Vec<Signed<RangeReturn>>, WalletError> {
    ranges::give_up(tables, now, GIVE_UP_FOR_RETURN)?;
    let request = ReturnRequest {
        grant,
        back,
        by: Some(by),
        runs_max: RETURNS_MAX,
    };
    let free = ranges::take_back(tables, &key.id(), &request, now)?;
    let proof = |units: &Range| Signed::new(RangeReturn::of(grant, *units), key);
    Ok(free.ranges().iter().map(proof).collect())
}
