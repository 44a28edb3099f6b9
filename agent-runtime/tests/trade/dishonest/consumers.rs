//! Consumers that cheat a whole node that sells to them. Each is a member with a welcome loan, so that it is
//! served; another member is honest and buys as before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::select_all;
use tirami_agent_runtime::ops::{Balance, ChangeServe};
use tirami_manifest::commerce::{self, Agreement, Consent, Receipt, Voucher};
use tirami_manifest::job::{Message, PromptShape, Role, Sampler, Transcript};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::{Document, Signed, Verified};
use tirami_manifest::{Amount, NetworkId, NodeId, QuoteId, ReceiptId, TransferId, trm};
use tirami_mesh::engine::Engine;
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::memory::MemoryTransport;
use tirami_mesh::net::transport::{Incoming, LinkReceiver, LinkSender, Transport};
use tirami_mesh::proto::buying::{Buying, Effect, Event};
use tirami_mesh::proto::message::{
    AskQuote, Chunk, Countersign, Frame, Pace, Quoted, Refuse, RefuseCode, Retry, SignedBytes,
    Start,
};
use tirami_mesh::proto::{Counted, Terms};
use tirami_wallet::keystore::node_key;

use super::{DETAILS, Log, passes, soon, until};
use crate::run;
use crate::selling::{Market, SMALL};

/// Words of the prompt, and of the answer: the last four are in no chunk that a voucher is due for.
const WORDS: usize = 236;

/// Longer than a provider waits for a voucher.
const VOUCHER_LATE: Duration = Duration::from_secs(11);

/// Longer than a provider waits for a receipt.
const RECEIPT_LATE: Duration = Duration::from_secs(31);

/// One way to cheat a provider while it streams.
struct Cheat {
    name: &'static str,
    /// What the provider's log says of it, with details.
    says: &'static str,
    /// What is said in the place of the third voucher; nothing is paid after it.
    word: Word,
}

#[derive(Clone, Copy)]
enum Word {
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

const VOUCHERS: &[Cheat] = &[
    Cheat {
        name: "a lower voucher later",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| (v.total, v.tokens_out) = (trm!("0.001"), 0)),
    },
    Cheat {
        name: "less for the same tokens",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.total = v.total.saturating_sub(trm!("0.000001"))),
    },
    Cheat {
        name: "more for the same tokens",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.total = trm!("0.9")),
    },
    Cheat {
        name: "the last voucher again",
        says: "a voucher for something else than was sent",
        word: Word::Again,
    },
    Cheat {
        name: "a number left out",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.seq += 1),
    },
    Cheat {
        name: "tokens that were not sent",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.tokens_out += 1),
    },
    Cheat {
        name: "another transcript",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.transcript = [9; 32]),
    },
    Cheat {
        name: "another hold",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.hold = TransferId::from_bytes([9; 16])),
    },
    Cheat {
        name: "another payee",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.payee = NodeId::from_bytes([9; 32])),
    },
    Cheat {
        name: "another network",
        says: "a voucher for something else than was sent",
        word: Word::Vouch(|v| v.network = NetworkId::from_bytes([9; 32])),
    },
    Cheat {
        name: "a forged voucher",
        says: "a voucher that it did not sign",
        word: Word::Forged,
    },
    Cheat {
        name: "a voucher of garbage",
        says: "a voucher that cannot be read",
        word: Word::Say(|| Frame::Voucher(SignedBytes(vec![7; 99]))),
    },
    Cheat {
        name: "no voucher",
        says: "the consumer stopped paying",
        word: Word::Nothing,
    },
    Cheat {
        name: "the end",
        says: "the consumer is gone",
        word: Word::HangUp,
    },
    Cheat {
        name: "a chunk of its own",
        says: "said what does not belong into a job",
        word: Word::Say(|| {
            Frame::Chunk(Chunk {
                index: 0,
                tokens: vec![],
                text: "?".into(),
            })
        }),
    },
    Cheat {
        name: "a frame above the limit",
        says: "is above the limit of 1048576",
        word: Word::Raw(&[0xff; 64]),
    },
    Cheat {
        name: "half a frame",
        says: "the bytes end in the middle of a frame",
        word: Word::Raw(&[9, 0, 0, 0, 1, 52, 0, 4]),
    },
    Cheat {
        name: "a frame of another version",
        says: "frame version 7 is not known here",
        word: Word::Raw(&[3, 0, 0, 0, 7, 56, 0]),
    },
    Cheat {
        name: "a frame of another kind",
        says: "frame kind 999 is not known here",
        word: Word::Raw(&[3, 0, 0, 0, 1, 0xe7, 3]),
    },
];

