//! Counting a spend that the gate lets through, and giving back what of it was not spent: in every
//! mandate of its chain, in the pots it comes from, and in the shares of limits that are told of.

use tirami_manifest::mandate::Bearing;
use tirami_manifest::{AgentId, Amount, Timestamp};

use super::super::account::{Account, AccountRow};
use super::super::alert::{Alert, reached};
use super::super::mandate::{Bound, standing};
use super::super::pot::{Draw, Pots};
use super::super::refusal::{ApplyError, Refusal};
use super::super::rows::{ReadRows, WriteRows};
use super::super::rule::Rule;
use super::super::tables::Table;
use super::super::transfer::{Charge, Spend};
use super::{Case, judge};
use crate::store::StoreError;

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

/// A spend that every rule lets through and that is counted nowhere yet.
pub(crate) struct Admitted<'a> {
    case: Case<'a>,
    draw: Draw,
}

/// Whether every rule lets the spend through. Nothing is written.
///
/// # Errors
///
/// The first [`Refusal`] in the order of [`Rule`], or a store failure.
pub(crate) fn admit<'a>(
    tables: &impl ReadRows,
    payer: &AgentId,
    spend: &'a Spend,
    asked: Amount,
    now: Timestamp,
) -> Result<Admitted<'a>, ApplyError> {
    let mut case = judge(tables, payer, spend, asked, now)?;
    let (pots, count) = case.pots();
    let available = case.available();
    let draw = case
        .account
        .pots
        .draw(pots.get(..count).unwrap_or(&[]), asked);
    let draw = draw.ok_or(Refusal::NotEnough {
        account: Account::Agent(*payer),
        available,
        asked,
    })?;
    Ok(Admitted { case, draw })
}

impl Admitted<'_> {
    /// The account that pays, with what is drawn from its pots gone from there.
    pub(crate) const fn account(&self) -> AccountRow {
        self.case.account
    }

    /// Counts the spend against the spender's mandate and every one above it; `at_once` when it is
    /// paid and over with that.
    pub(crate) fn count(
        self,
        tables: &mut impl WriteRows,
        at_once: bool,
    ) -> Result<Charge, StoreError> {
        let Self { case, draw } = self;
        let Case {
            spend,
            asked,
            now,
            links,
            ..
        } = case;
        let (mut counted_to_payee, mut bit) = (0, 1_u16);
        for link in &links {
            let agent = &link.agent;
            let told = tell_of_shares(tables, link, asked, now)?;
            tables.update_usage(agent, |mut usage| {
                if at_once {
                    usage.charge_at_once(asked, spend.request, now);
                    usage.succeeds();
                } else {
                    usage.charge(asked, spend.request, now);
                }
                usage.tell(told);
            })?;
            if let (Some(before), Some(payee)) = (link.paid, &spend.payee) {
                counted_to_payee |= bit;
                let (rule, limit) = (Rule::PayeeDay, link.terms.limits.payee_day_trm);
                let limit = limit.map_or(0, Amount::utrm);
                let used = before.saturating_add(asked.utrm());
                let share = tables.update_payee_usage(agent, payee, |mut paid| {
                    paid.day_mut().add(now, asked.utrm());
                    let (told, share) = reached(paid.told(), before, used, limit);
                    paid.tell(told);
                    share
                })?;
                if let Some(percent) = share {
                    tables.tell(&Alert {
                        agent: *agent,
                        rule,
                        percent,
                        used,
                        limit,
                        at: now,
                    })?;
                }
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
}

/// Tells of each watched limit that this spend uses up to a share worth telling; answers what was
/// told of then.
fn tell_of_shares(
    tables: &mut impl WriteRows,
    link: &Bound,
    asked: Amount,
    now: Timestamp,
) -> Result<[u8; 8], StoreError> {
    let Bearing {
        limits, breakers, ..
    } = &link.terms;
    let (was, utrm, mut all) = (&link.used, asked.utrm(), link.used.told);
    let mut watch = |rule, told: &mut u8, before: u64, used: u64, limit: u64| {
        let (next, share) = reached(*told, before, used, limit);
        *told = next;
        match share {
            None => Ok(()),
            Some(percent) => tables.tell(&Alert {
                agent: link.agent,
                rule,
                percent,
                used,
                limit,
                at: now,
            }),
        }
    };
    let mut money = |rule, told: &mut u8, before: u64, limit: Option<Amount>| {
        let limit = limit.map_or(0, Amount::utrm);
        watch(rule, told, before, before.saturating_add(utrm), limit)
    };
    // Their places in the row; what was paid to a payee is kept with each payee.
    let [minute, hour, day, lifetime, in_flight, spends, ..] = &mut all;
    money(Rule::Minute, minute, was.minute, limits.minute_trm)?;
    money(Rule::Hour, hour, was.hour, Some(limits.hour_trm))?;
    money(Rule::Day, day, was.day, limits.day_trm)?;
    let (in_all, limit) = (was.used_in_all.utrm(), limits.lifetime_trm);
    money(Rule::Lifetime, lifetime, in_all, Some(limit))?;
    // One request after the other is no news where one may be open at once.
    let (open, limit) = (
        u64::from(was.open).saturating_add(1),
        limits.in_flight.map_or(0, u64::from),
    );
    watch(Rule::InFlight, in_flight, open, open, limit)?;
    let (before, limit) = (was.spends, breakers.spends_per_minute.into());
    watch(
        Rule::Spends,
        spends,
        before,
        before.saturating_add(1),
        limit,
    )?;
    Ok(all)
}

/// A spend ended: what of it was not spent is given back to every mandate it was charged to and to
/// the pots it came from.
pub(crate) fn ended(
    tables: &mut impl WriteRows,
    pots: &mut Pots,
    charge: &Charge,
    unspent: Amount,
    (outcome, now): (Outcome, Timestamp),
) -> Result<(), StoreError> {
    let (mut next, mut counted) = (Some(charge.agent), charge.counted_to_payee);
    while let Some(agent) = next {
        let Some(mandate) = standing(tables, &agent)? else {
            break;
        };
        tables.update_usage(&agent, |mut usage| {
            usage.ended(unspent, charge.at);
            match outcome {
                Outcome::Paid => usage.succeeds(),
                Outcome::Failed => usage.fails(now),
                Outcome::CalledOff => {}
            }
        })?;
        // A limit that was set since has not counted it.
        if let (Some(payee), 1) = (&charge.payee, counted & 1) {
            tables.update_payee_usage(&agent, payee, |mut paid| {
                paid.day_mut().take_back(charge.at, unspent.utrm());
            })?;
        }
        counted = counted.wrapping_shr(1);
        next = mandate.parent;
    }
    pots.put_back(&charge.draw, unspent).ok_or(StoreError::Row {
        table: Table::Accounts,
    })
}
