use clap::{Command, FromArgMatches};
use tirami_manifest::Timestamp;
use tirami_manifest::mandate::{Limits, Pot};

use super::*;

fn said(words: &[&str]) -> Result<Terms, String> {
    let command = TermArgs::augment_args(Command::new("x"));
    let words = std::iter::once(&"x").chain(words);
    let matches = command
        .try_get_matches_from(words)
        .map_err(|error| error.to_string())?;
    let args = TermArgs::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    args.apply(Terms::standard(), &ModelNames::default())
        .map_err(|problem| problem.to_string())
}

#[test]
fn terms_that_are_not_named_stay_as_they_are() {
    let terms = said(&["--hour", "7"]).unwrap();
    let limits = Limits {
        hour_trm: Amount::from_trm(7),
        ..Limits::DEFAULT
    };
    assert_eq!(terms, Terms::of(limits));
    assert!(terms.is_within(&Terms::standard()));
}

#[test]
#[expect(clippy::too_many_lines, reason = "every flag is named and looked at")]
fn every_flag_says_what_it_names() {
    let (node, model) = ("ab".repeat(32), "cd".repeat(32));
    let terms = said(&[
        "--per-request",
        "1",
        "--minute",
        "2",
        "--hour",
        "3",
        "--day",
        "4",
        "--lifetime",
        "5",
        "--payee-day",
        "6",
        "--in-flight",
        "7",
        "--reserve",
        "8",
        "--price-ceiling",
        "9",
        "--approval-above",
        "none",
        "--errors-in-row",
        "none",
        "--spends-per-minute",
        "11",
        "--same-request",
        "12",
        "--allow-payee",
        &node,
        "--deny-model",
        &model,
        "--allow-action",
        "chat",
        "--quiet",
        "22:00-07:00+02:00",
        "--expires",
        "2026-01-31T12:00:00Z",
        "--pots",
        "earned,seed",
        "--pot-rule",
        &format!("chat:model={model}:restricted"),
    ]);
    let terms = terms.unwrap();
    let limits = terms.limits;
    assert_eq!(
        [
            limits.per_request_trm,
            limits.hour_trm,
            limits.lifetime_trm,
            limits.reserve_trm
        ],
        [1, 3, 5, 8].map(Amount::from_trm)
    );
    assert_eq!(
        [
            limits.minute_trm,
            limits.day_trm,
            limits.payee_day_trm,
            limits.price_ceiling_trm
        ],
        [2, 4, 6, 9].map(|n| Some(Amount::from_trm(n)))
    );
    assert_eq!(
        (limits.in_flight, limits.approval_above_trm),
        (Some(7), None)
    );
    let breakers = terms.breakers;
    assert_eq!(
        (
            breakers.errors_in_row,
            breakers.spends_per_minute,
            breakers.same_request
        ),
        (0, 11, 12)
    );
    assert!(terms.scope.payees.permits(node.parse().ok().as_ref()));
    assert!(!terms.scope.models.permits(model.parse().ok().as_ref()));
    assert!(!terms.scope.actions.permits(Some(&Action::LocalChat)));
    assert_eq!(terms.quiet_hours, "22:00-07:00+02:00".parse().ok());
    assert_eq!(terms.expires.map(Timestamp::ms), Some(1_769_860_800_000));
    let pots: Vec<_> = terms.pots.iter().map(|rule| rule.pots.clone()).collect();
    assert_eq!(pots, [vec![Pot::Restricted], vec![Pot::Earned, Pot::Seed]]);
    assert_eq!(
        terms.pots.first().and_then(|rule| rule.action),
        Some(Action::Chat)
    );
    assert_eq!(terms.flaw(), None);
}

#[test]
fn none_lifts_and_zero_breakers_are_refused() {
    let terms = said(&["--deny-action", "none", "--approval-above", "none"]).unwrap();
    assert_eq!(terms.limits.approval_above_trm, None);
    for flag in ["--errors-in-row", "--spends-per-minute", "--same-request"] {
        assert!(
            said(&[flag, "0"]).is_err_and(|text| text.contains("none")),
            "{flag}"
        );
    }
    for (flag, bad) in [
        ("--quiet", "22-7"),
        ("--expires", "soon"),
        ("--pots", "purse"),
        ("--pot-rule", "chat"),
        ("--allow-action", "mine"),
        ("--allow-payee", "bob"),
    ] {
        assert!(said(&[flag, bad]).is_err(), "{flag} {bad}");
    }
}