#[tokio::test]
async fn a_provider_that_is_not_paid_loses_the_window_of_its_quote_at_most() {
    for cheat in VOUCHERS {
        let what = cheat.name;
        let (market, log) = (market().await, Log::from(DETAILS));
        let mut consumer = Consumer::of(&market).await;
        // Eight tokens for whom it never earned from, sixty-four for whom it did.
        for known in [false, true] {
            let before = run(&market.founder, Balance {}).await.unwrap().trm_earned;
            let mut job = consumer.quoted(&market).await;
            assert_eq!(job.window(), if known { 64 } else { 8 }, "{what}");
            job.start(&consumer).await;
            job.pays(&consumer, Some(cheat)).await;
            let lost = job.received - job.paid_for;
            assert!(lost <= job.window(), "{what}: {lost} tokens lost");
            assert!(job.paid > Amount::ZERO, "{what}: it began honestly");
            has_earned(&market, before.checked_add(job.paid).unwrap(), what).await;
            log.comes(cheat.says, what).await;
            if !known {
                consumer.is_honest_once(&market).await;
            }
        }
        others_trade(&market, what).await;
    }
}

/// Shorter than a provider waits for a voucher.
const VOUCHER_IN_TIME: Duration = Duration::from_secs(9);

#[tokio::test]
async fn who_pays_a_token_at_a_time_keeps_its_place_no_longer_than_the_job_may_last() {
    for known in [false, true] {
        let (market, what) = (market().await, "a job that creeps");
        let log = Log::from(DETAILS);
        let mut consumer = Consumer::of(&market).await;
        let mut earned = Amount::ZERO;
        if known {
            earned = consumer
                .is_honest_once(&market)
                .await
                .proposed
                .unwrap()
                .amount;
        }
        let mut job = consumer.quoted(&market).await;
        job.start(&consumer).await;
        let (took, refused) = job.creeps(&consumer).await;
        assert_eq!(
            (refused.code, refused.retry),
            (RefuseCode::Busy, Retry::Later)
        );
        let lasts = job.terms.lasts();
        let says = format!("as long as one of its size may: {} s", lasts.as_secs());
        assert!(refused.message.contains(&says), "{refused}");
        assert!(
            (lasts..lasts + VOUCHER_IN_TIME * 2).contains(&took),
            "{took:?} of {lasts:?}"
        );
        // Its place is free, and it is paid what was vouched for.
        log.comes("the job took as long as one of its size may", what)
            .await;
        let serve = market.serve().await;
        assert_eq!((serve.running, serve.waiting), (0, 0), "{what}");
        assert!(job.received - job.paid_for <= job.window(), "{what}");
        has_earned(&market, earned.checked_add(job.paid).unwrap(), what).await;
        others_trade(&market, what).await;
    }
}

/// One way to cheat once the work is done and proposed.
struct Unsigned {
    name: &'static str,
    says: &'static str,
    /// What is said in the place of the receipt.
    word: fn(&Consumer, &Job) -> Option<Frame>,
}

const RECEIPTS: &[Unsigned] = &[
    Unsigned {
        name: "no receipt",
        says: "no receipt came within 30 s",
        word: |_, _| None,
    },
    Unsigned {
        name: "a forged receipt",
        says: "consumer's signature does not hold",
        word: |_, job| Some(job.receipt(&SecretKey::from_bytes(&[67; 32]), |_| {})),
    },
    Unsigned {
        name: "a receipt for less",
        says: "that is another agreement",
        word: |consumer, job| {
            Some(job.receipt(&consumer.key, |agreement| {
                agreement.usage.tokens_out = 1;
                agreement.kflop = Echo.card().kflop(agreement.usage).unwrap();
                agreement.amount = agreement.multiplier.price(agreement.kflop).unwrap();
            }))
        },
    },
    Unsigned {
        name: "a receipt of garbage",
        says: "that is another agreement",
        word: |_, _| {
            let receipt = vec![7; 300];
            Some(Frame::Countersign(Countersign { receipt }))
        },
    },
    Unsigned {
        name: "something else",
        says: "ListOffers is not expected here",
        word: |_, _| Some(Frame::ListOffers),
    },
    Unsigned {
        name: "that it wants no more, without end",
        says: "no receipt came within 30 s",
        word: |_, _| Some(Frame::Cancel),
    },
];

