//! Both sides of a job in any order of events, with whatever a hostile peer says in between: no side passes
//! its bound, takes back a promise, or goes on after the end.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the sources are those of the crate")]

#[path = "../../src"]
mod source {
    pub mod proto;
    pub mod net {
        pub mod codec;
    }
}

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use source::proto;
use proto::message::{Begun, Chunk, Frame, SignedBytes};
use proto::{Counted, Terms, buying, selling};
use tirami_manifest::commerce::{Quote, Voucher};
use tirami_manifest::job::{Finish, Message, Role, Sampler};
use tirami_manifest::key::SecretKey;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, ModelId, Multiplier, NetworkId, Timestamp, TransferId};

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

const CARD: ModelCard = ModelCard {
    id: ModelId::from_bytes([5; 32]),
    block_weights: 500_000_000,
    head_weights: 1_000_000_000,
    attention_flop: 0,
    window: 0,
    context: 10_000,
};

fn quote(chunk_tokens: u16, window: u16) -> Quote {
    let usage = Usage {
        tokens_in: 20,
        tokens_cached: 0,
        tokens_out: 60,
    };
    Quote {
        network: NetworkId::from_bytes([9; 32]),
        provider: key(1).id(),
        consumer: key(2).id(),
        card: CARD,
        multiplier: Multiplier::PAR,
        max_in: 20,
        max_out: 60,
        max_amount: CARD.price(usage, Multiplier::PAR).expect("small"),
        chunk_tokens,
        window,
        issued: Timestamp::EPOCH,
        expires: Timestamp::from_ms(u64::MAX),
        nonce: [3; 16],
    }
}

struct Job {
    terms: Terms,
    counted: Counted,
    selling: selling::Selling,
    buying: buying::Buying,
    to_consumer: VecDeque<Frame>,
    to_provider: VecDeque<Frame>,
    promised: Amount,
    kept: Amount,
    begun: bool,
}

impl Job {
    fn sells(&mut self, event: selling::Event) {
        for effect in self.selling.on(event) {
            match effect {
                selling::Effect::Send(frame) => self.to_consumer.push_back(frame),
                selling::Effect::Keep(voucher) => {
                    assert!(voucher.total >= self.kept, "a promise was taken back");
                    self.kept = voucher.total;
                }
                selling::Effect::Begin => {
                    assert!(!self.begun, "it began twice");
                    self.begun = true;
                }
                _ => {}
            }
        }
        if self.terms.streams_payment() {
            assert!(self.selling.unpaid() <= self.terms.ahead());
            assert_eq!(self.selling.vouched(), self.kept);
        }
    }

    fn buys(&mut self, event: buying::Event) {
        for effect in self.buying.on(event) {
            match effect {
                buying::Effect::Vouch(voucher) => {
                    assert!(voucher.total >= self.promised, "a promise was taken back");
                    self.promised = voucher.total;
                    let signed = Signed::new(voucher, &key(2)).to_bytes();
                    self.to_provider.push_back(Frame::Voucher(SignedBytes(signed)));
                }
                buying::Effect::Send(frame) => self.to_provider.push_back(frame),
                _ => {}
            }
        }
        assert!(self.buying.tokens() <= self.terms.max_out);
        // Whatever was said of the prompt, it is no more than was quoted.
        let most = Counted {
            tokens_in: self.terms.max_in,
            tokens_cached: 0,
        };
        let most = self.terms.price(most, self.buying.tokens()).expect("small");
        assert!(self.promised <= most, "{} of {most}", self.promised);
    }

    fn step(&mut self, op: u8, with: u8) {
        match op % 16 {
            0..=2 => {
                if let Some(frame) = self.to_consumer.pop_front() {
                    self.buys(buying::Event::Said(frame));
                }
            }
            3..=5 => {
                if let Some(frame) = self.to_provider.pop_front() {
                    self.sells(selling::Event::Said(frame));
                }
            }
            6 | 7 => {
                let tokens = vec![u32::from(with); usize::from(with % 24)];
                self.sells(selling::Event::Piece { tokens, text: "x".repeat(usize::from(with % 5)) });
            }
            8 => self.sells(selling::Event::Ended {
                usage: Usage {
                    tokens_in: self.counted.tokens_in,
                    tokens_cached: 0,
                    tokens_out: u32::from(with),
                },
                finish: Finish::Stop,
            }),
            9 => self.sells(match with % 4 {
                0 => selling::Event::Closed,
                1 => selling::Event::Lost,
                2 => selling::Event::Overdue,
                _ => selling::Event::TimeUp,
            }),
            10 => self.buys(match with % 4 {
                0 => buying::Event::Closed,
                1 => buying::Event::Cancel,
                2 => buying::Event::Overdue,
                _ => buying::Event::Freeze,
            }),
            // A hostile consumer: a voucher of its own making.
            11 | 12 => {
                let voucher = Voucher {
                    network: self.terms.network,
                    hold: self.terms.hold,
                    lane: u32::from(with == 255),
                    payee: self.terms.provider,
                    seq: u32::from(with % 7),
                    total: self.terms.price(self.counted, u32::from(with % 61)).expect("small"),
                    tokens_out: u32::from(with % 61),
                    transcript: [with; 32],
                };
                let signed = Signed::new(voucher, &key(2)).to_bytes();
                self.sells(selling::Event::Said(Frame::Voucher(SignedBytes(signed))));
            }
            // A hostile provider.
            13 => self.buys(buying::Event::Said(Frame::Begun(Begun {
                tokens_in: u32::from(with % 32),
                tokens_cached: u32::from(with / 32),
            }))),
            14 => self.buys(buying::Event::Said(Frame::Chunk(Chunk {
                index: u32::from(with % 8),
                tokens: vec![7; usize::from(with / 8)],
                text: String::new(),
            }))),
            _ => {
                let frame = if with.is_multiple_of(2) { Frame::Cancel } else { Frame::ListOffers };
                self.sells(selling::Event::Said(frame.clone()));
                self.buys(buying::Event::Said(frame));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [chunk, window, count, ops @ ..] = bytes else {
        return;
    };
    let quote = quote(u16::from(chunk % 40), u16::from(window % 4));
    let terms = Terms::new(&quote, TransferId::from_bytes([7; 16]));
    let messages = [Message {
        role: Role::User,
        content: "a question".into(),
    }];
    let counted = Counted {
        tokens_in: u32::from(count % 21),
        tokens_cached: 0,
    };
    let mut job = Job {
        terms,
        counted,
        selling: selling::Selling::new(terms, &messages),
        buying: buying::Buying::new(&quote, terms, &messages, Sampler::GREEDY),
        to_consumer: VecDeque::new(),
        to_provider: VecDeque::new(),
        promised: Amount::ZERO,
        kept: Amount::ZERO,
        begun: false,
    };
    job.sells(selling::Event::Counted(counted));
    for pair in ops.chunks_exact(2).take(200) {
        if let [op, with] = pair {
            job.step(*op, *with);
        }
    }
});
