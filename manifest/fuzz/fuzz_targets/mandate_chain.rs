//! Travelling mandates. Altered bytes are never another valid chain, and a chain that is signed by
//! the right keys holds exactly when no grant widens the one before.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate_chain::{
    Action, Actions, Allowed, Grant, LINKS_MAX, MandateChain, SKEW_MS, Spend, VerifiedChain,
};
use tirami_manifest::range::Range;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, GrantId, ModelId, Multiplier, NetworkId, NodeId, Timestamp};
use tirami_manifest_fuzz::{golden, write_seeds};

const NETWORK: NetworkId = NetworkId::from_bytes([0x4e; 32]);
const EPOCH: u64 = 5;
const NOW: Timestamp = Timestamp::from_ms(1_700_000_000_000);

/// 0 is the root payer, 1 and 2 are providers, the rest are holders.
static KEYS: LazyLock<Vec<SecretKey>> = LazyLock::new(|| {
    (0..7)
        .map(|number| SecretKey::from_bytes(&[number + 40; 32]))
        .collect()
});
static IDS: LazyLock<Vec<NodeId>> = LazyLock::new(|| KEYS.iter().map(SecretKey::id).collect());

fn utrm(utrm: u64) -> Amount {
    Amount::from_utrm(utrm).expect("a few")
}

fn range(lo: u64, hi: u64) -> Range {
    Range::new(lo, hi).expect("a range")
}

fn model(number: u8) -> ModelId {
    ModelId::from_bytes([number; 32])
}

/// The root payer's grant to holder 3.
fn first() -> Grant {
    Grant {
        network: NETWORK,
        root: IDS[0],
        parent: Grant::NO_PARENT,
        serial: 1,
        range: range(0, 1_000),
        holder: IDS[3],
        pinned: Some(IDS[1]),
        per_request: utrm(100),
        ceiling: Some(Multiplier::PAR),
        actions: Actions::CHAT,
        models: Allowed::only([1, 2, 3].map(model)).expect("three"),
        payees: Allowed::only([IDS[1], IDS[2]]).expect("two"),
        expires: NOW.after_ms(1_000),
        epoch: EPOCH,
        depth_left: 3,
    }
}

/// What the holder of `above` hands on whole.
fn below(above: &Grant, holder: usize) -> Grant {
    Grant {
        parent: above.id(),
        holder: IDS[holder],
        depth_left: above.depth_left.saturating_sub(1),
        ..above.clone()
    }
}

/// Chains that hold: one of four grants, and one of two that is nobody's pin.
static VALID: LazyLock<Vec<MandateChain>> = LazyLock::new(|| {
    let mut grant = first();
    let mut long = MandateChain::start(grant.clone(), &KEYS[0]);
    for holder in 4..=6 {
        grant = below(&grant, holder);
        long = long.extend(grant.clone(), &KEYS[holder - 1]);
    }
    let free = Grant {
        serial: 2,
        range: range(1_000, 2_000),
        pinned: None,
        ceiling: None,
        models: Allowed::ANY,
        payees: Allowed::ANY,
        ..first()
    };
    let narrow = Grant {
        range: range(1_500, 1_700),
        payees: Allowed::only([IDS[2]]).expect("one"),
        ..below(&free, 4)
    };
    let short = MandateChain::start(free, &KEYS[0]).extend(narrow, &KEYS[3]);
    vec![long, short]
});

fn verify(chain: &MandateChain) -> Option<VerifiedChain> {
    chain.verify(IDS[0], NETWORK, NOW, EPOCH).ok()
}

// --- bytes ----------------------------------------------------------------------------------------

/// Bytes are one chain or none; one that holds is the start of a chain that the holders made.
fn reads(bytes: &[u8]) {
    let Ok(chain) = MandateChain::from_bytes(bytes) else {
        return;
    };
    assert_eq!(chain.to_bytes(), bytes, "two layouts of one chain");
    if verify(&chain).is_some() {
        let known = VALID
            .iter()
            .any(|valid| valid.links.starts_with(&chain.links));
        assert!(known, "forged: {chain:?}");
    }
    assert_eq!(chain.root_epoch(&IDS[1]), None);
}

/// A valid chain's bytes, changed in a few places.
fn edited(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = u.choose(&VALID)?.to_bytes();
    for _ in 0..u.int_in_range(0..=3)? {
        let at = u.choose_index(bytes.len())?;
        match u.int_in_range(0..=4)? {
            0 => bytes[at] ^= 1 << u.int_in_range(0..=7)?,
            1 => bytes[at] = u.arbitrary()?,
            2 => bytes.insert(at, u.arbitrary()?),
            3 => drop(bytes.remove(at)),
            _ => {
                let to = u.choose_index(bytes.len())?;
                let length = u.int_in_range(1..=64)?.min(bytes.len() - at.max(to));
                bytes.copy_within(at..at + length, to);
            }
        }
    }
    Ok(bytes)
}

