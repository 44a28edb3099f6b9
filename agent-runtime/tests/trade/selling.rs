//! How a node sells, as its owner set it: price, hours, pauses, caps, places and buyers.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tirami_agent_runtime::ops::{
    Balance, Buyers, ChangeServe, Chat, ChatOutput, Earnings, EarningsOutput, Join, MakeTicket,
    Models, Operation, Quote, Serve, ServeOutput,
};
use tirami_agent_runtime::{Builder, Failure, FailureCode, NodeConfig, Runtime};
use tirami_manifest::commerce;
use tirami_manifest::job::{Finish, Message, PromptShape, Sampler};
use tirami_manifest::key::SecretKey;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::Signed;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, ModelId, NodeId, Timestamp, TransferId, trm};
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::engine::{self, Engine, EngineError, Feed, Job, Piece, Run};
use tirami_mesh::net::memory::{MemoryNetwork, MemoryTransport};
use tirami_mesh::net::transport::{Link, PeerAddr, Transport};
use tirami_mesh::proto::Terms;
use tirami_mesh::proto::buying::{Buying, Effect, Event};
use tirami_mesh::proto::message::{AskQuote, Frame, Refuse, RefuseCode, Retry, SignedBytes, Start};
use tirami_wallet::keystore::node_key;

use super::{chat, holds, me, node, run};

const HOUR_MS: u64 = 3_600_000;

/// Tokens that the slow engine finds in every prompt.
const PROMPT_TOKENS: u32 = 2;

/// The hold of which a wire pays.
const HOLD: TransferId = TransferId::from_bytes([1; 16]);

/// An engine that works on each job until it is told to end it.
#[derive(Debug, Default)]
struct Slow(Mutex<Vec<Feed>>);

impl Engine for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn card(&self) -> ModelCard {
        Echo.card()
    }

    fn fingerprint(&self) -> [u8; 8] {
        [7; 8]
    }

    fn max_in(&self, shape: &PromptShape) -> Result<u32, EngineError> {
        Echo.max_in(shape)
    }

    fn count<'a>(
        &'a self,
        _: &'a [Message],
    ) -> Pin<Box<dyn Future<Output = Result<u32, EngineError>> + Send + 'a>> {
        Box::pin(std::future::ready(Ok(PROMPT_TOKENS)))
    }

    fn start(&self, _: Job) -> Result<Run, EngineError> {
        let (feed, run) = Run::channel();
        self.0.lock().unwrap().push(feed);
        Ok(run)
    }
}

impl Slow {
    /// Ends the job that was started first: with one token.
    async fn end_one(&self) {
        let feed = self.0.lock().unwrap().remove(0);
        let piece = Piece {
            tokens: vec![1],
            text: "done".into(),
        };
        assert!(feed.send(Ok(engine::Event::Piece(piece))).await);
        let usage = Usage {
            tokens_in: PROMPT_TOKENS,
            tokens_cached: 0,
            tokens_out: 1,
        };
        let finish = Finish::Stop;
        assert!(feed.send(Ok(engine::Event::End { usage, finish })).await);
    }
}

/// A founder that sells and members that buy.
pub(crate) struct Market {
    pub(crate) founder: Runtime,
    engine: Arc<Slow>,
    pub(crate) members: Vec<Runtime>,
    pub(crate) network: MemoryNetwork,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folders: Vec<tempfile::TempDir>,
}

/// 2027-01-15, a Friday, 08:00 UTC.
const FRIDAY_8: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn config(folder: &tempfile::TempDir) -> NodeConfig {
    let mut config = NodeConfig::new(folder.path());
    config.load_file = folder.path().join("loadavg");
    config
}

/// The node that sells, with this engine.
async fn seller(
    network: &MemoryNetwork,
    clock: &Arc<ManualClock>,
    folder: &tempfile::TempDir,
    engine: Arc<dyn Engine>,
) -> Runtime {
    let key = node_key(&folder.path().join("node.key"), None).unwrap();
    Builder::new(config(folder))
        .clock(clock.clone())
        .transport(Arc::new(network.transport(key.id())))
        .engine(engine)
        .start()
        .await
        .unwrap()
}

impl Market {
    /// One whose seller answers at once.
    async fn echoing() -> Self {
        Self::of(Arc::new(Echo), 1).await
    }

