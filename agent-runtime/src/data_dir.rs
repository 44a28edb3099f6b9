//! The data directory: whose it is, and the small files in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tirami_manifest::id::to_hex;
use tirami_wallet::keystore;

use crate::clock;
use crate::failure::{Failure, FailureCode};

/// How a bearer token starts.
const TOKEN_PREFIX: &str = "tirami_";

/// The node's key.
pub fn node_key(dir: &Path) -> PathBuf {
    dir.join("node.key")
}

/// The key that may succeed the node's; its owner may keep it elsewhere.
pub fn successor_key(dir: &Path) -> PathBuf {
    dir.join("successor.key")
}

/// The key that will be the successor's after a change of keys that is under way.
pub(crate) fn next_key(dir: &Path) -> PathBuf {
    dir.join("next.key")
}

/// Says that the node has left for another data directory.
pub fn moved(dir: &Path) -> PathBuf {
    dir.join("moved")
}

/// Where a bundle is unpacked before its files are put in their places.
pub(crate) fn importing(dir: &Path) -> PathBuf {
    dir.join("importing")
}

/// The wallet.
pub fn wallet(dir: &Path) -> PathBuf {
    dir.join("wallet.redb")
}

/// The owner's key, encrypted.
pub fn owner_key(dir: &Path) -> PathBuf {
    dir.join("owner.key")
}

/// The main agent's bearer token.
pub fn token(dir: &Path) -> PathBuf {
    dir.join("agent.token")
}

/// The local socket of the process that has the directory.
pub fn socket(dir: &Path) -> PathBuf {
    dir.join("node.sock")
}

/// The mesh port of the last start.
pub(crate) fn port(dir: &Path) -> PathBuf {
    dir.join("mesh.port")
}

