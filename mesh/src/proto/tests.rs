//! Both sides of a job against each other, cut at every message: nobody loses more than is stated.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use tirami_manifest::commerce::{Agreement, Quote, Voucher};
use tirami_manifest::job::{Finish, Message, Role, Sampler};
use tirami_manifest::key::SecretKey;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{Amount, ModelId, Multiplier, NetworkId, Timestamp, TransferId};

use super::buying::{self, Buying};
use super::message::{Frame, Propose, Retry, SignedBytes};
use super::selling::{self, Outcome, Selling, Why};
use super::terms::{Counted, Terms};

const PROVIDER: [u8; 32] = [1; 32];
const CONSUMER: [u8; 32] = [2; 32];
const HOLD: TransferId = TransferId::from_bytes([7; 16]);

fn key(secret: [u8; 32]) -> SecretKey {
    SecretKey::from_bytes(&secret)
}

/// A model of which a token of prompt costs 1 TRM and one of the answer 3.
const CARD: ModelCard = ModelCard {
    id: ModelId::from_bytes([5; 32]),
    block_weights: 500_000_000,
    head_weights: 1_000_000_000,
    attention_flop: 0,
    window: 0,
    context: 10_000,
};

fn quote(chunk_tokens: u16, window: u16) -> Verified<Quote> {
    let usage = Usage {
        tokens_in: 20,
        tokens_cached: 0,
        tokens_out: 100,
    };
    let quote = Quote {
        network: NetworkId::from_bytes([9; 32]),
        provider: key(PROVIDER).id(),
        consumer: key(CONSUMER).id(),
        card: CARD,
        multiplier: Multiplier::PAR,
        max_in: 20,
        max_out: 100,
        max_amount: CARD.price(usage, Multiplier::PAR).unwrap(),
        chunk_tokens,
        window,
        issued: Timestamp::EPOCH,
        expires: Timestamp::from_ms(u64::MAX),
        nonce: [3; 16],
    };
    let signed = Signed::new(quote, &key(PROVIDER));
    signed.verify(&key(PROVIDER).id()).unwrap()
}

/// Both sides of one job, the wires between them, and what each has signed or stored.
struct Job {
    quote: Verified<Quote>,
    terms: Terms,
    selling: Selling,
    buying: Buying,
    /// What the engine will make, and whether it may begin.
    pieces: VecDeque<Vec<u32>>,
    begun: bool,
    stopped: bool,
    made: u32,
    to_consumer: VecDeque<Frame>,
    to_provider: VecDeque<Frame>,
    /// What each side has of vouchers: sent, and kept.
    promised: Amount,
    kept: Option<Verified<Voucher>>,
    proposed: Option<Outcome>,
    over: Option<Why>,
    agreed: Option<Verified<Agreement>>,
    failed: Option<String>,
}

/// How a pipe of messages stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Agreed,
    Cut,
    Stuck,
}

const TOKENS_IN: u32 = 11;

impl Job {
    fn new((chunk, window): (u16, u16), pieces: &[usize]) -> Self {
        let quote = quote(chunk, window);
        let messages = [Message {
            role: Role::User,
            content: "a question".into(),
        }];
        let terms = Terms::new(&quote, HOLD);
        Self {
            selling: Selling::new(terms, &messages),
            buying: Buying::new(&quote, terms, &messages, Sampler::GREEDY),
            quote,
            terms,
            pieces: pieces.iter().map(|n| vec![4; *n]).collect(),
            begun: false,
            stopped: false,
            made: 0,
            to_consumer: VecDeque::new(),
            to_provider: VecDeque::new(),
            promised: Amount::ZERO,
            kept: None,
            proposed: None,
            over: None,
            agreed: None,
            failed: None,
        }
    }

    const fn counted() -> Counted {
        Counted {
            tokens_in: TOKENS_IN,
            tokens_cached: 0,
        }
    }

