//! Drawing: the root payer books what was bought under a mandate that it handed out, receipt by receipt.

use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::{Amount, NodeId, Timestamp, TransferId};

use super::handing_out::{carving, last, row};
use super::reclaiming::close;
use super::{Under, units_hold};
use crate::error::WalletError;
use crate::jobs::Lane;
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply_group};
use crate::ledger::ranges;
use crate::ledger::rows::ReadRows as _;
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::token::main_agent;
use crate::wallet::Wallet;

impl Wallet {
    /// Books what was bought under a mandate that this node handed out: draws on what was set aside
    /// for it. The same receipt again changes nothing. A freeze does not stop it, because the grant
    /// was a promise.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`] when chain, spend and receipt are not of one purchase under a
    /// mandate of this node, [`WalletError::Units`] when a unit was used before.
    pub async fn book_draw(
        &self,
        receipt: VerifiedReceipt,
        under: Under,
    ) -> Result<Applied, WalletError> {
        let node = self.node();
        self.write(move |tables, now| book(tables, &node, (&receipt, &under), now))
            .await
    }
}

/// The root payer books one draw.
pub(crate) fn book(
    tables: &mut impl Tables,
    node: &NodeId,
    (receipt, under): (&VerifiedReceipt, &Under),
    now: Timestamp,
) -> Result<Applied, WalletError> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    if tables.get(Table::Receipts, id.as_bytes())?.is_some() {
        return Ok(Applied::Already);
    }
    refuse_drawn(tables, node, receipt)?;
    let first = under.chain.links.first();
    let root = first.ok_or(WalletError::OtherReceipt("mandate"))?.body.id();
    let mut row = row(tables, &root).map_err(|_| WalletError::OtherReceipt("mandate"))?;
    let hold = row.hold.ok_or(WalletError::OtherReceipt("mandate"))?;
    let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
    // Both signed when the work began, so that is when chain and spend must have held.
    let then = Timestamp::from_ms(agreement.started_hlc >> 16);
    let epoch = first.map_or(0, |link| link.body.epoch);
    let chain = under.chain.verify(*node, genesis.id(), then, epoch)?;
    let spend = chain.check(&under.spend, agreement.provider, then)?;
    can_be_paid(tables, node, &agreement.provider)?;
    let body = &under.spend.body;
    for (same, what) in [
        (body.request == *agreement.quote.as_bytes(), "quote"),
        (body.model == agreement.model, "model"),
        (spend.holder() == agreement.consumer, "consumer"),
        (agreement.network == genesis.id(), "network"),
        (agreement.amount <= body.range.amount(), "amount"),
        (chain.admits_price(agreement.multiplier), "price"),
    ] {
        if !same {
            return Err(WalletError::OtherReceipt(what));
        }
    }
    let units = units_hold(body);
    let used = body.range.split(agreement.amount).0;
    let back = &carving(tables, last(&row.chain()?)?)?.back;
    if let Some(units) = used.and_then(|used| back.overlap(used)) {
        return Err(ranges::Refusal::Returned { grant: root, units }.into());
    }
    if spend.tracker() == *node {
        // This receipt is new, so what the spend paid for was another.
        let before = ranges::reservation(tables, &units)?.and_then(|row| row.outcome);
        if matches!(before, Some(ranges::Outcome::Spent(_))) {
            return Err(WalletError::OtherReceipt("purchase; its spend is used"));
        }
        ranges::commit_late(tables, units, agreement.amount)?;
    } else if let Some(used) = used {
        ranges::use_up(tables, node, used)?;
    }
    if !agreement.amount.is_zero() {
        let draw = Transfer {
            id: transfer::id_after(&hold, "draw", &[id.as_bytes()]),
            kind: Kind::Draw {
                hold,
                amount: agreement.amount,
            },
            code: TransferCode::Delegation,
            reference: *id.as_bytes(),
        };
        let mut group = vec![draw];
        group.extend(on_its_way(node, genesis.authority(), receipt));
        apply_group(tables, &group, now)?;
    }
    row.drawn = row
        .drawn
        .checked_add(agreement.amount)
        .unwrap_or(Amount::MAX);
    let agent = row.agent;
    close(tables, (&root, row), now)?;
    let row = ReceiptRow {
        bytes: receipt.to_bytes(),
        side: Side::Drawn { agent, grant: root },
        at: now,
    };
    tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
    Ok(Applied::Now)
}

/// Refuses a provider that this network cannot pay on this node's word: the authority can be, and where
/// this node is it, its members.
pub(super) fn can_be_paid(
    tables: &impl ReadTables,
    node: &NodeId,
    provider: &NodeId,
) -> Result<(), WalletError> {
    let authority = network(tables)?.ok_or(WalletError::NoNetwork)?.authority();
    let kept = Account::Clearing(*provider).key();
    let member = authority == Some(*node) && tables.get(Table::Accounts, &kept)?.is_some();
    if provider == node || authority == Some(*provider) || member {
        return Ok(());
    }
    Err(WalletError::Mandate(format!(
        "node {} cannot be paid by this node: only the network's authority can, this node itself, and \
         where this node is the authority its members",
        provider.short()
    )))
}

/// The holder chooses the hold, so that it can be one that was paid for: on this node's chain a job stands once,
/// whatever was signed for it.
fn refuse_drawn(
    tables: &impl ReadTables,
    node: &NodeId,
    receipt: &VerifiedReceipt,
) -> Result<(), WalletError> {
    let job = receipt.agreement.lane_key();
    if tables
        .entry(&drawn(leaves_by(node, receipt), &job))?
        .is_some()
    {
        return Err(WalletError::OtherReceipt(
            "job: that of this hold was drawn before",
        ));
    }
    Ok(())
}

/// By what it leaves what was set aside.
fn leaves_by(node: &NodeId, receipt: &VerifiedReceipt) -> TransferCode {
    if receipt.agreement.provider == *node {
        TransferCode::Sale
    } else {
        TransferCode::Purchase
    }
}

/// The id of a transfer of a job that is drawn, once.
fn drawn(code: TransferCode, job: &Lane) -> TransferId {
    transfer::id(code.name(), &[b"drawn", job])
}

/// What was drawn goes on to the provider. Where that is the network's authority, it is in its books
/// already; where it is this node, it earned it.
fn on_its_way(
    node: &NodeId,
    authority: Option<NodeId>,
    receipt: &VerifiedReceipt,
) -> Vec<Transfer> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    let clearing = Account::Clearing(agreement.provider);
    let earner = Account::Agent(main_agent());
    let (mut legs, first) = (Vec::new(), leaves_by(node, receipt));
    if agreement.provider == *node {
        legs.push((Account::Delegated, Account::Revenue, first));
        legs.push((Account::Revenue, earner, TransferCode::Earnings));
    } else {
        legs.push((Account::Delegated, clearing, first));
        if authority != Some(*node) {
            legs.push((clearing, Account::Position, TransferCode::Acknowledged));
        }
    }
    legs.into_iter()
        .map(|(debit, credit, code)| Transfer {
            id: drawn(code, &agreement.lane_key()),
            kind: Kind::Single {
                debit,
                credit,
                amount: agreement.amount,
                spend: None,
            },
            code,
            reference: *id.as_bytes(),
        })
        .collect()
}
