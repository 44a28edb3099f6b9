//! The bytes of every signed document, field by field, with digest and signature.
//!
//! The vectors were made by a second implementation that knows only `docs/protocol.md`. A change
//! here is a change of the protocol.

use tirami_manifest::bytes::DecodeError;
use tirami_manifest::commerce::{Agreement, Consent, Quote, Receipt, ReceiptError, Voucher};
use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::id::{PublicKey, from_hex, to_hex};
use tirami_manifest::job::{Finish, Message, Role, Transcript, prompt_hash};
use tirami_manifest::key::{SecretKey, Signature};
use tirami_manifest::loan::Repayment;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::{Document, Signed, Verified};
use tirami_manifest::ticket::Ticket;
use tirami_manifest::{
    Amount, InvitationId, ModelId, Multiplier, NetworkId, NodeId, QuoteId, Timestamp, TransferId,
};

#[path = "golden/owner.rs"]
mod owner;
#[path = "golden/travelling.rs"]
mod travelling;

/// A document as bytes in hexadecimal: one text for each field of the body, then what follows from
/// them.
struct Vector {
    body: &'static [&'static str],
    digest: &'static str,
    signature: &'static str,
}

/// Public key of the secret 32 bytes of 1.
const PROVIDER: &str = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c";

/// Public key of the secret 32 bytes of 2.
const CONSUMER: &str = "8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394";

/// Digest of the golden genesis.
const NETWORK: &str = "e3c01e8f8596ef24a1994572a2723155882f2d0b79771440a996d115f9299592";

/// Digest of the golden quote.
const QUOTE_ID: &str = "6596f82898a0ede8fa2ae16e7b844189ca56378656ecd3f9c9884efc0ea8a924";

const GENESIS: Vector = Vector {
    body: &[
        "01",                               // version
        "06000000",                         // bytes of name
        "676f6c64656e",                     // name
        "0068e5cf8b010000",                 // founded, ms
        "55555555555555555555555555555555", // nonce
        "01000000",                         // issuers
        PROVIDER,                           // issuer
        "00804884639b4a00",                 // quota, micro-TRM: the supply cap
        "01000000",                         // witnesses
        PROVIDER,                           // witness
        "40420f00",                         // base price, parts per million
        "00ca9a3b00000000",                 // welcome loan
        "0014730f00000000",                 // welcome term, ms
        "00c817a804000000",                 // welcome daily cap
    ],
    digest: "e3c01e8f8596ef24a1994572a2723155882f2d0b79771440a996d115f9299592",
    signature: "97ec186b3e885cf16ae0cdc83d480aa4c5890bb22aa0223fe703e6bead3f28e47d8be2e1695b648a525b5d959829c5faf42da183c7ad8380711e8bce7abadf02",
};

const QUOTE: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        PROVIDER,                                                           // provider
        CONSUMER,                                                           // consumer
        "1111111111111111111111111111111111111111111111111111111111111111", // card: model id
        "e803000000000000",                                                 // card: block weights
        "6400000000000000",                                                 // card: head weights
        "0a00000000000000",                                                 // card: attention FLOP
        "00000000",                                                         // card: window
        "00080000",                                                         // card: context
        "40420f00",                         // multiplier, parts per million
        "14000000",                         // max in
        "0a000000",                         // max out
        "4100000000000000",                 // max amount, micro-TRM
        "2000",                             // chunk tokens
        "0000",                             // window
        "e86be5cf8b010000",                 // issued, ms
        "18e1e5cf8b010000",                 // expires, ms
        "66666666666666666666666666666666", // nonce
    ],
    digest: "6596f82898a0ede8fa2ae16e7b844189ca56378656ecd3f9c9884efc0ea8a924",
    signature: "7d5a4cc17504c97920afad35d1c8c2b8735df049150e2b25df83c66f7de8c7db830e83e45d73c738e7530bbfcca03a4f347ae2050938fce6ef58431fa9722407",
};

const VOUCHER: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        "33333333333333333333333333333333",                                 // hold
        "00000000",                                                         // lane
        PROVIDER,                                                           // payee
        "03000000",                                                         // seq
        "1400000000000000",                                                 // total, micro-TRM
        "03000000",                                                         // tokens out
        "8888888888888888888888888888888888888888888888888888888888888888", // transcript
    ],
    digest: "d4998642d1c02406a8759873f224192e651250fc0a723de57c1b063a13e789b6",
    signature: "0a4711bb2e351a134695e4f53bdd9eda148539ae236d3d0e2bf19e13b5f3ab10e4abddd25306646f352bbf4f88b4f6afe07b94aa22a981828ffbc81c21c0f30b",
};

