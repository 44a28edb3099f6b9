//! Which of two mandates allows more.

use std::fmt::Display;

use super::{Pot, Terms};

/// The first term that would allow more than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looser {
    /// Its name.
    pub term: &'static str,
    /// As it is.
    pub from: String,
    /// As it would be.
    pub to: String,
}

impl Terms {
    /// Whether nothing here allows more than `other` does.
    pub fn is_within(&self, other: &Self) -> bool {
        self.looser_than(other).is_none()
    }

    /// The first term here that allows more than `other` does.
    pub fn looser_than(&self, other: &Self) -> Option<Looser> {
        let (mine, theirs) = (&self.limits, &other.limits);
        let least = [
            ("per_request", mine.per_request_trm, theirs.per_request_trm),
            ("hour", mine.hour_trm, theirs.hour_trm),
            ("lifetime", mine.lifetime_trm, theirs.lifetime_trm),
        ]
        .into_iter()
        .find(|(_, mine, theirs)| mine > theirs)
        .map(|(term, mine, theirs)| looser(term, theirs, mine));
        let optional = || {
            [
                ("minute", mine.minute_trm, theirs.minute_trm),
                ("day", mine.day_trm, theirs.day_trm),
                ("payee_day", mine.payee_day_trm, theirs.payee_day_trm),
                (
                    "price_ceiling",
                    mine.price_ceiling_trm,
                    theirs.price_ceiling_trm,
                ),
                (
                    "approval_above",
                    mine.approval_above_trm,
                    theirs.approval_above_trm,
                ),
            ]
            .into_iter()
            .find_map(|(term, mine, theirs)| at_most(term, mine.as_ref(), theirs.as_ref()))
        };
        least
            .or_else(optional)
            .or_else(|| {
                at_most(
                    "in_flight",
                    mine.in_flight.as_ref(),
                    theirs.in_flight.as_ref(),
                )
            })
            .or_else(|| {
                (mine.reserve_trm < theirs.reserve_trm)
                    .then(|| looser("reserve", theirs.reserve_trm, mine.reserve_trm))
            })
            .or_else(|| self.looser_breaker(other))
            .or_else(|| at_most("expires", self.expires.as_ref(), other.expires.as_ref()))
            .or_else(|| self.looser_words(other))
    }

    fn looser_breaker(&self, other: &Self) -> Option<Looser> {
        let (mine, theirs) = (self.breakers, other.breakers);
        // No breaker is the loosest.
        let count = |n: u32| (n > 0).then_some(n);
        [
            ("errors_in_row", mine.errors_in_row, theirs.errors_in_row),
            (
                "spends_per_minute",
                mine.spends_per_minute,
                theirs.spends_per_minute,
            ),
            ("same_request", mine.same_request, theirs.same_request),
        ]
        .into_iter()
        .find_map(|(term, mine, theirs)| {
            at_most(term, count(mine).as_ref(), count(theirs).as_ref())
        })
    }

    fn looser_words(&self, other: &Self) -> Option<Looser> {
        let (mine, theirs) = (&self.scope, &other.scope);
        let lists = [
            ("payees", mine.payees.is_within(&theirs.payees)),
            ("actions", mine.actions.is_within(&theirs.actions)),
            ("models", mine.models.is_within(&theirs.models)),
            (
                "quiet_hours",
                other.quiet_hours.is_none() || self.quiet_hours == other.quiet_hours,
            ),
            ("pots", self.pots_within(other)),
        ];
        let (term, _) = lists.into_iter().find(|(_, within)| !within)?;
        Some(looser(term, "the present one", "one that allows more"))
    }

    /// True when every pot that may pay for anything here may pay for everything there.
    fn pots_within(&self, other: &Self) -> bool {
        if self.pots == other.pots {
            return true;
        }
        let everywhere = |pot: &Pot| {
            let said = other.pots.iter().all(|rule| rule.pots.contains(pot));
            let for_all = other.pots.iter().any(super::PotRule::is_for_all);
            said && (for_all || Pot::UNLESS_SAID.contains(pot))
        };
        let for_all = self.pots.iter().any(super::PotRule::is_for_all);
        let unless_said = Pot::UNLESS_SAID.iter().filter(|_| !for_all);
        self.pots
            .iter()
            .flat_map(|rule| &rule.pots)
            .chain(unless_said)
            .all(everywhere)
    }
}

fn looser(term: &'static str, from: impl Display, to: impl Display) -> Looser {
    Looser {
        term,
        from: from.to_string(),
        to: to.to_string(),
    }
}

/// No bound is above every bound.
fn at_most<T: Ord + Said>(
    term: &'static str,
    mine: Option<&T>,
    theirs: Option<&T>,
) -> Option<Looser> {
    let say = |bound: Option<&T>| bound.map_or_else(|| "no limit".to_owned(), Said::say);
    match (mine, theirs) {
        (_, None) => None,
        (Some(m), Some(t)) if m <= t => None,
        _ => Some(looser(term, say(theirs), say(mine))),
    }
}

/// How a bound reads.
trait Said {
    fn say(&self) -> String;
}

impl Said for crate::Amount {
    fn say(&self) -> String {
        format!("{self} TRM")
    }
}

impl Said for u32 {
    fn say(&self) -> String {
        self.to_string()
    }
}

impl Said for crate::Timestamp {
    fn say(&self) -> String {
        self.to_rfc3339()
    }
}