#[tokio::test]
async fn a_provider_whose_work_nobody_signs_for_gets_what_was_vouched_for() {
    for cheat in RECEIPTS {
        let what = cheat.name;
        let (market, log) = (market().await, Log::from(DETAILS));
        let mut consumer = Consumer::of(&market).await;
        let mut job = consumer.quoted(&market).await;
        job.start(&consumer).await;
        job.pays(&consumer, None).await;
        assert!(job.proposed.is_some(), "{what}");
        let lost = job.received - job.paid_for;
        assert!(0 < lost && lost <= job.window(), "{what}: {lost}");
        let given_up = job.ends_with((cheat.word)(&consumer, &job)).await;
        assert!(given_up, "{what}: the provider waits for ever");
        // It is asked what it signed; what it then says does not matter.
        tokio::spawn(disowns(Arc::clone(&consumer.transport)));
        has_earned(&market, job.paid, what).await;
        log.comes(cheat.says, what).await;
        log.comes("a consumer disowns its voucher", what).await;
        assert!(market.serve().await.trm_under_way.is_zero(), "{what}");
        others_trade(&market, what).await;
    }
}

#[tokio::test]
async fn a_receipt_that_is_sent_twice_is_booked_once() {
    let (market, what) = (market().await, "a receipt twice");
    let mut consumer = Consumer::of(&market).await;
    let job = consumer.is_honest_once(&market).await;
    let receipt = job.receipt(&consumer.key, |_| {});
    for _ in 0..2 {
        let (mut sender, mut receiver) = consumer.open(&market).await;
        sender.send(&receipt).await.unwrap();
        let said = soon(what, receiver.receive()).await.unwrap();
        assert!(matches!(said, Some(Frame::Settled(_))), "{said:?}");
    }
    let whole = job.proposed.as_ref().unwrap().amount;
    has_earned(&market, whole, what).await;
    others_trade(&market, what).await;
}

/// One way to start what was not quoted.
struct Started {
    name: &'static str,
    code: RefuseCode,
    /// What the provider's log says, and what the consumer is told.
    says: &'static str,
    change: fn(&mut Start, &Before),
}

/// What a consumer had before this job.
struct Before {
    /// A quote on another stream.
    other: QuoteId,
    /// The hold of a job that was settled.
    settled: TransferId,
}

const STARTS: &[Started] = &[
    Started {
        name: "a quote of another job",
        code: RefuseCode::QuoteExpired,
        says: "the quote is another one or has expired",
        change: |start, before| start.quote = before.other,
    },
    Started {
        name: "an invented quote",
        code: RefuseCode::QuoteExpired,
        says: "the quote is another one or has expired",
        change: |start, _| start.quote = QuoteId::from_bytes([9; 32]),
    },
    Started {
        name: "a longer prompt than was quoted",
        code: RefuseCode::TooLong,
        says: "agreed",
        change: |start, _| start.messages = vec![messages().remove(0); 9],
    },
    Started {
        name: "a hold that paid for another job",
        code: RefuseCode::BadRequest,
        says: "that of this hold was settled before",
        change: |start, before| start.hold = before.settled,
    },
];

#[tokio::test]
async fn what_was_not_quoted_is_not_begun() {
    for cheat in STARTS {
        let what = cheat.name;
        let (market, log) = (market().await, Log::from(DETAILS));
        let mut consumer = Consumer::of(&market).await;
        let settled = consumer.is_honest_once(&market).await;
        let before = Before {
            other: consumer.quoted(&market).await.quote.id(),
            settled: settled.terms.hold,
        };
        let mut job = consumer.quoted(&market).await;
        let mut start = job.first(&consumer);
        (cheat.change)(&mut start, &before);
        job.sender.send(&Frame::Start(start)).await.unwrap();
        job.is_refused(cheat.code, cheat.says, what).await;
        log.comes(cheat.says, what).await;
        has_earned(&market, settled.proposed.unwrap().amount, what).await;
        others_trade(&market, what).await;
    }
}

