//! What a mandate's terms say of one purchase, read off their bytes in one pass: every spend asks each
//! mandate above it, and the lists need not be built for that.

use super::layout::known;
use super::{Action, Breakers, LIST_MAX, Limits, Pot, QuietHours};
use crate::amount::Amount;
use crate::id::{ModelId, NodeId};
use crate::time::Timestamp;

/// What terms bear on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purchase<'a> {
    /// What is done.
    pub action: Action,
    /// Who is paid.
    pub payee: Option<&'a NodeId>,
    /// For which model.
    pub model: Option<&'a ModelId>,
}

/// What a list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Whether it says anything.
    pub said: bool,
    /// Whether it permits this.
    pub permits: bool,
}

/// What terms say of one purchase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearing {
    /// How much.
    pub limits: Limits,
    /// Whom it may pay.
    pub payees: Permit,
    /// What it may do.
    pub actions: Permit,
    /// Which models it may use.
    pub models: Permit,
    /// When to stop by itself.
    pub breakers: Breakers,
    /// When nothing may be spent, every day.
    pub quiet_hours: Option<QuietHours>,
    /// From when on nothing may be spent.
    pub expires: Option<Timestamp>,
    pots: Pots,
}

/// Distinct pots, in the order in which they are drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pots {
    pots: [Pot; Pot::ALL.len()],
    count: usize,
}

impl Bearing {
    /// Reads what [`super::Terms::to_bytes`] wrote; `None` for bytes that [`super::Terms::from_bytes`]
    /// refuses.
    pub fn read(bytes: &[u8], purchase: &Purchase<'_>) -> Option<Self> {
        let Purchase {
            action,
            payee,
            model,
        } = *purchase;
        let mut from = Bytes(bytes);
        let limits = limits(&mut from)?;
        let payees = permit(&mut from, payee.map(NodeId::as_bytes), |_| true)?;
        let number = [action.number()];
        let actions = permit(&mut from, Some(&number), |[n]| known(*n))?;
        let models = permit(&mut from, model.map(ModelId::as_bytes), |_| true)?;
        let breakers = Breakers {
            errors_in_row: from.u32()?,
            spends_per_minute: from.u32()?,
            same_request: from.u32()?,
        };
        let quiet_hours = from.maybe(|from| {
            Some(QuietHours {
                from_minute: u16::from_le_bytes(*from.chunk()?),
                to_minute: u16::from_le_bytes(*from.chunk()?),
                utc_offset_minutes: i16::from_le_bytes(*from.chunk()?),
            })
        });
        let quiet_hours = quiet_hours.ok()?;
        let expires = from.maybe(Bytes::u64).ok()?.map(Timestamp::from_ms);
        let mut found = None;
        for _ in 0..from.count()? {
            let (fits, pots) = pot_rule(&mut from, purchase)?;
            if fits && found.is_none() {
                found = Some(pots);
            }
        }
        let sound = from.0.is_empty()
            && breakers.same_request <= Breakers::SAME_REQUEST_MAX
            && quiet_hours.is_none_or(|quiet| quiet.is_sound());
        sound.then(|| Self {
            limits,
            payees,
            actions,
            models,
            breakers,
            quiet_hours,
            expires,
            pots: found.unwrap_or_else(Pots::unless_said),
        })
    }

    /// The pots that may pay for it, in the order in which they are drawn on.
    pub fn pots(&self) -> &[Pot] {
        let Pots { pots, count } = &self.pots;
        pots.get(..*count).unwrap_or_default()
    }
}

impl Pots {
    const fn none() -> Self {
        Self {
            pots: Pot::ALL,
            count: 0,
        }
    }

    fn unless_said() -> Self {
        let mut pots = Self::none();
        for pot in Pot::UNLESS_SAID {
            pots.add(pot);
        }
        pots
    }

    /// Whether it was not there yet.
    fn add(&mut self, pot: Pot) -> bool {
        let there = self.pots.iter().take(self.count).any(|p| *p == pot);
        if !there && let Some(place) = self.pots.get_mut(self.count) {
            *place = pot;
            self.count = self.count.saturating_add(1);
        }
        !there
    }
}

