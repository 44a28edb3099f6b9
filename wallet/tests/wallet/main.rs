//! The wallet through its front door: what callers may rely on, one claim per test.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop, and says how much it did"
)]

use std::sync::Arc;

use redb::backends::InMemoryBackend;
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::mandate::{Breakers, Limits, Terms};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::{Signed, hash};
use tirami_manifest::ticket::Ticket;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{AgentId, Amount, InvitationId, QuoteId, Timestamp};
use tirami_wallet::intent::{Attempt, Intent, IntentKey};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::store::Storage;
use tirami_wallet::token::main_agent;
use tirami_wallet::{Hold, HoldRequest, Wallet, WalletError};

#[path = "../world/mod.rs"]
mod world;

mod approvals;
mod archive;
mod earnings;
mod exploits;
mod files;
mod freeze;
mod holds;
mod intents;
mod limits;
mod loans;
mod mandates;
mod orders;
mod owner;
mod races;
mod sales;
mod statements;
mod succession;
mod travelling;
mod witness;

use world::{START, Trade, WORK, fund, genesis, key, trm};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

fn memory() -> Storage {
    Storage::Backend(Box::new(InMemoryBackend::new()))
}

/// A wallet of party `n` in memory, and its clock.
fn party(n: u8) -> (Wallet, Arc<ManualClock>) {
    party_at(n, START)
}

/// The same when its clock says `now`.
fn party_at(n: u8, now: Timestamp) -> (Wallet, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(now));
    (world::open(memory(), &clock, key(n)).unwrap(), clock)
}

/// Party 1, founder of the network, whose main agent has `amount` TRM.
async fn founder(amount: u32) -> (Wallet, Arc<ManualClock>) {
    let (wallet, clock) = party(1);
    fund(&wallet, amount, || ()).await.unwrap();
    (wallet, clock)
}

fn intent(name: &str) -> IntentKey {
    IntentKey::new(main_agent(), name)
}

/// Another name is another request.
fn body_of(name: &str) -> [u8; 32] {
    hash(b"test\0", &[name.as_bytes()])
}

async fn attempt(wallet: &Wallet, name: &str) -> Attempt {
    match wallet.begin(intent(name), body_of(name)).await.unwrap() {
        Intent::Attempt(attempt) => attempt,
        Intent::Answered(_) => panic!("{name} is answered"),
    }
}

fn request(attempt: Attempt, amount: u64, quote: QuoteId) -> HoldRequest {
    HoldRequest {
        attempt,
        amount: trm(amount),
        quote,
        work: WORK,
        under: None,
    }
}

const SOME_QUOTE: QuoteId = QuoteId::from_bytes([1; 32]);

async fn hold(wallet: &Wallet, name: &str, amount: u64) -> Result<Hold, WalletError> {
    let attempt = attempt(wallet, name).await;
    wallet.hold(request(attempt, amount, SOME_QUOTE)).await
}

/// The main agent of party 1 buys from party 2.
fn purchase(max: u32) -> Trade {
    Trade::new(genesis().id(), &key(2), &key(1), (max, 1))
}

async fn hold_for(wallet: &Wallet, trade: &Trade, name: &str) -> Hold {
    let attempt = attempt(wallet, name).await;
    let (amount, quote) = (trade.quote.max_amount, trade.quote.id());
    let request = HoldRequest {
        attempt,
        amount,
        quote,
        work: WORK,
        under: None,
    };
    wallet.hold(request).await.unwrap()
}

/// The main agent buys for `amount` TRM; answers the receipt.
async fn bought(wallet: &Wallet, trade: &Trade, amount: u32) -> VerifiedReceipt {
    bought_as(wallet, trade, amount, "bought").await
}

/// The same under another idempotency key.
async fn bought_as(wallet: &Wallet, trade: &Trade, amount: u32, name: &str) -> VerifiedReceipt {
    let hold = hold_for(wallet, trade, name).await;
    let receipt = trade.receipt(hold.id(), amount);
    let settled = hold.settle(receipt.clone(), b"an answer".to_vec()).await;
    settled.map_err(|(_, error)| error).unwrap();
    receipt
}

