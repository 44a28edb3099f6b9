//! Operations about the journal, and one hash over all chains known here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::anchor::Anchor;
use tirami_manifest::anchored_file::AnchoredFile;
use tirami_manifest::id::to_hex;
use tirami_manifest::journal_file::{GrowthFile, RecordFile};
use tirami_manifest::merkle::{Consistency, Hash, Inclusion};
use tirami_manifest::{Amount, NetworkId, ReceiptId};
use tirami_wallet::journal::JournalRow;
use tirami_wallet::ledger::approval::Verdict;
use tirami_wallet::ledger::journal::Event;
use tirami_wallet::ledger::transfer::Kind;

use super::books::Names;
use super::page::page;
use super::{Caller, Operation, TextSink};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// Rows in a page.
const PAGE: u32 = 20;
/// Most rows in a page.
const PAGE_MAX: u32 = 500;

/// What happened to the ledger, newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditLog {
    /// Most entries to return, 1 to 500; 20 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only entries with a smaller number than this; from `next_before` of the page before.
    #[serde(default)]
    pub before: Option<u64>,
}

/// A page of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditLogOutput {
    /// How many entries there are.
    pub size: u64,
    /// Root of the Merkle tree over them.
    pub root: Hash,
    /// The entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// Ask again with this as `before` for older ones; absent on the last page.
    pub next_before: Option<u64>,
    /// Entries 1 to this number were archived and are not in the wallet any more; 0 when it has all.
    pub dropped: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    /// Its number.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// `transfer`, `renewed`, `mandate`, `approval`, `freeze`, `unfreeze`, `quota`, `refused`, `opening`,
    /// `token` or `owner`.
    pub event: String,
    /// The agent it is about.
    pub agent: Option<String>,
    /// How much it was about.
    pub trm_amount: Option<Amount>,
    /// What it was about, in words.
    pub detail: String,
}

/// That an entry is in the journal, or that a later journal begins with an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProveLog {
    /// The entry that is to be proved; absent for a proof of growth.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The size of the earlier journal; absent for a proof of an entry.
    #[serde(default)]
    pub from: Option<u64>,
    /// The size of the later journal; all of it when absent.
    #[serde(default)]
    pub size: Option<u64>,
}

/// A proof about the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProveLogOutput {
    /// That the entry is in the journal: a file that `verify` takes.
    pub record: Option<RecordFile>,
    /// That the journal only grew: a file that `verify` takes.
    pub growth: Option<GrowthFile>,
    /// The hashes of `record` alone, as RFC 9162 has them.
    pub inclusion: Option<Inclusion>,
    /// The hashes of `growth` alone.
    pub consistency: Option<Consistency>,
    /// Root of the whole journal as it is now.
    pub root: Hash,
    /// How many entries it has.
    pub size: u64,
}

super::empty_input!(
    /// One hash over the newest entries of the chains that are known here.
    MakeAnchor
);

/// A payload to be kept by others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnchorOutput {
    /// The network.
    pub network: NetworkId,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// How many chains.
    pub chains: u64,
    /// Root of the tree over their newest entries.
    pub root: Hash,
    /// The 61 bytes in hexadecimal.
    pub payload: String,
    /// That this node's newest entry is under the root: a file that `verify` takes. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<AnchoredFile>,
}

impl Operation for AuditLog {
    const NAME: &'static str = "audit_log";
    type Output = AuditLogOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<AuditLogOutput, Failure> {
        caller.must_be_main()?;
        let limit = page(self.limit, (PAGE, PAGE_MAX))?;
        let wallet = &runtime.inner.wallet;
        let head = wallet.journal_head()?;
        let rows = wallet.journal_before(self.before, limit)?;
        let names = Names::load(runtime)?;
        let oldest = rows.last().map_or(0, |row| row.seq);
        Ok(AuditLogOutput {
            size: head.size,
            root: head.root,
            entries: rows.iter().map(|row| entry(row, &names)).collect(),
            next_before: (oldest > head.dropped.saturating_add(1)).then_some(oldest),
            dropped: head.dropped,
        })
    }
}

/// How much a transfer was about; an end of a hold that gives it back names none.
const fn moved(kind: &Kind) -> Option<Amount> {
    match kind {
        Kind::Single { amount, .. }
        | Kind::Hold { amount, .. }
        | Kind::Vouch { amount, .. }
        | Kind::Post { amount, .. }
        | Kind::Allot { amount, .. }
        | Kind::Draw { amount, .. } => Some(*amount),
        Kind::Void { .. } | Kind::Expire { .. } => None,
    }
}

const fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Waiting => "waits for the owner",
        Verdict::Approved { .. } => "approved",
        Verdict::Denied { .. } => "denied",
    }
}

