//! Networks in which anything happens in any order: what all chains together have, and what becomes of
//! their entries among replicas that hear of them late, twice, in any order, and of two histories of one
//! author.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use tirami_manifest::chain::{Chain, Entry, FraudKind, FraudProof, Repaid, State, Step};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, EntryId, InvitationId, NodeId};

use crate::world::{Pen, grant, id, of, private, receipt, shared, trm};

/// Who is in the network. 1 issues, and in the one with four witnesses 4 does too.
const NODES: [u8; 4] = [1, 2, 3, 4];

/// What a welcome loan is.
const LOAN: i128 = 1_000;

/// What somebody does; a document has a half for each side, which it appends when it likes.
#[derive(Clone, Copy, Debug)]
enum Move {
    /// Issuer and borrower.
    Lend(u8, u8),
    /// Provider, consumer, who pays, and how much.
    Trade(u8, u8, u8, u32),
    /// Part of a loan that was made.
    Repay(Index, u32),
    /// Somebody appends its half of a document.
    Half(Index),
    /// Somebody appends again what stands on its chain.
    Again(Index),
    /// What waits is certified.
    Receive(u8),
    Checkpoint(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Pays,
    Sells,
    Mints,
    Borrows,
    Repays,
    Retires,
    Receives,
    Checks,
}

/// One side of a document, which is named by a number.
#[derive(Clone, Debug)]
struct Half {
    side: Side,
    author: u8,
    document: u8,
    amount: i128,
    /// Whether it is the only witness who pays.
    sure: bool,
    step: Step,
}

/// An entry that was taken, and what it left.
struct Done {
    author: u8,
    /// What it puts on the way to somebody else's chain, or takes off it.
    on_the_way: i128,
    state: State,
    entry: Signed<Entry>,
}

/// Chains, and books beside them that know documents and nothing of entries.
struct Market {
    genesis: Genesis,
    pens: BTreeMap<u8, Pen>,
    chains: BTreeMap<u8, Chain>,
    done: Vec<Done>,
    open: Vec<Half>,
    appended: Vec<Half>,
    /// Loans with issuer and borrower.
    lent: Vec<(u8, u8, u8)>,
    documents: u8,
    has: BTreeMap<u8, i128>,
    made: BTreeMap<u8, i128>,
    /// What is owed on an invitation, by each side's chain.
    owed: BTreeMap<(u8, u8), i128>,
    waits: BTreeMap<(u8, u8), Half>,
    stands: BTreeSet<(u8, u8, bool)>,
}

fn whole(amount: Amount) -> i128 {
    assert_eq!(amount.utrm() % 1_000_000, 0);
    i128::from(amount.utrm() / 1_000_000)
}

impl Market {
    fn open(genesis: Genesis) -> Self {
        let pens = NODES.map(|n| (n, Pen::new(&genesis, n)));
        let mut chains = BTreeMap::new();
        let mut done = Vec::new();
        for (author, pen) in &pens {
            let mut chain = Chain::new(genesis.clone(), id(*author));
            chain.append(pen.last()).unwrap();
            done.push(Done {
                author: *author,
                on_the_way: 0,
                state: chain.state().clone(),
                entry: pen.last().clone(),
            });
            chains.insert(*author, chain);
        }
        Self {
            genesis,
            pens: BTreeMap::from(pens),
            chains,
            done,
            open: Vec::new(),
            appended: Vec::new(),
            lent: Vec::new(),
            documents: 0,
            has: NODES.map(|n| (n, 0)).into(),
            made: NODES.map(|n| (n, 0)).into(),
            owed: BTreeMap::new(),
            waits: BTreeMap::new(),
            stands: BTreeSet::new(),
        }
    }

    /// A network after all that.
    fn after(genesis: Genesis, moves: Vec<Move>) -> Self {
        let mut market = Self::open(genesis);
        for one in moves {
            market.does(one);
        }
        market
    }

    fn only_witness(&self) -> bool {
        self.genesis.witnesses.len() == 1
    }

    /// Two halves of a new document.
    fn document(&mut self, amount: i128, sides: [(Side, u8, Step); 2], sure: bool) {
        self.documents += 1;
        for (side, author, step) in sides {
            self.open.push(Half {
                side,
                author,
                document: self.documents,
                amount,
                sure,
                step,
            });
        }
    }

