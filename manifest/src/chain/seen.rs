//! What occurred on a chain and must not occur again: a set that grows for ever and is copied often.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Hashes that are not shared yet; chosen: as many as a copy may cost.
const NEWEST_MAX: usize = 64;

/// Hashes, most of which copies share.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Each at least twice as large as the next, so that there are few.
    shared: Vec<Arc<BTreeSet<[u8; 32]>>>,
    newest: BTreeSet<[u8; 32]>,
}

impl Seen {
    pub(super) fn contains(&self, id: &[u8; 32]) -> bool {
        self.newest.contains(id) || self.shared.iter().any(|part| part.contains(id))
    }

    pub(super) fn insert(&mut self, id: [u8; 32]) {
        self.newest.insert(id);
        if self.newest.len() < NEWEST_MAX {
            return;
        }
        let mut part = std::mem::take(&mut self.newest);
        while let Some(before) = self.shared.pop_if(|before| before.len() / 2 < part.len()) {
            part.extend(before.iter());
        }
        self.shared.push(Arc::new(part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> [u8; 32] {
        // Not in their order, as hashes are not.
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
        id
    }

    #[test]
    fn a_copy_of_a_long_one_shares_all_but_a_few() {
        let mut seen = Seen::default();
        for n in 0..20_000 {
            assert!(!seen.contains(&id(n)), "{n}");
            seen.insert(id(n));
            assert!(seen.newest.len() < NEWEST_MAX, "{n}");
            assert!(seen.shared.len() <= 10, "{n}: {}", seen.shared.len());
        }
        assert!((0..20_000).all(|n| seen.contains(&id(n))));
        let mut copy = seen.clone();
        for (mine, its) in seen.shared.iter().zip(&copy.shared) {
            assert!(Arc::ptr_eq(mine, its));
        }
        for n in 20_000..21_000 {
            copy.insert(id(n));
        }
        assert!((0..21_000).all(|n| copy.contains(&id(n))));
        assert!((20_000..21_000).all(|n| !seen.contains(&id(n))));
    }
}
