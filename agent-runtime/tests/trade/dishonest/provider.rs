//! A provider that is spoken for by hand, word by word, beside a pair of honest nodes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tirami_agent_runtime::ops::{Balance, ChatOutput, MakeTicket};
use tirami_manifest::commerce::{Agreement, Quote, Receipt, Voucher};
use tirami_manifest::job::{Finish, Transcript};
use tirami_manifest::key::SecretKey;
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::ticket::Ticket;
use tirami_manifest::{Amount, Multiplier, NetworkId, NodeId, Timestamp, TransferId, trm};
use tirami_mesh::engine::Engine;
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::codec::{self};
use tirami_mesh::net::memory::MemoryTransport;
use tirami_mesh::net::transport::{Incoming, Link, LinkReceiver, LinkSender, PeerAddr, Transport};
use tirami_mesh::proto::message::{
    Begun, Chunk, Countersign, Frame, Offer, Offers, Pace, Propose, Quoted, Refuse, RefuseCode,
    Retry, Start,
};
use tokio::sync::Notify;

use super::{passes, soon, until};
use crate::{Pair, chat, holds, run};

/// What is asked: 21 tokens with the role, answered with 20.
pub(super) const PROMPT: &str = "a b c d e f g h i j k l m n o p q r s t";
pub(super) const TOKENS_IN: u32 = 21;
pub(super) const TOKENS_OUT: u32 = 20;

/// What the cheater asks relative to par.
const HALF: Multiplier = Multiplier::from_ppm(500_000);

/// Tokens of a chunk, and chunks without a voucher.
const WINDOW: (u16, u16) = (8, 1);

/// Longer than a provider may take for a price, and shorter than it waits for a consumer to take one.
const SHORT: Duration = Duration::from_secs(6);

/// Longer than a provider may say nothing to a consumer.
const LONG: Duration = Duration::from_secs(61);

/// Shorter than that.
const DAWDLE: Duration = Duration::from_secs(50);

/// What a provider does in a job, one after the other.
#[derive(Clone)]
pub(super) enum Word {
    /// Answers the question for a price.
    Quote(fn(&mut Quote)),
    /// The same, with somebody else's signature.
    ForgedQuote,
    /// Waits for the prompt.
    Started,
    Say(Frame),
    Raw(Vec<u8>),
    /// Waits for a voucher.
    Paid,
    /// Proposes what it said so far, changed in some way.
    Propose(fn(&mut Agreement)),
    /// The same, with somebody else's signature.
    ForgedProposal,
    /// Waits for the receipt.
    Signed,
    Settle,
    /// Says nothing until the consumer is gone.
    Nothing,
    /// Says nothing for almost as long as it may.
    Dawdle,
    /// Waits until it is told to go on, and the consumer has done what it does by itself.
    Wait,
    /// Claims by the last voucher, on another stream.
    Claim,
}

/// Of the words of an honest provider: see [`honest`].
pub(super) const QUOTE: usize = 0;
pub(super) const BEGUN: usize = 2;
pub(super) const FIRST: usize = 4;
pub(super) const SECOND: usize = 6;
pub(super) const LAST: usize = 8;
pub(super) const PROPOSAL: usize = 9;

pub(super) fn honest() -> Vec<Word> {
    let begun = Begun {
        tokens_in: TOKENS_IN,
        tokens_cached: 0,
    };
    vec![
        Word::Quote(|_| {}),
        Word::Started,
        Word::Say(Frame::Begun(begun)),
        Word::Paid,
        chunk(0),
        Word::Paid,
        chunk(1),
        Word::Paid,
        chunk(2),
        Word::Propose(|_| {}),
        Word::Signed,
        Word::Settle,
    ]
}

/// The words of the answer: eight, eight and four.
pub(super) fn chunk(index: u32) -> Word {
    let words = PROMPT.split_inclusive(' ');
    let first = usize::try_from(index).unwrap() * 8;
    let text: Vec<&str> = words.skip(first).take(8).collect();
    say(index, text.len(), &text.concat())
}

pub(super) fn say(index: u32, tokens: usize, text: &str) -> Word {
    let (tokens, text) = (vec![7; tokens], text.to_owned());
    Word::Say(Frame::Chunk(Chunk {
        index,
        tokens,
        text,
    }))
}

pub(super) fn begun(tokens_in: u32, tokens_cached: u32) -> Word {
    Word::Say(Frame::Begun(Begun {
        tokens_in,
        tokens_cached,
    }))
}

