//! A mandate's terms: one layout for each, and "allows no more" means that.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use tirami_manifest::mandate::{
    Action, Breakers, Limits, List, Pot, PotRule, QuietHours, Scope, Terms,
};
use tirami_manifest::{Amount, ModelId, NodeId, Timestamp};
use tirami_manifest_fuzz::{golden, write_seeds};

const MINUTE: u64 = 60_000;
const NODES: [NodeId; 3] = [
    NodeId::from_bytes([1; 32]),
    NodeId::from_bytes([2; 32]),
    NodeId::from_bytes([3; 32]),
];
const MODELS: [ModelId; 3] = [
    ModelId::from_bytes([1; 32]),
    ModelId::from_bytes([2; 32]),
    ModelId::from_bytes([3; 32]),
];
const ACTIONS: [Action; 2] = [Action::Chat, Action::LocalChat];

// --- reading --------------------------------------------------------------------------------------

fn reads_bytes(bytes: &[u8]) {
    let Ok(terms) = Terms::from_bytes(bytes) else {
        return;
    };
    assert_eq!(terms.to_bytes(), bytes, "two layouts of one mandate");
    assert_eq!(terms.flaw(), None);
    reads_back(&terms);
}

fn reads_json(bytes: &[u8]) {
    if let Ok(terms) = serde_json::from_slice::<Terms>(bytes) {
        reads_back(&terms);
    }
}

fn reads_back(terms: &Terms) {
    let json = serde_json::to_string(terms).expect("it serialises");
    let again: Terms = serde_json::from_str(&json).expect("it reads back");
    assert_eq!(again, *terms);
    if terms.flaw().is_none() {
        assert_eq!(Terms::from_bytes(&terms.to_bytes()).as_ref(), Ok(terms));
    }
    assert_eq!(terms.looser_than(terms), None, "looser than itself");
    if let Some(quiet) = terms.quiet_hours {
        sounds(quiet);
    }
}

fn reads_quiet_hours(text: &str) {
    if let Ok(quiet) = text.parse::<QuietHours>() {
        assert!(quiet.is_sound());
        sounds(quiet);
    }
}

/// Quiet hours read back from what they are shown as, and end when they are over.
fn sounds(quiet: QuietHours) {
    let day = 24 * 60;
    let shown = quiet.to_string();
    if !quiet.is_sound() {
        return;
    }
    assert_eq!(shown.parse(), Ok(quiet), "{shown}");
    for minute in (0..day).step_by(97) {
        let now = Timestamp::from_ms(1_000 * day * MINUTE + minute * MINUTE + 1_234);
        let Some(end) = quiet.ends(now) else {
            continue;
        };
        assert!(end > now && end.since_ms(now) <= day * MINUTE);
        assert_eq!(quiet.ends(end), None, "{shown} goes on");
        let before = Timestamp::from_ms(end.ms() - 1);
        assert_eq!(quiet.ends(before), Some(end), "{shown} paused");
    }
}

// --- comparing ------------------------------------------------------------------------------------

fn some<T: Copy>(u: &mut Unstructured<'_>, of: &[T]) -> Result<T> {
    u.choose(of).copied()
}

fn amount(u: &mut Unstructured<'_>) -> Result<Amount> {
    some(u, &[0, 1, 2, 3]).map(|n| Amount::from_utrm(n).expect("a few"))
}

fn maybe<'a, T>(
    u: &mut Unstructured<'a>,
    of: impl FnOnce(&mut Unstructured<'a>) -> Result<T>,
) -> Result<Option<T>> {
    if u.ratio(1, 3)? {
        of(u).map(Some)
    } else {
        Ok(None)
    }
}

fn set<T: Copy + Ord>(u: &mut Unstructured<'_>, of: &[T]) -> Result<BTreeSet<T>> {
    let bits: u8 = u.arbitrary()?;
    let chosen = of
        .iter()
        .enumerate()
        .filter(|(at, _)| bits & (1 << at) != 0);
    Ok(chosen.map(|(_, item)| *item).collect())
}

