//! A copy of the wallet while the node works, and the way back.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_wallet::keystore::Passphrase;
use tirami_wallet::store::{self, BackupInfo};
use tirami_wallet::{WalletError, keystore};

use super::archive::absolute;
use super::{Caller, Operation, TextSink};
use crate::data_dir;
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// Copies the wallet to a new file, and checks the copy. The node's keys are not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The file to make, as an absolute path; nothing may be there.
    pub to: PathBuf,
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackupOutput {
    /// The file.
    pub file: String,
    /// Transfers in it.
    pub transfers: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Its length.
    pub size_bytes: u64,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreOutput {
    /// What is there now.
    pub wallet: BackupOutput,
    /// Where the wallet that was there before is now.
    pub moved_to: Option<String>,
}

fn output(file: &Path, info: &BackupInfo) -> BackupOutput {
    BackupOutput {
        file: file.display().to_string(),
        transfers: info.transfers,
        rows: info.rows.iter().map(|(_, count)| count).sum(),
        size_bytes: info.bytes,
    }
}

impl Operation for Backup {
    const NAME: &'static str = "backup";
    type Output = BackupOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<BackupOutput, Failure> {
        caller.must_be_main()?;
        absolute("to", &self.to)?;
        let (wallet, to) = (runtime.inner.wallet.clone(), self.to.clone());
        let copied = tokio::task::spawn_blocking(move || wallet.backup(&to)).await;
        let info = copied.map_err(|error| {
            Failure::new(FailureCode::Internal, format!("the backup: {error}"))
        })??;
        Ok(output(&self.to, &info))
    }
}

/// Puts a backup where the node of a data directory looks for its wallet. No node may run there; the
/// wallet that was there is moved aside.
///
/// # Errors
///
/// A [`Failure`], after which nothing has changed.
pub fn restore(
    from: &Path,
    dir: &Path,
    passphrase: Option<&Passphrase>,
) -> Result<RestoreOutput, Failure> {
    data_dir::prepare(dir)?;
    let (wallet, key) = (data_dir::wallet(dir), data_dir::node_key(dir));
    let node = if key.exists() {
        Some(keystore::read_key(&key, passphrase)?.id())
    } else {
        None
    };
    let restored = store::restore(from, &wallet, node.as_ref())
        .map_err(|error| Failure::from(WalletError::Store(error)))
        .map_err(|failure| match failure.code {
            FailureCode::InUse => failure.hint("stop the node that runs there first"),
            _ => failure,
        })?;
    Ok(RestoreOutput {
        wallet: output(&wallet, &restored.info),
        moved_to: restored.moved.map(|path| path.display().to_string()),
    })
}
