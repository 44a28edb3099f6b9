//! A mandate's terms as bytes, for what is signed.

use std::collections::BTreeSet;

use super::{Action, Breakers, LIST_MAX, Limits, List, Pot, PotRule, QuietHours, Scope, Terms};
use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{ModelId, NodeId};
use crate::time::Timestamp;

impl Limits {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.per_request_trm.utrm());
        optional(out, self.minute_trm.map(Amount::utrm));
        out.u64(self.hour_trm.utrm());
        optional(out, self.day_trm.map(Amount::utrm));
        out.u64(self.lifetime_trm.utrm());
        optional(out, self.payee_day_trm.map(Amount::utrm));
        optional(out, self.in_flight.map(u64::from));
        out.u64(self.reserve_trm.utrm());
        optional(out, self.price_ceiling_trm.map(Amount::utrm));
        optional(out, self.approval_above_trm.map(Amount::utrm));
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            per_request_trm: amount(from.u64("per request")?, "per request")?,
            minute_trm: maybe_amount(from, "minute")?,
            hour_trm: amount(from.u64("hour")?, "hour")?,
            day_trm: maybe_amount(from, "day")?,
            lifetime_trm: amount(from.u64("lifetime")?, "lifetime")?,
            payee_day_trm: maybe_amount(from, "payee day")?,
            in_flight: maybe(from, "in flight")?
                .map(|n| u32::try_from(n).map_err(|_| DecodeError::Value("in flight")))
                .transpose()?,
            reserve_trm: amount(from.u64("reserve")?, "reserve")?,
            price_ceiling_trm: maybe_amount(from, "price ceiling")?,
            approval_above_trm: maybe_amount(from, "approval above")?,
        })
    }
}

impl Breakers {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let breakers = Self {
            errors_in_row: from.u32("errors in a row")?,
            spends_per_minute: from.u32("spends per minute")?,
            same_request: from.u32("same request")?,
        };
        if breakers.same_request > Self::SAME_REQUEST_MAX {
            return Err(DecodeError::Value("same request"));
        }
        Ok(breakers)
    }
}

fn quiet_hours(from: &mut Reader<'_>) -> Result<Option<QuietHours>, DecodeError> {
    let quiet = match from.u8("quiet hours")? {
        0 => return Ok(None),
        1 => QuietHours {
            from_minute: from.u16("quiet hours")?,
            to_minute: from.u16("quiet hours")?,
            utc_offset_minutes: i16::from_le_bytes(from.raw("quiet hours")?),
        },
        _ => return Err(DecodeError::Value("quiet hours")),
    };
    if quiet.is_sound() {
        Ok(Some(quiet))
    } else {
        Err(DecodeError::Value("quiet hours"))
    }
}

impl Terms {
    /// The bytes that are signed as part of an order, and stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.encode(&mut out);
        out.finish()
    }

    /// Reads what [`Terms::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] for anything else, trailing bytes included.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let terms = Self::decode(&mut from)?;
        from.finish()?;
        Ok(terms)
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        self.limits.encode(out);
        let Scope {
            payees,
            actions,
            models,
        } = &self.scope;
        list(out, payees, |out, id| {
            out.raw(id.as_bytes());
        });
        list(out, actions, |out, action| {
            out.u8(action.number());
        });
        list(out, models, |out, id| {
            out.raw(id.as_bytes());
        });
        let Breakers {
            errors_in_row,
            spends_per_minute,
            same_request,
        } = self.breakers;
        out.u32(errors_in_row)
            .u32(spends_per_minute)
            .u32(same_request);
        match self.quiet_hours {
            None => {
                out.u8(0);
            }
            Some(quiet) => {
                out.u8(1)
                    .u16(quiet.from_minute)
                    .u16(quiet.to_minute)
                    .raw(&quiet.utc_offset_minutes.to_le_bytes());
            }
        }
        optional(out, self.expires.map(Timestamp::ms));
        out.u8(length(self.pots.len()));
        for rule in &self.pots {
            out.u8(rule.action.map_or(0, Action::number));
            absent_or(out, rule.payee.as_ref().map(|id| id.as_bytes().as_slice()));
            absent_or(out, rule.model.as_ref().map(|id| id.as_bytes().as_slice()));
            out.u8(length(rule.pots.len()));
            for pot in &rule.pots {
                out.u8(pot.number());
            }
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let limits = Limits::decode(from)?;
        let scope = Scope {
            payees: read_list(from, "payees", |from| {
                Ok(NodeId::from_bytes(from.raw("payees")?))
            })?,
            actions: read_list(from, "actions", |from| action(from.u8("actions")?))?,
            models: read_list(from, "models", |from| {
                Ok(ModelId::from_bytes(from.raw("models")?))
            })?,
        };
        let breakers = Breakers::decode(from)?;
        let quiet_hours = quiet_hours(from)?;
        let expires = maybe(from, "expires")?.map(Timestamp::from_ms);
        let mut pots = Vec::new();
        for _ in 0..count(from, "pots")? {
            pots.push(pot_rule(from)?);
        }
        Ok(Self {
            limits,
            scope,
            breakers,
            quiet_hours,
            expires,
            pots,
        })
    }

    /// Whether every list is short enough to be signed, and every figure in its range; the term
    /// that is not.
    pub fn flaw(&self) -> Option<&'static str> {
        let Scope {
            payees,
            actions,
            models,
        } = &self.scope;
        let long = |n: usize| n > LIST_MAX;
        let lists = [
            (
                "payees",
                long(payees.deny.len()) || payees.allow.as_ref().is_some_and(|l| long(l.len())),
            ),
            (
                "actions",
                long(actions.deny.len()) || actions.allow.as_ref().is_some_and(|l| long(l.len())),
            ),
            (
                "models",
                long(models.deny.len()) || models.allow.as_ref().is_some_and(|l| long(l.len())),
            ),
            (
                "pots",
                long(self.pots.len()) || self.pots.iter().any(|rule| !distinct(&rule.pots)),
            ),
            (
                "quiet_hours",
                self.quiet_hours.is_some_and(|quiet| !quiet.is_sound()),
            ),
            (
                "same_request",
                self.breakers.same_request > Breakers::SAME_REQUEST_MAX,
            ),
        ];
        lists
            .into_iter()
            .find(|(_, bad)| *bad)
            .map(|(term, _)| term)
    }
}

