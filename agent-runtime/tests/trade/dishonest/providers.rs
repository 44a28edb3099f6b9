//! Providers that cheat a whole node that buys of them. Each offers what `echo` does for half the price, so that
//! it is asked first; the founder is honest and does what is left.

use std::time::Duration;

use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::{Balance, ChangeServe, Operation, Status};
use tirami_manifest::commerce::{Agreement, Quote};
use tirami_manifest::job::Finish;
use tirami_manifest::{
    Amount, ModelId, Multiplier, NetworkId, NodeId, QuoteId, Timestamp, TransferId, trm,
};
use tirami_mesh::net::codec::CHUNK_TEXT_MAX;
use tirami_mesh::proto::message::{Countersign, Frame, Pace, Quoted};

use super::provider::{
    BEGUN, FIRST, LAST, PROMPT, PROPOSAL, Provider, QUOTE, SECOND, TOKENS_IN, TOKENS_OUT, Word,
    balanced, begun, buy, bytes, chunk, honest, no_time, price, priced, refuse, say,
};
use super::{DEFAULT, Log, passes, soon, until};
use crate::{chat, me, pair, run};

/// One way to cheat a consumer.
pub(super) struct Cheat {
    pub(super) name: &'static str,
    /// What the consumer's log says of it.
    pub(super) says: &'static str,
    /// What it costs the consumer: the prompt and so many tokens of the answer, at the quoted price.
    pub(super) costs: Costs,
    pub(super) how: How,
}

/// What is vouched for when a cheat shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Costs {
    /// The prompt was not paid for yet.
    Nothing,
    /// The prompt, and so many tokens that arrived before.
    Tokens(u32),
}

pub(super) enum How {
    /// It quotes something else.
    Quotes(fn(&mut Quote)),
    /// It proposes something else than it did.
    Proposes(fn(&mut Agreement)),
    /// It says something else than an honest provider.
    Says(fn(&mut Vec<Word>)),
}

impl Costs {
    pub(super) fn amount(self) -> Amount {
        match self {
            Self::Nothing => Amount::ZERO,
            Self::Tokens(tokens) => price(tokens),
        }
    }
}

impl Cheat {
    fn words(&self) -> Vec<Word> {
        let mut words = honest();
        match self.how {
            How::Quotes(change) => words[QUOTE] = Word::Quote(change),
            How::Proposes(change) => words[PROPOSAL] = Word::Propose(change),
            How::Says(change) => change(&mut words),
        }
        words
    }
}

/// Asserts that the honest one did what was asked, and what both providers have for it.
async fn passed_over(cheat: &Cheat) {
    let (pair, what) = (pair().await, cheat.name);
    let log = Log::from(DEFAULT);
    let cheater = Provider::beside(&pair, cheat.words()).await;
    let answer = buy(&pair, &cheater, what).await;
    log.says(cheat.says, what);
    // Not a word is the cheater's that it did not deliver, and none is missing.
    assert_eq!(answer.text.trim(), PROMPT, "{what}");
    assert_eq!(answer.provider, pair.founder.node(), "{what}");
    let costs = cheat.costs.amount();
    let received = price(cheater.got.lock().unwrap().sent);
    assert!(costs <= received, "{what}: over-billed");
    let buyer = run(&pair.member, Balance {}).await.unwrap();
    assert_eq!(buyer.trm_unclaimed, costs, "{what}");
    // It claims that, twice, and gets it once.
    if let Some(claim) = cheater.claim() {
        let (id, receipt) = (claim.id(), claim.to_bytes());
        let claim = Frame::Claim(Countersign { receipt });
        for _ in 0..2 {
            assert_eq!(cheater.ask(&claim).await, Frame::Settled(id));
        }
    }
    balanced(&pair, (costs, answer.trm_cost), what).await;
}

