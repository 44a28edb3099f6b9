//! Receipts on their way: to the provider that earned one, and to the root payer of the mandate that
//! pays for it, until they have it or refused it for good.

use serde::{Deserialize, Serialize};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::{NodeId, ReceiptId, Timestamp};

use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::store::StoreError;
use crate::travelling::{Under, holding, tracking};
use crate::wallet::Wallet;

/// One receipt on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Which.
    pub id: ReceiptId,
    /// To whom.
    pub to: NodeId,
    /// As [`tirami_manifest::commerce::Receipt::to_bytes`] made it.
    pub receipt: Vec<u8>,
    /// What pays for it, when the other side is the one that pays and not the one that earned it.
    pub under: Option<Under>,
    /// Whether this node claims it of its consumer by voucher.
    pub claims: bool,
}

/// Most characters kept of the reason that a peer gives.
const REASON_MAX: usize = 400;

/// A receipt that the other side will never book. It is not sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// Who refused it.
    pub by: NodeId,
    /// Why, in its words.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

impl Wallet {
    /// Receipts that the other side has not acknowledged yet.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn outbox(&self) -> Result<Vec<Outgoing>, WalletError> {
        let view = self.view()?;
        view.scan(Table::Outbox, &[], None, Order::Ascending, usize::MAX)?
            .into_iter()
            .map(|(id, peer)| outgoing(&view, &id, &peer))
            .collect()
    }

    /// One receipt that the other side has not acknowledged yet.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn outgoing(&self, receipt: &ReceiptId) -> Result<Option<Outgoing>, WalletError> {
        let view = self.view()?;
        let id = receipt.as_bytes();
        view.get(Table::Outbox, id)?
            .map(|peer| outgoing(&view, id, &peer))
            .transpose()
    }

    /// The other side will never book this receipt: it is kept with the reason, and not sent again.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn refused_for_good(
        &self,
        receipt: ReceiptId,
        reason: &str,
    ) -> Result<(), WalletError> {
        let reason: String = reason.chars().take(REASON_MAX).collect();
        self.write(move |tables, at| {
            let id = receipt.as_bytes();
            let Some(by) = tables.row(Table::Outbox, id)? else {
                return Ok(());
            };
            tables.remove(Table::Outbox, id)?;
            Ok(tables.put_row(Table::Refused, id, &RefusedRow { by, reason, at })?)
        })
        .await
    }

    /// Receipts that the other side refused for good, the newest last.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn refused(&self) -> Result<Vec<(ReceiptId, RefusedRow)>, WalletError> {
        let view = self.view()?;
        let mut all = Vec::new();
        for (id, row) in view.scan(Table::Refused, &[], None, Order::Ascending, usize::MAX)? {
            let row: RefusedRow = decode(Table::Refused, &row)?;
            all.push((receipt_id(Table::Refused, &id)?, row));
        }
        all.sort_by_key(|(_, row)| row.at);
        Ok(all)
    }

    /// The provider has the receipt on disk: it need not be sent again, and where the provider is
    /// the network's authority, its books and ours now agree.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn acknowledged(&self, receipt: ReceiptId) -> Result<(), WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let waits = tables.get(Table::Outbox, receipt.as_bytes())?.is_some();
            // One that thought better of it is believed.
            if !waits && tables.get(Table::Refused, receipt.as_bytes())?.is_none() {
                return Ok(());
            }
            tables.remove(Table::Refused, receipt.as_bytes())?;
            let damaged = StoreError::Row {
                table: Table::Receipts,
            };
            let row: ReceiptRow = tables
                .row(Table::Receipts, receipt.as_bytes())?
                .ok_or(damaged)?;
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            acknowledge(tables, (&genesis, &node), (&receipt, &row), now)?;
            Ok(tables.remove(Table::Outbox, receipt.as_bytes())?)
        })
        .await
    }
}

/// The other side has a receipt on disk: where that is the network's authority, its books and ours agree.
pub(crate) fn acknowledge(
    tables: &mut impl Tables,
    (genesis, node): (&Genesis, &NodeId),
    (id, row): (&ReceiptId, &ReceiptRow),
    now: Timestamp,
) -> Result<(), WalletError> {
    let agreement = row.receipt()?.agreement;
    // What another node pays for moved nothing in these books.
    let paid_here = matches!(row.side, Side::Bought { .. });
    if paid_here && genesis.authority() != Some(*node) && !agreement.amount.is_zero() {
        let settle = Transfer {
            id: transfer::id("acknowledged", &[id.as_bytes()]),
            kind: Kind::Single {
                debit: Account::Clearing(agreement.provider),
                credit: Account::Position,
                amount: agreement.amount,
                spend: None,
            },
            code: TransferCode::Acknowledged,
            reference: *id.as_bytes(),
        };
        apply(tables, &settle, now)?;
    }
    if matches!(row.side, Side::BoughtUnder { .. }) {
        holding::free_units(tables, agreement.hold)?;
    }
    Ok(())
}

fn outgoing(tables: &impl ReadTables, id: &[u8], peer: &[u8]) -> Result<Outgoing, WalletError> {
    let damaged = StoreError::Row {
        table: Table::Outbox,
    };
    let row: ReceiptRow = tables.row(Table::Receipts, id)?.ok_or(damaged)?;
    let (mut under, mut claims) = (None, false);
    if row.side == Side::Sold {
        let receipt = row.receipt()?;
        claims = receipt.is_claim();
        let drawing = tracking::drawing(tables, &receipt.agreement.quote)?;
        under = drawing.map(|row| row.under()).transpose()?;
    }
    Ok(Outgoing {
        id: receipt_id(Table::Outbox, id)?,
        to: decode(Table::Outbox, peer)?,
        receipt: row.bytes,
        under,
        claims,
    })
}

fn receipt_id(table: Table, key: &[u8]) -> Result<ReceiptId, StoreError> {
    let bytes = key.try_into().map_err(|_| StoreError::Row { table })?;
    Ok(ReceiptId::from_bytes(bytes))
}