/// Grants of valid chains in another order.
fn spliced(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let pool: Vec<&Signed<Grant>> = VALID.iter().flat_map(|chain| &chain.links).collect();
    let count = u.int_in_range(1..=LINKS_MAX + 1)?;
    let links: Result<Vec<_>> = (0..count)
        .map(|_| u.choose(&pool).map(|link| (*link).clone()))
        .collect();
    Ok(MandateChain { links: links? }.to_bytes())
}

// --- grants ---------------------------------------------------------------------------------------

/// A change to a grant; most widen or narrow one field.
fn change(u: &mut Unstructured<'_>, grant: &mut Grant) -> Result<()> {
    let small = |u: &mut Unstructured<'_>| u.int_in_range(0..=3_u64);
    match u.int_in_range(0..=14)? {
        0 => grant.network = *u.choose(&[NETWORK, NetworkId::from_bytes([7; 32])])?,
        1 => grant.root = *u.choose(&IDS)?,
        2 => grant.parent = *u.choose(&[Grant::NO_PARENT, GrantId::from_bytes([7; 32])])?,
        3 => grant.serial = small(u)?,
        4 => {
            let lo = small(u)? * 100;
            grant.range = range(lo, lo + 1 + u.int_in_range(0..=1_000)?);
        }
        5 => grant.holder = *u.choose(&IDS)?,
        6 => grant.pinned = *u.choose(&[None, Some(IDS[1]), Some(IDS[2])])?,
        7 => grant.per_request = utrm(99 + small(u)?),
        8 => {
            let ppm = *u.choose(&[None, Some(999_999), Some(1_000_000), Some(1_000_001)])?;
            grant.ceiling = ppm.map(Multiplier::from_ppm);
        }
        9 => {
            let bits: u8 = u.arbitrary()?;
            let some = (1..=8).filter(|n| bits & (1 << (n - 1)) != 0).map(model);
            grant.models = Allowed::only(some).unwrap_or(Allowed::ANY);
        }
        10 => {
            let bits: u8 = u.arbitrary()?;
            let some = (0..7).filter(|n| bits & (1 << n) != 0).map(|n| IDS[n]);
            grant.payees = Allowed::only(some).unwrap_or(Allowed::ANY);
        }
        11 => {
            // Around now, less what clocks may differ by.
            let ms = NOW.ms() - SKEW_MS - 1 + small(u)?;
            grant.expires = Timestamp::from_ms(ms);
        }
        12 => grant.expires = NOW.after_ms(999 + small(u)?),
        13 => grant.epoch = EPOCH - 1 + small(u)?,
        _ => grant.depth_left = u.int_in_range(0..=4)?,
    }
    Ok(())
}

/// A chain in which everybody signs what is theirs, or not, and whether it may hold.
fn built(u: &mut Unstructured<'_>) -> Result<(MandateChain, bool)> {
    let mut links = Vec::<Signed<Grant>>::new();
    let mut holds = true;
    for link in 0..u.int_in_range(1..=LINKS_MAX + 1)? {
        let above = links.last().map(|link| &link.body);
        let mut grant = above.map_or_else(first, |above| below(above, 3 + link % 4));
        let right = above.map_or(IDS[0], |above| above.holder);
        for _ in 0..u.int_in_range(0..=2)? {
            change(u, &mut grant)?;
        }
        let by = if u.ratio(1, 16)? {
            u.choose_index(KEYS.len())?
        } else {
            place(right)
        };
        holds &= IDS[by] == right && NOW.ms() < grant.expires.ms() + SKEW_MS;
        holds &= above.map_or_else(|| starts(&grant), |above| narrows(&grant, above));
        links.push(Signed::new(grant, &KEYS[by]));
    }
    holds &= links.len() <= LINKS_MAX;
    Ok((MandateChain { links }, holds))
}

fn place(id: NodeId) -> usize {
    IDS.iter().position(|known| *known == id).unwrap_or(0)
}

fn starts(grant: &Grant) -> bool {
    grant.root == IDS[0]
        && grant.network == NETWORK
        && grant.parent == Grant::NO_PARENT
        && grant.epoch == EPOCH
}

