//! How busy the machine is.

use std::path::Path;
use std::thread::available_parallelism;

/// Where Linux says it.
pub(crate) const LOADAVG: &str = "/proc/loadavg";

/// The load of the last minute in percent of what the machine's processors can do; `None` where the
/// system does not say.
pub(crate) fn percent(file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let processors = available_parallelism().map_or(1, usize::from);
    let hundredths = hundredths(&text)?;
    u32::try_from(hundredths / u64::try_from(processors).unwrap_or(1)).ok()
}

/// The first figure of `/proc/loadavg`, such as `0.42`, in hundredths.
fn hundredths(text: &str) -> Option<u64> {
    let figure = text.split_whitespace().next()?;
    let (whole, part) = figure.split_once('.')?;
    let (whole, part): (u64, u64) = (whole.parse().ok()?, part.get(..2)?.parse().ok()?);
    whole.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_of_the_last_minute_is_read() {
        assert_eq!(hundredths("0.42 0.30 0.20 1/234 5678\n"), Some(42));
        assert_eq!(hundredths("12.05 1.00 1.00 1/1 1"), Some(1_205));
        for bad in ["", "one two", "1 2 3", "-1.00 1.00", "1.5 2.0"] {
            assert_eq!(hundredths(bad), None, "{bad:?}");
        }
        assert_eq!(percent(Path::new("/nowhere/at/all")), None);
    }
}
