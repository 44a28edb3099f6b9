//! What does not depend on the order in which a witness hears of things, on hearing of them twice, nor
//! on what the clocks say.

use proptest::prelude::*;
use tirami_manifest::chain::{Chain, Entry, FraudProof, Loan, Step};
use tirami_manifest::signed::Signed;
use tirami_manifest::{NodeId, ReceiptId};
use tirami_wallet::journal::JournalHead;
use tirami_wallet::ledger::account::Totals;
use tirami_wallet::witness::CertifiedHead;

use super::*;
use crate::witness::{Market, Move, moves, shown};
use crate::world::{job, sound};

const YEAR: u64 = 365 * DAY;

/// All that can be seen of a wallet; the journal has whatever was done to its ledger.
#[derive(Debug, PartialEq)]
struct Seen {
    journal: JournalHead,
    chain: (u64, tirami_manifest::EntryId),
    accounts: Vec<(Account, Totals)>,
    waiting: Vec<ReceiptId>,
    certified: u64,
    heads: Vec<CertifiedHead>,
    frauds: Vec<FraudProof>,
    room: Amount,
}

fn seen(wallet: &Wallet) -> Seen {
    let position = wallet.chain_position().unwrap();
    let waiting = wallet.waiting().unwrap().into_iter();
    Seen {
        journal: wallet.journal_head().unwrap(),
        chain: (position.seq, position.head),
        accounts: wallet.accounts().unwrap(),
        waiting: waiting.map(|(receipt, _)| receipt).collect(),
        certified: wallet.certified_seq().unwrap(),
        heads: wallet.certified_heads().unwrap(),
        frauds: wallet.frauds().unwrap(),
        room: wallet.stranger_room().unwrap(),
    }
}

/// Does something, and again: the second time changes nothing, whatever is answered.
macro_rules! twice {
    ($wallet:expr, $does:expr) => {{
        let before = seen($wallet);
        $does.await.unwrap();
        let once = seen($wallet);
        assert_ne!(once, before, "{} did nothing", stringify!($does));
        // What was done is answered alike, or refused.
        drop($does.await);
        assert_eq!(seen($wallet), once, "{}", stringify!($does));
    }};
}

/// A newcomer whose invitation and loan arrive twice.
async fn joins_twice(witness: &Wallet, member: &Wallet) {
    let invitation = InvitationId::from_bytes([4; 16]);
    let invitation = witness.invite(invitation).await.unwrap();
    let ticket = Ticket {
        genesis: genesis(),
        invitation: invitation.clone(),
        addresses: Vec::new(),
    };
    member.ensure_main_agent([1; 32]).await.unwrap();
    member.enter(ticket).await.unwrap();
    let node = member.node();
    twice!(witness, witness.welcome(invitation.clone(), node));
    let welcome = witness.welcome(invitation, node).await.unwrap();
    let grant = welcome.grant.unwrap();
    twice!(member, member.accept_loan(grant.clone()));
}

#[tokio::test]
async fn whatever_is_heard_twice_is_as_if_heard_once() {
    let (witness, _) = founder(10).await;
    let (buyer, _) = party(3);
    let (seller, _) = party(4);
    join(&witness, &buyer, [3; 16]).await;
    joins_twice(&witness, &seller).await;
    // What one member buys of another one, and of the witness.
    let trade = Trade::new(genesis().id(), &key(4), &key(3), (60, 1));
    seller
        .reserve(&trade.quote, job(&trade.quote), None)
        .await
        .unwrap();
    let receipt = bought(&buyer, &trade, 40).await;
    twice!(&seller, seller.earn(receipt.clone()));
    let sale = Trade::new(genesis().id(), &key(1), &key(3), (50, 2));
    let sold = bought_as(&buyer, &sale, 30, "again").await;
    twice!(&witness, witness.earn(sold.clone()));
    // Chains, certificates, and what they make spendable.
    let waiting = [receipt.agreement.id()];
    twice!(
        &witness,
        witness.certify(seller.node(), shown(&seller), &waiting)
    );
    twice!(&witness, witness.certify(buyer.node(), shown(&buyer), &[]));
    let attested = witness
        .certify(seller.node(), Vec::new(), &waiting)
        .await
        .unwrap();
    let certificate = attested.certificate.unwrap();
    twice!(&seller, seller.keep_certificate(certificate.clone()));
    let [(receipt, debit)] = attested.credits[..] else {
        panic!("one credit");
    };
    twice!(&seller, seller.certified(receipt, debit));
    twice!(
        &witness,
        witness.certify(seller.node(), shown(&seller), &[])
    );
    // And a proof of fraud.
    let entries = shown(&buyer);
    let mut other = entries[1].body.clone();
    other.hlc += 1;
    let proof = FraudProof::between(&entries[1], &Signed::new(other, &key(3))).unwrap();
    for wallet in [&witness, &seller] {
        twice!(wallet, wallet.keep_fraud(proof.clone()));
        sound(wallet);
    }
}

/// A witness that made the same loans as the market's, and has heard of nothing since.
async fn fresh() -> Wallet {
    let (witness, _) = founder(50_000).await;
    for n in [3, 4] {
        let invitation = InvitationId::from_bytes([n; 16]);
        let invitation = witness.invite(invitation).await.unwrap();
        witness.welcome(invitation, key(n).id()).await.unwrap();
    }
    witness
}