const AGREEMENT: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        "0100",                                                             // kind: trade
        PROVIDER,                                                           // provider
        CONSUMER,                                                           // consumer
        "77777777777777777777777777777777",                                 // nonce
        QUOTE_ID,                                                           // quote
        "01",                                                               // ledger: settled
        "33333333333333333333333333333333",                                 // hold
        "1111111111111111111111111111111111111111111111111111111111111111", // model
        "0c000000",                                                         // tokens in
        "02000000",                                                         // tokens cached
        "05000000",                                                         // tokens out
        "1f00000000000000",                                                 // kFLOP
        "40420f00",         // multiplier, parts per million
        "0000000000000000", // earlier
        "1f00000000000000", // amount, micro-TRM
        "8888888888888888888888888888888888888888888888888888888888888888", // transcript
        "2a00000000000000", // seed
        "bc020000",         // temperature, thousandths
        "28000000",         // top k
        "00000000",         // lane
        "00000000",         // voucher seq
        "01",               // audit ok
        "9999999999999999", // engine fingerprint
        "0100d06fe5cf8b01", // started, hybrid time
        "0200b873e5cf8b01", // ended, hybrid time
        "01",               // finish: stop
    ],
    digest: "73b7f3fad6cac67259da80ed0bcbfb13b5efc8198d8523cb497b44bf4343e8a6",
    signature: "0f58f53069b585ef36ef75a5fc56a6d167b2c8598eeab6d1e7101fbcaf0000dbdfa8a6fe62a382f8aac5fb7fef533f1528bdbbc9e0c36b516c7dfe136ba96c0a",
};

const INVITATION: Vector = Vector {
    body: &[
        "01",                               // version
        NETWORK,                            // network
        PROVIDER,                           // issuer
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", // invitation
    ],
    digest: "4678210ba038098693297da6e85c448b88e0143bd928449528996914f4fd864b",
    signature: "4fd33ec31e88a0d99b1bdeeea381e1cadd23f16ee463f04f110fe46127ebfde91246d3d01f993a20e962eb11d3cebbed3ea81dcf312d6d1230690550f120830e",
};

const LOAN_GRANT: Vector = Vector {
    body: &[
        "01",                               // version
        NETWORK,                            // network
        PROVIDER,                           // issuer
        CONSUMER,                           // borrower
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", // invitation
        "00ca9a3b00000000",                 // principal, micro-TRM
        "a077e5cf8b010000",                 // granted, ms
        "a08b58df8b010000",                 // due, ms
    ],
    digest: "900e971dddbe02c1e5d1b497e5eefee963c685e902f0b3cbd079dd3b6ba8a16e",
    signature: "9c042aff996efbdaf2b6ef9fa85a3f6a98d47477d5ded183c7c9530bbeeb33bc4544a1581a92ffa1e4a078fd2dd7334ad2d6264d7f2fa6d8a12b209fe3035305",
};

const REPAYMENT: Vector = Vector {
    body: &[
        "01",                               // version
        NETWORK,                            // network
        PROVIDER,                           // lender
        CONSUMER,                           // borrower
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", // invitation
        "a053ee0e00000000",                 // paid back so far, micro-TRM
    ],
    digest: "90df69d705a72603cad0461ff523497821fb14a43adc4953c55e55527dbc0ccf",
    signature: "02d25d7031ab9c90d7729c2d964554f3471d5d20631485abb53e1ac09a29ac636e1b4798ca375fcf1c4eb80e5ae638e086ad41eb59ed769a516f3a66beee3201",
};

/// The consumer's signature over the golden agreement.
const COUNTERSIGNATURE: &str = "c5eb45481eaa8c8b9033a0adcd035276b30c6cff2b075cb4c62555835b2dee5c77d70b5c84ad153c0454486c796322ea70a969b75b6c66a43ac390404b3a3e01";

