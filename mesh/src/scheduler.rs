//! A pure choice that a test can print: who gets a job, and in plain words why the others do not.
//!
//! Nothing is asked and nothing is remembered here. Integers only.

use std::fmt;

use serde::{Serialize, Serializer};
use tirami_manifest::signed::hash;
use tirami_manifest::{Amount, ModelId, NodeId};

use crate::proto::message::Offer;
use record::Record;

pub mod record;

/// What one job waiting ahead of ours costs in time, at least, in micro-TRM: 0.1 TRM. Chosen: about
/// what a short answer of the smallest model costs, so that an idle provider wins between equals.
pub const WAIT_UTRM: u64 = 100_000;

/// What one job waiting ahead of ours costs in time, as a share of our own price: an eighth. Chosen:
/// jobs of one provider are of a like size, and most of the time of a job is not spent waiting.
pub const WAIT_SHARE: u64 = 8;

/// What a second of work costs, as a share of our own price: a sixty-fourth. Chosen: who takes ten seconds
/// longer has to be a sixth cheaper.
pub const SECOND_SHARE: u64 = 64;

/// What it costs in time that a peer must be dialled first, in micro-TRM: 0.001 TRM. Chosen: decides
/// between equals only.
pub const DIAL_UTRM: u64 = 1_000;

const TIE_DOMAIN: &[u8] = b"trm/v1/scheduler-tie\0";

/// A model, as the one who asks names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelChoice {
    /// By its file.
    Id(ModelId),
    /// By the name in an offer, in upper or lower case.
    Name(String),
}

impl ModelChoice {
    fn matches(&self, offer: &Offer) -> bool {
        match self {
            Self::Id(id) => *id == offer.card.id,
            Self::Name(name) => name.eq_ignore_ascii_case(&offer.name),
        }
    }
}

/// What a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The model; any when nothing is named.
    pub model: Option<ModelChoice>,
    /// Most tokens of the prompt.
    pub max_in: u32,
    /// Most tokens of the answer.
    pub max_out: u32,
    /// SHA-256 of the request. Decides between equals, so that equal offers do not draw everybody to
    /// the same provider.
    pub digest: [u8; 32],
}

/// Someone who may do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub provider: NodeId,
    /// With what.
    pub offer: Offer,
    /// Most this job costs there; `None` when the card cannot price it.
    pub price: Option<Amount>,
    /// Whether there is a connection already.
    pub connected: bool,
    /// Whether the request may spend the price.
    pub affordable: bool,
    /// What its jobs came to.
    pub record: Record,
    /// How long it says this job takes, in milliseconds.
    pub takes_ms: Option<u64>,
    /// Why it is not asked at all.
    pub barred: Option<Barred>,
}

/// Why a candidate is not asked, whatever it sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// The request does not want it to see the prompt.
    Privacy,
    /// It failed too often; when it is asked again, in milliseconds.
    Failing {
        /// Failures in a row.
        in_a_row: u32,
        /// How long until it is asked again.
        again_ms: u64,
    },
}

/// Why a candidate stands where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Nobody is cheaper, waiting time and failures counted.
    Cheapest,
    /// As cheap as the chosen one; the request's hash decided.
    Equal,
    /// Dearer than the chosen one by so much, waiting time and failures counted.
    Dearer(Amount),
    /// It sells another model.
    OtherModel,
    /// Prompt and answer are longer than its context.
    DoesNotFit,
    /// No price follows from its card.
    NoPrice,
    /// The request may not spend so much.
    TooDear,
    /// It is not asked at all.
    Barred(Barred),
}

