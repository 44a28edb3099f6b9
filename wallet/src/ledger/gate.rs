//! The gate: may this agent set this much aside, for this, now?
//!
//! It runs inside the transaction that makes the hold, on every spend that takes from an agent's
//! account, whatever door the request came through. It asks every rule of the spender's mandate and
//! of each mandate above it, and charges them all, or none.
//!
//! [`explain`] runs the same questions and tells every answer.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::{Breakers, Limits, List, Terms};
use tirami_manifest::{AgentId, Amount, Timestamp};

use super::account::Account;
use super::alert::{Alert, WATCHED, reached};
use super::approval::Approval;
use super::mandate::{Link, chain};
use super::pot::{Pots, allowed};
use super::refusal::{ApplyError, Refusal};
use super::rows::{ReadRows, WriteRows};
use super::rule::{Finding, Measure, Rule};
use super::transfer::{Charge, Spend};
use super::usage::{COOL_MS, DayRing, Ring};
use crate::store::StoreError;

/// Why and since when nothing may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// What the one who froze said.
    pub reason: String,
    /// When.
    pub since: Timestamp,
}

/// How a hold ended, as the breakers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Something was bought.
    Paid,
    /// The purchase failed.
    Failed,
    /// Neither: it was called off.
    CalledOff,
}

/// Everything the rules look at.
struct Case<'a> {
    spend: &'a Spend,
    asked: Amount,
    now: Timestamp,
    payer: AgentId,
    frozen: Option<Freeze>,
    links: Vec<Link>,
    /// Per link, what it paid to this payee and what was told of it; where that is limited.
    payees: Vec<Option<(DayRing, u8)>>,
    available: Amount,
    pots: Pots,
    approval: Option<Approval>,
}

impl<'a> Case<'a> {
    fn load(
        tables: &impl ReadRows,
        payer: &AgentId,
        spend: &'a Spend,
        asked: Amount,
        now: Timestamp,
    ) -> Result<Self, ApplyError> {
        let frozen = tables.freeze()?;
        let links = match chain(tables, &spend.agent) {
            Err(ApplyError::Refused(_)) => Vec::new(),
            links => links?,
        };
        if links.first().is_none_or(|own| own.row.payer != *payer) {
            refuse_when_frozen(tables)?;
            return Err(Refusal::NoMandate { agent: spend.agent }.into());
        }
        let payees = links
            .iter()
            .map(
                |link| match (link.row.terms.limits.payee_day_trm, &spend.payee) {
                    (Some(_), Some(paid)) => tables.payee_usage(&link.agent, paid).map(Some),
                    _ => Ok(None),
                },
            )
            .collect::<Result<_, StoreError>>()?;
        let approval = match &spend.approval {
            Some(id) => tables.approval(id)?,
            None => None,
        };
        Ok(Self {
            spend,
            asked,
            now,
            payer: *payer,
            frozen,
            links,
            payees,
            available: tables.totals(&Account::Agent(*payer))?.available(),
            pots: tables.pots(payer)?,
            approval,
        })
    }

    /// Asks every rule, mandate by mandate.
    fn ask(&self, tell: &mut impl FnMut(Finding)) {
        let payer = self.payer;
        tell(Finding {
            rule: Rule::Freeze,
            mandate: payer,
            measure: Measure::Listed {
                said: self.frozen.is_some(),
            },
            passes: self.frozen.is_none(),
            passes_at: None,
        });
        for (link, payee) in self.links.iter().zip(&self.payees) {
            self.ask_scope(link, tell);
            // What costs nothing is judged by what it is, not by how much.
            if !self.asked.is_zero() {
                self.ask_breakers(link, tell);
                self.ask_windows(link, payee.as_ref().map(|(ring, _)| ring), tell);
                self.ask_approval(link, tell);
            }
        }
        if !self.asked.is_zero() {
            self.ask_pots(tell);
        }
    }

