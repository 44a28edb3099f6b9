//! Keys at rest: the node's and its successor's in files only their user can read, under a passphrase
//! where one was chosen; the owner's always under a passphrase.

mod file;
pub mod sealed;

use std::path::{Path, PathBuf};

use tirami_manifest::key::SecretKey;
use zeroize::Zeroizing;

use crate::store::StoreError;

pub use crate::draft::sync_folder;
use file::read;
pub use file::{replace, write_new};
use sealed::Unopened;
pub use sealed::{PASSPHRASE_MIN, Passphrase};

/// First bytes of an owner key file, also bound into its encryption.
const OWNER_MAGIC: &[u8; 16] = b"tirami-owner-01\0";

/// First bytes of a node key file under a passphrase, also bound into its encryption.
const NODE_MAGIC: &[u8; 16] = b"tirami-node-01\0\0";

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
    /// It is under a passphrase, and none was given.
    #[error("{path} is under a passphrase, and none was given")]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// Too easy to guess.
    #[error("the passphrase has {have} characters; at least {PASSPHRASE_MIN} are needed")]
    TooShort {
        /// How many it has.
        have: usize,
    },
    /// There is one already.
    #[error("{path} exists already and was left alone")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The system has no random numbers.
    #[error("the system gave no random numbers: {0}")]
    Random(String),
}

/// Reads the node's key, or makes one: 32 bytes in a file of mode 600, which [`keep`] puts under a
/// passphrase.
///
/// # Errors
///
/// [`KeyError::Locked`] where a passphrase is needed and none is given, or another [`KeyError`].
pub fn node_key(path: &Path, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyError> {
    match read_key(path, passphrase) {
        Err(KeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            match make(path, passphrase) {
                // Another process of this node was faster; its key is the node's.
                Err(KeyError::Exists { .. }) => read_key(path, passphrase),
                made => made,
            }
        }
        other => other,
    }
}

/// Makes a key in a file that was not there, under a passphrase where one is given.
fn make(path: &Path, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    random(bytes.as_mut_slice()).map_err(|e| KeyError::Random(e.to_string()))?;
    match passphrase {
        None => write_new(path, bytes.as_slice())?,
        Some(passphrase) => write_new(
            path,
            &sealed::seal(NODE_MAGIC, passphrase, bytes.as_slice())?,
        )?,
    }
    Ok(SecretKey::from_bytes(&bytes))
}

/// Reads a key that is there.
///
/// # Errors
///
/// [`KeyError::Locked`] where a passphrase is needed and none is given, or another [`KeyError`].
pub fn read_key(path: &Path, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyError> {
    let bytes = read(path)?;
    if let Ok(bytes) = <&[u8; 32]>::try_from(bytes.as_slice()) {
        return Ok(SecretKey::from_bytes(bytes));
    }
    if !bytes.starts_with(NODE_MAGIC) {
        return Err(KeyError::Damaged {
            path: path.into(),
            what: "it does not hold 32 bytes",
        });
    }
    let passphrase = passphrase.ok_or_else(|| KeyError::Locked { path: path.into() })?;
    opened(NODE_MAGIC, path, passphrase, &bytes)
}

/// Whether the key in a file is under a passphrase.
///
/// # Errors
///
/// [`KeyError`].
pub fn is_protected(path: &Path) -> Result<bool, KeyError> {
    Ok(read(path)?.starts_with(NODE_MAGIC))
}

/// Puts a key into the place of the one in a file, under a passphrase where one is given: written whole
/// or not at all.
///
/// # Errors
///
/// [`KeyError::TooShort`], or another [`KeyError`].
pub fn keep(path: &Path, key: &SecretKey, passphrase: Option<&Passphrase>) -> Result<(), KeyError> {
    let secret = key.to_bytes();
    let Some(passphrase) = passphrase else {
        return replace(path, secret.as_slice());
    };
    passphrase.long_enough()?;
    replace(
        path,
        &sealed::seal(NODE_MAGIC, passphrase, secret.as_slice())?,
    )
}

/// Makes an owner key and writes it encrypted. The file never overwrites another.
///
/// # Errors
///
/// [`KeyError::TooShort`], [`KeyError::Exists`], or another [`KeyError`].
pub fn create_owner_key(path: &Path, passphrase: &Passphrase) -> Result<SecretKey, KeyError> {
    passphrase.long_enough()?;
    if path.exists() {
        return Err(KeyError::Exists { path: path.into() });
    }
    let mut secret = Zeroizing::new([0; 32]);
    random(secret.as_mut_slice()).map_err(|e| KeyError::Random(e.to_string()))?;
    let sealed = sealed::seal(OWNER_MAGIC, passphrase, secret.as_slice())?;
    write_new(path, &sealed)?;
    Ok(SecretKey::from_bytes(&secret))
}

/// Decrypts the owner key.
///
/// # Errors
///
/// [`KeyError::Passphrase`] when the passphrase does not open it, or another [`KeyError`].
pub fn open_owner_key(path: &Path, passphrase: &Passphrase) -> Result<SecretKey, KeyError> {
    opened(OWNER_MAGIC, path, passphrase, &read(path)?)
}

fn opened(
    magic: &[u8; 16],
    path: &Path,
    passphrase: &Passphrase,
    bytes: &[u8],
) -> Result<SecretKey, KeyError> {
    let damaged = |what| KeyError::Damaged {
        path: path.into(),
        what,
    };
    let secret = sealed::open(magic, passphrase, bytes).map_err(|why| match why {
        Unopened::Damaged(what) => damaged(what),
        Unopened::Passphrase => KeyError::Passphrase,
    })?;
    <&[u8; 32]>::try_from(secret.as_slice())
        .map(SecretKey::from_bytes)
        .map_err(|_| damaged("it does not hold 32 bytes"))
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
