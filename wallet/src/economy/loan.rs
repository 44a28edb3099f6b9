//! Welcome loans: lent by an issuer out of its quota, due in the network's term, paid back.
//!
//! Both sides keep a row. What the borrower sells to its lender pays the loan first, and what it pays
//! back beside that comes as a signed repayment ([`super::repayment`]). Each such event reduces what
//! is owed by its amount, or by all that is left; so in whatever order the two sides book the same
//! events, they come to the same sum.

use serde::{Deserialize, Serialize};
use tirami_manifest::genesis::{Genesis, LoanGrant};
use tirami_manifest::key::SecretKey;
use tirami_manifest::loan::LOAN_GRACE_MS;
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, InvitationId, NodeId, Timestamp};

use crate::error::WalletError;
use crate::keys;
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode, reference};
use crate::store::StoreError;
use crate::token::main_agent;
use crate::wallet::Wallet;

/// The window of the daily cap: 24 hours.
const DAY_MS: u64 = 24 * 3_600_000;

/// One loan, in the lender's books and in the borrower's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// Who lends.
    pub lender: NodeId,
    /// Who owes, by the key that it had when it was lent.
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
    /// What the borrower paid back beside what its earnings paid; in the lender's books as far as
    /// the lender heard of it.
    pub paid: Amount,
    /// What of that the lender has booked; in the lender's own books, all of it.
    pub confirmed: Amount,
    /// Since when nothing is owed.
    pub repaid_at: Option<Timestamp>,
}

/// Where a loan stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoanState {
    /// Owed, not yet due.
    Open,
    /// Owed after its due date.
    Overdue,
    /// Owed after its due date and [`LOAN_GRACE_MS`]: the lender sells the borrower nothing.
    Defaulted,
    /// Nothing is owed.
    Repaid,
}

impl LoanState {
    /// The word people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Overdue => "overdue",
            Self::Defaulted => "defaulted",
            Self::Repaid => "repaid",
        }
    }
}

impl Loan {
    /// Where the loan stands at `now`.
    pub fn state(&self, now: Timestamp) -> LoanState {
        if self.owed.is_zero() {
            LoanState::Repaid
        } else if now < self.due {
            LoanState::Open
        } else if now < self.due.after_ms(LOAN_GRACE_MS) {
            LoanState::Overdue
        } else {
            LoanState::Defaulted
        }
    }

    /// What was paid back, from earnings and beside them.
    pub fn repaid(&self) -> Amount {
        self.principal.saturating_sub(self.owed)
    }

    /// Takes off what `amount` pays of it, at most what is owed; answers how much that is.
    pub(crate) fn reduce(&mut self, amount: Amount, now: Timestamp) -> Amount {
        let part = self.owed.min(amount);
        self.owed = self.owed.saturating_sub(part);
        if self.owed.is_zero() && self.repaid_at.is_none() {
            self.repaid_at = Some(now);
        }
        part
    }

    pub(crate) fn save(&self, tables: &mut impl Tables) -> Result<(), StoreError> {
        tables.put_row(Table::Loans, self.borrower.as_bytes(), self)
    }

    /// What was granted, as its lender signs it.
    pub(crate) fn terms(&self, genesis: &Genesis) -> LoanGrant {
        LoanGrant {
            network: genesis.id(),
            issuer: self.lender,
            borrower: self.borrower,
            invitation: self.invitation,
            principal: self.principal,
            granted: self.granted,
            due: self.due,
        }
    }

    pub(crate) fn grant(&self, genesis: &Genesis, key: &SecretKey) -> Signed<LoanGrant> {
        Signed::new(self.terms(genesis), key)
    }
}

impl Wallet {
    /// Every loan in these books: the one this node owes, and those it gave.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn loans(&self) -> Result<Vec<Loan>, WalletError> {
        Ok(all(&self.view()?)?)
    }
}

/// What `borrower` owes `lender` although its loan is in default; `None` while it is not.
pub(crate) fn in_default(
    tables: &impl ReadTables,
    (lender, borrower): (&NodeId, &NodeId),
    now: Timestamp,
) -> Result<Option<Amount>, StoreError> {
    let loan = of_borrower(tables, borrower)?.filter(|loan| loan.lender == *lender);
    Ok(loan
        .filter(|loan| loan.state(now) == LoanState::Defaulted)
        .map(|loan| loan.owed))
}

/// The welcome loan of a borrower, which may have been lent to a key before its present one.
pub(crate) fn of_borrower(
    tables: &impl ReadTables,
    borrower: &NodeId,
) -> Result<Option<Loan>, StoreError> {
    let mut key = *borrower;
    loop {
        if let Some(bytes) = tables.get(Table::Loans, key.as_bytes())? {
            return decode(Table::Loans, &bytes).map(Some);
        }
        match keys::before(tables, &key)? {
            Some(before) => key = before,
            None => return Ok(None),
        }
    }
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
        paid: Amount::ZERO,
        confirmed: Amount::ZERO,
        repaid_at: None,
    };
    let kind = Kind::Single {
        debit: Account::Issuer,
        credit: Account::Clearing(borrower),
        amount: loan.principal,
        spend: None,
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
    loan.save(tables)?;
    Ok(loan)
}

/// Books a loan in the borrower's ledger: into the node's standing and on to its main agent. Again it
/// changes nothing, above all not what was paid back since.
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
        paid: Amount::ZERO,
        confirmed: Amount::ZERO,
        repaid_at: None,
    };
    let kind = Kind::Single {
        debit: Account::Position,
        credit: Account::Agent(main_agent()),
        amount: loan.principal,
        spend: None,
    };
    let id = transfer::id("borrow", &[grant.invitation.as_bytes()]);
    let (code, reference) = (
        TransferCode::WelcomeLoan,
        reference(grant.invitation.as_bytes()),
    );
    let borrow = Transfer {
        id,
        kind,
        code,
        reference,
    };
    if apply(tables, &borrow, now)? == Applied::Now {
        loan.save(tables)?;
    }
    Ok(())
}