pub(super) fn refuse() -> Word {
    Word::Say(Frame::Refuse(Refuse {
        code: RefuseCode::Internal,
        message: "not any more".into(),
        retry: Retry::Never,
    }))
}

pub(super) fn no_time() -> Word {
    Word::Say(Frame::Refuse(Refuse {
        code: RefuseCode::Busy,
        message: "no time".into(),
        retry: Retry::Later,
    }))
}

/// The bytes of a chunk, changed in some way.
pub(super) fn bytes(change: impl FnOnce(&mut Vec<u8>)) -> Word {
    let Word::Say(frame) = chunk(0) else {
        unreachable!("a chunk is said");
    };
    let mut bytes = codec::encode(&frame).unwrap();
    change(&mut bytes);
    Word::Raw(bytes)
}

/// What the card says that so many tokens cost.
pub(super) fn price(tokens_out: u32) -> Amount {
    let usage = Usage {
        tokens_in: TOKENS_IN,
        tokens_cached: 0,
        tokens_out,
    };
    Echo.card().price(usage, HALF).unwrap()
}

/// Makes FLOP and amount follow from the tokens again.
pub(super) fn priced(agreement: &mut Agreement) {
    agreement.kflop = Echo.card().kflop(agreement.usage).unwrap();
    agreement.amount = agreement.multiplier.price(agreement.kflop).unwrap();
}

/// What a cheater has in hand after a job.
#[derive(Clone, Default)]
pub(super) struct Got {
    pub(super) quote: Option<Verified<Quote>>,
    pub(super) hold: Option<TransferId>,
    pub(super) vouchers: Vec<Signed<Voucher>>,
    transcript: Option<Transcript>,
    /// Tokens that it sent.
    pub(super) sent: u32,
    /// What was answered to a claim while the job ran.
    pub(super) answered: Option<Frame>,
}

/// A provider that does what its words say.
#[derive(Clone)]
pub(super) struct Provider {
    pub(super) key: SecretKey,
    wire: Arc<MemoryTransport>,
    consumer: NodeId,
    network: NetworkId,
    pub(super) words: Arc<Mutex<Vec<Word>>>,
    pub(super) got: Arc<Mutex<Got>>,
    /// Told each time that it says nothing.
    silent: Arc<Notify>,
    /// Told that it may go on.
    go_on: Arc<Notify>,
}

impl Provider {
    /// One that the member of the pair is connected with, and so asks what it sells.
    pub(super) async fn beside(pair: &Pair, words: Vec<Word>) -> Self {
        let key = SecretKey::from_bytes(&[66; 32]);
        let wire = Arc::new(pair.network.transport(key.id()));
        let ticket = run(&pair.founder, MakeTicket {}).await.unwrap().ticket;
        let ticket: Ticket = ticket.parse().unwrap();
        let provider = Self {
            key,
            wire,
            consumer: pair.member.node(),
            network: ticket.genesis.id(),
            words: Arc::new(Mutex::new(words)),
            got: Arc::default(),
            silent: Arc::default(),
            go_on: Arc::default(),
        };
        drop(provider.open().await);
        tokio::spawn(provider.clone().serve());
        provider
    }

    /// Ends a [`Word::Wait`].
    pub(super) fn goes_on(&self) {
        self.go_on.notify_one();
    }

    /// Forgets the last job, for the next one.
    pub(super) fn forgets(&self) {
        *self.got.lock().unwrap() = Got::default();
    }

    async fn open(&self) -> Link {
        let to = PeerAddr {
            id: self.consumer,
            addresses: Vec::new(),
        };
        self.wire.open(&to).await.unwrap()
    }

    /// Asks the consumer something on a stream of its own.
    pub(super) async fn ask(&self, frame: &Frame) -> Frame {
        let mut link = self.open().await;
        link.send(frame).await.unwrap();
        let answer = soon("an answer", link.receive()).await.unwrap();
        answer.expect("an answer")
    }

    async fn serve(self) {
        while let Some(Incoming { mut link, .. }) = self.wire.accept().await {
            let mut wanted = None;
            while let Ok(Some(frame)) = link.receive().await {
                match frame {
                    Frame::ListOffers => drop(link.send(&Self::offers()).await),
                    Frame::AskQuote(asked) => {
                        wanted = Some(asked.max_out);
                        break;
                    }
                    _ => break,
                }
            }
            if let Some(max_out) = wanted {
                // Where the consumer hears no more, the job is over.
                let _ended: Option<()> = self.job(link, max_out).await;
            }
        }
    }

