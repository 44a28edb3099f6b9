//! A consumer that is spoken for by hand, frame by frame, in a market of honest nodes.

use std::sync::Arc;
use std::time::Duration;

use tirami_agent_runtime::ops::Balance;
use tirami_manifest::commerce::{self, Agreement, Consent, Receipt, Voucher};
use tirami_manifest::job::{Message, PromptShape, Role, Sampler, Transcript};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::{Document, Signed, Verified};
use tirami_manifest::{Amount, TransferId, trm};
use tirami_mesh::engine::Engine;
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::memory::MemoryTransport;
use tirami_mesh::net::transport::{Incoming, LinkReceiver, LinkSender, Transport};
use tirami_mesh::proto::buying::{Buying, Effect, Event};
use tirami_mesh::proto::message::{
    AskQuote, Countersign, Frame, Refuse, RefuseCode, Retry, SignedBytes, Start,
};
use tirami_mesh::proto::{Counted, Terms};
use tirami_wallet::keystore::node_key;

use super::{passes, soon, until};
use crate::run;
use crate::selling::{Market, SMALL};

/// Words of the prompt, and of the answer: the last four are in no chunk that a voucher is due for.
const WORDS: usize = 236;

/// Longer than a provider waits for a voucher.
pub(super) const VOUCHER_LATE: Duration = Duration::from_secs(11);

/// Shorter than a provider waits for a voucher.
pub(super) const VOUCHER_IN_TIME: Duration = Duration::from_secs(9);

/// Longer than a provider waits for a receipt.
const RECEIPT_LATE: Duration = Duration::from_secs(31);

/// One way to cheat a provider while it streams.
pub(super) struct Cheat {
    pub(super) name: &'static str,
    /// What the provider's log says of it, with details.
    pub(super) says: &'static str,
    /// What is said in the place of the third voucher; nothing is paid after it.
    pub(super) word: Word,
}

#[derive(Clone, Copy)]
pub(super) enum Word {
    /// Another voucher than is due.
    Vouch(fn(&mut Voucher)),
    /// The voucher before once more.
    Again,
    /// With somebody else's signature.
    Forged,
    Say(fn() -> Frame),
    Raw(&'static [u8]),
    /// Time passes, and nothing is said.
    Nothing,
    HangUp,
}

/// A founder that sells what `echo` does, and two members.
pub(super) async fn market() -> Market {
    Box::pin(Market::of(Arc::new(Echo), 2)).await
}

pub(super) fn messages() -> Vec<Message> {
    vec![Message {
        role: Role::User,
        content: "word ".repeat(WORDS),
    }]
}

/// The last member of a market, spoken for by hand.
pub(super) struct Consumer {
    pub(super) transport: Arc<MemoryTransport>,
    pub(super) key: SecretKey,
    pub(super) jobs: u8,
    /// Whether it says that a mandate will pay.
    pub(super) under_mandate: bool,
}

/// One job of it.
pub(super) struct Job {
    pub(super) sender: LinkSender,
    pub(super) receiver: LinkReceiver,
    pub(super) quote: Verified<commerce::Quote>,
    pub(super) terms: Terms,
    /// What was vouched for: in all, and tokens.
    pub(super) paid: Amount,
    pub(super) paid_for: u32,
    last: Option<Vec<u8>>,
    /// Tokens that arrived.
    pub(super) received: u32,
    pub(super) proposed: Option<Verified<Agreement>>,
}

impl Consumer {
    pub(super) async fn of(market: &Market) -> Self {
        Self::at(market, market.members.len() - 1).await
    }

    /// In the place of one of the members.
    pub(super) async fn at(market: &Market, member: usize) -> Self {
        market.members[member].shutdown().await;
        let folder = &market.folders[member + 1];
        let key = node_key(&folder.path().join("node.key"), None).unwrap();
        Self {
            transport: Arc::new(market.network.transport(key.id())),
            key,
            jobs: 0,
            under_mandate: false,
        }
    }

