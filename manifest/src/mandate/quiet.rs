//! Hours of the day in which nothing is spent.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;

/// From one minute of the day (included) to another (not included), over midnight when the second is
/// smaller, in a time that is `utc_offset_minutes` ahead of UTC all year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// First quiet minute of the day, 0 to 1439.
    pub from_minute: u16,
    /// First minute that is not quiet, 0 to 1439.
    pub to_minute: u16,
    /// Minutes ahead of UTC, -840 to 840.
    #[serde(default)]
    pub utc_offset_minutes: i16,
}

/// Text that names no quiet hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quiet hours are two different times of the day like 22:00-07:00, with +HH:MM or -HH:MM behind \
     when they are not UTC: 22:00-07:00+02:00"
)]
pub struct QuietHoursError;

impl QuietHours {
    /// Farthest from UTC that any place on Earth is, in minutes.
    const OFFSET_MAX: i16 = 14 * 60;

    /// Whether the figures are times of the day.
    pub fn is_sound(&self) -> bool {
        let day = u16::try_from(DAY_MINUTES).unwrap_or(u16::MAX);
        self.from_minute < day
            && self.to_minute < day
            && self.from_minute != self.to_minute
            && (-Self::OFFSET_MAX..=Self::OFFSET_MAX).contains(&self.utc_offset_minutes)
    }

    /// When the quiet hours that `now` lies in end; `None` outside of them.
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let offset = i64::from(self.utc_offset_minutes);
        // A day more keeps times ahead of 1970 above zero.
        let minutes = (now.ms() / MINUTE_MS).saturating_add(DAY_MINUTES);
        let minute = minutes.saturating_add_signed(offset) % DAY_MINUTES;
        let (from, to) = (u64::from(self.from_minute), u64::from(self.to_minute));
        let quiet = if from < to {
            (from..to).contains(&minute)
        } else {
            minute >= from || minute < to
        };
        let left = to.saturating_add(DAY_MINUTES).saturating_sub(minute) % DAY_MINUTES;
        let into = now.ms() % MINUTE_MS;
        quiet.then(|| now.after_ms(left.saturating_mul(MINUTE_MS).saturating_sub(into)))
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", clock(self.from_minute), clock(self.to_minute))?;
        match self.utc_offset_minutes {
            0 => f.write_str(" UTC"),
            ahead => {
                let sign = if ahead < 0 { '-' } else { '+' };
                write!(f, "{sign}{}", clock(ahead.unsigned_abs()))
            }
        }
    }
}

impl FromStr for QuietHours {
    type Err = QuietHoursError;

    fn from_str(text: &str) -> Result<Self, QuietHoursError> {
        let clock = |text: &str| -> Option<u16> {
            let (hour, minute) = text.split_once(':')?;
            let two = |text: &str, below: u16| {
                let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
                text.parse().ok().filter(|n: &u16| digits && *n < below)
            };
            two(hour, 24)?
                .checked_mul(60)?
                .checked_add(two(minute, 60)?)
        };
        let parse = || -> Option<Self> {
            let text = text.trim().trim_end_matches("UTC").trim_end();
            let (from, rest) = text.split_once('-')?;
            let (to, offset) = match rest.find(['+', '-']) {
                None => (rest, 0),
                Some(at) => {
                    let (to, offset) = rest.split_at(at);
                    let (sign, offset) = offset.split_at(1);
                    let offset = i16::try_from(clock(offset)?).ok()?;
                    (
                        to,
                        if sign == "-" {
                            offset.checked_neg()?
                        } else {
                            offset
                        },
                    )
                }
            };
            let hours = Self {
                from_minute: clock(from)?,
                to_minute: clock(to)?,
                utc_offset_minutes: offset,
            };
            hours.is_sound().then_some(hours)
        };
        parse().ok_or(QuietHoursError)
    }
}
