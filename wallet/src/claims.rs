//! What a provider claims of this node by voucher, because no receipt came about.
//!
//! What was vouched for left its payer when the hold ended and waits to be claimed. The claim says how much of
//! it the provider can prove; what it cannot, because the last voucher never arrived, comes back.

use tirami_manifest::commerce::{Receipt, VerifiedReceipt};
use tirami_manifest::{Amount, ReceiptId, Timestamp, TransferId};

use crate::economy::repayment;
use crate::error::WalletError;
use crate::jobs::ASKED_FOR_MS;
use crate::ledger::account::Account;
use crate::ledger::apply::{apply, apply_group};
use crate::ledger::refusal::Refusal;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, HoldRow, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::outbox::acknowledge;
use crate::statement::{ReceiptRow, Side};
use crate::store::StoreError;
use crate::wallet::Wallet;

/// How long what was vouched for waits for a claim: a day longer than its provider may take for one.
pub const CLAIMED_WITHIN_MS: u64 = ASKED_FOR_MS + 24 * 3_600_000;

/// What becomes of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// It is booked.
    Booked,
    /// This node signed a receipt for that job, which settles it instead.
    Signed(Vec<u8>),
}

impl Wallet {
    /// Books what a provider claims by a voucher of this node, once.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`] when it is for no job of this node, [`WalletError::StillOpen`] while that
    /// job is not over here, a refusal when more is claimed than was vouched for, or a store failure.
    pub async fn accept_claim(&self, receipt: VerifiedReceipt) -> Result<Claimed, WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let (id, agreement) = (receipt.id(), &receipt.agreement);
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            if !receipt.is_claim() {
                return Err(WalletError::OtherReceipt("purpose: it is no claim"));
            }
            for (same, what) in [
                (agreement.network == genesis.id(), "network"),
                (agreement.consumer == node, "consumer"),
            ] {
                if !same {
                    return Err(WalletError::OtherReceipt(what));
                }
            }
            if tables.get(Table::Receipts, id.as_bytes())?.is_some() {
                return Ok(Claimed::Booked);
            }
            let hold = agreement.hold;
            let quote = tables.entry(&hold)?.map(|entry| entry.transfer.reference);
            let row = tables.hold(&hold)?;
            let Some(row) = row.filter(|_| quote == Some(*agreement.quote.as_bytes())) else {
                return Err(WalletError::OtherReceipt("job than any of this node"));
            };
            if let Some(signed) = receipt_of(tables, &hold)? {
                return Ok(Claimed::Signed(signed));
            }
            if tables.entry(&back(&hold))?.is_some() {
                return Err(WalletError::OtherReceipt(
                    "time: what was vouched for was not claimed and came back",
                ));
            }
            if row.end.is_none() {
                return Err(WalletError::StillOpen);
            }
            if agreement.amount > row.vouched {
                return Err(Refusal::Vouched {
                    vouched: row.vouched,
                    asked: agreement.amount,
                }
                .into());
            }
            let agent = row.charge.map(|charge| charge.agent);
            let agent = agent.ok_or(WalletError::OtherReceipt("job than any of this node"))?;
            book(tables, (&row, &receipt), now)?;
            kept(tables, &hold)?;
            let parties = (&node, &agreement.provider);
            repayment::retire(tables, &genesis, parties, (id, agreement.amount), now)?;
            let row = ReceiptRow {
                bytes: receipt.to_bytes(),
                side: Side::Bought { agent },
                at: now,
            };
            tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
            // Its provider has it.
            acknowledge(tables, (&genesis, &node), (&id, &row), now)?;
            Ok(Claimed::Booked)
        })
        .await
    }

    /// What was vouched for and neither settled nor claimed, where the hold is over.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn unclaimed(&self) -> Result<Amount, WalletError> {
        let view = self.view()?;
        let mut sum = Amount::ZERO;
        for (_, row) in over(&view, Timestamp::from_ms(u64::MAX))? {
            sum = sum.checked_add(row.vouched).unwrap_or(Amount::MAX);
        }
        Ok(sum)
    }

    /// Takes back what was vouched for and not claimed in all the time that there is for it. Gives how much.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn take_back_unclaimed(&self) -> Result<Amount, WalletError> {
        self.write(|tables, now| {
            let until = Timestamp::from_ms(now.ms().saturating_sub(CLAIMED_WITHIN_MS));
            let mut sum = Amount::ZERO;
            for (hold, row) in over(tables, until)? {
                let what = (back(&hold), row.debit, row.vouched);
                let step = step(
                    what,
                    TransferCode::Unclaimed,
                    transfer::reference(hold.as_bytes()),
                );
                apply(tables, &step, now)?;
                kept(tables, &hold)?;
                sum = sum.checked_add(row.vouched).unwrap_or(Amount::MAX);
            }
            Ok(sum)
        })
        .await
    }
}