/// The golden ticket: genesis, invitation and 127.0.0.1:7001.
const TICKET: &str = "tirami1_AY8AAAABBgAAAGdvbGRlbgBo5c-LAQAAVVVVVVVVVVVVVVVVVVVVVQEAAACKiOPddAnxlf1S2y08ul1yymcJvx2UEhvzdIgBtA9vXACASIRjm0oAAQAAAIqI4910CfGV_VLbLTy6XXLKZwm_HZQSG_N0iAG0D29cQEIPAADKmjsAAAAAABRzDwAAAAAAyBeoBAAAAJEAAAAB48Aej4WW7yShmUVyonIxVYgvLQt5dxRAqZbRFfkplZKKiOPddAnxlf1S2y08ul1yymcJvx2UEhvzdIgBtA9vXKqqqqqqqqqqqqqqqqqqqqpP0z7DHoig2Zsb3u6jgeHK3SPxbuRj8E8RD-RhJ-v96RJG09AfmTog6WLrEdPOu-0-qB3PMS1tEjBpBVDxIIMOAQAAAA4AAAAxMjcuMC4wLjE6NzAwMc9xpe4";

const PROMPT_HASH: &str = "4f35b49fecfe7cd52a2732301ee1d14032f18554962820f91f3e516f7577aaa3";
const TRANSCRIPT_START: &str = "d815f70d36b2098c8ed19bf955ef15ebaee67c3ccd2652c297072841cc18adbb";
const TRANSCRIPT_NEXT: &str = "1437b97968a4e0cf668cb2113ee992e0b998a3d54daaa501b582e96c442207a4";

/// The provider, who is also the network's founder.
fn provider() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

/// The consumer, who is also somebody's owner.
fn consumer() -> SecretKey {
    SecretKey::from_bytes(&[2; 32])
}

fn network() -> NetworkId {
    genesis().id()
}

fn utrm(utrm: u64) -> Amount {
    Amount::from_utrm(utrm).expect("test amounts are small")
}

/// So many milliseconds after the network was founded.
const fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_700_000_000_000 + ms)
}

fn genesis() -> Genesis {
    Genesis::private("golden", provider().id(), at(0), [0x55; 16])
}

fn quote() -> Quote {
    Quote {
        network: network(),
        provider: provider().id(),
        consumer: consumer().id(),
        card: ModelCard {
            id: ModelId::from_bytes([0x11; 32]),
            block_weights: 1_000,
            head_weights: 100,
            attention_flop: 10,
            window: 0,
            context: 2_048,
        },
        multiplier: Multiplier::PAR,
        max_in: 20,
        max_out: 10,
        max_amount: utrm(65),
        chunk_tokens: 32,
        window: 0,
        issued: at(1_000),
        expires: at(31_000),
        nonce: [0x66; 16],
    }
}

fn voucher() -> Voucher {
    Voucher {
        network: network(),
        hold: TransferId::from_bytes([0x33; 16]),
        lane: 0,
        payee: provider().id(),
        seq: 3,
        total: utrm(20),
        tokens_out: 3,
        transcript: [0x88; 32],
    }
}

fn agreement() -> Agreement {
    Agreement {
        network: network(),
        provider: provider().id(),
        consumer: consumer().id(),
        nonce: [0x77; 16],
        quote: quote().id(),
        hold: TransferId::from_bytes([0x33; 16]),
        model: ModelId::from_bytes([0x11; 32]),
        usage: Usage {
            tokens_in: 12,
            tokens_cached: 2,
            tokens_out: 5,
        },
        kflop: 31,
        multiplier: Multiplier::PAR,
        earlier: Amount::ZERO,
        amount: utrm(31),
        transcript: [0x88; 32],
        seed: 42,
        temperature_milli: 700,
        top_k: 40,
        lane: 0,
        voucher_seq: 0,
        audit_ok: true,
        engine_fingerprint: [0x99; 8],
        started_hlc: (at(2_000).ms() << 16) | 1,
        ended_hlc: (at(3_000).ms() << 16) | 2,
        finish: Finish::Stop,
    }
}

fn receipt() -> Receipt {
    let quote = Signed::new(quote(), &provider());
    let proposal = Signed::new(agreement(), &provider());
    let receipt = Receipt::countersign(
        &quote.verify(&provider().id()).expect("just signed"),
        &proposal.verify(&provider().id()).expect("just signed"),
        &consumer(),
    );
    Receipt::clone(&receipt.expect("it follows from the quote"))
}

