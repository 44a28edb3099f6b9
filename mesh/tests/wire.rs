//! The bytes of every frame, by hand, with a comment for each field. A change here is a change of
//! the protocol: give it a new kind or a new version.

use tirami_manifest::id::{from_hex, to_hex};
use tirami_manifest::job::{Message, PromptShape, Role, Sampler};
use tirami_manifest::model::ModelCard;
use tirami_manifest::signed::hash;
use tirami_manifest::{EntryId, ModelId, Multiplier, QuoteId, ReceiptId, RepaymentId, TransferId};
use tirami_mesh::net::codec::{self, CodecError, decode, encode};
use tirami_mesh::proto::{
    AskQuote, Begun, Certified, Certify, Chunk, Countersign, Credit, Drawn, Frame, Join, Joined,
    Offer, Offers, Pace, Propose, Quoted, Refuse, RefuseCode, Repay, ReserveUnits, Retry,
    ReturnUnits, SignedBytes, Start, UnderMandate, UnitsReturned,
};

const ID_11: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const ID_22: &str = "2222222222222222222222222222222222222222222222222222222222222222";

/// Every kind once; the second part is its bytes in hexadecimal, one text for each field.
#[expect(clippy::too_many_lines, reason = "one entry for each kind")]
fn golden() -> Vec<(Frame, Vec<&'static str>)> {
    vec![
        (
            Frame::Refuse(Refuse {
                code: RefuseCode::NotFunded,
                message: "no".into(),
                retry: Retry::Later,
            }),
            vec![
                "08000000", // length of the rest
                "01",       // version
                "0100",     // kind 1
                "03",       // code: NotFunded
                "02",       // bytes of message
                "6e6f",     // message
                "01",       // retry: Later
            ],
        ),
        (
            Frame::Ping(300),
            vec![
                "05000000", "01", "0200", // kind 2
                "ac02", // number
            ],
        ),
        (
            Frame::Pong(1),
            vec![
                "04000000", "01", "0300", // kind 3
                "01",   // number
            ],
        ),
        (
            Frame::Join(Join {
                invitation: vec![0xaa, 0xbb],
            }),
            vec![
                "06000000", "01", "1000", // kind 16
                "02",   // bytes of invitation
                "aabb", // invitation
            ],
        ),
        (
            Frame::Joined(Joined {
                grant: Some(vec![0xcc]),
                note: "hi".into(),
            }),
            vec![
                "09000000", "01", "1100", // kind 17
                "01",   // there is a grant
                "01",   // bytes of grant
                "cc",   // grant
                "02",   // bytes of note
                "6869", // note
            ],
        ),
        (
            Frame::Joined(Joined {
                grant: None,
                note: String::new(),
            }),
            vec![
                "05000000", "01", "1100", // kind 17
                "00",   // there is no grant
                "00",   // bytes of note
            ],
        ),
        (
            Frame::Repay(Repay {
                repayment: vec![0xdd, 0xee],
            }),
            vec![
                "06000000", "01", "1200", // kind 18
                "02",   // bytes of repayment
                "ddee", // repayment
            ],
        ),
        (
            Frame::Repaid(RepaymentId::from_bytes([0x22; 32])),
            vec![
                "23000000", "01", "1300", // kind 19
                ID_22,  // repayment id
            ],
        ),
        (
            Frame::ListOffers,
            vec![
                "03000000", "01", "2000", // kind 32, no body
            ],
        ),
        (
            Frame::Offers(Offers {
                offers: vec![Offer {
                    name: "sprout".into(),
                    card: ModelCard {
                        id: ModelId::from_bytes([0x11; 32]),
                        block_weights: 300,
                        head_weights: 1,
                        attention_flop: 0,
                        window: 7,
                        context: 2_048,
                    },
                    multiplier: Multiplier::PAR,
                    waiting: 5,
                }],
            }),
            vec![
                "36000000",
                "01",
                "2100",         // kind 33
                "01",           // offers
                "06",           // bytes of name
                "7370726f7574", // name
                ID_11,          // model id
                "ac02",         // block weights: 300
                "01",           // head weights
                "00",           // attention FLOP
                "07",           // window
                "8010",         // context: 2048
                "c0843d",       // multiplier: 1 000 000 ppm
                "05",           // waiting
            ],
        ),
        (
            Frame::AskQuote(AskQuote {
                model: ModelId::from_bytes([0x11; 32]),
                shape: PromptShape(vec![(Role::System, 3), (Role::User, 200)]),
                max_out: 64,
                under_mandate: true,
            }),
            vec![
                "2b000000", "01", "3900", // kind 57
                ID_11,  // model
                "02",   // messages
                "00",   // role: system
                "03",   // bytes
                "01",   // role: user
                "c801", // bytes: 200
                "40",   // max out
                "01",   // under a mandate
            ],
        ),
        (
            Frame::Quoted(Quoted {
                quote: vec![0xdd; 3],
                pace: Pace {
                    first_token_ms: 200,
                    tokens_per_s_milli: 50_000,
                },
            }),
            vec![
                "0c000000", "01", "3100",   // kind 49
                "03",     // bytes of quote
                "dddddd", // quote
                "c801",   // milliseconds to the first token: 200
                "d08603", // tokens a second, in thousandths: 50,000
            ],
        ),
        (
            Frame::Start(Start {
                quote: QuoteId::from_bytes([0x22; 32]),
                hold: TransferId::from_bytes([0x33; 16]),
                messages: vec![Message {
                    role: Role::Assistant,
                    content: "ok".into(),
                }],
                sampler: Sampler {
                    temperature_milli: 700,
                    top_k: 40,
                    seed: 1 << 32,
                },
                stop: vec!["\n".into()],
                under: None,
            }),
            vec![
                "44000000",
                "01",
                "3a00",                             // kind 58
                ID_22,                              // quote
                "33333333333333333333333333333333", // hold
                "01",                               // messages
                "02",                               // role: assistant
                "02",                               // bytes of content
                "6f6b",                             // content
                "bc05",                             // temperature: 700 thousandths
                "28",                               // top k
                "8080808010",                       // seed: 2^32
                "01",                               // stop texts
                "01",                               // bytes
                "0a",                               // stop text
                "00",                               // no mandate pays
            ],
        ),
        (
            Frame::Start(Start {
                quote: QuoteId::from_bytes([0x22; 32]),
                hold: TransferId::from_bytes([0x33; 16]),
                messages: Vec::new(),
                sampler: Sampler {
                    temperature_milli: 0,
                    top_k: 0,
                    seed: 0,
                },
                stop: Vec::new(),
                under: Some(under()),
            }),
            vec![
                "3e000000",
                "01",
                "3a00",                             // kind 58
                ID_22,                              // quote
                "33333333333333333333333333333333", // hold
                "00",                               // messages
                "00",                               // temperature
                "00",                               // top k
                "00",                               // seed
                "00",                               // stop texts
                "01",                               // a mandate pays
                "02",                               // bytes of mandate
                "a1a2",                             // mandate
                "01",                               // bytes of spend
                "b1",                               // spend
            ],
        ),
        (
            Frame::Chunk(Chunk {
                index: 2,
                tokens: vec![1, 300],
                text: "a".into(),
            }),
            vec![
                "0a000000", "01", "3300", // kind 51
                "02",   // index
                "02",   // tokens
                "01",   // token 1
                "ac02", // token 300
                "01",   // bytes of text
                "61",   // text
            ],
        ),
        (
            Frame::Voucher(SignedBytes(vec![0xee])),
            vec![
                "05000000", "01", "3400", // kind 52
                "01",   // bytes of voucher
                "ee",   // voucher
            ],
        ),
        (
            Frame::Begun(Begun {
                tokens_in: 300,
                tokens_cached: 1,
            }),
            vec![
                "06000000", "01", "3b00", // kind 59
                "ac02", // tokens of the prompt
                "01",   // of those, not charged
            ],
        ),
        (
            Frame::Claim(Countersign {
                receipt: vec![0xcc],
            }),
            vec![
                "05000000", "01", "3c00", // kind 60
                "01",   // bytes of receipt
                "cc",   // receipt
            ],
        ),
        (
            Frame::Propose(Propose {
                agreement: vec![0xab],
            }),
            vec![
                "05000000", "01", "3500", // kind 53
                "01",   // bytes of agreement
                "ab",   // agreement
            ],
        ),
        (
            Frame::Countersign(Countersign {
                receipt: vec![0xcd],
            }),
            vec![
                "05000000", "01", "3600", // kind 54
                "01",   // bytes of receipt
                "cd",   // receipt
            ],
        ),
        (
            Frame::Settled(ReceiptId::from_bytes([0x22; 32])),
            vec![
                "23000000", "01", "3700", // kind 55
                ID_22,  // receipt
            ],
        ),
        (
            Frame::Cancel,
            vec![
                "03000000", "01", "3800", // kind 56, no body
            ],
        ),
        (
            Frame::ReserveUnits(ReserveUnits {
                under: under(),
                utrm: 300,
            }),
            vec![
                "0a000000", "01", "4000", // kind 64
                "02",   // bytes of mandate
                "a1a2", // mandate
                "01",   // bytes of spend
                "b1",   // spend
                "ac02", // at most 300 micro-TRM
            ],
        ),
        (
            Frame::UnitsReserved,
            vec![
                "03000000", "01", "4100", // kind 65, no body
            ],
        ),
        (
            Frame::ReleaseUnits(SignedBytes(vec![0xb1])),
            vec![
                "05000000", "01", "4200", // kind 66
                "01",   // bytes of spend
                "b1",   // spend
            ],
        ),
        (
            Frame::UnitsReleased,
            vec![
                "03000000", "01", "4300", // kind 67, no body
            ],
        ),
        (
            Frame::Drawn(Drawn {
                receipt: vec![0xcd],
                under: under(),
            }),
            vec![
                "0a000000", "01", "4400", // kind 68
                "01",   // bytes of receipt
                "cd",   // receipt
                "02",   // bytes of mandate
                "a1a2", // mandate
                "01",   // bytes of spend
                "b1",   // spend
            ],
        ),
        (
            Frame::ReturnUnits(ReturnUnits {
                chain: vec![0xa1, 0xa2],
                back: vec![0xc1],
            }),
            vec![
                "08000000", "01", "4500", // kind 69
                "02",   // bytes of mandate
                "a1a2", // mandate
                "01",   // bytes of return
                "c1",   // return
            ],
        ),
        (
            Frame::UnitsReturned(UnitsReturned {
                backs: vec![vec![0xc1], vec![0xc2]],
            }),
            vec![
                "08000000", "01", "4600", // kind 70
                "02",   // returns
                "01",   // bytes of the first
                "c1",   // the first
                "01",   // bytes of the second
                "c2",   // the second
            ],
        ),
        (
            Frame::Certify(Certify {
                entries: vec![vec![0xe1, 0xe2], vec![0xe3]],
                waiting: vec![ReceiptId::from_bytes([0x11; 32])],
            }),
            vec![
                "2a000000", // length: 3 and 39
                "01",       // version
                "5000",     // kind 80
                "02",       // entries
                "02e1e2",   // bytes of the first, and it
                "01e3",     // of the second
                "01",       // receipts
                ID_11,      // the first
            ],
        ),
        (
            Frame::Certified(Certified {
                certificate: Some(vec![0xc1]),
                credits: vec![Credit {
                    receipt: ReceiptId::from_bytes([0x22; 32]),
                    debit: EntryId::from_bytes([0x33; 32]),
                }],
            }),
            vec![
                "47000000",                                                         // length: 3 and 68
                "01",                                                               // version
                "5100",                                                             // kind 81
                "01",   // a certificate follows
                "01c1", // its bytes
                "01",   // credits
                "2222222222222222222222222222222222222222222222222222222222222222", // receipt
                "3333333333333333333333333333333333333333333333333333333333333333", // debit
            ],
        ),
    ]
}