fn list<T: Copy + Ord>(u: &mut Unstructured<'_>, of: &[T]) -> Result<List<T>> {
    let allow = maybe(u, |u| set(u, of))?;
    let deny = maybe(u, |u| set(u, of))?.unwrap_or_default();
    Ok(List { allow, deny })
}

fn rule(u: &mut Unstructured<'_>) -> Result<PotRule> {
    Ok(PotRule {
        action: maybe(u, |u| some(u, &ACTIONS))?,
        payee: maybe(u, |u| some(u, &NODES))?,
        model: maybe(u, |u| some(u, &MODELS))?,
        pots: set(u, &Pot::ALL)?.into_iter().collect(),
    })
}

fn limits(u: &mut Unstructured<'_>) -> Result<Limits> {
    Ok(Limits {
        per_request_trm: amount(u)?,
        minute_trm: maybe(u, amount)?,
        hour_trm: amount(u)?,
        day_trm: maybe(u, amount)?,
        lifetime_trm: amount(u)?,
        payee_day_trm: maybe(u, amount)?,
        in_flight: maybe(u, |u| some(u, &[0, 1, 2]))?,
        reserve_trm: amount(u)?,
        price_ceiling_trm: maybe(u, amount)?,
        approval_above_trm: maybe(u, amount)?,
    })
}

fn terms(u: &mut Unstructured<'_>) -> Result<Terms> {
    Ok(Terms {
        limits: limits(u)?,
        scope: Scope {
            payees: list(u, &NODES)?,
            actions: list(u, &ACTIONS)?,
            models: list(u, &MODELS)?,
        },
        breakers: Breakers {
            errors_in_row: some(u, &[0, 1, 2])?,
            spends_per_minute: some(u, &[0, 1, 2])?,
            same_request: some(u, &[0, 1, 2])?,
        },
        quiet_hours: maybe(u, |u| {
            Ok(QuietHours {
                from_minute: some(u, &[0, 1_380])?,
                to_minute: some(u, &[60, 420])?,
                utc_offset_minutes: some(u, &[0, 90, -90])?,
            })
        })?,
        expires: maybe(u, |u| some(u, &[0, 1, 2]).map(Timestamp::from_ms))?,
        pots: maybe(u, |u| {
            let count = u.int_in_range(0..=3)?;
            (0..count).map(|_| rule(u)).collect()
        })?
        .unwrap_or_default(),
    })
}

/// Some terms, and others that differ in a few places.
fn two(u: &mut Unstructured<'_>) -> Result<(Terms, Terms)> {
    let mut one = terms(u)?;
    let other = one.clone();
    for _ in 0..u.int_in_range(1..=3)? {
        let new = terms(u)?;
        match u.int_in_range(0..=9)? {
            0 => one.limits = new.limits,
            1 => one.limits.minute_trm = new.limits.minute_trm,
            2 => one.limits.reserve_trm = new.limits.reserve_trm,
            3 => one.scope.payees = new.scope.payees,
            4 => one.scope.actions = new.scope.actions,
            5 => one.scope.models = new.scope.models,
            6 => one.breakers = new.breakers,
            7 => one.quiet_hours = new.quiet_hours,
            8 => one.expires = new.expires,
            _ => one.pots = new.pots,
        }
    }
    Ok(if u.arbitrary()? {
        (one, other)
    } else {
        (other, one)
    })
}

fn no_more<T: Ord>(mine: Option<T>, theirs: Option<T>) -> bool {
    theirs.is_none_or(|theirs| mine.is_some_and(|mine| mine <= theirs))
}

