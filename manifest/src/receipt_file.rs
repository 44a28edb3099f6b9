//! A receipt as a file: the signed bytes, and the same facts in words beside them.
//!
//! Only the bytes prove anything. The words are for people, and a file whose words say something
//! else than its bytes is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::bytes::DecodeError;
use crate::commerce::{Receipt, ReceiptError, VerifiedReceipt};
use crate::id::{self, ModelId, NetworkId, NodeId, ReceiptId};
use crate::job::Finish;

/// Largest file that is read as a receipt; the signed bytes need less than 2 KiB.
pub const SIZE_MAX: usize = 64 * 1_024;

/// A receipt with its facts in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptFile {
    /// Version of this layout: 1.
    pub tirami_receipt: u8,
    /// The receipt's id, the same for both parties.
    pub receipt: ReceiptId,
    /// The network whose TRM was paid.
    pub network: NetworkId,
    /// Who sold.
    pub provider: NodeId,
    /// Who bought.
    pub consumer: NodeId,
    /// The model that was run.
    pub model_id: ModelId,
    /// Tokens of the prompt, template included.
    pub tokens_in: u32,
    /// Tokens generated.
    pub tokens_out: u32,
    /// Thousands of nominal FLOP, as a decimal string.
    pub kflop: String,
    /// Price relative to par in parts per million.
    pub multiplier_ppm: u32,
    /// What was paid.
    pub trm_amount: Amount,
    /// Most that the quote allowed.
    pub trm_quoted_max: Amount,
    /// Why the generation ended.
    pub finish: Finish,
    /// When it ended, RFC 3339 in UTC.
    pub ended_at: String,
    /// The signed bytes in hexadecimal: quote, agreement and the three signatures.
    pub signed: String,
}

/// Why a file is not a receipt that holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptFileError {
    /// Too large to be one.
    #[error("larger than {SIZE_MAX} bytes; not a receipt")]
    TooLarge,
    /// Not the JSON it should be, or cut off.
    #[error("not a receipt file, or cut off: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The bytes are not hexadecimal.
    #[error("its signed bytes are damaged: not hexadecimal")]
    Hex,
    /// The bytes are not a receipt.
    #[error("its signed bytes are damaged: {0}")]
    Decode(#[from] DecodeError),
    /// The bytes prove nothing.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The words say something else than the bytes.
    #[error("the field {0} says something else than the signed bytes; the file was altered")]
    Altered(&'static str),
}

impl ReceiptFile {
    /// Puts a receipt into words.
    pub fn new(receipt: &Receipt) -> Self {
        let agreement = &receipt.agreement;
        Self {
            tirami_receipt: 1,
            receipt: receipt.id(),
            network: agreement.network,
            provider: agreement.provider,
            consumer: agreement.consumer,
            model_id: agreement.model,
            tokens_in: agreement.usage.tokens_in,
            tokens_out: agreement.usage.tokens_out,
            kflop: agreement.kflop.to_string(),
            multiplier_ppm: agreement.multiplier.ppm(),
            trm_amount: agreement.amount,
            trm_quoted_max: receipt.quote.body.max_amount,
            finish: agreement.finish,
            ended_at: agreement.ended().to_rfc3339(),
            signed: id::to_hex(&receipt.to_bytes()),
        }
    }

    /// Reads a file and checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ReceiptFileError`], which says what does not hold.
    pub fn verify(text: &str) -> Result<(Self, VerifiedReceipt), ReceiptFileError> {
        if text.len() > SIZE_MAX {
            return Err(ReceiptFileError::TooLarge);
        }
        let file: Self = serde_json::from_str(text)?;
        let bytes = id::hex_bytes(&file.signed).ok_or(ReceiptFileError::Hex)?;
        let receipt = Receipt::from_bytes(&bytes)?.verify()?;
        let truth = Self::new(&receipt);
        let (said, is) = (serde_json::to_value(&file)?, serde_json::to_value(&truth)?);
        for field in FIELDS {
            if said.get(field) != is.get(field) {
                return Err(ReceiptFileError::Altered(field));
            }
        }
        Ok((truth, receipt))
    }
}

const FIELDS: [&str; 15] = [
    "tirami_receipt",
    "receipt",
    "network",
    "provider",
    "consumer",
    "model_id",
    "tokens_in",
    "tokens_out",
    "kflop",
    "multiplier_ppm",
    "trm_amount",
    "trm_quoted_max",
    "finish",
    "ended_at",
    "signed",
];