/// Notes that something is vouched for.
pub(crate) fn promise(
    tables: &mut impl Tables,
    hold: &TransferId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tables.put_row(Table::Promised, hold.as_bytes(), &now)
}

/// What was vouched for is settled, claimed or back.
pub(crate) fn kept(tables: &mut impl Tables, hold: &TransferId) -> Result<(), StoreError> {
    if tables.get(Table::Promised, hold.as_bytes())?.is_some() {
        tables.remove(Table::Promised, hold.as_bytes())?;
    }
    Ok(())
}

/// Holds that are over and of which something was vouched for, at `until` or before, and not claimed.
fn over(
    tables: &impl ReadRows,
    until: Timestamp,
) -> Result<Vec<(TransferId, HoldRow)>, StoreError> {
    let mut holds = Vec::new();
    for (key, at) in tables.scan(Table::Promised, &[], None, Order::Ascending, usize::MAX)? {
        let at: Timestamp = decode(Table::Promised, &at)?;
        let damaged = StoreError::Row {
            table: Table::Promised,
        };
        let hold = TransferId::from_bytes(key.try_into().map_err(|_| damaged)?);
        let row = tables.hold(&hold)?.filter(|row| row.end.is_some());
        holds.extend(row.filter(|_| at <= until).map(|row| (hold, row)));
    }
    Ok(holds)
}

/// The id of the transfer that brings back what was not claimed.
fn back(hold: &TransferId) -> TransferId {
    transfer::id_after(hold, "unclaimed", &[hold.as_bytes()])
}

fn step(
    (id, credit, amount): (TransferId, Account, Amount),
    code: TransferCode,
    reference: [u8; 32],
) -> Transfer {
    Transfer {
        id,
        kind: Kind::Single {
            debit: Account::Outgoing,
            credit,
            amount,
            spend: None,
        },
        code,
        reference,
    }
}

/// To the provider what it claims, and back to the payer what it cannot prove.
fn book(
    tables: &mut impl Tables,
    (row, receipt): (&HoldRow, &Receipt),
    now: Timestamp,
) -> Result<(), WalletError> {
    let (agreement, reference) = (&receipt.agreement, *receipt.id().as_bytes());
    let hold = agreement.hold;
    let id = transfer::id_after(&hold, "claim", &[hold.as_bytes()]);
    let owed = (id, Account::Clearing(agreement.provider), agreement.amount);
    let mut group = vec![step(owed, TransferCode::Purchase, reference)];
    let rest = row.vouched.saturating_sub(agreement.amount);
    if !rest.is_zero() {
        let rest = (back(&hold), row.debit, rest);
        group.push(step(rest, TransferCode::Unclaimed, reference));
    }
    apply_group(tables, &group, now)?;
    Ok(())
}

/// The receipt that was signed for a hold, or the claim that was booked.
fn receipt_of(tables: &impl ReadRows, hold: &TransferId) -> Result<Option<Vec<u8>>, StoreError> {
    for purpose in ["post", "claim"] {
        let paid = transfer::id_after(hold, purpose, &[hold.as_bytes()]);
        let Some(entry) = tables.entry(&paid)? else {
            continue;
        };
        let id = ReceiptId::from_bytes(entry.transfer.reference);
        let row: Option<ReceiptRow> = tables.row(Table::Receipts, id.as_bytes())?;
        return Ok(row.map(|row| row.bytes));
    }
    Ok(None)
}
