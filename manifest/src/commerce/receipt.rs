//! Receipts: what both parties of a trade agreed to, with all that a third party needs to check it.

use super::{Agreement, Quote, TermsError, Voucher};
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::ReceiptId;
use crate::key::{SecretKey, Signature};
use crate::signed::{Document, SignatureError, Signed, Verified};

/// Version of a receipt that both signed.
const SIGNED: u8 = 1;

/// Version of one that the provider claims by voucher.
const CLAIMED: u8 = 2;

/// An agreement with the signatures of both parties and the quote it stands under: all that a third
/// party needs to check it. Nobody has checked this one yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The quote, signed by the provider.
    pub quote: Signed<Quote>,
    /// The agreement.
    pub agreement: Agreement,
    /// The provider's signature over the agreement.
    pub provider_signature: Signature,
    /// How the consumer agreed.
    pub consent: Consent,
}

impl Receipt {
    /// Countersigns a provider's proposal that follows from its quote. The signatures of both were checked,
    /// and are not checked again.
    ///
    /// # Errors
    ///
    /// As [`Receipt::verify`]; then nothing was signed.
    pub fn countersign(
        quote: &Verified<Quote>,
        proposal: &Verified<Agreement>,
        consumer: &SecretKey,
    ) -> Result<VerifiedReceipt, ReceiptError> {
        let Signed { body, signature } = proposal.signed().clone();
        body.check_against(quote)?;
        for (holds, what, signer) in [
            (quote.is_by(&body.provider), "quote", &body.provider),
            (proposal.is_by(&body.provider), "provider's", &body.provider),
            (consumer.id() == body.consumer, "consumer's", &body.consumer),
        ] {
            if !holds {
                let source = SignatureError::of(signer);
                return Err(ReceiptError::Signature { what, source });
            }
        }
        Ok(VerifiedReceipt(Self {
            quote: quote.signed().clone(),
            consent: Consent::Signature(body.sign(consumer)),
            agreement: body,
            provider_signature: signature,
        }))
    }

    /// What a provider may claim by the last voucher it has, where the consumer signs no more: an agreement
    /// on exactly what was vouched for.
    pub fn claim(
        quote: &Verified<Quote>,
        agreement: Agreement,
        voucher: Signed<Voucher>,
        provider: &SecretKey,
    ) -> Self {
        Self {
            quote: quote.signed().clone(),
            provider_signature: agreement.sign(provider),
            agreement,
            consent: Consent::Voucher(voucher),
        }
    }

    /// Whether the consumer's consent is a voucher.
    pub const fn is_claim(&self) -> bool {
        matches!(self.consent, Consent::Voucher(_))
    }

    /// The id both parties know it by.
    pub fn id(&self) -> ReceiptId {
        self.agreement.id()
    }

    /// Checks signatures, price and maxima, with nothing but the bytes.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`], which says what does not hold.
    pub fn verify(self) -> Result<VerifiedReceipt, ReceiptError> {
        let quote = self
            .quote
            .clone()
            .verify(&self.quote.body.provider)
            .map_err(|source| ReceiptError::Signature {
                what: "quote",
                source,
            })?;
        self.agreement.check_against(&quote)?;
        let agreement = &self.agreement;
        let failed = |what| move |source| ReceiptError::Signature { what, source };
        let by_provider = Signed {
            body: agreement.clone(),
            signature: self.provider_signature,
        };
        by_provider
            .verify(&agreement.provider)
            .map_err(failed("provider's"))?;
        self.consented()?;
        Ok(VerifiedReceipt(self))
    }

    /// Checks a receipt on a quote and a proposal that were signed or checked here: where it has just these,
    /// only what the consumer signed is new.
    ///
    /// # Errors
    ///
    /// As [`Receipt::verify`].
    pub fn verify_on(
        self,
        quote: &Verified<Quote>,
        proposal: &Verified<Agreement>,
    ) -> Result<VerifiedReceipt, ReceiptError> {
        let provider = &self.agreement.provider;
        let known = self.quote == *quote.signed()
            && self.agreement == proposal.signed().body
            && self.provider_signature == proposal.signed().signature
            && quote.is_by(provider)
            && proposal.is_by(provider);
        if !known {
            return self.verify();
        }
        self.agreement.check_against(quote)?;
        self.consented()?;
        Ok(VerifiedReceipt(self))
    }

