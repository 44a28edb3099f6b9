//! The agent manifest served at `/.well-known/tirami-agent.json`: who a node is, where it can be
//! reached, what it sells and for how much, until when; signed as a JWS over JCS.
//!
//! The signature has the shape A2A uses: `signatures: [{protected, signature}]`, detached, over the
//! canonical JSON of the document without `signatures`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::amount::Amount;
use crate::id::{ModelId, NetworkId, NodeId};
use crate::key::{SecretKey, Signature};
use crate::time::Timestamp;

/// Where a host serves its manifest.
pub const PATH: &str = "/.well-known/tirami-agent.json";

/// How long a manifest is good for: 72 hours.
pub const VALID_MS: u64 = 72 * 3_600_000;

/// Largest manifest that is read; from the format's own limit of 256 KiB.
pub const SIZE_MAX: usize = 256 * 1_024;

/// What one node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentManifest {
    /// Version of this layout, `1.0`.
    pub schema_version: String,
    /// Protocol and its major version, `tirami/1`.
    pub protocol: String,
    /// The node; the signer.
    pub node_id: NodeId,
    /// The network it trades in.
    pub network_id: NetworkId,
    /// Milliseconds since 1970, as a decimal string.
    pub issued_at_ms: String,
    /// After this nothing here binds; milliseconds since 1970, as a decimal string.
    pub expires_at_ms: String,
    /// The unit of every price.
    pub currency: Currency,
    /// Ways to reach the node.
    pub endpoints: Vec<Endpoint>,
    /// What it sells.
    pub offers: Vec<ModelOffer>,
}

/// The unit of account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Currency {
    /// `TRM`.
    pub unit: String,
    /// FLOP one unit pays for at par.
    pub anchor_flops_per_unit: String,
    /// Decimals of the smallest amount.
    pub decimals: u8,
}

/// One way to reach the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// `iroh`, `openai` or `rest`.
    pub kind: String,
    /// Where.
    pub url: String,
}

/// One model for sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelOffer {
    /// Name for people.
    pub model: String,
    /// SHA-256 of the GGUF file.
    pub model_id: ModelId,
    /// Most tokens of prompt and answer together.
    pub context: u32,
    /// Price relative to par in parts per million; the least where it moves with what there is to do.
    pub multiplier_ppm: u32,
    /// The most, where the price moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multiplier_max_ppm: Option<u32>,
    /// What a job of 100 prompt tokens and 100 generated ones costs.
    pub trm_per_100_in_100_out: Amount,
    /// Figures from which anyone computes the exact price, as decimal strings.
    pub price_inputs: PriceInputs,
}

/// The figures behind a price; see [`crate::model::ModelCard`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PriceInputs {
    /// Elements of the blocks' matrices.
    pub block_weights: String,
    /// Elements of the output matrix.
    pub head_weights: String,
    /// FLOP per token and attended position.
    pub attention_flop: String,
    /// Sliding window in tokens, 0 for none.
    pub window: u32,
}

/// Why a manifest is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Too large to be one.
    #[error("larger than {SIZE_MAX} bytes")]
    TooLarge,
    /// Not the JSON it should be.
    #[error("not a tirami-agent manifest: {0}")]
    Malformed(String),
    /// No signature in it.
    #[error("it carries no signature")]
    Unsigned,
    /// The signature is not by the node it names.
    #[error("the signature is not by node {}, or the manifest was altered", .0.short())]
    Signature(NodeId),
    /// Past its expiry.
    #[error("it expired at {}", .0.to_rfc3339())]
    Expired(Timestamp),
}

impl AgentManifest {
    /// The canonical JSON with a signature by `key` added.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Malformed`] when the document does not serialise, which does not happen.
    pub fn to_signed_json(&self, key: &SecretKey) -> Result<String, ManifestError> {
        let malformed = |e: serde_json::Error| ManifestError::Malformed(e.to_string());
        let mut document = serde_json::to_value(self).map_err(malformed)?;
        let protected = json!({"alg": "Ed25519", "kid": key.id(), "typ": "tirami-manifest+jws"});
        let protected = BASE64_URL_SAFE_NO_PAD.encode(canonical(&protected)?);
        let signature = key.sign(&signing_input(&protected, &document)?);
        if let Some(fields) = document.as_object_mut() {
            fields.insert(
                "signatures".into(),
                json!([{
                    "protected": protected,
                    "signature": BASE64_URL_SAFE_NO_PAD.encode(signature.as_bytes()),
                }]),
            );
        }
        canonical(&document)
    }