#[tokio::test]
async fn what_was_quoted_for_a_mandate_is_not_done_on_credit_without_one() {
    let (market, log) = (market().await, Log::from(DETAILS));
    let mut consumer = Consumer::of(&market).await;
    consumer.under_mandate = true;
    let mut job = consumer.quoted(&market).await;
    assert_eq!(job.window(), 0, "it is paid by receipt alone");
    job.start(&consumer).await;
    let says = "the quote was asked for another payer";
    job.is_refused(RefuseCode::BadRequest, says, "no mandate")
        .await;
    log.comes(says, "no mandate").await;
    has_earned(&market, Amount::ZERO, "nothing was done").await;
    others_trade(&market, "after it").await;
}

/// As many as are claimed of one consumer before it is quoted nothing more.
const UNSIGNED_MOST: u8 = 64;

#[tokio::test]
async fn who_leaves_jobs_unsigned_gets_little_on_credit_and_then_nothing_until_they_are_settled() {
    let (market, what) = (market().await, "jobs that nobody signs for");
    let mut consumer = Consumer::of(&market).await;
    let mut earned = consumer
        .is_honest_once(&market)
        .await
        .proposed
        .unwrap()
        .amount;
    // Quoted while it owed nothing.
    let mut kept = consumer.quoted(&market).await;
    let hold = consumer.hold();
    for unsigned in 0..UNSIGNED_MOST {
        let mut job = consumer.quoted(&market).await;
        let window = if unsigned == 0 { 64 } else { 8 };
        assert_eq!(job.window(), window, "after {unsigned}");
        job.start(&consumer).await;
        job.pays(&consumer, None).await;
        earned = earned.checked_add(job.paid).unwrap();
        // It has the answer, and goes.
        job.sender.finish().unwrap();
        let over = async { while matches!(job.receiver.receive().await, Ok(Some(_))) {} };
        soon(what, over).await;
    }
    let (sender, receiver) = consumer.open(&market).await;
    let refused = consumer.asks(sender, receiver).await.err().unwrap();
    assert_eq!(refused.code, RefuseCode::NotFunded, "{refused}");
    let says = "64 earlier jobs";
    assert!(refused.message.contains(says), "{refused}");
    // Nor is what it was quoted before begun.
    let start = Start {
        hold,
        ..kept.first(&consumer)
    };
    kept.sender.send(&Frame::Start(start)).await.unwrap();
    let said = soon(what, kept.receiver.receive()).await.unwrap();
    assert!(
        matches!(&said, Some(Frame::Refuse(refused)) if refused.message.contains(says)),
        "{said:?}"
    );
    // Once they are claimed, it buys again, still with little on credit.
    tokio::spawn(disowns(Arc::clone(&consumer.transport)));
    while_time_passes(has_earned(&market, earned, what)).await;
    let job = consumer.quoted(&market).await;
    assert_eq!(job.window(), 8);
    others_trade(&market, what).await;
}

/// Does something while time passes, ten seconds at once.
async fn while_time_passes(done: impl Future<Output = ()>) {
    let time = async {
        loop {
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            passes(Duration::from_secs(10)).await;
        }
    };
    tokio::select! {
        () = done => {}
        () = time => unreachable!("it goes on"),
    }
}

/// All places of the seller: jobs that run, and those that wait in line.
const PLACES: (u32, u32) = (2, 3);

#[tokio::test]
async fn a_crowd_of_one_consumer_shuts_no_other_out() {
    let (market, what) = (market().await, "a crowd");
    let (slots, queue) = PLACES;
    for change in [
        ChangeServe::Slots { count: slots },
        ChangeServe::Queue { count: queue },
    ] {
        market.set(change).await;
    }
    let mut consumer = Consumer::of(&market).await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES.0 + PLACES.1 {
        let mut job = consumer.quoted(&market).await;
        job.start(&consumer).await;
        crowd.push(job);
    }
    until("every place is taken", async || {
        let serve = market.serve().await;
        ((serve.running, serve.waiting) == PLACES).then_some(())
    })
    .await;
    let refused = crowd.iter_mut().map(|job| {
        Box::pin(async {
            loop {
                match job.receiver.receive().await.unwrap() {
                    Some(Frame::Refuse(refused)) => break refused,
                    said => assert!(matches!(said, Some(Frame::Begun(_))), "{said:?}"),
                }
            }
        })
    });
    let makes_room = async {
        let (refused, _, _) = soon(what, select_all(refused)).await;
        assert_eq!(refused.code, RefuseCode::Busy, "{refused}");
        // Those that run and do not pay end now, and the others of the crowd wait for as long.
        passes(VOUCHER_LATE).await;
    };
    tokio::join!(others_trade(&market, what), makes_room);
}