impl Reason {
    /// True when the candidate can do the job.
    pub const fn is_eligible(self) -> bool {
        matches!(self, Self::Cheapest | Self::Equal | Self::Dearer(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cheapest => f.write_str("cheapest expected total"),
            Self::Equal => f.write_str("as cheap as the chosen one; a hash of the request decided"),
            Self::Dearer(by) => {
                write!(
                    f,
                    "{by} TRM dearer than the chosen one, queue, speed and failures counted"
                )
            }
            Self::OtherModel => f.write_str("another model was asked for"),
            Self::DoesNotFit => f.write_str("prompt and answer do not fit its context"),
            Self::NoPrice => f.write_str("its model card gives no price for this job"),
            Self::TooDear => f.write_str("costs more than the request may spend"),
            Self::Barred(Barred::Privacy) => f.write_str(
                "may not see the prompt: the privacy of the request keeps it from there",
            ),
            Self::Barred(Barred::Failing { in_a_row, again_ms }) => write!(
                f,
                "failed {in_a_row} times in a row; it is asked again in {} s",
                again_ms.div_ceil(1_000)
            ),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A candidate in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ranked {
    /// Who.
    pub provider: NodeId,
    /// The model it would use.
    pub model: ModelId,
    /// That model's name there.
    pub name: String,
    /// True for the one that gets the job.
    pub chosen: bool,
    /// Most the job costs there.
    pub trm_price: Option<Amount>,
    /// Price, the cost of waiting and the risk; what the order follows.
    pub trm_expected: Option<Amount>,
    /// Jobs ahead of this one.
    pub waiting: u32,
    /// Why it stands here.
    pub reason: Reason,
}

/// All candidates, best first; those that cannot do the job last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Plan {
    /// In rank order.
    pub ranked: Vec<Ranked>,
}

impl Plan {
    /// The one that gets the job.
    pub fn chosen(&self) -> Option<&Ranked> {
        self.eligible().next()
    }

    /// Those that can do it, best first: who to ask next when one fails.
    pub fn eligible(&self) -> impl Iterator<Item = &Ranked> {
        self.ranked.iter().filter(|r| r.reason.is_eligible())
    }
}

/// Ranks the candidates for a job by price, the cost of waiting, and how often they failed.
///
/// The same request and candidates, in whatever order, give the same plan.
pub fn choose(want: &Want, candidates: &[Candidate]) -> Plan {
    let longest = candidates.iter().filter_map(|c| c.takes_ms).max();
    let rows = candidates.iter().map(|c| Row::new(want, c, longest));
    let mut rows: Vec<Row<'_>> = rows.collect();
    rows.sort_by_key(|row| (row.rejected.is_some(), row.expected, row.tie));
    let best = rows.first().and_then(|row| row.expected);
    let mut ranked: Vec<Ranked> = rows.iter().map(|row| row.ranked(best)).collect();
    if let Some(first) = ranked.first_mut().filter(|r| r.reason.is_eligible()) {
        first.chosen = true;
        first.reason = Reason::Cheapest;
    }
    Plan { ranked }
}

/// One candidate with what the order follows from.
struct Row<'a> {
    candidate: &'a Candidate,
    rejected: Option<Reason>,
    expected: Option<u128>,
    tie: [u8; 32],
}

impl<'a> Row<'a> {
    fn new(want: &Want, candidate: &'a Candidate, longest: Option<u64>) -> Self {
        let rejected = rejection(want, candidate);
        let model = candidate.offer.card.id;
        Self {
            candidate,
            rejected,
            expected: candidate
                .price
                .filter(|_| rejected.is_none())
                .map(|price| expected(candidate, price, longest)),
            tie: hash(
                TIE_DOMAIN,
                &[
                    &want.digest,
                    candidate.provider.as_bytes(),
                    model.as_bytes(),
                ],
            ),
        }
    }

    fn ranked(&self, best: Option<u128>) -> Ranked {
        let by = self.expected.unwrap_or(0) - best.unwrap_or(0).min(self.expected.unwrap_or(0));
        Ranked {
            provider: self.candidate.provider,
            model: self.candidate.offer.card.id,
            name: self.candidate.offer.name.clone(),
            chosen: false,
            trm_price: self.candidate.price,
            trm_expected: self.expected.map(capped),
            waiting: self.candidate.offer.waiting,
            reason: self.rejected.unwrap_or(if by == 0 {
                Reason::Equal
            } else {
                Reason::Dearer(capped(by))
            }),
        }
    }
}

/// The first rule that keeps a candidate out.
fn rejection(want: &Want, candidate: &Candidate) -> Option<Reason> {
    let Candidate { offer, price, .. } = candidate;
    let tokens = u64::from(want.max_in) + u64::from(want.max_out);
    if want
        .model
        .as_ref()
        .is_some_and(|model| !model.matches(offer))
    {
        Some(Reason::OtherModel)
    } else if tokens > u64::from(offer.card.context) {
        Some(Reason::DoesNotFit)
    } else if let Some(barred) = candidate.barred {
        Some(Reason::Barred(barred))
    } else if price.is_none() {
        Some(Reason::NoPrice)
    } else if !candidate.affordable {
        Some(Reason::TooDear)
    } else {
        None
    }
}

/// Price, what its queue, its work and a dial cost in time, and what failures cost, in micro-TRM. Who does not
/// say how long it takes counts as the slowest of those who do.
fn expected(candidate: &Candidate, price_of: Amount, longest: Option<u64>) -> u128 {
    let price = u128::from(price_of.utrm());
    let wait = u128::from(WAIT_UTRM).max(price / u128::from(WAIT_SHARE));
    let dial = if candidate.connected { 0 } else { DIAL_UTRM };
    let risk = candidate.record.risk(price_of);
    let takes = candidate.takes_ms.or(longest).unwrap_or(0);
    let time = price * u128::from(takes) / (1_000 * u128::from(SECOND_SHARE));
    price + wait * u128::from(candidate.offer.waiting) + u128::from(dial) + risk + time
}

fn capped(utrm: u128) -> Amount {
    Amount::try_from(utrm).unwrap_or(Amount::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tirami_manifest::Multiplier;
    use tirami_manifest::model::ModelCard;

    fn want() -> Want {
        Want {
            model: None,
            max_in: 100,
            max_out: 50,
            digest: [7; 32],
        }
    }

    /// A connected, idle provider that asks `utrm`.
    fn candidate(n: u8, utrm: u64) -> Candidate {
        Candidate {
            provider: NodeId::from_bytes([n; 32]),
            offer: Offer {
                name: "sprout".into(),
                card: ModelCard {
                    id: ModelId::from_bytes([1; 32]),
                    block_weights: 1,
                    head_weights: 1,
                    attention_flop: 1,
                    window: 0,
                    context: 150,
                },
                multiplier: Multiplier::PAR,
                waiting: 0,
            },
            price: Amount::from_utrm(utrm).ok(),
            connected: true,
            affordable: true,
            record: Record::default(),
            takes_ms: None,
            barred: None,
        }
    }

    fn order(plan: &Plan) -> Vec<u8> {
        plan.ranked
            .iter()
            .map(|r| r.provider.as_bytes()[0])
            .collect()
    }

    #[test]
    fn the_cheapest_is_chosen_and_the_others_say_by_how_much_they_are_dearer() {
        let plan = choose(
            &want(),
            &[candidate(1, 300), candidate(2, 100), candidate(3, 200)],
        );
        assert_eq!(order(&plan), [2, 3, 1]);
        assert_eq!(plan.chosen(), plan.ranked.first());
        assert_eq!(plan.ranked[0].reason.to_string(), "cheapest expected total");
        assert_eq!(
            plan.ranked[2].reason.to_string(),
            "0.0002 TRM dearer than the chosen one, queue, speed and failures counted"
        );
        assert_eq!(plan.ranked.iter().filter(|r| r.chosen).count(), 1);
    }

    #[test]
    fn those_that_cannot_do_it_come_last_with_the_first_rule_that_says_so() {
        let mut other = candidate(1, 1);
        other.offer.card.id = ModelId::from_bytes([2; 32]);
        other.affordable = false;
        let mut short = candidate(2, 1);
        short.offer.card.context = 149;
        let mut unpriced = candidate(3, 1);
        unpriced.price = None;
        let mut dear = candidate(4, 1);
        dear.affordable = false;
        let want = Want {
            model: Some(ModelChoice::Id(ModelId::from_bytes([1; 32]))),
            ..want()
        };
        let plan = choose(&want, &[other, short, unpriced, dear, candidate(5, 9)]);
        assert_eq!(plan.chosen().unwrap().provider.as_bytes()[0], 5);
        assert_eq!(plan.eligible().count(), 1);
        let reason = |n: u8| {
            let of = |r: &&Ranked| r.provider.as_bytes()[0] == n;
            plan.ranked.iter().find(of).unwrap().reason
        };
        assert_eq!(reason(1), Reason::OtherModel);
        assert_eq!(reason(2), Reason::DoesNotFit);
        assert_eq!(reason(3), Reason::NoPrice);
        assert_eq!(reason(4), Reason::TooDear);
        assert_eq!(reason(5), Reason::Cheapest);
    }

    #[test]
    fn a_model_is_named_by_id_or_by_name() {
        let named = |name: &str| Want {
            model: Some(ModelChoice::Name(name.into())),
            ..want()
        };
        let candidates = [candidate(1, 1)];
        assert!(choose(&named("Sprout"), &candidates).chosen().is_some());
        assert!(choose(&named("oak"), &candidates).chosen().is_none());
    }

    #[test]
    fn a_queue_costs_a_fixed_amount_or_a_share_of_the_price() {
        let mut busy = candidate(1, 1_000);
        busy.offer.waiting = 2;
        let plan = choose(&want(), &[busy.clone(), candidate(2, 200_999)]);
        assert_eq!(order(&plan), [2, 1]);
        let plan = choose(&want(), &[busy, candidate(2, 201_001)]);
        assert_eq!(order(&plan), [1, 2]);
        // For a dear job one job ahead weighs an eighth of it.
        let mut busy = candidate(1, 8_000_000);
        busy.offer.waiting = 1;
        let plan = choose(&want(), &[busy.clone(), candidate(2, 8_999_999)]);
        assert_eq!(order(&plan), [2, 1]);
        let plan = choose(&want(), &[busy, candidate(2, 9_000_001)]);
        assert_eq!(order(&plan), [1, 2]);
    }

    #[test]
    fn a_connected_peer_wins_between_equals() {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut far = candidate(first, 500);
            far.connected = false;
            let plan = choose(&want(), &[far, candidate(second, 500)]);
            assert_eq!(order(&plan), [second, first]);
        }
    }

    #[test]
    fn one_whose_jobs_fail_counts_as_dearer_and_one_that_is_barred_is_not_chosen() {
        let mut flaky = candidate(1, 1_000);
        flaky.record.failed(0, 0);
        let plan = choose(&want(), &[flaky.clone(), candidate(2, 1_124)]);
        assert_eq!(order(&plan), [2, 1]);
        let plan = choose(&want(), &[flaky, candidate(2, 1_126)]);
        assert_eq!(order(&plan), [1, 2]);
        let mut secret = candidate(1, 1);
        secret.barred = Some(Barred::Privacy);
        let mut failing = candidate(2, 1);
        failing.barred = Some(Barred::Failing {
            in_a_row: 3,
            again_ms: 29_001,
        });
        let plan = choose(&want(), &[secret, failing, candidate(3, 900)]);
        assert_eq!(plan.chosen().unwrap().provider.as_bytes()[0], 3);
        let reasons = plan.ranked.iter().map(|ranked| ranked.reason.to_string());
        let reasons: Vec<_> = reasons.collect();
        assert!(
            reasons.iter().any(|r| r.starts_with("may not see")),
            "{reasons:?}"
        );
        let failing = "failed 3 times in a row; it is asked again in 30 s";
        assert!(reasons.iter().any(|r| r == failing), "{reasons:?}");
    }

    #[test]
    fn a_slow_one_has_to_be_cheaper_and_who_says_nothing_counts_as_the_slowest() {
        let takes = |n: u8, utrm: u64, seconds: u64| Candidate {
            takes_ms: (seconds > 0).then_some(seconds * 1_000),
            ..candidate(n, utrm)
        };
        // Eight seconds cost an eighth.
        let plan = choose(&want(), &[takes(1, 8_000, 8), takes(2, 8_990, 0)]);
        assert_eq!(order(&plan), [1, 2]);
        let plan = choose(&want(), &[takes(1, 8_000, 9), takes(2, 8_990, 1)]);
        assert_eq!(order(&plan), [1, 2]);
        let plan = choose(&want(), &[takes(1, 8_000, 10), takes(2, 8_990, 1)]);
        assert_eq!(order(&plan), [2, 1]);
        let plan = choose(
            &want(),
            &[takes(1, 1, u64::MAX / 1_000), takes(2, u64::MAX / 8, 0)],
        );
        assert_eq!(order(&plan), [1, 2], "and nothing overflows");
    }

    #[test]
    fn equals_are_shared_out_by_the_request_and_never_by_their_order() {
        let candidates: Vec<Candidate> = (1..=4).map(|n| candidate(n, 500)).collect();
        let reversed: Vec<Candidate> = candidates.iter().rev().cloned().collect();
        let mut jobs = [0_u32; 5];
        for digest in 0..=255 {
            let want = Want {
                digest: [digest; 32],
                ..want()
            };
            let plan = choose(&want, &candidates);
            assert_eq!(plan, choose(&want, &reversed));
            assert_eq!(plan.ranked[1].reason, Reason::Equal);
            jobs[usize::from(order(&plan)[0])] += 1;
        }
        assert!(jobs[1..].iter().all(|n| *n > 32), "{jobs:?}");
    }

    #[test]
    fn the_largest_figures_do_not_overflow() {
        let mut largest = candidate(1, Amount::MAX.utrm());
        largest.offer.waiting = u32::MAX;
        largest.offer.card.context = u32::MAX;
        let huge = Want {
            max_in: u32::MAX,
            max_out: u32::MAX,
            ..want()
        };
        let plan = choose(&want(), &[largest.clone(), candidate(2, 0)]);
        assert_eq!(plan.ranked[1].trm_expected, Some(Amount::MAX));
        assert_eq!(
            choose(&huge, &[largest]).ranked[0].reason,
            Reason::DoesNotFit
        );
        assert!(choose(&want(), &[]).chosen().is_none());
    }

    #[test]
    fn a_plan_prints_as_json_with_amounts_in_trm() {
        let plan = choose(&want(), &[candidate(1, 1_500_000)]);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json[0]["trm_price"], "1.5");
        assert_eq!(json[0]["reason"], "cheapest expected total");
        assert_eq!(json[0]["chosen"], true);
    }
}