/// No field of `here` allows what `above` does not, field by field as the protocol says it.
fn narrows(here: &Grant, above: &Grant) -> bool {
    let ppm = |grant: &Grant| grant.ceiling.map_or(u64::MAX, |most| most.ppm().into());
    here.parent.as_bytes() == &above.digest()
        && here.network == above.network
        && here.root == above.root
        && above.range.lo() <= here.range.lo()
        && here.range.hi() <= above.range.hi()
        && here.pinned == above.pinned
        && here.per_request <= above.per_request
        && ppm(here) <= ppm(above)
        && here.actions == above.actions
        && fewer(here.models.list(), above.models.list())
        && fewer(here.payees.list(), above.payees.list())
        && here.expires <= above.expires
        && here.epoch == above.epoch
        && here.depth_left < above.depth_left
}

/// No list is every list.
fn fewer<T: PartialEq>(here: &[T], above: &[T]) -> bool {
    above.is_empty() || !here.is_empty() && here.iter().all(|item| above.contains(item))
}

/// A spend under a chain that holds is let through exactly when the last grant lets it.
fn spends(u: &mut Unstructured<'_>, chain: &VerifiedChain) -> Result<()> {
    let limits = chain.limits();
    let lo = limits.range.lo() + u.int_in_range(0..=1)?;
    let spend = Spend {
        network: *u.choose(&[NETWORK, NETWORK, NetworkId::from_bytes([7; 32])])?,
        chain: if u.ratio(1, 16)? {
            Grant::NO_PARENT
        } else {
            chain.id()
        },
        range: range(lo, lo + 1 + u.int_in_range(0..=110)?),
        payee: *u.choose(&IDS[1..3])?,
        action: Action::Chat,
        model: model(u.int_in_range(1..=4)?),
        request: [9; 32],
        nonce: [1; 16],
        expires: Timestamp::from_ms(NOW.ms() - SKEW_MS - 1 + u.int_in_range(0..=3)?),
    };
    let payee = *u.choose(&IDS[1..3])?;
    let by = if u.ratio(1, 16)? {
        u.choose_index(KEYS.len())?
    } else {
        place(limits.holder)
    };
    let may = IDS[by] == limits.holder
        && spend.network == NETWORK
        && spend.chain == chain.id()
        && spend.range.hi() <= limits.range.hi()
        && spend.range.hi() - spend.range.lo() <= limits.per_request.utrm()
        && spend.payee == payee
        && limits.pinned.is_none_or(|only| only == payee)
        && fewer(&[payee], limits.payees.list())
        && fewer(&[spend.model], limits.models.list())
        && NOW.ms() < spend.expires.ms() + SKEW_MS;
    let signed = Signed::new(spend, &KEYS[by]);
    let outcome = chain.check(&signed, payee, NOW);
    assert_eq!(
        outcome.is_ok(),
        may,
        "{outcome:?}: {signed:?} under {limits:?}"
    );
    if let Ok(checked) = outcome {
        assert_eq!(checked.tracker(), limits.pinned.unwrap_or(IDS[0]));
        assert_eq!(checked.grants(), chain.ids());
    }
    Ok(())
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=3_u8)? {
        0 => {
            let rest = u.len();
            reads(u.bytes(rest)?);
        }
        1 => reads(&edited(u)?),
        2 => reads(&spliced(u)?),
        _ => {
            let (chain, holds) = built(u)?;
            let verified = chain.verify(IDS[0], NETWORK, NOW, EPOCH);
            assert_eq!(verified.is_ok(), holds, "{verified:?}: {chain:?}");
            if let Ok(verified) = verified {
                assert_eq!(MandateChain::from_bytes(&chain.to_bytes()), Ok(chain));
                spends(u, &verified)?;
            }
        }
    }
    Ok(())
}

fn seeds() -> impl Iterator<Item = Vec<u8>> {
    let documents = golden().0;
    let (first, second) = (documents["FIRST"].signed(), documents["SECOND"].signed());
    let links = [first, second].map(|bytes| Signed::<Grant>::from_bytes(&bytes).expect("golden"));
    let golden = MandateChain {
        links: links.into(),
    };
    let chains = VALID.iter().cloned().chain([golden]);
    let bytes = chains.map(|chain| [[0].as_slice(), &chain.to_bytes()].concat());
    let choices = (0..8_u8).map(|n| vec![n; 40]);
    bytes.chain(choices)
}

fuzz_target!(init: write_seeds(seeds()), |data: &[u8]| {
    // What runs out of bytes was nothing to look at.
    let _nothing = run(&mut Unstructured::new(data));
});
