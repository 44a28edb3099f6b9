//! Welcome loans: lent by an issuer out of its quota, due in the network's term, shown as owed.

use serde::{Deserialize, Serialize};
use tirami_manifest::genesis::{Genesis, LoanGrant};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, InvitationId, NodeId, Timestamp};

use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode, reference};
use crate::store::StoreError;
use crate::token::main_agent;

/// The window of the daily cap: 24 hours.
const DAY_MS: u64 = 24 * 3_600_000;

/// One loan, in the lender's books and in the borrower's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// Who lends.
    pub lender: NodeId,
    /// Who owes.
    pub borrower: NodeId,
    /// The invitation that was used.
    pub invitation: InvitationId,
    /// What was lent.
    pub principal: Amount,
    /// What is still owed.
    pub owed: Amount,
    /// When it was lent.
    pub granted: Timestamp,
    /// When it is due.
    pub due: Timestamp,
}

impl Loan {
    pub(crate) fn grant(&self, genesis: &Genesis, key: &SecretKey) -> Signed<LoanGrant> {
        let grant = LoanGrant {
            network: genesis.id(),
            issuer: self.lender,
            borrower: self.borrower,
            invitation: self.invitation,
            principal: self.principal,
            granted: self.granted,
            due: self.due,
        };
        Signed::new(grant, key)
    }
}

/// The welcome loan of a borrower.
pub(crate) fn of_borrower(
    tables: &impl ReadTables,
    borrower: &NodeId,
) -> Result<Option<Loan>, StoreError> {
    tables
        .get(Table::Loans, borrower.as_bytes())?
        .map(|bytes| decode(Table::Loans, &bytes))
        .transpose()
}

/// Every loan in these books.
pub(crate) fn all(tables: &impl ReadTables) -> Result<Vec<Loan>, StoreError> {
    tables
        .scan(Table::Loans, &[], None, Order::Ascending, usize::MAX)?
        .iter()
        .map(|(_, bytes)| decode(Table::Loans, bytes))
        .collect()
}

/// What was lent in the last 24 hours.
pub(crate) fn lent_today(tables: &impl ReadTables, now: Timestamp) -> Result<Amount, StoreError> {
    Ok(all(tables)?
        .iter()
        .filter(|loan| now.since_ms(loan.granted) < DAY_MS)
        .fold(Amount::ZERO, |sum, loan| {
            sum.checked_add(loan.principal).unwrap_or(Amount::MAX)
        }))
}

/// Lends a newcomer the network's welcome loan: from the issuer to the newcomer's standing.
pub(crate) fn lend(
    tables: &mut impl Tables,
    genesis: &Genesis,
    (lender, borrower): (NodeId, NodeId),
    invitation: InvitationId,
    now: Timestamp,
) -> Result<Loan, WalletError> {
    let loan = Loan {
        lender,
        borrower,
        invitation,
        principal: genesis.welcome_loan,
        owed: genesis.welcome_loan,
        granted: now,
        due: now.after_ms(genesis.welcome_term_ms),
    };
    let kind = Kind::Single {
        debit: Account::Issuer,
        credit: Account::Clearing(borrower),
        amount: loan.principal,
    };
    let id = transfer::id("lend", &[invitation.as_bytes()]);
    let (code, reference) = (TransferCode::WelcomeLoan, reference(invitation.as_bytes()));
    apply(
        tables,
        &Transfer {
            id,
            kind,
            code,
            reference,
        },
        now,
    )?;
    tables.put_row(Table::Loans, borrower.as_bytes(), &loan)?;
    Ok(loan)
}

/// Books a loan in the borrower's ledger: into the node's standing and on to its main agent.
pub(crate) fn accept(
    tables: &mut impl Tables,
    grant: &LoanGrant,
    now: Timestamp,
) -> Result<(), WalletError> {
    let loan = Loan {
        lender: grant.issuer,
        borrower: grant.borrower,
        invitation: grant.invitation,
        principal: grant.principal,
        owed: grant.principal,
        granted: grant.granted,
        due: grant.due,
    };
    let kind = Kind::Single {
        debit: Account::Position,
        credit: Account::Agent(main_agent()),
        amount: loan.principal,
    };
    let id = transfer::id("borrow", &[grant.invitation.as_bytes()]);
    let (code, reference) = (
        TransferCode::WelcomeLoan,
        reference(grant.invitation.as_bytes()),
    );
    apply(
        tables,
        &Transfer {
            id,
            kind,
            code,
            reference,
        },
        now,
    )?;
    Ok(tables.put_row(Table::Loans, loan.borrower.as_bytes(), &loan)?)
}