    fn does(&mut self, what: Move) {
        let next = self.documents + 1;
        match what {
            Move::Lend(issuer, borrower) if issuer != borrower => {
                let grant = grant(&self.genesis, (issuer, borrower), next);
                let mints = (Side::Mints, issuer, Step::Mint(grant.clone()));
                let borrows = (Side::Borrows, borrower, Step::Borrow(grant));
                self.lent.push((next, issuer, borrower));
                self.document(LOAN, [mints, borrows], false);
            }
            Move::Trade(provider, consumer, payer, amount)
                if provider != consumer && provider != payer =>
            {
                let mut step = of(&receipt(&self.genesis, (provider, consumer), amount, next));
                if let Step::Trade(trade) = &mut step {
                    trade.payer = id(payer);
                }
                let sides = [
                    (Side::Pays, payer, step.clone()),
                    (Side::Sells, provider, step),
                ];
                let sure = self.only_witness() && [provider, payer].contains(&1);
                self.document(amount.into(), sides, sure);
            }
            Move::Repay(which, amount) if !self.lent.is_empty() => {
                let (invitation, issuer, borrower) = *which.get(&self.lent);
                let part = |other| Repaid {
                    other: id(other),
                    invitation: InvitationId::from_bytes([invitation; 16]),
                    amount: trm(amount.into()),
                    receipt: [0; 32],
                };
                let sides = [
                    (Side::Repays, borrower, Step::Repay(part(issuer))),
                    (Side::Retires, issuer, Step::Retire(part(borrower))),
                ];
                self.document(amount.into(), sides, false);
            }
            Move::Half(which) if !self.open.is_empty() => {
                let half = self.open.remove(which.index(self.open.len()));
                // What cannot be appended now, such as what nobody can pay yet, is tried again.
                if !self.tries(&half) {
                    self.open.push(half);
                }
            }
            Move::Again(which) if !self.appended.is_empty() => {
                let half = which.get(&self.appended).clone();
                self.tries(&half);
            }
            Move::Receive(author) => {
                let first = self.waits.range((author, 0)..=(author, u8::MAX)).next();
                if let Some((_, half)) = first {
                    let half = half.clone();
                    assert!(self.tries(&half));
                    // Once.
                    assert!(!self.tries(&half));
                }
            }
            Move::Checkpoint(author) => {
                let state = self.chains[&author].state().digest();
                let half = Half {
                    side: Side::Checks,
                    author,
                    document: 0,
                    amount: 0,
                    sure: false,
                    step: Step::Checkpoint { state },
                };
                assert!(self.tries(&half));
            }
            _ => {}
        }
    }

    /// The invitation that a half of a repayment is about.
    fn invitation(half: &Half) -> u8 {
        match &half.step {
            Step::Repay(part) | Step::Retire(part) => part.invitation.as_bytes()[0],
            _ => half.document,
        }
    }

    /// Whether the books say that it can stand.
    fn allows(&self, half: &Half) -> bool {
        let (author, document, amount) = (half.author, half.document, half.amount);
        let first = !self
            .stands
            .contains(&(author, document, half.side == Side::Receives));
        let owed = self
            .owed
            .get(&(author, Self::invitation(half)))
            .copied()
            .unwrap_or(0);
        match half.side {
            Side::Pays => first && self.has[&author] >= amount,
            Side::Sells => first,
            // The grant must be an issuer's.
            Side::Borrows => first && self.issues(self.lender(document)) > 0,
            Side::Mints => first && self.made[&author] + amount <= self.issues(author),
            Side::Repays => owed >= amount && self.has[&author] >= amount,
            Side::Retires => owed >= amount,
            Side::Receives => self.waits.contains_key(&(author, document)),
            Side::Checks => true,
        }
    }

    fn lender(&self, loan: u8) -> u8 {
        self.lent.iter().find(|(n, ..)| *n == loan).unwrap().1
    }

    /// What an issuer may make in a day, which all this takes: node 1 of the network with two issuers has a
    /// quota for one loan, everybody else's is far away and twenty loans are a day's most.
    fn issues(&self, issuer: u8) -> i128 {
        match (issuer, self.only_witness()) {
            (1, true) | (4, false) => 20 * LOAN,
            (1, false) => LOAN,
            _ => 0,
        }
    }

