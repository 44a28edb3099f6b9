//! The books of both sides, and what is brought from one to the other.

use std::sync::Arc;

use redb::backends::InMemoryBackend;
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::genesis::Genesis;
use tirami_manifest::mandate::Action;
use tirami_manifest::ticket::Ticket;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, InvitationId, NodeId, TransferId};
use tirami_wallet::economy::loan::{Loan, LoanState};
use tirami_wallet::intent::{Intent, IntentKey};
use tirami_wallet::ledger::account::{Account, Totals};
use tirami_wallet::store::Storage;
use tirami_wallet::token::main_agent;
use tirami_wallet::{HoldRequest, Wallet, WalletError, Work};

use crate::world::{self, START, Trade, genesis, key, sound, trm};

pub(crate) const HOUR: u64 = 3_600_000;
pub(crate) const TERM: u64 = 72 * HOUR;
pub(crate) const LENT: u64 = 1_000;
/// How many others spend their loans at the founder, which has to come to money to buy with.
const CUSTOMERS: u8 = 4;

/// The founder (party 1), a member (party 3) with its loan, and the time of both.
pub(crate) struct Books {
    pub(crate) founder: Wallet,
    pub(crate) member: Wallet,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) file: Option<tempfile::TempDir>,
}

pub(crate) fn lending() -> Genesis {
    Genesis {
        welcome_loan: trm(LENT),
        welcome_daily_cap: trm(200_000),
        ..genesis()
    }
}

pub(crate) fn memory() -> Storage {
    Storage::Backend(Box::new(InMemoryBackend::new()))
}

pub(crate) async fn books() -> Books {
    books_in(memory(), None).await
}

pub(crate) async fn books_in(of_member: Storage, file: Option<tempfile::TempDir>) -> Books {
    let clock = Arc::new(ManualClock::at(START));
    let founder = world::open(memory(), &clock, key(1)).unwrap();
    let member = world::open(of_member, &clock, key(3)).unwrap();
    founder.found(lending()).await.unwrap();
    founder.ensure_main_agent([0; 32]).await.unwrap();
    member.ensure_main_agent([1; 32]).await.unwrap();
    for n in 20..20 + CUSTOMERS {
        let invitation = InvitationId::from_bytes([n; 16]);
        let invitation = founder.invite(invitation).await.unwrap();
        founder.welcome(invitation, key(n).id()).await.unwrap();
        let trade = Trade::new(lending().id(), &key(1), &key(n), (1_000, n));
        let receipt = trade.receipt(TransferId::from_bytes([n; 16]), 1_000);
        founder.earn(receipt).await.unwrap();
    }
    let books = Books {
        founder,
        member,
        clock,
        file,
    };
    let invitation = InvitationId::from_bytes([3; 16]);
    let invitation = books.founder.invite(invitation).await.unwrap();
    let ticket = Ticket {
        genesis: lending(),
        invitation: invitation.clone(),
        addresses: Vec::new(),
    };
    books.member.enter(ticket).await.unwrap();
    let welcome = books.founder.welcome(invitation, key(3).id()).await;
    let grant = welcome.unwrap().grant.unwrap();
    books.member.accept_loan(grant).await.unwrap();
    books
}

pub(crate) fn totals(wallet: &Wallet, account: Account) -> Totals {
    let all = wallet.accounts().unwrap();
    let found = all.iter().find(|(a, _)| *a == account);
    found.map(|(_, totals)| *totals).unwrap_or_default()
}

pub(crate) fn has(wallet: &Wallet) -> Amount {
    wallet.balance(&main_agent()).unwrap().available
}

pub(crate) fn loan(wallet: &Wallet, borrower: NodeId) -> Loan {
    let loans = wallet.loans().unwrap();
    loans.into_iter().find(|l| l.borrower == borrower).unwrap()
}

impl Books {
    pub(crate) fn lent(&self) -> Loan {
        loan(&self.founder, self.member.node())
    }

    pub(crate) fn owed(&self) -> Loan {
        loan(&self.member, self.member.node())
    }

    pub(crate) fn states(&self) -> (LoanState, LoanState) {
        let now = self.member.now().unwrap();
        (self.lent().state(now), self.owed().state(now))
    }