    fn ask_scope(&self, link: &Link, tell: &mut impl FnMut(Finding)) {
        let (now, spend) = (self.now, self.spend);
        let Terms {
            limits,
            scope,
            quiet_hours,
            expires,
            ..
        } = &link.row.terms;
        let mut say = |rule, measure, passes, passes_at| {
            tell(Finding {
                rule,
                mandate: link.agent,
                measure,
                passes,
                passes_at,
            });
        };
        let valid = link.row.revoked.is_none() && !link.cut_off;
        say(Rule::Revoked, Measure::Listed { said: !valid }, valid, None);
        let in_time = expires.is_none_or(|expires| now < expires);
        say(Rule::Expiry, Measure::Date(*expires), in_time, None);
        let quiet_until = quiet_hours.and_then(|quiet| quiet.ends(now));
        let loud = quiet_until.is_none();
        say(
            Rule::QuietHours,
            Measure::Date(quiet_until),
            loud,
            quiet_until,
        );
        let passes = scope.actions.permits(Some(&spend.action));
        say(Rule::Action, said(&scope.actions), passes, None);
        let passes = scope.payees.permits(spend.payee.as_ref());
        say(Rule::Payee, said(&scope.payees), passes, None);
        let passes = scope.models.permits(spend.model.as_ref());
        say(Rule::Model, said(&scope.models), passes, None);
        let passes = limits
            .ceiling()
            .is_none_or(|most| self.asked.is_zero() || spend.price.is_some_and(|p| p <= most));
        let price = spend.price.map_or(0, |price| u64::from(price.ppm()));
        let measure = Measure::Amounts {
            used: Amount::ZERO,
            asked: Amount::from_utrm(price).unwrap_or(Amount::MAX),
            limit: limits.price_ceiling_trm,
        };
        say(Rule::PriceCeiling, measure, passes, None);
    }

    fn ask_breakers(&self, link: &Link, tell: &mut impl FnMut(Finding)) {
        let (now, usage) = (self.now, &link.usage);
        let Breakers {
            errors_in_row,
            spends_per_minute,
            same_request,
        } = link.row.terms.breakers;
        let mut say =
            |rule, seen: u64, limit: Option<u32>, passes, passes_at: Option<Timestamp>| {
                let limit = limit.map(u64::from);
                tell(Finding {
                    rule,
                    mandate: link.agent,
                    measure: Measure::Counts { seen, limit },
                    passes,
                    passes_at: passes_at.filter(|_| !passes),
                });
            };
        let set = |n: u32| (n > 0).then_some(n);
        let cool = usage.failed.after_ms(COOL_MS);
        let limit = set(errors_in_row);
        let passes = limit.is_none_or(|most| usage.errors < most) || now >= cool;
        say(Rule::Errors, usage.errors.into(), limit, passes, Some(cool));

        let (seen, limit) = (usage.spends.sum(now), set(spends_per_minute));
        let below = |most: u32, seen: u64| seen < u64::from(most);
        let passes = limit.is_none_or(|most| below(most, seen));
        let falls = limit.filter(|_| !passes).map(|most| {
            let room = u64::from(most).saturating_sub(1);
            usage.spends.falls_to(room, now)
        });
        say(Rule::Spends, seen, limit, passes, falls);

        let request = self.spend.request;
        let (seen, limit) = (usage.same(request, now), set(same_request));
        let passes = limit.is_none_or(|most| below(most, seen));
        let falls = limit
            .filter(|_| !passes)
            .map(|most| usage.same_falls_below(request, most.into(), now));
        say(Rule::Loop, seen, limit, passes, falls);

        let (seen, limit) = (u64::from(usage.open), link.row.terms.limits.in_flight);
        let passes = limit.is_none_or(|most| below(most, seen));
        say(Rule::InFlight, seen, limit, passes, None);
    }

