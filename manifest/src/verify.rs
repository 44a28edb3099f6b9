//! Whether something holds that somebody shows: the one place that tells what kind of proof it is.
//!
//! Needs nothing but the text: no network, no clock, nobody's word.

use serde::Serialize;

use crate::anchored_file::{AnchoredFacts, AnchoredFile};
use crate::archive_file::{ArchiveFacts, ArchiveFileError, ArchiveReader};
use crate::chain_file::{ChainFacts, ChainFileError, ChainReader};
use crate::journal_file::{GrowthFacts, GrowthFile, RecordFacts, RecordFile};
use crate::mandate_chain::CHAIN_PREFIX;
use crate::proof_file::{
    self, BalanceFacts, BalanceFile, FraudFacts, FraudFile, InclusionFacts, InclusionFile,
    MandateFacts, ProofError, verify_mandate,
};
use crate::receipt_file::{ReceiptFile, ReceiptFileError};
use crate::statement::LINES_MAX;
use crate::statement_file::{StatementFacts, StatementFile};

/// What holds, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Verified {
    /// A receipt, signed by both parties.
    Receipt(Box<ReceiptFile>),
    /// A chain, every entry of it.
    Chain(Box<ChainFacts>),
    /// What a node has, by the newest entry of its chain.
    Balance(Box<BalanceFacts>),
    /// That something stands on a chain.
    Inclusion(Box<InclusionFacts>),
    /// That somebody signed two things that cannot both stand.
    Fraud(Box<FraudFacts>),
    /// A travelling mandate: every grant, each within the one before.
    Mandate(Box<MandateFacts>),
    /// That a record is in a node's journal.
    Record(Box<RecordFacts>),
    /// That a node's journal only grew.
    Growth(Box<GrowthFacts>),
    /// Records of a node's journal, every one of them.
    Archive(Box<ArchiveFacts>),
    /// What moved on an account: its node's own word.
    Statement(Box<StatementFacts>),
    /// That a chain's newest entry existed before a payload was published.
    Anchored(Box<AnchoredFacts>),
}

impl Verified {
    /// The word for its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Receipt(_) => "receipt",
            Self::Chain(_) => "chain",
            Self::Balance(_) => "balance",
            Self::Inclusion(_) => "inclusion",
            Self::Fraud(_) => "fraud",
            Self::Mandate(_) => "mandate",
            Self::Record(_) => "record",
            Self::Growth(_) => "growth",
            Self::Archive(_) => "archive",
            Self::Statement(_) => "statement",
            Self::Anchored(_) => "anchored",
        }
    }

    /// What it proves, as JSON.
    pub fn facts(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::Object(facts)) => Some(facts),
            _ => None,
        }
    }
}