    fn sells(&mut self, event: selling::Event) {
        for effect in self.selling.on(event) {
            match effect {
                selling::Effect::Send(frame) => self.to_consumer.push_back(frame),
                selling::Effect::Begin => self.begun = true,
                selling::Effect::Stop => self.stopped = true,
                selling::Effect::Keep(voucher) => {
                    let before = self.kept.as_ref().map_or(Amount::ZERO, |v| v.total);
                    assert!(voucher.total >= before, "a voucher takes nothing back");
                    self.kept = Some(*voucher);
                }
                selling::Effect::Propose(outcome) => {
                    self.proposed = Some(outcome);
                    let agreement = self.agreement(outcome);
                    let agreement = Signed::new(agreement, &key(PROVIDER)).to_bytes();
                    self.to_consumer
                        .push_back(Frame::Propose(Propose { agreement }));
                }
                selling::Effect::Over(why) => self.over = Some(why),
            }
        }
        let bound = self.terms.ahead();
        if self.terms.streams_payment() {
            assert!(
                self.selling.unpaid() <= bound,
                "{} sent unpaid",
                self.selling.unpaid()
            );
        }
    }

    fn agreement(&self, outcome: Outcome) -> Agreement {
        let kflop = CARD.kflop(outcome.usage).unwrap();
        Agreement {
            network: self.quote.network,
            provider: self.quote.provider,
            consumer: self.quote.consumer,
            nonce: [8; 16],
            quote: self.quote.id(),
            hold: HOLD,
            model: CARD.id,
            usage: outcome.usage,
            kflop,
            multiplier: Multiplier::PAR,
            earlier: Amount::ZERO,
            amount: Multiplier::PAR.price(kflop).unwrap(),
            transcript: outcome.transcript,
            seed: 0,
            temperature_milli: 0,
            top_k: 0,
            lane: 0,
            voucher_seq: outcome.voucher_seq,
            audit_ok: false,
            engine_fingerprint: [0; 8],
            started_hlc: 0,
            ended_hlc: 0,
            finish: outcome.finish,
        }
    }

    fn buys(&mut self, event: buying::Event) {
        for effect in self.buying.on(event) {
            match effect {
                buying::Effect::Vouch(voucher) => {
                    assert!(voucher.total >= self.promised, "nothing is taken back");
                    let received = self.terms.price(Self::counted(), self.buying.tokens());
                    assert!(
                        voucher.total <= received.unwrap(),
                        "only what arrived is promised"
                    );
                    self.promised = voucher.total;
                    let signed = Signed::new(voucher, &key(CONSUMER));
                    self.to_provider
                        .push_back(Frame::Voucher(SignedBytes(signed.to_bytes())));
                }
                buying::Effect::PassOn(_) => {}
                buying::Effect::Send(frame) => self.to_provider.push_back(frame),
                buying::Effect::Agree(agreement) => self.agreed = Some(*agreement),
                buying::Effect::Refused(refuse) => self.failed = Some(refuse.to_string()),
                buying::Effect::CalledOff => self.failed = Some("called off".into()),
                buying::Effect::Gone => self.failed = Some("gone".into()),
                buying::Effect::Overdue => self.failed = Some("overdue".into()),
                buying::Effect::Broke(what) => self.failed = Some(what),
            }
        }
    }

    /// Lets the engine make one piece, if it is asked for one.
    fn makes(&mut self) -> bool {
        if !self.begun || self.stopped || !self.selling.wants_more() {
            return false;
        }
        if let Some(tokens) = self.pieces.pop_front() {
            self.made += u32::try_from(tokens.len()).unwrap();
            let text = "x".repeat(tokens.len());
            self.sells(selling::Event::Piece { tokens, text });
        } else {
            let usage = Usage {
                tokens_in: TOKENS_IN,
                tokens_cached: 0,
                tokens_out: self.made,
            };
            let finish = Finish::Stop;
            self.sells(selling::Event::Ended { usage, finish });
        }
        true
    }

    /// Goes on until the end, or until `messages` have arrived; then the wire is cut. `first` says whose
    /// messages arrive first.
    fn run(&mut self, messages: usize, mut first: impl FnMut() -> bool) -> End {
        self.sells(selling::Event::Counted(Self::counted()));
        let mut arrived = 0;
        loop {
            if self.agreed.is_some() {
                return End::Agreed;
            }
            if arrived == messages {
                return End::Cut;
            }
            let turn = first();
            let word = if turn {
                self.to_consumer.pop_front().map(|frame| (true, frame))
            } else {
                self.to_provider.pop_front().map(|frame| (false, frame))
            };
            match word {
                Some((true, frame)) => {
                    arrived += 1;
                    self.buys(buying::Event::Said(frame));
                }
                Some((false, frame)) => {
                    arrived += 1;
                    self.sells(selling::Event::Said(frame));
                }
                None if self.makes() => {}
                None if self.to_consumer.is_empty() && self.to_provider.is_empty() => {
                    return End::Stuck;
                }
                None => {}
            }
        }
    }

