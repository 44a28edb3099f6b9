#![expect(
    clippy::missing_errors_doc,
    reason = "every reader method fails as `Reader::raw` says"
)]
//! Signed bytes: a fixed little-endian layout written and read by hand.
//!
//! Integers are little-endian. Byte strings and lists carry a `u32` length or count first. A reader
//! refuses trailing bytes, oversize strings and anything it does not know. The layouts are in
//! `docs/protocol.md`, the vectors in `manifest/tests/golden.rs`.

use crate::amount::Amount;

/// Longest byte string inside a signed document; chosen so that a document stays under 4 096 bytes
/// where it is gossiped, with room for a genesis that names a few dozen keys.
pub const STRING_MAX: usize = 4_096;

/// Why bytes are not a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than the layout needs.
    #[error("the bytes end in the middle of {0}")]
    Truncated(&'static str),
    /// Bytes after the end of the layout.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A version this build does not know.
    #[error("version {0} is not known here")]
    Version(u8),
    /// A field with a value outside its range.
    #[error("{0} has a value that is not allowed")]
    Value(&'static str),
}

/// Appends fields in layout order.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Fixed-length bytes, as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A `u32` length, then the bytes.
    ///
    /// # Panics
    ///
    /// Above 4 GiB, which no caller reaches.
    pub fn string(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("a string in a document is far below 4 GiB"));
        self.raw(bytes)
    }
}

/// Takes fields in layout order.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`] when bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.rest.len()))
        }
    }

    /// Takes `N` bytes as they are.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when there are fewer; the same holds for every method below.
    pub fn raw<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(*head)
    }

    /// Takes one byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.raw(field).map(u8::from_le_bytes)
    }

    /// Takes two bytes.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.raw(field).map(u16::from_le_bytes)
    }

    /// Takes four bytes.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.raw(field).map(u32::from_le_bytes)
    }

    /// Takes eight bytes.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.raw(field).map(u64::from_le_bytes)
    }

    /// Takes an amount.
    pub fn amount(&mut self, field: &'static str) -> Result<Amount, DecodeError> {
        Amount::from_utrm(self.u64(field)?).map_err(|_| DecodeError::Value(field))
    }

    /// Takes a length and that many bytes, at most [`STRING_MAX`].
    pub fn string(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.u32(field)?).map_err(|_| DecodeError::Value(field))?;
        if len > STRING_MAX {
            return Err(DecodeError::Value(field));
        }
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes a length and that many bytes of UTF-8.
    pub fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let bytes = self.string(field)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Value(field))
    }

    /// Takes a version byte and refuses any but `1`.
    pub fn version_1(&mut self) -> Result<(), DecodeError> {
        match self.u8("version")? {
            1 => Ok(()),
            other => Err(DecodeError::Version(other)),
        }
    }
}
