//! Travelling mandates: nothing widens, nothing is used twice, no bytes upset the reader.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop"
)]

#[path = "mandate_chain/any_bytes.rs"]
mod any_bytes;
#[path = "mandate_chain/tree.rs"]
mod tree;

use tirami_manifest::bytes::DecodeError;
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate_chain::{
    Action, Actions, Allowed, ChainError, Claims, Equivocation, EvidenceError, Grant, LINKS_MAX,
    MandateChain, RangeReturn, ReturnError, SKEW_MS, Spend, SpendError, VerifiedChain,
};
use tirami_manifest::range::{Range, RangeSet};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, ModelId, Multiplier, NetworkId, NodeId, Timestamp};

const NETWORK: NetworkId = NetworkId::from_bytes([0x4e; 32]);
const EPOCH: u64 = 5;
const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// Secrets by number; 0 is the root payer, 1 and 2 are providers, the rest are holders.
fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number.wrapping_add(40); 32])
}

fn id(number: u8) -> NodeId {
    key(number).id()
}

fn utrm(utrm: u64) -> Amount {
    Amount::from_utrm(utrm).unwrap()
}

fn range(lo: u64, hi: u64) -> Range {
    Range::new(lo, hi).unwrap()
}

fn model(number: u8) -> ModelId {
    ModelId::from_bytes([number; 32])
}

fn models(numbers: impl IntoIterator<Item = u8>) -> Allowed<ModelId> {
    Allowed::only(numbers.into_iter().map(model)).unwrap()
}

/// The root payer's grant to holder 3.
fn first() -> Grant {
    Grant {
        network: NETWORK,
        root: id(0),
        parent: Grant::NO_PARENT,
        serial: 1,
        range: range(0, 1_000),
        holder: id(3),
        pinned: Some(id(1)),
        per_request: utrm(100),
        ceiling: Some(Multiplier::PAR),
        actions: Actions::CHAT,
        models: models([1, 2, 3]),
        payees: Allowed::only([id(1), id(2)]).unwrap(),
        expires: NOW.after_ms(1_000),
        epoch: EPOCH,
        depth_left: 3,
    }
}

/// A grant to holder 4 that takes over all it can.
fn second() -> Grant {
    Grant {
        parent: first().id(),
        holder: id(4),
        depth_left: 2,
        ..first()
    }
}

fn chain(second: Grant) -> MandateChain {
    MandateChain::start(first(), &key(0)).extend(second, &key(3))
}

fn verify(chain: &MandateChain) -> Result<VerifiedChain, ChainError> {
    chain.verify(id(0), NETWORK, NOW, EPOCH)
}

/// Four grants with lists as long as they may be, each by the holder of the one before.
fn longest() -> MandateChain {
    let mut grant = first();
    grant.models = models(1..=8);
    grant.payees = Allowed::only((1..=8).map(id)).unwrap();
    let mut chain = MandateChain::start(grant.clone(), &key(0));
    for holder in 4..=6 {
        let signer = key(holder - 1);
        grant.parent = grant.id();
        grant.holder = id(holder);
        grant.depth_left -= 1;
        chain = chain.extend(grant.clone(), &signer);
    }
    chain
}

fn spend_of(chain: &VerifiedChain, units: Range, nonce: u8) -> Spend {
    Spend {
        network: NETWORK,
        chain: chain.id(),
        range: units,
        payee: id(1),
        action: Action::Chat,
        model: model(1),
        request: [9; 32],
        nonce: [nonce; 16],
        expires: NOW,
    }
}