fn under() -> UnderMandate {
    UnderMandate {
        chain: vec![0xa1, 0xa2],
        spend: vec![0xb1],
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    let pairs = digits.chunks(2).map(String::from_iter);
    pairs
        .flat_map(|pair| from_hex::<1>(&pair).expect("the golden bytes are hexadecimal"))
        .collect()
}

/// A frame around any kind and body.
fn frame(version: u8, kind: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 3).expect("test bodies are short");
    let len = len.to_le_bytes();
    [&len[..], &[version], &kind.to_le_bytes(), body].concat()
}

#[test]
fn every_frame_has_its_golden_bytes_and_comes_back_from_them() {
    for (frame, fields) in golden() {
        let hex = fields.concat();
        assert_eq!(to_hex(&encode(&frame).unwrap()), hex, "{}", frame.name());
        assert_eq!(decode(&bytes(&hex)).unwrap(), frame, "{}", frame.name());
    }
}

#[test]
fn the_golden_frames_cover_every_kind_there_is() {
    let mut covered: Vec<u16> = golden().iter().map(|(frame, _)| frame.kind()).collect();
    covered.sort_unstable();
    covered.dedup();
    let known: Vec<u16> = (0..=u16::MAX)
        .filter(|kind| decode(&frame(1, *kind, &[])) != Err(CodecError::Kind(*kind)))
        .collect();
    assert_eq!(covered, known);
}