fn pot_rule(from: &mut Reader<'_>) -> Result<PotRule, DecodeError> {
    let rule = PotRule {
        action: match from.u8("pots")? {
            0 => None,
            number => Some(action(number)?),
        },
        payee: read_absent_or(from)?.map(NodeId::from_bytes),
        model: read_absent_or(from)?.map(ModelId::from_bytes),
        pots: (0..count(from, "pots")?)
            .map(|_| Pot::from_number(from.u8("pots")?).ok_or(DecodeError::Value("pots")))
            .collect::<Result<_, _>>()?,
    };
    if distinct(&rule.pots) {
        Ok(rule)
    } else {
        Err(DecodeError::Value("pots"))
    }
}

fn distinct(pots: &[Pot]) -> bool {
    pots.iter().collect::<BTreeSet<_>>().len() == pots.len()
}

fn optional(out: &mut Writer, value: Option<u64>) {
    match value {
        None => out.u8(0),
        Some(value) => out.u8(1).u64(value),
    };
}

pub(super) fn maybe(
    from: &mut Reader<'_>,
    field: &'static str,
) -> Result<Option<u64>, DecodeError> {
    match from.u8(field)? {
        0 => Ok(None),
        1 => from.u64(field).map(Some),
        _ => Err(DecodeError::Value(field)),
    }
}

fn amount(utrm: u64, field: &'static str) -> Result<Amount, DecodeError> {
    Amount::from_utrm(utrm).map_err(|_| DecodeError::Value(field))
}

fn maybe_amount(from: &mut Reader<'_>, field: &'static str) -> Result<Option<Amount>, DecodeError> {
    maybe(from, field)?
        .map(|utrm| amount(utrm, field))
        .transpose()
}

/// Whether an action has this number.
pub(super) fn known(number: u8) -> bool {
    Action::ALL.iter().any(|(_, n)| *n == number)
}

fn action(number: u8) -> Result<Action, DecodeError> {
    Action::ALL
        .iter()
        .find(|(_, n)| *n == number)
        .map(|(action, _)| *action)
        .ok_or(DecodeError::Value("action"))
}

/// Lists are kept short enough by [`Terms::flaw`]; a longer one does not read back.
fn length(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

fn count(from: &mut Reader<'_>, field: &'static str) -> Result<usize, DecodeError> {
    let n = usize::from(from.u8(field)?);
    if n > LIST_MAX {
        return Err(DecodeError::Value(field));
    }
    Ok(n)
}

fn list<T: Ord>(out: &mut Writer, list: &List<T>, each: impl Fn(&mut Writer, &T)) {
    match &list.allow {
        None => {
            out.u8(0);
        }
        Some(only) => {
            out.u8(1).u8(length(only.len()));
            for item in only {
                each(out, item);
            }
        }
    }
    out.u8(length(list.deny.len()));
    for item in &list.deny {
        each(out, item);
    }
}

fn read_list<T: Ord>(
    from: &mut Reader<'_>,
    field: &'static str,
    each: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<List<T>, DecodeError> {
    let set = |from: &mut Reader<'_>| {
        let mut set = BTreeSet::new();
        for _ in 0..count(from, field)? {
            let item = each(from)?;
            // Ascending and without repetition: one set has one layout.
            if set.last().is_some_and(|last| *last >= item) {
                return Err(DecodeError::Value(field));
            }
            set.insert(item);
        }
        Ok(set)
    };
    let allow = match from.u8(field)? {
        0 => None,
        1 => Some(set(from)?),
        _ => return Err(DecodeError::Value(field)),
    };
    Ok(List {
        allow,
        deny: set(from)?,
    })
}

fn absent_or(out: &mut Writer, bytes: Option<&[u8]>) {
    match bytes {
        None => out.u8(0),
        Some(bytes) => out.u8(1).raw(bytes),
    };
}

fn read_absent_or(from: &mut Reader<'_>) -> Result<Option<[u8; 32]>, DecodeError> {
    match from.u8("pots")? {
        0 => Ok(None),
        1 => from.raw("pots").map(Some),
        _ => Err(DecodeError::Value("pots")),
    }
}