    pub(super) fn hold(&self) -> TransferId {
        TransferId::from_bytes([self.jobs; 16])
    }

    pub(super) async fn open(&self, market: &Market) -> (LinkSender, LinkReceiver) {
        let link = self.transport.open(&market.address()).await.unwrap();
        link.split()
    }

    pub(super) async fn quoted(&mut self, market: &Market) -> Job {
        let (sender, receiver) = self.open(market).await;
        let job = self.asks(sender, receiver).await;
        job.unwrap_or_else(|refused| panic!("{refused}"))
    }

    pub(super) async fn asks(
        &mut self,
        mut sender: LinkSender,
        mut receiver: LinkReceiver,
    ) -> Result<Job, Refuse> {
        let ask = AskQuote {
            model: Echo.card().id,
            shape: PromptShape::of(&messages()).unwrap(),
            max_out: 300,
            under_mandate: self.under_mandate,
        };
        sender.send(&Frame::AskQuote(ask)).await.unwrap();
        let quoted = match soon("a quote", receiver.receive()).await.unwrap() {
            Some(Frame::Quoted(quoted)) => quoted.quote,
            Some(Frame::Refuse(refused)) => return Err(refused),
            other => panic!("{other:?}"),
        };
        let quote = Signed::<commerce::Quote>::from_bytes(&quoted).unwrap();
        let provider = quote.body.provider;
        let quote = quote.verify(&provider).unwrap();
        self.jobs += 1;
        Ok(Job {
            sender,
            receiver,
            terms: Terms::new(&quote, self.hold()),
            quote,
            paid: Amount::ZERO,
            paid_for: 0,
            last: None,
            received: 0,
            proposed: None,
        })
    }

    /// Takes an answer, pays for what streams, and goes without a receipt.
    pub(super) async fn leaves_one_unsigned(&mut self, market: &Market) -> Job {
        let mut job = self.quoted(market).await;
        job.start(self).await;
        job.pays(self, None).await;
        job.sender.finish().unwrap();
        let over = async { while matches!(job.receiver.receive().await, Ok(Some(_))) {} };
        soon("the end of a job", over).await;
        job
    }

    /// Buys and pays for one answer as one should.
    pub(super) async fn is_honest_once(&mut self, market: &Market) -> Job {
        let mut job = self.quoted(market).await;
        job.start(self).await;
        job.pays(self, None).await;
        let receipt = job.receipt(&self.key, |_| {});
        job.sender.send(&receipt).await.unwrap();
        let settled = soon("a booking", job.receiver.receive()).await.unwrap();
        assert!(matches!(settled, Some(Frame::Settled(_))), "{settled:?}");
        job
    }
}

impl Job {
    pub(super) fn window(&self) -> u32 {
        u32::from(self.quote.window) * u32::from(self.quote.chunk_tokens)
    }

    pub(super) fn first(&self, consumer: &Consumer) -> Start {
        Start {
            quote: self.quote.id(),
            hold: consumer.hold(),
            messages: messages(),
            sampler: Sampler::GREEDY,
            stop: Vec::new(),
            under: None,
        }
    }

    pub(super) async fn start(&mut self, consumer: &Consumer) {
        let start = Frame::Start(self.first(consumer));
        self.sender.send(&start).await.unwrap();
    }

    /// Pays as one should until something is proposed, or until it cheats.
    pub(super) async fn pays(&mut self, consumer: &Consumer, cheat: Option<&Cheat>) {
        let mut buying = Buying::new(&self.quote, self.terms, &messages(), Sampler::GREEDY);
        let mut vouchers = 0;
        while self.proposed.is_none() {
            let said = soon("a word", self.receiver.receive()).await.unwrap();
            for effect in buying.on(Event::Said(said.expect("the job goes on"))) {
                match effect {
                    Effect::Vouch(voucher) => {
                        self.received = buying.tokens();
                        vouchers += 1;
                        match cheat {
                            Some(cheat) if vouchers == 3 => {
                                return self.cheats(consumer, (voucher, cheat)).await;
                            }
                            _ => self.vouches(consumer, voucher).await,
                        }
                    }
                    Effect::PassOn(_) => {}
                    Effect::Agree(proposal) => self.proposed = Some(*proposal),
                    other => panic!("{other:?}"),
                }
            }
            self.received = buying.tokens();
        }
    }

