//! Proofs as files: what a node has, and that something stands on its chain.
//!
//! As with receipts, only the signed bytes prove anything, and words that say something else than the
//! bytes are refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::chain::{Certificate, Chain, Entry, FraudProof, Step};
use crate::genesis::Genesis;
use crate::id::{self, EntryId, GrantId, NetworkId, NodeId, ReceiptId};
use crate::mandate_chain::MandateChain;
use crate::merkle::{self, Hash, Inclusion};
use crate::signed::{Document, Signed};
use crate::time::Timestamp;

/// Largest file that is read as a proof.
pub const SIZE_MAX: usize = 64 * 1_024;

/// The newest entry of a chain and what certifies it: all it takes to know what a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalanceFile {
    /// Version of this layout: 1.
    pub tirami_balance: u8,
    /// What it says, in words.
    pub says: BalanceFacts,
    /// The network's genesis document in hexadecimal.
    pub genesis: String,
    /// The signed entry in hexadecimal.
    pub entry: String,
    /// The certificate over it in hexadecimal, when there is one.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate: Option<String>,
}

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BalanceFacts {
    /// The network.
    pub network: NetworkId,
    /// The node.
    pub node: NodeId,
    /// Number of the entry that says it.
    pub seq: u64,
    /// Its id.
    pub head: EntryId,
    /// When it was appended, RFC 3339 in UTC.
    pub as_of: String,
    /// What the node can spend.
    pub trm_spendable: Amount,
    /// What it has set aside on its chain.
    pub trm_held: Amount,
    /// What it has staked.
    pub trm_staked: Amount,
    /// `certified` by the network's witnesses, or `signed` by the node alone: its own word.
    pub assurance: String,
}

/// That an entry stands on a chain whose newer entry is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InclusionFile {
    /// Version of this layout: 1.
    pub tirami_inclusion: u8,
    /// What it says, in words.
    pub says: InclusionFacts,
    /// The network's genesis document in hexadecimal.
    pub genesis: String,
    /// The signed entry that is proved, in hexadecimal.
    pub entry: String,
    /// The signed newer entry, whose log root commits to it, in hexadecimal.
    pub head: String,
    /// The certificate over the newer entry in hexadecimal, when there is one.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate: Option<String>,
    /// The hashes from the entry to the log root, lowest first.
    pub path: Vec<Hash>,
}

/// What stands on a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InclusionFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose chain.
    pub node: NodeId,
    /// Number of the entry.
    pub seq: u64,
    /// Its id.
    pub entry: EntryId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// The receipt, where it is a trade.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub receipt: Option<ReceiptId>,
    /// What was paid, where it is a trade.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub trm_amount: Option<Amount>,
    /// Number of the newer entry.
    pub under: u64,
    /// `certified` by the network's witnesses, or `signed` by the node alone.
    pub assurance: String,
}

/// A proof of fraud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FraudFile {
    /// Version of this layout: 1.
    pub tirami_fraud: u8,
    /// What it says, in words.
    pub says: FraudFacts,
    /// The proof in hexadecimal: both signed documents.
    pub proof: String,
}

/// What was proved of whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FraudFacts {
    /// The network.
    pub network: NetworkId,
    /// Who signed both documents.
    pub accused: NodeId,
    /// `fork`, `arithmetic`, `voucher_contradiction` or `double_agreement`.
    pub fraud: String,
    /// The proof's id.
    pub id: Hash,
}

impl FraudFile {
    /// Puts a proof into words.
    pub fn new(proof: &FraudProof) -> Self {
        Self {
            tirami_fraud: 1,
            says: FraudFacts {
                network: proof.network,
                accused: proof.accused,
                fraud: proof.kind.name().to_owned(),
                id: Hash(proof.digest()),
            },
            proof: id::to_hex(&proof.to_bytes()),
        }
    }

    /// Checks the proof.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<FraudFacts, ProofError> {
        let part = "proof";
        let proof = FraudProof::from_bytes(&bytes(part, &self.proof)?).map_err(damaged(part))?;
        proof.verify().map_err(|error| wrong(part, error))?;
        let truth = Self::new(&proof);
        if *self != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth.says)
    }
}

