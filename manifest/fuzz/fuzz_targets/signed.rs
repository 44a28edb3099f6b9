//! Every other document that comes from somebody else: what is read has no other bytes, and nothing
//! holds but what the golden keys signed.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use tirami_manifest::agent::{AgentManifest, Currency};
use tirami_manifest::bytes::{Reader, Writer};
use tirami_manifest::commerce::{Agreement, Quote, Receipt, Voucher};
use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::id::{from_hex, to_hex};
use tirami_manifest::key::SecretKey;
use tirami_manifest::loan::Repayment;
use tirami_manifest::mandate_chain::{Grant, RangeReturn, Spend};
use tirami_manifest::model::Usage;
use tirami_manifest::owner::OwnerOrder;
use tirami_manifest::range::RangeSet;
use tirami_manifest::receipt_file::ReceiptFile;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::statement::Statement;
use tirami_manifest::ticket::{PREFIX, Ticket};
use tirami_manifest::{NetworkId, NodeId, Timestamp};
use tirami_manifest_fuzz::{FILES, bytes_in, golden, unhex, write_seeds};

struct Known {
    signers: Vec<NodeId>,
    /// Bodies and signatures that hold.
    signed: Vec<Vec<u8>>,
    receipt: Receipt,
    ticket: Ticket,
    manifest: AgentManifest,
    manifest_json: String,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let (documents, texts) = golden();
    let mut receipt = Writer::default();
    receipt
        .u8(1)
        .string(&documents["QUOTE"].signed())
        .string(&documents["AGREEMENT"].body)
        .raw(&documents["AGREEMENT"].signature)
        .raw(&unhex(&texts["COUNTERSIGNATURE"]));
    let key = SecretKey::from_bytes(&[1; 32]);
    let manifest = AgentManifest {
        schema_version: "1.0".into(),
        protocol: "tirami/1".into(),
        node_id: key.id(),
        network_id: NetworkId::from_bytes([7; 32]),
        issued_at_ms: "1000".into(),
        expires_at_ms: "2000".into(),
        currency: Currency {
            unit: "TRM".into(),
            anchor_flops_per_unit: "1000000000".into(),
            decimals: 6,
        },
        endpoints: Vec::new(),
        offers: Vec::new(),
    };
    Known {
        signers: (1..=4)
            .map(|n| SecretKey::from_bytes(&[n; 32]).id())
            .collect(),
        signed: documents
            .values()
            .map(|golden| golden.signed())
            .chain(
                FILES
                    .iter()
                    .flat_map(|(_, text)| bytes_in(text, "statement")),
            )
            .collect(),
        receipt: Receipt::from_bytes(&receipt.finish()).expect("the golden receipt"),
        ticket: texts["TICKET"].parse().expect("the golden ticket"),
        manifest_json: manifest.to_signed_json(&key).expect("it can be signed"),
        manifest,
    }
});

/// The document that these bytes are, if they are one.
fn one<T: Document + Clone>(bytes: &[u8]) -> Option<T> {
    let read = T::from_bytes(bytes).ok();
    if let Some(document) = &read {
        assert_eq!(document.to_bytes(), bytes, "two layouts of one document");
    }
    if let Ok(sealed) = Signed::<T>::from_bytes(bytes) {
        assert_eq!(sealed.to_bytes(), bytes, "two layouts of one document");
        for signer in &KNOWN.signers {
            if sealed.clone().verify(signer).is_ok() {
                assert!(KNOWN.signed.iter().any(|known| known == bytes), "forged");
            }
        }
    }
    read
}

/// What a price follows from is computed without upset, whatever the figures.
fn prices(quote: &Quote) {
    let usage = Usage {
        tokens_in: quote.max_in,
        tokens_cached: 0,
        tokens_out: quote.max_out,
    };
    let all = quote.card.kflop(usage);
    let cached = Usage {
        tokens_cached: quote.max_in,
        ..usage
    };
    let some = quote.card.kflop(cached);
    if let Ok(all) = all {
        assert!(some.is_ok_and(|some| some <= all), "what is cached costs");
    }
    let (multiplier, budget) = (quote.multiplier, quote.max_amount);
    let most = quote.card.affordable_out(quote.max_in, multiplier, budget);
    if let Some(tokens_out) = most {
        let price = |tokens_out| {
            let usage = Usage {
                tokens_out,
                ..usage
            };
            quote.card.price(usage, multiplier)
        };
        assert!(price(tokens_out).is_ok_and(|price| price <= budget));
        let room = quote.card.context - quote.max_in;
        assert!(tokens_out == room || !price(tokens_out + 1).is_ok_and(|p| p <= budget));
    }
}

