//! Proofs that a key's owner cheated: two things it signed that cannot both stand.
//!
//! A proof needs nothing beside it. What is not such a proof is an accusation, and has no effect.

use super::entry::Entry;
use super::step::Step;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::commerce::Voucher;
use crate::id::{NetworkId, NodeId};
use crate::signed::{Document, Signed};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FraudKind {
    /// Two entries with one number. 1.
    Fork,
    /// An entry that does not follow from the one before it, which it names. 2.
    Arithmetic,
    /// Vouchers of which the later promises less, or two with one number. 3.
    Voucher,
    /// One agreement, credited or debited twice. 4.
    DoubleAgreement,
}

impl FraudKind {
    const ALL: [Self; 4] = [
        Self::Fork,
        Self::Arithmetic,
        Self::Voucher,
        Self::DoubleAgreement,
    ];

    /// The number in the layout.
    pub const fn number(self) -> u16 {
        match self {
            Self::Fork => 1,
            Self::Arithmetic => 2,
            Self::Voucher => 3,
            Self::DoubleAgreement => 4,
        }
    }

    /// The word people and JSON see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Arithmetic => "arithmetic",
            Self::Voucher => "voucher_contradiction",
            Self::DoubleAgreement => "double_agreement",
        }
    }
}

/// Two signed documents by one key that cannot both stand. Nobody has checked this one yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FraudProof {
    /// The network.
    pub network: NetworkId,
    /// What was done.
    pub kind: FraudKind,
    /// Who did it; the signer of both.
    pub accused: NodeId,
    /// The first document, signed.
    pub first: Vec<u8>,
    /// The second.
    pub second: Vec<u8>,
}

/// Why a proof of fraud proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FraudError {
    /// A document cannot be read.
    #[error("a document of the proof is damaged: {0}")]
    Decode(#[from] DecodeError),
    /// A document is not signed by the accused.
    #[error("the accused did not sign both documents")]
    Signature,
    /// Of different networks, chains or holds, or in the wrong order.
    #[error("the two documents are not about the same thing, or not in their order")]
    Unrelated,
    /// Both can stand.
    #[error("both documents can stand: they prove nothing")]
    NoFault,
}

impl FraudProof {
    /// Checks the proof, with nothing beside it.
    ///
    /// # Errors
    ///
    /// [`FraudError`].
    pub fn verify(&self) -> Result<(), FraudError> {
        if self.kind == FraudKind::Voucher {
            return contradicts(&self.voucher(&self.first)?, &self.voucher(&self.second)?);
        }
        let (a, b) = (self.entry(&self.first)?, self.entry(&self.second)?);
        match self.kind {
            FraudKind::Fork => forks(&a, &b),
            FraudKind::Arithmetic => lies(&a, &b),
            FraudKind::DoubleAgreement | FraudKind::Voucher => doubles(&a, &b),
        }
    }

    /// The proof that two entries prove of their author, if they prove any.
    pub fn between(first: &Signed<Entry>, second: &Signed<Entry>) -> Option<Self> {
        let (a, b) = (&first.body, &second.body);
        let in_order = match a.seq.cmp(&b.seq) {
            std::cmp::Ordering::Equal => a.id() <= b.id(),
            order => order.is_lt(),
        };
        let (first, second) = if in_order {
            (first, second)
        } else {
            (second, first)
        };
        let kinds = [
            FraudKind::Fork,
            FraudKind::Arithmetic,
            FraudKind::DoubleAgreement,
        ];
        kinds
            .into_iter()
            .map(|kind| Self {
                network: first.body.network,
                kind,
                accused: first.body.author,
                first: first.to_bytes(),
                second: second.to_bytes(),
            })
            .find(|proof| proof.verify().is_ok())
    }

    fn entry(&self, bytes: &[u8]) -> Result<Entry, FraudError> {
        let Signed { body, signature } = Signed::<Entry>::from_bytes(bytes)?;
        if body.author != self.accused || !body.is_signed_by(&self.accused, &signature) {
            return Err(FraudError::Signature);
        }
        if body.network != self.network {
            return Err(FraudError::Unrelated);
        }
        Ok(body)
    }

    fn voucher(&self, bytes: &[u8]) -> Result<Voucher, FraudError> {
        let Signed { body, signature } = Signed::<Voucher>::from_bytes(bytes)?;
        if !body.is_signed_by(&self.accused, &signature) {
            return Err(FraudError::Signature);
        }
        if body.network != self.network {
            return Err(FraudError::Unrelated);
        }
        Ok(body)
    }
}

/// One number, two entries; the smaller id first, so that one fork has one proof.
fn forks(a: &Entry, b: &Entry) -> Result<(), FraudError> {
    if a.seq != b.seq || a.id() > b.id() {
        return Err(FraudError::Unrelated);
    }
    if a.id() == b.id() {
        return Err(FraudError::NoFault);
    }
    Ok(())
}

/// What the second says does not follow from the first.
fn lies(a: &Entry, b: &Entry) -> Result<(), FraudError> {
    if b.prev != *a.id().as_bytes() || a.seq.checked_add(1) != Some(b.seq) {
        return Err(FraudError::Unrelated);
    }
    let (gained, lost) = b.moves();
    let follows = a
        .spendable
        .checked_add(gained)
        .and_then(|sum| sum.checked_sub(lost));
    let balances = follows == Some(b.spendable) && (a.held, a.staked) == (b.held, b.staked);
    if balances && a.hlc < b.hlc {
        return Err(FraudError::NoFault);
    }
    Ok(())
}

/// A promise that was taken back.
fn contradicts(a: &Voucher, b: &Voucher) -> Result<(), FraudError> {
    let key = |voucher: &Voucher| (voucher.hold, voucher.lane, voucher.payee);
    let ordered = a.seq < b.seq || a.seq == b.seq && a.digest() < b.digest();
    if key(a) != key(b) || !ordered {
        return Err(FraudError::Unrelated);
    }
    if a.seq < b.seq && a.total <= b.total && a.tokens_out <= b.tokens_out {
        return Err(FraudError::NoFault);
    }
    Ok(())
}

/// One job agreed on at two places of a chain.
fn doubles(a: &Entry, b: &Entry) -> Result<(), FraudError> {
    let (Step::Trade(one), Step::Trade(other)) = (&a.step, &b.step) else {
        return Err(FraudError::Unrelated);
    };
    if a.seq >= b.seq {
        return Err(FraudError::Unrelated);
    }
    if one.agreement.lane_key() != other.agreement.lane_key() {
        return Err(FraudError::NoFault);
    }
    Ok(())
}

impl Document for FraudProof {
    const DOMAIN: &'static [u8] = b"trm/v1/fraud\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .u16(self.kind.number())
            .raw(self.accused.as_bytes())
            .string(&self.first)
            .string(&self.second);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let network = NetworkId::from_bytes(from.raw("network")?);
        let number = from.u16("kind")?;
        let kind = FraudKind::ALL
            .into_iter()
            .find(|kind| kind.number() == number);
        Ok(Self {
            network,
            kind: kind.ok_or(DecodeError::Value("kind"))?,
            accused: NodeId::from_bytes(from.raw("accused")?),
            first: from.string("first")?.to_vec(),
            second: from.string("second")?.to_vec(),
        })
    }
}