/// Makes the directory with mode 700 when it is missing, and refuses one that belongs to somebody
/// else or that others can write to.
///
/// # Errors
///
/// A [`Failure`] that names the directory and the way out.
pub fn prepare(dir: &Path) -> Result<(), Failure> {
    let failed = |what: &str| {
        Failure::new(
            FailureCode::Store,
            format!("the data directory {} {what}", dir.display()),
        )
        .hint("use another --data-dir")
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(dir)
        .map_err(|e| failed(&format!("cannot be made: {e}")))?;
    let metadata = std::fs::metadata(dir).map_err(|e| failed(&format!("cannot be read: {e}")))?;
    if !metadata.is_dir() {
        return Err(failed("is not a directory"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let me = rustix::process::geteuid().as_raw();
        if metadata.uid() != me {
            return Err(failed(&format!(
                "belongs to user {}, and this is user {me}",
                metadata.uid()
            )));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(failed("can be written by others")
                .hint(format!("run: chmod 700 {}", dir.display())));
        }
    }
    refuse_foreign(dir)
}

/// A directory that is full of something else is not made a node's by a slip of the keyboard.
fn refuse_foreign(dir: &Path) -> Result<(), Failure> {
    let ours = [
        node_key(dir),
        wallet(dir),
        owner_key(dir),
        token(dir),
        dir.join("config.toml"),
    ];
    // A process that starts at the same moment may be writing the first of them under another name.
    // So is an import that was interrupted.
    let draft =
        |path: &Path| path.extension().is_some_and(|end| end == "new") || path == importing(dir);
    let strange = |file: std::io::Result<std::fs::DirEntry>| !file.is_ok_and(|f| draft(&f.path()));
    let foreign = std::fs::read_dir(dir).is_ok_and(|mut files| files.any(strange))
        && !ours.iter().any(|file| file.exists());
    if foreign {
        let text = format!(
            "{} is neither empty nor a node's data directory",
            dir.display()
        );
        return Err(Failure::new(FailureCode::Store, text).hint("use another --data-dir"));
    }
    Ok(())
}

/// Refuses a directory whose node has left in a bundle: it has one writer.
///
/// # Errors
///
/// A [`Failure`] with the way out.
pub(crate) fn is_here(dir: &Path) -> Result<(), Failure> {
    let path = moved(dir);
    // An import whose files are all in their places left its folder behind, empty.
    let is_whole = node_key(dir).exists() && wallet(dir).exists();
    if is_whole && std::fs::remove_dir(importing(dir)).is_ok() {
        tracing::debug!("an import was finished");
    }
    if importing(dir).exists() {
        let text = format!("an import into {} was interrupted", dir.display());
        return Err(Failure::new(FailureCode::Store, text)
            .hint("run the same 'tirami-agent wallet import' again"));
    }
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            return Err(Failure::new(FailureCode::Store, text));
        }
    };
    let bundle = text.lines().nth(1).unwrap_or("a bundle");
    let text = format!("the node of {} left it in {bundle}", dir.display());
    Err(Failure::new(FailureCode::Store, text).hint(format!(
        "run 'tirami-agent wallet import' with that file where the node is to go on, here or elsewhere; \
         where the file is lost and was imported nowhere, remove {}",
        path.display()
    )))
}

/// Refuses a wallet whose key is gone, before another key is made that looks like it.
///
/// # Errors
///
/// A [`Failure`] with the way out.
pub(crate) fn key_is_there(dir: &Path) -> Result<(), Failure> {
    let (wallet, key) = (wallet(dir), node_key(dir));
    if key.exists() || !wallet.exists() {
        return Ok(());
    }
    let text = format!("there is a wallet in {} and no node.key", dir.display());
    Err(Failure::new(FailureCode::Store, text).hint(
        "put back the node.key that the wallet belongs to; without it nobody can spend what is in it",
    ))
}

/// Refuses a key whose wallet is gone: a new one would sign a second history of the same node. A key alone is what
/// a first start leaves that was stopped; whatever else a node keeps is made after its wallet.
///
/// # Errors
///
/// A [`Failure`] with the way out.
pub(crate) fn wallet_is_there(dir: &Path) -> Result<(), Failure> {
    let later = [
        token(dir),
        owner_key(dir),
        next_key(dir),
        successor_key(dir),
        port(dir),
    ];
    let is_used = node_key(dir).exists() && later.iter().any(|file| file.exists());
    if !is_used || wallet(dir).exists() {
        return Ok(());
    }
    let text = format!(
        "{} has a node.key, and its wallet.redb is gone",
        dir.display()
    );
    Err(Failure::new(FailureCode::Store, text).hint(
        "restore a backup with 'tirami-agent wallet restore FILE', or begin anew with another --data-dir: a \
         new wallet under this key would sign what contradicts the old one, which proves a fraud",
    ))
}

/// The main agent's bearer token.
///
/// # Errors
///
/// [`FailureCode::NotFound`] before the node's first start.
pub fn read_token(dir: &Path) -> Result<String, Failure> {
    let path = token(dir);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::new(
            FailureCode::NotFound,
            format!("there is no {}", path.display()),
        )
        .hint("start the node once, for example with 'tirami-agent status'")),
        Err(error) => Err(Failure::new(
            FailureCode::Store,
            format!("{}: {error}", path.display()),
        )),
    }
}

/// Takes the right to read the token away from others, and says that they had it.
#[cfg(unix)]
fn shut(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        tracing::warn!(
            "others could read {}, and cannot any more; who did speaks for the main agent: see 'tirami-agent \
             token create' and 'token revoke'",
            path.display()
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn shut(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A new bearer token: the prefix and 32 random bytes in hexadecimal.
pub fn new_token() -> String {
    format!("{TOKEN_PREFIX}{}", to_hex(&clock::random::<32>()))
}

/// Reads the main agent's token, or makes one; only its user can read it then.
pub(crate) fn ensure_token(dir: &Path) -> Result<String, Failure> {
    let path = token(dir);
    match read_token(dir) {
        Ok(text) => {
            let failed = |e| Failure::new(FailureCode::Store, format!("{}: {e}", path.display()));
            shut(&path).map_err(failed)?;
            Ok(text)
        }
        Err(failure) if failure.code == FailureCode::NotFound => {
            let text = new_token();
            keystore::write_new(&token(dir), format!("{text}\n").as_bytes())?;
            Ok(text)
        }
        other => other,
    }
}

/// The mesh port of the last start.
pub(crate) fn read_port(dir: &Path) -> Option<u16> {
    std::fs::read_to_string(port(dir)).ok()?.trim().parse().ok()
}

/// Remembers the mesh port, so that peers find the node again where it was.
pub(crate) fn write_port(dir: &Path, number: u16) {
    if let Err(error) = std::fs::write(port(dir), format!("{number}\n")) {
        tracing::warn!(%error, "the mesh port could not be remembered");
    }
}