    fn ask_windows(&self, link: &Link, payee: Option<&DayRing>, tell: &mut impl FnMut(Finding)) {
        let (now, asked, usage) = (self.now, self.asked, &link.usage);
        let Limits {
            per_request_trm,
            minute_trm,
            hour_trm,
            day_trm,
            lifetime_trm,
            payee_day_trm,
            reserve_trm,
            ..
        } = link.row.terms.limits;
        let mut say = |rule, used: Amount, limit: Option<Amount>, passes_at: Option<Timestamp>| {
            let left = limit.map(|limit| limit.saturating_sub(used));
            let passes = left.is_none_or(|left| asked <= left);
            tell(Finding {
                rule,
                mandate: link.agent,
                measure: Measure::Amounts { used, asked, limit },
                passes,
                passes_at: passes_at.filter(|_| !passes),
            });
        };
        say(Rule::PerRequest, Amount::ZERO, Some(per_request_trm), None);
        let (used, at) = window(&usage.minute, minute_trm, asked, now);
        say(Rule::Minute, used, minute_trm, at);
        let (used, at) = window(&usage.hour, Some(hour_trm), asked, now);
        say(Rule::Hour, used, Some(hour_trm), at);
        let (used, at) = window(&usage.day, day_trm, asked, now);
        say(Rule::Day, used, day_trm, at);
        say(
            Rule::Lifetime,
            usage.used_in_all(),
            Some(lifetime_trm),
            None,
        );
        if payee_day_trm.is_some() {
            let (used, at) = match payee {
                Some(ring) => window(ring, payee_day_trm, asked, now),
                // Who is not known is paid nothing.
                None => (Amount::MAX, None),
            };
            say(Rule::PayeeDay, used, payee_day_trm, at);
        } else {
            say(Rule::PayeeDay, Amount::ZERO, None, None);
        }
        let spendable = self.available.saturating_sub(reserve_trm);
        // Where the account itself has too little, that is the answer.
        let passes = asked <= spendable || asked > self.available || reserve_trm.is_zero();
        tell(Finding {
            rule: Rule::Reserve,
            mandate: link.agent,
            measure: Measure::Amounts {
                used: reserve_trm.min(self.available),
                asked,
                limit: (!reserve_trm.is_zero()).then_some(self.available),
            },
            passes,
            passes_at: None,
        });
    }

    fn ask_pots(&self, tell: &mut impl FnMut(Finding)) {
        let (pots, count) = allowed(&self.links, self.spend);
        let there = self.pots.sum(pots.get(..count).unwrap_or(&[]));
        tell(Finding {
            rule: Rule::Pots,
            mandate: self.spend.agent,
            measure: Measure::Amounts {
                used: Amount::ZERO,
                asked: self.asked,
                limit: Some(there),
            },
            passes: self.asked <= there || self.asked > self.available,
            passes_at: None,
        });
    }

    fn ask_approval(&self, link: &Link, tell: &mut impl FnMut(Finding)) {
        let above = link.row.terms.limits.approval_above_trm;
        let epoch = self.links.first().map_or(0, |own| own.row.epoch);
        let approved = || {
            self.approval
                .as_ref()
                .is_some_and(|approval| approval.covers(self.asked, epoch, self.now))
        };
        tell(Finding {
            rule: Rule::Approval,
            mandate: link.agent,
            measure: Measure::Amounts {
                used: Amount::ZERO,
                asked: self.asked,
                limit: above,
            },
            passes: above.is_none_or(|above| self.asked <= above) || approved(),
            passes_at: None,
        });
    }

    /// The first refusal, if any.
    fn refuse(&self) -> Result<(), Refusal> {
        let mut first: Option<Finding> = None;
        self.ask(&mut |finding| {
            // Mandates come in order, so the earlier of two findings of one rule stays.
            if !finding.passes && first.is_none_or(|first| finding.rule < first.rule) {
                first = Some(finding);
            }
        });
        first.map_or(Ok(()), |finding| Err(self.refusal(&finding)))
    }

    fn refusal(&self, finding: &Finding) -> Refusal {
        let Finding {
            rule,
            mandate,
            measure,
            passes_at,
            ..
        } = *finding;
        match (rule, measure) {
            (Rule::Freeze, _) => Refusal::Frozen {
                reason: self
                    .frozen
                    .as_ref()
                    .map_or_else(String::new, |freeze| freeze.reason.clone()),
            },
            (Rule::Approval, Measure::Amounts { limit, .. }) => Refusal::NeedsApproval {
                approval: self.spend.approval,
                above: limit.unwrap_or(Amount::ZERO),
                asked: self.asked,
            },
            (Rule::PriceCeiling, _) | (_, Measure::Listed { .. } | Measure::Date(_)) => {
                Refusal::NotAllowed {
                    rule,
                    mandate,
                    passes_at,
                }
            }
            (_, Measure::Amounts { used, asked, limit }) => {
                let allowed = limit.unwrap_or(Amount::MAX);
                Refusal::OverBudget {
                    limit: rule,
                    mandate,
                    allowed,
                    left: allowed.saturating_sub(used),
                    asked,
                    frees_at: passes_at,
                }
            }
            (_, Measure::Counts { seen, limit }) => Refusal::TooMany {
                rule,
                mandate,
                seen,
                allowed: limit.unwrap_or(0),
                passes_at,
            },
        }
    }
}

