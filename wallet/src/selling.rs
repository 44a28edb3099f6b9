//! How the owner wants to sell: kept here so that it survives, and read by whoever sells.

use crate::error::WalletError;
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::wallet::Wallet;

/// Key of the settings in [`Table::Meta`].
const SELLING: &[u8] = b"selling";

impl Wallet {
    /// What [`Wallet::set_selling`] was given last.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn selling(&self) -> Result<Option<Vec<u8>>, WalletError> {
        Ok(self.view()?.get(Table::Meta, SELLING)?)
    }

    /// Keeps settings for selling.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn set_selling(&self, settings: Vec<u8>) -> Result<(), WalletError> {
        self.write(move |tables, _| Ok(tables.put(Table::Meta, SELLING, &settings)?))
            .await
    }
}
