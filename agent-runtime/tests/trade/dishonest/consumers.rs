//! Consumers that cheat a whole node that sells to them. Each is a member with a welcome loan, so that it is
//! served; another member is honest and buys as before.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::select_all;
use tirami_agent_runtime::ops::{Balance, ChangeServe};
use tirami_manifest::commerce::Receipt;
use tirami_manifest::job::Sampler;
use tirami_manifest::key::SecretKey;
use tirami_manifest::{Amount, NetworkId, NodeId, QuoteId, ReceiptId, TransferId, trm};
use tirami_mesh::engine::Engine;
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::net::transport::{Incoming, Transport};
use tirami_mesh::proto::message::{
    Chunk, Countersign, Frame, Pace, Quoted, RefuseCode, Retry, SignedBytes, Start,
};

use super::consumer::{
    Cheat, Consumer, Job, VOUCHER_IN_TIME, VOUCHER_LATE, Word, disowns, has_earned, market,
    messages, others_trade, some_turns,
};
use super::{DETAILS, Log, passes, soon, until};
use crate::run;
use crate::selling::Market;

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
