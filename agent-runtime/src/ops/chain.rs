//! Operations that show the node's public chain, and prove what stands on it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::chain::Certificate;
use tirami_manifest::chain_file::{ChainEnd, ChainHeader, ChainLine};
use tirami_manifest::id::to_hex;
use tirami_manifest::merkle::Hash;
use tirami_manifest::proof_file::{BalanceFile, FraudFile, InclusionFile};
use tirami_manifest::verify::{Verified, VerifyError, verify};
use tirami_manifest::{Amount, EntryId, NetworkId, NodeId, ReceiptId};

use super::page::page;
use super::{Caller, Operation, TextSink};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// Entries in a page.
const PAGE: u32 = 100;
/// Most entries in a page: about a megabyte.
const PAGE_MAX: u32 = 500;

/// Longest proof that is checked through a door; chosen: a chain of some hundred entries.
const PROOF_MAX: usize = 512 * 1_024;

/// A part of the node's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainEntries {
    /// Only entries after this number; from the first when absent.
    #[serde(default)]
    pub after: Option<u64>,
    /// Most entries to return, 1 to 500; 100 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Of the chain of this key, which was the node's before; of the present one's when absent.
    #[serde(default)]
    pub of: Option<NodeId>,
}

/// A part of the node's chain: lines of a chain file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainEntriesOutput {
    /// The file's first line.
    pub header: ChainHeader,
    /// The entries, oldest first.
    pub entries: Vec<ChainLine>,
    /// The file's last line, when these are the newest entries.
    pub end: Option<ChainEnd>,
    /// The keys that were the node's before, the oldest first; the chains of all of them and the present
    /// one, one after the other, are the file of its whole history.
    pub keys_before: Vec<NodeId>,
}

super::empty_input!(
    /// What the node has, so that others can check it.
    ProveBalance
);

/// That a trade stands on the node's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProveReceipt {
    /// The receipt's id, 64 hexadecimal digits, from `chat` or `history`.
    pub receipt: ReceiptId,
}

super::empty_input!(
    /// The network the node belongs to.
    Network
);

/// A proof to check: needs nothing but its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Its text, as 'tirami-agent receipt', 'prove' and 'wallet archive' write it.
    pub proof: String,
}

/// Whether a proof holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyOutput {
    /// Whether it holds.
    pub valid: bool,
    /// What it is: `receipt`, `chain`, `balance`, `inclusion`, `fraud`, `mandate`, `record`, `growth`,
    /// `archive`, `statement` (a node's own word about its own books) or `anchored`.
    pub kind: Option<String>,
    /// What it proves.
    pub facts: Option<serde_json::Map<String, serde_json::Value>>,
    /// Why it does not hold.
    pub reason: Option<String>,
}

impl From<Result<Verified, VerifyError>> for VerifyOutput {
    fn from(checked: Result<Verified, VerifyError>) -> Self {
        let none = Self {
            valid: false,
            kind: None,
            facts: None,
            reason: None,
        };
        match checked {
            Ok(verified) => Self {
                valid: true,
                kind: Some(verified.kind().to_owned()),
                facts: verified.facts(),
                ..none
            },
            Err(error) => Self {
                reason: Some(error.to_string()),
                ..none
            },
        }
    }
}

/// The network the node belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkOutput {
    /// Its id, which is in everything that is signed.
    pub network: NetworkId,
    /// Its name.
    pub name: String,
    /// When it was founded, RFC 3339 in UTC.
    pub founded_at: String,
    /// Who makes TRM, and how much at most.
    pub issuers: Vec<IssuerOutput>,
    /// Whose signatures certify; with one, its operator is trusted.
    pub witnesses: Vec<NodeId>,
    /// How many of them it takes.
    pub quorum: u32,
    /// What this node made as an issuer.
    pub trm_made: Amount,
    /// What of that came back and was retired.
    pub trm_retired: Amount,
    /// How many entries this node's chain has.
    pub entries: u64,
    /// Id of the newest; the network's id before the first.
    pub head: EntryId,
    /// What this node can spend by its chain.
    pub trm_spendable: Amount,
    /// What it earned that no witness has certified yet.
    pub trm_waiting: Amount,
    /// Why the witness refused to certify this node's chain when it was last asked, since the node started.
    pub uncertified: Option<String>,
    /// Members' chains that this node certified, where it is the witness.
    pub certified: Vec<CertifiedOutput>,
    /// What members have together in this node's ledger, where it is the witness.
    pub trm_members: Amount,
    /// How many chains' newest entries are known here: this node's, and those it certified.
    pub chains: u64,
    /// Root over them, as `anchor` has it: equal where the same entries are known.
    pub root: Hash,
    /// Proofs of fraud that are known here; each is a file that `verify` takes.
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub frauds: Vec<FraudFile>,
}

/// The newest certified entry of a member's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CertifiedOutput {
    /// The member.
    pub node: NodeId,
    /// Number of the entry.
    pub seq: u64,
    /// Its id.
    pub head: EntryId,
    /// What the member can spend after it.
    pub trm_spendable: Amount,
    /// When it was certified, RFC 3339 in UTC.
    pub at: String,
}

/// Somebody who makes TRM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuerOutput {
    /// The node.
    pub node: NodeId,
    /// The most it may ever make.
    pub trm_quota: Amount,
}