#[test]
fn what_a_receipt_adds_to_what_is_known_is_checked() {
    let (ours, stranger) = (provider(), consumer());
    let known = (
        Verified::sign(quote(), &ours),
        Verified::sign(agreement(), &ours),
    );
    let on = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = receipt();
        change(&mut receipt);
        receipt.verify_on(&known.0, &known.1)
    };
    on(&|_| ()).expect("as it should be");
    let forged = Signature::from_bytes([1; 64]);
    on(&|receipt| receipt.consent = Consent::Signature(forged)).unwrap_err();
    on(&|receipt| receipt.provider_signature = forged).unwrap_err();
    on(&|receipt| receipt.quote.signature = forged).unwrap_err();
    on(&|receipt| receipt.agreement.nonce = [0; 16]).unwrap_err();
    // What another than the provider signed is not known, whatever it says.
    let theirs = Verified::sign(agreement(), &stranger);
    let mut receipt = receipt();
    receipt.provider_signature = theirs.signed().signature;
    receipt.verify_on(&known.0, &theirs).unwrap_err();
}

#[test]
fn what_is_countersigned_was_signed_by_those_it_names() {
    let (ours, stranger) = (provider(), consumer());
    let countersign = |quoting, proposing, consumer| {
        let quote = Verified::sign(quote(), quoting);
        let proposal = Verified::sign(agreement(), proposing);
        Receipt::countersign(&quote, &proposal, consumer)
    };
    let signed = countersign(&ours, &ours, &stranger).expect("as it should be");
    assert_eq!(Receipt::clone(&signed), receipt());
    Receipt::clone(&signed).verify().expect("it verifies");
    for (refused, whose) in [
        (countersign(&stranger, &ours, &stranger), "quote"),
        (countersign(&ours, &stranger, &stranger), "provider's"),
        (countersign(&ours, &ours, &ours), "consumer's"),
    ] {
        match refused {
            Err(ReceiptError::Signature { what, .. }) => assert_eq!(what, whose),
            other => panic!("{whose}: {other:?}"),
        }
    }
}

fn invitation() -> Invitation {
    Invitation {
        network: network(),
        issuer: provider().id(),
        id: InvitationId::from_bytes([0xaa; 16]),
    }
}

fn loan_grant() -> LoanGrant {
    LoanGrant {
        network: network(),
        issuer: provider().id(),
        borrower: consumer().id(),
        invitation: InvitationId::from_bytes([0xaa; 16]),
        principal: Amount::from_trm(1_000),
        granted: at(4_000),
        due: at(4_000).after_ms(72 * 3_600_000),
    }
}

fn repayment() -> Repayment {
    Repayment {
        network: network(),
        lender: provider().id(),
        borrower: consumer().id(),
        invitation: InvitationId::from_bytes([0xaa; 16]),
        total: Amount::from_utrm(250_500_000).expect("below the cap"),
    }
}

/// The document has the vector's bytes, digest and signature, comes back from them, and holds only
/// while every byte is what it was.
fn check<T: Document + PartialEq + std::fmt::Debug>(
    document: T,
    signer: &SecretKey,
    vector: &Vector,
) {
    let body = vector.body.concat();
    assert_eq!(to_hex(&document.to_bytes()), body);
    assert_eq!(to_hex(&document.digest()), vector.digest);
    let sealed = Signed::new(document, signer);
    let bytes = sealed.to_bytes();
    assert_eq!(to_hex(&bytes), body + vector.signature);

    let read = Signed::<T>::from_bytes(&bytes).expect("it can be read");
    assert_eq!(read, sealed);
    assert!(read.verify(&signer.id()).is_ok());
    assert!(sealed.body.is_signed_by(&signer.id(), &sealed.signature));
    let other = NodeId::from_bytes(*SecretKey::from_bytes(&[9; 32]).id().key_bytes());
    assert!(!sealed.body.is_signed_by(&other, &sealed.signature));

    for (at, changed) in mutations(&bytes) {
        let holds = Signed::<T>::from_bytes(&changed)
            .is_ok_and(|sealed| sealed.verify(&signer.id()).is_ok());
        assert!(
            !holds,
            "byte {at} was changed and the signature still holds"
        );
    }
    for cut in cuts(&bytes) {
        assert!(
            Signed::<T>::from_bytes(&cut).is_err(),
            "{} bytes were read",
            cut.len()
        );
    }
}

/// The bytes with one of them changed, in three ways each.
fn mutations(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).flat_map(move |at| {
        [0x01, 0x80, 0xff].map(|flip| {
            let mut changed = bytes.to_vec();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= flip;
            }
            (at, changed)
        })
    })
}

