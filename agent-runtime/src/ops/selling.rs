//! Operations of a node that sells: how, to whom, when and for how much, and what it earned.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::{Amount, ModelId, NodeId, Timestamp};
use tirami_wallet::earnings::{DAY_MS, Share, Tally};

use super::{Caller, Operation, TextSink};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;
pub use crate::selling::Buyers;
use crate::selling::{self, BUYERS_MAX, Bounds, HOURS_MAX, Hours, PLACES_MAX, Pause, Settings};

/// Highest load that can be waited for, in percent; chosen.
const BUSY_MAX: u32 = 10_000;

/// Most buyers and models in an answer, those that paid most first; chosen.
const SHOWN_MAX: usize = 20;

const WEEK_MS: u64 = 7 * DAY_MS;

/// Longest pause with an end; chosen: whoever means longer means until 'resume'.
const PAUSE_MAX_MS: u64 = 366 * DAY_MS;

empty_input!(
    /// How this node sells.
    Serve
);

/// How this node sells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServeOutput {
    /// Whether it sells now.
    pub selling: bool,
    /// Why it does not.
    pub closed: Option<String>,
    /// When it sells again, RFC 3339 in UTC, where that is known.
    pub opens_at: Option<String>,
    /// The models it sells.
    pub models: Vec<String>,
    /// What it asks now, relative to par in parts per million.
    pub price_ppm: u32,
    /// What it asks with nothing to do.
    pub price_min_ppm: u32,
    /// What it asks when every place is taken.
    pub price_max_ppm: u32,
    /// Hours in which it sells, in the node's local time; always when there are none.
    pub schedule: Vec<String>,
    /// Whether its owner paused it.
    pub paused: bool,
    /// Until when, RFC 3339 in UTC; absent when only its owner ends that.
    pub paused_until: Option<String>,
    /// It sells nothing while the machine's load is above this.
    pub busy_percent: Option<u32>,
    /// The machine's load, where the system says it.
    pub load_percent: Option<u32>,
    /// Most that it earns in any 24 hours.
    pub daily_cap_trm: Option<Amount>,
    /// What it earned in the last 24 hours.
    pub trm_earned_24h: Amount,
    /// What the jobs that are under way may earn.
    pub trm_under_way: Amount,
    /// Most jobs at once.
    pub slots: u32,
    /// Most jobs that wait.
    pub queue: u32,
    /// Jobs that run.
    pub running: u32,
    /// Jobs that wait.
    pub waiting: u32,
    /// Who may buy: `any`, `members`, or a `list` of nodes.
    pub buyers: Buyers,
}

/// One change of how this node sells. What runs goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "set", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChangeServe {
    /// The price moves between these, relative to par in parts per million.
    Price {
        /// Asked with nothing to do.
        min_ppm: u32,
        /// Asked when every place is taken.
        max_ppm: u32,
    },
    /// The price is the configured one.
    DefaultPrice {},
    /// It sells in these hours only; always when there are none.
    Schedule {
        /// Such as `22:00-07:00` or `mon-fri 22:00-07:00`.
        hours: Vec<String>,
    },
    /// It sells nothing until it is resumed.
    Pause {},
    /// It sells nothing until then.
    PauseUntil {
        /// In milliseconds since 1970.
        until: Timestamp,
    },
    /// It sells again.
    Resume {},
    /// It sells nothing while the machine's load is above this.
    Busy {
        /// Of what the processors can do.
        percent: u32,
    },
    /// The machine's load does not matter.
    BusyOff {},
    /// It earns no more than this in any 24 hours.
    DailyCap {
        /// How much.
        trm: Amount,
    },
    /// It earns without a limit.
    DailyCapOff {},
    /// So many jobs at once.
    Slots {
        /// How many.
        count: u32,
    },
    /// So many jobs wait.
    Queue {
        /// How many.
        count: u32,
    },
    /// These may buy.
    Buyers {
        /// Who.
        who: Buyers,
    },
}

impl Operation for Serve {
    const NAME: &'static str = "serve";
    type Output = ServeOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<ServeOutput, Failure> {
        show(runtime)
    }
}

