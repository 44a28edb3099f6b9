//! Chains and what certifies or refutes them: one layout for each document, nothing holds that the golden
//! keys did not sign, and a chain takes exactly what follows from the entries before, also of an author
//! that signs whatever it likes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tirami_manifest::anchor::{ANCHOR_LEN, Anchor, Heads};
use tirami_manifest::chain::{
    Certificate, Chain, Entry, FraudProof, Head, Repaid, Step, Trade, after,
};
use tirami_manifest::genesis::{Genesis, LoanGrant};
use tirami_manifest::key::SecretKey;
use tirami_manifest::merkle::Hash;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, EntryId, InvitationId, NodeId, Timestamp};
use tirami_manifest_fuzz::{FILES, bytes_in, write_seeds};

struct Known {
    geneses: Vec<Genesis>,
    keys: Vec<SecretKey>,
    entries: Vec<Vec<u8>>,
    frauds: Vec<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
    /// Trades that the golden files have.
    trades: Vec<Trade>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let all = |name: &str| -> Vec<Vec<u8>> {
        let mut all: Vec<_> = FILES
            .iter()
            .flat_map(|(_, text)| bytes_in(text, name))
            .collect();
        all.sort();
        all.dedup();
        all
    };
    let mut entries = all("entry");
    entries.extend(all("head").into_iter().filter(|bytes| bytes.len() > 32));
    let steps = entries.iter().filter_map(|bytes| {
        let signed = Signed::<Entry>::from_bytes(bytes).ok()?;
        match signed.body.step {
            Step::Trade(trade) => Some(*trade),
            _ => None,
        }
    });
    Known {
        trades: steps.collect(),
        geneses: all("genesis")
            .iter()
            .map(|bytes| Genesis::from_bytes(bytes).expect("a genesis"))
            .collect(),
        keys: (1..=9).map(|n| SecretKey::from_bytes(&[n; 32])).collect(),
        frauds: all("proof"),
        certificates: all("certificate"),
        entries,
    }
});

// --- bytes ----------------------------------------------------------------------------------------

fn one<T: Document>(bytes: &[u8]) -> Option<T> {
    let read = T::from_bytes(bytes).ok()?;
    assert_eq!(read.to_bytes(), bytes, "two layouts of one document");
    Some(read)
}

fn documents(bytes: &[u8]) {
    let known = &*KNOWN;
    one::<Head>(bytes);
    one::<Entry>(bytes);
    one::<Genesis>(bytes);
    if let Ok(signed) = Signed::<Entry>::from_bytes(bytes) {
        assert_eq!(signed.to_bytes(), bytes, "two layouts of one entry");
        let author = signed.body.author;
        if known.keys.iter().any(|key| key.id() == author) && signed.verify(&author).is_ok() {
            assert!(known.entries.iter().any(|entry| entry == bytes), "forged");
        }
    }
    if let Some(proof) = one::<FraudProof>(bytes)
        && known.keys.iter().any(|key| key.id() == proof.accused)
        && proof.verify().is_ok()
    {
        // Two known documents may be put together otherwise.
        for part in [&proof.first, &proof.second] {
            let is = |all: &[u8]| all.windows(part.len()).any(|window| window == part);
            let all = known.frauds.iter().chain(&known.entries);
            assert!(all.into_iter().any(|known| is(known)), "forged");
        }
    }
    if let Ok(certificate) = Certificate::from_bytes(bytes) {
        assert_eq!(
            certificate.to_bytes(),
            bytes,
            "two layouts of one certificate"
        );
        for genesis in &known.geneses {
            if certificate.verify(genesis).is_ok() {
                assert!(
                    known.certificates.iter().any(|known| known == bytes),
                    "forged"
                );
            }
        }
    }
    if let Ok(anchor) = Anchor::from_bytes(bytes) {
        assert_eq!(anchor.to_bytes(), bytes, "two layouts of one anchor");
        assert_eq!(bytes.len(), ANCHOR_LEN);
    }
}

/// The bytes as an entry of every chain there is.
fn appends(bytes: &[u8]) {
    if Signed::<Entry>::from_bytes(bytes).is_err() {
        return;
    }
    for genesis in &KNOWN.geneses {
        for key in &KNOWN.keys[..4] {
            let mut chain = Chain::new(genesis.clone(), key.id());
            if chain.append_bytes(bytes).is_ok() {
                assert!(KNOWN.entries.iter().any(|entry| entry == bytes), "forged");
            }
        }
    }
}

// --- an author that signs whatever it likes -------------------------------------------------------

fn node(u: &mut Unstructured<'_>) -> Result<NodeId> {
    u.choose(&KNOWN.keys).map(SecretKey::id)
}

fn amount(u: &mut Unstructured<'_>) -> Result<Amount> {
    let n = *u.choose(&[0, 1, 10, 120, 300, 999, 1_000, 1_001, 21_000_000_000])?;
    Ok(Amount::from_trm(n))
}