/// Whether a list says anything.
fn said<T: Ord>(list: &List<T>) -> Measure {
    Measure::Listed {
        said: list.allow.is_some() || !list.deny.is_empty(),
    }
}

/// What is in a window, and when it would let `asked` through; never when `asked` is above it.
fn window<const N: usize, const MS: u64>(
    ring: &Ring<N, MS>,
    limit: Option<Amount>,
    asked: Amount,
    now: Timestamp,
) -> (Amount, Option<Timestamp>) {
    let used = ring.sum(now);
    let at = limit
        .and_then(|limit| limit.checked_sub(asked))
        .filter(|room| used > room.utrm())
        .map(|room| ring.falls_to(room.utrm(), now));
    (Amount::from_utrm(used).unwrap_or(Amount::MAX), at)
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

/// Says yes or no without changing anything. `payer` is the account that would pay.
///
/// # Errors
///
/// The first [`Refusal`] in the order of [`Rule`].
pub fn check(
    tables: &impl ReadRows,
    payer: &AgentId,
    spend: &Spend,
    asked: Amount,
    now: Timestamp,
) -> Result<(), ApplyError> {
    Ok(Case::load(tables, payer, spend, asked, now)?.refuse()?)
}

/// What every rule of every mandate of the chain says, in the order in which refusals are given;
/// what the account holds comes last.
///
/// # Errors
///
/// [`Refusal::NoMandate`], [`Refusal::Frozen`] where there is a freeze and no mandate, or a store
/// failure.
pub fn explain(
    tables: &impl ReadRows,
    payer: &AgentId,
    spend: &Spend,
    asked: Amount,
    now: Timestamp,
) -> Result<Vec<Finding>, ApplyError> {
    let case = Case::load(tables, payer, spend, asked, now)?;
    let mut findings = Vec::new();
    case.ask(&mut |finding| findings.push(finding));
    findings.sort_by_key(|finding| finding.rule);
    findings.push(Finding {
        rule: Rule::Funds,
        mandate: case.payer,
        measure: Measure::Amounts {
            used: Amount::ZERO,
            asked,
            limit: Some(case.available),
        },
        passes: asked <= case.available,
        passes_at: None,
    });
    Ok(findings)
}

/// Counts `asked` against the spender's mandate and every one above it, and draws it from the
/// payer's pots, or refuses.
pub(crate) fn charge(
    tables: &mut impl WriteRows,
    payer: &AgentId,
    spend: &Spend,
    asked: Amount,
    now: Timestamp,
) -> Result<Charge, ApplyError> {
    let mut case = Case::load(tables, payer, spend, asked, now)?;
    case.refuse()?;
    let (pots, count) = allowed(&case.links, spend);
    let draw = case
        .pots
        .draw(pots.get(..count).unwrap_or(&[]), asked)
        .ok_or(Refusal::NotEnough {
            account: Account::Agent(*payer),
            available: case.available,
            asked,
        })?;
    tables.set_pots(payer, &case.pots)?;
    let (mut counted_to_payee, mut bit) = (0, 1_u16);
    for (link, paid) in case.links.iter_mut().zip(case.payees) {
        let before = watched(link, now);
        link.usage.charge(asked, spend.request, now);
        tell_of_shares(tables, link, before, now)?;
        tables.set_usage(&link.agent, &link.usage)?;
        if let (Some((mut ring, told)), Some(payee)) = (paid, spend.payee) {
            let before = ring.sum(now);
            ring.add(now, asked.utrm());
            counted_to_payee |= bit;
            let limit = link.row.terms.limits.payee_day_trm.map_or(0, Amount::utrm);
            let used = ring.sum(now);
            let (told, share) = reached(told, before, used, limit);
            if let Some(percent) = share {
                let (agent, rule, at) = (link.agent, Rule::PayeeDay, now);
                tables.tell(&Alert {
                    agent,
                    rule,
                    percent,
                    used,
                    limit,
                    at,
                })?;
            }
            tables.set_payee_usage(&link.agent, &payee, &ring, told)?;
        }
        bit = bit.wrapping_shl(1);
    }
    Ok(Charge {
        agent: spend.agent,
        at: now,
        payee: spend.payee,
        counted_to_payee,
        draw,
    })
}

/// What is used of each watched limit, and the limit; zero where there is none.
fn watched(link: &Link, now: Timestamp) -> [(u64, u64); WATCHED.len()] {
    let limits = &link.row.terms.limits;
    let set = |amount: Option<Amount>| amount.map_or(0, Amount::utrm);
    let lifetime = link.usage.used_in_all().utrm();
    WATCHED.map(|rule| {
        match rule {
            Rule::Minute => (link.usage.minute.sum(now), set(limits.minute_trm)),
            Rule::Hour => (link.usage.hour.sum(now), limits.hour_trm.utrm()),
            Rule::Day => (link.usage.day.sum(now), set(limits.day_trm)),
            Rule::Lifetime => (lifetime, limits.lifetime_trm.utrm()),
            Rule::InFlight => (
                u64::from(link.usage.open),
                limits.in_flight.map_or(0, u64::from),
            ),
            Rule::Spends => (
                link.usage.spends.sum(now),
                link.row.terms.breakers.spends_per_minute.into(),
            ),
            // Kept with each payee.
            _ => (0, 0),
        }
    })
}

/// Tells of each limit that this charge used up to a share worth telling.
fn tell_of_shares(
    tables: &mut impl WriteRows,
    link: &mut Link,
    before: [(u64, u64); WATCHED.len()],
    now: Timestamp,
) -> Result<(), StoreError> {
    let after = watched(link, now);
    let told = &mut link.usage.told;
    for (((rule, (before, _)), (used, limit)), told) in
        WATCHED.into_iter().zip(before).zip(after).zip(told)
    {
        // One request after the other is no news where one may be open at once.
        let before = if rule == Rule::InFlight { used } else { before };
        let (next, share) = reached(*told, before, used, limit);
        *told = next;
        if let Some(percent) = share {
            tables.tell(&Alert {
                agent: link.agent,
                rule,
                percent,
                used,
                limit,
                at: now,
            })?;
        }
    }
    Ok(())
}

/// A spend ended: what of it was not spent is given back to every mandate it was charged to and to
/// the pots it came from.
pub(crate) fn ended(
    tables: &mut impl WriteRows,
    payer: &AgentId,
    charge: &Charge,
    unspent: Amount,
    (outcome, now): (Outcome, Timestamp),
) -> Result<(), StoreError> {
    let (mut next, mut counted) = (Some(charge.agent), charge.counted_to_payee);
    while let Some(agent) = next {
        let Some(row) = tables.mandate(&agent)? else {
            break;
        };
        let mut usage = tables.usage(&agent)?;
        usage.ended(unspent, charge.at);
        match outcome {
            Outcome::Paid => usage.errors = 0,
            Outcome::Failed => {
                usage.errors = usage.errors.saturating_add(1);
                usage.failed = now;
            }
            Outcome::CalledOff => {}
        }
        tables.set_usage(&agent, &usage)?;
        // A limit that was set since has not counted it.
        if let (Some(payee), 1) = (&charge.payee, counted & 1) {
            let (mut ring, told) = tables.payee_usage(&agent, payee)?;
            ring.take_back(charge.at, unspent.utrm());
            tables.set_payee_usage(&agent, payee, &ring, told)?;
        }
        counted = counted.wrapping_shr(1);
        next = row.parent;
    }
    let mut pots = tables.pots(payer)?;
    pots.put_back(&charge.draw, unspent)
        .ok_or(StoreError::Row {
            table: super::tables::Table::Pots,
        })?;
    tables.set_pots(payer, &pots)
}

#[cfg(test)]
mod charges;
#[cfg(test)]
mod tests;