#[tokio::test]
async fn a_quote_does_not_bind_when_its_time_is_over_nor_for_a_second_job() {
    let (market, log) = (market().await, Log::from(DETAILS));
    let mut consumer = Consumer::of(&market).await;
    let mut late = consumer.quoted(&market).await;
    market.clock.advance_ms(30_000);
    late.start(&consumer).await;
    late.is_refused(RefuseCode::QuoteExpired, "has expired", "late")
        .await;
    // The second start under a quote ends the first job, at what was paid by then: nothing.
    let mut job = consumer.quoted(&market).await;
    job.start(&consumer).await;
    job.start(&consumer).await;
    let says = "said what does not belong into a job";
    job.is_refused(RefuseCode::BadRequest, says, "twice").await;
    log.comes(says, "twice").await;
    has_earned(&market, Amount::ZERO, "nothing was paid for").await;
    others_trade(&market, "after it").await;
}

/// What does not start anything.
struct Opened {
    name: &'static str,
    says: &'static str,
    bytes: fn(&Consumer) -> Vec<u8>,
}

fn frame(frame: &Frame) -> Vec<u8> {
    tirami_mesh::net::codec::encode(frame).unwrap()
}

const OPENINGS: &[Opened] = &[
    Opened {
        name: "a prompt without a quote",
        says: "a stream does not start with Start",
        bytes: |consumer| {
            frame(&Frame::Start(Start {
                quote: QuoteId::from_bytes([9; 32]),
                hold: consumer.hold(),
                messages: messages(),
                sampler: Sampler::GREEDY,
                stop: vec![],
                under: None,
            }))
        },
    },
    Opened {
        name: "an answer to nothing",
        says: "a stream does not start with Quoted",
        bytes: |_| {
            frame(&Frame::Quoted(Quoted {
                quote: vec![7; 9],
                pace: Pace::default(),
            }))
        },
    },
    Opened {
        name: "a receipt of garbage",
        says: "a peer was refused",
        bytes: |_| {
            let receipt = vec![7; 300];
            frame(&Frame::Countersign(Countersign { receipt }))
        },
    },
    Opened {
        name: "a claim of garbage",
        says: "a peer was refused",
        bytes: |_| {
            let receipt = vec![7; 300];
            frame(&Frame::Claim(Countersign { receipt }))
        },
    },
    Opened {
        name: "garbage",
        says: "is above the limit of 1048576",
        bytes: |_| vec![0xa5; 999],
    },
    Opened {
        name: "half a frame",
        says: "the bytes end in the middle of a frame",
        bytes: |_| vec![9, 0, 0, 0, 1, 57, 0, 4],
    },
    Opened {
        name: "a frame of another version",
        says: "frame version 2 is not known here",
        bytes: |_| vec![3, 0, 0, 0, 2, 32, 0],
    },
    Opened {
        name: "a frame with more behind it",
        says: "1 bytes too many in a frame",
        bytes: |_| vec![4, 0, 0, 0, 1, 32, 0, 7],
    },
];

#[tokio::test]
async fn what_is_no_beginning_ends_the_stream_and_nothing_else() {
    let market = market().await;
    let consumer = Consumer::of(&market).await;
    for cheat in OPENINGS {
        let (log, what) = (Log::from(DETAILS), cheat.name);
        let (mut sender, mut receiver) = consumer.open(&market).await;
        sender.send_raw((cheat.bytes)(&consumer)).await.unwrap();
        let ended = async { while let Ok(Some(Frame::Refuse(_))) = receiver.receive().await {} };
        soon(what, ended).await;
        drop(sender);
        log.comes(cheat.says, what).await;
    }
    has_earned(&market, Amount::ZERO, "nothing").await;
    others_trade(&market, "after all of it").await;
}