const QUOTES: &[Cheat] = &[
    Cheat {
        name: "dearer than its offer",
        says: "its quote is dearer than its offer",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.multiplier = Multiplier::PAR),
    },
    Cheat {
        name: "a maximum above its figures",
        says: "its quote does not follow from its model's figures",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.max_amount = trm!("900")),
    },
    Cheat {
        name: "for nothing",
        says: "work that costs nothing is not traded",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| {
            (quote.multiplier, quote.max_amount) = (Multiplier::from_ppm(0), Amount::ZERO);
        }),
    },
    Cheat {
        name: "a prompt that is not so long",
        says: "counts more prompt tokens than the prompt has bytes",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.max_in = 4_000),
    },
    Cheat {
        name: "a longer answer than was asked for",
        says: "its quote is not for what was asked",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.max_out += 1),
    },
    Cheat {
        name: "a window without end",
        says: "its window is not one that this build buys in",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.window = u16::MAX),
    },
    Cheat {
        name: "a chunk without end",
        says: "its window is not one that this build buys in",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| (quote.chunk_tokens, quote.window) = (64, 1)),
    },
    Cheat {
        name: "another model",
        says: "its quote is not for what was asked",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.card.id = ModelId::from_bytes([9; 32])),
    },
    Cheat {
        name: "a quote of another consumer",
        says: "its quote is not for what was asked",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.consumer = NodeId::from_bytes([9; 32])),
    },
    Cheat {
        name: "a quote that has expired",
        says: "its quote is not for what was asked",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.expires = Timestamp::from_ms(1_799_999_999_999)),
    },
    Cheat {
        name: "a quote of another network",
        says: "its quote is not for what was asked",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.network = NetworkId::from_bytes([9; 32])),
    },
    Cheat {
        name: "a quote of another provider",
        says: "its quote is not for what was asked",
        costs: Costs::Nothing,
        how: How::Quotes(|quote| quote.provider = NodeId::from_bytes([9; 32])),
    },
    Cheat {
        name: "a forged quote",
        says: "the signature is not by",
        costs: Costs::Nothing,
        how: How::Says(|words| words[QUOTE] = Word::ForgedQuote),
    },
    Cheat {
        name: "half a quote",
        says: "the bytes end",
        costs: Costs::Nothing,
        how: How::Says(|words| {
            let quote = vec![1; 40];
            words[QUOTE] = Word::Say(Frame::Quoted(Quoted {
                quote,
                pace: Pace::default(),
            }));
        }),
    },
    Cheat {
        name: "an answer instead of a price",
        says: "it said Chunk",
        costs: Costs::Nothing,
        how: How::Says(|words| words[QUOTE] = chunk(0)),
    },
    Cheat {
        name: "no price at all",
        says: "said nothing for 5 s",
        costs: Costs::Nothing,
        how: How::Says(|words| words[QUOTE] = Word::Nothing),
    },
];

#[tokio::test]
async fn a_quote_that_is_not_for_what_was_asked_costs_nothing() {
    for cheat in QUOTES {
        Box::pin(passed_over(cheat)).await;
    }
}

/// Sixteen of the twenty tokens are vouched for when a proposal comes.
const BY_THEN: Costs = Costs::Tokens(16);