fn spent(wallet: &Wallet) -> u128 {
    wallet.balance(&main_agent()).unwrap().spent / 1_000_000
}

fn available(wallet: &Wallet) -> Amount {
    wallet.balance(&main_agent()).unwrap().available
}

fn totals(wallet: &Wallet, account: Account) -> u128 {
    let all = wallet.accounts().unwrap();
    let (_, totals) = all.iter().find(|(a, _)| *a == account).unwrap();
    u128::from(totals.available().utrm()) / 1_000_000
}

fn limits(request: u64, hour: u64, lifetime: u64) -> Limits {
    Limits {
        per_request_trm: trm(request),
        hour_trm: trm(hour),
        lifetime_trm: trm(lifetime),
        ..Limits::DEFAULT
    }
}

/// Figures alone: no breaker and no approval, so that they decide.
fn only(limits: Limits) -> Terms {
    Terms {
        breakers: Breakers {
            errors_in_row: 0,
            spends_per_minute: 0,
            same_request: 0,
        },
        ..Terms::of(Limits {
            approval_above_trm: None,
            ..limits
        })
    }
}

/// As the mandate is by default, but for its limits.
fn terms(request: u64, hour: u64, lifetime: u64) -> Terms {
    Terms::of(limits(request, hour, lifetime))
}

/// The owner, party 100, decides.
async fn decide(wallet: &Wallet, decision: Decision) -> Result<(), WalletError> {
    wallet.set_owner(key(100).owner_id()).await?;
    let number = wallet.owner()?.map_or(0, |owner| owner.next_order);
    order(wallet, number, decision).await
}

/// The owner sets an agent's terms.
async fn set_terms(wallet: &Wallet, agent: AgentId, terms: Terms) {
    let terms = Box::new(terms);
    let decision = Decision::SetTerms { agent, terms };
    decide(wallet, decision).await.unwrap();
}

fn limits_of(wallet: &Wallet, agent: &AgentId) -> Limits {
    wallet.budget(agent).unwrap().terms().unwrap().limits
}

/// Which rule refused.
fn number<T: std::fmt::Debug>(outcome: Result<T, WalletError>) -> u16 {
    match outcome {
        Err(WalletError::Refused(refusal)) => Refusal::number(&refusal),
        other => panic!("{other:?}"),
    }
}

async fn order(wallet: &Wallet, number: u64, decision: Decision) -> Result<(), WalletError> {
    let node = wallet.node();
    let order = OwnerOrder {
        node,
        number,
        decision,
    };
    wallet.obey(Signed::new(order, &key(100))).await
}

/// Buys for exactly `amount`.
async fn settle(wallet: &Wallet, name: &str, amount: u32) {
    let trade = Trade::new(
        genesis().id(),
        &key(2),
        &key(1),
        (amount, name.as_bytes()[0]),
    );
    let hold = hold_for(wallet, &trade, name).await;
    let receipt = trade.receipt(hold.id(), amount);
    hold.settle(receipt, Vec::new()).await.unwrap();
}

async fn join(founder: &Wallet, member: &Wallet, invitation: [u8; 16]) {
    let invitation = founder
        .invite(InvitationId::from_bytes(invitation))
        .await
        .unwrap();
    let ticket = Ticket {
        genesis: founder.network().unwrap().unwrap(),
        invitation: invitation.clone(),
        addresses: Vec::new(),
    };
    member.ensure_main_agent([1; 32]).await.unwrap();
    member.enter(ticket).await.unwrap();
    assert!(member.pending_ticket().unwrap().is_some());
    let welcome = founder.welcome(invitation, member.node()).await.unwrap();
    let principal = member.accept_loan(welcome.grant.unwrap()).await.unwrap();
    assert_eq!(principal, trm(100_000));
    assert!(member.pending_ticket().unwrap().is_none());
}