/// Why nothing is proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It is none of the kinds there are.
    #[error(
        "it is not a receipt, chain, balance, statement, mandate, archive, or proof of inclusion, of fraud, about \
         a journal or under an anchor, or it is cut off: {0}"
    )]
    Unknown(String),
    /// Larger than such a file gets.
    #[error("it is larger than {0} bytes, which nothing of its kind is: something was added to it")]
    TooLarge(usize),
    /// A statement larger than one gets.
    #[error(
        "it is larger than {0} bytes, and a statement has at most {LINES_MAX} lines; ask for one of a narrower period"
    )]
    LongStatement(usize),
    /// A receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptFileError),
    /// A chain.
    #[error(transparent)]
    Chain(#[from] ChainFileError),
    /// An archive.
    #[error(transparent)]
    Archive(#[from] ArchiveFileError),
    /// A proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// Largest text that is checked whole: a statement is the longest.
pub const SIZE_MAX: usize = crate::statement_file::SIZE_MAX;

/// Longest line of what is read line by line.
pub const LINE_MAX: usize = {
    let (chain, archive) = (crate::chain_file::LINE_MAX, crate::archive_file::LINE_MAX);
    if chain > archive { chain } else { archive }
};

/// What may be of any length is checked line by line, so that it needs little memory.
#[derive(Debug)]
pub enum LineReader {
    /// A chain.
    Chain(Box<ChainReader>),
    /// An archive.
    Archive(Box<ArchiveReader>),
}

impl LineReader {
    /// For what begins with this line; `None` when that is checked whole.
    pub fn of(first: &str) -> Option<Self> {
        if ChainReader::begins(first) {
            Some(Self::Chain(Box::default()))
        } else if ArchiveReader::begins(first) {
            Some(Self::Archive(Box::default()))
        } else {
            None
        }
    }

    /// Checks the next line, without its line end.
    ///
    /// # Errors
    ///
    /// [`VerifyError`]; nothing more can be read then.
    pub fn line(&mut self, text: &str) -> Result<(), VerifyError> {
        match self {
            Self::Chain(reader) => reader.line(text)?,
            Self::Archive(reader) => drop(reader.line(text)?),
        }
        Ok(())
    }

    /// What it proves, after the last line.
    ///
    /// # Errors
    ///
    /// [`VerifyError`], which says what does not hold.
    pub fn finish(self) -> Result<Verified, VerifyError> {
        Ok(match self {
            Self::Chain(reader) => Verified::Chain(Box::new(reader.finish()?)),
            Self::Archive(reader) => Verified::Archive(Box::new(reader.finish()?)),
        })
    }
}

/// Checks a text that is whole.
///
/// # Errors
///
/// [`VerifyError`], which says what does not hold.
pub fn verify(text: &str) -> Result<Verified, VerifyError> {
    let first = text.lines().next().unwrap_or_default();
    if first.trim().starts_with(CHAIN_PREFIX) {
        return Ok(Verified::Mandate(Box::new(verify_mandate(text.trim())?)));
    }
    if let Some(mut reader) = LineReader::of(first) {
        for line in text.lines() {
            reader.line(line)?;
        }
        return reader.finish();
    }
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| VerifyError::Unknown(error.to_string()))?;
    let is = |kind: &str| value.get(kind).is_some();
    let (most, too_large): (_, fn(usize) -> VerifyError) = if is("tirami_statement") {
        (SIZE_MAX, VerifyError::LongStatement)
    } else {
        (proof_file::SIZE_MAX, VerifyError::TooLarge)
    };
    if text.len() > most {
        return Err(too_large(most));
    }
    if is("tirami_receipt") {
        let (file, _) = ReceiptFile::verify(text)?;
        Ok(Verified::Receipt(Box::new(file)))
    } else if is("tirami_balance") {
        let file: BalanceFile = read(text)?;
        Ok(Verified::Balance(Box::new(file.verify()?)))
    } else if is("tirami_inclusion") {
        let file: InclusionFile = read(text)?;
        Ok(Verified::Inclusion(Box::new(file.verify()?)))
    } else if is("tirami_fraud") {
        let file: FraudFile = read(text)?;
        Ok(Verified::Fraud(Box::new(file.verify()?)))
    } else if is("tirami_record") {
        let file: RecordFile = read(text)?;
        Ok(Verified::Record(Box::new(file.verify()?)))
    } else if is("tirami_growth") {
        let file: GrowthFile = read(text)?;
        Ok(Verified::Growth(Box::new(file.verify()?)))
    } else if is("tirami_statement") {
        let file: StatementFile = read(text)?;
        Ok(Verified::Statement(Box::new(file.verify()?)))
    } else if is("tirami_anchored") {
        let file: AnchoredFile = read(text)?;
        Ok(Verified::Anchored(Box::new(file.verify()?)))
    } else {
        Err(VerifyError::Unknown(
            "no field says what it is, such as 'tirami_receipt'".to_owned(),
        ))
    }
}

/// From the text itself: a value would not show a field that stands twice.
fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, VerifyError> {
    serde_json::from_str(text).map_err(|error| VerifyError::Unknown(error.to_string()))
}