const PROPOSALS: &[Cheat] = &[
    Cheat {
        name: "more tokens than were quoted",
        says: "the receipt counts more tokens than the quote allows",
        costs: BY_THEN,
        how: How::Proposes(|a| {
            a.usage.tokens_out = 21;
            priced(a);
        }),
    },
    Cheat {
        name: "the answer billed twice",
        says: "the receipt counts more tokens than the quote allows",
        costs: BY_THEN,
        how: How::Proposes(|a| {
            a.usage.tokens_out *= 2;
            priced(a);
        }),
    },
    Cheat {
        name: "tokens that were not sent",
        says: "it counts other tokens than it sent",
        costs: BY_THEN,
        how: How::Says(|words| {
            words.remove(LAST);
            words[PROPOSAL - 1] = Word::Propose(|a| {
                a.usage.tokens_out = TOKENS_OUT;
                priced(a);
            });
        }),
    },
    Cheat {
        name: "a longer prompt than at first",
        says: "the receipt counts more tokens than the quote allows",
        costs: BY_THEN,
        how: How::Proposes(|a| {
            a.usage.tokens_in += 1;
            priced(a);
        }),
    },
    Cheat {
        name: "another prompt than at first",
        says: "it counts another prompt than at first",
        costs: BY_THEN,
        how: How::Proposes(|a| {
            a.usage.tokens_in -= 1;
            priced(a);
        }),
    },
    Cheat {
        name: "the price after the quote",
        says: "the receipt charges at another multiplier than the quote",
        costs: BY_THEN,
        how: How::Proposes(|a| {
            a.multiplier = Multiplier::PAR;
            priced(a);
        }),
    },
    Cheat {
        name: "invented work",
        says: "the receipt's FLOP do not follow from its tokens and the model",
        costs: BY_THEN,
        how: How::Proposes(|a| a.kflop *= 2),
    },
    Cheat {
        name: "an invented sum",
        says: "the receipt's amount does not follow from its FLOP",
        costs: BY_THEN,
        how: How::Proposes(|a| a.amount = trm!("1000")),
    },
    Cheat {
        name: "an earlier debt",
        says: "the receipt continues an earlier one",
        costs: BY_THEN,
        how: How::Proposes(|a| a.earlier = trm!("1")),
    },
    Cheat {
        name: "another quote",
        says: "the receipt names another quote, party, network or model",
        costs: BY_THEN,
        how: How::Proposes(|a| a.quote = QuoteId::from_bytes([9; 32])),
    },
    Cheat {
        name: "another network",
        says: "the receipt names another quote, party, network or model",
        costs: BY_THEN,
        how: How::Proposes(|a| a.network = NetworkId::from_bytes([9; 32])),
    },
    Cheat {
        name: "another hold",
        says: "it names another hold",
        costs: BY_THEN,
        how: How::Proposes(|a| a.hold = TransferId::from_bytes([9; 16])),
    },
    Cheat {
        name: "another transcript",
        says: "its transcript is not what it sent",
        costs: BY_THEN,
        how: How::Proposes(|a| a.transcript = [9; 32]),
    },
    Cheat {
        name: "another sampler",
        says: "it used another sampler than was asked for",
        costs: BY_THEN,
        how: How::Proposes(|a| a.temperature_milli = 700),
    },
    Cheat {
        name: "a voucher that it never got",
        says: "it names other vouchers than it was sent",
        costs: BY_THEN,
        how: How::Proposes(|a| a.voucher_seq += 1),
    },
    Cheat {
        name: "less than was vouched for",
        says: "it counts other tokens than it sent",
        costs: BY_THEN,
        how: How::Proposes(|a| {
            (a.usage.tokens_out, a.finish) = (8, Finish::Cancelled);
            priced(a);
        }),
    },
    Cheat {
        name: "a forged proposal",
        says: "the signature is not by",
        costs: BY_THEN,
        how: How::Says(|words| words[PROPOSAL] = Word::ForgedProposal),
    },
];

#[tokio::test]
async fn a_proposal_that_is_not_what_was_done_is_not_signed() {
    let ways = QUOTES.len() + PROPOSALS.len() + ANSWERS.len();
    assert_eq!(ways, 58, "docs/status.md says how many");
    for cheat in PROPOSALS {
        Box::pin(passed_over(cheat)).await;
    }
}