fn entry(row: &JournalRow, names: &Names) -> AuditEntry {
    let (agent, amount, detail) = match (&row.record.row.event, &row.record.transfer) {
        (Event::Applied(id), Some(entry)) => {
            let receipt = ReceiptId::from_bytes(entry.transfer.reference);
            let detail = format!(
                "{}, for {} (transfer {})",
                entry.transfer.code.name(),
                receipt.short(),
                id.short()
            );
            (None, moved(&entry.transfer.kind), detail)
        }
        (Event::Applied(id) | Event::Renewed(id), _) => {
            (None, None, format!("hold {}", id.short()))
        }
        (Event::Mandate(agent, mandate), _) => {
            let what = if mandate.revoked.is_some() {
                "revoked"
            } else {
                "granted or changed"
            };
            let detail = format!("mandate {what}, epoch {}", mandate.epoch);
            (Some(*agent), None, detail)
        }
        (Event::Approval(id, approval), _) => match approval {
            Some(approval) => (
                Some(approval.agent),
                Some(approval.amount),
                format!("request {}: {}", id.short(), verdict(&approval.verdict)),
            ),
            None => (None, None, format!("request {} dropped", id.short())),
        },
        (Event::Freeze(freeze), _) => {
            let why = freeze.as_ref().map_or("lifted by the owner", |f| &f.reason);
            (None, None, why.to_owned())
        }
        (Event::Quota(quota), _) => (None, Some(*quota), "what may be issued".to_owned()),
        (Event::Token(agent, _, made), _) => {
            let what = if *made { "made" } else { "revoked" };
            (Some(*agent), None, format!("a token was {what}"))
        }
        (Event::Owner(owner), _) => (None, None, format!("the owner is {}", owner.short())),
        (Event::Refused(refused), _) => {
            let payee = refused.payee.map_or("nobody".to_owned(), |id| id.short());
            let detail = format!("refused by rule {}, payee {payee}", refused.rule);
            (Some(refused.agent), Some(refused.amount), detail)
        }
        (Event::Row(..), _) => (None, None, "a row from before the journal".to_owned()),
    };
    AuditEntry {
        seq: row.seq,
        at: row.record.row.at.to_rfc3339(),
        event: row.record.row.event.name().to_owned(),
        agent: agent.map(|id| names.agent(&id)),
        trm_amount: amount,
        detail,
    }
}

impl Operation for ProveLog {
    const NAME: &'static str = "prove_log";
    type Output = ProveLogOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ProveLogOutput, Failure> {
        caller.must_be_main()?;
        let wallet = runtime.inner.wallet.clone();
        let head = wallet.journal_head()?;
        let size = self.size;
        // Reading a long journal takes long.
        let proved = tokio::task::spawn_blocking(move || match (self.seq, self.from) {
            (Some(seq), None) => Ok((wallet.prove_row(seq, size)?, None)),
            (None, Some(from)) => Ok((None, wallet.prove_growth(from, size)?)),
            _ => Err(Failure::new(
                FailureCode::InvalidInput,
                "either seq or from is needed: the entry to prove, or the size of the earlier journal",
            )),
        });
        let proved = proved.await;
        let (record, growth) =
            proved.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))??;
        if record.is_none() && growth.is_none() {
            let size = size.unwrap_or(head.size);
            return Err(Failure::new(
                FailureCode::NotFound,
                format!(
                    "the journal has {} entries, from 1, and the one that was asked for is not among the first {size}",
                    head.size
                ),
            ));
        }
        Ok(ProveLogOutput {
            inclusion: record.as_ref().map(|file| Inclusion {
                index: file.says.seq.saturating_sub(1),
                size: file.says.size,
                path: file.path.clone(),
            }),
            consistency: growth.as_ref().map(|file| Consistency {
                from: file.from,
                to: file.says.size,
                path: file.path.clone(),
            }),
            record,
            growth,
            root: head.root,
            size: head.size,
        })
    }
}

impl Operation for MakeAnchor {
    const NAME: &'static str = "anchor";
    type Output = AnchorOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<AnchorOutput, Failure> {
        caller.must_be_main()?;
        let known = runtime.inner.wallet.known_heads()?;
        let (network, now, heads) = (known.genesis.id(), known.at, known.heads);
        let anchor = Anchor::new(&network, now.ms() << 16, &heads);
        let proof = known.own.as_ref();
        let proof = proof.and_then(|own| AnchoredFile::new(&known.genesis, own, &heads, &anchor));
        Ok(AnchorOutput {
            network,
            at: now.to_rfc3339(),
            chains: anchor.size,
            root: anchor.root,
            payload: to_hex(&anchor.to_bytes()),
            proof,
        })
    }
}
