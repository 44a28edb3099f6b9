use super::*;
use crate::bytes::{Reader, Writer};

fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

#[expect(clippy::unnecessary_wraps, reason = "what a list may allow")]
fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> Option<BTreeSet<T>> {
    Some(items.into_iter().collect())
}

/// Terms in which everything is said.
fn full() -> Terms {
    Terms {
        limits: Limits {
            minute_trm: Some(Amount::from_trm(50)),
            day_trm: Some(Amount::from_trm(20_000)),
            payee_day_trm: Some(Amount::from_trm(700)),
            in_flight: Some(4),
            reserve_trm: Amount::from_trm(10),
            price_ceiling_trm: Some(Amount::from_trm(2)),
            ..Limits::DEFAULT
        },
        scope: Scope {
            payees: List {
                allow: set([node(1), node(2)]),
                deny: [node(3)].into(),
            },
            actions: List {
                allow: set([Action::Chat]),
                deny: BTreeSet::new(),
            },
            models: List {
                allow: None,
                deny: [ModelId::from_bytes([9; 32])].into(),
            },
        },
        breakers: Breakers::DEFAULT,
        quiet_hours: "22:00-07:00+02:00".parse().ok(),
        expires: Some(Timestamp::from_ms(2_000_000_000_000)),
        pots: vec![
            PotRule {
                model: Some(ModelId::from_bytes([4; 32])),
                ..PotRule::only(vec![Pot::Restricted])
            },
            PotRule::only(vec![Pot::Earned]),
        ],
    }
}

#[test]
fn terms_read_back_as_they_were_written() {
    for terms in [Terms::standard(), full()] {
        let mut out = Writer::default();
        terms.encode(&mut out);
        let bytes = out.finish();
        let mut from = Reader::new(&bytes);
        assert_eq!(Terms::decode(&mut from).as_ref(), Ok(&terms));
        assert_eq!(from.finish(), Ok(()));
        let json = serde_json::to_string(&terms).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Terms>(&json).ok(), Some(terms));
    }
}

#[test]
fn each_term_that_allows_more_is_named() {
    type Change = fn(&mut Terms);
    let looser: &[(&str, Change)] = &[
        ("per_request", |t| {
            t.limits.per_request_trm = Amount::from_trm(5_001);
        }),
        ("hour", |t| t.limits.hour_trm = Amount::from_trm(10_001)),
        ("lifetime", |t| t.limits.lifetime_trm = Amount::MAX),
        ("minute", |t| t.limits.minute_trm = None),
        ("day", |t| t.limits.day_trm = Some(Amount::from_trm(20_001))),
        ("payee_day", |t| t.limits.payee_day_trm = None),
        ("price_ceiling", |t| {
            t.limits.price_ceiling_trm = Some(Amount::from_trm(3));
        }),
        ("approval_above", |t| t.limits.approval_above_trm = None),
        ("in_flight", |t| t.limits.in_flight = Some(5)),
        ("reserve", |t| t.limits.reserve_trm = Amount::from_trm(9)),
        ("errors_in_row", |t| t.breakers.errors_in_row = 0),
        ("spends_per_minute", |t| t.breakers.spends_per_minute = 31),
        ("same_request", |t| t.breakers.same_request = 11),
        ("expires", |t| t.expires = None),
        ("payees", |t| t.scope.payees.allow = set([node(1), node(4)])),
        ("payees", |t| t.scope.payees = List::default()),
        ("actions", |t| t.scope.actions = List::default()),
        ("models", |t| t.scope.models.deny = BTreeSet::new()),
        ("quiet_hours", |t| t.quiet_hours = None),
        ("pots", |t| {
            t.pots = vec![PotRule::only(vec![Pot::Borrowed])];
        }),
        ("pots", |t| t.pots = vec![]),
    ];
    for (term, change) in looser {
        let mut terms = full();
        change(&mut terms);
        let named = terms.looser_than(&full()).map(|looser| looser.term);
        assert_eq!(named, Some(*term));
    }
    let tighter: &[Change] = &[
        |_| {},
        |t| t.limits.minute_trm = Some(Amount::ZERO),
        |t| t.limits.reserve_trm = Amount::from_trm(11),
        |t| t.scope.payees.allow = set([node(1)]),
        |t| t.scope.payees.allow = set([node(1), node(3)]),
        |t| t.breakers.errors_in_row = 1,
        |t| t.pots = vec![PotRule::only(vec![])],
    ];
    for change in tighter {
        let mut terms = full();
        change(&mut terms);
        assert_eq!(terms.looser_than(&full()), None);
    }
}

#[test]
fn quiet_hours_end_when_they_say() {
    let quiet: QuietHours = "22:00-07:00+02:00"
        .parse()
        .unwrap_or_else(|_| unreachable!());
    assert_eq!(quiet.to_string(), "22:00-07:00+02:00");
    let at = |hour: u64, minute: u64| {
        Timestamp::from_ms(((20_000 * 24 + hour) * 60 + minute) * 60_000 + 7)
    };
    // 20:00 UTC is 22:00 there.
    assert_eq!(quiet.ends(at(19, 59)), None);
    let seven = Timestamp::from_ms((20_001 * 24 + 5) * 3_600_000);
    assert_eq!(quiet.ends(at(20, 0)), Some(seven));
    assert_eq!(quiet.ends(at(28, 59)), Some(seven));
    assert_eq!(quiet.ends(at(29, 0)), None);
    for text in [
        "",
        "22:00",
        "22:00-22:00",
        "24:00-07:00",
        "1:00-02:00",
        "01:00-02:00+15:00",
        "a-b",
    ] {
        assert_eq!(
            text.parse::<QuietHours>(),
            Err(quiet::QuietHoursError),
            "{text}"
        );
    }
}

#[test]
fn the_first_rule_that_fits_says_which_pot_pays() {
    let terms = full();
    let pots =
        |model: u8| terms.pots_for(Action::Chat, None, Some(&ModelId::from_bytes([model; 32])));
    assert_eq!(pots(4), [Pot::Restricted]);
    assert_eq!(pots(5), [Pot::Earned]);
    assert_eq!(
        Terms::standard().pots_for(Action::Chat, None, None),
        Pot::UNLESS_SAID
    );
}

#[test]
fn what_is_not_known_is_not_allowed_where_a_list_says_anything() {
    let mut list = List::<NodeId>::default();
    assert!(list.permits(None) && list.permits(Some(&node(1))));
    list.deny.insert(node(2));
    assert!(!list.permits(None) && !list.permits(Some(&node(2))) && list.permits(Some(&node(1))));
    list.allow = set([node(2)]);
    assert!(!list.permits(Some(&node(2))) && !list.permits(Some(&node(1))));
}
