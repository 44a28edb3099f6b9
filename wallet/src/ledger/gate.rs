//! The gate: may this agent set this much aside, for this, now?
//!
//! It runs inside the transaction that makes the hold, on every spend that takes from an agent's
//! account, whatever door the request came through. It asks every rule of the spender's mandate and
//! of each mandate above it, and charges them all, or none.
//!
//! [`explain`] runs the same questions and tells every answer.

mod count;

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::{Bearing, Breakers, Limits, Permit, Pot};
use tirami_manifest::{AgentId, Amount, Timestamp};

use super::account::{Account, AccountRow};
use super::approval::Approval;
use super::mandate::{Bound, bounds};
use super::pot::allowed;
use super::refusal::{ApplyError, Refusal};
use super::rows::ReadRows;
use super::rule::{Finding, Measure, Rule};
use super::transfer::Spend;
use super::usage::{COOL_MS, Usage};

pub(crate) use count::{Admitted, Outcome, admit, ended};

/// Why and since when nothing may be spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// What the one who froze said.
    pub reason: String,
    /// When.
    pub since: Timestamp,
}

/// Everything the rules look at.
struct Case<'a> {
    spend: &'a Spend,
    asked: Amount,
    now: Timestamp,
    payer: AgentId,
    frozen: Option<Freeze>,
    /// Each mandate of the chain, its own first.
    links: Vec<Bound>,
    account: AccountRow,
    approval: Option<Approval>,
}

impl Bound {
    /// When it will be so that the spend passes, as its usage tells.
    fn falls(&self, when: impl FnOnce(&Usage) -> Timestamp) -> Option<Timestamp> {
        self.rows.as_ref().map(|(usage, _)| when(usage))
    }
}

impl<'a> Case<'a> {
    /// Reads what the rules look at; also, if `dated`, what it takes to say when they would pass.
    fn load(
        tables: &impl ReadRows,
        payer: &AgentId,
        spend: &'a Spend,
        asked: Amount,
        (now, dated): (Timestamp, bool),
    ) -> Result<Self, ApplyError> {
        let frozen = tables.freeze()?;
        let links = match bounds(tables, spend, (now, dated)) {
            Err(ApplyError::Refused(_)) => Vec::new(),
            links => links?,
        };
        if links.first().is_none_or(|own| own.standing.payer != *payer) {
            refuse_when_frozen(tables)?;
            return Err(Refusal::NoMandate { agent: spend.agent }.into());
        }
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
            account: tables.account(&Account::Agent(*payer))?,
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
        for link in &self.links {
            self.ask_scope(link, tell);
            // What costs nothing is judged by what it is, not by how much.
            if !self.asked.is_zero() {
                self.ask_breakers(link, tell);
                self.ask_windows(link, tell);
                self.ask_reserve(link, tell);
                self.ask_approval(link, tell);
            }
        }
        if !self.asked.is_zero() {
            self.ask_pots(tell);
        }
    }

