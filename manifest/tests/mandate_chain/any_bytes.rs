//! Arbitrary bytes never upset the reader, and what it reads has no other bytes.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Bytes of some valid document, changed in a few places, cut or continued; or just bytes.
fn bytes_like(valid: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    let edited = (
        prop::sample::select(valid),
        edits,
        prop::option::weighted(0.2, any::<Index>()),
    )
        .prop_map(|(mut bytes, edits, cut)| {
            for (at, byte) in edits {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        });
    prop_oneof![3 => edited, 1 => prop::collection::vec(any::<u8>(), 0..600)]
}

fn grants() -> Vec<Vec<u8>> {
    let free = Grant {
        pinned: None,
        ceiling: None,
        models: Allowed::ANY,
        ..first()
    };
    [first(), second(), free]
        .map(|grant| grant.to_bytes())
        .into()
}

fn spends() -> Vec<Vec<u8>> {
    let chain = verify(&chain(second())).unwrap();
    vec![spend_of(&chain, range(1, 2), 1).to_bytes()]
}

fn same_bytes<T: Document>(bytes: &[u8]) {
    if let Ok(document) = T::from_bytes(bytes) {
        assert_eq!(document.to_bytes(), bytes);
    }
    if let Ok(sealed) = Signed::<T>::from_bytes(bytes) {
        assert_eq!(sealed.to_bytes(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_one_grant_or_none(bytes in bytes_like(grants())) {
        same_bytes::<Grant>(&bytes);
    }

    #[test]
    fn any_bytes_are_one_spend_or_none(bytes in bytes_like(spends())) {
        same_bytes::<Spend>(&bytes);
        same_bytes::<RangeReturn>(&bytes);
    }

    #[test]
    fn any_bytes_are_one_chain_or_none(
        bytes in bytes_like(vec![chain(second()).to_bytes(), longest().to_bytes()]),
    ) {
        if let Ok(chain) = MandateChain::from_bytes(&bytes) {
            prop_assert_eq!(chain.to_bytes(), bytes);
        }
    }
}