    /// Does something; each time that this provider says nothing, time passes at once: a minute in a job, and
    /// before it so little that the other provider's price still stands.
    pub(super) async fn while_time_passes<T>(&self, done: impl Future<Output = T>) -> T {
        let time = async {
            loop {
                self.silent.notified().await;
                // What was said before is heard first.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                let begun = self.got.lock().unwrap().hold.is_some();
                passes(if begun { LONG } else { SHORT }).await;
            }
        };
        tokio::select! {
            done = done => done,
            () = time => unreachable!("it goes on"),
        }
    }

    fn offers() -> Frame {
        let offer = Offer {
            name: "bargain".into(),
            card: Echo.card(),
            multiplier: HALF,
            waiting: 0,
        };
        Frame::Offers(Offers {
            offers: vec![offer],
        })
    }

    async fn job(&self, link: Link, max_out: u32) -> Option<()> {
        let words = self.words.lock().unwrap().clone();
        let (mut sender, mut receiver) = link.split();
        for word in words {
            let frame = match word {
                Word::Quote(change) => self.quote(max_out, change, &self.key),
                Word::ForgedQuote => self.quote(max_out, |_| {}, &SecretKey::from_bytes(&[67; 32])),
                Word::Started => {
                    let Ok(Some(Frame::Start(start))) = receiver.receive().await else {
                        return None;
                    };
                    self.started(&start);
                    continue;
                }
                Word::Say(frame) => {
                    self.said(&frame);
                    frame
                }
                Word::Raw(bytes) => {
                    sender.send_raw(bytes).await.ok()?;
                    continue;
                }
                Word::Paid | Word::Signed => {
                    self.hears(&mut receiver).await?;
                    continue;
                }
                Word::Propose(change) => self.propose(change, &self.key)?,
                Word::ForgedProposal => self.propose(|_| {}, &SecretKey::from_bytes(&[67; 32]))?,
                Word::Settle => self.settled()?,
                Word::Claim => {
                    let receipt = self.claim()?.to_bytes();
                    let claim = Frame::Claim(Countersign { receipt });
                    let answer = self.ask(&claim).await;
                    self.got.lock().unwrap().answered = Some(answer);
                    continue;
                }
                Word::Dawdle => {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    passes(DAWDLE).await;
                    continue;
                }
                Word::Wait => {
                    self.go_on.notified().await;
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    continue;
                }
                Word::Nothing => {
                    self.silent.notify_one();
                    while self.hears(&mut receiver).await.is_some() {}
                    continue;
                }
            };
            send(&mut sender, &frame).await?;
        }
        sender.finish().ok()
    }

    /// Takes what the consumer says next, and keeps a voucher.
    async fn hears(&self, receiver: &mut LinkReceiver) -> Option<()> {
        if let Frame::Voucher(bytes) = receiver.receive().await.ok()?? {
            let voucher = Signed::<Voucher>::from_bytes(&bytes.0).unwrap();
            self.got.lock().unwrap().vouchers.push(voucher);
        }
        Some(())
    }

    fn quote(&self, max_out: u32, change: fn(&mut Quote), by: &SecretKey) -> Frame {
        let (max_in, card) = (TOKENS_IN, Echo.card());
        let usage = Usage {
            tokens_in: max_in,
            tokens_cached: 0,
            tokens_out: max_out,
        };
        let mut quote = Quote {
            network: self.network,
            provider: self.key.id(),
            consumer: self.consumer,
            card,
            multiplier: HALF,
            max_in,
            max_out,
            max_amount: card.price(usage, HALF).unwrap(),
            chunk_tokens: WINDOW.0,
            window: WINDOW.1,
            issued: Timestamp::EPOCH,
            expires: Timestamp::from_ms(u64::MAX),
            nonce: [7; 16],
        };
        change(&mut quote);
        let signed = Signed::new(quote, by);
        let quote = signed.to_bytes();
        self.got.lock().unwrap().quote = signed.verify(&self.key.id()).ok();
        Frame::Quoted(Quoted {
            quote,
            pace: Pace::default(),
        })
    }

    fn started(&self, start: &Start) {
        let mut got = self.got.lock().unwrap();
        got.hold = Some(start.hold);
        got.transcript = Some(Transcript::start(&start.quote, &start.messages));
    }

