//! The document that makes a network: who issues, who witnesses, and its parameters.

use crate::amount::{Amount, Multiplier};
use crate::bytes::{DecodeError, Reader, STRING_MAX, Writer};
use crate::id::{InvitationId, NetworkId, NodeId};
use crate::signed::Document;
use crate::time::Timestamp;

/// Most issuers or witnesses in one network; chosen, far above any quorum that makes sense.
const KEYS_MAX: u32 = 64;

/// A network's parameters. Its digest is the network id, which is inside every signed byte string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// Name for people, at most 64 bytes.
    pub name: String,
    /// When it was founded.
    pub founded: Timestamp,
    /// Makes networks with equal parameters different.
    pub nonce: [u8; 16],
    /// Who may create TRM, each up to a quota; the quotas sum to the supply cap.
    pub issuers: Vec<(NodeId, Amount)>,
    /// Whose ledgers decide. One witness is allowed and means: its operator is trusted.
    pub witnesses: Vec<NodeId>,
    /// What a member asks that sets no price of its own; par in the networks this build founds.
    pub base_price: Multiplier,
    /// What a newcomer is lent.
    pub welcome_loan: Amount,
    /// For how long, in milliseconds.
    pub welcome_term_ms: u64,
    /// How much an issuer lends to newcomers in any 24 hours.
    pub welcome_daily_cap: Amount,
}

/// What a newcomer is lent by default.
pub const WELCOME_LOAN: Amount = Amount::from_trm(1_000);
/// For how long: 72 hours.
pub const WELCOME_TERM_MS: u64 = 72 * 3_600_000;
/// What an issuer lends to newcomers in any 24 hours by default: twenty of them.
pub const WELCOME_DAILY_CAP: Amount = Amount::from_trm(20_000);

impl Genesis {
    /// A private network with `founder` as its only issuer and witness.
    pub fn private(name: &str, founder: NodeId, at: Timestamp, nonce: [u8; 16]) -> Self {
        Self {
            name: name.chars().filter(|c| !c.is_control()).take(16).collect(),
            founded: at,
            nonce,
            issuers: vec![(founder, Amount::MAX)],
            witnesses: vec![founder],
            base_price: Multiplier::PAR,
            welcome_loan: WELCOME_LOAN,
            welcome_term_ms: WELCOME_TERM_MS,
            welcome_daily_cap: WELCOME_DAILY_CAP,
        }
    }

    /// The network's id.
    pub fn id(&self) -> NetworkId {
        NetworkId::from_bytes(self.digest())
    }

    /// The node whose ledger decides, in a network with one witness.
    pub fn authority(&self) -> Option<NodeId> {
        match self.witnesses.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// What `node` may issue in all; zero for those who are not issuers.
    pub fn quota(&self, node: &NodeId) -> Amount {
        self.issuers
            .iter()
            .find(|(id, _)| id == node)
            .map_or(Amount::ZERO, |(_, quota)| *quota)
    }
}

impl Document for Genesis {
    const DOMAIN: &'static [u8] = b"trm/v1/genesis\0";

    fn encode(&self, out: &mut Writer) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        out.u8(1)
            .string(self.name.as_bytes())
            .u64(self.founded.ms())
            .raw(&self.nonce);
        out.u32(count(self.issuers.len()));
        for (node, quota) in &self.issuers {
            out.raw(node.as_bytes()).u64(quota.utrm());
        }
        out.u32(count(self.witnesses.len()));
        for node in &self.witnesses {
            out.raw(node.as_bytes());
        }
        out.u32(self.base_price.ppm())
            .u64(self.welcome_loan.utrm())
            .u64(self.welcome_term_ms)
            .u64(self.welcome_daily_cap.utrm());
    }