/// The bytes cut short everywhere, and with one byte more.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let longer = [bytes, &[0]].concat();
    (0..bytes.len())
        .map(|end| bytes.iter().copied().take(end).collect())
        .chain([longer])
}

#[test]
fn the_keys_are_those_of_the_vectors() {
    assert_eq!(provider().id().to_string(), PROVIDER);
    assert_eq!(consumer().id().to_string(), CONSUMER);
    assert_eq!(network().to_string(), NETWORK);
    assert_eq!(quote().id().to_string(), QUOTE_ID);
}

#[test]
fn genesis_has_its_golden_bytes() {
    check(genesis(), &provider(), &GENESIS);
}

#[test]
fn quote_has_its_golden_bytes() {
    check(quote(), &provider(), &QUOTE);
}

#[test]
fn voucher_has_its_golden_bytes() {
    check(voucher(), &consumer(), &VOUCHER);
}

#[test]
fn agreement_has_its_golden_bytes() {
    check(agreement(), &provider(), &AGREEMENT);
}

#[test]
fn invitation_has_its_golden_bytes() {
    check(invitation(), &provider(), &INVITATION);
}

#[test]
fn loan_grant_has_its_golden_bytes() {
    check(loan_grant(), &provider(), &LOAN_GRANT);
}

#[test]
fn repayment_has_its_golden_bytes_and_is_never_of_nothing() {
    check(repayment(), &consumer(), &REPAYMENT);
    assert_eq!(repayment().id().to_string(), REPAYMENT.digest);
    let nothing = Repayment {
        total: Amount::ZERO,
        ..repayment()
    };
    assert_eq!(
        Repayment::from_bytes(&nothing.to_bytes()),
        Err(DecodeError::Value("total"))
    );
}

#[test]
fn receipt_has_its_golden_bytes_and_every_one_of_them_counts() {
    let bytes = receipt().to_bytes();
    let golden = [
        "01",       // version
        "19010000", // bytes of quote with signature: 281
        &QUOTE.body.concat(),
        QUOTE.signature,
        "3e010000", // bytes of agreement: 318
        &AGREEMENT.body.concat(),
        AGREEMENT.signature,
        COUNTERSIGNATURE,
    ];
    assert_eq!(to_hex(&bytes), golden.concat());
    assert_eq!(receipt().id().to_string(), AGREEMENT.digest);
    let read = Receipt::from_bytes(&bytes).expect("it can be read");
    assert_eq!(read, receipt());
    assert!(read.verify().is_ok());
    for (at, changed) in mutations(&bytes) {
        let holds = Receipt::from_bytes(&changed).is_ok_and(|receipt| receipt.verify().is_ok());
        assert!(!holds, "byte {at} was changed and the receipt still holds");
    }
    for cut in cuts(&bytes) {
        assert!(
            Receipt::from_bytes(&cut).is_err(),
            "{} bytes were read",
            cut.len()
        );
    }
}

#[test]
fn a_signature_for_one_kind_of_document_is_not_one_for_another() {
    let signature = from_hex(INVITATION.signature).map(Signature::from_bytes);
    let signature = signature.expect("the vector is hexadecimal");
    assert!(invitation().is_signed_by(&provider().id(), &signature));
    assert!(!signature.is_by(&provider().id(), &invitation().to_bytes()));
    assert!(!signature.is_by(&provider().id(), &invitation().digest()));
}

#[test]
fn ticket_has_its_golden_text() {
    let ticket = Ticket {
        genesis: genesis(),
        invitation: Signed::new(invitation(), &provider()),
        addresses: vec!["127.0.0.1:7001".parse().expect("an address")],
    };
    assert_eq!(ticket.to_string(), TICKET);
    assert_eq!(TICKET.parse(), Ok(ticket));
}

#[test]
fn prompt_and_transcript_have_their_golden_hashes() {
    let say = |role, content: &str| Message {
        role,
        content: content.into(),
    };
    let messages = [say(Role::System, "hi"), say(Role::User, "you")];
    assert_eq!(to_hex(&prompt_hash(&messages)), PROMPT_HASH);
    let quote = QUOTE_ID.parse::<QuoteId>().expect("an id");
    let mut transcript = Transcript::start(&quote, &messages);
    assert_eq!(to_hex(transcript.root()), TRANSCRIPT_START);
    transcript.extend(&[7, 300], b"hey");
    assert_eq!(to_hex(transcript.root()), TRANSCRIPT_NEXT);
}
