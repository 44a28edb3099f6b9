//! Grants one after the other, from the root payer to the one who spends.

use std::fmt;
use std::str::FromStr;

use super::grant::Grant;
use super::is_over;
use crate::amount::Multiplier;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{GrantId, NetworkId, NodeId};
use crate::key::SecretKey;
use crate::line::{self, LineError};
use crate::range::Range;
use crate::signed::{Document, SignatureError, Signed};
use crate::time::Timestamp;

/// Most grants in a chain; chosen.
pub const LINKS_MAX: usize = 4;

/// Most bytes of a chain; chosen. The longest that the layout allows has 3 237.
pub const CHAIN_BYTES_MAX: usize = 16 * 1_024;

/// How the text of a chain starts.
pub const CHAIN_PREFIX: &str = "tirami-mandate1_";

/// Signed grants, the root payer's first, that nobody has checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MandateChain {
    /// One to [`LINKS_MAX`] of them.
    pub links: Vec<Signed<Grant>>,
}

impl MandateChain {
    /// A chain of one grant, signed by the root payer.
    pub fn start(grant: Grant, root: &SecretKey) -> Self {
        Self {
            links: vec![Signed::new(grant, root)],
        }
    }

    /// This chain with one more grant, signed by the holder of the last; checks nothing.
    #[must_use]
    pub fn extend(&self, grant: Grant, holder: &SecretKey) -> Self {
        let mut links = self.links.clone();
        links.push(Signed::new(grant, holder));
        Self { links }
    }

    /// The epoch of the first grant, when `root` signed it: proof that `root` has come at least that
    /// far, for a verifier that knows only an earlier one.
    pub fn root_epoch(&self, root: &NodeId) -> Option<u64> {
        let first = self.links.first()?;
        let holds = first.body.root == *root && first.body.is_signed_by(root, &first.signature);
        holds.then_some(first.body.epoch)
    }

    /// The last grant, which nobody has checked: what the one it is handed to is told.
    pub fn last(&self) -> Option<&Grant> {
        self.links.last().map(|link| &link.body)
    }

    /// Checks the whole chain: who signed what, that no grant widens the one before, that nothing is
    /// expired at `now`, and that the epoch is `epoch`, the newest of `root` known to the verifier.
    ///
    /// # Errors
    ///
    /// The first [`ChainError`], link by link from the root.
    pub fn verify(
        &self,
        root: NodeId,
        network: NetworkId,
        now: Timestamp,
        epoch: u64,
    ) -> Result<VerifiedChain, ChainError> {
        if !(1..=LINKS_MAX).contains(&self.links.len()) {
            return Err(ChainError::Links {
                count: self.links.len(),
            });
        }
        let mut before: Option<&Grant> = None;
        for (link, signed) in self.links.iter().enumerate() {
            let grant = &signed.body;
            let signer = before.map_or(root, |parent| parent.holder);
            signed
                .clone()
                .verify(&signer)
                .map_err(|source| ChainError::Signature { link, source })?;
            match before {
                Some(parent) => grant.check_within(parent, link)?,
                None => check_first(grant, root, network, epoch)?,
            }
            if is_over(grant.expires, now) {
                return Err(ChainError::Expired {
                    link,
                    expires: grant.expires,
                    now,
                });
            }
            before = Some(grant);
        }
        Ok(VerifiedChain {
            ids: self.links.iter().map(|link| link.body.id()).collect(),
            leaf: before.ok_or(ChainError::Links { count: 0 })?.clone(),
        })
    }

    /// Version, `u32` count, then each signed grant with its length.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(1)
            .u32(u32::try_from(self.links.len()).unwrap_or(u32::MAX));
        for link in &self.links {
            out.string(&link.to_bytes());
        }
        out.finish()
    }

    /// Reads what [`MandateChain::to_bytes`] wrote; checks no signature.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`], also above [`CHAIN_BYTES_MAX`] and [`LINKS_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > CHAIN_BYTES_MAX {
            return Err(DecodeError::Value("chain"));
        }
        let mut from = Reader::new(bytes);
        from.version_1()?;
        let count = usize::try_from(from.u32("links")?).unwrap_or(usize::MAX);
        if !(1..=LINKS_MAX).contains(&count) {
            return Err(DecodeError::Value("links"));
        }
        let mut links = Vec::new();
        for _ in 0..count {
            links.push(Signed::from_bytes(from.string("link")?)?);
        }
        from.finish()?;
        Ok(Self { links })
    }
}

impl fmt::Display for MandateChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line::write(CHAIN_PREFIX, self.to_bytes()))
    }
}

