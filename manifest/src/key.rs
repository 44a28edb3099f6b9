//! Keys and signatures. One signature rule everywhere: Ed25519, checked with `verify_strict`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::{self, NodeId, OwnerId, PublicKey};
use crate::signed::{Document, Signed, signing_bytes};

/// A secret Ed25519 key; wiped from memory when dropped, never shown.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Wraps 32 secret bytes, which should come from the system's random generator.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The secret bytes, for storing them encrypted or handing them to the transport.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn id(&self) -> NodeId {
        NodeId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// The public half, of a key that belongs to an owner.
    pub fn owner_id(&self) -> OwnerId {
        OwnerId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes as they are. Documents are signed through [`crate::signed`].
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(bytes).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {})", self.id().short())
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the bytes.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// True when `signer` signed `bytes`, by the strict rule.
    pub fn is_by(&self, signer: &impl PublicKey, bytes: &[u8]) -> bool {
        VerifyingKey::from_bytes(signer.key_bytes()).is_ok_and(|key| {
            key.verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(&self.0))
                .is_ok()
        })
    }
}

/// Public keys that were unpacked before, for whoever checks many signatures by few keys.
#[derive(Clone, Debug, Default)]
pub struct Keyring(RefCell<BTreeMap<NodeId, VerifyingKey>>);

/// Most keys that a ring remembers; chosen: below a megabyte.
const RING_MAX: usize = 4_096;

impl Keyring {
    /// Whether `signer` signed a document, by the strict rule.
    pub fn is_signed<T: Document>(&self, signer: &NodeId, document: &Signed<T>) -> bool {
        self.signed(signer, &document.body.digest(), &document.signature)
    }

    /// Whether `signer` signed the document with this digest, by the strict rule.
    pub fn signed(&self, signer: &NodeId, digest: &[u8; 32], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        let holds = |key: &VerifyingKey| {
            let bytes = signing_bytes(digest);
            key.verify_strict(&bytes, &signature).is_ok()
        };
        if let Some(key) = self.0.borrow().get(signer) {
            return holds(key);
        }
        let Ok(key) = VerifyingKey::from_bytes(signer.key_bytes()) else {
            return false;
        };
        let mut ring = self.0.borrow_mut();
        if ring.len() < RING_MAX {
            ring.insert(*signer, key);
        }
        holds(&key)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&id::to_hex(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            id::from_hex(&String::deserialize(deserializer)?)
                .map(Self)
                .ok_or_else(|| de::Error::custom("a signature is 128 hexadecimal digits"))
        } else {
            let bytes = <&[u8]>::deserialize(deserializer)?;
            bytes
                .try_into()
                .map(Self)
                .map_err(|_| de::Error::custom("a signature is 64 bytes"))
        }
    }
}
