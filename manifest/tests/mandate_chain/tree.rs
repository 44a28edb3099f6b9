//! Random trees with cheating holders against a naive model: one flag for each unit.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Units of the root payer's budget.
const UNITS: u64 = 64;

/// What a grant does wrong, if anything.
#[derive(Clone, Copy, Debug)]
enum Cheat {
    Nothing,
    Range,
    PerRequest,
    Expires,
    Pin,
    Epoch,
    Depth,
    Models,
    Signer,
}

/// A grant carved from an earlier one: which part of it, and with what cheat.
#[derive(Clone, Debug)]
struct Carve {
    from: Index,
    lo: Index,
    len: Index,
    per_request: u64,
    cheat: Cheat,
}

/// A spend by the holder of a grant, tried with one who may or may not be the one that tracks.
#[derive(Clone, Debug)]
struct Try {
    under: Index,
    lo: Index,
    len: u64,
    payee: u8,
    acceptor: u8,
    model: u8,
    late: bool,
}

fn carve() -> impl Strategy<Value = Carve> {
    let cheat = prop_oneof![
        16 => Just(Cheat::Nothing),
        1 => Just(Cheat::Range),
        1 => Just(Cheat::PerRequest),
        1 => Just(Cheat::Expires),
        1 => Just(Cheat::Pin),
        1 => Just(Cheat::Epoch),
        1 => Just(Cheat::Depth),
        1 => Just(Cheat::Models),
        1 => Just(Cheat::Signer),
    ];
    let (from, lo, len) = (any::<Index>(), any::<Index>(), any::<Index>());
    (from, lo, len, 4..20_u64, cheat).prop_map(|(from, lo, len, per_request, cheat)| Carve {
        from,
        lo,
        len,
        per_request,
        cheat,
    })
}

fn attempt() -> impl Strategy<Value = Try> {
    let who = (any::<Index>(), any::<Index>(), 1..10_u64);
    let what = (0..3_u8, 0..3_u8, 1..4_u8, prop::bool::weighted(0.05));
    (who, what).prop_map(|((under, lo, len), (payee, acceptor, model, late))| Try {
        under,
        lo,
        len,
        payee,
        acceptor,
        model,
        late,
    })
}

/// A grant as the naive model sees it.
#[derive(Clone, Debug)]
struct Node {
    grant: Grant,
    chain: MandateChain,
    holder: u8,
    /// Nothing on the way from the root is wrong.
    honest: bool,
}

/// The root payer is honest: it hands out parts that do not meet, each pinned or not.
fn roots(cuts: &[u64], pins: &[u8]) -> Vec<Node> {
    let mut out = Vec::new();
    let mut given = RangeSet::new();
    for (cut, pin) in cuts.iter().zip(pins) {
        let Some(range) = given.first_gap(range(0, UNITS), utrm(*cut)) else {
            continue;
        };
        given.insert(range).unwrap();
        let holder = 3;
        let grant = Grant {
            serial: range.lo(),
            range,
            holder: id(holder),
            pinned: (*pin > 0).then(|| id(*pin)),
            per_request: utrm(20),
            payees: Allowed::ANY,
            depth_left: 9,
            ..first()
        };
        out.push(Node {
            chain: MandateChain::start(grant.clone(), &key(0)),
            grant,
            holder,
            honest: true,
        });
    }
    out
}

