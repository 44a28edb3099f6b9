//! The only place that turns bytes into trust.
//!
//! The id of a document is SHA-256 over its domain tag and its unsigned body; a signature is
//! Ed25519 over [`SIGNATURE_TAG`] and that id. Ids leave signatures out, so signing the same body
//! twice makes the same document.

use sha2::{Digest, Sha256};

use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{self, PublicKey};
use crate::key::{SecretKey, Signature};

/// What precedes an id in the bytes that are signed.
pub const SIGNATURE_TAG: &[u8] = b"trm/v1/sig\0";

/// SHA-256 over a NUL-terminated domain tag and parts that follow it without separators.
pub fn hash(domain: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new_with_prefix(domain);
    for part in parts {
        sha.update(part);
    }
    sha.finalize().into()
}

/// Something with one fixed byte layout that can be signed.
pub trait Document: Sized {
    /// NUL-terminated ASCII, different for each kind of document.
    const DOMAIN: &'static [u8];

    /// Writes the fields in layout order.
    fn encode(&self, out: &mut Writer);

    /// Reads the fields in layout order.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`]; nothing is defaulted.
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// The unsigned body.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.encode(&mut out);
        out.finish()
    }

    /// Reads a body and refuses trailing bytes.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let document = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(document)
    }

    /// SHA-256 over the domain tag and the body.
    fn digest(&self) -> [u8; 32] {
        hash(Self::DOMAIN, &[&self.to_bytes()])
    }

    /// Signs the document.
    fn sign(&self, key: &SecretKey) -> Signature {
        key.sign(&signing_bytes(&self.digest()))
    }

    /// True when `signer` signed this document.
    fn is_signed_by(&self, signer: &impl PublicKey, signature: &Signature) -> bool {
        signature.is_by(signer, &signing_bytes(&self.digest()))
    }
}

/// What is signed: [`SIGNATURE_TAG`] and a document's digest.
pub(crate) fn signing_bytes(digest: &[u8; 32]) -> Vec<u8> {
    [SIGNATURE_TAG, digest].concat()
}

/// A document and a signature over it that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// The document.
    pub body: T,
    /// The signature.
    pub signature: Signature,
}

impl<T: Document> Signed<T> {
    /// Signs `body`.
    pub fn new(body: T, key: &SecretKey) -> Self {
        let signature = body.sign(key);
        Self { body, signature }
    }

    /// Body, then 64 bytes of signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.body.to_bytes().as_slice(), self.signature.as_bytes()].concat()
    }

    /// Reads body and signature; checks neither the signature nor the content.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let body = T::decode(&mut reader)?;
        let signature = Signature::from_bytes(reader.raw("signature")?);
        reader.finish()?;
        Ok(Self { body, signature })
    }

    /// Checks that `signer` signed the body.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when it did not.
    pub fn verify(self, signer: &impl PublicKey) -> Result<Verified<T>, SignatureError> {
        if self.body.is_signed_by(signer, &self.signature) {
            Ok(Verified {
                signer: *signer.key_bytes(),
                signed: self,
            })
        } else {
            Err(SignatureError::of(signer))
        }
    }
}

/// A document whose signature was checked, or made here: [`Signed::verify`] and [`Verified::sign`] are the
/// only makers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    signed: Signed<T>,
    /// By which key the signature is.
    signer: [u8; 32],
}

impl<T> Verified<T> {
    /// The document with its signature, for storing or passing on.
    pub const fn signed(&self) -> &Signed<T> {
        &self.signed
    }

    /// Whether the signature that was checked is by `signer`.
    pub fn is_by(&self, signer: &impl PublicKey) -> bool {
        self.signer == *signer.key_bytes()
    }
}

impl<T: Document> Verified<T> {
    /// Signs `body`: what was just made needs no check.
    pub fn sign(body: T, key: &SecretKey) -> Self {
        Self {
            signed: Signed::new(body, key),
            signer: *key.id().key_bytes(),
        }
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.signed.body
    }
}

/// The signature is not by the one it should be by, or the bytes were altered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the signature is not by {}, or the bytes were altered",
    id::to_hex(signer)
)]
pub struct SignatureError {
    signer: [u8; 32],
}

impl SignatureError {
    pub(crate) fn of(signer: &impl PublicKey) -> Self {
        Self {
            signer: *signer.key_bytes(),
        }
    }
}
