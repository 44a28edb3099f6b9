//! Taking a node to another machine: its keys and its wallet in one file under a passphrase.
//!
//! A node has one writer, so a bundle moves it: where it was, it starts no more.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::NodeId;
use tirami_manifest::id::to_hex;
use tirami_wallet::bundle::{BundleError, BundleReader, BundleWriter};
use tirami_wallet::keystore::{self, KeyError, Passphrase};

use crate::clock::random;
use crate::config::NodeConfig;
use crate::data_dir;
use crate::failure::{Failure, FailureCode};
use crate::keys;

/// Name of the wallet in a bundle and in a data directory.
const WALLET: &str = "wallet.redb";

/// Name of the node's key in both; it is put in its place last.
const NODE_KEY: &str = "node.key";

/// Names of the smaller files, each of which may be missing but the last.
const SMALL: [&str; 5] = [
    "config.toml",
    "agent.token",
    "owner.key",
    "successor.key",
    NODE_KEY,
];

/// Largest of them that is taken.
const SMALL_MAX: u64 = 64 * 1_024;

/// Name of the file in a bundle that says which one it is.
const NAME: &str = "bundle";

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bundled {
    /// The bundle.
    pub file: PathBuf,
    /// The node, where its key is under no passphrase of its own.
    pub node: Option<NodeId>,
    /// The files in it.
    pub files: Vec<String>,
    /// Bytes of its wallet.
    pub wallet_bytes: u64,
}

/// Writes the node of a data directory into a new file, which is read and checked; then that node starts no
/// more there. No node may run there.
///
/// # Errors
///
/// A [`Failure`]; then nothing has changed.
pub async fn export(
    config: &NodeConfig,
    to: &Path,
    passphrase: &Passphrase,
) -> Result<Bundled, Failure> {
    passphrase.long_enough()?;
    let dir = &config.data_dir;
    data_dir::prepare(dir)?;
    data_dir::is_here(dir)?;
    if to.exists() {
        return Err(exists(to));
    }
    if !data_dir::wallet(dir).exists() {
        let text = format!("there is no wallet in {}", dir.display());
        return Err(Failure::new(FailureCode::NotFound, text));
    }
    // Nobody else can write while it is open.
    let (wallet, key) = keys::alone(config).await?;
    let copy = dir.join(format!("{}.new", to_hex(&random::<8>())));
    let draft = to.with_extension(format!("{}.new", to_hex(&random::<8>())));
    let id = to_hex(&random::<16>());
    let made = (|| {
        wallet.backup(&copy)?;
        let made = write(dir, (&copy, &draft), (&id, passphrase))?;
        // Read back before anything depends on it.
        let read = read(&draft, passphrase, &mut |_, mut from| {
            std::io::copy(&mut from, &mut std::io::sink()).map(drop)
        })?;
        if read != made {
            let text = format!("{} is not what was written", draft.display());
            return Err(Failure::new(FailureCode::Store, text));
        }
        leave(dir, (&id, to))?;
        publish(&draft, to).inspect_err(|failure| {
            // Where a bundle may be there, the node stays where it is not.
            let others = failure.code == FailureCode::InvalidInput;
            if others || std::fs::remove_file(to).is_ok() || !to.exists() {
                drop(std::fs::remove_file(data_dir::moved(dir)));
            }
        })?;
        Ok(made)
    })();
    for draft in [&copy, &draft] {
        if draft.exists() {
            std::fs::remove_file(draft).map_err(|error| io(draft, error))?;
        }
    }
    wallet.close().await;
    let (files, wallet_bytes) = made?;
    Ok(Bundled {
        file: to.to_owned(),
        node: Some(key.id()),
        files,
        wallet_bytes,
    })
}

/// Gives a draft its name, which nothing may have.
fn publish(draft: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::hard_link(draft, to)
        .or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => Err(error),
            // Not every file system has links: what is carried about often does not.
            _ => copy_new(draft, to),
        })
        .and_then(|()| keystore::sync_folder(to))
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(to),
            _ => io(to, error),
        })
}

fn copy_new(draft: &Path, to: &Path) -> std::io::Result<()> {
    let mut file = private(to)?;
    std::io::copy(&mut File::open(draft)?, &mut file)?;
    file.sync_all()
}

/// Writes that the node has left its data directory.
fn leave(dir: &Path, (id, to): (&str, &Path)) -> Result<(), Failure> {
    let text = format!("{id}\n{}\n", to.display());
    Ok(keystore::write_new(&data_dir::moved(dir), text.as_bytes())?)
}

type Found = (Vec<String>, u64);

fn write(
    dir: &Path,
    (copy, draft): (&Path, &Path),
    (id, passphrase): (&str, &Passphrase),
) -> Result<Found, Failure> {
    let file = BufWriter::new(private(draft).map_err(|error| io(draft, error))?);
    let mut bundle = BundleWriter::new(file, passphrase).map_err(failed(draft))?;
    let mut files = vec![NAME.to_owned()];
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    bundle
        .add(NAME, length(id.as_bytes()), id.as_bytes())
        .map_err(failed(draft))?;
    for name in SMALL {
        let path = dir.join(name);
        let opened = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(|error| io(&path, error))?,
        };
        let about = opened.metadata().map_err(|error| io(&path, error))?;
        bundle
            .add(name, about.len(), opened)
            .map_err(failed(draft))?;
        files.push(name.to_owned());
    }
    let wallet = File::open(copy).map_err(|error| io(copy, error))?;
    let bytes = wallet.metadata().map_err(|error| io(copy, error))?.len();
    bundle
        .add(WALLET, bytes, BufReader::new(wallet))
        .map_err(failed(draft))?;
    files.push(WALLET.to_owned());
    let file = bundle.finish().map_err(failed(draft))?;
    let file = file
        .into_inner()
        .map_err(|error| io(draft, error.into_error()))?;
    file.sync_all().map_err(|error| io(draft, error))?;
    Ok((files, bytes))
}