    /// One whose seller works until it is told to end, with that many members.
    async fn slow(members: usize) -> Self {
        let engine = Arc::new(Slow::default());
        let mut market = Self::of(engine.clone(), members).await;
        market.engine = engine;
        market
    }

    pub(crate) async fn of(engine: Arc<dyn Engine>, count: usize) -> Self {
        let clock = Arc::new(ManualClock::at(FRIDAY_8));
        let network = MemoryNetwork::new();
        let folder = tempfile::tempdir().unwrap();
        let founder = seller(&network, &clock, &folder, engine).await;
        let mut folders = vec![folder];
        let mut members = Vec::new();
        for _ in 0..count {
            let folder = tempfile::tempdir().unwrap();
            let member = node(&network, &clock, &folder, false).await;
            let ticket = run(&founder, MakeTicket {}).await.unwrap().ticket;
            run(&member, Join { ticket }).await.unwrap();
            members.push(member);
            folders.push(folder);
        }
        Self {
            founder,
            engine: Arc::default(),
            members,
            network,
            clock,
            folders,
        }
    }

    fn member(&self) -> &Runtime {
        self.members.first().unwrap()
    }

    pub(crate) async fn set(&self, change: ChangeServe) -> ServeOutput {
        run(&self.founder, change).await.unwrap()
    }

    pub(crate) async fn serve(&self) -> ServeOutput {
        run(&self.founder, Serve {}).await.unwrap()
    }

    async fn earnings(&self) -> EarningsOutput {
        run(&self.founder, Earnings {}).await.unwrap()
    }

    /// A chat of three words and three tokens.
    pub(crate) async fn buy(&self) -> Result<ChatOutput, Failure> {
        run(self.member(), small()).await
    }

    /// The same, until it is answered.
    fn begin(&self, member: usize) -> tokio::task::JoinHandle<Result<ChatOutput, Failure>> {
        let member = self.members.get(member).unwrap().clone();
        tokio::spawn(async move { run(&member, small()).await })
    }

