//! A join ticket: everything a newcomer needs to enter a network, as one line of text.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::bytes::{DecodeError, Reader, Writer};
use crate::genesis::{Genesis, Invitation};
use crate::line::{self, LineError};
use crate::signed::{Document, SignatureError, Signed};

/// How a ticket's text starts.
pub const PREFIX: &str = "tirami1_";

/// Most addresses in a ticket; chosen.
const ADDRESSES_MAX: u32 = 16;

/// Genesis, an invitation, and where the inviting node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The network.
    pub genesis: Genesis,
    /// One use, signed by an issuer, who is also the node to reach.
    pub invitation: Signed<Invitation>,
    /// Addresses of that node.
    pub addresses: Vec<SocketAddr>,
}

/// Why a text is not a ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Another kind of text.
    #[error("not a ticket: a ticket starts with {PREFIX}")]
    Prefix,
    /// Letters were lost or changed.
    #[error("the ticket is damaged: a letter is missing or changed; copy it again, whole")]
    Damaged,
    /// The layout is not one we know.
    #[error("the ticket cannot be read: {0}")]
    Layout(#[from] DecodeError),
    /// The invitation is not what it should be.
    #[error("the ticket's invitation is not by an issuer of its network")]
    Issuer,
    /// The invitation's signature does not hold.
    #[error("the ticket's invitation does not hold: {0}")]
    Signature(#[from] SignatureError),
}

impl Ticket {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(1)
            .string(&self.genesis.to_bytes())
            .string(&self.invitation.to_bytes());
        out.u32(u32::try_from(self.addresses.len()).unwrap_or(u32::MAX));
        for address in &self.addresses {
            out.string(address.to_string().as_bytes());
        }
        out.finish()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let mut from = Reader::new(bytes);
        from.version_1()?;
        let genesis = Genesis::from_bytes(from.string("genesis")?)?;
        let invitation = Signed::<Invitation>::from_bytes(from.string("invitation")?)?;
        let count = from.u32("addresses")?;
        if count > ADDRESSES_MAX {
            return Err(DecodeError::Value("addresses").into());
        }
        let mut addresses = Vec::new();
        for _ in 0..count {
            let text = from.text("address")?;
            addresses.push(text.parse().map_err(|_| DecodeError::Value("address"))?);
        }
        from.finish()?;
        let issuer = invitation.body.issuer;
        if invitation.body.network != genesis.id() || genesis.quota(&issuer).is_zero() {
            return Err(TicketError::Issuer);
        }
        let invitation = invitation.verify(&issuer)?.signed().clone();
        Ok(Self {
            genesis,
            invitation,
            addresses,
        })
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&line::write(PREFIX, self.to_bytes()))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let body = line::read(PREFIX, text).map_err(|error| match error {
            LineError::Prefix => TicketError::Prefix,
            LineError::Damaged => TicketError::Damaged,
        })?;
        Self::from_bytes(&body)
    }
}
