//! The bytes of travelling mandates. Who is who: the consumer pays, the provider is pinned, and two
//! more keys hold the grants.

use tirami_manifest::GrantId;
use tirami_manifest::mandate_chain::{
    Action, Actions, Allowed, Grant, MandateChain, RangeReturn, Spend,
};
use tirami_manifest::range::Range;

use super::*;

/// Public key of the secret 32 bytes of 3.
const CHILD: &str = "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1";

/// Public key of the secret 32 bytes of 4.
const GRANDCHILD: &str = "ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c";

/// Digest of the first golden grant.
const FIRST_ID: &str = "4510df036a43584640e5fa5a7b0c1a8b707dd79081ddd1b14832f06075aa58eb";

/// Digest of the second.
const SECOND_ID: &str = "e37f7563ec4625f6e67477a576a46ff3650243ab03bedde931c055b3037900cd";

const FIRST: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        CONSUMER,                                                           // root payer
        "0000000000000000000000000000000000000000000000000000000000000000", // parent: none
        "0100000000000000",                                                 // serial
        "0000000000000000", // range: from, micro-TRM
        "40420f0000000000", // range: to, exclusive
        CHILD,              // holder
        "01",               // pinned
        PROVIDER,           // pinned provider
        "50c3000000000000", // per request, micro-TRM
        "00",               // ceiling: none
        "01000000",         // actions: chat
        "00000000",         // models: any
        "00000000",         // payees: any
        "80561cd08b010000", // expires, ms
        "0700000000000000", // epoch
        "03",               // depth left
    ],
    digest: "4510df036a43584640e5fa5a7b0c1a8b707dd79081ddd1b14832f06075aa58eb",
    signature: "f9b4ab08a6aa024b175848d6d209117b1c916fdcd4bd5a567264b485053553677c6e3d3e067c6f5ffad2a320f2a772b08677c5b7828ea01e7317564b16826300",
};

const SECOND: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        CONSUMER,                                                           // root payer
        FIRST_ID,           // parent: digest of the grant before
        "0200000000000000", // serial
        "a086010000000000", // range: from, micro-TRM
        "e093040000000000", // range: to, exclusive
        GRANDCHILD,         // holder
        "01",               // pinned
        PROVIDER,           // pinned provider
        "204e000000000000", // per request, micro-TRM
        "01",               // ceiling
        "80841e00",         // ceiling, parts per million of par
        "01000000",         // actions: chat
        "02000000",         // models
        "1111111111111111111111111111111111111111111111111111111111111111", // model
        "2222222222222222222222222222222222222222222222222222222222222222", // model
        "01000000",         // payees
        PROVIDER,           // payee
        "40df00d08b010000", // expires, ms
        "0700000000000000", // epoch
        "00",               // depth left
    ],
    digest: "e37f7563ec4625f6e67477a576a46ff3650243ab03bedde931c055b3037900cd",
    signature: "f61d21316d03da7d00de267df1eac54a9815384a77e66646ba0d95d322a0ec0ddb2af284cce77773585f9493e10595360c842d5b7c86ee89a87f01e3a8c57000",
};

const ONLINE: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        CONSUMER,                                                           // root payer
        "0000000000000000000000000000000000000000000000000000000000000000", // parent: none
        "0300000000000000",                                                 // serial
        "40420f0000000000", // range: from, micro-TRM
        "00804884639b4a00", // range: to, exclusive: the supply cap
        CHILD,              // holder
        "00",               // pinned: nobody
        "0100000000000000", // per request, micro-TRM
        "00",               // ceiling: none
        "01000000",         // actions: chat
        "00000000",         // models: any
        "00000000",         // payees: any
        "0168e5cf8b010000", // expires, ms
        "0000000000000000", // epoch
        "00",               // depth left
    ],
    digest: "7c32a8d0ee5ac1394e562470e0445a903638fc689aa60cbdc7c29256b1a55724",
    signature: "95f5f0d5c317944239cc162c71f1d3e67d4f03a9803d440ae58ca29ea04721fd908cc09f754661ff5e4a03a1dc71a684a4f7fc26e9a9c9e3a9d5d1ccfa0a950e",
};

const SPEND: Vector = Vector {
    body: &[
        "01",                                                               // version
        NETWORK,                                                            // network
        SECOND_ID,          // chain: digest of the last grant
        "a086010000000000", // range: from, micro-TRM
        "c0d4010000000000", // range: to, exclusive
        PROVIDER,           // payee
        "01000000",         // action: chat
        "1111111111111111111111111111111111111111111111111111111111111111", // model
        "abababababababababababababababababababababababababababababababab", // request
        "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd", // nonce
        "6052e6cf8b010000", // expires, ms
    ],
    digest: "e319804e86a4bb54f99aad021b2d78d50ad046d8f6d94f692e029fba6be0fdad",
    signature: "f5042af50b46c0a8bcc5cab05afdc9422a79c56ed2427d20433d35c0617963b201318e1315c771874205f2720d7ce94f51cfb79e966e66418767bc2c8ef44405",
};

