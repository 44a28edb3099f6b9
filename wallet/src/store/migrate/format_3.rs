//! From format 2 to 3: an account's limits and pots lie in its row, in a fixed layout.

use tirami_manifest::{AgentId, Amount};

use super::Migration;
use crate::ledger::account::{Account, AccountRow, Totals};
use crate::ledger::pot::Pots;
use crate::ledger::tables::{Table, decode};
use crate::store::StoreError;

pub(super) fn to_3(file: &mut Migration<'_>) -> Result<(), StoreError> {
    let damaged = || StoreError::Row {
        table: Table::Accounts,
    };
    // What no account claims would be lost, so it is looked for first.
    let mut pots = Vec::new();
    let mut beyond: Option<Vec<u8>> = None;
    loop {
        let rows = file.rows("pots-1", beyond.as_deref(), 4_096)?;
        let Some((last, _)) = rows.last() else {
            break;
        };
        beyond = Some(last.clone());
        for (key, row) in rows {
            let agent = AgentId::from_bytes(key.try_into().map_err(|_| damaged())?);
            let amounts: [Amount; 4] = decode(Table::Accounts, &row)?;
            pots.push((Account::Agent(agent), Pots::of(amounts)));
        }
    }
    file.rewrite("accounts-1", "accounts-2", |key, row| {
        let account = Account::from_key(key).ok_or_else(damaged)?;
        let totals: Totals = decode(Table::Accounts, row)?;
        let row = AccountRow {
            totals,
            ..AccountRow::new(&account)
        };
        Ok(row.to_row(&account))
    })?;
    for (account, pots) in pots {
        let key = account.key();
        let row = match file.get("accounts-2", &key)? {
            None => AccountRow::new(&account),
            Some(row) => AccountRow::from_row(&account, &row).ok_or_else(damaged)?,
        };
        let row = AccountRow { pots, ..row };
        file.put("accounts-2", &key, &row.to_row(&account))?;
    }
    file.end("pots-1")
}