/// What a travelling mandate allows, when its chain of grants holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MandateFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose money pays.
    pub payer: NodeId,
    /// Who may spend.
    pub holder: NodeId,
    /// How many grants.
    pub grants: u64,
    /// Id of the last.
    pub mandate: GrantId,
    /// What it is for in all.
    pub trm_amount: Amount,
    /// When it ends, RFC 3339 in UTC. Whether it has, or was taken back, does not show here.
    pub expires_at: String,
}

/// Checks the grants of a travelling mandate: signatures, and that each is within the one before.
///
/// # Errors
///
/// [`ProofError`].
pub fn verify_mandate(text: &str) -> Result<MandateFacts, ProofError> {
    let part = "mandate";
    let chain: MandateChain = text.parse().map_err(|error| wrong(part, error))?;
    let first = chain.links.first().map(|link| &link.body);
    let first = first.ok_or_else(|| wrong(part, "it has no grant"))?;
    let then = Timestamp::EPOCH;
    chain
        .verify(first.root, first.network, then, first.epoch)
        .map_err(|error| wrong(part, error))?;
    let last = chain.last().ok_or_else(|| wrong(part, "it has no grant"))?;
    Ok(MandateFacts {
        network: last.network,
        payer: last.root,
        holder: last.holder,
        grants: u64::try_from(chain.links.len()).unwrap_or(u64::MAX),
        mandate: last.id(),
        trm_amount: last.range.amount(),
        expires_at: last.expires.to_rfc3339(),
    })
}

/// What is there; what is absent is not null.
pub(crate) fn present<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Why a file proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A part of it is damaged.
    #[error("its {part} is damaged: {why}")]
    Damaged {
        /// Which part.
        part: &'static str,
        /// Why.
        why: String,
    },
    /// A part is not by whom it should be, or of another network or chain.
    #[error("its {part} does not hold: {why}")]
    Wrong {
        /// Which part.
        part: &'static str,
        /// Why.
        why: String,
    },
    /// The words say something else than the bytes.
    #[error("its words say something else than the signed bytes; the file was altered")]
    Altered,
}

pub(crate) fn wrong(part: &'static str, why: impl std::fmt::Display) -> ProofError {
    ProofError::Wrong {
        part,
        why: why.to_string(),
    }
}

pub(crate) fn bytes(part: &'static str, text: &str) -> Result<Vec<u8>, ProofError> {
    id::hex_bytes(text).ok_or_else(|| ProofError::Damaged {
        part,
        why: "not hexadecimal".to_owned(),
    })
}

pub(crate) fn damaged(part: &'static str) -> impl FnOnce(crate::bytes::DecodeError) -> ProofError {
    move |error| ProofError::Damaged {
        part,
        why: error.to_string(),
    }
}

/// An entry of which all holds that can be known without its chain.
pub(crate) fn entry_alone(
    part: &'static str,
    text: &str,
    genesis: &Genesis,
) -> Result<Signed<Entry>, ProofError> {
    let signed = Signed::<Entry>::from_bytes(&bytes(part, text)?).map_err(damaged(part))?;
    Chain::check_alone(genesis, &signed).map_err(|error| wrong(part, error))?;
    Ok(signed)
}

pub(crate) fn genesis(text: &str) -> Result<Genesis, ProofError> {
    Genesis::from_bytes(&bytes("genesis", text)?).map_err(damaged("genesis"))
}

/// Whether the head is certified; a certificate that is there must hold.
fn certified(
    text: Option<&str>,
    genesis: &Genesis,
    entry: &Entry,
) -> Result<&'static str, ProofError> {
    let Some(text) = text else {
        return Ok("signed");
    };
    let part = "certificate";
    let certificate = Certificate::from_bytes(&bytes(part, text)?).map_err(damaged(part))?;
    certificate
        .verify(genesis)
        .map_err(|error| wrong(part, error))?;
    let head = certificate.head;
    if (head.author, head.seq, head.entry) != (entry.author, entry.seq, entry.id()) {
        return Err(wrong(part, "it is for another entry"));
    }
    Ok("certified")
}

