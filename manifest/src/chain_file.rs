//! A chain as a file: lines of JSON, one for each entry, which anyone can check without asking anybody.
//!
//! The first line names the network and whose chain it is, the last says where it ends and, where a
//! witness signed that, carries the certificate. Only the signed bytes prove anything; the words beside
//! them are for people, and a line whose words say something else is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::bytes::DecodeError;
use crate::chain::{Certificate, CertificateError, Chain, ENTRY_MAX, Entry, Rejected};
use crate::genesis::Genesis;
use crate::id::{self, EntryId, NetworkId, NodeId};
use crate::signed::{Document, Signed};

/// Longest line: an entry or a genesis in hexadecimal, and the words beside it.
pub const LINE_MAX: usize = 2 * ENTRY_MAX + 8_192;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainHeader {
    /// Version of this layout: 1.
    pub tirami_chain: u8,
    /// The network.
    pub network: NetworkId,
    /// Whose chain.
    pub node: NodeId,
    /// The network's genesis document in hexadecimal.
    pub genesis: String,
}

/// A line for an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainLine {
    /// The entry's number, from 1.
    pub seq: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What the node can spend after it.
    pub trm_spendable: Amount,
    /// The signed entry in hexadecimal.
    pub entry: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainEnd {
    /// How many entries there are.
    pub entries: u64,
    /// Id of the newest.
    pub head: EntryId,
    /// The certificate over it in hexadecimal, when there is one.
    #[serde(
        default,
        deserialize_with = "crate::proof_file::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub certificate: Option<String>,
}

/// What a chain that holds says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainFacts {
    /// The network.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// Whose chain.
    pub node: NodeId,
    /// How many entries.
    pub entries: u64,
    /// Id of the newest.
    pub head: EntryId,
    /// When it was appended, RFC 3339 in UTC.
    pub as_of: String,
    /// What the node can spend.
    pub trm_spendable: Amount,
    /// What it has set aside on its chain.
    pub trm_held: Amount,
    /// What it has staked.
    pub trm_staked: Amount,
    /// What it earned that is not certified yet.
    pub trm_waiting: Amount,
    /// What it owes, or is owed as an issuer, on welcome loans.
    pub trm_loans: Amount,
    /// What it made as an issuer.
    pub trm_made: Amount,
    /// What of that it retired.
    pub trm_retired: Amount,
    /// `certified` by the network's witnesses, or `signed` by the node alone.
    pub assurance: String,
}

/// Why a file is not a chain that holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFileError {
    /// A line is not what it should be.
    #[error("line {line} is not a line of a chain file: {why}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// Why.
        why: String,
    },
    /// The genesis is damaged, or of another network than the file says.
    #[error("the genesis document {0}")]
    Genesis(String),
    /// An entry does not follow.
    #[error("entry {seq} does not hold: {why}")]
    Entry {
        /// Its place, from 1.
        seq: u64,
        /// Why.
        why: Rejected,
    },
    /// Words that say something else than the bytes.
    #[error("line {line}: {field} says something else than the signed bytes; the file was altered")]
    Altered {
        /// Which line, from 1.
        line: u64,
        /// Which word.
        field: &'static str,
    },
    /// The end is missing, or says something else.
    #[error("the file is cut off: {0}")]
    CutOff(&'static str),
    /// The certificate certifies nothing.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate's bytes are damaged.
    #[error("the certificate is damaged: {0}")]
    CertificateBytes(&'static str),
}

impl ChainHeader {
    /// The first line of a chain.
    pub fn new(genesis: &Genesis, node: NodeId) -> Self {
        Self {
            tirami_chain: 1,
            network: genesis.id(),
            node,
            genesis: id::to_hex(&genesis.to_bytes()),
        }
    }
}

impl ChainLine {
    /// The line for an entry.
    pub fn new(signed: &Signed<Entry>) -> Self {
        let entry = &signed.body;
        Self {
            seq: entry.seq,
            kind: entry.step.name().to_owned(),
            at: entry.at().to_rfc3339(),
            trm_spendable: entry.spendable,
            entry: id::to_hex(&signed.to_bytes()),
        }
    }

    /// What stands in the line as bytes.
    ///
    /// # Errors
    ///
    /// [`Rejected::Decode`], or which word says something else.
    pub fn open(&self) -> Result<Signed<Entry>, Result<Rejected, &'static str>> {
        let bytes = id::hex_bytes(&self.entry).ok_or(Ok(Rejected::Decode(DecodeError::Value(
            "entry: not hexadecimal",
        ))))?;
        if bytes.len() > ENTRY_MAX {
            return Err(Ok(Rejected::TooLarge(bytes.len())));
        }
        let signed = Signed::from_bytes(&bytes).map_err(|error| Ok(Rejected::Decode(error)))?;
        let truth = Self::new(&signed);
        for (field, same) in [
            ("seq", self.seq == truth.seq),
            ("type", self.kind == truth.kind),
            ("at", self.at == truth.at),
            ("trm_spendable", self.trm_spendable == truth.trm_spendable),
        ] {
            if !same {
                return Err(Err(field));
            }
        }
        Ok(signed)
    }
}

/// Checks a chain file line by line, so that a long one needs little memory.
#[derive(Debug, Default)]
pub struct ChainReader {
    lines: u64,
    chain: Option<Box<Chain>>,
    at: String,
    end: Option<ChainEnd>,
}

