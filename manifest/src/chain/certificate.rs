//! What witnesses sign: that an entry, and all before it, is the one history of its chain.

use crate::bytes::{DecodeError, Reader, Writer};
use crate::genesis::Genesis;
use crate::id::{EntryId, NetworkId, NodeId};
use crate::key::{SecretKey, Signature};
use crate::signed::Document;

/// Most witnesses in one network.
const WITNESSES_MAX: u32 = 64;

/// How many of `n` witnesses certify: more than two thirds, so that two quorums share an honest one as
/// long as fewer than a third lie.
pub const fn quorum(n: usize) -> usize {
    n.saturating_sub(n.saturating_sub(1) / 3)
}

/// What a witness signs, at most once for each number of each chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The network.
    pub network: NetworkId,
    /// Which set of witnesses; 0 is the genesis document's.
    pub epoch: u64,
    /// Whose chain.
    pub author: NodeId,
    /// Number of the entry.
    pub seq: u64,
    /// Its id.
    pub entry: EntryId,
}

impl Document for Head {
    const DOMAIN: &'static [u8] = b"trm/v1/cert\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .u64(self.epoch)
            .raw(self.author.as_bytes())
            .u64(self.seq)
            .raw(self.entry.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            epoch: from.u64("epoch")?,
            author: NodeId::from_bytes(from.raw("author")?),
            seq: from.u64("seq")?,
            entry: EntryId::from_bytes(from.raw("entry")?),
        })
    }
}

/// A witness's answer to an entry: what it signed before decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It signs.
    Sign,
    /// It signed the same before, and does so again.
    Again,
    /// It signed another entry with this number, or a later one that does not follow: never.
    Never,
    /// It has not seen the entries between.
    Gap,
}

/// The rule of a witness: for each number of each chain it signs one entry, and only one that follows
/// what it signed. `signed` is the newest entry of the chain that it signed, `prefix` the ids of the
/// entries after that one up to `head`, each naming the one before, every one of them valid.
pub fn vote(signed: Option<(u64, EntryId)>, prefix: &[EntryId], head: (u64, EntryId)) -> Vote {
    let (last, id) = signed.map_or((0, None), |(seq, id)| (seq, Some(id)));
    if head.0 <= last {
        return if id == Some(head.1) && head.0 == last {
            Vote::Again
        } else {
            Vote::Never
        };
    }
    let new = u64::try_from(prefix.len()).unwrap_or(u64::MAX);
    if last.saturating_add(new) == head.0 && prefix.last() == Some(&head.1) {
        Vote::Sign
    } else {
        Vote::Gap
    }
}

/// A head with the signatures of witnesses over it. Nobody has checked this one yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What they signed.
    pub head: Head,
    /// Who, and their signatures, in ascending order of their keys.
    pub votes: Vec<(NodeId, Signature)>,
}

/// Why a certificate certifies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Of another network or set of witnesses.
    #[error("the certificate is of another network")]
    Network,
    /// Signed by somebody who is no witness, twice by one, or not at all.
    #[error("a vote of the certificate is not by a witness of the network, or stands there twice")]
    Vote,
    /// Too few.
    #[error("the certificate has {has} votes, and {needs} are needed")]
    Quorum {
        /// How many there are.
        has: usize,
        /// How many it takes.
        needs: usize,
    },
}

impl Certificate {
    /// The certificate of a network's only witness.
    pub fn alone(head: Head, witness: &SecretKey) -> Self {
        let votes = vec![(witness.id(), head.sign(witness))];
        Self { head, votes }
    }

    /// Checks that a quorum of the network's witnesses signed.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn verify(&self, genesis: &Genesis) -> Result<(), CertificateError> {
        if self.head.network != genesis.id() || self.head.epoch != 0 {
            return Err(CertificateError::Network);
        }
        let mut last = None;
        for (witness, signature) in &self.votes {
            let next = last.is_none_or(|last| last < *witness);
            if !next
                || !genesis.witnesses.contains(witness)
                || !self.head.is_signed_by(witness, signature)
            {
                return Err(CertificateError::Vote);
            }
            last = Some(*witness);
        }
        let (has, needs) = (self.votes.len(), quorum(genesis.witnesses.len()));
        if has < needs {
            return Err(CertificateError::Quorum { has, needs });
        }
        Ok(())
    }

    /// The head, how many signed, and for each who and the signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.head.encode(&mut out);
        out.u32(u32::try_from(self.votes.len()).unwrap_or(u32::MAX));
        for (witness, signature) in &self.votes {
            out.raw(witness.as_bytes()).raw(signature.as_bytes());
        }
        out.finish()
    }

    /// Reads what [`Certificate::to_bytes`] wrote; checks no signature.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        let head = Head::decode(&mut from)?;
        let count = from.u32("votes")?;
        if count > WITNESSES_MAX {
            return Err(DecodeError::Value("votes"));
        }
        let mut votes = Vec::new();
        for _ in 0..count {
            let witness = NodeId::from_bytes(from.raw("witness")?);
            votes.push((witness, Signature::from_bytes(from.raw("vote")?)));
        }
        from.finish()?;
        Ok(Self { head, votes })
    }
}