#[tokio::test]
async fn who_is_of_another_network_is_sold_nothing() {
    let (market, log) = (market().await, Log::from(DETAILS));
    let key = SecretKey::from_bytes(&[68; 32]);
    let mut stranger = Consumer {
        transport: Arc::new(market.network.transport(key.id())),
        key,
        jobs: 0,
        under_mandate: false,
    };
    let (sender, receiver) = stranger.open(&market).await;
    let refused = stranger.asks(sender, receiver).await.err().unwrap();
    let says = "only members and the authority of this network can buy here";
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (RefuseCode::NotMember, says)
    );
    log.comes(says, "a stranger").await;
    others_trade(&market, "after it").await;
}

#[tokio::test]
async fn a_peer_that_opens_many_streams_takes_its_own_places_and_no_others() {
    let (market, log) = (market().await, Log::from(DETAILS));
    let consumer = Consumer::of(&market).await;
    let mut open = Vec::new();
    let mut told = 0;
    // Each waits for its first word; one peer has 64 places.
    for _ in 0..200 {
        let (sender, mut receiver) = consumer.open(&market).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let said = tokio::select! {
            biased;
            said = receiver.receive() => said.unwrap(),
            () = tokio::task::yield_now() => None,
        };
        if let Some(Frame::Refuse(refused)) = said {
            assert_eq!(refused.code, RefuseCode::Busy, "{refused}");
            told += 1;
        }
        open.push((sender, receiver));
    }
    assert_eq!(told, 200 - 64);
    log.comes("too many requests of one node at once", "a flood")
        .await;
    others_trade(&market, "meanwhile").await;
    // They are given up after ten seconds.
    passes(Duration::from_secs(11)).await;
    for (_, receiver) in &mut open {
        let ended = async { while matches!(receiver.receive().await, Ok(Some(_))) {} };
        soon("the end of a stream", ended).await;
    }
    log.comes("said nothing for 10 s", "a flood").await;
    others_trade(&market, "after it").await;
}

/// Jobs of a consumer that then says nothing: asked one after the other they would take 5 s each.
const SILENT_JOBS: usize = 8;

/// How long the claims of another may take meanwhile: two rounds.
const CLAIMED_SOON: Duration = Duration::from_secs(4);

#[tokio::test]
async fn who_says_nothing_to_a_claim_holds_up_no_claim_of_others() {
    let market = Box::pin(Market::of(Arc::new(Echo), 3)).await;
    let mut silent = Consumer::at(&market, 1).await;
    let mut other = Consumer::at(&market, 2).await;
    let asked_silent = claims_of(&silent, false);
    for _ in 0..SILENT_JOBS {
        silent.leaves_one_unsigned(&market).await;
    }
    let hangs_up = VOUCHERS.iter().find(|cheat| cheat.name == "the end");
    let mut job = silent.quoted(&market).await;
    job.start(&silent).await;
    job.pays(&silent, hangs_up).await;
    let mut seconds = 0;
    while asked_silent.lock().unwrap().len() < 2 {
        assert!(seconds < 4, "it is not asked");
        a_second_passes(&market).await;
        seconds += 1;
    }
    // It is shown a claim that is booked, and one that it may have signed for. While it is waited for: two such
    // jobs of another.
    let asked = claims_of(&other, true);
    other.leaves_one_unsigned(&market).await;
    let mut job = other.quoted(&market).await;
    job.start(&other).await;
    job.pays(&other, hangs_up).await;
    let mut took = Duration::ZERO;
    while asked.lock().unwrap().len() < 2 {
        assert!(took < CLAIMED_SOON, "{:?}", asked.lock().unwrap());
        a_second_passes(&market).await;
        took += Duration::from_secs(1);
    }
    assert_eq!(asked_silent.lock().unwrap().len(), 2, "the rest waits");
    others_trade(&market, "meanwhile").await;
}

/// Hears what is claimed of a consumer, and settles it or says nothing.
fn claims_of(consumer: &Consumer, settles: bool) -> Arc<Mutex<BTreeSet<ReceiptId>>> {
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let (transport, hears) = (Arc::clone(&consumer.transport), Arc::clone(&asked));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(Incoming { mut link, .. }) = transport.accept().await {
            let Ok(Some(Frame::Claim(claim))) = link.receive().await else {
                continue;
            };
            let id = Receipt::from_bytes(&claim.receipt).unwrap().id();
            hears.lock().unwrap().insert(id);
            if settles {
                drop(link.send(&Frame::Settled(id)).await);
            }
            open.push(link);
        }
    });
    asked
}