impl Operation for ChangeServe {
    const NAME: &'static str = "change_serve";
    type Output = ServeOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ServeOutput, Failure> {
        caller.must_be_main()?;
        let (desk, wallet, now) = (&runtime.inner.selling, &runtime.inner.wallet, runtime.now());
        if matches!(self, Self::Busy { .. }) && desk.load().is_none() {
            let text = "busy: this system does not say how busy it is";
            let hint = "only Linux does, in /proc/loadavg; use 'tirami-agent serve pause' instead";
            return Err(Failure::new(FailureCode::InvalidInput, text).hint(hint));
        }
        let change = self.checked(now)?;
        desk.change(wallet, change).await?;
        show(runtime)
    }
}

impl ChangeServe {
    /// What it changes, once it is sure that it can be meant.
    fn checked(self, now: Timestamp) -> Result<impl FnOnce(&mut Settings) + Send, Failure> {
        let change = self.clone();
        match self {
            Self::Price { min_ppm, max_ppm } => {
                within("min_ppm", min_ppm, (1, u32::MAX))?;
                within("max_ppm", max_ppm, (min_ppm, u32::MAX))?;
            }
            Self::Schedule { hours } => {
                at_most("hours", hours.len(), HOURS_MAX)?;
                for hours in hours {
                    let parsed = hours.parse::<Hours>();
                    parsed.map_err(|error| invalid(format!("schedule: {error}")))?;
                }
            }
            Self::PauseUntil { until } if until <= now => {
                let text = format!("until: {} is over already", until.to_rfc3339());
                return Err(invalid(text));
            }
            Self::PauseUntil { until } if until > now.after_ms(PAUSE_MAX_MS) => {
                let text = format!("until: {} is more than a year away", until.to_rfc3339());
                let hint = "use 'tirami-agent serve pause' without an end, and 'tirami-agent serve resume' \
                            when it is over; nothing was changed";
                return Err(invalid(text).hint(hint));
            }
            Self::Busy { percent } => within("percent", percent, (1, BUSY_MAX))?,
            Self::Slots { count } => within("slots", count, (1, PLACES_MAX))?,
            Self::Queue { count } => within("queue", count, (0, PLACES_MAX))?,
            Self::Buyers {
                who: Buyers::List(nodes),
            } => {
                at_most("buyers", nodes.len(), BUYERS_MAX)?;
                if nodes.is_empty() {
                    let text = "buyers: the list names nobody";
                    return Err(invalid(text.to_owned())
                        .hint("to sell to nobody use 'tirami-agent serve pause'"));
                }
            }
            Self::DailyCap { trm } if trm.is_zero() => {
                let text = "daily cap: 0 TRM would sell nothing";
                return Err(
                    invalid(text.to_owned()).hint("use 'tirami-agent serve pause' for that")
                );
            }
            _ => {}
        }
        Ok(move |settings: &mut Settings| change.apply(settings, now))
    }

    fn apply(self, settings: &mut Settings, now: Timestamp) {
        match self {
            Self::Price { min_ppm, max_ppm } => {
                settings.price = Some(Bounds {
                    floor_ppm: min_ppm,
                    ceiling_ppm: max_ppm,
                });
            }
            Self::DefaultPrice {} => settings.price = None,
            Self::Schedule { hours } => {
                settings.hours = hours.iter().flat_map(|hours| hours.parse()).collect();
            }
            Self::Pause {} => settings.paused = Some(pause(now, None)),
            Self::PauseUntil { until } => settings.paused = Some(pause(now, Some(until))),
            Self::Resume {} => settings.paused = None,
            Self::Busy { percent } => settings.busy_percent = Some(percent),
            Self::BusyOff {} => settings.busy_percent = None,
            Self::DailyCap { trm } => settings.daily_cap_trm = Some(trm),
            Self::DailyCapOff {} => settings.daily_cap_trm = None,
            Self::Slots { count } => settings.slots = count,
            Self::Queue { count } => settings.queue = count,
            Self::Buyers { who } => settings.buyers = who,
        }
    }
}

const fn pause(since: Timestamp, until: Option<Timestamp>) -> Pause {
    Pause { since, until }
}

fn invalid(text: String) -> Failure {
    Failure::new(FailureCode::InvalidInput, text).hint("nothing was changed")
}

