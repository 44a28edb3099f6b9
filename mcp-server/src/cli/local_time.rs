//! Times as people read and write them: local on the screen, RFC 3339 everywhere else.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use tirami_manifest::Timestamp;

use super::clock;

/// A moment in RFC 3339 as local time, to the minute; anything else as it is.
pub(super) fn minute(rfc3339: &str) -> String {
    shown(rfc3339, "%Y-%m-%d %H:%M")
}

/// A moment in RFC 3339 as local time with its distance from UTC; anything else as it is.
pub(super) fn exact(rfc3339: &str) -> String {
    shown(rfc3339, "%Y-%m-%d %H:%M:%S %:z")
}

fn shown(rfc3339: &str, format: &str) -> String {
    match rfc3339.parse::<jiff::Timestamp>() {
        Ok(moment) => moment
            .to_zoned(TimeZone::system())
            .strftime(format)
            .to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// Reads a moment: RFC 3339, or a local date with or without a time of the day.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    let zoned = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Ok(moment),
        Err(_) => text
            .parse::<DateTime>()
            .and_then(|local| local.to_zoned(TimeZone::system()))
            .map(|zoned| zoned.timestamp()),
    };
    zoned.ok().and_then(milliseconds).ok_or_else(|| {
        format!(
            "'{text}' is not a moment; write 2026-01-31T12:00:00Z, or a local 2026-01-31 or \
             2026-01-31T12:00"
        )
    })
}

/// Reads when something ends: a moment, or how long from now, such as `7d` or `12h`.
pub(super) fn end(text: &str) -> Result<Timestamp, String> {
    end_after(text, clock::now()).ok_or_else(|| {
        format!(
            "'{text}' is neither a moment nor a duration; write 2026-01-31T12:00:00Z, 7d or 12h"
        )
    })
}

fn end_after(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(moment) = moment(text) {
        return Some(moment);
    }
    let span: Span = text.parse().ok()?;
    let now = jiff::Timestamp::from_millisecond(i64::try_from(now.ms()).ok()?).ok()?;
    let end: Zoned = now.to_zoned(TimeZone::system()).checked_add(span).ok()?;
    milliseconds(end.timestamp())
}

fn milliseconds(moment: jiff::Timestamp) -> Option<Timestamp> {
    let ms = u64::try_from(moment.as_millisecond()).ok()?;
    Some(Timestamp::from_ms(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_with_and_without_its_distance_from_utc() {
        let read = |text| moment(text).map(Timestamp::to_rfc3339);
        for text in ["2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00"] {
            assert_eq!(read(text).as_deref(), Ok("2026-01-31T12:00:00.000Z"));
        }
        assert!(read("2026-01-31").is_ok() && read("2026-01-31T12:00").is_ok());
        for bad in ["", "yesterday", "2026-13-01", "1969-01-01T00:00:00Z", "7d"] {
            assert!(read(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_end_is_a_moment_or_a_duration() {
        let now = Timestamp::from_ms(1_800_000_000_000);
        let after = |text| end_after(text, now).map(|end| end.since_ms(now));
        assert_eq!(after("12h"), Some(12 * 3_600_000));
        assert_eq!(after("90s"), Some(90_000));
        // A day is a day of the calendar, and may have an hour more or less.
        let week = after("7d").unwrap_or(0);
        assert!(week.abs_diff(7 * 24 * 3_600_000) <= 3_600_000, "{week}");
        assert_eq!(after("never"), None);
        assert_eq!(
            end_after("2026-01-31T12:00:00Z", now)
                .map(Timestamp::to_rfc3339)
                .as_deref(),
            Some("2026-01-31T12:00:00.000Z")
        );
    }

    #[test]
    fn what_is_no_moment_is_shown_as_it_is() {
        assert_eq!(minute("soon"), "soon");
        assert_eq!(minute("2026-01-31T12:00:00.250Z").len(), 16);
        assert_eq!(exact("2026-01-31T12:00:00.250Z").len(), 26);
    }
}
