//! Which part of an account came from where, and which part pays.

use serde::{Deserialize, Serialize};
use tirami_manifest::Amount;
use tirami_manifest::mandate::Pot;

use super::transfer::TransferCode;

/// What an agent's account has available, by where it came from. The sum is the account's available
/// balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pots([Amount; 4]);

/// What a spend took, in the order in which it was taken.
pub type Draw = [Option<(Pot, Amount)>; 4];

impl Pots {
    pub(crate) const fn of(amounts: [Amount; 4]) -> Self {
        Self(amounts)
    }

    /// What is in each, in the order of [`Pot::ALL`].
    pub(crate) const fn amounts(&self) -> [Amount; 4] {
        self.0
    }

    /// What is in one pot.
    pub fn get(&self, pot: Pot) -> Amount {
        let index = usize::from(pot.number()).saturating_sub(1);
        self.0.get(index).copied().unwrap_or(Amount::ZERO)
    }

    fn set(&mut self, pot: Pot, amount: Amount) {
        let index = usize::from(pot.number()).saturating_sub(1);
        if let Some(place) = self.0.get_mut(index) {
            *place = amount;
        }
    }

    /// Puts into a pot; `None` when the sum is no amount.
    pub(crate) fn put(&mut self, pot: Pot, amount: Amount) -> Option<()> {
        self.set(pot, self.get(pot).checked_add(amount)?);
        Some(())
    }

    /// Takes out of one pot; `None` when it holds less.
    pub(crate) fn take(&mut self, pot: Pot, amount: Amount) -> Option<()> {
        self.set(pot, self.get(pot).checked_sub(amount)?);
        Some(())
    }

    /// What is in these pots together.
    pub fn sum(&self, pots: &[Pot]) -> Amount {
        pots.iter().fold(Amount::ZERO, |sum, pot| {
            sum.checked_add(self.get(*pot)).unwrap_or(Amount::MAX)
        })
    }

    /// Takes `amount` out of `pots`, one after the other; `None` when they hold less.
    pub(crate) fn draw(&mut self, pots: &[Pot], amount: Amount) -> Option<Draw> {
        let mut left = amount;
        let mut draw: Draw = [None; 4];
        for (place, pot) in draw.iter_mut().zip(pots) {
            let part = left.min(self.get(*pot));
            self.take(*pot, part)?;
            left = left.checked_sub(part)?;
            *place = (!part.is_zero()).then_some((*pot, part));
        }
        left.is_zero().then_some(draw)
    }

    /// Puts back what of `draw` was not spent, the last taken first.
    pub(crate) fn put_back(&mut self, draw: &Draw, unspent: Amount) -> Option<()> {
        let mut left = unspent;
        for (pot, taken) in draw.iter().rev().flatten() {
            let part = left.min(*taken);
            self.put(*pot, part)?;
            left = left.checked_sub(part)?;
        }
        left.is_zero().then_some(())
    }
}

/// Where money that comes in for this reason belongs.
pub(crate) const fn enters(code: TransferCode) -> Pot {
    match code {
        TransferCode::Earnings => Pot::Earned,
        TransferCode::WelcomeLoan => Pot::Borrowed,
        _ => Pot::Seed,
    }
}

/// The pots that every mandate of a chain lets pay, each mandate's in its own order, in the first's.
pub(crate) fn allowed<'a>(mut chain: impl Iterator<Item = &'a [Pot]> + Clone) -> ([Pot; 4], usize) {
    let mut found = ([Pot::Seed; 4], 0);
    let Some(own) = chain.next() else {
        return found;
    };
    for pot in own {
        let everywhere = chain.clone().all(|pots| pots.contains(pot));
        if everywhere && let Some(place) = found.0.get_mut(found.1) {
            *place = *pot;
            found.1 = found.1.saturating_add(1);
        }
    }
    found
}