fn within(field: &str, value: u32, (least, most): (u32, u32)) -> Result<(), Failure> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!(
        "{field}: {value} is not from {least} to {most}"
    )))
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), Failure> {
    if count <= most {
        return Ok(());
    }
    Err(invalid(format!(
        "{field}: {count} are given, and at most {most} are kept"
    )))
}

/// Why this node sells nothing now, if it does not, and until when, where that is known.
pub(super) fn why_closed(
    runtime: &Runtime,
    state: &selling::State,
) -> Option<(String, Option<Timestamp>)> {
    if runtime.inner.transport.is_none() {
        let text = "the node is not running; start it with 'tirami-agent up'";
        return Some((text.to_owned(), None));
    }
    if runtime.inner.engine.is_none() {
        return Some(("this node has no model to sell".to_owned(), None));
    }
    let closed = state.closed.as_ref()?;
    Some((closed.to_string(), closed.until(runtime.now())))
}

fn show(runtime: &Runtime) -> Result<ServeOutput, Failure> {
    let (desk, now) = (&runtime.inner.selling, runtime.now());
    let settings = desk.settings();
    let (state, taken) = (selling::state(runtime)?, desk.taken());
    let Bounds {
        floor_ppm,
        ceiling_ppm,
    } = selling::bounds(runtime);
    let (closed, opens_at) = why_closed(runtime, &state).unzip();
    let opens_at = opens_at.flatten();
    let paused = settings.paused.filter(|pause| !pause.is_over(now));
    Ok(ServeOutput {
        selling: closed.is_none(),
        closed,
        opens_at: opens_at.map(Timestamp::to_rfc3339),
        models: runtime
            .inner
            .engine
            .iter()
            .map(|engine| engine.name().to_owned())
            .collect(),
        price_ppm: selling::asked(runtime).ppm(),
        price_min_ppm: floor_ppm,
        price_max_ppm: ceiling_ppm,
        schedule: settings.hours.iter().map(ToString::to_string).collect(),
        paused: paused.is_some(),
        paused_until: paused
            .and_then(|pause| pause.until)
            .map(Timestamp::to_rfc3339),
        busy_percent: settings.busy_percent,
        load_percent: desk.load(),
        daily_cap_trm: settings.daily_cap_trm,
        trm_earned_24h: state.earned_in_a_day,
        trm_under_way: state.under_way,
        slots: settings.slots,
        queue: settings.queue,
        running: taken.running,
        waiting: taken.waiting,
        buyers: settings.buyers.clone(),
    })
}

empty_input!(
    /// What the node earned by selling.
    Earnings
);

/// What the node earned by selling, by its receipts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarningsOutput {
    /// Since midnight, in the node's local time.
    pub today: EarnedOutput,
    /// In the last 24 hours, to the quarter of an hour.
    pub last_24h: EarnedOutput,
    /// In the last 7 days, to the quarter of an hour.
    pub last_7d: EarnedOutput,
    /// Since there is this wallet.
    pub in_all: EarnedOutput,
    /// What of it no witness has certified yet; it cannot be spent.
    pub trm_waiting: Amount,
    /// Receipts that it is for.
    pub receipts_waiting: u32,
    /// By model, those that earned most first; at most 20.
    pub by_model: Vec<ModelEarnedOutput>,
    /// By buyer, those that paid most first; at most 20.
    pub by_buyer: Vec<BuyerEarnedOutput>,
    /// Whether every buyer and model was counted in the two lists.
    pub complete: bool,
}

/// A sum over receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarnedOutput {
    /// What they paid.
    pub trm_earned: Amount,
    /// How many.
    pub jobs: u64,
    /// Tokens of their prompts.
    pub tokens_in: u64,
    /// Tokens generated.
    pub tokens_out: u64,
}

/// What one model earned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelEarnedOutput {
    /// The model.
    pub model_id: ModelId,
    /// Its name, where it is sold now.
    pub model: Option<String>,
    /// In the last 7 days, and before them on the day in UTC in which they begin.
    pub last_7d: EarnedOutput,
    /// In all.
    pub in_all: EarnedOutput,
}

/// What one buyer paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuyerEarnedOutput {
    /// The buyer.
    pub buyer: NodeId,
    /// In the last 7 days, and before them on the day in UTC in which they begin.
    pub last_7d: EarnedOutput,
    /// In all.
    pub in_all: EarnedOutput,
}