/// Why a text is no chain of grants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainTextError {
    /// Another kind of text.
    #[error("not a mandate: a mandate that travels starts with {CHAIN_PREFIX}")]
    Prefix,
    /// Letters were lost or changed.
    #[error("the mandate is damaged: a letter is missing or changed; copy it again, whole")]
    Damaged,
    /// The layout is not one we know.
    #[error("the mandate cannot be read: {0}")]
    Layout(#[from] DecodeError),
}

impl FromStr for MandateChain {
    type Err = ChainTextError;

    fn from_str(text: &str) -> Result<Self, ChainTextError> {
        let bytes = line::read(CHAIN_PREFIX, text).map_err(|error| match error {
            LineError::Prefix => ChainTextError::Prefix,
            LineError::Damaged => ChainTextError::Damaged,
        })?;
        Ok(Self::from_bytes(&bytes)?)
    }
}

/// What the first grant must be, which has no grant before it.
fn check_first(
    grant: &Grant,
    root: NodeId,
    network: NetworkId,
    epoch: u64,
) -> Result<(), ChainError> {
    if grant.root != root {
        return Err(ChainError::OtherRoot {
            names: grant.root,
            expected: root,
        });
    }
    if grant.network != network {
        return Err(ChainError::OtherNetwork {
            names: grant.network,
            expected: network,
        });
    }
    if grant.parent != Grant::NO_PARENT {
        return Err(ChainError::OtherParent { link: 0 });
    }
    if grant.epoch != epoch {
        return Err(ChainError::OtherEpoch {
            names: grant.epoch,
            expected: epoch,
        });
    }
    Ok(())
}

/// A chain in which everything was checked; [`MandateChain::verify`] is the only maker.
///
/// Each grant narrows the one before, so what is allowed in the end is what the last one says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedChain {
    ids: Vec<GrantId>,
    leaf: Grant,
}

impl VerifiedChain {
    /// What is allowed in the end: the last grant.
    pub const fn limits(&self) -> &Grant {
        &self.leaf
    }

    /// The id of the last grant, which stands for the whole chain.
    pub fn id(&self) -> GrantId {
        self.leaf.id()
    }

    /// The ids of all grants, the root payer's first.
    pub fn ids(&self) -> &[GrantId] {
        &self.ids
    }

    /// Who may spend.
    pub const fn holder(&self) -> NodeId {
        self.leaf.holder
    }

    /// Which units may be spent.
    pub const fn range(&self) -> Range {
        self.leaf.range
    }

    /// Who remembers which units were used, and therefore alone may accept a spend: the pinned
    /// provider, or the root payer.
    pub fn tracker(&self) -> NodeId {
        self.leaf.tracker()
    }

    /// True when `asked`, a price relative to par, is not above the ceiling.
    pub fn admits_price(&self, asked: Multiplier) -> bool {
        self.leaf.ceiling.is_none_or(|most| asked <= most)
    }
}

/// Why a chain allows nothing. `link` counts from 0, the root payer's grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// None, or too many.
    #[error("a chain has 1 to {LINKS_MAX} grants, not {count}")]
    Links {
        /// How many there are.
        count: usize,
    },
    /// The wrong one signed, or the bytes were altered.
    #[error("grant {link}: {source}")]
    Signature {
        /// Which.
        link: usize,
        /// Why.
        source: SignatureError,
    },
    /// It is somebody else's budget.
    #[error("the chain is of the root payer {names}, not of {expected}")]
    OtherRoot {
        /// In the chain.
        names: NodeId,
        /// Asked about.
        expected: NodeId,
    },
    /// It is another network's TRM.
    #[error("the chain is of the network {names}, not of {expected}")]
    OtherNetwork {
        /// In the chain.
        names: NetworkId,
        /// Asked about.
        expected: NetworkId,
    },
    /// The root payer has voided it, or it is newer than the verifier knows.
    #[error("the chain is of epoch {names}, the root payer's epoch is {expected}")]
    OtherEpoch {
        /// In the chain.
        names: u64,
        /// Known to the verifier.
        expected: u64,
    },
    /// It does not follow the grant before it.
    #[error("grant {link} is not carved from the grant before it")]
    OtherParent {
        /// Which.
        link: usize,
    },
    /// It allows what the grant before does not.
    #[error("grant {link} widens {field}: {parent} before, {child} here")]
    Widens {
        /// Which.
        link: usize,
        /// The field, as in [`Grant`].
        field: &'static str,
        /// Its value in the grant before.
        parent: String,
        /// Its value here.
        child: String,
    },
    /// Its time is over.
    #[error("grant {link} expired at {}; it is {}", expires.to_rfc3339(), now.to_rfc3339())]
    Expired {
        /// Which.
        link: usize,
        /// When.
        expires: Timestamp,
        /// The verifier's time.
        now: Timestamp,
    },
}
