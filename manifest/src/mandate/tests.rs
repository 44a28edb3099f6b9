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

/// What the built terms say of a purchase.
fn built(terms: &Terms, purchase: &Purchase<'_>) -> (Bearing, Vec<Pot>) {
    fn permit<T: Ord>(list: &List<T>, item: Option<&T>) -> Permit {
        Permit {
            said: list.allow.is_some() || !list.deny.is_empty(),
            permits: list.permits(item),
        }
    }
    let Purchase {
        action,
        payee,
        model,
    } = *purchase;
    let read = Bearing::read(&terms.to_bytes(), purchase);
    let mut bearing = read.unwrap_or_else(|| unreachable!());
    bearing.limits = terms.limits;
    bearing.payees = permit(&terms.scope.payees, payee);
    bearing.actions = permit(&terms.scope.actions, Some(&action));
    bearing.models = permit(&terms.scope.models, model);
    bearing.breakers = terms.breakers;
    bearing.quiet_hours = terms.quiet_hours;
    bearing.expires = terms.expires;
    (bearing, terms.pots_for(action, payee, model).to_vec())
}

#[test]
fn what_is_read_off_the_bytes_is_what_the_terms_say_and_the_same_bytes_are_refused() {
    let (known, listed, denied) = (node(7), node(1), node(3));
    let models = [4, 9, 5].map(|n| ModelId::from_bytes([n; 32]));
    let mut purchases = Vec::new();
    for (action, _) in Action::ALL {
        for payee in [None, Some(&known), Some(&listed), Some(&denied)] {
            for model in [None].into_iter().chain(models.iter().map(Some)) {
                purchases.push(Purchase {
                    action,
                    payee,
                    model,
                });
            }
        }
    }
    let mut nobody = full();
    nobody.scope.payees.allow = set([]);
    nobody.scope.actions.deny = [Action::Chat, Action::LocalChat].into();
    nobody.pots = vec![
        PotRule {
            action: Some(Action::Chat),
            payee: Some(listed),
            ..PotRule::only(Pot::ALL.to_vec())
        },
        PotRule {
            payee: Some(denied),
            ..PotRule::only(vec![])
        },
    ];
    for terms in [Terms::standard(), full(), nobody] {
        let bytes = terms.to_bytes();
        for place in 0..=bytes.len() {
            for change in [0, 1, 2, 3, 0x40, 0xff] {
                let mut bytes = bytes.clone();
                match bytes.get_mut(place) {
                    Some(byte) => *byte ^= change,
                    None => bytes.resize(place.saturating_add(usize::from(change)), 0),
                }
                let terms = Terms::from_bytes(&bytes);
                for purchase in &purchases {
                    let read = Bearing::read(&bytes, purchase);
                    match &terms {
                        Err(_) => assert!(read.is_none(), "byte {place}"),
                        Ok(terms) => {
                            let read = read.map(|read| (read.clone(), read.pots().to_vec()));
                            assert_eq!(read, Some(built(terms, purchase)), "byte {place}");
                        }
                    }
                }
            }
        }
        for len in 0..bytes.len() {
            let short = bytes.get(..len).unwrap_or_default();
            assert!(purchases.iter().all(|p| Bearing::read(short, p).is_none()));
        }
    }
}