fn grow(parent: &Node, carve: &Carve, holder: u8) -> Node {
    let (above, len) = (&parent.grant, |n: u64| usize::try_from(n).unwrap());
    let lo = above.range.lo() + carve.lo.index(len(above.range.amount().utrm())) as u64;
    let hi = lo + 1 + carve.len.index(len(above.range.hi() - lo)) as u64;
    let mut grant = Grant {
        parent: above.id(),
        range: range(lo, hi),
        holder: id(holder),
        per_request: above.per_request.min(utrm(carve.per_request)),
        depth_left: above.depth_left - 1,
        ..above.clone()
    };
    let mut signer = parent.holder;
    match carve.cheat {
        Cheat::Nothing => (),
        Cheat::Range => grant.range = range(lo, above.range.hi() + 1),
        Cheat::PerRequest => grant.per_request = utrm(above.per_request.utrm() + 1),
        Cheat::Expires => grant.expires = above.expires.after_ms(1),
        Cheat::Pin => grant.pinned = Some(id(if above.pinned == Some(id(1)) { 2 } else { 1 })),
        Cheat::Epoch => grant.epoch += 1,
        Cheat::Depth => grant.depth_left = above.depth_left,
        Cheat::Models => grant.models = Allowed::ANY,
        Cheat::Signer => signer = holder,
    }
    Node {
        chain: parent.chain.extend(grant.clone(), &key(signer)),
        grant,
        holder,
        honest: parent.honest
            && matches!(carve.cheat, Cheat::Nothing)
            && parent.chain.links.len() < LINKS_MAX,
    }
}

/// What those who track remember, each for itself.
#[derive(Default)]
struct Trackers(BTreeMap<NodeId, RangeSet>);

impl Trackers {
    /// Everything that `acceptor` checks before it takes a spend.
    fn accept(&mut self, node: &Node, spend: Spend, acceptor: NodeId, now: Timestamp) -> bool {
        let payee = spend.payee;
        let spend = Signed::new(spend, &key(node.holder));
        let Ok(chain) = node.chain.verify(id(0), NETWORK, now, EPOCH) else {
            return false;
        };
        let Ok(checked) = chain.check(&spend, payee, now) else {
            return false;
        };
        let used = self.0.entry(acceptor).or_default();
        checked.tracker() == acceptor && used.insert(checked.spend().range).is_ok()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_tree_spends_more_than_its_root_or_a_unit_twice(
        cuts in prop::collection::vec(8..48_u64, 1..4),
        pins in prop::collection::vec(0..3_u8, 4),
        carves in prop::collection::vec(carve(), 0..14),
        tries in prop::collection::vec(attempt(), 1..60),
    ) {
        let mut nodes = roots(&cuts, &pins);
        for (holder, carve) in (4..).zip(&carves) {
            let parent = carve.from.get(&nodes).clone();
            nodes.push(grow(&parent, carve, holder));
        }
        let mut trackers = Trackers::default();
        // One flag for each unit of the budget, whoever tracks it.
        let mut spent = vec![false; usize::try_from(UNITS).unwrap()];
        for (nonce, attempt) in (0..).zip(&tries) {
            let node = attempt.under.get(&nodes);
            let units = node.grant.range;
            // Every so often one unit before or after what was granted.
            let room = usize::try_from(units.amount().utrm()).unwrap() + 1;
            let lo = units.lo() + attempt.lo.index(room) as u64;
            let units_asked = range(lo, lo + attempt.len);
            let now = if attempt.late { node.grant.expires.after_ms(SKEW_MS) } else { NOW };
            let chain_id = node.chain.links.last().map(|link| link.body.id()).unwrap();
            let spend = Spend {
                network: NETWORK,
                chain: chain_id,
                range: units_asked,
                payee: id(attempt.payee),
                action: Action::Chat,
                model: model(attempt.model),
                request: [0; 32],
                nonce: [nonce; 16],
                expires: now,
            };
            let places = || {
                (units_asked.lo()..units_asked.hi()).map(|unit| usize::try_from(unit).unwrap())
            };
            let tracker = node.grant.pinned.unwrap_or(id(0));
            let may = node.honest
                && !attempt.late
                && units_asked.hi() <= units.hi()
                && attempt.len <= node.grant.per_request.utrm()
                && node.grant.pinned.is_none_or(|pin| pin == id(attempt.payee))
                && id(attempt.acceptor) == tracker
                && places().all(|at| !spent[at]);
            let took = trackers.accept(node, spend, id(attempt.acceptor), now);
            prop_assert_eq!(took, may);
            if took {
                places().for_each(|at| spent[at] = true);
            }
        }
        let accepted: u64 = trackers.0.values().map(|used| used.total().utrm()).sum();
        let flagged = spent.iter().filter(|unit| **unit).count() as u64;
        prop_assert_eq!(accepted, flagged);
        prop_assert!(accepted <= UNITS);
    }
}
