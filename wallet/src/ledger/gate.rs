//! The gate: may this agent set this much aside, now?
//!
//! It runs inside the transaction that makes the hold, on every transfer that takes from an agent's
//! account, whatever door the request came through. The hourly window slides: it is kept in buckets
//! of one minute, and a bucket that lies partly outside still counts in full, so the limit holds
//! over every 60 minutes, whenever they start.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::Limits;
use tirami_manifest::{AgentId, Amount, Timestamp};

use super::refusal::{ApplyError, Limit, Refusal};
use super::rows::{ReadRows, WriteRows};
use crate::store::StoreError;

/// Milliseconds in a bucket.
const BUCKET_MS: u64 = 60_000;

/// Buckets that may overlap the last 60 minutes: 60 whole ones and one partly outside.
const BUCKETS: u64 = 61;

/// Why and since when nothing may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// What the one who froze said.
    pub reason: String,
    /// When.
    pub since: Timestamp,
}

/// An agent's mandate and what was used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MandateRow {
    /// What it allows.
    pub limits: Limits,
    /// Spent and set aside since the mandate began, µTRM.
    pub used: u128,
    /// Spent and set aside per minute since 1970, oldest first, at most 61 of them.
    pub minutes: Vec<(u64, u64)>,
}

impl MandateRow {
    /// A mandate of which nothing is used.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            used: 0,
            minutes: Vec::new(),
        }
    }

    /// What was spent and set aside in the window that ends at `now`.
    pub fn used_in_hour(&self, now: Timestamp) -> Amount {
        let oldest = oldest_minute(now);
        let sum = self
            .minutes
            .iter()
            .filter(|(minute, _)| *minute >= oldest)
            .fold(0_u128, |sum, (_, utrm)| {
                sum.saturating_add(u128::from(*utrm))
            });
        Amount::try_from(sum).unwrap_or(Amount::MAX)
    }

    /// What was spent and set aside in all.
    pub fn used_in_all(&self) -> Amount {
        Amount::try_from(self.used).unwrap_or(Amount::MAX)
    }

    /// What each limit still allows at `now`.
    pub fn left(&self, now: Timestamp) -> [(Limit, Amount, Amount); 3] {
        let Limits {
            per_request_trm,
            hour_trm,
            lifetime_trm,
        } = self.limits;
        [
            (Limit::PerRequest, per_request_trm, per_request_trm),
            (
                Limit::Hour,
                hour_trm,
                hour_trm.saturating_sub(self.used_in_hour(now)),
            ),
            (
                Limit::Lifetime,
                lifetime_trm,
                lifetime_trm.saturating_sub(self.used_in_all()),
            ),
        ]
    }

    /// The first moment at which the hour's window lets `asked` through; `None` when it never will.
    fn hour_frees_at(&self, asked: Amount, now: Timestamp) -> Option<Timestamp> {
        let mut used = u128::from(self.used_in_hour(now).utrm());
        let room = u128::from(self.limits.hour_trm.checked_sub(asked)?.utrm());
        for (minute, utrm) in &self.minutes {
            if *minute < oldest_minute(now) {
                continue;
            }
            used = used.saturating_sub(u128::from(*utrm));
            if used <= room {
                let past = minute.saturating_add(BUCKETS);
                return Some(Timestamp::from_ms(past.saturating_mul(BUCKET_MS)));
            }
        }
        None
    }
}

/// The minute since 1970 that `now` lies in.
pub(crate) fn minute_of(now: Timestamp) -> u64 {
    now.ms() / BUCKET_MS
}

fn oldest_minute(now: Timestamp) -> u64 {
    minute_of(now).saturating_sub(BUCKETS.saturating_sub(1))
}

/// Refuses when the kill switch is on.
pub(crate) fn refuse_when_frozen(tables: &impl ReadRows) -> Result<(), ApplyError> {
    match tables.freeze()? {
        Some(freeze) => Err(Refusal::Frozen {
            reason: freeze.reason,
        }
        .into()),
        None => Ok(()),
    }
}

/// Says yes or no without changing anything.
///
/// # Errors
///
/// [`Refusal::Frozen`], [`Refusal::NoMandate`] or [`Refusal::OverBudget`], in that order, the
/// limits in the order of [`Limit`].
pub fn check(
    tables: &impl ReadRows,
    agent: &AgentId,
    asked: Amount,
    now: Timestamp,
) -> Result<MandateRow, ApplyError> {
    refuse_when_frozen(tables)?;
    let row = tables
        .mandate(agent)?
        .ok_or(Refusal::NoMandate { agent: *agent })?;
    for (limit, allowed, left) in row.left(now) {
        if asked > left {
            let frees_at = match limit {
                Limit::Hour => row.hour_frees_at(asked, now),
                Limit::PerRequest | Limit::Lifetime => None,
            };
            return Err(Refusal::OverBudget {
                limit,
                allowed,
                left,
                asked,
                frees_at,
            }
            .into());
        }
    }
    Ok(row)
}

/// Counts `asked` against the agent's mandate, or refuses.
pub(crate) fn charge(
    tables: &mut impl WriteRows,
    agent: &AgentId,
    asked: Amount,
    now: Timestamp,
) -> Result<(), ApplyError> {
    let mut row = check(tables, agent, asked, now)?;
    let minute = minute_of(now);
    row.used = row.used.saturating_add(u128::from(asked.utrm()));
    row.minutes.retain(|(m, _)| *m >= oldest_minute(now));
    match row.minutes.last_mut() {
        Some((m, utrm)) if *m == minute => *utrm = utrm.saturating_add(asked.utrm()),
        _ => row.minutes.push((minute, asked.utrm())),
    }
    Ok(tables.set_mandate(agent, &row)?)
}

/// Gives back what was charged in `minute` and not spent after all.
pub(crate) fn give_back(
    tables: &mut impl WriteRows,
    agent: &AgentId,
    amount: Amount,
    minute: u64,
) -> Result<(), StoreError> {
    let Some(mut row) = tables.mandate(agent)? else {
        return Ok(());
    };
    row.used = row.used.saturating_sub(u128::from(amount.utrm()));
    if let Some((_, utrm)) = row.minutes.iter_mut().find(|(m, _)| *m == minute) {
        *utrm = utrm.saturating_sub(amount.utrm());
    }
    tables.set_mandate(agent, &row)
}
