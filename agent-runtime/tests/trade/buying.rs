//! How a node buys where several sell: whom it asks, whom it leaves alone, who may see the prompt, and what
//! becomes of an answer that one of them began.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tirami_agent_runtime::ops::{
    Balance, ChangeServe, Chat, ChatOutput, Join, MakeTicket, Quote, Schedule, ScheduleOutput,
};
use tirami_agent_runtime::privacy::Privacy;
use tirami_agent_runtime::{Builder, Failure, FailureCode, NodeConfig, Runtime};
use tirami_manifest::job::{Message, PromptShape};
use tirami_manifest::model::ModelCard;
use tirami_manifest::time::ManualClock;
use tirami_manifest::{Amount, Multiplier, NodeId, Timestamp};
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::engine::{Engine, EngineError, Event, Job, Run};
use tirami_mesh::net::memory::MemoryNetwork;
use tirami_mesh::net::transport::PeerAddr;
use tirami_mesh::proto::message::Frame;
use tirami_wallet::keystore::node_key;

use super::selling::Wire;
use super::{both_agree, chat, holds, pair, run};

/// What an engine does with a job.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// All of it.
    Well,
    /// So many tokens, and then it fails.
    FailsAfter(usize),
    /// So many tokens, and then nothing more.
    StallsAfter(usize),
}

/// Says again what it hears, ten milliseconds for a token, and breaks where it is told to.
#[derive(Debug)]
struct Moody {
    mood: Mutex<Mood>,
    started: AtomicU32,
    clock: Arc<ManualClock>,
}

impl Moody {
    fn with(clock: &Arc<ManualClock>) -> Self {
        Self {
            mood: Mutex::new(Mood::Well),
            started: AtomicU32::new(0),
            clock: clock.clone(),
        }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn started(&self) -> u32 {
        self.started.load(Ordering::SeqCst)
    }
}

impl Engine for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn card(&self) -> ModelCard {
        Echo.card()
    }

    fn fingerprint(&self) -> [u8; 8] {
        Echo.fingerprint()
    }

    fn max_in(&self, shape: &PromptShape) -> Result<u32, EngineError> {
        Echo.max_in(shape)
    }

    fn count<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> Pin<Box<dyn Future<Output = Result<u32, EngineError>> + Send + 'a>> {
        Echo.count(messages)
    }

    fn start(&self, job: Job) -> Result<Run, EngineError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let (mut whole, mood) = (Echo.start(job)?, *self.mood.lock().unwrap());
        let (clock, (feed, run)) = (self.clock.clone(), Run::channel());
        tokio::spawn(async move {
            let mut sent = 0;
            loop {
                match mood {
                    Mood::FailsAfter(tokens) if sent >= tokens => {
                        feed.send(Err(EngineError::Stopped)).await;
                        break;
                    }
                    Mood::StallsAfter(tokens) if sent >= tokens => {
                        return std::future::pending().await;
                    }
                    _ => {}
                }
                let Some(event) = whole.next().await else {
                    break;
                };
                if let Ok(Event::Piece(piece)) = &event {
                    sent += piece.tokens.len();
                    clock.advance_ms(10);
                }
                feed.send(event).await;
                // Whoever reads has its turn before the next token is made.
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
        });
        Ok(run)
    }
}

/// A founder that sells nothing, members that sell at rising prices, and one that buys.
struct Street {
    sellers: Vec<Runtime>,
    engines: Vec<Arc<Moody>>,
    buyer: Runtime,
    clock: Arc<ManualClock>,
    network: MemoryNetwork,
    founder: Runtime,
    folders: Vec<tempfile::TempDir>,
}

/// A node of the network.
struct Building<'a> {
    network: &'a MemoryNetwork,
    clock: &'a Arc<ManualClock>,
    folders: &'a mut Vec<tempfile::TempDir>,
}

impl Building<'_> {
    async fn node(
        &mut self,
        engine: Option<Arc<Moody>>,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Runtime {
        let folder = tempfile::tempdir().unwrap();
        let mut config = NodeConfig::new(folder.path());
        config.model = None;
        change(&mut config);
        let key = node_key(&folder.path().join("node.key"), None).unwrap();
        let mut builder = Builder::new(config)
            .clock(self.clock.clone())
            .transport(Arc::new(self.network.transport(key.id())));
        if let Some(engine) = engine {
            builder = builder.engine(engine);
        }
        self.folders.push(folder);
        builder.start().await.unwrap()
    }
}

fn address(node: &Runtime) -> PeerAddr {
    PeerAddr {
        id: node.node(),
        addresses: node.addresses(),
    }
}

