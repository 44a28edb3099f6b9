//! The owner's side of an order: making the key, opening it with the passphrase, signing.
//!
//! This runs in the process the owner types in, never in the node that obeys.

use std::path::Path;

use tirami_manifest::OwnerId;
use tirami_manifest::id::to_hex;
use tirami_manifest::owner::OwnerOrder;
use tirami_manifest::signed::Signed;
use tirami_wallet::keystore;

use crate::data_dir;
use crate::failure::{Failure, FailureCode};

pub use tirami_wallet::keystore::{PASSPHRASE_MIN, Passphrase};

/// What a token is known by in an order.
pub use tirami_wallet::token::{MAIN_AGENT, agent_id, token_hash};

/// Makes the owner's key in the data directory.
///
/// # Errors
///
/// A [`Failure`]: too short a passphrase, a key that is there already, or the disk.
pub fn create(dir: &Path, passphrase: &Passphrase) -> Result<OwnerId, Failure> {
    Ok(keystore::create_owner_key(&data_dir::owner_key(dir), passphrase)?.owner_id())
}

/// The owner id of the key in the data directory.
///
/// # Errors
///
/// A [`Failure`], also when the passphrase is wrong.
pub fn id(dir: &Path, passphrase: &Passphrase) -> Result<OwnerId, Failure> {
    Ok(open(dir, passphrase)?.owner_id())
}

/// Signs an order, in the form [`crate::ops::Obey`] takes.
///
/// # Errors
///
/// A [`Failure`], also when the passphrase is wrong.
pub fn sign(dir: &Path, passphrase: &Passphrase, order: OwnerOrder) -> Result<String, Failure> {
    let key = open(dir, passphrase)?;
    Ok(to_hex(&Signed::new(order, &key).to_bytes()))
}

fn open(dir: &Path, passphrase: &Passphrase) -> Result<tirami_manifest::key::SecretKey, Failure> {
    let path = data_dir::owner_key(dir);
    if !path.exists() {
        return Err(Failure::new(
            FailureCode::OwnerRequired,
            "this node has no owner key here",
        )
        .hint("run 'tirami-agent owner init' first, or restore owner.key from a backup"));
    }
    Ok(keystore::open_owner_key(&path, passphrase)?)
}
