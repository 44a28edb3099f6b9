//! Ids: distinct newtypes over bytes, each with one text form, lower-case hexadecimal.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no {kind}: {want} hexadecimal digits are needed")]
pub struct IdError {
    kind: &'static str,
    want: usize,
    text: String,
}

/// Writes bytes as lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
        text
    })
}

/// Reads hexadecimal of exactly `N` bytes; `None` otherwise.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N.checked_mul(2)? || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        if pair.starts_with('+') {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

/// Reads hexadecimal of any even length; `None` otherwise.
pub fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(from_hex::<1>)
                .map(|[byte]| byte)
        })
        .collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Bytes in one id.
            pub const LEN: usize = $len;

            /// Wraps the bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first ten hexadecimal digits, for people and logs.
            pub fn short(&self) -> String {
                to_hex(&self.0).chars().take(10).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                from_hex(text).map(Self).ok_or_else(|| IdError {
                    kind: $kind,
                    want: $len * 2,
                    text: text.chars().take(80).collect(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(deserializer).map(Self)
                }
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "description": concat!($kind, ", lower-case hexadecimal"),
                    "pattern": format!("^[0-9a-f]{{{}}}$", $len * 2)
                })
            }
        }
    };
}

id!(
    /// A node: its Ed25519 public key (32 bytes, little-endian y), which is also its iroh id.
    NodeId, 32, "node id"
);
id!(
    /// The owner of a node: an Ed25519 public key whose secret half only a passphrase opens.
    OwnerId, 32, "owner id"
);
id!(
    /// A network: SHA-256 of its genesis document. Inside every signed byte string.
    NetworkId, 32, "network id"
);
id!(
    /// A model: SHA-256 of its GGUF file.
    ModelId, 32, "model id"
);
id!(
    /// A quote: SHA-256 of its unsigned body under the quote domain.
    QuoteId, 32, "quote id"
);
id!(
    /// A receipt: SHA-256 of the agreement both parties signed.
    ReceiptId, 32, "receipt id"
);
id!(
    /// A link of a travelling mandate: SHA-256 of the unsigned grant.
    GrantId, 32, "grant id"
);
id!(
    /// A transfer in one node's ledger, derived from what it is for, so that a retry names the same.
    TransferId, 16, "transfer id"
);
id!(
    /// A spender inside a node.
    AgentId, 16, "agent id"
);
id!(
    /// A request that waits for the owner's approval, derived from what is asked for.
    ApprovalId, 16, "approval id"
);
id!(
    /// An invitation into a network; good for one welcome loan.
    InvitationId, 16, "invitation id"
);
id!(
    /// A repayment of a loan: SHA-256 of its unsigned body under the repayment domain.
    RepaymentId, 32, "repayment id"
);

id!(
    /// A step of a node's public chain: SHA-256 of its unsigned body under the entry domain.
    EntryId, 32, "entry id"
);

/// An id that is an Ed25519 public key and can therefore have signed something.
pub trait PublicKey {
    /// 32 bytes, little-endian y.
    fn key_bytes(&self) -> &[u8; 32];
}

impl PublicKey for NodeId {
    fn key_bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

impl PublicKey for OwnerId {
    fn key_bytes(&self) -> &[u8; 32] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nothing_else_is_accepted() {
        let id = TransferId::from_bytes([0xab; 16]);
        assert_eq!(id.to_string().parse::<TransferId>(), Ok(id));
        for bad in [
            "",
            "ab",
            "zz".repeat(16).as_str(),
            "+1".repeat(16).as_str(),
            "é".repeat(16).as_str(),
        ] {
            assert!(bad.parse::<TransferId>().is_err(), "{bad:?} was accepted");
        }
    }
}