impl Operation for ChainEntries {
    const NAME: &'static str = "chain_entries";
    type Output = ChainEntriesOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<ChainEntriesOutput, Failure> {
        let limit = page(self.limit, (PAGE, PAGE_MAX))?;
        let wallet = &runtime.inner.wallet;
        let position = wallet.chain_position()?;
        let after = self.after.unwrap_or(0);
        let ended = wallet.chains_before()?;
        let keys_before = ended.iter().map(|ended| ended.author).collect();
        let (node, rows, entries, head, certificate) = match self.of {
            Some(key) if key != wallet.node() => {
                let ended = ended.into_iter().find(|ended| ended.author == key);
                let ended = ended.ok_or_else(|| never_had(key))?;
                let rows = wallet.ended_after(&ended, after, limit)?;
                (key, rows, ended.entries, ended.head, ended.certificate)
            }
            _ => {
                let rows = wallet.chain_after(after, limit)?;
                let certificate = certificate(runtime, position.seq)?;
                let (seq, head) = (position.seq, position.head);
                (wallet.node(), rows, seq, head, certificate)
            }
        };
        let last = rows.last().map_or(after, |row| row.body.seq);
        Ok(ChainEntriesOutput {
            header: ChainHeader::new(&position.genesis, node),
            entries: rows.iter().map(ChainLine::new).collect(),
            end: (last >= entries).then(|| ChainEnd {
                entries,
                head,
                certificate: certificate.map(|certificate| to_hex(&certificate.to_bytes())),
            }),
            keys_before,
        })
    }
}

fn never_had(key: NodeId) -> Failure {
    Failure::new(
        FailureCode::NotFound,
        format!("of is {key}; this node never had that key"),
    )
    .hint("leave it out for the present chain; keys_before names those before")
}

/// The certificate over the newest entry, when there is one.
fn certificate(runtime: &Runtime, seq: u64) -> Result<Option<Certificate>, Failure> {
    Ok(runtime.inner.wallet.certificate(seq)?)
}

impl Operation for Verify {
    const NAME: &'static str = "verify";
    type Output = VerifyOutput;

    async fn run(
        self,
        _: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<VerifyOutput, Failure> {
        if self.proof.len() > PROOF_MAX {
            return Err(Failure::new(
                FailureCode::InvalidInput,
                format!(
                    "proof has {} bytes; at most {PROOF_MAX} are checked here",
                    self.proof.len()
                ),
            )
            .hint("check it with 'tirami-agent verify FILE', which reads a chain or an archive of any length"));
        }
        // A long chain has many signatures.
        let checked = tokio::task::spawn_blocking(move || verify(&self.proof).into()).await;
        checked.map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))
    }
}

impl Operation for ProveBalance {
    const NAME: &'static str = "prove_balance";
    type Output = BalanceFile;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<BalanceFile, Failure> {
        let (genesis, head) = runtime.inner.wallet.chain_head()?;
        let head = head.ok_or_else(nothing_yet)?;
        let certificate = certificate(runtime, head.body.seq)?;
        Ok(BalanceFile::new(&genesis, &head, certificate.as_ref()))
    }
}

impl Operation for ProveReceipt {
    const NAME: &'static str = "prove_receipt";
    type Output = InclusionFile;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<InclusionFile, Failure> {
        let wallet = &runtime.inner.wallet;
        let proof = wallet.prove_trade(&self.receipt)?.ok_or_else(|| {
            Failure::new(
                FailureCode::NotFound,
                format!("no trade with receipt {} stands on this node's chain", self.receipt),
            )
            .hint("'tirami-agent history' shows the receipts; work that cost nothing, or that another node paid for, is not on the chain")
        })?;
        Ok(InclusionFile::new(
            &proof.genesis,
            (&proof.entry, &proof.head),
            proof.certificate.as_ref(),
            proof.path,
        ))
    }
}

fn nothing_yet() -> Failure {
    Failure::new(
        FailureCode::NotFound,
        "nothing has happened on this node's chain yet, so there is nothing to prove",
    )
    .hint("buy or sell something, or join a network with a welcome loan")
}

impl Operation for Network {
    const NAME: &'static str = "network";
    type Output = NetworkOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<NetworkOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let position = wallet.chain_position()?;
        let genesis = position.genesis;
        let waiting = wallet.waiting()?;
        let certified: Vec<_> = wallet
            .certified_heads()?
            .into_iter()
            .map(|head| CertifiedOutput {
                node: head.node,
                seq: head.seq,
                head: head.entry,
                trm_spendable: head.spendable,
                at: head.at.to_rfc3339(),
            })
            .collect();
        let heads = wallet.known_heads()?.heads;
        let authority = genesis.authority() == Some(wallet.node());
        let members = if authority {
            wallet.members()?
        } else {
            Vec::new()
        };
        let quorum = tirami_manifest::chain::quorum(genesis.witnesses.len());
        Ok(NetworkOutput {
            network: genesis.id(),
            name: genesis.name,
            founded_at: genesis.founded.to_rfc3339(),
            issuers: genesis
                .issuers
                .into_iter()
                .map(|(node, trm_quota)| IssuerOutput { node, trm_quota })
                .collect(),
            witnesses: genesis.witnesses,
            quorum: u32::try_from(quorum).unwrap_or(u32::MAX),
            trm_made: position.made,
            trm_retired: position.retired,
            entries: position.seq,
            head: position.head,
            trm_spendable: position.spendable,
            trm_waiting: sum(waiting.iter().map(|(_, row)| row.amount)),
            uncertified: runtime.uncertified(),
            certified,
            trm_members: sum(members.iter().map(|(_, totals)| {
                totals
                    .available()
                    .checked_add(totals.pending())
                    .unwrap_or(Amount::MAX)
            })),
            chains: heads.size(),
            root: heads.root(),
            frauds: wallet.frauds()?.iter().map(FraudFile::new).collect(),
        })
    }
}

fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    let add = |sum: Amount, amount| sum.checked_add(amount).unwrap_or(Amount::MAX);
    amounts.fold(Amount::ZERO, add)
}