    fn said(&self, frame: &Frame) {
        let mut got = self.got.lock().unwrap();
        if let (Frame::Chunk(chunk), Some(mut transcript)) = (frame, got.transcript) {
            transcript.extend(&chunk.tokens, chunk.text.as_bytes());
            got.transcript = Some(transcript);
            got.sent += u32::try_from(chunk.tokens.len()).unwrap();
        }
    }

    fn propose(&self, change: fn(&mut Agreement), signer: &SecretKey) -> Option<Frame> {
        let got = self.got.lock().unwrap().clone();
        let mut agreement = got.agreement(got.sent, *got.transcript?.root())?;
        change(&mut agreement);
        let agreement = Signed::new(agreement, signer).to_bytes();
        Some(Frame::Propose(Propose { agreement }))
    }

    fn settled(&self) -> Option<Frame> {
        let got = self.got.lock().unwrap().clone();
        let agreement = got.agreement(got.sent, *got.transcript?.root())?;
        Some(Frame::Settled(agreement.id()))
    }

    /// What it claims by the last voucher that it has.
    pub(super) fn claim(&self) -> Option<Receipt> {
        let got = self.got.lock().unwrap().clone();
        let voucher = got.vouchers.last()?.clone();
        got.claim(&voucher, &self.key)
    }
}

impl Got {
    /// What an honest provider would propose for so many tokens.
    pub(super) fn agreement(&self, tokens_out: u32, transcript: [u8; 32]) -> Option<Agreement> {
        let quote = self.quote.as_ref()?;
        let mut agreement = Agreement {
            network: quote.network,
            provider: quote.provider,
            consumer: quote.consumer,
            nonce: [8; 16],
            quote: quote.id(),
            hold: self.hold?,
            model: quote.card.id,
            usage: Usage {
                tokens_in: TOKENS_IN,
                tokens_cached: 0,
                tokens_out,
            },
            kflop: 0,
            multiplier: quote.multiplier,
            earlier: Amount::ZERO,
            amount: Amount::ZERO,
            transcript,
            seed: 0,
            temperature_milli: 0,
            top_k: 0,
            lane: 0,
            voucher_seq: u32::try_from(self.vouchers.len()).unwrap(),
            audit_ok: false,
            engine_fingerprint: [0; 8],
            started_hlc: 0,
            ended_hlc: 0,
            finish: Finish::Stop,
        };
        priced(&mut agreement);
        Some(agreement)
    }

    /// What a voucher pays for.
    pub(super) fn claim(&self, voucher: &Signed<Voucher>, key: &SecretKey) -> Option<Receipt> {
        let mut agreement = self.agreement(voucher.body.tokens_out, voucher.body.transcript)?;
        agreement.voucher_seq = voucher.body.seq;
        agreement.finish = Finish::Cancelled;
        let quote = self.quote.as_ref()?;
        Some(Receipt::claim(quote, agreement, voucher.clone(), key))
    }
}

async fn send(sender: &mut LinkSender, frame: &Frame) -> Option<()> {
    sender.send(frame).await.ok()
}

/// Buys what the cheater offers; time passes while it says nothing.
pub(super) async fn buy(pair: &Pair, cheater: &Provider, what: &str) -> ChatOutput {
    let mut request = chat(PROMPT);
    request.max_tokens = Some(TOKENS_OUT);
    request.idempotency_key = Some("k".into());
    let bought = cheater.while_time_passes(run(&pair.member, request));
    let bought = soon(what, Box::pin(bought)).await;
    bought.unwrap_or_else(|failure| panic!("{what}: {failure}"))
}

/// Asserts what the cheater was paid and what the request cost in all, on both sides.
pub(super) async fn balanced(pair: &Pair, (cheater, in_all): (Amount, Amount), what: &str) {
    let honest = in_all.checked_sub(cheater).unwrap();
    until(what, async || {
        let seller = run(&pair.founder, Balance {}).await.unwrap();
        (seller.trm_earned == honest).then_some(())
    })
    .await;
    let buyer = run(&pair.member, Balance {}).await.unwrap();
    let nothing = (Amount::ZERO, Amount::ZERO);
    assert_eq!((buyer.trm_held, buyer.trm_unclaimed), nothing, "{what}");
    let left = trm!("1000").checked_sub(in_all).unwrap();
    assert_eq!(buyer.trm_balance, left, "{what}");
    assert!(holds(&pair.member).await, "{what}");
    assert!(holds(&pair.founder).await, "{what}");
}
