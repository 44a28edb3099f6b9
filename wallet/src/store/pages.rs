//! Just enough of redb's file format to check a page before anything acts upon it.
//!
//! redb keeps a checksum of every page in the page that points to it, up to the two commit slots in
//! the header, which carry their own. It verifies them only when it repairs a file or is asked for
//! all of them at once. Here they are verified as pages are read; see `docs/adr/0006`. The format is
//! redb's file format 3, described in its `docs/design.md`; `Cargo.lock` and the tests of the crash
//! suite pin it.

use std::io;

use twox_hash::XxHash3_128;

/// redb's page, and the header's.
pub(super) const PAGE: u64 = 4_096;

/// Bytes of the header that mean something: 64, and two slots of 128.
const HEADER: usize = 320;

/// The byte of the header whose lowest bit names the newest slot.
const NEWEST: usize = 9;

/// What a page is, which says how long the checked part of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// The tree of tables, whose values are roots of others.
    tables: bool,
    /// Width of a key and of a value, where all have the same.
    key: Option<usize>,
    value: Option<usize>,
}

/// The tree of tables: names to definitions, both of any length.
const TABLES: Kind = Kind {
    tables: true,
    key: None,
    value: None,
};

/// A page that something sound points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) checksum: u128,
    pub(super) kind: Kind,
}

/// Where pages lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Geometry {
    region_header: u64,
    region: u64,
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(word(bytes, at)?)).ok()
}

/// A width, where all are the same.
fn width(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        0 => None,
        _ => number(bytes, at.checked_add(1)?),
    }
}

/// `base + each * count`.
fn place(base: usize, each: usize, count: usize) -> Option<usize> {
    base.checked_add(each.checked_mul(count)?)
}

impl Geometry {
    /// Reads where pages lie out of the header.
    fn of(header: &[u8]) -> Option<Self> {
        let pages = |at| Some(u64::from(u32::from_le_bytes(word(header, at)?)));
        let (head, most) = (pages(16)?, pages(20)?);
        Some(Self {
            region_header: head.checked_mul(PAGE)?,
            region: head.checked_add(most)?.checked_mul(PAGE)?,
        })
    }

    /// Where page `number` starts.
    fn offset(self, number: u64) -> Option<u64> {
        let order = u32::try_from(number.checked_shr(59)?).ok()?;
        let index = number & (0x000f_ffff_u64.checked_shr(order)?);
        let region = number.checked_shr(20)? & 0x000f_ffff;
        let inside = index.checked_mul(PAGE.checked_shl(order)?)?;
        PAGE.checked_add(region.checked_mul(self.region)?)?
            .checked_add(self.region_header)?
            .checked_add(inside)
    }

    /// The page that a root says: its number, its checksum.
    fn root(self, bytes: &[u8], at: usize, kind: Kind) -> Option<(u64, Expected)> {
        let offset = self.offset(u64::from_le_bytes(word(bytes, at)?))?;
        let checksum = u128::from_le_bytes(word(bytes, at.checked_add(8)?)?);
        Some((offset, Expected { checksum, kind }))
    }
}

/// What the header says: where pages lie, and the roots of each slot that is what was written.
pub(super) fn roots(header: &[u8]) -> Option<(Geometry, Vec<(u64, Expected)>)> {
    let geometry = Geometry::of(header)?;
    let mut roots = Vec::new();
    for at in [64, 192] {
        let slot: [u8; 128] = word(header, at)?;
        let (said, sum) = slot.split_last_chunk::<16>()?;
        if XxHash3_128::oneshot(said) != u128::from_le_bytes(*sum) {
            continue;
        }
        for (there, at) in [(1, 8), (2, 40)] {
            if slot.get(there) != Some(&0) {
                roots.push(geometry.root(&slot, at, TABLES)?);
            }
        }
    }
    Some((geometry, roots))
}