const ANSWERS: &[Cheat] = &[
    Cheat {
        name: "nothing after the prompt",
        says: "said nothing for 60 s",
        costs: Costs::Nothing,
        how: How::Says(|words| words[BEGUN] = Word::Nothing),
    },
    Cheat {
        name: "nothing once the prompt is paid for",
        says: "said nothing for 60 s",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = Word::Nothing),
    },
    Cheat {
        name: "silence in the middle",
        says: "said nothing for 60 s",
        costs: Costs::Tokens(16),
        how: How::Says(|words| words[LAST] = Word::Nothing),
    },
    Cheat {
        name: "the rest too late",
        says: "said nothing for 60 s",
        costs: Costs::Tokens(8),
        how: How::Says(|words| words.insert(SECOND, Word::Nothing)),
    },
    // Each word is in time, and the job is not.
    Cheat {
        name: "a token at a time",
        says: "it took longer than 321 s",
        costs: Costs::Tokens(8),
        how: How::Says(|words| {
            let each = PROMPT.split_inclusive(' ').skip(8).zip(1..=6);
            let drips = each.flat_map(|(word, index)| [Word::Dawdle, say(index, 1, word)]);
            let drips = drips.chain([Word::Nothing]);
            drop(words.splice(SECOND..PROPOSAL, drips));
        }),
    },
    Cheat {
        name: "the end in the middle",
        says: "it hung up",
        costs: Costs::Tokens(16),
        how: How::Says(|words| words.truncate(LAST)),
    },
    Cheat {
        name: "a refusal in the middle",
        says: "not any more",
        costs: Costs::Tokens(8),
        how: How::Says(|words| words[SECOND] = refuse()),
    },
    Cheat {
        name: "a longer prompt than was quoted",
        says: "it counts more prompt tokens than it quoted",
        costs: Costs::Nothing,
        how: How::Says(|words| words[BEGUN] = begun(TOKENS_IN + 1, 0)),
    },
    Cheat {
        name: "more cached than there is",
        says: "it counts more tokens as cached than the prompt has",
        costs: Costs::Nothing,
        how: How::Says(|words| words[BEGUN] = begun(TOKENS_IN, TOKENS_IN + 1)),
    },
    Cheat {
        name: "another beginning",
        says: "it began twice",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words.insert(FIRST, begun(TOKENS_IN, 0))),
    },
    Cheat {
        name: "no beginning",
        says: "it did not say how long the prompt is",
        costs: Costs::Nothing,
        how: How::Says(|words| words[BEGUN] = chunk(0)),
    },
    Cheat {
        name: "a chunk left out",
        says: "it sent a chunk out of order",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = chunk(1)),
    },
    Cheat {
        name: "a chunk twice",
        says: "it sent a chunk out of order",
        costs: Costs::Tokens(8),
        how: How::Says(|words| words[SECOND] = chunk(0)),
    },
    Cheat {
        name: "a chunk with nothing in it",
        says: "it sent a chunk with nothing in it",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = say(0, 0, "")),
    },
    Cheat {
        name: "more than its window",
        says: "it sent more than its window without being paid",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = say(0, 9, "a b c d e f g h i ")),
    },
    Cheat {
        name: "more tokens than were quoted",
        says: "it sent more tokens than it quoted",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = say(0, 21, "a b c ")),
    },
    Cheat {
        name: "chunks without end",
        says: "it sent more chunks than an answer can have",
        costs: Costs::Tokens(0),
        how: How::Says(|words| drop(words.splice(FIRST.., (0..40).map(|n| say(n, 0, "more "))))),
    },
    Cheat {
        name: "text without end",
        says: "it sent more text than its tokens can make",
        costs: Costs::Tokens(0),
        how: How::Says(|words| {
            let long = "x".repeat(CHUNK_TEXT_MAX);
            drop(words.splice(FIRST.., (0..2).map(|n| say(n, 0, &long))));
        }),
    },
    Cheat {
        name: "another kind of word",
        says: "it said ListOffers in the middle of a job",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = Word::Say(Frame::ListOffers)),
    },
    Cheat {
        name: "a frame above the limit",
        says: "is above the limit of 1048576",
        costs: Costs::Tokens(0),
        how: How::Says(|words| {
            words[FIRST] = bytes(|bytes| bytes[..4].copy_from_slice(&[0xff; 4]));
        }),
    },
    Cheat {
        name: "a chunk above its limit",
        says: "the limit is 65536",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = oversized()),
    },
    Cheat {
        name: "half a frame",
        says: "the bytes end in the middle of a frame",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = bytes(|bytes| bytes.truncate(20))),
    },
    Cheat {
        name: "a frame with more behind it",
        says: "bytes too many in a frame",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = bytes(|bytes| bytes.extend([0; 9]))),
    },
    Cheat {
        name: "a frame of another version",
        says: "frame version 9 is not known here",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = bytes(|bytes| bytes[4] = 9)),
    },
    Cheat {
        name: "a frame of garbage",
        says: "the body of a frame of kind 51 is malformed",
        costs: Costs::Tokens(0),
        how: How::Says(|words| words[FIRST] = bytes(|bytes| bytes[7..].fill(0xff))),
    },
];