/// Whether a witness can have heard of a sale: a credit stands on its buyer's chain once the debit was
/// certified, so what comes after it is heard after that.
fn may_hear(witness: &Wallet, market: &Market, receipt: &VerifiedReceipt) -> bool {
    let consumer = receipt.agreement.consumer;
    let mut members = market.members.iter();
    let Some(buyer) = members.find(|member| member.node() == consumer) else {
        return true;
    };
    let entries = shown(buyer);
    let is_it = |entry: &Signed<Entry>| match &entry.body.step {
        Step::Trade(trade) => trade.agreement.id() == receipt.id(),
        _ => false,
    };
    let before = entries.iter().take_while(|entry| !is_it(entry));
    let received = before.filter(|entry| matches!(entry.body.step, Step::Receive { .. }));
    let last = received.map(|entry| entry.body.seq).max().unwrap_or(0);
    let heads = witness.certified_heads().unwrap();
    last == 0
        || heads
            .iter()
            .any(|head| head.node == consumer && head.seq >= last)
}

/// Tells a witness all that the market's own heard: its sales in some order, and between them chains up
/// to some entry; what it cannot certify yet it is shown again.
async fn tells(witness: &Wallet, market: &Market, order: &[u16]) {
    let mut sold = market.sold.clone();
    for choice in order.iter().map(|choice| usize::from(*choice)) {
        if choice % 2 == 0 && !sold.is_empty() {
            let place = choice / 2 % sold.len();
            if may_hear(witness, market, &sold[place]) {
                witness.earn(sold.remove(place)).await.unwrap();
            }
            continue;
        }
        let member = &market.members[choice / 2 % market.members.len()];
        let entries = shown(member);
        let some = entries[..=choice / 4 % entries.len()].to_vec();
        match witness.certify(member.node(), some, &[]).await {
            Ok(_) | Err(WalletError::NotYet(_) | WalletError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    // What waits for another one's debit takes one turn more for each.
    let count: usize = market
        .members
        .iter()
        .map(|member| shown(member).len())
        .sum();
    for _ in 0..=count {
        let (now, later): (Vec<_>, Vec<_>) = sold
            .into_iter()
            .partition(|receipt| may_hear(witness, market, receipt));
        for receipt in now {
            witness.earn(receipt).await.unwrap();
        }
        sold = later;
        for member in &market.members {
            for upto in 1..=shown(member).len() {
                let entries = shown(member)[..upto].to_vec();
                let certified = witness.certify(member.node(), entries, &[]).await;
                assert!(!matches!(certified, Err(WalletError::Fraud { .. })));
            }
        }
        let heads = witness.certified_heads().unwrap();
        let last = |member: &Wallet| member.chain_position().unwrap().seq;
        let whole = |head: &CertifiedHead| {
            let mut members = market.members.iter();
            members.any(|member| member.node() == head.node && last(member) == head.seq)
        };
        if sold.is_empty() && heads.len() == market.members.len() && heads.iter().all(whole) {
            break;
        }
    }
}

/// What a wallet and its chain have, without the ids of receipts: holds, which these name, have the time
/// in theirs.
#[derive(Debug, PartialEq)]
struct Timeless {
    accounts: Vec<(Account, Totals)>,
    amounts: [Amount; 3],
    loans: Vec<Loan>,
    waiting: Vec<(NodeId, Amount)>,
    room: Amount,
    entries: u64,
}

fn timeless(market: &Market) -> Vec<Timeless> {
    let wallets = market.members.iter().chain([&market.witness]);
    let of = |wallet: &Wallet| {
        let mut chain = Chain::new(wallet.network().unwrap().unwrap(), wallet.node());
        for entry in shown(wallet) {
            chain.append(&entry).unwrap();
        }
        let state = chain.state();
        let waiting = state.waiting.values();
        let mut waiting: Vec<_> = waiting.map(|waits| (waits.payer, waits.amount)).collect();
        waiting.sort_unstable();
        Timeless {
            accounts: wallet.accounts().unwrap(),
            amounts: [state.spendable, state.made, state.retired],
            loans: state.loans.values().copied().collect(),
            waiting,
            room: wallet.stranger_room().unwrap(),
            entries: chain.seq(),
        }
    };
    wallets.map(of).collect()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// A witness hears of the same sales and the same chains in another order, in other parts: it has the
    /// same accounts to the byte, and certified the same.
    #[test]
    fn in_whatever_order_a_witness_hears_it_has_the_same_accounts(
        moves in moves(), order in prop::collection::vec(any::<u16>(), 0..24),
    ) {
        block_on(async {
            // What the witness buys, it does itself.
            let by_members = |one: &Move| !matches!(one, Move::Buy(2, ..));
            let mut market = Market::open(START).await;
            for one in moves.into_iter().filter(by_members) {
                market.does(one).await;
            }
            market.settles().await;
            let other = fresh().await;
            tells(&other, &market, &order).await;
            sound(&other);
            prop_assert_eq!(other.accounts().unwrap(), market.witness.accounts().unwrap());
            let heads = |wallet: &Wallet| wallet.certified_heads().unwrap();
            prop_assert_eq!(heads(&other), heads(&market.witness));
            Ok(())
        })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    /// Everybody's clock a year slow or fast: each step leaves everybody the same, but for the times.
    #[test]
    fn clocks_that_are_a_year_wrong_change_no_balance(moves in moves()) {
        block_on(async {
            let mut steps = Vec::new();
            for start in [START, START.after_ms(YEAR), Timestamp::from_ms(START.ms() - YEAR)] {
                let mut market = Market::open(start).await;
                let mut seen = vec![timeless(&market)];
                for one in &moves {
                    market.does(*one).await;
                    seen.push(timeless(&market));
                }
                market.settles().await;
                seen.push(timeless(&market));
                steps.push(seen);
            }
            prop_assert_eq!(&steps[0], &steps[1]);
            prop_assert_eq!(&steps[0], &steps[2]);
            Ok(())
        })?;
    }
}
