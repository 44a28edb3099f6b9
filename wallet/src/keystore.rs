//! Keys at rest: the node's in a file only its user can read, the owner's under a passphrase.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use tirami_manifest::bytes::{DecodeError, Reader, Writer};
use tirami_manifest::id::to_hex;
use tirami_manifest::key::SecretKey;
use zeroize::Zeroizing;

use crate::store::StoreError;

/// Argon2id memory in KiB, passes and lanes; OWASP's recommendation of 19 MiB, 2 and 1, doubled in
/// memory because it is asked for rarely.
const ARGON: (u32, u32, u32) = (38_912, 2, 1);

/// First bytes of an owner key file, also bound into its encryption.
const OWNER_MAGIC: &[u8; 16] = b"tirami-owner-01\0";

/// Shortest passphrase that is taken; chosen.
pub const PASSPHRASE_MIN: usize = 8;

/// Largest file read as a key.
const FILE_MAX: u64 = 4_096;

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a key.
    #[error("{path} is not a key file ({what}); restore it from a backup")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// Others can read it.
    #[error("{path} can be read by others; run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It opens nothing.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// Too easy to guess.
    #[error("the passphrase has {have} characters; at least {PASSPHRASE_MIN} are needed")]
    TooShort {
        /// How many it has.
        have: usize,
    },
    /// There is one already.
    #[error("{path} exists already; this node has an owner")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system gave no random numbers: {0}")]
    Random(String),
}

/// Fills `bytes` from the system's random generator.
///
/// # Errors
///
/// [`StoreError::Io`] when the system has none.
pub fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place in this crate that throws dice"
    )]
    getrandom::fill(bytes).map_err(|e| StoreError::Io(format!("no random numbers: {e}")))
}

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
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Reads the node's key, or makes one: 32 bytes in a file of mode 600.
///
/// # Errors
///
/// [`KeyError`].
pub fn node_key(path: &Path) -> Result<SecretKey, KeyError> {
    match read(path) {
        Ok(bytes) => match <&[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Ok(SecretKey::from_bytes(bytes)),
            Err(_) => Err(KeyError::Damaged {
                path: path.into(),
                what: "it does not hold 32 bytes",
            }),
        },
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = Zeroizing::new([0; 32]);
            random(bytes.as_mut_slice()).map_err(|e| KeyError::Random(e.to_string()))?;
            match write_new(path, bytes.as_slice()) {
                Ok(()) => Ok(SecretKey::from_bytes(&bytes)),
                // Another process of this node was faster; its key is the node's.
                Err(KeyError::Exists { .. }) => node_key(path),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Makes an owner key and writes it encrypted. The file never overwrites another.
///
/// # Errors
///
/// [`KeyError::TooShort`], [`KeyError::Exists`], or another [`KeyError`].
pub fn create_owner_key(path: &Path, passphrase: &Passphrase) -> Result<SecretKey, KeyError> {
    let have = passphrase.0.chars().count();
    if have < PASSPHRASE_MIN {
        return Err(KeyError::TooShort { have });
    }
    if path.exists() {
        return Err(KeyError::Exists { path: path.into() });
    }
    let (mut secret, mut salt, mut nonce) = (Zeroizing::new([0; 32]), [0; 16], [0; 24]);
    for bytes in [secret.as_mut_slice(), &mut salt, &mut nonce] {
        random(bytes).map_err(|e| KeyError::Random(e.to_string()))?;
    }
    let mut head = Writer::default();
    let (memory, passes, lanes) = ARGON;
    head.raw(OWNER_MAGIC)
        .u32(memory)
        .u32(passes)
        .u32(lanes)
        .raw(&salt)
        .raw(&nonce);
    let head = head.finish();
    let sealed = cipher(passphrase, &salt, ARGON)
        .and_then(|cipher| {
            let payload = Payload {
                msg: secret.as_slice(),
                aad: &head,
            };
            cipher.encrypt(&XNonce::from(nonce), payload).ok()
        })
        .ok_or(KeyError::Damaged {
            path: path.into(),
            what: "it could not be encrypted",
        })?;
    write_new(path, &[head.as_slice(), &sealed].concat())?;
    Ok(SecretKey::from_bytes(&secret))
}

/// Decrypts the owner key.
///
/// # Errors
///
/// [`KeyError::Passphrase`] when the passphrase does not open it, or another [`KeyError`].
pub fn open_owner_key(path: &Path, passphrase: &Passphrase) -> Result<SecretKey, KeyError> {
    let bytes = read(path)?;
    let damaged = |what| KeyError::Damaged {
        path: path.into(),
        what,
    };
    let head = parse_head(&bytes).map_err(|_| damaged("its head is not an owner key's"))?;
    let Head {
        settings,
        salt,
        nonce,
        aad,
        sealed,
    } = head;
    // A file could ask for any amount of memory; one we wrote never asks for more than ours.
    if settings.0 > ARGON.0.saturating_mul(8) || settings.1 > 64 || settings.2 > 8 {
        return Err(damaged("its settings are out of range"));
    }
    let secret = cipher(passphrase, &salt, settings)
        .ok_or_else(|| damaged("its settings are out of range"))?
        .decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad })
        .map(Zeroizing::new)
        .map_err(|_| KeyError::Passphrase)?;
    <&[u8; 32]>::try_from(secret.as_slice())
        .map(SecretKey::from_bytes)
        .map_err(|_| damaged("it does not hold 32 bytes"))
}

struct Head<'a> {
    settings: (u32, u32, u32),
    salt: [u8; 16],
    nonce: [u8; 24],
    aad: &'a [u8],
    sealed: &'a [u8],
}