fn step(u: &mut Unstructured<'_>, chain: &Chain) -> Result<Step> {
    let invitation = InvitationId::from_bytes([u.int_in_range(1..=4)?; 16]);
    let repaid = |u: &mut Unstructured<'_>| {
        Ok(Repaid {
            other: node(u)?,
            invitation,
            amount: amount(u)?,
            receipt: [0; 32],
        })
    };
    let grant = |u: &mut Unstructured<'_>| {
        let issuer = u.choose(&KNOWN.keys)?;
        let grant = LoanGrant {
            network: chain.genesis().id(),
            issuer: issuer.id(),
            borrower: node(u)?,
            invitation,
            principal: amount(u)?,
            granted: Timestamp::from_ms(1),
            due: Timestamp::from_ms(2),
        };
        Ok(Box::new(Signed::new(grant, issuer)))
    };
    Ok(match u.int_in_range(0..=8)? {
        0 => Step::Genesis {
            successor: [0; 32],
            predecessor: None,
        },
        1 => Step::Checkpoint {
            state: chain.state().digest(),
        },
        2 => Step::Succession {
            successor: node(u)?,
        },
        3 | 4 => {
            let mut trade = u.choose(&KNOWN.trades)?.clone();
            if u.ratio(1, 4)? {
                trade.payer = node(u)?;
            }
            Step::Trade(Box::new(trade))
        }
        5 => Step::Repay(repaid(u)?),
        6 => Step::Retire(repaid(u)?),
        7 => Step::Mint(grant(u)?),
        _ => match (u.ratio(1, 2)?, chain.state().waiting.first_key_value()) {
            (true, Some((receipt, waits))) => Step::Receive {
                payer: waits.payer,
                receipt: *receipt,
                amount: waits.amount,
                debit: EntryId::from_bytes([1; 32]),
            },
            _ => Step::Borrow(grant(u)?),
        },
    })
}

fn entry(u: &mut Unstructured<'_>, chain: &Chain) -> Result<Entry> {
    let state = chain.state();
    let mut entry = Entry {
        network: chain.genesis().id(),
        author: chain.author(),
        seq: chain.seq() + 1,
        prev: *chain.head().as_bytes(),
        hlc: after(
            chain.hlc(),
            Timestamp::from_ms(u.arbitrary::<u32>()?.into()),
        ),
        spendable: state.spendable,
        held: state.held,
        staked: state.staked,
        log_root: chain.log().root(),
        waits: u.ratio(1, 4)?,
        step: step(u, chain)?,
    };
    let (gained, lost) = entry.moves();
    let sum = entry.spendable.checked_add(gained).unwrap_or(Amount::MAX);
    entry.spendable = sum.saturating_sub(lost);
    match u.int_in_range(0..=15)? {
        0 => entry.spendable = amount(u)?,
        1 => entry.held = amount(u)?,
        2 => entry.seq += 1,
        3 => entry.prev = [0; 32],
        4 => entry.hlc = chain.hlc(),
        5 => entry.log_root = Hash([0; 32]),
        _ => {}
    }
    Ok(entry)
}

fn writes(data: &[u8]) -> Result<()> {
    let mut u = Unstructured::new(data);
    let genesis = u.choose(&KNOWN.geneses)?;
    let key = u.choose(&KNOWN.keys)?;
    let mut chain = Chain::new(genesis.clone(), key.id());
    for _ in 0..8 {
        let entry = entry(&mut u, &chain)?;
        let before = (
            chain.state().clone(),
            chain.seq(),
            chain.head(),
            chain.log().root(),
        );
        let (gained, lost) = entry.moves();
        let signed = Signed::new(entry, key);
        let bytes = signed.to_bytes();
        if chain.append_bytes(&bytes).is_err() {
            let now = (
                chain.state().clone(),
                chain.seq(),
                chain.head(),
                chain.log().root(),
            );
            assert_eq!(now, before, "a refusal changed something");
            continue;
        }
        let (state, entry) = (chain.state(), &signed.body);
        assert_eq!((chain.seq(), chain.head()), (entry.seq, entry.id()));
        let sum = before.0.spendable.utrm() + gained.utrm();
        assert_eq!(sum.checked_sub(lost.utrm()), Some(state.spendable.utrm()));
        assert_eq!(state.spendable, entry.spendable);
        assert!(state.made <= genesis.quota(&key.id()), "over the quota");
        // Not a second time, and not in the same place.
        assert!(chain.append_bytes(&bytes).is_err());
    }
    Ok(())
}

fn seeds() -> Vec<Vec<u8>> {
    let known = &*KNOWN;
    let heads = known.certificates.iter().map(|bytes| bytes[..113].to_vec());
    let mut seeds: Vec<_> = heads.collect();
    seeds.extend(known.geneses.iter().map(Genesis::to_bytes));
    for all in [&known.entries, &known.frauds, &known.certificates] {
        seeds.extend(all.clone());
    }
    let head = (known.keys[0].id(), 7, EntryId::from_bytes([4; 32]));
    seeds.extend([vec![0; 64], vec![2; 256]]);
    seeds.push(Anchor::new(&known.geneses[0].id(), 9, &Heads::new(vec![head])).to_bytes());
    seeds
}

/// A golden document with a few bytes changed: closer to one that holds than chance comes.
fn altered(data: &[u8]) -> Result<Vec<u8>> {
    let (mut u, known) = (Unstructured::new(data), &*KNOWN);
    let all = [&known.entries, &known.frauds, &known.certificates];
    let of = u.choose(&all)?;
    let mut bytes = u.choose(of)?.clone();
    for _ in 0..u.int_in_range(1..=3)? {
        let at = u.choose_index(bytes.len())?;
        bytes[at] ^= u.int_in_range(1..=255)?;
    }
    Ok(bytes)
}

// Every document begins with its version, 1, and an anchor with a T.
fuzz_target!(init: write_seeds(seeds()), |data: &[u8]| match data {
    [1 | b'T', ..] => {
        documents(data);
        appends(data);
    }
    [0, data @ ..] => {
        if let Ok(bytes) = altered(data) {
            documents(&bytes);
            appends(&bytes);
        }
    }
    // Too few bytes are no case.
    _ => writes(data).unwrap_or_default(),
});
