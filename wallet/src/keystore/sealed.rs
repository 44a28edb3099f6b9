//! Bytes under a passphrase: Argon2id and XChaCha20-Poly1305, with what the file is bound in.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use tirami_manifest::bytes::{DecodeError, Reader, Writer};
use zeroize::Zeroizing;

use super::{KeyError, random};

/// Argon2id memory in KiB, passes and lanes; OWASP's recommendation of 19 MiB, 2 and 1, doubled in
/// memory because it is asked for rarely.
const ARGON: (u32, u32, u32) = (38_912, 2, 1);

/// Length of what stands before the ciphertext.
pub const HEAD: usize = 16 + 12 + 16 + 24;

/// Shortest passphrase that is taken; chosen.
pub const PASSPHRASE_MIN: usize = 8;

/// A secret that is wiped from memory when dropped.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a passphrase as typed, without the line end.
    pub fn new(text: String) -> Self {
        // Shortened in place: a copy would leave the original in memory.
        let mut text = Zeroizing::new(text);
        let end = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(end);
        Self(text)
    }

    /// Refuses one that is easy to guess.
    ///
    /// # Errors
    ///
    /// [`KeyError::TooShort`].
    pub fn long_enough(&self) -> Result<(), KeyError> {
        let have = self.0.chars().count();
        if have < PASSPHRASE_MIN {
            return Err(KeyError::TooShort { have });
        }
        Ok(())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Why something under a passphrase does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It is damaged, or something else.
    Damaged(&'static str),
    /// The passphrase is wrong, or the bytes were changed.
    Passphrase,
}

/// Puts bytes under a passphrase. `magic` says what they are.
///
/// # Errors
///
/// [`KeyError::Random`].
pub fn seal(magic: &[u8; 16], passphrase: &Passphrase, plain: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (head, cipher, nonce) = begin(magic, passphrase)?;
    let payload = Payload {
        msg: plain,
        aad: &head,
    };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(|_| KeyError::Random("it could not be encrypted".to_owned()))?;
    Ok([head.as_slice(), &sealed].concat())
}

/// The bytes again.
///
/// # Errors
///
/// [`Unopened`].
pub fn open(
    magic: &[u8; 16],
    passphrase: &Passphrase,
    bytes: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let damaged = Unopened::Damaged("its head is damaged");
    let (head, sealed) = bytes.split_first_chunk::<HEAD>().ok_or(damaged)?;
    let (cipher, nonce) = again(magic, passphrase, head)?;
    let payload = Payload {
        msg: sealed,
        aad: head,
    };
    let plain = cipher.decrypt(&XNonce::from(nonce), payload);
    plain.map(Zeroizing::new).map_err(|_| Unopened::Passphrase)
}

/// A new head, and the cipher and nonce that go with it.
///
/// # Errors
///
/// [`KeyError::Random`].
pub fn begin(
    magic: &[u8; 16],
    passphrase: &Passphrase,
) -> Result<(Vec<u8>, XChaCha20Poly1305, [u8; 24]), KeyError> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    for bytes in [salt.as_mut_slice(), &mut nonce] {
        random(bytes).map_err(|e| KeyError::Random(e.to_string()))?;
    }
    let mut head = Writer::default();
    let (memory, passes, lanes) = ARGON;
    head.raw(magic)
        .u32(memory)
        .u32(passes)
        .u32(lanes)
        .raw(&salt)
        .raw(&nonce);
    let cipher = cipher(passphrase, &salt, ARGON)
        .ok_or_else(|| KeyError::Random("it could not be encrypted".to_owned()))?;
    Ok((head.finish(), cipher, nonce))
}

/// The cipher and nonce of a head that was written before.
///
/// # Errors
///
/// [`Unopened::Damaged`].
pub fn again(
    magic: &[u8; 16],
    passphrase: &Passphrase,
    head: &[u8; HEAD],
) -> Result<(XChaCha20Poly1305, [u8; 24]), Unopened> {
    let Head {
        settings,
        salt,
        nonce,
    } = parse(magic, head).map_err(|_| Unopened::Damaged("its head is damaged"))?;
    let out_of_range = Unopened::Damaged("its settings are out of range");
    // A file could ask for any amount of memory; one we wrote never asks for more than ours.
    if settings.0 > ARGON.0.saturating_mul(8) || settings.1 > 64 || settings.2 > 8 {
        return Err(out_of_range);
    }
    let cipher = cipher(passphrase, &salt, settings).ok_or(out_of_range)?;
    Ok((cipher, nonce))
}

struct Head {
    settings: (u32, u32, u32),
    salt: [u8; 16],
    nonce: [u8; 24],
}

/// Magic, Argon2id memory, passes and lanes (`u32` each), salt (16), nonce (24).
fn parse(magic: &[u8; 16], bytes: &[u8]) -> Result<Head, DecodeError> {
    let mut from = Reader::new(bytes);
    if &from.raw::<16>("magic")? != magic {
        return Err(DecodeError::Value("magic"));
    }
    Ok(Head {
        settings: (from.u32("memory")?, from.u32("passes")?, from.u32("lanes")?),
        salt: from.raw("salt")?,
        nonce: from.raw("nonce")?,
    })
}

fn cipher(
    passphrase: &Passphrase,
    salt: &[u8],
    (memory, passes, lanes): (u32, u32, u32),
) -> Option<XChaCha20Poly1305> {
    let params = Params::new(memory, passes, lanes, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.0.as_bytes(), salt, key.as_mut_slice())
        .ok()?;
    Some(XChaCha20Poly1305::new((&*key).into()))
}
