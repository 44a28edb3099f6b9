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
        let mut from = Bytes::of(bytes);
        let limits = limits(&mut from);
        let payees = permit(&mut from, payee.map(NodeId::as_bytes), |_| true);
        let number = [action.number()];
        let actions = permit(&mut from, Some(&number), |[n]| known(*n));
        let models = permit(&mut from, model.map(ModelId::as_bytes), |_| true);
        let breakers = Breakers {
            errors_in_row: from.u32(),
            spends_per_minute: from.u32(),
            same_request: from.u32(),
        };
        let quiet_hours = from.is_there().then(|| QuietHours {
            from_minute: u16::from_le_bytes(from.chunk()),
            to_minute: u16::from_le_bytes(from.chunk()),
            utc_offset_minutes: i16::from_le_bytes(from.chunk()),
        });
        let expires = from.maybe_u64().map(Timestamp::from_ms);
        let mut found = None;
        for _ in 0..from.count() {
            let (fits, pots) = pot_rule(&mut from, purchase);
            if fits && found.is_none() {
                found = Some(pots);
            }
        }
        let sound = from.sound
            && from.left.is_empty()
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

/// The bytes that are left. What is missing or wrong reads as zeros, and leaves a mark that is looked
/// at once, in the end, which makes it fast.
struct Bytes<'a> {
    left: &'a [u8],
    sound: bool,
}

impl<'a> Bytes<'a> {
    const fn of(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            sound: true,
        }
    }

    fn chunk<const N: usize>(&mut self) -> [u8; N] {
        if let Some((head, rest)) = self.left.split_first_chunk() {
            self.left = rest;
            return *head;
        }
        self.sound = false;
        [0; N]
    }

    fn u8(&mut self) -> u8 {
        let [byte] = self.chunk();
        byte
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.chunk())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.chunk())
    }

    /// Whether what may be absent follows.
    fn is_there(&mut self) -> bool {
        let mark = self.u8();
        self.sound &= mark <= 1;
        mark == 1
    }

    fn maybe_u64(&mut self) -> Option<u64> {
        self.is_there().then(|| self.u64())
    }

    fn amount(&mut self) -> Amount {
        Amount::from_utrm(self.u64()).unwrap_or_else(|_| {
            self.sound = false;
            Amount::ZERO
        })
    }

    fn maybe_amount(&mut self) -> Option<Amount> {
        self.is_there().then(|| self.amount())
    }

    /// How many follow; none when nobody may write so many.
    fn count(&mut self) -> usize {
        let n = usize::from(self.u8());
        if n > LIST_MAX {
            self.sound = false;
            return 0;
        }
        n
    }
}

fn limits(from: &mut Bytes<'_>) -> Limits {
    Limits {
        per_request_trm: from.amount(),
        minute_trm: from.maybe_amount(),
        hour_trm: from.amount(),
        day_trm: from.maybe_amount(),
        lifetime_trm: from.amount(),
        payee_day_trm: from.maybe_amount(),
        in_flight: from.maybe_u64().map(|n| {
            u32::try_from(n).unwrap_or_else(|_| {
                from.sound = false;
                0
            })
        }),
        reserve_trm: from.amount(),
        price_ceiling_trm: from.maybe_amount(),
        approval_above_trm: from.maybe_amount(),
    }
}

/// Reads a list: what it says, and whether it permits `wanted`.
fn permit<const N: usize>(
    from: &mut Bytes<'_>,
    wanted: Option<&[u8; N]>,
    is_known: impl Fn(&[u8; N]) -> bool,
) -> Permit {
    let allow = from.is_there().then(|| set(from, wanted, &is_known));
    let deny = set(from, wanted, &is_known);
    let said = allow.is_some() || !deny.is_empty;
    Permit {
        said,
        permits: match wanted {
            Some(_) => !deny.contains && allow.is_none_or(|only| only.contains),
            None => !said,
        },
    }
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
) -> Set {
    let count = from.count();
    let (items, rest) = from
        .left
        .split_at_checked(count.saturating_mul(N))
        .unwrap_or_else(|| {
            from.sound = false;
            (&[], &[])
        });
    from.left = rest;
    let (items, _) = items.as_chunks::<N>();
    from.sound &= items.is_sorted_by(|a, b| a < b) && items.iter().all(is_known);
    Set {
        is_empty: items.is_empty(),
        contains: wanted.is_some_and(|wanted| items.contains(wanted)),
    }
}

/// Reads a rule for pots: whether it is for this, and which pots it names.
fn pot_rule(from: &mut Bytes<'_>, purchase: &Purchase<'_>) -> (bool, Pots) {
    let number = from.u8();
    from.sound &= number == 0 || known(number);
    let action = number == 0 || number == purchase.action.number();
    let payee = fits(from, purchase.payee.map(NodeId::as_bytes));
    let model = fits(from, purchase.model.map(ModelId::as_bytes));
    let mut pots = Pots::none();
    for _ in 0..from.count() {
        let pot = Pot::from_number(from.u8());
        from.sound &= pot.is_some_and(|pot| pots.add(pot));
    }
    (action && payee && model, pots)
}

/// Whether what is named, if something is, is this.
fn fits(from: &mut Bytes<'_>, this: Option<&[u8; 32]>) -> bool {
    !from.is_there() || Some(&from.chunk()) == this
}
