//! Terms and what was used of them, on the screen.

use tirami_agent_runtime::ops::{BudgetOutput, UsedOutput};
use tirami_manifest::mandate::{Action, Limits, List, PotRule, Terms};
use tirami_manifest::{Amount, ModelId, NodeId};

use crate::cli::balance::say_frozen;
use crate::cli::local_time;
use crate::cli::output::{Output, Style};
use crate::cli::table::{Align, Table};

/// Entries of a list that are shown; the rest is counted.
const SHOWN: usize = 3;

/// An agent's terms, what was used of them and what is left.
pub(in crate::cli) fn show(out: &Output, budget: &BudgetOutput) {
    let from = budget
        .parent
        .as_ref()
        .map_or_else(|| "the owner".to_owned(), |name| format!("agent {name}"));
    let payer = if budget.payer == budget.agent {
        String::new()
    } else {
        format!("; agent {} pays", budget.payer)
    };
    out.styled(
        Style::Dim,
        &format!("agent {}, with a mandate from {from}{payer}", budget.agent),
    );
    out.table(&amounts(&budget.terms.limits, &budget.used));
    out.line("");
    out.table(&counts(&budget.terms, &budget.used));
    out.line("");
    out.facts(&facts(budget));
    let left = format!(
        "one request may cost {} TRM now ({})",
        budget.trm_left, budget.left_by
    );
    out.line(&left);
    say_frozen(out, budget.frozen.as_deref());
}

fn amounts(limits: &Limits, used: &UsedOutput) -> Table {
    let Limits {
        per_request_trm,
        minute_trm,
        hour_trm,
        day_trm,
        lifetime_trm,
        payee_day_trm,
        in_flight: _,
        reserve_trm,
        price_ceiling_trm,
        approval_above_trm,
    } = *limits;
    let mut table = Table::new(&[
        ("limit", Align::Left),
        ("TRM", Align::Amount),
        ("used", Align::Amount),
        ("left", Align::Amount),
    ]);
    let rows = [
        ("per request", Some(per_request_trm), None),
        ("any 60 seconds", minute_trm, Some(used.trm_minute)),
        ("any 60 minutes", Some(hour_trm), Some(used.trm_hour)),
        ("any 24 hours", day_trm, Some(used.trm_day)),
        ("lifetime", Some(lifetime_trm), Some(used.trm_lifetime)),
        ("payee in 24 hours", payee_day_trm, None),
        (
            "must stay",
            Some(reserve_trm).filter(|trm| !trm.is_zero()),
            None,
        ),
        ("10^9 FLOP", price_ceiling_trm, None),
        ("asks owner above", approval_above_trm, None),
    ];
    for (name, limit, used) in rows {
        let Some(limit) = limit else { continue };
        let left = used.map(|used| limit.saturating_sub(used));
        table.row([name.to_owned(), limit.to_string(), said(used), said(left)]);
    }
    table
}

fn said(amount: Option<Amount>) -> String {
    amount.map(|amount| amount.to_string()).unwrap_or_default()
}

fn counts(terms: &Terms, used: &UsedOutput) -> Table {
    let mut table = Table::new(&[
        ("stops at", Align::Left),
        ("most", Align::Right),
        ("now", Align::Right),
    ]);
    let breakers = terms.breakers;
    for (name, most, now) in [
        (
            "requests at once",
            terms.limits.in_flight,
            u64::from(used.in_flight).into(),
        ),
        (
            "failures in a row",
            set(breakers.errors_in_row),
            u64::from(used.errors_in_row).into(),
        ),
        (
            "purchases in 60 seconds",
            set(breakers.spends_per_minute),
            used.spends_in_minute.into(),
        ),
        (
            "same request in 10 minutes",
            set(breakers.same_request),
            None,
        ),
    ] {
        let most = most.map_or_else(|| "none".to_owned(), |most| most.to_string());
        let now = now.map(|now: u64| now.to_string()).unwrap_or_default();
        table.row([name.to_owned(), most, now]);
    }
    table
}

