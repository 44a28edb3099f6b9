//! When to try again what failed: each time after twice as many rounds.

use std::collections::BTreeMap;

/// Most rounds from one try to the next: with one every two seconds, about four minutes; chosen.
const ROUNDS_MAX: u32 = 128;

/// What failed, by its id, and how long each still waits.
#[derive(Debug)]
pub(crate) struct Backoff<K> {
    failed: BTreeMap<K, Wait>,
}

#[derive(Debug, Default)]
struct Wait {
    /// Rounds from the last try to the next.
    rounds: u32,
    /// Rounds to leave out.
    left: u32,
    /// Nobody was there: it is tried at once when somebody is.
    away: bool,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self {
            failed: BTreeMap::new(),
        }
    }
}

impl<K: Ord> Backoff<K> {
    /// Forgets everything that is over.
    pub(crate) fn retain(&mut self, open: impl Fn(&K) -> bool) {
        self.failed.retain(|key, _| open(key));
    }

    /// Whether it is this round's turn; asked once per round. `there`: whether the peer it goes to is
    /// connected.
    pub(crate) fn is_due(&mut self, key: &K, there: bool) -> bool {
        let Some(wait) = self.failed.get_mut(key) else {
            return true;
        };
        if wait.left == 0 || (wait.away && there) {
            return true;
        }
        wait.left = wait.left.saturating_sub(1);
        false
    }

    /// It failed, while its peer was connected or was not.
    pub(crate) fn failed(&mut self, key: K, there: bool) {
        let wait = self.failed.entry(key).or_default();
        wait.rounds = wait.rounds.saturating_mul(2).clamp(1, ROUNDS_MAX);
        wait.left = wait.rounds.saturating_sub(1);
        wait.away = !there;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In which rounds something that always fails is tried.
    fn tries(rounds: u32, there: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut backoff = Backoff::default();
        let mut tried = Vec::new();
        for round in 0..rounds {
            if backoff.is_due(&"it", there(round)) {
                tried.push(round);
                backoff.failed("it", there(round));
            }
        }
        tried
    }

    #[test]
    fn each_wait_is_twice_the_last_up_to_the_most() {
        let tried = tries(600, |_| false);
        assert_eq!(tried, [0, 1, 3, 7, 15, 31, 63, 127, 255, 383, 511]);
        assert_eq!(tries(600, |_| true), tried, "one that answers no as well");
    }

    #[test]
    fn whoever_comes_back_is_tried_at_once() {
        assert_eq!(tries(30, |round| round >= 9), [0, 1, 3, 7, 9, 25]);
    }

    #[test]
    fn what_is_over_is_forgotten_and_others_do_not_wait() {
        let mut backoff = Backoff::default();
        for _ in 0..4 {
            backoff.failed(1, true);
        }
        assert!(!backoff.is_due(&1, true) && backoff.is_due(&2, true));
        backoff.retain(|key| *key != 1);
        assert!(backoff.is_due(&1, true));
    }
}
