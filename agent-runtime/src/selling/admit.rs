//! Whether a buyer is served now, and at what price: a function of settings, facts and time.

use std::fmt;

use tirami_manifest::{Amount, Multiplier, NodeId, Timestamp};

use super::asked::Bounds;
use super::hours::closed_until;
use super::places::Taken;
use super::settings::{Buyers, Settings};

/// How long a quarter of an hour of earnings counts within a day's cap: a day after it ended.
const COUNTS_MS: u64 = tirami_wallet::earnings::DAY_MS + tirami_wallet::earnings::QUARTER_MS;

/// When to ask a machine that is busy again, in milliseconds: its load is that of the last minute.
const BUSY_MS: u64 = 60_000;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buyer {
    pub(crate) node: NodeId,
    /// Whether this node keeps its account, or it is the network's authority.
    pub(crate) is_member: bool,
}

/// What a decision depends on beside the settings.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Who asks; nobody in particular when the owner looks.
    pub(crate) buyer: Option<Buyer>,
    /// How far local time is ahead of UTC.
    pub(crate) ahead_minutes: i16,
    /// The machine's load, where the system says it and it matters.
    pub(crate) load_percent: Option<u32>,
    /// What was earned in the last 24 hours, by quarters of an hour, oldest first, where it matters.
    pub(crate) earned: Vec<(Timestamp, Amount)>,
    /// What jobs that are under way may earn.
    pub(crate) under_way: Amount,
    /// The configured price.
    pub(crate) price: Multiplier,
    /// Places that are taken.
    pub(crate) taken: Taken,
}

/// Why nothing is sold. Every one but the last passes with time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The owner paused it.
    Paused { until: Option<Timestamp> },
    /// It is not the time.
    Hours { until: Timestamp },
    /// The machine has other things to do.
    Machine { load: u32, most: u32 },
    /// Enough was earned.
    Cap { cap: Amount, until: Timestamp },
    /// What is left of the day's cap does not cover this job.
    AboveCap { left: Amount, asked: Amount },
    /// Every place is taken.
    Full { retry_ms: u64 },
    /// Not to this buyer.
    Buyer,
}

impl Closed {
    /// When to ask again; `None` when nobody can say.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Paused { until } => *until,
            Self::Hours { until } | Self::Cap { until, .. } => Some(*until),
            Self::Machine { .. } => Some(now.after_ms(BUSY_MS)),
            Self::Full { retry_ms } => Some(now.after_ms(*retry_ms)),
            Self::AboveCap { .. } | Self::Buyer => None,
        }
    }

    /// The same with how long to wait, for the buyer.
    pub(crate) fn to_buyer(&self, now: Timestamp) -> String {
        match self.until(now) {
            Some(until) => {
                let seconds = until.since_ms(now).div_ceil(1_000);
                format!("{self}; ask again in {seconds} s")
            }
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { until: Some(until) } => {
                write!(f, "selling is paused until {}", until.to_rfc3339())
            }
            Self::Paused { until: None } => {
                f.write_str("selling is paused until its owner resumes it")
            }
            Self::Hours { until } => {
                write!(f, "this node sells again from {} on", until.to_rfc3339())
            }
            Self::Machine { load, most } => write!(
                f,
                "the machine is busy with other work: its load is {load} %, and above {most} % it \
                 does not sell"
            ),
            Self::Cap { until, .. } => write!(
                f,
                "this node has sold what it sells in a day, and sells again from {} on",
                until.to_rfc3339()
            ),
            Self::AboveCap { left, asked } => write!(
                f,
                "of what this node sells in a day {left} TRM are left, and this may cost {asked} TRM: \
                 ask for fewer tokens"
            ),
            Self::Full { .. } => f.write_str("every place for a job is taken"),
            Self::Buyer => f.write_str("this node sells only to buyers that its owner chose"),
        }
    }
}

/// What is asked of anybody now.
pub(crate) fn price(settings: &Settings, facts: &Facts) -> Multiplier {
    bounds(settings, facts.price).at(facts.taken.all(), settings.room().places())
}

/// Between which bounds the price moves.
pub(crate) fn bounds(settings: &Settings, configured: Multiplier) -> Bounds {
    settings.price.unwrap_or(Bounds::fixed(configured))
}

/// Whether a buyer is served now, and what is asked. A buyer that is never served is told nothing else.
pub(crate) fn admit(
    settings: &Settings,
    facts: &Facts,
    now: Timestamp,
) -> Result<Multiplier, Closed> {
    if let Some(buyer) = facts.buyer {
        let may = match &settings.buyers {
            Buyers::Any => true,
            Buyers::Members => buyer.is_member,
            Buyers::List(nodes) => nodes.contains(&buyer.node),
        };
        if !may {
            return Err(Closed::Buyer);
        }
    }
    if let Some(pause) = settings.paused.filter(|pause| !pause.is_over(now)) {
        return Err(Closed::Paused { until: pause.until });
    }
    if let Some(until) = closed_until(&settings.hours, now, facts.ahead_minutes) {
        return Err(Closed::Hours { until });
    }
    if let Some((most, load)) = settings.busy_percent.zip(facts.load_percent)
        && load > most
    {
        return Err(Closed::Machine { load, most });
    }
    if let Some(cap) = settings.daily_cap_trm
        && left_of(cap, facts).is_zero()
    {
        let until = frees_at(cap, &facts.earned, now);
        return Err(Closed::Cap { cap, until });
    }
    Ok(price(settings, facts))
}

/// Whether the day's cap covers a job, the other jobs under way counted at their most.
pub(crate) fn covers(settings: &Settings, facts: &Facts, asked: Amount) -> Result<(), Closed> {
    match settings.daily_cap_trm.map(|cap| left_of(cap, facts)) {
        Some(left) if left < asked => Err(Closed::AboveCap { left, asked }),
        _ => Ok(()),
    }
}