/// Whether bytes at the file's start are a whole header.
pub(super) const fn is_header(offset: u64, len: usize) -> bool {
    offset == 0 && len >= HEADER
}

/// Which of its two slots a header calls the newest.
pub(super) fn newest(header: &[u8]) -> Option<u8> {
    header.get(NEWEST).map(|flags| flags & 1)
}

/// Checks a page, and tells what it points to.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] when it is not what was written.
pub(super) fn check(
    page: &[u8],
    expected: Expected,
    geometry: Geometry,
) -> io::Result<Vec<(u64, Expected)>> {
    sound(page, expected, geometry).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn sound(page: &[u8], expected: Expected, geometry: Geometry) -> Option<Vec<(u64, Expected)>> {
    let kind = expected.kind;
    let count = usize::from(u16::from_le_bytes(word(page, 2)?));
    let last = count.checked_sub(1)?;
    let branch = match page.first()? {
        1 => false,
        2 => true,
        _ => return None,
    };
    let end = if branch {
        branch_end(page, kind, count, last)?
    } else {
        leaf_end(page, kind, count, last)?
    };
    if XxHash3_128::oneshot(page.get(..end)?) != expected.checksum {
        return None;
    }
    if branch {
        children(page, kind, count, geometry)
    } else if kind.tables {
        tables(page, count, geometry)
    } else {
        Some(Vec::new())
    }
}

/// Where the last key of a branch ends: type, count, checksums, page numbers, ends, keys.
fn branch_end(page: &[u8], kind: Kind, count: usize, last: usize) -> Option<usize> {
    let ends = place(8, 24, count.checked_add(1)?)?;
    match kind.key {
        Some(width) => place(ends, width, count),
        None => number(page, place(ends, 4, last)?),
    }
}

/// Where the last value of a leaf ends: type, count, ends of keys, ends of values, keys, values.
fn leaf_end(page: &[u8], kind: Kind, count: usize, last: usize) -> Option<usize> {
    let value_ends = place(4, if kind.key.is_none() { 4 } else { 0 }, count)?;
    let Some(value) = kind.value else {
        return number(page, place(value_ends, 4, last)?);
    };
    let keys_end = match kind.key {
        Some(key) => place(4, key, count)?,
        None => number(page, place(4, 4, last)?)?,
    };
    place(keys_end, value, count)
}

fn children(
    page: &[u8],
    kind: Kind,
    count: usize,
    geometry: Geometry,
) -> Option<Vec<(u64, Expected)>> {
    let children = count.checked_add(1)?;
    let numbers = place(8, 16, children)?;
    (0..children)
        .map(|n| {
            let checksum = u128::from_le_bytes(word(page, place(8, 16, n)?)?);
            let child = u64::from_le_bytes(word(page, place(numbers, 8, n)?)?);
            Some((geometry.offset(child)?, Expected { checksum, kind }))
        })
        .collect()
}

/// The roots in a leaf of the tree of tables.
fn tables(page: &[u8], count: usize, geometry: Geometry) -> Option<Vec<(u64, Expected)>> {
    let mut roots = Vec::new();
    let value_ends = place(4, 4, count)?;
    let mut start = number(page, place(4, 4, count.checked_sub(1)?)?)?;
    for n in 0..count {
        let end = number(page, place(value_ends, 4, n)?)?;
        let table = page.get(start..end)?;
        start = end;
        // Type 3 has plain values; redb's other type is used by no table here.
        if *table.first()? != 3 {
            return None;
        }
        if *table.get(9)? != 0 {
            // A definition is longer than its widths, which end at byte 52.
            table.get(..52)?;
            let kind = Kind {
                tables: false,
                key: width(table, 42),
                value: width(table, 47),
            };
            roots.push(geometry.root(table, 10, kind)?);
        }
    }
    Some(roots)
}

/// The checksum of a page as this process wrote it, all of it.
pub(super) fn written(page: &[u8]) -> u128 {
    XxHash3_128::oneshot(page)
}