impl BalanceFile {
    /// What a node has, by the newest entry of its chain.
    pub fn new(
        genesis: &Genesis,
        entry: &Signed<Entry>,
        certificate: Option<&Certificate>,
    ) -> Self {
        let assurance = if certificate.is_some() {
            "certified"
        } else {
            "signed"
        };
        Self {
            tirami_balance: 1,
            says: balance(&entry.body, assurance),
            genesis: id::to_hex(&genesis.to_bytes()),
            entry: id::to_hex(&entry.to_bytes()),
            certificate: certificate.map(|certificate| id::to_hex(&certificate.to_bytes())),
        }
    }

    /// Checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<BalanceFacts, ProofError> {
        let genesis = genesis(&self.genesis)?;
        let entry = entry_alone("entry", &self.entry, &genesis)?;
        let assurance = certified(self.certificate.as_deref(), &genesis, &entry.body)?;
        let truth = balance(&entry.body, assurance);
        if self.tirami_balance != 1 || self.says != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth)
    }
}

fn balance(entry: &Entry, assurance: &str) -> BalanceFacts {
    BalanceFacts {
        network: entry.network,
        node: entry.author,
        seq: entry.seq,
        head: entry.id(),
        as_of: entry.at().to_rfc3339(),
        trm_spendable: entry.spendable,
        trm_held: entry.held,
        trm_staked: entry.staked,
        assurance: assurance.to_owned(),
    }
}

impl InclusionFile {
    /// That `entry` stands on the chain whose entry `head` is newer.
    pub fn new(
        genesis: &Genesis,
        (entry, head): (&Signed<Entry>, &Signed<Entry>),
        certificate: Option<&Certificate>,
        path: Vec<Hash>,
    ) -> Self {
        let assurance = if certificate.is_some() {
            "certified"
        } else {
            "signed"
        };
        Self {
            tirami_inclusion: 1,
            says: inclusion(&entry.body, head.body.seq, assurance),
            genesis: id::to_hex(&genesis.to_bytes()),
            entry: id::to_hex(&entry.to_bytes()),
            head: id::to_hex(&head.to_bytes()),
            certificate: certificate.map(|certificate| id::to_hex(&certificate.to_bytes())),
            path,
        }
    }

    /// Checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<InclusionFacts, ProofError> {
        let genesis = genesis(&self.genesis)?;
        let entry = entry_alone("entry", &self.entry, &genesis)?;
        let head = entry_alone("head", &self.head, &genesis)?;
        let assurance = certified(self.certificate.as_deref(), &genesis, &head.body)?;
        let (entry, head) = (&entry.body, &head.body);
        if entry.author != head.author {
            return Err(wrong("head", "it is of another node's chain"));
        }
        let included = if entry.id() == head.id() {
            self.path.is_empty()
        } else if entry.seq >= head.seq || entry.hlc >= head.hlc || succeeds(entry) {
            return Err(wrong("head", "it is no newer entry of the chain"));
        } else {
            let proof = Inclusion {
                index: entry.seq.saturating_sub(1),
                size: head.seq.saturating_sub(1),
                path: self.path.clone(),
            };
            proof.root(&merkle::leaf(entry.id().as_bytes())) == Some(head.log_root)
        };
        if !included {
            return Err(wrong(
                "path",
                "it does not lead to the log root of the head",
            ));
        }
        let truth = inclusion(entry, head.seq, assurance);
        if self.tirami_inclusion != 1 || self.says != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth)
    }
}

fn succeeds(entry: &Entry) -> bool {
    matches!(entry.step, Step::Succession { .. })
}

fn inclusion(entry: &Entry, under: u64, assurance: &str) -> InclusionFacts {
    let trade = match &entry.step {
        Step::Trade(trade) => Some(&trade.agreement),
        _ => None,
    };
    InclusionFacts {
        network: entry.network,
        node: entry.author,
        seq: entry.seq,
        entry: entry.id(),
        kind: entry.step.name().to_owned(),
        at: entry.at().to_rfc3339(),
        receipt: trade.map(crate::commerce::Agreement::id),
        trm_amount: trade.map(|agreement| agreement.amount),
        under,
        assurance: assurance.to_owned(),
    }
}
