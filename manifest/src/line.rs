//! Bytes as one line of text that can be copied by hand: a prefix that says what it is, then base64url
//! of the bytes and the first four bytes of their SHA-256.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Why a line does not carry bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    /// It starts with something else.
    Prefix,
    /// Letters were lost or changed.
    Damaged,
}

/// The bytes as a line.
pub(crate) fn write(prefix: &str, mut bytes: Vec<u8>) -> String {
    bytes.extend(checksum(&bytes));
    format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads what [`write`] wrote; space around it does not matter.
pub(crate) fn read(prefix: &str, text: &str) -> Result<Vec<u8>, LineError> {
    let text = text.trim().strip_prefix(prefix).ok_or(LineError::Prefix)?;
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| LineError::Damaged)?;
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(LineError::Damaged)?;
    if checksum(body) == *sum {
        Ok(body.to_vec())
    } else {
        Err(LineError::Damaged)
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    [digest[0], digest[1], digest[2], digest[3]]
}