impl ChainReader {
    /// Whether `line` begins a chain file.
    pub fn begins(line: &str) -> bool {
        serde_json::from_str::<ChainHeader>(line).is_ok()
    }

    /// Checks the next line, without its line end.
    ///
    /// # Errors
    ///
    /// [`ChainFileError`]; nothing more can be read then.
    pub fn line(&mut self, text: &str) -> Result<(), ChainFileError> {
        self.lines = self.lines.saturating_add(1);
        let line = self.lines;
        let not = |why: String| ChainFileError::Line { line, why };
        if text.len() > LINE_MAX {
            return Err(not(format!("it has more than {LINE_MAX} bytes")));
        }
        if let Some(end) = &self.end {
            // After the chain of a key that was changed comes the one that goes on.
            let header = serde_json::from_str::<ChainHeader>(text)
                .map_err(|_| not("the file has ended before".to_owned()))?;
            let before = self
                .chain
                .as_deref()
                .ok_or(ChainFileError::CutOff("it is empty"))?;
            ends(before, end)?;
            let next = before
                .goes_on()
                .filter(|next| next.author() == header.node)
                .filter(|next| next.genesis().id() == header.network);
            let next = next.ok_or_else(|| {
                not("it begins another chain than the one that goes on".to_owned())
            })?;
            open(&header)?;
            (self.chain, self.end) = (Some(Box::new(next)), None);
            return Ok(());
        }
        let Some(chain) = &mut self.chain else {
            let header: ChainHeader =
                serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
            self.chain = Some(Box::new(open(&header)?));
            return Ok(());
        };
        if let Ok(end) = serde_json::from_str::<ChainEnd>(text) {
            self.end = Some(end);
            return Ok(());
        }
        let entry: ChainLine =
            serde_json::from_str(text).map_err(|error| not(error.to_string()))?;
        let seq = chain.seq().saturating_add(1);
        let signed = entry.open().map_err(|wrong| match wrong {
            Ok(why) => ChainFileError::Entry { seq, why },
            Err(field) => ChainFileError::Altered { line, field },
        })?;
        chain
            .append(&signed)
            .map_err(|why| ChainFileError::Entry { seq, why })?;
        self.at = entry.at;
        Ok(())
    }

    /// What the chain says, after its last line.
    ///
    /// # Errors
    ///
    /// [`ChainFileError::CutOff`], or a certificate that does not hold.
    pub fn finish(self) -> Result<ChainFacts, ChainFileError> {
        let chain = self.chain.ok_or(ChainFileError::CutOff("it is empty"))?;
        let end = self
            .end
            .ok_or(ChainFileError::CutOff("its last line is missing"))?;
        ends(&chain, &end)?;
        let certified = end.certificate.is_some();
        let state = chain.state();
        let sum = |open: &mut dyn Iterator<Item = Amount>| {
            open.fold(Amount::ZERO, |sum, amount| {
                sum.checked_add(amount).unwrap_or(Amount::MAX)
            })
        };
        Ok(ChainFacts {
            network: chain.genesis().id(),
            network_name: chain.genesis().name.clone(),
            node: chain.author(),
            entries: chain.seq(),
            head: chain.head(),
            as_of: self.at,
            trm_spendable: state.spendable,
            trm_held: state.held,
            trm_staked: state.staked,
            trm_waiting: sum(&mut state.waiting.values().map(|waits| waits.amount)),
            trm_loans: sum(&mut state.loans.values().map(|loan| loan.owed)),
            trm_made: state.made,
            trm_retired: state.retired,
            assurance: if certified { "certified" } else { "signed" }.to_owned(),
        })
    }
}

fn open(header: &ChainHeader) -> Result<Chain, ChainFileError> {
    let damaged = |why: String| ChainFileError::Genesis(why);
    let bytes = id::hex_bytes(&header.genesis)
        .ok_or_else(|| damaged("is damaged: not hexadecimal".to_owned()))?;
    let genesis =
        Genesis::from_bytes(&bytes).map_err(|error| damaged(format!("is damaged: {error}")))?;
    if header.tirami_chain != 1 {
        return Err(damaged(
            "stands in a file of a version not known here".to_owned(),
        ));
    }
    if genesis.id() != header.network {
        return Err(damaged(
            "is of another network than the file says".to_owned(),
        ));
    }
    Ok(Chain::new(genesis, header.node))
}

/// Whether a chain ends as its last line says.
fn ends(chain: &Chain, end: &ChainEnd) -> Result<(), ChainFileError> {
    if chain.seq() == 0 {
        return Err(ChainFileError::CutOff("no entry stands in it"));
    }
    if end.entries != chain.seq() || end.head != chain.head() {
        return Err(ChainFileError::CutOff("its last line names another end"));
    }
    end.certificate
        .as_deref()
        .map_or(Ok(()), |text| certified_end(chain, text))
}

fn certified_end(chain: &Chain, text: &str) -> Result<(), ChainFileError> {
    let damaged = ChainFileError::CertificateBytes;
    let bytes = id::hex_bytes(text).ok_or(damaged("not hexadecimal"))?;
    let certificate = Certificate::from_bytes(&bytes).map_err(|_| damaged("not a certificate"))?;
    certificate.verify(chain.genesis())?;
    let head = certificate.head;
    if head.author != chain.author() {
        return Err(damaged("it is for another chain"));
    }
    if (head.seq, head.entry) != (chain.seq(), chain.head()) {
        return Err(ChainFileError::CutOff("its certificate is for another end"));
    }
    Ok(())
}