    /// Refuses quotas that do not sum to the supply cap, and a network without a witness.
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        let name = from.text("name")?;
        let founded = Timestamp::from_ms(from.u64("founded")?);
        let nonce = from.raw("nonce")?;
        let amount = |utrm, field| Amount::from_utrm(utrm).map_err(|_| DecodeError::Value(field));
        let mut issuers = Vec::new();
        let mut sum = Amount::ZERO;
        for _ in 0..count(from, "issuers")? {
            let node = NodeId::from_bytes(from.raw("issuer")?);
            let quota = amount(from.u64("quota")?, "quota")?;
            sum = sum.checked_add(quota).ok_or(DecodeError::Value("quotas"))?;
            issuers.push((node, quota));
        }
        let mut witnesses = Vec::new();
        for _ in 0..count(from, "witnesses")? {
            witnesses.push(NodeId::from_bytes(from.raw("witness")?));
        }
        if sum != Amount::MAX {
            return Err(DecodeError::Value("quotas"));
        }
        // A key twice would count twice.
        if any_twice(issuers.iter().map(|(node, _)| node)) {
            return Err(DecodeError::Value("issuers"));
        }
        if witnesses.is_empty() || any_twice(witnesses.iter()) {
            return Err(DecodeError::Value("witnesses"));
        }
        // It is shown to people.
        if name.len() > 64 || name.chars().any(char::is_control) {
            return Err(DecodeError::Value("name"));
        }
        let document = Self {
            name,
            founded,
            nonce,
            issuers,
            witnesses,
            base_price: Multiplier::from_ppm(from.u32("base price")?),
            welcome_loan: amount(from.u64("welcome loan")?, "welcome loan")?,
            welcome_term_ms: from.u64("welcome term")?,
            welcome_daily_cap: amount(from.u64("welcome daily cap")?, "welcome daily cap")?,
        };
        // A ticket carries it as one byte string.
        if document.to_bytes().len() > STRING_MAX {
            return Err(DecodeError::Value("genesis"));
        }
        Ok(document)
    }
}

fn any_twice<'a>(mut keys: impl Iterator<Item = &'a NodeId>) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    !keys.all(|key| seen.insert(*key))
}

fn count(from: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    from.u32(field).and_then(|n| {
        if n <= KEYS_MAX {
            Ok(n)
        } else {
            Err(DecodeError::Value(field))
        }
    })
}

/// Permission to join a network and to take one welcome loan, signed by an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The network.
    pub network: NetworkId,
    /// The issuer that lends; the signer.
    pub issuer: NodeId,
    /// Good for one newcomer.
    pub id: InvitationId,
}

impl Document for Invitation {
    const DOMAIN: &'static [u8] = b"trm/v1/invitation\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.issuer.as_bytes())
            .raw(self.id.as_bytes());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            issuer: NodeId::from_bytes(from.raw("issuer")?),
            id: InvitationId::from_bytes(from.raw("invitation")?),
        })
    }
}

/// An issuer's statement that it lent to a newcomer: the newcomer's proof of what it owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoanGrant {
    /// The network.
    pub network: NetworkId,
    /// Who lends; the signer.
    pub issuer: NodeId,
    /// Who owes.
    pub borrower: NodeId,
    /// The invitation that was used.
    pub invitation: InvitationId,
    /// What was lent.
    pub principal: Amount,
    /// When it was lent.
    pub granted: Timestamp,
    /// When it is due.
    pub due: Timestamp,
}

impl Document for LoanGrant {
    const DOMAIN: &'static [u8] = b"trm/v1/loan-grant\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.issuer.as_bytes())
            .raw(self.borrower.as_bytes())
            .raw(self.invitation.as_bytes())
            .u64(self.principal.utrm())
            .u64(self.granted.ms())
            .u64(self.due.ms());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            issuer: NodeId::from_bytes(from.raw("issuer")?),
            borrower: NodeId::from_bytes(from.raw("borrower")?),
            invitation: InvitationId::from_bytes(from.raw("invitation")?),
            principal: Amount::from_utrm(from.u64("principal")?)
                .map_err(|_| DecodeError::Value("principal"))?,
            granted: Timestamp::from_ms(from.u64("granted")?),
            due: Timestamp::from_ms(from.u64("due")?),
        })
    }
}
