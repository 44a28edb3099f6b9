//! Loans and credits that are open after the newest entry: what a checkpoint says of them. The wallet's own
//! rows may be ahead by what a command did after the transfer that an entry follows from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tirami_manifest::chain::{Entry, Loan, Repaid, State, Step, Waits};
use tirami_manifest::{Amount, InvitationId, NodeId, ReceiptId};

use super::keeping::damaged;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::store::StoreError;

/// Where all of them stood in one row of [`Table::Meta`] before each had its own.
const TOGETHER: &[u8] = b"chain-open";

/// First byte of the key of a loan, before the invitation.
const LOAN: u8 = 0;
/// First byte of the key of a credit, before the receipt.
const CREDIT: u8 = 1;

/// Whether this node lent it, the other side, what is owed.
type LoanRow = (bool, NodeId, Amount);

/// Who pays, how much.
type CreditRow = (NodeId, Amount);

/// All in one row, as it was.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Together {
    loans: BTreeMap<InvitationId, LoanRow>,
    waiting: BTreeMap<ReceiptId, CreditRow>,
}

fn key(kind: u8, id: &[u8]) -> Vec<u8> {
    [&[kind], id].concat()
}

/// Puts everything that is open into a state, as checkpoints have it.
pub(super) fn fill(tables: &impl ReadTables, state: &mut State) -> Result<(), StoreError> {
    let together: Together = tables.row(Table::Meta, TOGETHER)?.unwrap_or_default();
    let loan = |(lent, other, owed)| Loan { lent, other, owed };
    let waits = |(payer, amount)| Waits { payer, amount };
    for (id, row) in together.loans {
        state.loans.insert(id, loan(row));
    }
    for (id, row) in together.waiting {
        state.waiting.insert(id, waits(row));
    }
    for (key, row) in tables.scan(Table::Open, &[], None, Order::Ascending, usize::MAX)? {
        match key.split_first() {
            Some((&LOAN, id)) => {
                let id = InvitationId::from_bytes(id.try_into().map_err(|_| damaged())?);
                state.loans.insert(id, loan(decode(Table::Open, &row)?));
            }
            Some((&CREDIT, id)) => {
                let id = ReceiptId::from_bytes(id.try_into().map_err(|_| damaged())?);
                state.waiting.insert(id, waits(decode(Table::Open, &row)?));
            }
            _ => return Err(damaged()),
        }
    }
    Ok(())
}

/// What an entry changes of it.
pub(super) fn follow(tables: &mut impl Tables, entry: &Entry) -> Result<(), StoreError> {
    match &entry.step {
        Step::Trade(trade) if entry.waits => {
            let agreement = &trade.agreement;
            let row: CreditRow = (trade.payer, agreement.amount);
            let key = key(CREDIT, agreement.id().as_bytes());
            tables.put_row(Table::Open, &key, &row)
        }
        Step::Receive { receipt, .. } => {
            apart(tables)?;
            tables.remove(Table::Open, &key(CREDIT, receipt.as_bytes()))
        }
        Step::Mint(grant) | Step::Borrow(grant) => {
            let lent = matches!(entry.step, Step::Mint(_));
            let body = &grant.body;
            let other = if lent { body.borrower } else { body.issuer };
            let row: LoanRow = (lent, other, body.principal);
            tables.put_row(Table::Open, &key(LOAN, body.invitation.as_bytes()), &row)
        }
        Step::Repay(part) | Step::Retire(part) => {
            apart(tables)?;
            repaid(tables, part)
        }
        Step::Trade(_)
        | Step::Genesis { .. }
        | Step::Checkpoint { .. }
        | Step::Succession { .. } => Ok(()),
    }
}

fn repaid(tables: &mut impl Tables, part: &Repaid) -> Result<(), StoreError> {
    let key = key(LOAN, part.invitation.as_bytes());
    let row: Option<LoanRow> = tables.row(Table::Open, &key)?;
    let Some((lent, other, owed)) = row else {
        return Ok(());
    };
    let rest = owed.saturating_sub(part.amount);
    if rest.is_zero() {
        return tables.remove(Table::Open, &key);
    }
    tables.put_row(Table::Open, &key, &(lent, other, rest))
}

/// Gives each its own row, where they stood in one.
fn apart(tables: &mut impl Tables) -> Result<(), StoreError> {
    let Some(together): Option<Together> = tables.row(Table::Meta, TOGETHER)? else {
        return Ok(());
    };
    for (id, row) in together.loans {
        tables.put_row(Table::Open, &key(LOAN, id.as_bytes()), &row)?;
    }
    for (id, row) in together.waiting {
        tables.put_row(Table::Open, &key(CREDIT, id.as_bytes()), &row)?;
    }
    tables.remove(Table::Meta, TOGETHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tables::MemoryTables;

    #[test]
    fn what_stood_in_one_row_is_read_and_goes_on_in_rows_of_its_own() {
        let mut tables = MemoryTables::default();
        let [one, two] = [1, 2].map(|n| InvitationId::from_bytes([n; 16]));
        let lender = NodeId::from_bytes([7; 32]);
        let receipt = ReceiptId::from_bytes([9; 32]);
        let (loan, waits) = (
            (false, lender, Amount::from_trm(5)),
            (lender, Amount::from_trm(1)),
        );
        let together = Together {
            loans: [(one, loan), (two, loan)].into(),
            waiting: [(receipt, waits)].into(),
        };
        tables.put_row(Table::Meta, TOGETHER, &together).unwrap();
        let read = |tables: &MemoryTables| {
            let mut state = State::default();
            fill(tables, &mut state).unwrap();
            state
        };
        let before = read(&tables);
        assert_eq!((before.loans.len(), before.waiting.len()), (2, 1));
        apart(&mut tables).unwrap();
        assert_eq!(read(&tables), before);
        assert_eq!(tables.get(Table::Meta, TOGETHER).unwrap(), None);
        for (amount, left) in [(2, Some(3)), (3, None)] {
            let part = Repaid {
                other: lender,
                invitation: one,
                amount: Amount::from_trm(amount),
                receipt: [0; 32],
            };
            repaid(&mut tables, &part).unwrap();
            let owed = read(&tables).loans.get(&one).map(|loan| loan.owed);
            assert_eq!(owed, left.map(Amount::from_trm));
        }
    }
}