    /// Appends a half: the chain must say the same as the books. Whether it was taken.
    fn tries(&mut self, half: &Half) -> bool {
        let allowed = self.allows(half);
        let pen = self.pens.get_mut(&half.author).unwrap();
        let mut entry = pen.next(half.step.clone());
        entry.waits = half.side == Side::Sells && !half.sure;
        pen.balance(&mut entry);
        let signed = Signed::new(entry.clone(), &pen.key);
        let chain = self.chains.get_mut(&half.author).unwrap();
        let before = (chain.state().clone(), chain.head());
        let taken = chain.append(&signed);
        assert_eq!(taken.is_ok(), allowed, "{half:?}: {taken:?}");
        if !allowed {
            assert_eq!((chain.state().clone(), chain.head()), before);
            return false;
        }
        // The same entry once more changes nothing.
        let after = (chain.state().clone(), chain.head());
        assert!(chain.append(&signed).is_err());
        assert_eq!((chain.state().clone(), chain.head()), after);
        pen.put(entry);
        self.books(half);
        self.done.push(Done {
            author: half.author,
            on_the_way: match half.side {
                Side::Pays | Side::Mints | Side::Repays => half.amount,
                Side::Sells | Side::Borrows | Side::Retires => -half.amount,
                Side::Receives | Side::Checks => 0,
            },
            state: after.0,
            entry: signed,
        });
        self.agrees(half.author);
        true
    }

    fn books(&mut self, half: &Half) {
        let (author, document, amount) = (half.author, half.document, half.amount);
        let loan = (author, Self::invitation(half));
        self.stands
            .insert((author, document, half.side == Side::Receives));
        match half.side {
            Side::Pays => *self.has.get_mut(&author).unwrap() -= amount,
            Side::Sells if !half.sure => {
                let Step::Trade(trade) = &half.step else {
                    panic!("{half:?}");
                };
                let step = Step::Receive {
                    payer: trade.payer,
                    receipt: trade.agreement.id(),
                    amount: trm(u64::try_from(amount).unwrap()),
                    debit: EntryId::from_bytes([1; 32]),
                };
                let side = Side::Receives;
                let waits = Half {
                    side,
                    step,
                    ..half.clone()
                };
                self.waits.insert((author, document), waits);
            }
            Side::Sells => *self.has.get_mut(&author).unwrap() += amount,
            Side::Receives => {
                self.waits.remove(&(author, document));
                *self.has.get_mut(&author).unwrap() += amount;
            }
            Side::Mints => {
                *self.made.get_mut(&author).unwrap() += amount;
                self.owed.insert(loan, amount);
            }
            Side::Borrows => {
                *self.has.get_mut(&author).unwrap() += amount;
                self.owed.insert(loan, amount);
            }
            Side::Repays => {
                *self.has.get_mut(&author).unwrap() -= amount;
                *self.owed.get_mut(&loan).unwrap() -= amount;
            }
            Side::Retires => *self.owed.get_mut(&loan).unwrap() -= amount,
            Side::Checks => {}
        }
        if !matches!(half.side, Side::Receives | Side::Checks) {
            self.appended.push(half.clone());
        }
    }

    /// What an entry and its chain say is what the books have.
    fn agrees(&self, author: u8) {
        let state = self.chains[&author].state();
        let says = &self.done.last().unwrap().entry.body;
        assert_eq!(whole(state.spendable), self.has[&author]);
        assert_eq!(says.spendable, state.spendable);
        assert_eq!((says.held, says.staked), (Amount::ZERO, Amount::ZERO));
        assert_eq!((state.held, state.staked), (Amount::ZERO, Amount::ZERO));
        let lent = state.loans.values().filter(|loan| loan.lent);
        let lent: i128 = lent.map(|loan| whole(loan.owed)).sum();
        assert_eq!(lent, whole(state.made) - whole(state.retired));
    }

    /// What a replica has that read so many entries of each chain: nothing is made or lost but by issuers.
    fn adds_up(&self, read: &BTreeMap<u8, usize>) {
        let mut seen = NODES
            .map(|n| (n, 0))
            .into_iter()
            .collect::<BTreeMap<u8, usize>>();
        let mut newest = BTreeMap::new();
        let mut sum = 0;
        for done in &self.done {
            let count = seen.get_mut(&done.author).unwrap();
            *count += 1;
            if *count <= read[&done.author] {
                sum += done.on_the_way;
                newest.insert(done.author, &done.state);
            }
        }
        let mut issued = 0;
        for state in newest.values() {
            let waiting = state.waiting.values().map(|waits| whole(waits.amount));
            sum += whole(state.spendable) + waiting.sum::<i128>();
            issued += whole(state.made) - whole(state.retired);
        }
        assert_eq!(sum, issued, "{read:?}");
    }

