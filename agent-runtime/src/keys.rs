//! The node's keys: finding them at the start, and changing them while no node runs.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::NodeId;
use tirami_manifest::key::SecretKey;
use tirami_wallet::keystore::{self, KeyError, Passphrase};
use tirami_wallet::store::{Storage, StoreError};
use tirami_wallet::succession::Successor;
use tirami_wallet::{OpenOptions, Wallet, WalletError};

use crate::clock::SystemClock;
use crate::config::NodeConfig;
use crate::data_dir;
use crate::failure::{Failure, FailureCode};

/// Whether the node's key is under a passphrase; false where there is no key yet.
///
/// # Errors
///
/// A [`Failure`].
pub fn is_protected(dir: &Path) -> Result<bool, Failure> {
    match keystore::is_protected(&data_dir::node_key(dir)) {
        Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(false),
        other => Ok(other?),
    }
}

/// Puts the node's key under a passphrase, and that of its successor, or takes them out from under it. No
/// node may run there.
///
/// # Errors
///
/// A [`Failure`]; then each key is as it was, or as it was to be.
pub async fn protect(config: &NodeConfig, after: Option<&Passphrase>) -> Result<NodeId, Failure> {
    if let Some(after) = after {
        after.long_enough()?;
    }
    let (wallet, key) = alone(config).await?;
    let done = keep_all(config, after);
    wallet.close().await;
    done?;
    Ok(key.id())
}

