//! Keys as `did:key`, the form in which other systems name them: the multicodec of Ed25519 public keys,
//! `ed 01`, and the key, in base58 after a `z`.

use crate::id::PublicKey;

/// How every such name starts.
const PREFIX: &str = "did:key:z";

/// The multicodec of an Ed25519 public key.
const ED25519: [u8; 2] = [0xed, 0x01];

/// Bitcoin's alphabet, which multibase calls base58btc.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A key's name as `did:key:z6Mk...`.
pub fn did_key(key: &impl PublicKey) -> String {
    let bytes = [ED25519.as_slice(), key.key_bytes()].concat();
    // Digits of base 58, the lowest first. The first byte is not 0, so no zeros lead.
    let mut digits: Vec<u32> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry = carry.saturating_add(digit.saturating_mul(256));
            (*digit, carry) = (carry % 58, carry / 58);
        }
        while carry > 0 {
            digits.push(carry % 58);
            carry /= 58;
        }
    }
    let letters = digits.iter().rev().filter_map(|digit| {
        let place = usize::try_from(*digit).ok()?;
        ALPHABET.get(place).map(|letter| char::from(*letter))
    });
    PREFIX.chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NodeId, from_hex};

    /// The vectors of the did:key specification.
    #[test]
    fn keys_have_the_names_of_the_specification() {
        for (key, did) in [
            (
                "2e6fcce36701dc791488e0d0b1745cc1e33a4c1c9fcc41c63bd343dbbe0970e6",
                "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
            ),
            (
                "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
                "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
            ),
        ] {
            let key = NodeId::from_bytes(from_hex(key).unwrap());
            assert_eq!(did_key(&key), did);
        }
    }
}