    fn lengths(&self) -> BTreeMap<u8, usize> {
        self.pens
            .iter()
            .map(|(n, pen)| (*n, pen.entries.len()))
            .collect()
    }
}

fn node() -> impl Strategy<Value = u8> {
    prop::sample::select(&NODES[..])
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        2 => (prop::sample::select(&[1, 4, 4, 1, 2][..]), node()).prop_map(|(a, b)| Move::Lend(a, b)),
        4 => (node(), node(), node(), 1..700_u32)
            .prop_map(|(provider, consumer, payer, n)| Move::Trade(provider, consumer, payer, n)),
        2 => (any::<Index>(), 1..1_100_u32).prop_map(|(which, n)| Move::Repay(which, n)),
        12 => any::<Index>().prop_map(Move::Half),
        1 => any::<Index>().prop_map(Move::Again),
        2 => node().prop_map(Move::Receive),
        1 => node().prop_map(Move::Checkpoint),
    ];
    prop::collection::vec(one, 1..80)
}

fn network() -> impl Strategy<Value = Genesis> {
    prop_oneof![Just(private()), Just(shared())]
}

/// How much of each chain a replica read, in parts of 100.
fn part() -> impl Strategy<Value = [usize; 4]> {
    prop::array::uniform4(0..=100_usize)
}

/// Numbers that follow from one: `SplitMix64`.
fn dice(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In another order.
fn shuffled<T: Clone>(all: &[T], seed: &mut u64) -> Vec<T> {
    let mut all: Vec<_> = all.iter().map(|one| (dice(seed), one.clone())).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, one)| one).collect()
}

/// Somebody who keeps others' chains, and what proves that one has two.
#[derive(Default)]
struct Replica {
    chains: BTreeMap<NodeId, (Chain, Vec<Signed<Entry>>)>,
    early: Vec<Signed<Entry>>,
    proofs: BTreeMap<NodeId, FraudProof>,
}

impl Replica {
    fn hears(&mut self, genesis: &Genesis, entry: &Signed<Entry>) {
        self.early.push(entry.clone());
        // As long as something follows.
        while self.takes(genesis) {}
    }

    /// Takes one entry that follows, drops what it has, and convicts who shows another.
    fn takes(&mut self, genesis: &Genesis) -> bool {
        for at in 0..self.early.len() {
            let entry = &self.early[at];
            let author = entry.body.author;
            let new = || (Chain::new(genesis.clone(), author), Vec::new());
            let (chain, kept) = self.chains.entry(author).or_insert_with(new);
            let place = usize::try_from(entry.body.seq).unwrap() - 1;
            if let Some(known) = kept.get(place) {
                let entry = self.early.remove(at);
                if known.body.id() != entry.body.id() {
                    let proof = FraudProof::between(known, &entry).unwrap();
                    self.convicts(&proof);
                }
                return true;
            }
            if chain.append(entry).is_ok() {
                kept.push(self.early.remove(at));
                return true;
            }
        }
        false
    }

    fn convicts(&mut self, proof: &FraudProof) {
        assert_eq!(proof.kind, FraudKind::Fork);
        assert_eq!(proof.verify(), Ok(()));
        self.proofs
            .entry(proof.accused)
            .or_insert_with(|| proof.clone());
    }

    /// All it knows of, whether it could take it or not.
    fn shows(&self) -> Vec<Signed<Entry>> {
        let kept = self.chains.values().flat_map(|(_, kept)| kept);
        kept.chain(&self.early).cloned().collect()
    }