    /// Pays for one token each time that nothing more comes, just before that is too late. How long it got on
    /// so, and what it was told then.
    pub(super) async fn creeps(&mut self, consumer: &Consumer) -> (Duration, Refuse) {
        let mut transcript = Transcript::start(&self.terms.quote, &messages());
        let mut roots = vec![*transcript.root()];
        let (mut counted, mut seq, mut took) = (Counted::default(), 0, Duration::ZERO);
        loop {
            let waits = match soon("a word", self.receiver.receive()).await.unwrap() {
                Some(Frame::Begun(begun)) => {
                    counted.tokens_in = begun.tokens_in;
                    self.quote.window == 1
                }
                Some(Frame::Chunk(chunk)) => {
                    assert_eq!(chunk.tokens.len(), 1, "a word is a token");
                    transcript.extend(&chunk.tokens, chunk.text.as_bytes());
                    roots.push(*transcript.root());
                    self.received += 1;
                    self.received - self.paid_for == self.window()
                }
                Some(Frame::Refuse(refused)) => return (took, refused),
                other => panic!("{other:?}"),
            };
            if waits {
                some_turns().await;
                passes(VOUCHER_IN_TIME).await;
                took += VOUCHER_IN_TIME;
                // Where it is over now, it is not paid any more.
                some_turns().await;
                tokio::select! {
                    biased;
                    said = self.receiver.receive() => match said.unwrap() {
                        Some(Frame::Refuse(refused)) => return (took, refused),
                        other => panic!("{other:?}"),
                    },
                    () = tokio::task::yield_now() => {}
                }
                seq += 1;
                let tokens_out = if self.received == 0 {
                    0
                } else {
                    self.paid_for + 1
                };
                let voucher = Voucher {
                    network: self.terms.network,
                    hold: self.terms.hold,
                    lane: 0,
                    payee: self.terms.provider,
                    seq,
                    total: self.terms.price(counted, tokens_out).unwrap(),
                    tokens_out,
                    transcript: roots[usize::try_from(tokens_out).unwrap()],
                };
                self.vouches(consumer, voucher).await;
            }
        }
    }

    async fn vouches(&mut self, consumer: &Consumer, voucher: Voucher) {
        (self.paid, self.paid_for) = (voucher.total, voucher.tokens_out);
        let bytes = Signed::new(voucher, &consumer.key).to_bytes();
        self.last = Some(bytes.clone());
        let voucher = Frame::Voucher(SignedBytes(bytes));
        self.sender.send(&voucher).await.unwrap();
    }

    /// Cheats, and takes what still comes.
    async fn cheats(&mut self, consumer: &Consumer, (mut voucher, cheat): (Voucher, &Cheat)) {
        let signed = |bytes| Frame::Voucher(SignedBytes(bytes));
        let said = match cheat.word {
            Word::Vouch(change) => {
                change(&mut voucher);
                signed(Signed::new(voucher, &consumer.key).to_bytes())
            }
            Word::Again => signed(self.last.clone().unwrap()),
            Word::Forged => {
                let other = SecretKey::from_bytes(&[67; 32]);
                signed(Signed::new(voucher, &other).to_bytes())
            }
            Word::Say(frame) => frame(),
            Word::Raw(bytes) => {
                self.sender.send_raw(bytes.to_vec()).await.unwrap();
                return self.takes_the_rest(cheat.name).await;
            }
            Word::Nothing => {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                passes(VOUCHER_LATE).await;
                return self.takes_the_rest(cheat.name).await;
            }
            Word::HangUp => {
                self.sender.finish().unwrap();
                return self.takes_the_rest(cheat.name).await;
            }
        };
        self.sender.send(&said).await.unwrap();
        self.takes_the_rest(cheat.name).await;
    }