/// No terms are written so.
struct Unsound;

/// The bytes that are left. Why something is refused nobody asks here, which makes it fast.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        let [byte] = *self.chunk()?;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Whether what may be absent follows.
    fn is_there(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// What may be absent, as `read` reads it.
    fn maybe<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<Option<T>, Unsound> {
        if self.is_there().ok_or(Unsound)? {
            read(self).map(Some).ok_or(Unsound)
        } else {
            Ok(None)
        }
    }

    fn amount(&mut self) -> Option<Amount> {
        Amount::from_utrm(self.u64()?).ok()
    }

    fn maybe_amount(&mut self) -> Result<Option<Amount>, Unsound> {
        self.maybe(Self::amount)
    }

    fn count(&mut self) -> Option<usize> {
        self.u8().map(usize::from).filter(|n| *n <= LIST_MAX)
    }
}

fn limits(from: &mut Bytes<'_>) -> Option<Limits> {
    Some(Limits {
        per_request_trm: from.amount()?,
        minute_trm: from.maybe_amount().ok()?,
        hour_trm: from.amount()?,
        day_trm: from.maybe_amount().ok()?,
        lifetime_trm: from.amount()?,
        payee_day_trm: from.maybe_amount().ok()?,
        in_flight: from.maybe(|from| u32::try_from(from.u64()?).ok()).ok()?,
        reserve_trm: from.amount()?,
        price_ceiling_trm: from.maybe_amount().ok()?,
        approval_above_trm: from.maybe_amount().ok()?,
    })
}

/// Reads a list: what it says, and whether it permits `wanted`.
fn permit<const N: usize>(
    from: &mut Bytes<'_>,
    wanted: Option<&[u8; N]>,
    is_known: impl Fn(&[u8; N]) -> bool,
) -> Option<Permit> {
    let allow = from.maybe(|from| set(from, wanted, &is_known)).ok()?;
    let deny = set(from, wanted, &is_known)?;
    let said = allow.is_some() || !deny.is_empty;
    Some(Permit {
        said,
        permits: match wanted {
            Some(_) => !deny.contains && allow.is_none_or(|only| only.contains),
            None => !said,
        },
    })
}

#[derive(Clone, Copy)]
struct Set {
    is_empty: bool,
    contains: bool,
}

fn set<const N: usize>(
    from: &mut Bytes<'_>,
    wanted: Option<&[u8; N]>,
    is_known: impl Fn(&[u8; N]) -> bool,
) -> Option<Set> {
    let count = from.count()?;
    let (items, rest) = from.0.split_at_checked(count.saturating_mul(N))?;
    from.0 = rest;
    let (items, _) = items.as_chunks::<N>();
    let mut last: Option<&[u8; N]> = None;
    let mut contains = false;
    for item in items {
        if last.is_some_and(|last| last >= item) || !is_known(item) {
            return None;
        }
        contains |= wanted == Some(item);
        last = Some(item);
    }
    Some(Set {
        is_empty: items.is_empty(),
        contains,
    })
}

/// Reads a rule for pots: whether it is for this, and which pots it names.
fn pot_rule(from: &mut Bytes<'_>, purchase: &Purchase<'_>) -> Option<(bool, Pots)> {
    let action = match from.u8()? {
        0 => true,
        number if known(number) => number == purchase.action.number(),
        _ => return None,
    };
    let payee = fits(from, purchase.payee.map(NodeId::as_bytes))?;
    let model = fits(from, purchase.model.map(ModelId::as_bytes))?;
    let mut pots = Pots::none();
    for _ in 0..from.count()? {
        if !pots.add(Pot::from_number(from.u8()?)?) {
            return None;
        }
    }
    Some((action && payee && model, pots))
}

/// Whether what is named, if something is, is this.
fn fits(from: &mut Bytes<'_>, this: Option<&[u8; 32]>) -> Option<bool> {
    Some(!from.is_there()? || Some(from.chunk()?) == this)
}