    /// Where each chain stands, with all that follows from it.
    fn stands(&self) -> BTreeMap<NodeId, (u64, EntryId, [u8; 32], [u8; 32])> {
        let stands = |chain: &Chain| {
            let (log, state) = (chain.log().root().0, chain.state().digest());
            (chain.seq(), chain.head(), log, state)
        };
        let chains = self.chains.iter();
        chains
            .map(|(author, (chain, _))| (*author, stands(chain)))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// After every entry of every history; for replicas that read any part of each chain; for what two
    /// of them have together; and once every half is appended, nothing is on its way.
    #[test]
    fn what_replicas_have_adds_up_whatever_they_read(
        genesis in network(), moves in moves(), parts in prop::collection::vec(part(), 2..5),
    ) {
        let market = Market::after(genesis, moves);
        let mut read = NODES.map(|n| (n, 0)).into_iter().collect::<BTreeMap<u8, usize>>();
        for done in &market.done {
            *read.get_mut(&done.author).unwrap() += 1;
            market.adds_up(&read);
        }
        let lengths = market.lengths();
        prop_assert_eq!(&read, &lengths);
        let replicas: Vec<BTreeMap<u8, usize>> = parts
            .iter()
            .map(|part| NODES.iter().zip(part).map(|(n, part)| (*n, lengths[n] * part / 100)).collect())
            .collect();
        for one in &replicas {
            market.adds_up(one);
            for other in &replicas {
                market.adds_up(&one.iter().map(|(n, read)| (*n, *read.max(&other[n]))).collect());
            }
        }
    }

    /// Every entry heard of once or twice, in two orders: the same chains, byte for byte.
    #[test]
    fn entries_heard_in_any_order_and_twice_come_to_the_same_states(
        genesis in network(), moves in moves(), seeds in any::<[u64; 2]>(),
    ) {
        let market = Market::after(genesis, moves);
        let mut stands = Vec::new();
        for mut seed in seeds {
            let mut all: Vec<_> = market.done.iter().map(|done| done.entry.clone()).collect();
            let again: Vec<_> = all.iter().filter(|_| dice(&mut seed).is_multiple_of(3)).cloned().collect();
            all.extend(again);
            let mut replica = Replica::default();
            for entry in shuffled(&all, &mut seed) {
                replica.hears(&market.genesis, &entry);
            }
            prop_assert!(replica.early.is_empty() && replica.proofs.is_empty());
            stands.push(replica.stands());
        }
        prop_assert_eq!(&stands[0], &stands[1]);
        for (author, chain) in &market.chains {
            prop_assert_eq!(stands[0][&id(*author)].1, chain.head());
            prop_assert_eq!(stands[0][&id(*author)].3, chain.state().digest());
        }
    }

    /// One author writes on after an entry in two ways and shows each to some: once all have told each other
    /// what they know, all have proof of it. Of everybody else all have the same chain, and no proof.
    #[test]
    fn replicas_come_to_the_same_chain_or_have_proof_of_a_fork(
        genesis in network(), moves in moves(), forker in node(), at in any::<Index>(),
        more in 0..3_u64, mut seed in any::<u64>(),
    ) {
        let market = Market::after(genesis, moves);
        let mut all: Vec<_> = market.done.iter().map(|done| done.entry.clone()).collect();
        let branch = fork(&market.pens[&forker], at, more);
        all.extend(branch);
        let mut replicas: Vec<Replica> = (0..4).map(|_| Replica::default()).collect();
        for entry in shuffled(&all, &mut seed) {
            // One hears of it, or some.
            let who = dice(&mut seed) % 15 + 1;
            for (n, replica) in replicas.iter_mut().enumerate() {
                if who >> n & 1 == 1 {
                    replica.hears(&market.genesis, &entry);
                }
            }
        }
        exchange(&market.genesis, &mut replicas, &mut seed);
        let first = replicas[0].stands();
        for replica in &replicas {
            let accused: Vec<_> = replica.proofs.keys().copied().collect();
            prop_assert_eq!(accused, vec![id(forker)]);
            for (author, stands) in replica.stands() {
                prop_assert!(author == id(forker) || stands == first[&author]);
            }
            for (n, chain) in &market.chains {
                prop_assert!(*n == forker || first[&id(*n)].1 == chain.head());
            }
        }
    }
}

/// Another entry in the place of one, and so many after it.
fn fork(pen: &Pen, at: Index, more: u64) -> Vec<Signed<Entry>> {
    let place = at.index(pen.entries.len());
    let mut entries = Vec::new();
    let mut body = pen.entries[place].body.clone();
    body.hlc += 1;
    entries.push(Signed::new(body, &pen.key));
    let mut chain = Chain::new(pen.genesis.clone(), pen.key.id());
    for entry in &pen.entries[..place] {
        chain.append(entry).unwrap();
    }
    chain.append(&entries[0]).unwrap();
    for n in 1..=more {
        let body = Entry {
            seq: chain.seq() + 1,
            prev: *chain.head().as_bytes(),
            hlc: chain.hlc() + n,
            log_root: chain.log().root(),
            waits: false,
            step: Step::Checkpoint {
                state: chain.state().digest(),
            },
            ..entries[0].body.clone()
        };
        let entry = Signed::new(body, &pen.key);
        chain.append(&entry).unwrap();
        entries.push(entry);
    }
    entries
}

/// Everybody tells everybody what it knows, in some order, until nobody hears anything new.
fn exchange(genesis: &Genesis, replicas: &mut [Replica], seed: &mut u64) {
    for _ in 0..2 {
        for from in 0..replicas.len() {
            let (shows, proofs) = (replicas[from].shows(), replicas[from].proofs.clone());
            for to in (0..replicas.len()).filter(|to| *to != from) {
                for entry in shuffled(&shows, seed) {
                    replicas[to].hears(genesis, &entry);
                }
                for proof in proofs.values() {
                    replicas[to].convicts(proof);
                }
            }
        }
    }
}