#[test]
fn a_frame_cut_short_or_made_longer_is_refused() {
    for (frame, fields) in golden() {
        let whole = bytes(&fields.concat());
        for end in 0..whole.len() {
            assert_eq!(
                decode(&whole[..end]),
                Err(CodecError::Truncated),
                "{} cut to {end}",
                frame.name()
            );
            // The same with a length that fits: the body itself must not be readable.
            let mut shorter = whole[..end].to_vec();
            if let Some(rest) = end.checked_sub(4) {
                shorter[..4].copy_from_slice(&u32::try_from(rest).unwrap().to_le_bytes());
                assert!(decode(&shorter).is_err(), "{} of {end}", frame.name());
            }
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(decode(&longer), Err(CodecError::Trailing(1)));
        longer[..4].copy_from_slice(&u32::try_from(whole.len() - 3).unwrap().to_le_bytes());
        assert_eq!(
            decode(&longer),
            Err(CodecError::Trailing(1)),
            "{} with a byte after its body",
            frame.name()
        );
    }
}

#[test]
fn unknown_versions_and_kinds_are_named() {
    assert_eq!(decode(&frame(2, 32, &[])), Err(CodecError::Version(2)));
    assert_eq!(decode(&frame(0, 32, &[])), Err(CodecError::Version(0)));
    assert_eq!(decode(&frame(1, 48, &[])), Err(CodecError::Kind(48)));
    assert_eq!(decode(&frame(1, 1, &[14, 0, 0])), Err(CodecError::Body(1)));
}

#[test]
fn a_length_above_the_limit_is_refused_before_anything_is_read() {
    let max = u32::try_from(codec::FRAME_MAX).unwrap();
    let says = |rest: u32| codec::frame_len(&rest.to_le_bytes());
    assert_eq!(says(max - 4), Ok(Some(codec::FRAME_MAX)));
    assert_eq!(
        says(max - 3),
        Err(CodecError::Oversize {
            len: u64::from(max) + 1
        })
    );
    assert_eq!(
        says(u32::MAX),
        Err(CodecError::Oversize { len: (1 << 32) + 3 })
    );
    assert_eq!(says(2), Err(CodecError::Truncated));
    assert_eq!(codec::frame_len(&[0, 0, 0]), Ok(None));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table is one list")]
fn fields_above_their_limits_are_refused_by_sender_and_receiver() {
    let message = |len| Message {
        role: Role::User,
        content: "x".repeat(len),
    };
    let start = |messages, stop| {
        Frame::Start(Start {
            quote: QuoteId::from_bytes([0; 32]),
            hold: TransferId::from_bytes([0; 16]),
            messages,
            sampler: Sampler::GREEDY,
            stop,
            under: None,
        })
    };
    let chunk = |tokens, text| {
        Frame::Chunk(Chunk {
            index: 0,
            tokens: vec![0; tokens],
            text: "x".repeat(text),
        })
    };
    let document = |len| {
        Frame::Quoted(Quoted {
            quote: vec![0; len],
            pace: Pace::default(),
        })
    };
    let shape = |len| {
        Frame::AskQuote(AskQuote {
            model: ModelId::from_bytes([0; 32]),
            shape: PromptShape(vec![(Role::User, u32::MAX); len]),
            max_out: 1,
            under_mandate: false,
        })
    };
    let mandate = |chain, spend| {
        let under = UnderMandate {
            chain: vec![0; chain],
            spend: vec![0; spend],
        };
        Frame::ReserveUnits(ReserveUnits { under, utrm: 1 })
    };
    let returns = |count| {
        Frame::UnitsReturned(UnitsReturned {
            backs: vec![vec![0; 250]; count],
        })
    };
    for fits in [
        start(vec![message(codec::PROMPT_MAX)], vec![]),
        start(vec![message(0); codec::MESSAGES_MAX], vec![]),
        start(vec![], vec!["x".repeat(codec::STOP_MAX); codec::STOPS_MAX]),
        chunk(codec::CHUNK_TOKENS_MAX, codec::CHUNK_TEXT_MAX),
        document(codec::DOCUMENT_MAX),
        shape(codec::MESSAGES_MAX),
        mandate(codec::MANDATE_MAX, codec::DOCUMENT_MAX),
        returns(codec::RETURNS_MAX),
    ] {
        assert_eq!(decode(&encode(&fits).unwrap()).unwrap(), fits);
    }
    for above in [
        start(vec![message(codec::PROMPT_MAX), message(1)], vec![]),
        start(vec![message(0); codec::MESSAGES_MAX + 1], vec![]),
        start(vec![], vec!["x".repeat(codec::STOP_MAX + 1)]),
        start(vec![], vec![String::new(); codec::STOPS_MAX + 1]),
        chunk(codec::CHUNK_TOKENS_MAX + 1, 0),
        chunk(0, codec::CHUNK_TEXT_MAX + 1),
        document(codec::DOCUMENT_MAX + 1),
        shape(codec::MESSAGES_MAX + 1),
        mandate(codec::MANDATE_MAX + 1, 0),
        mandate(0, codec::DOCUMENT_MAX + 1),
        returns(codec::RETURNS_MAX + 1),
    ] {
        let refused = encode(&above).unwrap_err();
        assert!(matches!(refused, CodecError::Limit { .. }), "{refused}");
    }
    // What a hostile sender makes without our encoder.
    let long = [&[0, 0xad, 0x02][..], &[b'x'; 301], &[0]].concat();
    assert_eq!(
        decode(&frame(1, 1, &long)),
        Err(CodecError::Limit {
            field: "the message, in bytes,",
            len: 301,
            max: 300
        })
    );
    let tokens = [&[0, 0x81, 0x08][..], &[0; 1_025], &[0]].concat();
    assert!(matches!(
        decode(&frame(1, 51, &tokens)),
        Err(CodecError::Limit { len: 1_025, .. })
    ));
}

#[test]
fn a_length_inside_a_body_costs_no_memory() {
    // A chunk that says it has 2^32 - 1 tokens and ends there.
    let body = [0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(decode(&frame(1, 51, &body)), Err(CodecError::Truncated));
}

#[test]
fn lines_for_people_are_cut_and_carry_no_control_characters() {
    let refuse = |message: String| {
        Frame::Refuse(Refuse {
            code: RefuseCode::Busy,
            message,
            retry: Retry::Later,
        })
    };
    let sent = decode(&encode(&refuse("\u{e9}".repeat(400))).unwrap()).unwrap();
    assert_eq!(sent, refuse("\u{e9}".repeat(150)));
    // As a hostile sender would make it: an escape sequence that clears the screen.
    let raw = decode(&frame(1, 1, b"\x00\x05\x1b[2J\n\x00")).unwrap();
    assert_eq!(raw, {
        let Frame::Refuse(mut body) = refuse(" [2J ".into()) else {
            unreachable!()
        };
        body.retry = Retry::Never;
        Frame::Refuse(body)
    });
}

/// Bytes without a pattern, the same in every run.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    (0_u32..)
        .flat_map(|block| hash(b"noise\0", &[&seed.to_le_bytes(), &block.to_le_bytes()]))
        .take(len)
        .collect()
}

#[test]
fn no_bytes_make_the_decoder_panic_and_what_it_reads_can_be_sent() {
    let kinds: Vec<u16> = golden().iter().map(|(frame, _)| frame.kind()).collect();
    let mut read = 0_u32;
    for seed in 0..20_000_u32 {
        let len = usize::from(noise(seed, 1)[0]);
        let noise = noise(seed, len);
        drop(decode(&noise));
        let kind = kinds[seed as usize % kinds.len()];
        if let Ok(found) = decode(&frame(1, kind, &noise)) {
            read += 1;
            assert_eq!(decode(&encode(&found).unwrap()).unwrap(), found);
        }
    }
    assert!(read > 0, "no noise was ever a frame");
}

#[test]
fn no_changed_byte_makes_the_decoder_panic() {
    for (_, fields) in golden() {
        let whole = bytes(&fields.concat());
        for at in 0..whole.len() {
            for flip in 1..=u8::MAX {
                let mut changed = whole.clone();
                changed[at] ^= flip;
                if let Ok(found) = decode(&changed) {
                    assert_eq!(decode(&encode(&found).unwrap()).unwrap(), found);
                }
            }
        }
    }
}