/// What was earned in a day.
pub(crate) fn sum(earned: &[(Timestamp, Amount)]) -> Amount {
    earned.iter().fold(Amount::ZERO, |sum, (_, amount)| {
        sum.checked_add(*amount).unwrap_or(Amount::MAX)
    })
}

fn left_of(cap: Amount, facts: &Facts) -> Amount {
    cap.saturating_sub(sum(&facts.earned))
        .saturating_sub(facts.under_way)
}

/// When enough of what was earned is a day old.
fn frees_at(cap: Amount, earned: &[(Timestamp, Amount)], now: Timestamp) -> Timestamp {
    let mut sum = sum(earned);
    for (at, amount) in earned {
        sum = sum.saturating_sub(*amount);
        if sum < cap {
            return at.after_ms(COUNTS_MS);
        }
    }
    // Jobs that are under way take the rest.
    now.after_ms(BUSY_MS)
}

#[cfg(test)]
mod tests {
    use tirami_manifest::trm;

    use super::*;
    use crate::selling::settings::Pause;

    const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);
    const QUARTER: u64 = 15 * 60_000;

    fn facts() -> Facts {
        Facts {
            buyer: Some(Buyer {
                node: NodeId::from_bytes([1; 32]),
                is_member: true,
            }),
            ahead_minutes: 0,
            load_percent: Some(80),
            earned: vec![
                (NOW, trm!("0")),
                (NOW.after_ms(QUARTER), trm!("3")),
                (NOW.after_ms(2 * QUARTER), trm!("4")),
            ],
            under_way: trm!("1"),
            price: Multiplier::PAR,
            taken: Taken {
                running: 2,
                waiting: 2,
            },
        }
    }

    fn paused(until: Option<Timestamp>) -> Settings {
        Settings {
            paused: Some(Pause { since: NOW, until }),
            ..Settings::default()
        }
    }

    #[test]
    fn who_is_let_in_pays_what_the_load_makes_it() {
        let settings = Settings {
            price: Some(Bounds {
                floor_ppm: 1_000_000,
                ceiling_ppm: 2_000_000,
            }),
            slots: 4,
            queue: 4,
            busy_percent: Some(80),
            daily_cap_trm: Some(trm!("8.000001")),
            ..Settings::default()
        };
        let asked = admit(&settings, &facts(), NOW);
        assert_eq!(asked, Ok(Multiplier::from_ppm(1_500_000)));
        let free = admit(&Settings::default(), &facts(), NOW);
        assert_eq!(free, Ok(Multiplier::PAR), "the configured price");
    }

    #[test]
    fn each_reason_to_close_says_until_when() {
        let soon = NOW.after_ms(1_000);
        let cases = [
            (paused(None), Closed::Paused { until: None }, None),
            (
                paused(Some(soon)),
                Closed::Paused { until: Some(soon) },
                Some(soon),
            ),
            (
                Settings {
                    hours: vec!["08:01-09:00".parse().unwrap()],
                    ..Settings::default()
                },
                Closed::Hours {
                    until: NOW.after_ms(60_000),
                },
                Some(NOW.after_ms(60_000)),
            ),
            (
                Settings {
                    busy_percent: Some(79),
                    ..Settings::default()
                },
                Closed::Machine { load: 80, most: 79 },
                Some(NOW.after_ms(60_000)),
            ),
            (
                Settings {
                    daily_cap_trm: Some(trm!("5")),
                    ..Settings::default()
                },
                // The quarter with the 3 is the first without which less than 5 were earned.
                Closed::Cap {
                    cap: trm!("5"),
                    until: NOW.after_ms(QUARTER + COUNTS_MS),
                },
                Some(NOW.after_ms(QUARTER + COUNTS_MS)),
            ),
            (
                Settings {
                    buyers: Buyers::List([NodeId::from_bytes([2; 32])].into()),
                    ..Settings::default()
                },
                Closed::Buyer,
                None,
            ),
        ];
        for (settings, closed, until) in cases {
            assert_eq!(admit(&settings, &facts(), NOW), Err(closed.clone()));
            assert_eq!(closed.until(NOW), until, "{closed}");
        }
        assert_eq!(
            admit(&paused(Some(NOW)), &facts(), NOW),
            Ok(Multiplier::PAR),
            "a pause that is over"
        );
        let closed = Closed::Full { retry_ms: 1_500 };
        assert_eq!(
            closed.to_buyer(NOW),
            "every place for a job is taken; ask again in 2 s"
        );
    }

    #[test]
    fn members_are_told_from_strangers_and_strangers_nothing_else() {
        let settings = Settings {
            buyers: Buyers::Members,
            ..paused(None)
        };
        let mut facts = facts();
        let closed = Closed::Paused { until: None };
        assert_eq!(admit(&settings, &facts, NOW), Err(closed));
        facts.buyer = facts.buyer.map(|buyer| Buyer {
            is_member: false,
            ..buyer
        });
        assert_eq!(admit(&settings, &facts, NOW), Err(Closed::Buyer));
    }

    #[test]
    fn the_cap_counts_jobs_under_way_at_their_most() {
        let settings = Settings {
            daily_cap_trm: Some(trm!("10")),
            ..Settings::default()
        };
        assert_eq!(covers(&settings, &facts(), trm!("2")), Ok(()));
        let closed = covers(&settings, &facts(), trm!("2.000001")).unwrap_err();
        assert_eq!(
            closed,
            Closed::AboveCap {
                left: trm!("2"),
                asked: trm!("2.000001"),
            }
        );
        let none = covers(&Settings::default(), &facts(), Amount::MAX);
        assert_eq!(none, Ok(()));
    }
}
