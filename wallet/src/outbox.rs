//! Receipts on their way: countersigned here, not yet acknowledged by their provider.

use tirami_manifest::{NodeId, ReceiptId};

use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::statement::ReceiptRow;
use crate::store::StoreError;
use crate::wallet::Wallet;

impl Wallet {
    /// Receipts that were countersigned here and not yet acknowledged by their provider.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn outbox(&self) -> Result<Vec<(NodeId, Vec<u8>)>, WalletError> {
        let view = self.view()?;
        view.scan(Table::Outbox, &[], None, Order::Ascending, usize::MAX)?
            .into_iter()
            .map(|(id, peer)| {
                let damaged = StoreError::Row {
                    table: Table::Outbox,
                };
                let row: ReceiptRow = view.row(Table::Receipts, &id)?.ok_or(damaged)?;
                Ok((decode(Table::Outbox, &peer)?, row.bytes))
            })
            .collect()
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
            if tables.get(Table::Outbox, receipt.as_bytes())?.is_none() {
                return Ok(());
            }
            let damaged = StoreError::Row {
                table: Table::Receipts,
            };
            let row: ReceiptRow = tables
                .row(Table::Receipts, receipt.as_bytes())?
                .ok_or(damaged)?;
            let agreement = row.receipt()?.agreement;
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            if genesis.authority() != Some(node) && !agreement.amount.is_zero() {
                let settle = Transfer {
                    id: transfer::id("acknowledged", &[receipt.as_bytes()]),
                    kind: Kind::Single {
                        debit: Account::Clearing(agreement.provider),
                        credit: Account::Position,
                        amount: agreement.amount,
                        spend: None,
                    },
                    code: TransferCode::Acknowledged,
                    reference: *receipt.as_bytes(),
                };
                apply(tables, &settle, now)?;
            }
            Ok(tables.remove(Table::Outbox, receipt.as_bytes())?)
        })
        .await
    }
}
