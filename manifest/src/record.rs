//! What can be told of a journal's record from its bytes alone: when, and which kind of event.
//!
//! The rest of a record is a row of the node's wallet, which only the node reads.

use crate::time::Timestamp;

/// Longest record. The longest there is, a mandate with every list full, has some 14,000 bytes.
pub const RECORD_MAX: usize = 24 * 1_024;

/// How every record starts.
const VERSION: u8 = 1;

/// What can be told of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// When it happened.
    pub at: Timestamp,
    /// What happened, in one word.
    pub event: &'static str,
}

impl Glance {
    /// Looks at a record: u8 version, the time and the number of the kind as varints. `None` when it is
    /// not one of a kind that is known here, or too long.
    pub fn at(record: &[u8]) -> Option<Self> {
        if record.len() > RECORD_MAX {
            return None;
        }
        let (version, rest) = record.split_first()?;
        let (ms, rest) = varint(rest)?;
        let (kind, rest) = varint(rest)?;
        let event = match kind {
            0 => "transfer",
            1 => "renewed",
            2 => "mandate",
            3 => "approval",
            // An option: what was frozen is there.
            4 if rest.first()? == &0 => "unfreeze",
            4 => "freeze",
            5 => "quota",
            6 => "refused",
            7 => "opening",
            8 => "token",
            9 => "owner",
            _ => return None,
        };
        (*version == VERSION).then_some(Self {
            at: Timestamp::from_ms(ms),
            event,
        })
    }
}

/// An integer of 7 bits in each byte, lowest first, the last below 128.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let part = u64::from(byte & 0x7f);
        let shift = u32::try_from(at).ok()?.checked_mul(7)?;
        let shifted = part.checked_shl(shift)?;
        if shifted.checked_shr(shift)? != part {
            return None;
        }
        value |= shifted;
        if *byte < 0x80 {
            return Some((value, bytes.split_at_checked(at.checked_add(1)?)?.1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_it_was_written() {
        for (bytes, ms) in [
            (vec![0], 0),
            (vec![127], 127),
            (vec![0x80, 1], 128),
            (vec![0xff; 9].into_iter().chain([1]).collect(), u64::MAX),
        ] {
            assert_eq!(varint(&bytes), Some((ms, &[][..])));
        }
        assert_eq!(varint(&[0xff; 10]), None);
        assert_eq!(varint(&[0x80]), None);
        assert_eq!(varint(&[]), None);
        let over: Vec<u8> = vec![0xff; 9].into_iter().chain([2]).collect();
        assert_eq!(varint(&over), None);
    }

    #[test]
    fn only_records_of_kinds_that_are_known_are_any() {
        let glance = Glance::at(&[1, 5, 4, 0]).unwrap();
        assert_eq!((glance.at.ms(), glance.event), (5, "unfreeze"));
        for none in [
            &[][..],
            &[1],
            &[1, 5],
            &[2, 5, 4, 0],
            &[1, 5, 10],
            &[1, 5, 4],
        ] {
            assert_eq!(Glance::at(none), None, "{none:?}");
        }
        assert_eq!(Glance::at(&vec![1; RECORD_MAX + 1]), None);
    }
}
