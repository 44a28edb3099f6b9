//! Whether this node sells now, to whom, for how much, and how many jobs at once.
//!
//! The owner's settings are in the wallet and survive. [`admit`] decides by them and by facts that are
//! gathered here; it is asked for offers, for quotes, and again when a job starts. Nothing here can
//! cost the owner money: it only narrows what `serve` would do.

mod admit;
mod asked;
pub(crate) mod debts;
mod hours;
mod load;
mod places;
mod settings;
mod speed;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tirami_manifest::{Amount, Clock, Multiplier, NodeId, Timestamp};
use tirami_wallet::earnings::DAY_MS;
use tirami_wallet::sales::Standing;
use tirami_wallet::{Wallet, WalletError};

use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

pub(crate) use admit::Closed;
use admit::{Buyer, Facts, admit, covers};
use asked::Offered;
pub(crate) use asked::{Bounds, HONOURED_MS};
pub(crate) use hours::Hours;
pub(crate) use load::LOADAVG;
use places::Places;
pub(crate) use places::{Place, Taken};
pub use settings::Buyers;
pub(crate) use settings::{BUYERS_MAX, HOURS_MAX, PLACES_MAX, Pause, Settings};
pub(crate) use speed::Speed;

/// What a node that sells keeps in mind.
#[derive(Debug)]
pub(crate) struct Desk {
    /// As they are in the wallet; held for a copy only.
    settings: RwLock<Arc<Settings>>,
    /// Held while they change, so that no change is lost.
    changing: tokio::sync::Mutex<()>,
    places: Places,
    pub(crate) debts: debts::Debts,
    /// Held for a step only.
    offered: Mutex<Offered>,
    /// Held for a step only.
    speed: Mutex<Speed>,
    load_file: PathBuf,
}

/// Why a buyer is not served.
#[derive(Debug)]
pub(crate) enum NotSold {
    /// The owner does not want it now.
    Closed(Closed),
    /// The books could not be read.
    Failed(WalletError),
}

impl From<Closed> for NotSold {
    fn from(closed: Closed) -> Self {
        Self::Closed(closed)
    }
}

impl From<WalletError> for NotSold {
    fn from(error: WalletError) -> Self {
        Self::Failed(error)
    }
}

impl Desk {
    /// With the settings that the wallet remembers.
    pub(crate) fn open(
        wallet: &Wallet,
        clock: Arc<dyn Clock>,
        load_file: PathBuf,
    ) -> Result<Self, Failure> {
        let settings = match wallet.selling()? {
            None => Settings::default(),
            Some(json) => serde_json::from_slice(&json).map_err(|error| {
                let text = format!("the settings for selling cannot be read: {error}");
                Failure::new(FailureCode::Store, text)
                    .hint("a newer version of tirami-agent wrote them; install that one")
            })?,
        };
        Ok(Self {
            places: Places::new(settings.room(), clock),
            settings: RwLock::new(Arc::new(settings)),
            changing: tokio::sync::Mutex::default(),
            debts: debts::Debts::default(),
            speed: Mutex::default(),
            offered: Mutex::default(),
            load_file,
        })
    }