    /// Waits until so many jobs run and wait at the seller.
    async fn until(&self, running: u32, waiting: u32) {
        let there = async {
            loop {
                let serve = self.serve().await;
                if (serve.running, serve.waiting) == (running, waiting) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let there = tokio::time::timeout(Duration::from_secs(20), there);
        there.await.unwrap();
    }

    pub(crate) async fn everybodys_books_hold(&self) {
        assert!(holds(&self.founder).await);
        for member in &self.members {
            assert!(holds(member).await);
        }
    }
}

fn small() -> Chat {
    let mut small = chat("one two three");
    small.max_tokens = Some(3);
    small
}

/// What one [`small`] costs with `Echo`, and what it may cost.
pub(crate) const SMALL: Amount = trm!("0.009");

/// Asserts that nobody sells, and what is said about it.
#[track_caller]
fn closed(outcome: Result<ChatOutput, Failure>, retryable: bool, says: &[&str]) {
    let failure = outcome.unwrap_err();
    assert_eq!(failure.code, FailureCode::NoProvider, "{failure}");
    assert_eq!(failure.retryable, retryable, "{failure}");
    for part in says {
        assert!(failure.message.contains(part), "'{part}': {failure}");
    }
}

#[tokio::test]
async fn the_price_rises_with_what_is_taken_and_is_the_same_for_every_reader() {
    let market = Market::slow(2).await;
    market.set(ChangeServe::Slots { count: 2 }).await;
    market.set(ChangeServe::Queue { count: 2 }).await;
    let price = ChangeServe::Price {
        min_ppm: 1_000_000,
        max_ppm: 2_000_000,
    };
    market.set(price).await;
    let mut begun = Vec::new();
    let steps = [
        (0, 0, 1_000_000),
        (1, 0, 1_250_000),
        (2, 0, 1_500_000),
        (2, 1, 1_750_000),
    ];
    for (running, waiting, ppm) in steps {
        market.until(running, waiting).await;
        for member in &market.members {
            let models = run(member, Models {}).await.unwrap().models;
            let offered = models.first().unwrap().multiplier_ppm;
            assert_eq!(offered, ppm, "{running} {waiting}");
        }
        // Who saw a lower offer a moment ago is still quoted that; after a while nobody did.
        market.clock.advance_ms(20_000);
        for member in &market.members {
            let quote = Quote {
                prompt: "one two three".into(),
                model: None,
                max_tokens: Some(3),
            };
            let quoted = run(member, quote).await.unwrap().multiplier_ppm;
            assert_eq!(quoted, ppm, "{running} {waiting}");
        }
        assert_eq!(market.serve().await.price_ppm, ppm);
        begun.push((ppm, market.begin(begun.len() % 2)));
    }
    market.until(2, 2).await;
    assert_eq!(market.serve().await.price_ppm, 2_000_000);
    // Each pays what it was quoted, and the price falls again.
    market.engine_has_begun().await;
    for (ppm, begun) in begun {
        market.engine.end_one().await;
        let answer = begun.await.unwrap().unwrap();
        // Two tokens in, one out, of which the last is not processed again.
        let cost = trm!("0.003").utrm() * u64::from(ppm) / 1_000_000;
        assert_eq!(answer.trm_cost.utrm(), cost, "{ppm}");
        // The one that waits next has its turn before it is told to end.
        tokio::task::yield_now().await;
        while market.serve().await.waiting > 0 && market.serve().await.running < 2 {
            tokio::task::yield_now().await;
        }
        market.engine_has_begun().await;
    }
    market.until(0, 0).await;
    assert_eq!(market.serve().await.price_ppm, 1_000_000);
    market.everybodys_books_hold().await;
}

impl Market {
    /// Waits until the engine has begun every job that has a slot.
    async fn engine_has_begun(&self) {
        let begun = async {
            loop {
                let running = usize::try_from(self.serve().await.running).unwrap();
                if self.engine.0.lock().unwrap().len() == running {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let begun = tokio::time::timeout(Duration::from_secs(20), begun);
        begun.await.unwrap();
    }
}

#[tokio::test]
async fn a_quote_holds_what_was_offered_although_the_node_became_busier_meanwhile() {
    let market = Market::slow(2).await;
    market.set(ChangeServe::Slots { count: 1 }).await;
    market.set(ChangeServe::Queue { count: 1 }).await;
    let price = ChangeServe::Price {
        min_ppm: 1_000_000,
        max_ppm: 2_000_000,
    };
    market.set(price).await;
    let mut wire = Wire::of(&market).await;
    // Everybody sees the price of a node with nothing to do; then somebody takes the slot.
    run(market.member(), Models {}).await.unwrap();
    let first = market.begin(0);
    market.until(1, 0).await;
    assert_eq!(wire.quote().await.unwrap().multiplier.ppm(), 1_000_000);
    market.clock.advance_ms(20_000);
    assert_eq!(wire.quote().await.unwrap().multiplier.ppm(), 1_500_000);
    market.engine_has_begun().await;
    market.engine.end_one().await;
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_too_many_is_told_to_come_back_and_the_others_go_on() {
    let market = Market::slow(3).await;
    market.set(ChangeServe::Slots { count: 1 }).await;
    market.set(ChangeServe::Queue { count: 1 }).await;
    let first = market.begin(0);
    market.until(1, 0).await;
    let second = market.begin(1);
    market.until(1, 1).await;
    let refused = market.begin(2).await.unwrap().unwrap_err();
    assert_eq!(refused.code, FailureCode::Busy, "{refused}");
    assert!(refused.retryable, "{refused}");
    let says = "every place for a job is taken; ask again in ";
    assert!(refused.message.contains(says), "{refused}");
    for begun in [first, second] {
        market.engine_has_begun().await;
        market.engine.end_one().await;
        begun.await.unwrap().unwrap();
    }
    market.until(0, 0).await;
    let again = market.begin(2);
    market.until(1, 0).await;
    market.engine_has_begun().await;
    market.engine.end_one().await;
    again.await.unwrap().unwrap();
    market.everybodys_books_hold().await;
}

#[tokio::test]
async fn a_paused_node_sells_nothing_and_ends_what_runs() {
    let market = Market::slow(2).await;
    let running = market.begin(0);
    market.until(1, 0).await;
    market.engine_has_begun().await;
    let serve = market.set(ChangeServe::Pause {}).await;
    assert!(!serve.selling, "{serve:?}");
    let refused = market.begin(1).await.unwrap();
    closed(
        refused,
        true,
        &["selling is paused until its owner resumes it"],
    );
    market.engine.end_one().await;
    running.await.unwrap().unwrap();
    // Its own work goes on.
    let founder = market.founder.clone();
    let own = tokio::spawn(async move { run(&founder, small()).await });
    while market.engine.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    market.engine.end_one().await;
    assert!(own.await.unwrap().unwrap().local);
    // With an end it ends by itself.
    let until = FRIDAY_8.after_ms(HOUR_MS);
    let serve = market.set(ChangeServe::PauseUntil { until }).await;
    assert_eq!(serve.opens_at, Some("2027-01-15T09:00:00.000Z".to_owned()));
    let refused = market.begin(1).await.unwrap();
    let says = ["until 2027-01-15T09:00:00.000Z", "ask again in 3600 s"];
    closed(refused, true, &says);
    market.clock.advance_ms(HOUR_MS);
    assert!(market.serve().await.selling);
    market.set(ChangeServe::Pause {}).await;
    assert!(market.set(ChangeServe::Resume {}).await.selling);
    let resumed = market.begin(1);
    market.until(1, 0).await;
    market.engine_has_begun().await;
    market.engine.end_one().await;
    resumed.await.unwrap().unwrap();
    market.everybodys_books_hold().await;
}

#[tokio::test]
async fn a_node_sells_in_its_hours() {
    let market = Market::echoing().await;
    let hours = vec!["22:00-07:00".to_owned()];
    let serve = market.set(ChangeServe::Schedule { hours }).await;
    assert_eq!(serve.schedule, ["22:00-07:00"]);
    let again = "sells again from 2027-01-15T22:00:00.000Z on";
    closed(market.buy().await, true, &[again]);
    assert_eq!(serve.opens_at, Some("2027-01-15T22:00:00.000Z".to_owned()));
    market.clock.advance_ms(14 * HOUR_MS);
    market.buy().await.unwrap();
    market.clock.advance_ms(9 * HOUR_MS - 1);
    market.buy().await.unwrap();
    market.clock.advance_ms(1);
    closed(market.buy().await, true, &["2027-01-16T22:00:00.000Z"]);
    market.set(ChangeServe::Schedule { hours: vec![] }).await;
    market.buy().await.unwrap();
}

#[tokio::test]
async fn a_node_sells_no_more_in_a_day_than_its_owner_wants_and_again_the_next() {
    let market = Market::echoing().await;
    // One job may cost 0.019, and costs 0.009.
    market
        .set(ChangeServe::DailyCap { trm: trm!("0.025") })
        .await;
    assert_eq!(market.buy().await.unwrap().trm_cost, SMALL);
    let refused = market.buy().await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Busy, "{refused}");
    let says = "of what this node sells in a day 0.016 TRM are left, and this may cost 0.019 TRM";
    assert!(refused.message.contains(says), "{refused}");
    let serve = market.set(ChangeServe::DailyCap { trm: SMALL }).await;
    assert!(!serve.selling);
    assert_eq!(serve.trm_earned_24h, SMALL);
    // 08:00 begins a quarter of an hour; what was earned in it counts for a day after its end.
    closed(
        market.buy().await,
        true,
        &[
            "has sold what it sells in a day",
            "2027-01-16T08:15:00.000Z",
        ],
    );
    market.clock.advance_ms(24 * HOUR_MS + 14 * 60_000);
    closed(market.buy().await, true, &["ask again in 60 s"]);
    market.clock.advance_ms(60_000);
    market
        .set(ChangeServe::DailyCap { trm: trm!("0.03") })
        .await;
    assert_eq!(market.buy().await.unwrap().trm_cost, SMALL);
    assert_eq!(market.serve().await.trm_earned_24h, SMALL);
    market.set(ChangeServe::DailyCapOff {}).await;
    market.buy().await.unwrap();
    market.everybodys_books_hold().await;
}

#[tokio::test]
async fn the_days_cap_counts_the_jobs_that_run_at_their_most() {
    let market = Market::slow(2).await;
    market
        .set(ChangeServe::DailyCap { trm: trm!("0.03") })
        .await;
    let first = market.begin(0);
    market.until(1, 0).await;
    assert!(market.serve().await.trm_under_way > Amount::ZERO);
    let refused = market.begin(1).await.unwrap().unwrap_err();
    assert_eq!(refused.code, FailureCode::Busy, "{refused}");
    assert!(refused.message.contains("TRM are left"), "{refused}");
    market.engine_has_begun().await;
    market.engine.end_one().await;
    first.await.unwrap().unwrap();
    // What it did not cost is free again.
    market.until(0, 0).await;
    while market.serve().await.trm_under_way > Amount::ZERO {
        tokio::task::yield_now().await;
    }
    let second = market.begin(1);
    market.until(1, 0).await;
    market.engine_has_begun().await;
    market.engine.end_one().await;
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_sells_to_the_buyers_its_owner_chose() {
    let market = Market::echoing().await;
    let list = |node: NodeId| ChangeServe::Buyers {
        who: Buyers::List([node].into()),
    };
    market.set(list(NodeId::from_bytes([9; 32]))).await;
    closed(
        market.buy().await,
        false,
        &["not_member", "sells only to buyers that its owner chose"],
    );
    market.set(list(market.member().node())).await;
    market.buy().await.unwrap();
    let who = Buyers::Members;
    market.set(ChangeServe::Buyers { who }).await;
    market.buy().await.unwrap();
    // Somebody who is no member is told nothing but that.
    market.set(ChangeServe::Pause {}).await;
    let stranger = SecretKey::from_bytes(&[77; 32]);
    let wire = market.network.transport(stranger.id());
    let mut link = wire.open(&market.address()).await.unwrap();
    link.send(&Frame::ListOffers).await.unwrap();
    let Some(Frame::Refuse(refused)) = link.receive().await.unwrap() else {
        panic!("offers to a stranger");
    };
    assert_eq!(
        (refused.code, refused.retry),
        (RefuseCode::NotMember, Retry::Never)
    );
    market.everybodys_books_hold().await;
}

#[tokio::test]
async fn a_node_sells_nothing_while_its_machine_is_busy() {
    let market = Market::echoing().await;
    let busy = || ChangeServe::Busy { percent: 50 };
    let refused = run(&market.founder, busy()).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::InvalidInput, "{refused}");
    let says = "this system does not say how busy it is";
    assert!(refused.message.contains(says), "{refused}");
    let file = config(&market.folders[0]).load_file;
    std::fs::write(&file, "999.50 1.00 1.00 1/1 1\n").unwrap();
    market.set(busy()).await;
    closed(
        market.buy().await,
        true,
        &["the machine is busy with other work", "ask again in 60 s"],
    );
    std::fs::write(&file, "0.01 1.00 1.00 1/1 1\n").unwrap();
    market.buy().await.unwrap();
    std::fs::write(&file, "999.50 1.00 1.00 1/1 1\n").unwrap();
    market.set(ChangeServe::BusyOff {}).await;
    market.buy().await.unwrap();
}

/// Somebody who speaks the protocol by hand, in the place of the last member.
pub(super) struct Wire {
    /// Its links end with it.
    _transport: MemoryTransport,
    pub(super) link: Link,
    key: SecretKey,
    model: ModelId,
}

impl Market {
    pub(crate) fn address(&self) -> PeerAddr {
        PeerAddr {
            id: self.founder.node(),
            addresses: self.founder.addresses(),
        }
    }
}

impl Wire {
    async fn of(market: &Market) -> Self {
        market.members.last().unwrap().shutdown().await;
        let folder = market.folders.last().unwrap();
        let key = node_key(&folder.path().join("node.key"), None).unwrap();
        Self::to(&market.network, key, &market.address()).await
    }

    /// Plays the node with this key, towards a seller.
    pub(super) async fn to(network: &MemoryNetwork, key: SecretKey, seller: &PeerAddr) -> Self {
        let transport = network.transport(key.id());
        let link = transport.open(seller).await.unwrap();
        Self {
            _transport: transport,
            link,
            key,
            model: Echo.card().id,
        }
    }

    pub(super) async fn quote(&mut self) -> Result<commerce::Quote, Refuse> {
        let ask = AskQuote {
            model: self.model,
            shape: PromptShape::of(&small().messages).unwrap(),
            max_out: 3,
            under_mandate: false,
        };
        self.link.send(&Frame::AskQuote(ask)).await.unwrap();
        match self.link.receive().await.unwrap() {
            Some(Frame::Quoted(quoted)) => {
                let quote = Signed::<commerce::Quote>::from_bytes(&quoted.quote);
                Ok(quote.unwrap().body)
            }
            Some(Frame::Refuse(refused)) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn start(&mut self, quote: &commerce::Quote) {
        let start = Start {
            quote: quote.id(),
            hold: HOLD,
            messages: small().messages,
            sampler: Sampler::GREEDY,
            stop: Vec::new(),
            under: None,
        };
        self.link.send(&Frame::Start(start)).await.unwrap();
    }

    /// Pays for what was started, until it is proposed; says nothing to that.
    async fn pay(&mut self, quote: &commerce::Quote) {
        let terms = Terms::new(quote, HOLD);
        let mut buying = Buying::new(quote, terms, &small().messages, Sampler::GREEDY);
        while let Some(frame) = self.link.receive().await.unwrap() {
            for effect in buying.on(Event::Said(frame)) {
                match effect {
                    Effect::Vouch(voucher) => {
                        let voucher = Signed::new(voucher, &self.key).to_bytes();
                        let voucher = Frame::Voucher(SignedBytes(voucher));
                        self.link.send(&voucher).await.unwrap();
                    }
                    Effect::PassOn(_) => {}
                    Effect::Agree(_) => return,
                    other => panic!("{other:?}"),
                }
            }
        }
        panic!("nothing was proposed");
    }
}

#[tokio::test]
async fn who_never_signs_keeps_no_slot_but_its_price_counts_until_it_is_given_up() {
    let market = Market::of(Arc::new(Echo), 2).await;
    market.set(ChangeServe::Slots { count: 1 }).await;
    market.set(ChangeServe::Queue { count: 0 }).await;
    let mut wire = Wire::of(&market).await;
    let quote = wire.quote().await.unwrap();
    wire.start(&quote).await;
    wire.pay(&quote).await;
    market.until(0, 0).await;
    assert_eq!(market.serve().await.trm_under_way, quote.max_amount);
    market.buy().await.unwrap();
    drop(wire);
    let given_up = async {
        while !market.serve().await.trm_under_way.is_zero() {
            tokio::task::yield_now().await;
        }
    };
    let given_up = tokio::time::timeout(Duration::from_secs(20), given_up);
    given_up.await.unwrap();
}

#[tokio::test]
async fn a_pause_stops_a_job_that_was_quoted_and_not_begun() {
    let market = Market::echoing().await;
    let mut wire = Wire::of(&market).await;
    let quote = wire.quote().await.unwrap();
    market.set(ChangeServe::Pause {}).await;
    wire.start(&quote).await;
    let Some(Frame::Refuse(refused)) = wire.link.receive().await.unwrap() else {
        panic!("work for a node that is paused");
    };
    assert_eq!(refused.code, RefuseCode::Busy);
    assert!(refused.message.contains("selling is paused"), "{refused}");
    let seller = run(&market.founder, Balance {}).await.unwrap();
    let held = seller.members.first().map(|member| member.trm_held);
    assert_eq!(held, Some(Amount::ZERO), "nothing is set aside for it");
    assert_eq!(market.serve().await.running, 0);
}

#[tokio::test]
async fn the_settings_survive_a_restart_and_are_the_main_agents() {
    let market = Market::echoing().await;
    market.set(ChangeServe::Slots { count: 3 }).await;
    let hours = vec!["mon-fri 22:00-07:00".to_owned()];
    market.set(ChangeServe::Schedule { hours }).await;
    let before = market.set(ChangeServe::Pause {}).await;
    let Market {
        founder,
        network,
        clock,
        folders,
        ..
    } = market;
    founder.shutdown().await;
    drop(founder);
    let founder = seller(&network, &clock, &folders[0], Arc::new(Echo)).await;
    assert_eq!(run(&founder, Serve {}).await.unwrap(), before);
    // An agent with a token of its own sees them and changes nothing.
    let mut writer = me(&founder);
    writer.agent = tirami_agent_runtime::owner::agent_id("writer");
    for change in [ChangeServe::Resume {}, ChangeServe::Slots { count: 1 }] {
        let refused = change.run(&founder, writer, None).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::Unauthorized, "{refused}");
    }
    let refused = Earnings {}.run(&founder, writer, None).await.unwrap_err();
    assert_eq!(refused.code, FailureCode::Unauthorized, "{refused}");
    let seen = Serve {}.run(&founder, writer, None).await.unwrap();
    assert_eq!(seen, before);
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_and_change_nothing() {
    let market = Market::echoing().await;
    let before = market.serve().await;
    let text = |text: &str| vec![text.to_owned()];
    for (change, says) in [
        (
            ChangeServe::Price {
                min_ppm: 0,
                max_ppm: 1,
            },
            "min_ppm: 0 is not from 1",
        ),
        (
            ChangeServe::Price {
                min_ppm: 2,
                max_ppm: 1,
            },
            "max_ppm: 1 is not from 2",
        ),
        (
            ChangeServe::Schedule {
                hours: text("at night"),
            },
            "'at night' names no hours",
        ),
        (
            ChangeServe::PauseUntil { until: FRIDAY_8 },
            "2027-01-15T08:00:00.000Z is over already",
        ),
        (ChangeServe::Slots { count: 0 }, "slots: 0"),
        (ChangeServe::Queue { count: 257 }, "queue: 257"),
        (
            ChangeServe::DailyCap { trm: Amount::ZERO },
            "0 TRM would sell nothing",
        ),
        (
            ChangeServe::Buyers {
                who: Buyers::List([].into()),
            },
            "names nobody",
        ),
    ] {
        let refused = run(&market.founder, change).await.unwrap_err();
        assert_eq!(refused.code, FailureCode::InvalidInput, "{refused}");
        assert!(refused.message.contains(says), "'{says}': {refused}");
    }
    assert_eq!(market.serve().await, before);
}

#[tokio::test]
async fn earnings_are_what_the_receipts_say() {
    let market = Market::echoing().await;
    market.buy().await.unwrap();
    // 16 hours later another day has begun.
    market.clock.advance_ms(16 * HOUR_MS);
    market.buy().await.unwrap();
    let earnings = market.earnings().await;
    let of = |jobs: u64| (jobs, jobs * SMALL.utrm());
    for (sum, jobs) in [
        (earnings.today, 1),
        (earnings.last_24h, 2),
        (earnings.last_7d, 2),
        (earnings.in_all, 2),
    ] {
        assert_eq!((sum.jobs, sum.trm_earned.utrm()), of(jobs), "{earnings:?}");
        assert_eq!((sum.tokens_in, sum.tokens_out), (4 * jobs, 3 * jobs));
    }
    assert_eq!(earnings.by_buyer.len(), 1);
    assert_eq!(earnings.by_model.len(), 1);
    let (buyer, model) = (&earnings.by_buyer[0], &earnings.by_model[0]);
    assert_eq!(buyer.buyer, market.member().node());
    assert_eq!(model.model.as_deref(), Some("echo"));
    assert_eq!(
        (buyer.in_all, model.in_all),
        (earnings.in_all, earnings.in_all)
    );
    assert!(earnings.complete && earnings.trm_waiting.is_zero());
    let balance = run(&market.founder, Balance {}).await.unwrap();
    assert_eq!(balance.trm_earned, earnings.in_all.trm_earned);
    market.clock.advance_ms(8 * 24 * HOUR_MS);
    let later = market.earnings().await;
    assert_eq!((later.last_7d.jobs, later.in_all.jobs), (0, 2));
}

#[tokio::test]
async fn a_reader_that_hangs_up_stops_the_provider_although_no_text_comes() {
    let market = Market::slow(1).await;
    let (sink, text) = tokio::sync::mpsc::channel(1);
    let member = market.member().clone();
    let mut chat = small();
    chat.prepare();
    let purchase = tokio::spawn(async move { chat.run(&member, me(&member), Some(sink)).await });
    let begun = || market.engine.0.lock().unwrap().len() == 1;
    let stopped = || {
        let feeds = market.engine.0.lock().unwrap();
        feeds.iter().all(Feed::is_cancelled)
    };
    let there = async {
        while !begun() {
            tokio::task::yield_now().await;
        }
        drop(text);
        while !stopped() {
            tokio::task::yield_now().await;
        }
    };
    let there = tokio::time::timeout(Duration::from_secs(20), there);
    there.await.unwrap();
    // The prompt was paid before it was read; nothing else was.
    let answer = purchase.await.unwrap().unwrap();
    assert_eq!(answer.finish_reason, "cancelled");
    assert_eq!((answer.tokens_out, answer.trm_cost), (0, trm!("0.002")));
    market.until(0, 0).await;
    market.everybodys_books_hold().await;
}