impl Street {
    /// One seller for each price in parts per million; the buyer's configuration as it is changed.
    async fn of(prices: &[u32], change: impl FnOnce(&mut NodeConfig, &[Runtime])) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_ms(1_800_000_000_000)));
        let (network, mut folders) = (MemoryNetwork::new(), Vec::new());
        let mut building = Building {
            network: &network,
            clock: &clock,
            folders: &mut folders,
        };
        let founder = building.node(None, |_| {}).await;
        let (mut sellers, mut engines) = (Vec::new(), Vec::new());
        for ppm in prices {
            let engine = Arc::new(Moody::with(&clock));
            let price = Multiplier::from_ppm(*ppm);
            let seller = building.node(Some(engine.clone()), |config| {
                config.multiplier = Some(price);
            });
            sellers.push(seller.await);
            engines.push(engine);
        }
        let known = sellers.iter().map(address).collect();
        let buyer = building.node(None, |config| {
            config.peers = known;
            change(config, &sellers);
        });
        let buyer = buyer.await;
        for node in sellers.iter().chain([&buyer]) {
            let ticket = run(&founder, MakeTicket {}).await.unwrap().ticket;
            run(node, Join { ticket }).await.unwrap();
        }
        Self {
            sellers,
            engines,
            buyer,
            clock,
            network,
            founder,
            folders,
        }
    }

    fn id(&self, seller: usize) -> NodeId {
        self.sellers.get(seller).unwrap().node()
    }

    fn engine(&self, seller: usize) -> &Moody {
        self.engines.get(seller).unwrap()
    }

    async fn buy(&self) -> Result<ChatOutput, Failure> {
        run(&self.buyer, six()).await
    }

    async fn schedule(&self) -> ScheduleOutput {
        let schedule = Schedule {
            prompt: Some("a b c".into()),
            model: None,
            max_tokens: Some(3),
            max_trm: None,
        };
        run(&self.buyer, schedule).await.unwrap()
    }

    /// Plays a member that buys of the buyer.
    async fn raw(&mut self) -> Wire {
        let mut building = Building {
            network: &self.network,
            clock: &self.clock,
            folders: &mut self.folders,
        };
        let node = building.node(None, |_| {}).await;
        let ticket = run(&self.founder, MakeTicket {}).await.unwrap().ticket;
        run(&node, Join { ticket }).await.unwrap();
        node.shutdown().await;
        let folder = self.folders.last().unwrap();
        let key = node_key(&folder.path().join("node.key"), None).unwrap();
        Wire::to(&self.network, key, &address(&self.buyer)).await
    }

    async fn everybodys_books_hold(&self) {
        for node in self.sellers.iter().chain([&self.buyer, &self.founder]) {
            assert!(holds(node).await);
        }
    }
}

/// A chat of six words and as many tokens.
fn six() -> Chat {
    let mut six = chat("a b c d e f");
    six.max_tokens = Some(6);
    six
}

#[tokio::test]
async fn the_cheapest_of_several_signed_prices_is_taken_and_quote_says_why() {
    let street = Street::of(&[2_000_000, 1_000_000, 1_500_000], |_, _| {}).await;
    let quote = Quote {
        prompt: "a b c d e f".into(),
        model: None,
        max_tokens: Some(6),
    };
    let quoted = run(&street.buyer, quote).await.unwrap();
    assert_eq!(quoted.provider, street.id(1));
    assert!(
        quoted.why.starts_with("cheapest expected total; "),
        "{}",
        quoted.why
    );
    for other in [0, 2] {
        let dearer = format!("provider {}: 0.0", street.id(other).short());
        assert!(quoted.why.contains(&dearer), "{}", quoted.why);
    }
    let answer = street.buy().await.unwrap();
    assert_eq!(answer.provider, street.id(1));
    assert_eq!(answer.seen_by, [street.id(1)], "a price is no prompt");
    assert_eq!(
        street.engines.iter().map(|e| e.started()).sum::<u32>(),
        1,
        "whoever was only asked for a price works on nothing"
    );
    street.everybodys_books_hold().await;
}