impl From<Tally> for EarnedOutput {
    fn from(tally: Tally) -> Self {
        Self {
            trm_earned: tally.amount(),
            jobs: tally.jobs,
            tokens_in: tally.tokens_in,
            tokens_out: tally.tokens_out,
        }
    }
}

impl Operation for Earnings {
    const NAME: &'static str = "earnings";
    type Output = EarningsOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<EarningsOutput, Failure> {
        caller.must_be_main()?;
        let (wallet, now) = (&runtime.inner.wallet, runtime.inner.wallet.now()?);
        while !wallet.count_earnings().await? {}
        let back = |ms| Timestamp::from_ms(now.ms().saturating_sub(ms));
        let quarters = wallet.earned_since(back(WEEK_MS))?;
        let since = |from: Timestamp| {
            let quarter = tirami_wallet::earnings::QUARTER_MS;
            let first = from.ms() / quarter * quarter;
            let counted = quarters.iter().filter(|(at, _)| at.ms() >= first);
            EarnedOutput::from(counted.fold(Tally::default(), |sum, (_, tally)| sum.and(*tally)))
        };
        let (week, all) = (wallet.shares_since(back(WEEK_MS))?, wallet.shares()?);
        let most = tirami_wallet::earnings::SHARES_MAX;
        let complete = week.len() < most && all.len() < most;
        let engine = runtime.inner.engine.as_ref();
        let name = |model: &ModelId| {
            let engine = engine.filter(|engine| engine.card().id == *model)?;
            Some(engine.name().to_owned())
        };
        let by_model = by(&week, &all, |share| share.model);
        let by_buyer = by(&week, &all, |share| share.buyer);
        let waiting = wallet.waiting()?;
        Ok(EarningsOutput {
            today: since(midnight(runtime, now)),
            last_24h: since(back(DAY_MS)),
            last_7d: since(back(WEEK_MS)),
            in_all: wallet.earned_in_all()?.into(),
            trm_waiting: waiting.iter().fold(Amount::ZERO, |sum, (_, row)| {
                sum.checked_add(row.amount).unwrap_or(Amount::MAX)
            }),
            receipts_waiting: u32::try_from(waiting.len()).unwrap_or(u32::MAX),
            by_model: by_model
                .into_iter()
                .map(|(model_id, week, all)| ModelEarnedOutput {
                    model: name(&model_id),
                    model_id,
                    last_7d: week.into(),
                    in_all: all.into(),
                })
                .collect(),
            by_buyer: by_buyer
                .into_iter()
                .map(|(buyer, week, all)| BuyerEarnedOutput {
                    buyer,
                    last_7d: week.into(),
                    in_all: all.into(),
                })
                .collect(),
            complete,
        })
    }
}

/// When the present day began in the node's local time.
fn midnight(runtime: &Runtime, now: Timestamp) -> Timestamp {
    let ahead = runtime.inner.clock.ahead_of_utc_minutes(now);
    let ahead_ms = i64::from(ahead) * 60_000;
    let local = now.ms().saturating_add_signed(ahead_ms);
    Timestamp::from_ms(now.ms().saturating_sub(local % DAY_MS))
}

/// The sums of each buyer or model, in a week and in all; those with most in the week first, then those
/// with most in all.
fn by<K: Ord + Copy>(
    week: &[Share],
    all: &[Share],
    key: impl Fn(&Share) -> K,
) -> Vec<(K, Tally, Tally)> {
    let mut sums: BTreeMap<K, (Tally, Tally)> = BTreeMap::new();
    for share in week {
        let (sum, _) = sums.entry(key(share)).or_default();
        *sum = sum.and(share.tally);
    }
    for share in all {
        let (_, sum) = sums.entry(key(share)).or_default();
        *sum = sum.and(share.tally);
    }
    let mut sums: Vec<(K, Tally, Tally)> = sums
        .into_iter()
        .map(|(key, (week, all))| (key, week, all))
        .collect();
    sums.sort_by_key(|(_, week, all)| std::cmp::Reverse((week.utrm, all.utrm)));
    sums.truncate(SHOWN_MAX);
    sums
}