    /// The founder buys for `amount` from the member: booked there, not yet here.
    pub(crate) async fn founder_buys(&self, nonce: u8, amount: u32) -> VerifiedReceipt {
        let trade = Trade::new(lending().id(), &key(3), &key(1), (amount, nonce));
        buy(&self.founder, &trade, nonce, amount).await.unwrap()
    }

    /// The member buys from the founder: booked here, not yet there.
    pub(crate) async fn member_buys(
        &self,
        nonce: u8,
        amount: u32,
    ) -> Result<VerifiedReceipt, WalletError> {
        let trade = Trade::new(lending().id(), &key(1), &key(3), (amount, nonce));
        buy(&self.member, &trade, nonce, amount).await
    }

    /// Sends what the member paid back beside its earnings, and brings the answer.
    pub(crate) async fn exchange_repayment(&self) {
        if let Some(repayment) = self.member.repayment().unwrap() {
            let id = self.founder.accept_repayment(repayment).await.unwrap();
            self.member.repayment_acknowledged(id).await.unwrap();
        }
    }

    /// The member's receipts as far as it bought reach the founder, and back.
    pub(crate) async fn exchange_receipts(&self, bought: &[VerifiedReceipt]) {
        for receipt in bought {
            self.founder.earn(receipt.clone()).await.unwrap();
            self.member.acknowledged(receipt.id()).await.unwrap();
        }
    }

    /// Every message was delivered: both say the same to the micro-TRM.
    pub(crate) fn agree(&self) {
        sound(&self.founder);
        sound(&self.member);
        let (lent, owed) = (self.lent(), self.owed());
        assert_eq!(
            (lent.owed, lent.repaid(), lent.paid, lent.confirmed),
            (owed.owed, owed.repaid(), owed.paid, owed.confirmed)
        );
        assert_eq!(self.states().0, self.states().1);
        assert_eq!(owed.repaid().checked_add(owed.owed), Some(trm(LENT)));
        let kept = totals(&self.founder, Account::Clearing(self.member.node()));
        let stands = totals(&self.member, Account::Position).debit_balance();
        assert_eq!(kept.posted(), stands, "standing");
        let accounts = self.member.accounts().unwrap().into_iter();
        let in_purses = accounts
            .filter(|(account, _)| matches!(account, Account::Agent(_)))
            .fold(Amount::ZERO, |sum, (_, totals)| {
                sum.checked_add(totals.posted()).unwrap()
            });
        assert_eq!(in_purses, stands, "owned");
        let on_its_way = totals(&self.member, Account::Clearing(self.founder.node()));
        assert_eq!(on_its_way.posted(), Amount::ZERO, "on its way");
        self.supply();
    }

    /// What there is of the issuer's money is what it lent less what came back.
    pub(crate) fn supply(&self) {
        let loans = self.founder.loans().unwrap();
        let out = loans.iter().fold(Amount::ZERO, |sum, loan| {
            sum.checked_add(loan.owed).unwrap()
        });
        let issuer = totals(&self.founder, Account::Issuer);
        assert_eq!(issuer.debit_balance(), out, "supply");
    }
}

/// A purchase up to the countersigned receipt.
pub(crate) async fn buy(
    wallet: &Wallet,
    trade: &Trade,
    nonce: u8,
    amount: u32,
) -> Result<VerifiedReceipt, WalletError> {
    let name = IntentKey::new(main_agent(), &format!("buy {nonce}"));
    let Intent::Attempt(attempt) = wallet.begin(name, [nonce; 32]).await? else {
        panic!("bought before");
    };
    let quote = &trade.quote;
    let hold = wallet
        .hold(HoldRequest {
            attempt,
            amount: quote.max_amount,
            quote: quote.id(),
            work: Work {
                action: Action::Chat,
                payee: Some(quote.provider),
                model: Some(quote.card.id),
                price: Some(quote.multiplier),
            },
            under: None,
        })
        .await?;
    let receipt = trade.receipt(hold.id(), amount);
    let settled = hold.settle(receipt.clone(), Vec::new()).await;
    settled.map_err(|(_, error)| error)?;
    Ok(receipt)
}