    /// Reads a manifest and checks its signature and expiry. Unknown fields are allowed and covered
    /// by the signature.
    ///
    /// # Errors
    ///
    /// The first [`ManifestError`] in the order of that enum.
    pub fn verify(text: &str, now: Timestamp) -> Result<Self, ManifestError> {
        if text.len() > SIZE_MAX {
            return Err(ManifestError::TooLarge);
        }
        let malformed = |e: serde_json::Error| ManifestError::Malformed(e.to_string());
        let mut document: Value = serde_json::from_str(text).map_err(malformed)?;
        let Some(fields) = document.as_object_mut() else {
            return Err(ManifestError::Malformed(
                "the top level is not an object".into(),
            ));
        };
        let signatures = fields.remove("signatures").ok_or(ManifestError::Unsigned)?;
        let manifest: Self = serde_json::from_value(document.clone()).map_err(malformed)?;
        let part = |name: &str| signatures.get(0)?.get(name)?.as_str();
        let (Some(protected), Some(signature)) = (part("protected"), part("signature")) else {
            return Err(ManifestError::Unsigned);
        };
        let refused = || ManifestError::Signature(manifest.node_id);
        let header: Value = BASE64_URL_SAFE_NO_PAD
            .decode(protected)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or_else(refused)?;
        if !matches!(
            header.get("alg").and_then(Value::as_str),
            Some("Ed25519" | "EdDSA")
        ) {
            return Err(refused());
        }
        let signature = BASE64_URL_SAFE_NO_PAD
            .decode(signature)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Signature::from_bytes)
            .ok_or_else(refused)?;
        if !signature.is_by(&manifest.node_id, &signing_input(protected, &document)?) {
            return Err(refused());
        }
        let expires = manifest
            .expires_at_ms
            .parse()
            .map(Timestamp::from_ms)
            .map_err(|_| ManifestError::Malformed("expires_at_ms is not a number".into()))?;
        if expires <= now {
            return Err(ManifestError::Expired(expires));
        }
        Ok(manifest)
    }
}

fn canonical(document: &Value) -> Result<String, ManifestError> {
    serde_json_canonicalizer::to_string(document)
        .map_err(|e| ManifestError::Malformed(e.to_string()))
}

/// JWS signing input: the protected header, a point, and base64url of the canonical payload.
fn signing_input(protected: &str, document: &Value) -> Result<Vec<u8>, ManifestError> {
    let payload = BASE64_URL_SAFE_NO_PAD.encode(canonical(document)?);
    Ok(format!("{protected}.{payload}").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(key: &SecretKey) -> AgentManifest {
        AgentManifest {
            schema_version: "1.0".into(),
            protocol: "tirami/1".into(),
            node_id: key.id(),
            network_id: NetworkId::from_bytes([7; 32]),
            issued_at_ms: "1000".into(),
            expires_at_ms: "2000".into(),
            currency: Currency {
                unit: "TRM".into(),
                anchor_flops_per_unit: "1000000000".into(),
                decimals: 6,
            },
            endpoints: vec![Endpoint {
                kind: "openai".into(),
                url: "http://127.0.0.1:1/v1".into(),
            }],
            offers: Vec::new(),
        }
    }

    #[test]
    fn a_signed_manifest_verifies_until_it_expires_or_a_letter_changes() {
        let key = SecretKey::from_bytes(&[9; 32]);
        let text = manifest(&key).to_signed_json(&key).unwrap();
        assert_eq!(
            AgentManifest::verify(&text, Timestamp::from_ms(1_999)).unwrap(),
            manifest(&key)
        );
        assert!(matches!(
            AgentManifest::verify(&text, Timestamp::from_ms(2_000)),
            Err(ManifestError::Expired(_))
        ));
        let altered = text.replace("127.0.0.1:1", "127.0.0.1:2");
        assert!(matches!(
            AgentManifest::verify(&altered, Timestamp::EPOCH),
            Err(ManifestError::Signature(_))
        ));
        let other = manifest(&key)
            .to_signed_json(&SecretKey::from_bytes(&[8; 32]))
            .unwrap();
        assert!(matches!(
            AgentManifest::verify(&other, Timestamp::EPOCH),
            Err(ManifestError::Signature(_))
        ));
    }
}