/// The node's own key last: until then the present passphrase opens it.
fn keep_all(config: &NodeConfig, after: Option<&Passphrase>) -> Result<(), Failure> {
    let (dir, before) = (&config.data_dir, config.key_passphrase.as_deref());
    for path in [
        data_dir::next_key(dir),
        data_dir::successor_key(dir),
        data_dir::node_key(dir),
    ] {
        // One that was put under the passphrase before something went wrong is read all the same.
        let key = match keystore::read_key(&path, before) {
            Err(KeyError::Passphrase | KeyError::Locked { .. }) => {
                keystore::read_key(&path, after)?
            }
            Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        keystore::keep(&path, &key, after)?;
    }
    Ok(())
}

/// The wallet, with the key that it belongs to.
pub(crate) fn open(
    config: &NodeConfig,
    storage: Option<Storage>,
    options: impl Fn(Storage, SecretKey) -> OpenOptions,
) -> Result<(Wallet, SecretKey), Failure> {
    let (dir, passphrase) = (&config.data_dir, config.key_passphrase.as_deref());
    if storage.is_none() {
        data_dir::is_here(dir)?;
        data_dir::key_is_there(dir)?;
        data_dir::wallet_is_there(dir)?;
    }
    let path = data_dir::node_key(dir);
    let key = keystore::node_key(&path, passphrase)?;
    let Some(storage) = storage else {
        let file = || Storage::File(data_dir::wallet(dir));
        return match Wallet::open(options(file(), key.clone())) {
            Err(WalletError::Store(StoreError::OtherNode(node))) => {
                let Some(heir) = heir(dir, passphrase, &node)? else {
                    return Err(WalletError::Store(StoreError::OtherNode(node)).into());
                };
                // Whoever has the wallet ends the change of keys, and nobody else.
                let wallet = Wallet::open(options(file(), heir.clone()))?;
                data_dir::is_here(dir)?;
                if keystore::read_key(&path, passphrase)?.id() != node {
                    put_in_place(dir, passphrase, &node)?;
                }
                Ok((wallet, heir))
            }
            other => {
                let wallet = other?;
                // It may have left while this process waited for it.
                data_dir::is_here(dir)?;
                Ok((wallet, key))
            }
        };
    };
    Ok((Wallet::open(options(storage, key.clone()))?, key))
}

/// How long a process that is about to end may keep the wallet.
const PATIENCE: Duration = Duration::from_secs(5);

/// The wallet and its key, for something that no node may do meanwhile.
///
/// # Errors
///
/// [`FailureCode::InUse`] while a node runs there.
pub(crate) async fn alone(config: &NodeConfig) -> Result<(Wallet, SecretKey), Failure> {
    let clock = Arc::new(SystemClock);
    let options = |storage, key| OpenOptions {
        storage,
        clock: clock.clone(),
        key,
        hold_timeout_ms: config.hold_timeout_ms,
        stranger_budget: config.stranger_budget,
        cache_bytes: tirami_wallet::store::CACHE_BYTES,
    };
    let opening = async {
        loop {
            match open(config, None, options) {
                Err(failure) if failure.code == FailureCode::InUse => {}
                other => return other,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, opening)
        .await
        .unwrap_or_else(|_| {
            let text = format!("a process has the wallet in {}", config.data_dir.display());
            Err(Failure::new(FailureCode::InUse, text).hint("stop the node that runs there first"))
        })
}

/// The successor's key, where a change of keys was interrupted after the wallet knew of it.
fn heir(
    dir: &Path,
    passphrase: Option<&Passphrase>,
    node: &NodeId,
) -> Result<Option<SecretKey>, Failure> {
    match keystore::read_key(&data_dir::successor_key(dir), passphrase) {
        Ok(key) => Ok((key.id() == *node).then_some(key)),
        Err(KeyError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The successor's key, which must be this one, becomes the node's, in one step, and then the next one its
/// successor's. Only whoever has the wallet may do so.
fn put_in_place(dir: &Path, passphrase: Option<&Passphrase>, node: &NodeId) -> Result<(), Failure> {
    if heir(dir, passphrase, node)?.is_none() {
        let text = format!("the key of {node} is not in {}", dir.display());
        return Err(Failure::new(FailureCode::Store, text)
            .hint("put the successor's key back as successor.key: the wallet is that key's now"));
    }
    rename(&data_dir::successor_key(dir), &data_dir::node_key(dir))?;
    let next = data_dir::next_key(dir);
    if next.exists() {
        rename(&next, &data_dir::successor_key(dir))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    let renamed = std::fs::rename(from, to).and_then(|()| keystore::sync_folder(to));
    renamed.map_err(|source| {
        let path = PathBuf::from(from);
        KeyError::Io { path, source }.into()
    })
}

/// Makes the key that may succeed the node's and names it on the chain, as long as the chain has not begun.
pub(crate) async fn name_successor(config: &NodeConfig, wallet: &Wallet) -> Result<(), Failure> {
    let (dir, passphrase) = (&config.data_dir, config.key_passphrase.as_deref());
    let (path, next) = (data_dir::successor_key(dir), data_dir::next_key(dir));
    if next.exists() && !path.exists() {
        // A change of keys stopped before its last step.
        rename(&next, &path)?;
    }
    if wallet.successor()? != Successor::Open {
        return Ok(());
    }
    let key = keystore::node_key(&path, passphrase)?;
    wallet.name_successor(key.id()).await?;
    Ok(())
}

/// How a change of keys came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rotated {
    /// The key that the node had.
    pub before: NodeId,
    /// The one that it has.
    pub node: NodeId,
    /// Where the key is that may succeed it.
    pub successor_key: PathBuf,
}

/// Changes the node's key to the one that its chain named: from `successor`, or from the data directory
/// where that is `None`. No node may run there.
///
/// # Errors
///
/// A [`Failure`]; then nothing has changed.
pub async fn rotate(config: &NodeConfig, successor: Option<&Path>) -> Result<Rotated, Failure> {
    let (dir, passphrase) = (&config.data_dir, config.key_passphrase.as_deref());
    data_dir::prepare(dir)?;
    let (wallet, key) = alone(config).await?;
    let done = change(dir, passphrase, (&wallet, successor)).await;
    let placed = done.and_then(|node| {
        put_in_place(dir, passphrase, &node)?;
        Ok(node)
    });
    wallet.close().await;
    let node = placed?;
    Ok(Rotated {
        before: key.id(),
        node,
        successor_key: data_dir::successor_key(dir),
    })
}

async fn change(
    dir: &Path,
    passphrase: Option<&Passphrase>,
    (wallet, from): (&Wallet, Option<&Path>),
) -> Result<NodeId, Failure> {
    let here = data_dir::successor_key(dir);
    let path = from.unwrap_or(&here);
    let successor = keystore::read_key(path, passphrase).map_err(|error| match error {
        KeyError::Io { source, path } if source.kind() == ErrorKind::NotFound => Failure::new(
            FailureCode::NotFound,
            format!("there is no {}", path.display()),
        )
        .hint("give --successor FILE, where the successor's key was put"),
        error => error.into(),
    })?;
    let node = successor.id();
    wallet.may_succeed(&node)?;
    let there = here.exists();
    if there && keystore::read_key(&here, passphrase)?.id() != node {
        let text = format!(
            "{} is another key than the one that is given",
            here.display()
        );
        return Err(Failure::new(FailureCode::InvalidInput, text).hint("move it away first"));
    }
    let copied = !there;
    if copied {
        // It is the node's as soon as the wallet says so, whatever happens to the other copy.
        keystore::keep(&here, &successor, passphrase)?;
    }
    let next = data_dir::next_key(dir);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(KeyError::Io {
                path: next,
                source: error,
            }
            .into());
        }
        _ => {}
    }
    let heir = keystore::node_key(&next, passphrase)?;
    if let Err(error) = wallet.succeed(successor, heir.id()).await {
        // After a failure of the disk nobody knows whether the wallet is the successor's by now.
        if matches!(error, WalletError::Store(_)) {
            return Err(error.into());
        }
        let mine = [Some(&next), copied.then_some(&here)];
        for path in mine.into_iter().flatten() {
            drop(std::fs::remove_file(path));
        }
        return Err(error.into());
    }
    Ok(node)
}