/// A chunk with one byte of text too many.
fn oversized() -> Word {
    let body = postcard_chunk(CHUNK_TEXT_MAX + 1);
    let mut bytes = u32::try_from(3 + body.len())
        .unwrap()
        .to_le_bytes()
        .to_vec();
    bytes.extend([1, 51, 0]);
    bytes.extend(body);
    Word::Raw(bytes)
}

/// Index 0, no tokens, so many bytes of text; as varints.
fn postcard_chunk(text: usize) -> Vec<u8> {
    let mut body = vec![0, 0];
    let mut left = text;
    while left >= 0x80 {
        body.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    body.push(u8::try_from(left).unwrap());
    body.extend(vec![b'x'; text]);
    body
}

#[tokio::test]
async fn a_provider_that_breaks_off_or_says_what_it_must_not_is_paid_what_was_vouched_for() {
    for cheat in ANSWERS {
        Box::pin(passed_over(cheat)).await;
    }
}

#[tokio::test]
async fn an_answer_that_arrived_whole_is_an_answer_though_nothing_is_proposed() {
    let what = "no proposal at all";
    let (pair, log) = (pair().await, Log::from(DEFAULT));
    let mut words = honest();
    words[PROPOSAL] = Word::Nothing;
    let cheater = Provider::beside(&pair, words).await;
    let answer = buy(&pair, &cheater, what).await;
    log.says("said nothing for 60 s", what);
    assert_eq!(answer.text.trim(), PROMPT);
    assert_eq!(
        (answer.tokens_in, answer.tokens_out),
        (TOKENS_IN, TOKENS_OUT)
    );
    assert_eq!(
        (answer.receipt, answer.finish_reason.as_str()),
        (None, "length")
    );
    assert_eq!(
        answer.trm_cost,
        price(16),
        "what was vouched for, and no more"
    );
    assert!(buy(&pair, &cheater, what).await.replayed);
    let claim = cheater.claim().unwrap();
    let (id, receipt) = (claim.id(), claim.to_bytes());
    let claim = Frame::Claim(Countersign { receipt });
    assert_eq!(cheater.ask(&claim).await, Frame::Settled(id));
    balanced(&pair, (price(16), price(16)), what).await;
}

/// Only the receipt that was sent in a job is settled by it.
#[tokio::test]
async fn a_provider_that_says_that_it_booked_another_receipt_is_not_believed() {
    let what = "another receipt";
    let (pair, log) = (pair().await, Log::from(DEFAULT));
    let mut words = honest();
    words.pop();
    let cheater = Provider::beside(&pair, words.clone()).await;
    let bought = async || {
        let mut request = chat(PROMPT);
        request.max_tokens = Some(TOKENS_OUT);
        let bought = Box::pin(run(&pair.member, request));
        soon(what, bought).await.unwrap().receipt.unwrap()
    };
    let unbooked = async || run(&pair.member, Status {}).await.unwrap().outbox;
    let first = bought().await;
    assert_eq!(unbooked().await, 1, "nobody said that it was booked");
    words.push(Word::Say(Frame::Settled(first)));
    *cheater.words.lock().unwrap() = words;
    cheater.forgets();
    bought().await;
    log.says("booked another receipt than it was sent", what);
    assert_eq!(unbooked().await, 2, "both are sent again");
}

/// One that just now did not do what it should is not asked a second time for the same request.
#[tokio::test]
async fn who_said_nothing_to_a_question_for_a_price_is_asked_once_in_a_request() {
    let (pair, what) = (pair().await, "one question");
    let cheater = Provider::beside(&pair, honest()).await;
    let answer = buy(&pair, &cheater, what).await;
    assert_eq!(answer.provider, cheater.key.id());
    // Else its receipt is sent again as time passes.
    until(what, async || {
        let status = run(&pair.member, Status {}).await.unwrap();
        (status.outbox == 0).then_some(())
    })
    .await;
    run(&pair.founder, ChangeServe::Pause {}).await.unwrap();
    *cheater.words.lock().unwrap() = vec![Word::Nothing];
    cheater.forgets();
    let streams = || pair.network.opened(pair.member.node(), cheater.key.id());
    let before = streams();
    let mut request = chat("something else");
    request.max_tokens = Some(TOKENS_OUT);
    let bought = cheater.while_time_passes(run(&pair.member, request));
    let failure = soon(what, Box::pin(bought)).await.unwrap_err();
    assert!(failure.message.contains("said nothing"), "{failure}");
    // For its price, and in the second round for what it offers now.
    assert_eq!(streams() - before, 2, "{failure}");
}

#[tokio::test]
async fn who_takes_the_price_of_the_prompt_and_then_has_no_time_is_left_alone_after_three() {
    let pair = pair().await;
    let mut words = honest();
    words.truncate(FIRST);
    words.push(no_time());
    let cheater = Provider::beside(&pair, words).await;
    for taken in 1..=4 {
        let mut request = chat(PROMPT);
        request.max_tokens = Some(TOKENS_OUT);
        let bought = cheater.while_time_passes(run(&pair.member, request));
        let answer = soon("an answer", Box::pin(bought)).await.unwrap();
        assert_eq!(answer.provider, pair.founder.node());
        let vouchers = cheater.got.lock().unwrap().vouchers.len();
        assert_eq!(vouchers, taken.min(3), "it is asked three times");
    }
}

#[tokio::test]
async fn a_provider_whose_time_a_slow_reader_here_used_up_is_asked_again() {
    let pair = pair().await;
    let mut words = honest();
    words.truncate(FIRST);
    // A token at a time; eight are vouched for together.
    words.extend((0..8).map(|index| say(index, 1, "a ")));
    words.push(Word::Paid);
    words.extend((8..14).map(|index| say(index, 1, "a ")));
    words.push(no_time());
    let provider = Provider::beside(&pair, words).await;
    for _ in 1..=4 {
        provider.forgets();
        let mut request = chat(PROMPT);
        request.max_tokens = Some(TOKENS_OUT);
        let (text, mut reader) = tokio::sync::mpsc::channel(1);
        request.prepare();
        let bought = request.run(&pair.member, me(&pair.member), Some(text));
        let read = async {
            let mut read = String::new();
            for _ in 0..13 {
                read.push_str(&reader.recv().await.unwrap());
                // The next piece waits to be taken.
                until("the next piece", async || (reader.len() == 1).then_some(())).await;
                passes(Duration::from_secs(29)).await;
            }
            while let Some(piece) = reader.recv().await {
                read.push_str(&piece);
            }
            read
        };
        let both = async { tokio::join!(bought, read) };
        let (answer, read) = soon("an answer", Box::pin(both)).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.provider, &answer.text),
            (pair.founder.node(), &read)
        );
        let got = provider.got.lock().unwrap().clone();
        assert_eq!(
            (got.sent, got.vouchers.len()),
            (14, 2),
            "it is asked each time"
        );
    }
}