    fn ask_scope(&self, link: &Bound, tell: &mut impl FnMut(Finding)) {
        let (now, spend) = (self.now, self.spend);
        let Bearing {
            limits,
            payees,
            actions,
            models,
            quiet_hours,
            expires,
            ..
        } = &link.terms;
        let mut say = |rule, measure, passes, passes_at| {
            tell(Finding {
                rule,
                mandate: link.agent,
                measure,
                passes,
                passes_at,
            });
        };
        let valid = link.standing.revoked.is_none() && !link.cut_off;
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
        say(Rule::Action, said(*actions), actions.permits, None);
        say(Rule::Payee, said(*payees), payees.permits, None);
        say(Rule::Model, said(*models), models.permits, None);
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

    fn ask_breakers(&self, link: &Bound, tell: &mut impl FnMut(Finding)) {
        let (now, used) = (self.now, &link.used);
        let Breakers {
            errors_in_row,
            spends_per_minute,
            same_request,
        } = link.terms.breakers;
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
        let (errors, cool) = (used.errors, used.failed.after_ms(COOL_MS));
        let limit = set(errors_in_row);
        let passes = limit.is_none_or(|most| errors < most) || now >= cool;
        say(Rule::Errors, errors.into(), limit, passes, Some(cool));

        let (seen, limit) = (used.spends, set(spends_per_minute));
        let below = |most: u32, seen: u64| seen < u64::from(most);
        let passes = limit.is_none_or(|most| below(most, seen));
        let falls = limit.filter(|_| !passes).and_then(|most| {
            let room = u64::from(most).saturating_sub(1);
            link.falls(|usage| usage.spends().falls_to(room, now))
        });
        say(Rule::Spends, seen, limit, passes, falls);

        let request = self.spend.request;
        let (seen, limit) = (used.same, set(same_request));
        let passes = limit.is_none_or(|most| below(most, seen));
        let falls = limit
            .filter(|_| !passes)
            .and_then(|most| link.falls(|usage| usage.same_falls_below(request, most.into(), now)));
        say(Rule::Loop, seen, limit, passes, falls);

        let (seen, limit) = (u64::from(used.open), link.terms.limits.in_flight);
        let passes = limit.is_none_or(|most| below(most, seen));
        say(Rule::InFlight, seen, limit, passes, None);
    }

    fn ask_windows(&self, link: &Bound, tell: &mut impl FnMut(Finding)) {
        let (now, asked, used) = (self.now, self.asked, &link.used);
        let Limits {
            per_request_trm,
            minute_trm,
            hour_trm,
            day_trm,
            lifetime_trm,
            payee_day_trm,
            ..
        } = link.terms.limits;
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
        // When a window would let it through: never when it is above the limit.
        let falls = |used: u64, limit: Option<Amount>, when: fn(&Bound, u64, Timestamp) -> _| {
            limit
                .and_then(|limit| limit.checked_sub(asked))
                .filter(|room| used > room.utrm())
                .and_then(|room| when(link, room.utrm(), now))
        };
        let amount = |utrm: u64| Amount::from_utrm(utrm).unwrap_or(Amount::MAX);
        say(Rule::PerRequest, Amount::ZERO, Some(per_request_trm), None);
        let at = falls(used.minute, minute_trm, |link, room, now| {
            link.falls(|usage| usage.minute().falls_to(room, now))
        });
        say(Rule::Minute, amount(used.minute), minute_trm, at);
        let at = falls(used.hour, Some(hour_trm), |link, room, now| {
            link.falls(|usage| usage.hour().falls_to(room, now))
        });
        say(Rule::Hour, amount(used.hour), Some(hour_trm), at);
        let at = falls(used.day, day_trm, |link, room, now| {
            link.falls(|usage| usage.day().falls_to(room, now))
        });
        say(Rule::Day, amount(used.day), day_trm, at);
        say(Rule::Lifetime, used.used_in_all, Some(lifetime_trm), None);
        if payee_day_trm.is_some() {
            let (used, at) = match link.paid {
                Some(paid) => {
                    let at = falls(paid, payee_day_trm, |link, room, now| {
                        let rows = link.rows.as_ref();
                        rows.map(|(_, paid)| paid.day().falls_to(room, now))
                    });
                    (amount(paid), at)
                }
                // Who is not known is paid nothing.
                None => (Amount::MAX, None),
            };
            say(Rule::PayeeDay, used, payee_day_trm, at);
        } else {
            say(Rule::PayeeDay, Amount::ZERO, None, None);
        }
    }

    fn ask_reserve(&self, link: &Bound, tell: &mut impl FnMut(Finding)) {
        let (asked, reserve_trm) = (self.asked, link.terms.limits.reserve_trm);
        let available = self.available();
        let spendable = available.saturating_sub(reserve_trm);
        // Where the account itself has too little, that is the answer.
        let passes = asked <= spendable || asked > available || reserve_trm.is_zero();
        tell(Finding {
            rule: Rule::Reserve,
            mandate: link.agent,
            measure: Measure::Amounts {
                used: reserve_trm.min(available),
                asked,
                limit: (!reserve_trm.is_zero()).then_some(available),
            },
            passes,
            passes_at: None,
        });
    }

    fn available(&self) -> Amount {
        self.account.totals.available()
    }

    /// The pots that every mandate of the chain lets pay, in the spender's order.
    fn pots(&self) -> ([Pot; 4], usize) {
        allowed(self.links.iter().map(|link| link.terms.pots()))
    }

    fn ask_pots(&self, tell: &mut impl FnMut(Finding)) {
        let (pots, count) = self.pots();
        let there = self.account.pots.sum(pots.get(..count).unwrap_or(&[]));
        tell(Finding {
            rule: Rule::Pots,
            mandate: self.spend.agent,
            measure: Measure::Amounts {
                used: Amount::ZERO,
                asked: self.asked,
                limit: Some(there),
            },
            passes: self.asked <= there || self.asked > self.available(),
            passes_at: None,
        });
    }

    fn ask_approval(&self, link: &Bound, tell: &mut impl FnMut(Finding)) {
        let above = link.terms.limits.approval_above_trm;
        let epoch = self.links.first().map_or(0, |own| own.standing.epoch);
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
const fn said(list: Permit) -> Measure {
    Measure::Listed { said: list.said }
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
    judge(tables, payer, spend, asked, now).map(drop)
}

/// The case, if every rule lets the spend through.
fn judge<'a>(
    tables: &impl ReadRows,
    payer: &AgentId,
    spend: &'a Spend,
    asked: Amount,
    now: Timestamp,
) -> Result<Case<'a>, ApplyError> {
    let case = Case::load(tables, payer, spend, asked, (now, false))?;
    if case.refuse().is_ok() {
        return Ok(case);
    }
    // The same question once more, so that the answer says when it would pass.
    let case = Case::load(tables, payer, spend, asked, (now, true))?;
    case.refuse()?;
    Ok(case)
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
    let case = Case::load(tables, payer, spend, asked, (now, true))?;
    let mut findings = Vec::new();
    case.ask(&mut |finding| findings.push(finding));
    findings.sort_by_key(|finding| finding.rule);
    findings.push(Finding {
        rule: Rule::Funds,
        mandate: case.payer,
        measure: Measure::Amounts {
            used: Amount::ZERO,
            asked,
            limit: Some(case.available()),
        },
        passes: asked <= case.available(),
        passes_at: None,
    });
    Ok(findings)
}

#[cfg(test)]
mod charges;
#[cfg(test)]
mod tests;