#[tokio::test]
async fn what_was_offered_a_moment_ago_is_not_asked_again_and_what_is_past_is() {
    let street = Street::of(&[1_000_000, 2_000_000], |_, _| {}).await;
    let (cheap, dear) = (street.id(0), street.id(1));
    let streams = |seller| street.network.opened(street.buyer.node(), seller);
    let of_a_purchase = async |expected| {
        let before = (streams(cheap), streams(dear));
        assert_eq!(street.buy().await.unwrap().provider, expected);
        (streams(cheap) - before.0, streams(dear) - before.1)
    };
    assert_eq!(
        of_a_purchase(cheap).await,
        (2, 2),
        "an offer, a price and a job"
    );
    assert_eq!(of_a_purchase(cheap).await, (1, 1), "a price and a job");
    // It sells no more, and nobody was told.
    let [first, second] = street.sellers.as_slice() else {
        panic!("two sell")
    };
    run(first, ChangeServe::Pause {}).await.unwrap();
    assert_eq!(of_a_purchase(dear).await, (1, 1));
    assert_eq!(
        of_a_purchase(dear).await,
        (1, 1),
        "the one that refused is asked what it offers"
    );
    assert_eq!(of_a_purchase(dear).await, (0, 1), "nothing, for the moment");
    run(second, ChangeServe::Pause {}).await.unwrap();
    let failure = street.buy().await.unwrap_err();
    assert!(failure.message.starts_with("nobody sells"), "{failure}");
    run(first, ChangeServe::Resume {}).await.unwrap();
    assert_eq!(
        of_a_purchase(cheap).await,
        (2, 1),
        "those who offer nothing are asked anew where nobody else does it"
    );
    street.clock.advance_ms(2_000);
    assert_eq!(of_a_purchase(cheap).await, (2, 1), "no offer is for long");
    street.everybodys_books_hold().await;
}

#[tokio::test]
async fn who_fails_three_times_in_a_row_is_left_alone_and_asked_once_after_a_while() {
    let street = Street::of(&[1_000_000, 1_500_000], |_, _| {}).await;
    let (cheap, dear) = (street.id(0), street.id(1));
    street.engine(0).is(Mood::FailsAfter(0));
    for failures in 1..=3 {
        let answer = street.buy().await.unwrap();
        assert_eq!(answer.provider, dear, "the next one does it");
        assert_eq!(answer.seen_by, [cheap, dear]);
        assert_eq!(street.engine(0).started(), failures);
    }
    let answer = street.buy().await.unwrap();
    assert_eq!(answer.seen_by, [dear], "the other one is not asked");
    assert_eq!(street.engine(0).started(), 3);
    let schedule = street.schedule().await;
    let reason = |of: NodeId| {
        let of = schedule.candidates.iter().find(|one| one.provider == of);
        of.unwrap().reason.clone()
    };
    let left_alone = "failed 3 times in a row; it is asked again in 30 s";
    assert_eq!(reason(cheap), left_alone);
    assert_eq!(schedule.chosen, Some(dear));
    // Alone, it is the reason why nobody does it.
    street.sellers.get(1).unwrap().shutdown().await;
    let failure = street.buy().await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NoProvider, "{failure}");
    assert!(
        failure.retryable && failure.message.contains(left_alone),
        "{failure}"
    );
    street.clock.advance_ms(30_000);
    street.buy().await.unwrap_err();
    assert_eq!(street.engine(0).started(), 4, "one job tries it");
    let failure = street.buy().await.unwrap_err();
    assert!(
        failure
            .message
            .contains("failed 4 times in a row; it is asked again in 60 s"),
        "{failure}"
    );
    street.clock.advance_ms(60_000);
    street.engine(0).is(Mood::Well);
    for _ in 0..2 {
        assert_eq!(street.buy().await.unwrap().provider, cheap);
    }
}

#[tokio::test]
async fn one_that_failed_counts_as_dearer_than_it_asks() {
    let street = Street::of(&[1_000_000, 1_050_000], |_, _| {}).await;
    street.engine(0).is(Mood::FailsAfter(0));
    street.buy().await.unwrap();
    street.engine(0).is(Mood::Well);
    let answer = street.buy().await.unwrap();
    assert_eq!(answer.seen_by, [street.id(1)]);
}

#[tokio::test]
async fn one_that_stops_although_it_said_how_fast_it_is_is_left_for_the_next() {
    let street = Street::of(&[1_000_000, 1_500_000], |_, _| {}).await;
    // It did a job, so it says how fast the next one goes.
    assert_eq!(street.buy().await.unwrap().provider, street.id(0));
    for tokens in [2, 0] {
        street.engine(0).is(Mood::StallsAfter(tokens));
        // Well below the minute for which one is waited that says nothing.
        let within = tokio::time::timeout(Duration::from_secs(30), street.buy());
        let answer = within.await.unwrap().unwrap();
        assert_eq!(answer.text, "a b c d e f");
        assert_eq!(answer.provider, street.id(1));
        let from_first = answer.parts.first().map_or(0, |part| part.tokens_out);
        assert_eq!(usize::try_from(from_first).unwrap(), tokens);
    }
    street.everybodys_books_hold().await;
}