    /// Checks what the consumer signed.
    fn consented(&self) -> Result<(), ReceiptError> {
        let agreement = &self.agreement;
        let failed = |what| move |source| ReceiptError::Signature { what, source };
        match &self.consent {
            Consent::Signature(signature) => {
                let signed = Signed {
                    body: agreement.clone(),
                    signature: *signature,
                };
                let checked = signed.verify(&agreement.consumer);
                checked.map_err(failed("consumer's"))?;
            }
            Consent::Voucher(voucher) => {
                if !voucher.body.is_for(agreement) {
                    return Err(ReceiptError::OtherVoucher);
                }
                let checked = voucher.clone().verify(&agreement.consumer);
                checked.map_err(failed("voucher's"))?;
            }
        }
        Ok(())
    }

    /// Version, length-prefixed quote with signature, length-prefixed agreement, the provider's signature,
    /// then the consumer's signature (version 1) or its voucher with signature (version 2).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(if self.is_claim() { CLAIMED } else { SIGNED })
            .string(&self.quote.to_bytes())
            .string(&self.agreement.to_bytes())
            .raw(self.provider_signature.as_bytes());
        self.consent.encode(&mut out);
        out.finish()
    }

    /// Reads what [`Receipt::to_bytes`] wrote; checks no signature.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let version = from.u8("version")?;
        let quote = Signed::from_bytes(from.string("quote")?)?;
        let agreement = Agreement::from_bytes(from.string("agreement")?)?;
        let provider_signature = Signature::from_bytes(from.raw("provider signature")?);
        let receipt = Self {
            quote,
            agreement,
            provider_signature,
            consent: match version {
                SIGNED => Consent::signature(&mut from)?,
                CLAIMED => Consent::voucher(&mut from)?,
                other => return Err(DecodeError::Version(other)),
            },
        };
        from.finish()?;
        Ok(receipt)
    }
}

/// A receipt in which everything that can be checked offline was; [`Receipt::verify`] makes it, and of
/// what was checked before [`Receipt::countersign`] and [`Receipt::verify_on`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReceipt(Receipt);

impl std::ops::Deref for VerifiedReceipt {
    type Target = Receipt;

    fn deref(&self) -> &Receipt {
        &self.0
    }
}

/// How a consumer agreed to what a trade comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consent {
    /// It signed the agreement.
    Signature(Signature),
    /// It signed a voucher for exactly that while the work went on, and no more after it.
    Voucher(Signed<Voucher>),
}

impl Consent {
    /// What the consumer signed, and its signature; `None` where that is something else than the agreement
    /// says.
    pub fn signed(&self, agreement: &Agreement) -> Option<([u8; 32], Signature)> {
        match self {
            Self::Signature(signature) => Some((agreement.digest(), *signature)),
            Self::Voucher(voucher) => voucher
                .body
                .is_for(agreement)
                .then(|| (voucher.body.digest(), voucher.signature)),
        }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Signature(signature) => {
                out.raw(signature.as_bytes());
            }
            Self::Voucher(voucher) => {
                voucher.body.encode(out);
                out.raw(voucher.signature.as_bytes());
            }
        }
    }

    pub(crate) fn signature(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let signature = from.raw("consumer signature")?;
        Ok(Self::Signature(Signature::from_bytes(signature)))
    }

    pub(crate) fn voucher(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::Voucher(Signed {
            body: Voucher::decode(from)?,
            signature: Signature::from_bytes(from.raw("voucher signature")?),
        }))
    }
}

/// Why a receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// Its terms do not follow from its quote.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The voucher beside it is for something else.
    #[error("the voucher in the receipt promises something else than the receipt says")]
    OtherVoucher,
    /// A signature does not hold.
    #[error("the {what} signature does not hold: {source}")]
    Signature {
        /// Which one.
        what: &'static str,
        /// Why.
        source: SignatureError,
    },
}
