//! Hours of the week in which a node sells, in its local time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tirami_manifest::Timestamp;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;

/// Names of the days, as they are written; the first is number 0.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// 1970 began on a Thursday.
const FIRST_DAY: u64 = 3;

/// From one minute of the day (included) to another (not included), over midnight when the second is
/// smaller; on each of some days, the one on which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Hours {
    days: [bool; 7],
    from: u16,
    to: u16,
}

/// Text that names no hours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' names no hours: they are two times of the day like 22:00-07:00, with days before them when \
     not every day is meant: 'mon-fri 22:00-07:00', 'sat,sun 00:00-24:00'"
)]
pub(crate) struct HoursError(String);

/// Minutes of the local time since 1970, and the milliseconds into the last.
fn local(now: Timestamp, ahead_minutes: i16) -> (u64, u64) {
    let minutes = now.ms() / MINUTE_MS;
    (
        minutes.saturating_add_signed(ahead_minutes.into()),
        now.ms() % MINUTE_MS,
    )
}

impl Hours {
    /// Minutes it lasts.
    fn length(self) -> u64 {
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        if from < to {
            to - from
        } else {
            DAY_MINUTES - from + to
        }
    }

    /// Whether it begins on a day, counted from 1970.
    fn begins_on(self, day: u64) -> bool {
        let place = usize::try_from((day + FIRST_DAY) % 7).unwrap_or(0);
        self.days.get(place).copied().unwrap_or(false)
    }

    fn includes(self, minutes: u64) -> bool {
        let today = minutes / DAY_MINUTES;
        // It may have begun yesterday.
        [Some(today), today.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|day| {
                let begins = day * DAY_MINUTES + u64::from(self.from);
                self.begins_on(day) && (begins..begins + self.length()).contains(&minutes)
            })
    }

    /// When it begins next, in minutes from `minutes`.
    fn begins_in(self, minutes: u64) -> Option<u64> {
        let today = minutes / DAY_MINUTES;
        (today..=today + 7)
            .filter(|day| self.begins_on(*day))
            .map(|day| day * DAY_MINUTES + u64::from(self.from))
            .find(|begins| *begins > minutes)
            .map(|begins| begins - minutes)
    }
}

/// Whether it is time to sell; when it is not, when it will be. Without hours it always is.
pub(crate) fn closed_until(
    hours: &[Hours],
    now: Timestamp,
    ahead_minutes: i16,
) -> Option<Timestamp> {
    let (minutes, into) = local(now, ahead_minutes);
    if hours.is_empty() || hours.iter().any(|hours| hours.includes(minutes)) {
        return None;
    }
    let next = hours.iter().filter_map(|hours| hours.begins_in(minutes));
    let wait = next.min().unwrap_or(7 * DAY_MINUTES);
    Some(now.after_ms((wait * MINUTE_MS).saturating_sub(into)))
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let mut runs: Vec<(usize, usize)> = Vec::new();
            for (day, _) in self.days.iter().enumerate().filter(|(_, on)| **on) {
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == day => *last = day,
                    _ => runs.push((day, day)),
                }
            }
            let name = |day: usize| DAYS.get(day).copied().unwrap_or_default();
            let runs: Vec<String> = runs
                .into_iter()
                .map(|(first, last)| match last - first {
                    0 => name(first).to_owned(),
                    1 => format!("{},{}", name(first), name(last)),
                    _ => format!("{}-{}", name(first), name(last)),
                })
                .collect();
            write!(f, "{} ", runs.join(","))?;
        }
        let clock = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{}-{}", clock(self.from), clock(self.to))
    }
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let parsed = match words.as_slice() {
            [hours] => times(hours).map(|(from, to)| ([true; 7], from, to)),
            [days, hours] => days_of(days)
                .zip(times(hours))
                .map(|(days, (from, to))| (days, from, to)),
            _ => None,
        };
        let (days, from, to) = parsed.ok_or_else(|| HoursError(text.to_owned()))?;
        Ok(Self { days, from, to })
    }
}

impl TryFrom<String> for Hours {
    type Error = HoursError;

    fn try_from(text: String) -> Result<Self, HoursError> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

fn times(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (clock(from)?, clock(to)?);
    // 24:00 ends a day and begins none.
    (from < 1_440 && from != to).then_some((from, to))
}

fn clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str, most: u16| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n: &u16| digits && *n <= most)
    };
    let minutes = two(hour, 24)? * 60 + two(minute, 59)?;
    (minutes <= 1_440).then_some(minutes)
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let place = |name: &str| {
        let name = name.to_ascii_lowercase();
        DAYS.iter().position(|day| *day == name)
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (place(first)?, place(last)?),
            None => (place(part)?, place(part)?),
        };
        // sat-mon goes on after Sunday.
        let count = (last + 7 - first) % 7;
        for step in 0..=count {
            if let Some(day) = days.get_mut((first + step) % 7) {
                *day = true;
            }
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * MINUTE_MS;
    /// Friday 2027-01-15, 08:00 UTC.
    const FRIDAY_8: Timestamp = Timestamp::from_ms(1_800_000_000_000);

    fn hours(texts: &[&str]) -> Vec<Hours> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn hours_are_written_as_they_are_read() {
        for text in [
            "22:00-07:00",
            "00:00-24:00",
            "mon-fri 22:00-07:00",
            "sat,sun 00:00-24:00",
            "mon,wed-fri,sun 09:30-12:00",
        ] {
            assert_eq!(hours(&[text])[0].to_string(), text);
        }
        assert_eq!(
            hours(&["sat-mon 1:0-02:00".replace("1:0", "01:00").as_str()])[0].to_string(),
            "mon,sat,sun 01:00-02:00"
        );
        for bad in [
            "",
            "22-7",
            "22:00",
            "22:00-22:00",
            "24:00-07:00",
            "25:00-07:00",
            "1:00-02:00",
            "someday 22:00-07:00",
            "mon fri 22:00-07:00",
            "mon- 22:00-07:00",
            "22:00-24:01",
        ] {
            assert!(bad.parse::<Hours>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn hours_say_when_they_begin() {
        for (texts, ahead, until) in [
            // Without hours, and within them, over midnight and on their days.
            (&[][..], 0, None),
            (&["08:00-08:01"], 0, None),
            (&["22:00-09:00"], 0, None),
            (&["thu 22:00-09:00"], 0, None),
            (&["22:00-07:00", "07:30-08:30"], 0, None),
            (&["17:00-18:00"], 9 * 60, None),
            (&["00:00-24:00"], -14 * 60, None),
            // Outside of them.
            (&["22:00-08:00"], 0, Some(14 * HOUR)),
            (&["fri 22:00-09:00"], 0, Some(14 * HOUR)),
            (&["22:00-07:00", "08:30-09:00"], 0, Some(HOUR / 2)),
            (&["22:00-07:00"], 9 * 60, Some(5 * HOUR)),
            (&["fri 07:00-08:00"], 0, Some(7 * 24 * HOUR - HOUR)),
            (&["mon 00:00-24:00"], 0, Some(64 * HOUR)),
        ] {
            let closed = closed_until(&hours(texts), FRIDAY_8, ahead);
            assert_eq!(
                closed.map(|until| until.since_ms(FRIDAY_8)),
                until,
                "{texts:?} {ahead}"
            );
        }
        // To the millisecond.
        let later = FRIDAY_8.after_ms(1);
        let closed = closed_until(&hours(&["08:01-09:00"]), later, 0);
        assert_eq!(closed, Some(FRIDAY_8.after_ms(MINUTE_MS)));
    }
}