    /// What the owner decided.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.read();
        settings.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what the owner decided; it counts once it is on disk.
    pub(crate) async fn change(
        &self,
        wallet: &Wallet,
        change: impl FnOnce(&mut Settings) + Send,
    ) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        let mut settings = (*self.settings()).clone();
        change(&mut settings);
        let json = serde_json::to_vec(&settings)
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))?;
        wallet.set_selling(json).await?;
        self.places.set_room(settings.room());
        let mut now = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(settings);
        Ok(())
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> Taken {
        self.places.taken()
    }

    /// How fast jobs go here, and for how many milliseconds the next would wait for its place.
    pub(crate) fn speed(&self) -> (Speed, u64) {
        let speed = *self.speed.lock().unwrap_or_else(PoisonError::into_inner);
        (speed, self.places.wait_ms())
    }

    /// Notes how fast a job went.
    pub(crate) fn went(&self, note: impl FnOnce(&mut Speed)) {
        note(&mut self.speed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The machine's load, where the system says it.
    pub(crate) fn load(&self) -> Option<u32> {
        load::percent(&self.load_file)
    }

    fn offered(&self) -> std::sync::MutexGuard<'_, Offered> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that a decision about `buyer` depends on.
fn facts(
    runtime: &Runtime,
    settings: &Settings,
    buyer: Option<&NodeId>,
) -> Result<Facts, WalletError> {
    let (desk, wallet, now) = (&runtime.inner.selling, &runtime.inner.wallet, runtime.now());
    let buyer = match buyer {
        Some(node) => Some(Buyer {
            node: *node,
            is_member: settings.buyers != Buyers::Members || is_member(wallet, node)?,
        }),
        None => None,
    };
    let earned = match settings.daily_cap_trm {
        Some(_) => earned_in_a_day(wallet, now)?,
        None => Vec::new(),
    };
    Ok(Facts {
        buyer,
        ahead_minutes: runtime.inner.clock.ahead_of_utc_minutes(now),
        load_percent: settings.busy_percent.and_then(|_| desk.load()),
        earned,
        under_way: desk.places.under_way(),
        price: runtime.multiplier(),
        taken: desk.taken(),
    })
}

fn is_member(wallet: &Wallet, node: &NodeId) -> Result<bool, WalletError> {
    Ok(match wallet.standing(node)? {
        Standing::Kept(_) | Standing::Defaulted(_) | Standing::Authority => true,
        Standing::Stranger(_) | Standing::Unknown => false,
    })
}

/// What was earned in the last 24 hours, to the quarter of an hour, oldest first.
fn earned_in_a_day(
    wallet: &Wallet,
    now: Timestamp,
) -> Result<Vec<(Timestamp, Amount)>, WalletError> {
    let since = Timestamp::from_ms(now.ms().saturating_sub(DAY_MS));
    let earned = wallet.earned_since(since)?;
    Ok(earned
        .into_iter()
        .map(|(at, tally)| (at, tally.amount()))
        .collect())
}

/// What is asked of anybody now, whether or not anything is sold.
pub(crate) fn asked(runtime: &Runtime) -> Multiplier {
    let (desk, configured) = (&runtime.inner.selling, runtime.multiplier());
    let settings = desk.settings();
    admit::bounds(&settings, configured).at(desk.taken().all(), settings.room().places())
}

/// Between which bounds it moves.
pub(crate) fn bounds(runtime: &Runtime) -> Bounds {
    admit::bounds(&runtime.inner.selling.settings(), runtime.multiplier())
}

/// What is offered to `buyer`.
pub(crate) fn offer(runtime: &Runtime, buyer: &NodeId) -> Result<Multiplier, NotSold> {
    let desk = &runtime.inner.selling;
    let settings = desk.settings();
    let now = runtime.now();
    let price = admit(&settings, &facts(runtime, &settings, Some(buyer))?, now)?;
    desk.offered().offer(price, now);
    Ok(price)
}

/// What is quoted to `buyer`, once a place could be had.
pub(crate) fn quote(runtime: &Runtime, buyer: &NodeId) -> Result<Multiplier, NotSold> {
    let desk = &runtime.inner.selling;
    let settings = desk.settings();
    let now = runtime.now();
    let price = admit(&settings, &facts(runtime, &settings, Some(buyer))?, now)?;
    if let Some(full) = desk.places.full_for(buyer) {
        return Err(full_up(full).into());
    }
    Ok(desk.offered().quote(price, now))
}

/// Whether what may still be earned today covers a price.
pub(crate) fn within_cap(runtime: &Runtime, most: Amount) -> Result<(), NotSold> {
    let settings = runtime.inner.selling.settings();
    if settings.daily_cap_trm.is_none() {
        return Ok(());
    }
    Ok(covers(&settings, &facts(runtime, &settings, None)?, most)?)
}

/// Takes a place for a job that may earn so much, waiting for it in line, if this node still sells.
pub(crate) async fn place(
    runtime: &Runtime,
    buyer: &NodeId,
    most: Amount,
) -> Result<Place, NotSold> {
    let desk = &runtime.inner.selling;
    let place = desk.places.take(*buyer, most).await.map_err(full_up)?;
    // While it waited, everything may have changed.
    let settings = desk.settings();
    let mut facts = facts(runtime, &settings, Some(buyer))?;
    facts.under_way = facts.under_way.saturating_sub(most);
    admit(&settings, &facts, runtime.now())?;
    covers(&settings, &facts, most)?;
    Ok(place)
}

fn full_up(full: places::Full) -> Closed {
    Closed::Full {
        retry_ms: full.retry_ms,
    }
}

/// How selling stands now, for the owner.
pub(crate) struct State {
    pub(crate) closed: Option<Closed>,
    pub(crate) earned_in_a_day: Amount,
    pub(crate) under_way: Amount,
}

/// How selling stands now, whoever asks.
pub(crate) fn state(runtime: &Runtime) -> Result<State, WalletError> {
    let settings = runtime.inner.selling.settings();
    let (facts, now) = (facts(runtime, &settings, None)?, runtime.now());
    let earned = earned_in_a_day(&runtime.inner.wallet, now)?;
    let closed = admit(&settings, &facts, now).err();
    let closed = closed.or_else(|| runtime.inner.selling.places.full().map(full_up));
    Ok(State {
        closed,
        earned_in_a_day: admit::sum(&earned),
        under_way: facts.under_way,
    })
}