#[tokio::test]
async fn what_earlier_tries_cost_is_part_of_max_trm() {
    let (pair, what) = (pair().await, "the same request once more");
    let mut words = honest();
    words.truncate(LAST);
    let cheater = Provider::beside(&pair, words).await;
    // Enough for the cheaper one's whole answer, and not for the rest at the other's price.
    let most = price(TOKENS_OUT);
    for again in [false, true] {
        let mut request = chat(PROMPT);
        request.max_tokens = Some(TOKENS_OUT);
        request.idempotency_key = Some("k".into());
        request.max_trm = Some(most);
        let bought = cheater.while_time_passes(run(&pair.member, request));
        let failure = soon(what, Box::pin(bought)).await.unwrap_err();
        assert_eq!(failure.code, FailureCode::AboveMaxTrm, "{failure}");
        let owed = format!("without the {} TRM owed", price(16));
        assert!(failure.message.contains(&owed), "{failure}");
        // Who quotes more than is left, as both do the second time, is not sent the prompt.
        let seen_by = if again {
            vec![]
        } else {
            vec![cheater.key.id()]
        };
        assert_eq!(*failure.seen_by, *seen_by, "{what}");
        let buyer = run(&pair.member, Balance {}).await.unwrap();
        assert_eq!(buyer.trm_unclaimed, price(16), "{what}");
        assert_eq!(buyer.trm_held, Amount::ZERO, "{what}");
    }
}