#[test]
fn a_grant_that_takes_over_all_it_can_holds() {
    let verified = verify(&chain(second())).unwrap();
    assert_eq!(verified.holder(), id(4));
    assert_eq!(verified.range(), range(0, 1_000));
    assert_eq!(verified.tracker(), id(1));
    assert_eq!(verified.limits(), &second());
    assert_eq!(verified.ids(), [first().id(), second().id()]);
    assert!(verified.admits_price(Multiplier::PAR));
    assert!(!verified.admits_price(Multiplier::from_ppm(1_000_001)));
    assert!(verify(&longest()).is_ok());
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_widening_is_refused_and_names_its_field() {
    type Widen = fn(&mut Grant);
    let cases: [(&str, Widen, &str, &str); 16] = [
        (
            "network",
            |g| g.network = NetworkId::from_bytes([7; 32]),
            "",
            "",
        ),
        ("root", |g| g.root = id(9), "", ""),
        (
            "range",
            |g| g.range = range(0, 1_001),
            "[0, 1000)",
            "[0, 1001)",
        ),
        (
            "range",
            |g| g.range = range(2_000, 2_001),
            "[0, 1000)",
            "[2000, 2001)",
        ),
        ("pinned", |g| g.pinned = None, "", "nobody"),
        ("pinned", |g| g.pinned = Some(id(2)), "", ""),
        (
            "per_request",
            |g| g.per_request = utrm(101),
            "0.0001",
            "0.000101",
        ),
        ("ceiling", |g| g.ceiling = None, "1000000", "none"),
        (
            "ceiling",
            |g| g.ceiling = Some(Multiplier::from_ppm(1_000_001)),
            "1000000",
            "1000001",
        ),
        ("models", |g| g.models = Allowed::ANY, "", "any"),
        ("models", |g| g.models = models([1, 4]), "", ""),
        ("payees", |g| g.payees = Allowed::ANY, "", "any"),
        (
            "payees",
            |g| g.payees = Allowed::only([id(3)]).unwrap(),
            "",
            "",
        ),
        (
            "expires",
            |g| g.expires = g.expires.after_ms(1),
            "2023-11-14T22:13:21.000Z",
            "2023-11-14T22:13:21.001Z",
        ),
        ("epoch", |g| g.epoch = 6, "5", "6"),
        ("depth_left", |g| g.depth_left = 3, "3", "3"),
    ];
    for (name, widen, before, here) in cases {
        let mut grant = second();
        widen(&mut grant);
        match verify(&chain(grant)) {
            Err(ChainError::Widens {
                link: 1,
                field,
                parent,
                child,
            }) => {
                assert_eq!(field, name);
                assert!(parent.contains(before), "{parent}");
                assert!(child.contains(here), "{child}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_pin_stands_in_the_first_grant_or_nowhere() {
    let free = Grant {
        pinned: None,
        ..first()
    };
    let pinned = Grant {
        parent: free.id(),
        ..second()
    };
    let chain = MandateChain::start(free, &key(0)).extend(pinned, &key(3));
    let refused = verify(&chain);
    assert!(
        matches!(
            refused,
            Err(ChainError::Widens {
                field: "pinned",
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn actions_are_a_closed_list() {
    assert_eq!(Actions::from_bits(0), None);
    assert_eq!(Actions::from_bits(1), Some(Actions::CHAT));
    assert_eq!(Actions::from_bits(2), None);
    assert_eq!(Actions::from_bits(3), None);
}

#[test]
fn a_list_of_nothing_is_not_anything() {
    assert!(Allowed::<ModelId>::only([]).is_err());
    assert!(Allowed::only((0..9).map(model)).is_err());
    assert_eq!(models([2, 1, 2]).list(), [model(1), model(2)]);
    assert!(!Allowed::ANY.is_within(&models([1])));
    assert!(models([1]).is_within(&Allowed::ANY));
}

#[test]
fn what_is_not_one_chain_of_this_root_network_and_epoch_is_refused() {
    let good = chain(second());
    assert!(matches!(
        good.verify(id(9), NETWORK, NOW, EPOCH),
        Err(ChainError::Signature { link: 0, .. })
    ));
    let elsewhere = NetworkId::from_bytes([7; 32]);
    assert!(matches!(
        good.verify(id(0), elsewhere, NOW, EPOCH),
        Err(ChainError::OtherNetwork { .. })
    ));
    for epoch in [EPOCH - 1, EPOCH + 1] {
        assert!(matches!(
            good.verify(id(0), NETWORK, NOW, epoch),
            Err(ChainError::OtherEpoch { .. })
        ));
    }
    assert_eq!(good.root_epoch(&id(0)), Some(EPOCH));
    assert_eq!(good.root_epoch(&id(9)), None);

    // Said to be another's, but signed by this root payer.
    let foreign = Grant {
        root: id(9),
        ..first()
    };
    let refused = verify(&MandateChain::start(foreign, &key(0)));
    assert!(matches!(refused, Err(ChainError::OtherRoot { .. })));
    // The end of a chain is no chain.
    let tail = MandateChain {
        links: good.links[1..].to_vec(),
    };
    assert!(matches!(
        verify(&tail),
        Err(ChainError::Signature { link: 0, .. })
    ));
    let rootless = MandateChain::start(second(), &key(0));
    assert_eq!(verify(&rootless), Err(ChainError::OtherParent { link: 0 }));
    // Signed by the root payer instead of the holder, or by the new holder itself.
    for signer in [0, 4] {
        let chain = MandateChain::start(first(), &key(0)).extend(second(), &key(signer));
        assert!(matches!(
            verify(&chain),
            Err(ChainError::Signature { link: 1, .. })
        ));
    }
    // Moved under another grant by the same signer to the same holder.
    let other_first = Grant {
        serial: 2,
        ..first()
    };
    let moved = MandateChain::start(other_first, &key(0)).extend(second(), &key(3));
    assert_eq!(verify(&moved), Err(ChainError::OtherParent { link: 1 }));
    assert_eq!(
        verify(&MandateChain { links: Vec::new() }),
        Err(ChainError::Links { count: 0 })
    );
}

#[test]
fn a_chain_has_four_grants_at_most() {
    let mut grant = Grant {
        depth_left: 9,
        ..first()
    };
    let mut chain = MandateChain::start(grant.clone(), &key(0));
    for _ in 1..LINKS_MAX {
        grant = Grant {
            parent: grant.id(),
            depth_left: grant.depth_left - 1,
            ..grant
        };
        chain = chain.extend(grant.clone(), &key(3));
    }
    assert!(verify(&chain).is_ok());
    grant = Grant {
        parent: grant.id(),
        depth_left: grant.depth_left - 1,
        ..grant
    };
    let five = chain.extend(grant, &key(3));
    assert_eq!(verify(&five), Err(ChainError::Links { count: 5 }));
    assert_eq!(
        MandateChain::from_bytes(&five.to_bytes()),
        Err(DecodeError::Value("links"))
    );
    let padded = [chain.to_bytes(), vec![0; 16 * 1_024]].concat();
    assert_eq!(
        MandateChain::from_bytes(&padded),
        Err(DecodeError::Value("chain"))
    );
}

#[test]
fn a_grant_ends_when_it_expired_by_every_clock() {
    let chain = chain(Grant {
        expires: NOW,
        ..second()
    });
    let last = NOW.after_ms(SKEW_MS - 1);
    let over = NOW.after_ms(SKEW_MS);
    assert!(chain.verify(id(0), NETWORK, last, EPOCH).is_ok());
    assert_eq!(
        chain.verify(id(0), NETWORK, over, EPOCH),
        Err(ChainError::Expired {
            link: 1,
            expires: NOW,
            now: over
        })
    );
    // A chain checked in time does not outlive its grants.
    let verified = verify(&chain).unwrap();
    let spend = Spend {
        expires: over.after_ms(SKEW_MS),
        ..spend_of(&verified, range(0, 1), 1)
    };
    let spend = Signed::new(spend, &key(4));
    assert!(verified.check(&spend, id(1), last).is_ok());
    assert_eq!(
        verified.check(&spend, id(1), over),
        Err(SpendError::Expired {
            expires: NOW,
            now: over
        })
    );
}

#[test]
fn a_spend_outside_its_chain_is_refused() {
    let limits = Grant {
        models: models([1]),
        range: range(10, 500),
        ..second()
    };
    let chain = verify(&chain(limits)).unwrap();
    let check = |change: fn(&mut Spend)| {
        let mut spend = spend_of(&chain, range(10, 110), 1);
        change(&mut spend);
        let payee = spend.payee;
        chain.check(&Signed::new(spend, &key(4)), payee, NOW)
    };
    assert!(check(|_| ()).is_ok());
    assert!(matches!(
        check(|s| s.range = range(9, 20)),
        Err(SpendError::Range { .. })
    ));
    assert!(matches!(
        check(|s| s.range = range(490, 501)),
        Err(SpendError::Range { .. })
    ));
    assert!(matches!(
        check(|s| s.range = range(10, 111)),
        Err(SpendError::PerRequest { .. })
    ));
    assert!(matches!(
        check(|s| s.payee = id(2)),
        Err(SpendError::Payee { .. })
    ));
    assert!(matches!(
        check(|s| s.payee = id(7)),
        Err(SpendError::Payee { .. })
    ));
    assert!(matches!(
        check(|s| s.model = model(2)),
        Err(SpendError::Model { .. })
    ));
    assert!(matches!(
        check(|s| s.chain = first().id()),
        Err(SpendError::OtherChain)
    ));
    assert!(matches!(
        check(|s| s.network = NetworkId::from_bytes([7; 32])),
        Err(SpendError::OtherChain)
    ));
    assert!(matches!(
        check(|s| s.expires = Timestamp::from_ms(NOW.ms() - SKEW_MS)),
        Err(SpendError::Expired { .. })
    ));
    let spend = spend_of(&chain, range(10, 20), 1);
    for signer in [0, 1, 3] {
        let refused = chain.check(&Signed::new(spend.clone(), &key(signer)), id(1), NOW);
        assert!(matches!(refused, Err(SpendError::Signature(_))));
    }
    let to_another = chain.check(&Signed::new(spend, &key(4)), id(2), NOW);
    assert!(matches!(to_another, Err(SpendError::Payee { .. })));
}

#[test]
fn siblings_that_meet_each_hold_and_leave_evidence() {
    let left = Grant {
        serial: 1,
        range: range(0, 600),
        ..second()
    };
    let right = Grant {
        serial: 2,
        range: range(500, 1_000),
        holder: id(5),
        ..second()
    };
    // A chain cannot see its siblings: only the one that remembers units can refuse.
    let (a, b) = (
        verify(&chain(left.clone())).unwrap(),
        verify(&chain(right.clone())).unwrap(),
    );
    let spend_a = Signed::new(spend_of(&a, range(550, 600), 1), &key(4));
    let spend_b = Signed::new(spend_of(&b, range(500, 560), 1), &key(5));
    let mut used = RangeSet::new();
    let checked = a.check(&spend_a, id(1), NOW).unwrap();
    assert!(used.insert(checked.spend().range).is_ok());
    let checked = b.check(&spend_b, id(1), NOW).unwrap();
    assert!(used.insert(checked.spend().range).is_err());

    let sealed = |grant: &Grant| Signed::new(grant.clone(), &key(3));
    let evidence = |by, claims| Equivocation { by, claims }.verify();
    let both = Claims::Grants(sealed(&left), sealed(&right));
    assert_eq!(evidence(id(3), both.clone()), Ok(range(500, 600)));
    assert_eq!(
        evidence(id(4), both),
        Err(EvidenceError::NotSigned { by: id(4) })
    );
    let same = Claims::Grants(sealed(&left), sealed(&left));
    assert_eq!(evidence(id(3), same), Err(EvidenceError::Same));
    let apart = Grant {
        range: range(600, 700),
        ..right.clone()
    };
    let apart = Claims::Grants(sealed(&left), sealed(&apart));
    assert_eq!(evidence(id(3), apart), Err(EvidenceError::Apart));
    for other in [
        Grant {
            parent: Grant::NO_PARENT,
            ..right.clone()
        },
        Grant {
            epoch: 6,
            ..right.clone()
        },
        Grant {
            root: id(9),
            ..right.clone()
        },
        Grant {
            network: NetworkId::from_bytes([7; 32]),
            ..right
        },
    ] {
        let claims = Claims::Grants(sealed(&left), sealed(&other));
        assert_eq!(evidence(id(3), claims), Err(EvidenceError::OtherBudget));
    }
}

#[test]
fn units_spent_twice_or_after_they_were_given_away_leave_evidence() {
    let left = Grant {
        range: range(0, 600),
        ..second()
    };
    let a = verify(&chain(left.clone())).unwrap();
    let spend_a = Signed::new(spend_of(&a, range(550, 600), 1), &key(4));
    let evidence = |by, claims| Equivocation { by, claims }.verify();
    let elsewhere = Spend {
        chain: first().id(),
        ..spend_a.body.clone()
    };
    let spend_b = Signed::new(elsewhere, &key(4));
    let again = Signed::new(spend_of(&a, range(590, 600), 2), &key(4));
    let twice = Claims::Spends(spend_a.clone(), again);
    assert_eq!(evidence(id(4), twice), Ok(range(590, 600)));
    let of_two_grants = Claims::Spends(spend_a, spend_b);
    assert_eq!(
        evidence(id(4), of_two_grants),
        Err(EvidenceError::OtherBudget)
    );
    // Holder 3 spends what it gave away.
    let own = verify(&MandateChain::start(first(), &key(0))).unwrap();
    let own = Signed::new(spend_of(&own, range(0, 50), 1), &key(3));
    let claims = Claims::GrantAndSpend(Signed::new(left, &key(3)), own);
    assert_eq!(evidence(id(3), claims), Ok(range(0, 50)));
}

#[test]
fn a_return_needs_the_holder_or_the_end_of_the_grant_and_the_trackers_word() {
    let grant = second();
    let back = RangeReturn::of(&grant, range(100, 200));
    let by_holder = back.sign(&key(4));
    let over = grant.expires.after_ms(SKEW_MS);
    let check =
        |back: &RangeReturn, by: Option<&_>, now, epoch| back.check_request(&grant, by, now, epoch);
    assert_eq!(check(&back, Some(&by_holder), NOW, EPOCH), Ok(()));
    let expires = grant.expires;
    let held = Err(ReturnError::StillHeld { expires });
    assert_eq!(check(&back, None, NOW, EPOCH), held);
    assert_eq!(check(&back, Some(&back.sign(&key(3))), NOW, EPOCH), held);
    assert_eq!(check(&back, None, over, EPOCH), Ok(()));
    assert_eq!(check(&back, None, NOW, EPOCH + 1), Ok(()));
    let outside = RangeReturn::of(&grant, range(900, 1_001));
    assert!(matches!(
        check(&outside, None, over, EPOCH),
        Err(ReturnError::Range { .. })
    ));
    let other = RangeReturn {
        grant: first().id(),
        ..back.clone()
    };
    assert_eq!(
        check(&other, None, over, EPOCH),
        Err(ReturnError::OtherGrant)
    );

    let proof = Signed::new(back.clone(), &key(1));
    assert_eq!(
        RangeReturn::check_proof(&proof, &grant),
        Ok(range(100, 200))
    );
    let not_the_tracker = Signed::new(back, &key(4));
    let refused = RangeReturn::check_proof(&not_the_tracker, &grant);
    assert!(matches!(refused, Err(ReturnError::Signature(_))));
}

#[test]
fn the_longest_chain_is_below_4_kib_and_every_byte_of_it_counts() {
    let chain = longest();
    let bytes = chain.to_bytes();
    assert_eq!(bytes.len(), 3_237);
    assert_eq!(MandateChain::from_bytes(&bytes), Ok(chain));
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let holds =
                MandateChain::from_bytes(&changed).is_ok_and(|chain| verify(&chain).is_ok());
            assert!(!holds, "byte {at} was changed and the chain still holds");
        }
    }
}

#[test]
fn lists_that_are_not_sorted_are_not_read() {
    let good = Grant {
        models: models([1, 2]),
        ..first()
    }
    .to_bytes();
    let at = good.windows(32).position(|bytes| bytes == [1; 32]).unwrap();
    assert!(Grant::from_bytes(&good).is_ok());
    let mut swapped = good.clone();
    swapped[at..at + 32].fill(2);
    swapped[at + 32..at + 64].fill(1);
    assert_eq!(
        Grant::from_bytes(&swapped),
        Err(DecodeError::Value("models"))
    );
    let mut twice = good.clone();
    twice[at + 32..at + 64].fill(1);
    assert_eq!(Grant::from_bytes(&twice), Err(DecodeError::Value("models")));
    let mut nine = good;
    nine[at - 4] = 9;
    assert_eq!(Grant::from_bytes(&nine), Err(DecodeError::Value("models")));
}