/// Everything that `narrow` lets through `wide` lets through.
fn allows_no_more(narrow: &Terms, wide: &Terms) {
    let (n, w) = (&narrow.limits, &wide.limits);
    assert!(n.per_request_trm <= w.per_request_trm && n.hour_trm <= w.hour_trm);
    assert!(n.lifetime_trm <= w.lifetime_trm && n.reserve_trm >= w.reserve_trm);
    assert!(no_more(n.minute_trm, w.minute_trm) && no_more(n.day_trm, w.day_trm));
    assert!(no_more(n.payee_day_trm, w.payee_day_trm) && no_more(n.in_flight, w.in_flight));
    assert!(no_more(n.price_ceiling_trm, w.price_ceiling_trm));
    assert!(no_more(n.approval_above_trm, w.approval_above_trm));
    assert!(no_more(narrow.expires, wide.expires));
    let (n, w) = (narrow.breakers, wide.breakers);
    let count = |n: u32| (n > 0).then_some(n);
    assert!(no_more(count(n.errors_in_row), count(w.errors_in_row)));
    assert!(no_more(
        count(n.spends_per_minute),
        count(w.spends_per_minute)
    ));
    assert!(no_more(count(n.same_request), count(w.same_request)));
    for half_hour in 0..48 {
        let now = Timestamp::from_ms(1_000_000_000 + half_hour * 30 * MINUTE);
        let quiet = |terms: &Terms| terms.quiet_hours.is_some_and(|q| q.ends(now).is_some());
        assert!(quiet(narrow) || !quiet(wide));
    }
    let payees = [None, Some(NodeId::from_bytes([9; 32]))];
    let payees = NODES.into_iter().map(Some).chain(payees);
    let models = [None, Some(ModelId::from_bytes([9; 32]))];
    let models: Vec<_> = MODELS.into_iter().map(Some).chain(models).collect();
    let implies = |n: bool, w: bool| assert!(!n || w, "{narrow:?}\n{wide:?}");
    for payee in payees {
        let payee = payee.as_ref();
        let (n, w) = (&narrow.scope.payees, &wide.scope.payees);
        implies(n.permits(payee), w.permits(payee));
        for model in &models {
            let model = model.as_ref();
            let (n, w) = (&narrow.scope.models, &wide.scope.models);
            implies(n.permits(model), w.permits(model));
            for action in ACTIONS {
                let (n, w) = (&narrow.scope.actions, &wide.scope.actions);
                implies(n.permits(Some(&action)), w.permits(Some(&action)));
                let there = wide.pots_for(action, payee, model);
                let here = narrow.pots_for(action, payee, model);
                implies(true, here.iter().all(|pot| there.contains(pot)));
            }
        }
    }
}

fn compares(one: &Terms, other: &Terms) {
    reads_back(one);
    let (under, above) = (one.is_within(other), other.is_within(one));
    if under {
        allows_no_more(one, other);
    }
    if above {
        allows_no_more(other, one);
    }
    if under && above {
        assert_eq!(one.limits, other.limits);
        assert_eq!(one.breakers, other.breakers);
        assert_eq!(one.quiet_hours, other.quiet_hours);
        assert_eq!(one.expires, other.expires);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    // What precedes the terms in an order: version, node, number, decision, agent.
    let start = 1 + 32 + 8 + 1 + 16;
    let order = golden().0["ORDER_SET_TERMS"].body[start..].to_vec();
    let terms = Terms::from_bytes(&order).expect("golden terms");
    vec![
        serde_json::to_vec(&terms).expect("it serialises"),
        serde_json::to_vec(&Terms::standard()).expect("it serialises"),
        Terms::standard().to_bytes(),
        order,
        b"22:00-07:00+02:00".to_vec(),
        b"00:00-23:59 UTC".to_vec(),
    ]
}

fuzz_target!(init: write_seeds(seeds()), |data: &[u8]| {
    reads_bytes(data);
    reads_json(data);
    if let Ok(text) = std::str::from_utf8(data) {
        reads_quiet_hours(text);
    }
    if let Ok((one, other)) = two(&mut Unstructured::new(data)) {
        compares(&one, &other);
    }
});
