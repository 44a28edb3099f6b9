//! Entries of the journal as files, so that the wallet need not keep all of them; and the way back.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::archive_file::ArchiveFacts;
use tirami_manifest::merkle::Hash;
use tirami_manifest::{NetworkId, NodeId, Timestamp};
use tirami_wallet::WalletError;
use tirami_wallet::archive::UpTo;

use super::{Caller, Operation, TextSink};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 3_600_000;

/// Writes the journal's entries to a new file, and removes them from the wallet where that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The file to make, as an absolute path; nothing may be there.
    pub to: PathBuf,
    /// Number of the last entry; the newest when absent.
    pub up_to: Option<u64>,
    /// Only entries that are older than so many days.
    pub older_than_days: Option<u32>,
    /// Whether they are removed from the wallet, once the file was read again and holds.
    pub drop: bool,
}

/// What was archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArchiveOutput {
    /// The file.
    pub file: String,
    /// The network.
    pub network: NetworkId,
    /// Whose journal.
    pub node: NodeId,
    /// How many entries.
    pub entries: u64,
    /// Number of the first.
    pub first: u64,
    /// Number of the last.
    pub last: u64,
    /// When the first happened, RFC 3339 in UTC.
    pub since: String,
    /// When the last happened, RFC 3339 in UTC.
    pub until: String,
    /// Root of the Merkle tree over all entries up to the last.
    pub root: Hash,
    /// Entries 1 to this number are in archives only; 0 when the wallet has all.
    pub dropped: u64,
}

/// Puts entries of the journal back that were removed, from the archive that has the newest of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unarchive {
    /// The archive, as an absolute path.
    pub from: PathBuf,
}

fn output(file: &Path, facts: ArchiveFacts, dropped: u64) -> ArchiveOutput {
    ArchiveOutput {
        file: file.display().to_string(),
        network: facts.network,
        node: facts.node,
        entries: facts.records,
        first: facts.first,
        last: facts.last,
        since: facts.since,
        until: facts.until,
        root: facts.root,
        dropped,
    }
}

pub(super) fn absolute(field: &str, path: &Path) -> Result<(), Failure> {
    if path.is_absolute() {
        return Ok(());
    }
    let text = format!("{field} is {}; it must be an absolute path", path.display());
    Err(Failure::new(FailureCode::InvalidInput, text))
}

/// Reading and writing files takes long: not on a thread that others wait for.
async fn aside<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, WalletError> + Send + 'static,
) -> Result<R, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))??)
}

impl Archive {
    fn up_to(&self, now: Timestamp) -> Result<UpTo, Failure> {
        match (self.up_to, self.older_than_days) {
            (None, None) => Ok(UpTo::Newest),
            (Some(seq), None) => Ok(UpTo::Row(seq)),
            (None, Some(days)) => {
                let ms = u64::from(days).saturating_mul(DAY_MS);
                Ok(UpTo::OlderThan(Timestamp::from_ms(
                    now.ms().saturating_sub(ms),
                )))
            }
            (Some(_), Some(_)) => Err(Failure::new(
                FailureCode::InvalidInput,
                "up_to and older_than_days cannot both be given",
            )),
        }
    }
}

impl Operation for Archive {
    const NAME: &'static str = "archive";
    type Output = ArchiveOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ArchiveOutput, Failure> {
        caller.must_be_main()?;
        absolute("to", &self.to)?;
        let wallet = runtime.inner.wallet.clone();
        let up_to = self.up_to(wallet.now()?)?;
        let (books, to) = (wallet.clone(), self.to.clone());
        let archived = aside(move || books.archive(&to, up_to)).await?;
        if self.drop {
            wallet.drop_archived(&archived).await?;
        }
        let dropped = wallet.journal_head()?.dropped;
        Ok(output(&self.to, archived.facts, dropped))
    }
}

impl Operation for Unarchive {
    const NAME: &'static str = "unarchive";
    type Output = ArchiveOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ArchiveOutput, Failure> {
        caller.must_be_main()?;
        absolute("from", &self.from)?;
        let wallet = runtime.inner.wallet.clone();
        let (books, from) = (wallet.clone(), self.from.clone());
        let mut archive = aside(move || books.look_at_archive(&from)).await?;
        loop {
            let (back, rows) = aside(move || {
                let rows = archive.next_rows()?;
                Ok((archive, rows))
            })
            .await?;
            archive = back;
            let Some(rows) = rows else {
                break;
            };
            wallet.put_back(rows).await?;
        }
        let dropped = wallet.journal_head()?.dropped;
        Ok(output(&self.from, archive.facts, dropped))
    }
}
