//! Whether something holds that somebody shows: the one place that tells what kind of proof it is.
//!
//! Needs nothing but the text: no network, no clock, nobody's word.

use serde::Serialize;

use crate::chain_file::{ChainFacts, ChainFileError, ChainReader};
use crate::mandate_chain::CHAIN_PREFIX;
use crate::proof_file::{
    BalanceFacts, BalanceFile, FraudFacts, FraudFile, InclusionFacts, InclusionFile, MandateFacts,
    ProofError, verify_mandate,
};
use crate::receipt_file::{ReceiptFile, ReceiptFileError};

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
        "it is not a receipt, chain, balance, mandate, proof of inclusion or proof of fraud, or it is cut \
         off: {0}"
    )]
    Unknown(String),
    /// A receipt.
    #[error(transparent)]
    Receipt(#[from] ReceiptFileError),
    /// A chain.
    #[error(transparent)]
    Chain(#[from] ChainFileError),
    /// A proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
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
    if ChainReader::begins(first) {
        let mut reader = ChainReader::default();
        for line in text.lines() {
            reader.line(line)?;
        }
        return Ok(Verified::Chain(Box::new(reader.finish()?)));
    }
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| VerifyError::Unknown(error.to_string()))?;
    let is = |kind: &str| value.get(kind).is_some();
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