/// Magic, Argon2id memory, passes and lanes (`u32` each), salt (16), nonce (24), ciphertext.
fn parse_head(bytes: &[u8]) -> Result<Head<'_>, DecodeError> {
    const HEAD: usize = 16 + 12 + 16 + 24;
    let mut from = Reader::new(bytes);
    if &from.raw::<16>("magic")? != OWNER_MAGIC {
        return Err(DecodeError::Value("magic"));
    }
    let settings = (from.u32("memory")?, from.u32("passes")?, from.u32("lanes")?);
    let (salt, nonce) = (from.raw("salt")?, from.raw("nonce")?);
    let (aad, sealed) = bytes
        .split_at_checked(HEAD)
        .ok_or(DecodeError::Truncated("key"))?;
    Ok(Head {
        settings,
        salt,
        nonce,
        aad,
        sealed,
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

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let io = |source| KeyError::Io {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    refuse_exposed(&file, path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Writes a file of mode 600 that did not exist, durably: complete or not at all.
///
/// # Errors
///
/// [`KeyError::Exists`] or [`KeyError::Io`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io {
        path: path.into(),
        source,
    };
    // A name of its own, and never a file that is there: two processes that start at once must not
    // write into each other's draft, which after the link is the key itself.
    let mut unique = [0; 8];
    random(&mut unique).map_err(|e| KeyError::Random(e.to_string()))?;
    let draft = path.with_extension(format!("{}.new", to_hex(&unique)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(io)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    // A hard link does not replace what is there, a rename would.
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    std::fs::remove_file(&draft).map_err(io)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists { path: path.into() });
        }
        Err(error) => return Err(io(error)),
    }
    if let Some(folder) = path.parent() {
        // The parent of a bare file name is empty, which means here.
        let here = folder.as_os_str().is_empty();
        File::open(if here { Path::new(".") } else { folder })
            .and_then(|folder| folder.sync_all())
            .map_err(io)?;
    }
    Ok(())
}

#[cfg(unix)]
fn refuse_exposed(file: &File, path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::MetadataExt;
    let mode = file
        .metadata()
        .map_err(|source| KeyError::Io {
            path: path.into(),
            source,
        })?
        .mode();
    match mode & 0o077 {
        0 => Ok(()),
        _ => Err(KeyError::Exposed { path: path.into() }),
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_: &File, _: &Path) -> Result<(), KeyError> {
    Ok(())
}