/// No breaker is written as 0.
fn set(count: u32) -> Option<u32> {
    (count > 0).then_some(count)
}

fn facts(budget: &BudgetOutput) -> Vec<(&'static str, String)> {
    let terms = &budget.terms;
    let scope = &terms.scope;
    let mut facts = vec![
        ("payees", listed(&scope.payees, NodeId::short)),
        ("models", listed(&scope.models, ModelId::short)),
        (
            "actions",
            listed(&scope.actions, |action| action.name().to_owned()),
        ),
    ];
    if let Some(quiet) = terms.quiet_hours {
        facts.push(("quiet", quiet.to_string()));
    }
    if let Some(end) = &budget.expires_at {
        facts.push(("ends", local_time::exact(end)));
    }
    for rule in terms.pots.iter().take(SHOWN) {
        facts.push(("pots", pot_rule(rule)));
    }
    if let Some(more @ 1..) = terms.pots.len().checked_sub(SHOWN) {
        facts.push(("pots", format!("and {more} rules more")));
    }
    for pot in &budget.pots {
        if !pot.trm_available.is_zero() {
            facts.push((pot.pot.name(), format!("{} TRM", pot.trm_available)));
        }
    }
    facts
}

fn listed<T: Ord>(list: &List<T>, name: impl Fn(&T) -> String) -> String {
    let some = |items: &std::collections::BTreeSet<T>| {
        let mut names: Vec<String> = items.iter().take(SHOWN).map(&name).collect();
        if let Some(more @ 1..) = items.len().checked_sub(SHOWN) {
            names.push(format!("{more} more"));
        }
        names.join(", ")
    };
    let allowed = match &list.allow {
        None => "any".to_owned(),
        Some(allow) if allow.is_empty() => "none".to_owned(),
        Some(allow) => format!("only {}", some(allow)),
    };
    if list.deny.is_empty() {
        allowed
    } else {
        format!("{allowed}; never {}", some(&list.deny))
    }
}

fn pot_rule(rule: &PotRule) -> String {
    let pots: Vec<&str> = rule.pots.iter().map(|pot| pot.name()).collect();
    let fits: Vec<String> = [
        rule.action
            .as_ref()
            .map(|action| Action::name(*action).to_owned()),
        rule.model
            .as_ref()
            .map(|model| format!("model {}", model.short())),
        rule.payee
            .as_ref()
            .map(|payee| format!("payee {}", payee.short())),
    ]
    .into_iter()
    .flatten()
    .collect();
    if fits.is_empty() {
        pots.join(", ")
    } else {
        format!("{} for {}", pots.join(", "), fits.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn the_largest_amounts_fit_the_screen() {
        let most = Amount::from_utrm(20_999_999_999_999_999).unwrap();
        let some = Some(most);
        let limits = Limits {
            per_request_trm: most,
            minute_trm: some,
            hour_trm: most,
            day_trm: some,
            lifetime_trm: most,
            payee_day_trm: some,
            in_flight: Some(u32::MAX),
            reserve_trm: most,
            price_ceiling_trm: some,
            approval_above_trm: some,
        };
        let used = UsedOutput {
            trm_minute: Amount::from_utrm(1).unwrap(),
            trm_hour: most,
            trm_day: Amount::ZERO,
            trm_lifetime: most,
            in_flight: u32::MAX,
            spends_in_minute: u64::MAX,
            errors_in_row: u32::MAX,
        };
        fits(&amounts(&limits, &used));
        fits(&counts(&Terms::of(limits), &used));
    }

    #[test]
    fn a_long_list_is_counted() {
        let ids: BTreeSet<NodeId> = (0..64).map(|n| NodeId::from_bytes([n; 32])).collect();
        let list = List {
            allow: Some(ids.clone()),
            deny: ids,
        };
        let said = listed(&list, NodeId::short);
        assert!(said.contains("61 more") && said.len() < 100, "{said}");
    }
}