/// A second passes once everybody has done what there is to do, and what they write is on disk.
async fn a_second_passes(market: &Market) {
    let settle = async || {
        for _ in 0..4 {
            market.set(ChangeServe::Queue { count: 64 }).await;
            some_turns().await;
        }
    };
    settle().await;
    passes(Duration::from_secs(1)).await;
    settle().await;
}

/// A founder that sells what `echo` does, and two members.
async fn market() -> Market {
    Box::pin(Market::of(Arc::new(Echo), 2)).await
}

fn messages() -> Vec<Message> {
    vec![Message {
        role: Role::User,
        content: "word ".repeat(WORDS),
    }]
}

/// The last member of a market, spoken for by hand.
struct Consumer {
    transport: Arc<MemoryTransport>,
    key: SecretKey,
    jobs: u8,
    /// Whether it says that a mandate will pay.
    under_mandate: bool,
}

/// One job of it.
struct Job {
    sender: LinkSender,
    receiver: LinkReceiver,
    quote: Verified<commerce::Quote>,
    terms: Terms,
    /// What was vouched for: in all, and tokens.
    paid: Amount,
    paid_for: u32,
    last: Option<Vec<u8>>,
    /// Tokens that arrived.
    received: u32,
    proposed: Option<Verified<Agreement>>,
}

impl Consumer {
    async fn of(market: &Market) -> Self {
        Self::at(market, market.members.len() - 1).await
    }

    /// In the place of one of the members.
    async fn at(market: &Market, member: usize) -> Self {
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

    fn hold(&self) -> TransferId {
        TransferId::from_bytes([self.jobs; 16])
    }

    async fn open(&self, market: &Market) -> (LinkSender, LinkReceiver) {
        let link = self.transport.open(&market.address()).await.unwrap();
        link.split()
    }

    async fn quoted(&mut self, market: &Market) -> Job {
        let (sender, receiver) = self.open(market).await;
        let job = self.asks(sender, receiver).await;
        job.unwrap_or_else(|refused| panic!("{refused}"))
    }

    async fn asks(
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
    async fn leaves_one_unsigned(&mut self, market: &Market) -> Job {
        let mut job = self.quoted(market).await;
        job.start(self).await;
        job.pays(self, None).await;
        job.sender.finish().unwrap();
        let over = async { while matches!(job.receiver.receive().await, Ok(Some(_))) {} };
        soon("the end of a job", over).await;
        job
    }

    /// Buys and pays for one answer as one should.
    async fn is_honest_once(&mut self, market: &Market) -> Job {
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
    fn window(&self) -> u32 {
        u32::from(self.quote.window) * u32::from(self.quote.chunk_tokens)
    }

    fn first(&self, consumer: &Consumer) -> Start {
        Start {
            quote: self.quote.id(),
            hold: consumer.hold(),
            messages: messages(),
            sampler: Sampler::GREEDY,
            stop: Vec::new(),
            under: None,
        }
    }

    async fn start(&mut self, consumer: &Consumer) {
        let start = Frame::Start(self.first(consumer));
        self.sender.send(&start).await.unwrap();
    }

    /// Pays as one should until something is proposed, or until it cheats.
    async fn pays(&mut self, consumer: &Consumer, cheat: Option<&Cheat>) {
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
    async fn creeps(&mut self, consumer: &Consumer) -> (Duration, Refuse) {
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
    fn receipt(&self, signer: &SecretKey, change: impl FnOnce(&mut Agreement)) -> Frame {
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
    async fn ends_with(&mut self, word: Option<Frame>) -> bool {
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

    async fn is_refused(&mut self, code: RefuseCode, says: &str, what: &str) {
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
async fn some_turns() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Answers every claim with no.
async fn disowns(transport: Arc<MemoryTransport>) {
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
async fn has_earned(market: &Market, earned: Amount, what: &str) {
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
async fn others_trade(market: &Market, what: &str) {
    let bought = soon(what, Box::pin(market.buy())).await;
    let answer = bought.unwrap_or_else(|failure| panic!("{what}: {failure}"));
    assert_eq!(answer.trm_cost, SMALL, "{what}");
    for node in [&market.founder, market.members.first().unwrap()] {
        assert!(crate::holds(node).await, "{what}");
    }
}