    /// What each side lost when the wire is cut here: tokens at the provider, money at the consumer.
    fn bounds_hold(&mut self) {
        self.sells(selling::Event::Lost);
        let kept = self.kept.as_ref();
        assert!(kept.map_or(Amount::ZERO, |v| v.total) <= self.promised);
        let paid = kept.map_or(0, |voucher| voucher.tokens_out);
        if self.terms.streams_payment() {
            // What was sent and what is claimed differ by the window at most.
            assert!(self.selling.unpaid() <= self.terms.ahead());
            assert!(self.buying.tokens().saturating_sub(paid) <= self.terms.ahead());
        }
        let received = self.terms.price(Self::counted(), self.buying.tokens());
        let prefill = self.terms.price(Self::counted(), 0).unwrap();
        let most = received.unwrap().max(prefill);
        assert!(self.promised <= most, "{} promised", self.promised);
        if self.proposed.is_none() {
            assert!(self.over.is_some(), "the provider knows that it is over");
        }
    }
}

fn in_turn() -> impl FnMut() -> bool {
    let mut turn = false;
    move || {
        turn = !turn;
        turn
    }
}

const TERMS: [(u16, u16); 6] = [(8, 1), (32, 2), (1, 1), (3, 2), (100, 1), (0, 0)];

#[test]
fn a_job_comes_to_its_end_whatever_the_pieces_are() {
    for terms in TERMS {
        for pieces in [&[][..], &[1; 30], &[7, 1, 13, 2], &[60], &[0, 3, 0, 0, 9]] {
            let mut job = Job::new(terms, pieces);
            let end = job.run(usize::MAX, in_turn());
            assert_eq!(
                (end, &job.failed),
                (End::Agreed, &None),
                "{terms:?} {pieces:?}"
            );
            let agreement = job.agreed.unwrap();
            let tokens: usize = pieces.iter().sum();
            assert_eq!(usize::try_from(agreement.usage.tokens_out), Ok(tokens));
            assert!(agreement.amount >= job.promised);
        }
    }
}

#[test]
fn cut_at_every_message_nobody_loses_more_than_is_stated() {
    for terms in TERMS {
        for pieces in [&[1; 30][..], &[7, 1, 13, 2], &[60]] {
            for messages in 0.. {
                let mut job = Job::new(terms, pieces);
                let end = job.run(messages, in_turn());
                if end == End::Agreed {
                    break;
                }
                assert_eq!(end, End::Cut, "{terms:?} {pieces:?} {messages}");
                job.bounds_hold();
            }
        }
    }
}

#[test]
fn what_is_called_off_costs_what_arrived_and_no_more() {
    for terms in TERMS {
        for messages in 0..40 {
            let mut job = Job::new(terms, &[1; 30]);
            if job.run(messages, in_turn()) != End::Cut {
                continue;
            }
            job.buys(buying::Event::Cancel);
            let arrived = job.buying.tokens();
            // Nothing is counted twice: the job goes on from here.
            let end = loop {
                let word = job.to_provider.pop_front();
                if let Some(word) = word {
                    job.sells(selling::Event::Said(word));
                } else if let Some(word) = job.to_consumer.pop_front() {
                    job.buys(buying::Event::Said(word));
                } else if job.over == Some(Why::CalledOff) {
                    job.buys(buying::Event::Closed);
                    break End::Cut;
                } else if job.agreed.is_some() {
                    break End::Agreed;
                } else if terms.1 == 0 {
                    let usage = Usage {
                        tokens_in: TOKENS_IN,
                        tokens_cached: 0,
                        tokens_out: job.made,
                    };
                    let finish = Finish::Cancelled;
                    job.sells(selling::Event::Ended { usage, finish });
                } else {
                    break End::Stuck;
                }
            };
            assert_ne!(end, End::Stuck, "{terms:?} {messages}");
            match &job.agreed {
                Some(agreement) if terms.1 > 0 && agreement.finish == Finish::Cancelled => {
                    assert_eq!(agreement.amount, job.promised);
                    assert_eq!(agreement.usage.tokens_out, arrived);
                }
                Some(_) => {}
                None => assert_eq!(job.promised, Amount::ZERO),
            }
        }
    }
}