#[tokio::test]
async fn a_prompt_is_shown_to_nobody_whom_the_request_or_the_owner_keeps_from_it() {
    let street = Street::of(&[1_000_000, 1_500_000], |config, sellers| {
        config.own_nodes = vec![sellers.get(1).unwrap().node()];
    });
    let street = street.await;
    let with = async |privacy: Privacy| {
        let chat = Chat { privacy, ..six() };
        run(&street.buyer, chat).await
    };
    let failure = with(Privacy::Local).await.unwrap_err();
    assert_eq!(failure.code, FailureCode::NoProvider, "{failure}");
    assert!(
        failure.message.starts_with("privacy is 'local': "),
        "{failure}"
    );
    let spent = run(&street.buyer, Balance {}).await.unwrap().trm_spent;
    assert_eq!(spent, Amount::ZERO);
    let answer = with(Privacy::Own).await.unwrap();
    assert_eq!(answer.seen_by, [street.id(1)], "dearer, and of the owner");
    let answer = with(Privacy::Named(vec![street.id(1)])).await.unwrap();
    assert_eq!(answer.seen_by, [street.id(1)]);
    assert_eq!(street.engine(0).started(), 0);
    assert_eq!(with(Privacy::Any).await.unwrap().seen_by, [street.id(0)]);
    // The owner of the node says less than any request.
    let street = Street::of(&[1_000_000, 1_500_000], |config, sellers| {
        config.privacy = Privacy::Named(vec![sellers.get(1).unwrap().node()]);
    });
    let street = street.await;
    assert_eq!(street.buy().await.unwrap().seen_by, [street.id(1)]);
    let wider = Chat {
        privacy: Privacy::Named(vec![street.id(0)]),
        ..six()
    };
    run(&street.buyer, wider).await.unwrap_err();
    assert_eq!(street.engine(0).started(), 0);
}

#[tokio::test]
async fn an_answer_that_broke_off_goes_on_here_where_that_is_next() {
    let network_of_buyer = |config: &mut NodeConfig, _: &[Runtime]| {
        config.model = Some(tirami_mesh::models::Source::Echo);
    };
    let mut street = Street::of(&[1_000_000], network_of_buyer).await;
    // A node whose own places are taken by those it sells to buys what it could do itself.
    let before = run(&street.buyer, six()).await.unwrap();
    assert!(before.local, "with nothing else to do it answers itself");
    let mut wire = street.raw().await;
    let quote = wire.quote().await.unwrap();
    wire.start(&quote).await;
    assert!(matches!(
        wire.link.receive().await,
        Ok(Some(Frame::Begun(_)))
    ));
    street.engine(0).is(Mood::FailsAfter(2));
    let answer = street.buy().await.unwrap();
    assert!(answer.local, "{answer:?}");
    assert_eq!(answer.text, "a b c d e f");
    assert_eq!((answer.tokens_out, answer.seen_by), (6, vec![street.id(0)]));
    assert_eq!(answer.parts.len(), 1);
    let part = answer.parts.first().unwrap();
    assert_eq!((part.provider, part.tokens_out), (street.id(0), 2));
    assert_eq!(answer.trm_cost, part.trm_cost, "what it did itself is free");
    assert!(part.trm_cost > Amount::ZERO);
}

#[tokio::test]
async fn an_answer_that_is_whole_is_given_although_its_provider_is_gone_before_the_receipt() {
    let mut whole = 0;
    for frame in 0..12 {
        let pair = pair().await;
        pair.network
            .cut_after(pair.founder.node(), pair.member.node(), frame);
        let answer = run(&pair.member, six()).await;
        pair.network.heal(pair.founder.node(), pair.member.node());
        let Ok(answer) = answer else { continue };
        assert_eq!(answer.text, "a b c d e f", "frame {frame}");
        if answer.receipt.is_some() {
            continue;
        }
        whole += 1;
        assert_eq!(answer.finish_reason, "length");
        assert_eq!((answer.tokens_in, answer.tokens_out), (7, 6));
        let (buyer, _) = both_agree(&pair, "whole").await;
        assert_eq!(buyer.trm_spent, answer.trm_cost, "what was vouched for");
        assert!(holds(&pair.founder).await && holds(&pair.member).await);
    }
    assert_eq!(whole, 1, "the frame that proposes the receipt");
}