/// Reads a bundle to its end, and gives each file to `take`.
fn read(
    from: &Path,
    passphrase: &Passphrase,
    take: &mut dyn FnMut(&str, &mut dyn Read) -> std::io::Result<()>,
) -> Result<Found, Failure> {
    let file = File::open(from).map_err(|error| io(from, error))?;
    let mut bundle = BundleReader::new(BufReader::new(file), passphrase).map_err(failed(from))?;
    let (mut files, mut bytes) = (Vec::new(), 0);
    while let Some((name, length)) = bundle.next_file().map_err(failed(from))? {
        let known = name == WALLET || name == NAME || SMALL.contains(&name.as_str());
        if !known || files.contains(&name) || name != WALLET && length > SMALL_MAX {
            return Err(failed(from)(BundleError::Damaged(
                "what is in it is damaged",
            )));
        }
        take(&name, &mut bundle).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => failed(from)(BundleError::Passphrase),
            _ => io(from, error),
        })?;
        if name == WALLET {
            bytes = length;
        }
        files.push(name);
    }
    for needed in [NAME, NODE_KEY, WALLET] {
        if !files.iter().any(|name| name == needed) {
            return Err(failed(from)(BundleError::Damaged(
                "a node's key or wallet is not in it",
            )));
        }
    }
    Ok((files, bytes))
}

/// Puts the node of a bundle into a data directory that has none, or back into the one that it left.
///
/// # Errors
///
/// A [`Failure`]; then no node has come.
pub fn import(dir: &Path, from: &Path, passphrase: &Passphrase) -> Result<Bundled, Failure> {
    data_dir::prepare(dir)?;
    let staging = data_dir::importing(dir);
    let there = [data_dir::node_key(dir), data_dir::wallet(dir)];
    let left = std::fs::read_to_string(data_dir::moved(dir)).ok();
    // An import that was interrupted has put no key in its place yet.
    let begun = staging.exists() && !data_dir::node_key(dir).exists();
    let small = SMALL.iter().map(|name| dir.join(name));
    let there: Vec<_> = there.into_iter().chain(small).collect();
    if left.is_none() && !begun && there.iter().any(|path| path.exists()) {
        let text = format!(
            "there is a node, or a file of one, in {} already",
            dir.display()
        );
        return Err(Failure::new(FailureCode::InvalidInput, text).hint("use another --data-dir"));
    }
    if staging.exists() {
        std::fs::remove_dir_all(&staging).map_err(|error| io(&staging, error))?;
    }
    std::fs::create_dir(&staging).map_err(|error| io(&staging, error))?;
    let mut id = String::new();
    let taken = read(from, passphrase, &mut |name, from| {
        if name == NAME {
            return from.read_to_string(&mut id).map(drop);
        }
        let mut file = private(&staging.join(name))?;
        std::io::copy(from, &mut file)?;
        file.flush()?;
        file.sync_all()
    });
    let placed = taken.and_then(|(files, wallet_bytes)| {
        match &left {
            Some(left) if left.lines().next() != Some(&id) => {
                let text = format!("the node that left {} is in another bundle", dir.display());
                return Err(
                    Failure::new(FailureCode::InvalidInput, text).hint("use another --data-dir")
                );
            }
            // It is as it was left.
            Some(_) => {}
            None => place(&staging, dir, &files)?,
        }
        Ok((files, wallet_bytes))
    });
    match std::fs::remove_dir_all(&staging) {
        // Whoever opened the node meanwhile found it whole, and removed it.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io(&staging, error));
        }
        _ => keystore::sync_folder(&staging).map_err(|error| io(&staging, error))?,
    }
    let (files, wallet_bytes) = placed?;
    if left.is_some() {
        let moved = data_dir::moved(dir);
        std::fs::remove_file(&moved)
            .and_then(|()| keystore::sync_folder(&moved))
            .map_err(|error| io(&moved, error))?;
    }
    Ok(Bundled {
        file: from.to_owned(),
        node: keystore::read_key(&data_dir::node_key(dir), None)
            .ok()
            .map(|key| key.id()),
        files,
        wallet_bytes,
    })
}

/// Puts what was unpacked in its place, the node's key last: before that there is no node.
fn place(staging: &Path, dir: &Path, files: &[String]) -> Result<(), Failure> {
    let last = |name: &&String| name.as_str() != NODE_KEY;
    let key = NODE_KEY.to_owned();
    let names = files.iter().filter(last).chain([&key]);
    for name in names.filter(|name| name.as_str() != NAME) {
        let to = dir.join(name);
        std::fs::rename(staging.join(name), &to)
            .and_then(|()| keystore::sync_folder(&to))
            .map_err(|error| io(&to, error))?;
    }
    Ok(())
}

/// A new file that only its user can read.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn exists(path: &Path) -> Failure {
    let text = format!("{} exists already and was left alone", path.display());
    Failure::new(FailureCode::InvalidInput, text).hint("choose another file")
}

fn io(path: &Path, source: std::io::Error) -> Failure {
    let path = path.to_owned();
    KeyError::Io { path, source }.into()
}

fn failed(path: &Path) -> impl Fn(BundleError) -> Failure {
    move |error| match error {
        BundleError::Io(source) => io(path, source),
        BundleError::Key(error) => error.into(),
        BundleError::Passphrase => Failure::new(
            FailureCode::OwnerRequired,
            format!("{}: {error}", path.display()),
        ),
        error => Failure::new(
            FailureCode::InvalidInput,
            format!("{}: {error}", path.display()),
        ),
    }
}