/// A fault in a voucher.
type Change = (&'static str, fn(&mut Voucher));

/// What may not be sent as the next voucher, and whether it is one all the same.
#[test]
fn a_voucher_that_does_not_fit_ends_the_job_and_the_last_one_counts() {
    let change: [Change; 9] = [
        ("another hold", |v| v.hold = TransferId::from_bytes([8; 16])),
        ("another lane", |v| v.lane = 1),
        ("another payee", |v| v.payee = key(CONSUMER).id()),
        ("another network", |v| {
            v.network = NetworkId::from_bytes([0; 32]);
        }),
        ("a number left out", |v| v.seq += 1),
        ("less", |v| {
            v.total = v.total.saturating_sub(Amount::from_trm(1));
        }),
        ("more", |v| {
            v.total = v.total.checked_add(Amount::from_trm(1)).unwrap();
        }),
        ("other tokens", |v| v.tokens_out += 1),
        ("another transcript", |v| v.transcript = [0; 32]),
    ];
    for (what, change) in change {
        let mut job = with_a_voucher_on_its_way();
        let last = job.kept.clone().unwrap();
        let Some(Frame::Voucher(bytes)) = job.to_provider.pop_front() else {
            panic!("{what}: a voucher is due");
        };
        let mut voucher = Signed::<Voucher>::from_bytes(&bytes.0).unwrap().body;
        change(&mut voucher);
        let signed = Signed::new(voucher, &key(CONSUMER)).to_bytes();
        job.sells(selling::Event::Said(Frame::Voucher(SignedBytes(signed))));
        assert!(
            matches!(job.over, Some(Why::Fault(_))),
            "{what}: {:?}",
            job.over
        );
        assert_eq!(job.kept, Some(last), "{what}");
    }
    // Nor one that somebody else signed, or the same again.
    let mut job = with_a_voucher_on_its_way();
    let again = job.kept.clone().unwrap().signed().clone();
    job.sells(selling::Event::Said(Frame::Voucher(SignedBytes(
        again.to_bytes(),
    ))));
    assert!(matches!(job.over, Some(Why::Fault(_))));
    let mut job = with_a_voucher_on_its_way();
    let Some(Frame::Voucher(bytes)) = job.to_provider.pop_front() else {
        panic!("a voucher is due");
    };
    let body = Signed::<Voucher>::from_bytes(&bytes.0).unwrap().body;
    let forged = Signed::new(body, &key(PROVIDER)).to_bytes();
    job.sells(selling::Event::Said(Frame::Voucher(SignedBytes(forged))));
    assert!(matches!(job.over, Some(Why::Fault(_))));
}

/// A job of which a voucher was kept, and the next one is on its way.
fn with_a_voucher_on_its_way() -> Job {
    for messages in 0.. {
        let mut job = Job::new((4, 1), &[1; 30]);
        assert_eq!(job.run(messages, in_turn()), End::Cut);
        if job.kept.is_some() && matches!(job.to_provider.front(), Some(Frame::Voucher(_))) {
            return job;
        }
    }
    unreachable!("a job has more than one voucher")
}

#[test]
fn a_consumer_that_stops_paying_gets_no_more_than_the_window() {
    for terms @ (chunk, window) in [(8, 1), (32, 2), (3, 2)] {
        let mut job = Job::new(terms, &[1; 90]);
        job.sells(selling::Event::Counted(Job::counted()));
        if window == 1 {
            assert!(!job.makes(), "the prompt is not read before it is paid for");
            assert!(job.selling.waits_for_voucher());
            while let Some(word) = job.to_consumer.pop_front() {
                job.buys(buying::Event::Said(word));
            }
            let word = job.to_provider.pop_front().unwrap();
            job.sells(selling::Event::Said(word));
        }
        while job.makes() {}
        assert_eq!(job.selling.unpaid(), u32::from(chunk) * u32::from(window));
        assert!(job.selling.waits_for_voucher());
        job.sells(selling::Event::TimeUp);
        assert_eq!(job.over, Some(Why::Unpaid));
        assert!(job.stopped);
    }
}

/// A job that creeps: each voucher is for one token more, and comes in time.
#[test]
fn a_job_that_takes_as_long_as_it_may_is_over_and_what_was_vouched_for_counts() {
    let mut job = Job::new((8, 1), &[1; 90]);
    assert_eq!(job.terms.lasts(), Duration::from_secs(5 * 60 + 1 + 100));
    assert_eq!(job.run(24, in_turn()), End::Cut);
    let kept = job.kept.clone().unwrap();
    assert!(kept.tokens_out > 0 && !job.stopped);
    job.sells(selling::Event::Overdue);
    assert_eq!((job.over, job.stopped), (Some(Why::Overdue), true));
    assert_eq!((job.kept, job.proposed), (Some(kept), None));
    let Some(Frame::Refuse(refused)) = job.to_consumer.back() else {
        panic!("the consumer is told");
    };
    assert_eq!(refused.retry, Retry::Later, "{refused}");
    assert!(refused.message.contains("401 s"), "{refused}");
    // It may come before the first voucher, and after the proposal, which stands.
    let mut job = Job::new((8, 1), &[1; 90]);
    job.sells(selling::Event::Overdue);
    assert_eq!((job.over, job.kept), (Some(Why::Overdue), None));
    let mut job = Job::new((8, 1), &[4]);
    assert_eq!(job.run(usize::MAX, in_turn()), End::Agreed);
    job.sells(selling::Event::Overdue);
    assert_eq!(job.over, None);
}

#[test]
fn what_is_paid_by_receipt_alone_is_proposed_as_far_as_it_came_in_all_its_time() {
    let mut job = Job::new((0, 0), &[1; 90]);
    assert_eq!(job.run(30, in_turn()), End::Cut);
    job.sells(selling::Event::Overdue);
    assert_eq!((job.over, job.stopped), (None, true));
    let usage = Usage {
        tokens_in: TOKENS_IN,
        tokens_cached: 0,
        tokens_out: job.made,
    };
    let finish = Finish::Cancelled;
    job.sells(selling::Event::Ended { usage, finish });
    while let Some(word) = job.to_consumer.pop_front() {
        job.buys(buying::Event::Said(word));
    }
    let agreed = job.agreed.unwrap();
    assert_eq!((agreed.usage, agreed.finish), (usage, Finish::Cancelled));
}

#[test]
fn a_consumer_that_calls_a_job_off_again_and_again_is_heard_once() {
    let mut job = Job::new((0, 0), &[1; 90]);
    assert_eq!(job.run(30, in_turn()), End::Cut);
    job.sells(selling::Event::Said(Frame::Cancel));
    assert_eq!((job.over, job.stopped), (None, true));
    job.sells(selling::Event::Said(Frame::Cancel));
    assert_eq!(job.over, Some(Why::Fault("called it off twice")));
    // Ours says it once, whatever the reasons.
    let mut job = Job::new((8, 1), &[1; 90]);
    assert_eq!(job.run(24, in_turn()), End::Cut);
    job.to_provider.clear();
    for why in [
        buying::Event::Cancel,
        buying::Event::Freeze,
        buying::Event::Cancel,
    ] {
        job.buys(why);
    }
    let said = job
        .to_provider
        .iter()
        .filter(|frame| **frame == Frame::Cancel);
    assert_eq!(said.count(), 1);
}

#[test]
fn a_consumer_leaves_a_job_that_took_as_long_as_it_may_and_promises_nothing_more() {
    let mut job = Job::new((8, 1), &[1; 90]);
    assert_eq!(job.run(24, in_turn()), End::Cut);
    let promised = job.promised;
    job.buys(buying::Event::Overdue);
    assert_eq!(job.failed.as_deref(), Some("overdue"));
    while let Some(word) = job.to_consumer.pop_front() {
        job.buys(buying::Event::Said(word));
    }
    assert_eq!((job.promised, job.agreed), (promised, None));
}

proptest! {
    #[test]
    fn in_any_order_and_cut_anywhere_the_bounds_hold(
        chunk in 1_u16..40,
        window in 1_u16..4,
        pieces in prop::collection::vec(0_usize..20, 0..12),
        messages in 0_usize..80,
        order in prop::collection::vec(any::<bool>(), 1..64),
    ) {
        prop_assume!(pieces.iter().sum::<usize>() <= 100);
        let mut job = Job::new((chunk, window), &pieces);
        let mut turns = order.iter().cycle();
        let both = order.contains(&true) && order.contains(&false);
        prop_assume!(both);
        let end = job.run(messages, || *turns.next().unwrap());
        prop_assert_ne!(end, End::Stuck);
        prop_assert_eq!(&job.failed, &None);
        if end == End::Cut {
            job.bounds_hold();
        }
    }
}