fn documents(bytes: &[u8]) {
    one::<Genesis>(bytes);
    one::<Invitation>(bytes);
    one::<LoanGrant>(bytes);
    one::<Repayment>(bytes);
    one::<Voucher>(bytes);
    one::<OwnerOrder>(bytes);
    one::<Grant>(bytes);
    one::<Spend>(bytes);
    one::<RangeReturn>(bytes);
    one::<Statement>(bytes);
    if let Some(quote) = one::<Quote>(bytes) {
        prices(&quote);
    }
    if let Some(agreement) = one::<Agreement>(bytes) {
        let quote = &KNOWN.receipt.quote.body;
        let holds = agreement.check_against(quote).is_ok();
        assert!(!holds || agreement.amount <= quote.max_amount);
    }
    let mut from = Reader::new(bytes);
    if let Ok(set) = RangeSet::decode(&mut from)
        && from.finish().is_ok()
    {
        let mut out = Writer::default();
        set.encode(&mut out);
        assert_eq!(out.finish(), bytes, "two layouts of one set");
        assert_eq!(RangeSet::try_from(set.ranges().to_vec()), Ok(set));
    }
}

fn receipts(bytes: &[u8]) {
    let Ok(receipt) = Receipt::from_bytes(bytes) else {
        return;
    };
    assert_eq!(receipt.to_bytes(), bytes, "two layouts of one receipt");
    prices(&receipt.quote.body);
    if receipt.agreement.check_against(&receipt.quote.body).is_ok() {
        assert!(receipt.agreement.amount <= receipt.quote.body.max_amount);
    }
    if receipt.clone().verify().is_ok() {
        assert_eq!(receipt, KNOWN.receipt, "forged");
    }
}

fn tickets(text: &str) {
    if let Ok(ticket) = text.parse::<Ticket>() {
        assert_eq!(ticket.to_string().parse(), Ok(ticket.clone()));
        let known = (&KNOWN.ticket.genesis, &KNOWN.ticket.invitation);
        assert_eq!((&ticket.genesis, &ticket.invitation), known, "forged");
    }
}

fn texts(text: &str) {
    tickets(text);
    if let Ok((file, receipt)) = ReceiptFile::verify(text) {
        assert_eq!(*receipt, KNOWN.receipt, "forged");
        assert_eq!(file, ReceiptFile::new(&receipt), "other words");
    }
    if let Ok(manifest) = AgentManifest::verify(text, Timestamp::EPOCH) {
        assert_eq!(manifest, KNOWN.manifest, "forged");
    }
    if let Ok(id) = text.parse::<NodeId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Some(bytes) = from_hex::<4>(text) {
        assert_eq!(to_hex(&bytes), text.to_ascii_lowercase());
    }
}

/// Bytes as the text of a ticket, with the sum that tells damage, which no mutation would find.
fn as_ticket(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    let bytes = [bytes, &sum[..4]].concat();
    format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn seeds() -> Vec<Vec<u8>> {
    let known = &*KNOWN;
    let (documents, texts) = golden();
    let ticket = texts["TICKET"].strip_prefix(PREFIX).expect("a ticket");
    let ticket = BASE64_URL_SAFE_NO_PAD.decode(ticket).expect("a ticket");
    let words = ReceiptFile::new(&known.receipt);
    let more = [
        known.receipt.to_bytes(),
        ticket[..ticket.len() - 4].to_vec(),
        texts["TICKET"].clone().into_bytes(),
        serde_json::to_vec(&words).expect("it serialises"),
        known.manifest_json.clone().into_bytes(),
        known.signers[0].to_string().into_bytes(),
        [
            2_u32.to_le_bytes().as_slice(),
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ]
        .concat(),
    ];
    let bodies = documents.values().map(|golden| golden.body.clone());
    bodies.chain(known.signed.clone()).chain(more).collect()
}

fuzz_target!(init: write_seeds(seeds()), |data: &[u8]| {
    documents(data);
    receipts(data);
    tickets(&as_ticket(data));
    if let Ok(text) = std::str::from_utf8(data) {
        texts(text);
    }
});