const RETURN: Vector = Vector {
    body: &[
        "01",               // version
        NETWORK,            // network
        CONSUMER,           // root payer
        SECOND_ID,          // grant
        "c0d4010000000000", // range: from, micro-TRM
        "e093040000000000", // range: to, exclusive
        PROVIDER,           // tracker
    ],
    digest: "9eb8db734404276bfa612250e42dd6d55d442bbc8cdb388b4cbbf45731f2238d",
    signature: "1aa04f93bf18170f512c82067e33d7636a05d0ab5736383c80ecc4517ace638fc090d5d00dd431a6525777faf922a72b22ca3c2044b2370c092f95264b81e709",
};

fn child() -> SecretKey {
    SecretKey::from_bytes(&[3; 32])
}

fn grandchild() -> SecretKey {
    SecretKey::from_bytes(&[4; 32])
}

fn units(lo: u64, hi: u64) -> Range {
    Range::new(lo, hi).expect("a range")
}

fn first() -> Grant {
    Grant {
        network: network(),
        root: consumer().id(),
        parent: Grant::NO_PARENT,
        serial: 1,
        range: units(0, 1_000_000),
        holder: child().id(),
        pinned: Some(provider().id()),
        per_request: utrm(50_000),
        ceiling: None,
        actions: Actions::CHAT,
        models: Allowed::ANY,
        payees: Allowed::ANY,
        expires: at(3_600_000),
        epoch: 7,
        depth_left: 3,
    }
}

fn second() -> Grant {
    let models = [[0x22; 32], [0x11; 32]].map(ModelId::from_bytes);
    Grant {
        parent: first().id(),
        serial: 2,
        range: units(100_000, 300_000),
        holder: grandchild().id(),
        per_request: utrm(20_000),
        ceiling: Some(Multiplier::from_ppm(2_000_000)),
        models: Allowed::only(models).expect("two models"),
        payees: Allowed::only([provider().id()]).expect("one payee"),
        expires: at(1_800_000),
        depth_left: 0,
        ..first()
    }
}

fn online() -> Grant {
    Grant {
        serial: 3,
        range: units(1_000_000, Amount::MAX.utrm()),
        pinned: None,
        per_request: utrm(1),
        expires: at(1),
        epoch: 0,
        depth_left: 0,
        ..first()
    }
}

fn spend() -> Spend {
    Spend {
        network: network(),
        chain: second().id(),
        range: units(100_000, 120_000),
        payee: provider().id(),
        action: Action::Chat,
        model: ModelId::from_bytes([0x11; 32]),
        request: [0xab; 32],
        nonce: [0xcd; 16],
        expires: at(60_000),
    }
}

fn chain() -> MandateChain {
    MandateChain::start(first(), &consumer()).extend(second(), &child())
}

#[test]
fn grants_have_their_golden_bytes() {
    assert_eq!(child().id().to_string(), CHILD);
    assert_eq!(grandchild().id().to_string(), GRANDCHILD);
    assert_eq!(first().id().to_string(), FIRST_ID);
    assert_eq!(second().id().to_string(), SECOND_ID);
    check(first(), &consumer(), &FIRST);
    check(second(), &child(), &SECOND);
    check(online(), &consumer(), &ONLINE);
}

#[test]
fn spend_has_its_golden_bytes() {
    check(spend(), &grandchild(), &SPEND);
}

#[test]
fn return_has_its_golden_bytes() {
    let back = RangeReturn::of(&second(), units(120_000, 300_000));
    check(back, &grandchild(), &RETURN);
}

#[test]
fn chain_has_its_golden_bytes_and_every_one_of_them_counts() {
    let bytes = chain().to_bytes();
    let golden = [
        "01",       // version
        "02000000", // links
        "20010000", // bytes of the first grant with signature: 288
        &FIRST.body.concat(),
        FIRST.signature,
        "84010000", // bytes of the second: 388
        &SECOND.body.concat(),
        SECOND.signature,
    ];
    assert_eq!(to_hex(&bytes), golden.concat());
    let verify = |chain: &MandateChain| chain.verify(consumer().id(), network(), at(0), 7);
    let read = MandateChain::from_bytes(&bytes).expect("it can be read");
    assert_eq!(read, chain());
    let verified = verify(&read).expect("it holds");
    assert_eq!(verified.id(), second().id());
    assert_eq!(
        verified.ids(),
        [FIRST_ID, SECOND_ID].map(|id| id.parse::<GrantId>().expect("an id"))
    );
    for (at, changed) in mutations(&bytes) {
        let holds = MandateChain::from_bytes(&changed).is_ok_and(|chain| verify(&chain).is_ok());
        assert!(!holds, "byte {at} was changed and the chain still holds");
    }
    for cut in cuts(&bytes) {
        let read = MandateChain::from_bytes(&cut);
        assert!(read.is_err(), "{} bytes were read", cut.len());
    }
}

#[test]
fn a_spend_stands_under_its_chain_until_a_byte_changes() {
    let chain = chain()
        .verify(consumer().id(), network(), at(0), 7)
        .expect("it holds");
    let sealed = Signed::new(spend(), &grandchild());
    assert!(chain.check(&sealed, provider().id(), at(0)).is_ok());
    for (byte, changed) in mutations(&sealed.to_bytes()) {
        let holds = Signed::from_bytes(&changed)
            .is_ok_and(|spend| chain.check(&spend, provider().id(), at(0)).is_ok());
        assert!(!holds, "byte {byte} was changed and the spend still holds");
    }
}