    async fn takes_the_rest(&mut self, what: &str) {
        let rest = async {
            while let Ok(Some(frame)) = self.receiver.receive().await {
                if let Frame::Chunk(chunk) = frame {
                    self.received += u32::try_from(chunk.tokens.len()).unwrap();
                }
            }
        };
        soon(what, rest).await;
    }

    /// The proposal countersigned, changed in some way.
    pub(super) fn receipt(&self, signer: &SecretKey, change: impl FnOnce(&mut Agreement)) -> Frame {
        let proposal = self.proposed.as_ref().unwrap();
        let Signed { body, signature } = proposal.signed().clone();
        let mut receipt = Receipt {
            quote: self.quote.signed().clone(),
            consent: Consent::Signature(body.sign(signer)),
            agreement: body,
            provider_signature: signature,
        };
        change(&mut receipt.agreement);
        Frame::Countersign(Countersign {
            receipt: receipt.to_bytes(),
        })
    }

    /// Says this, again and again, while half a minute passes. Whether the provider gives up then.
    pub(super) async fn ends_with(&mut self, word: Option<Frame>) -> bool {
        for _ in 0..4 {
            if let Some(word) = &word
                && self.sender.send(word).await.is_err()
            {
                break;
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            passes(RECEIPT_LATE / 3).await;
        }
        let over = async { while matches!(self.receiver.receive().await, Ok(Some(_))) {} };
        tokio::time::timeout(Duration::from_secs(5), over)
            .await
            .is_ok()
    }

    pub(super) async fn is_refused(&mut self, code: RefuseCode, says: &str, what: &str) {
        let refused = loop {
            match soon(what, self.receiver.receive()).await.unwrap() {
                Some(Frame::Refuse(refused)) => break refused,
                Some(Frame::Begun(_)) => {}
                other => panic!("{what}: {other:?}"),
            }
        };
        assert_eq!(refused.code, code, "{what}: {refused}");
        assert!(refused.message.contains(says), "{what}: {refused}");
        assert_eq!(
            refused.retry == Retry::Never,
            code != RefuseCode::QuoteExpired
        );
    }
}

/// Lets everybody do what there is to do.
pub(super) async fn some_turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Answers every claim with no.
pub(super) async fn disowns(transport: Arc<MemoryTransport>) {
    while let Some(Incoming { mut link, .. }) = transport.accept().await {
        let no = Frame::Refuse(Refuse {
            code: RefuseCode::BadRequest,
            message: "never heard of it".into(),
            retry: Retry::Never,
        });
        if let Ok(Some(Frame::Claim(_))) = link.receive().await {
            drop(link.send(&no).await);
        }
    }
}

/// Waits until the founder has earned so much, and asserts that the consumer's account, which it keeps, paid
/// just that.
pub(super) async fn has_earned(market: &Market, earned: Amount, what: &str) {
    let founder = until(what, async || {
        let founder = run(&market.founder, Balance {}).await.unwrap();
        let held = founder.members.iter().any(|one| !one.trm_held.is_zero());
        (!held && founder.trm_earned >= earned).then_some(founder)
    })
    .await;
    assert_eq!(founder.trm_earned, earned, "{what}");
    let consumer = founder.members.iter().map(|one| one.trm_balance).min();
    assert_eq!(consumer, trm!("1000").checked_sub(earned), "{what}");
}

/// Asserts that the honest member buys as before, and that all books hold.
pub(super) async fn others_trade(market: &Market, what: &str) {
    let bought = soon(what, Box::pin(market.buy())).await;
    let answer = bought.unwrap_or_else(|failure| panic!("{what}: {failure}"));
    assert_eq!(answer.trm_cost, SMALL, "{what}");
    for node in [&market.founder, market.members.first().unwrap()] {
        assert!(crate::holds(node).await, "{what}");
    }
}