/// What a provider does when it is told that nobody wants the rest, and what the consumer pays then.
struct CalledOff {
    name: &'static str,
    after: fn() -> Vec<Word>,
    /// How it ends for the consumer: none where it signs.
    says: Option<&'static str>,
    costs: Costs,
}

const CALLED_OFF: &[CalledOff] = &[
    CalledOff {
        name: "it proposes what was vouched for",
        after: || {
            vec![Word::Propose(|a| {
                a.finish = Finish::Cancelled;
            })]
        },
        says: None,
        costs: Costs::Tokens(8),
    },
    CalledOff {
        name: "it was at the end already, within the window",
        after: || vec![chunk(1), Word::Propose(|_| {})],
        says: None,
        costs: Costs::Tokens(16),
    },
    CalledOff {
        name: "it goes on beyond the window",
        after: || vec![chunk(1), chunk(2), Word::Propose(|_| {})],
        says: Some("it went on although it was called off"),
        costs: Costs::Tokens(8),
    },
    CalledOff {
        name: "it says nothing more",
        after: || vec![Word::Nothing],
        says: Some("said nothing for 60 s"),
        costs: Costs::Tokens(8),
    },
];

#[tokio::test]
async fn an_answer_that_goes_on_after_it_was_called_off_is_not_paid() {
    for row in CALLED_OFF {
        let (pair, what) = (pair().await, row.name);
        let mut words = honest();
        words.truncate(SECOND);
        words.push(Word::Wait);
        words.extend((row.after)());
        words.extend([Word::Signed, Word::Settle]);
        let cheater = Provider::beside(&pair, words).await;
        let mut request = chat(PROMPT);
        request.max_tokens = Some(TOKENS_OUT);
        // Nobody reads on after the first piece, and nobody knows its key.
        let (text, mut reader) = tokio::sync::mpsc::channel(1);
        request.prepare();
        let bought = request.run(&pair.member, me(&pair.member), Some(text));
        let bought = cheater.while_time_passes(bought);
        let read = async {
            drop((reader.recv().await, reader));
            cheater.goes_on();
        };
        let both = async { tokio::join!(bought, read).0 };
        let bought = soon(what, Box::pin(both)).await;
        match (row.says, bought) {
            (None, Ok(answer)) => assert_eq!(answer.trm_cost, row.costs.amount(), "{what}"),
            (Some(says), Err(failure)) => assert!(failure.message.contains(says), "{failure}"),
            (_, bought) => panic!("{what}: {bought:?}"),
        }
        if row.says.is_some() {
            let claim = cheater.claim().unwrap();
            let (id, receipt) = (claim.id(), claim.to_bytes());
            let claim = Frame::Claim(Countersign { receipt });
            assert_eq!(cheater.ask(&claim).await, Frame::Settled(id), "{what}");
        }
        let costs = row.costs.amount();
        balanced(&pair, (costs, costs), what).await;
    }
}
