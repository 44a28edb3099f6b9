//! What a borrower signs when it pays back. The grant that made it a borrower is in
//! [`crate::genesis`].

use crate::amount::Amount;
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{InvitationId, NetworkId, NodeId, RepaymentId};
use crate::signed::Document;

/// How long after its due date a loan of which something is still owed counts as defaulted: 24
/// hours. The same for every network, so that lender and borrower name the same moment.
pub const LOAN_GRACE_MS: u64 = 24 * 3_600_000;

/// A borrower's statement that it paid back, out of what it has and beside what its earnings paid.
/// It names the sum of all such payments, so that one that was lost is made up for by the next, and
/// one that comes again or late changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repayment {
    /// The network.
    pub network: NetworkId,
    /// Who lent.
    pub lender: NodeId,
    /// Who owes; the signer.
    pub borrower: NodeId,
    /// The invitation under which it was lent, which names the loan.
    pub invitation: InvitationId,
    /// Paid back in this way so far, this payment included; never zero.
    pub total: Amount,
}

impl Repayment {
    /// The repayment's id.
    pub fn id(&self) -> RepaymentId {
        RepaymentId::from_bytes(self.digest())
    }
}

impl Document for Repayment {
    const DOMAIN: &'static [u8] = b"trm/v1/repayment\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.lender.as_bytes())
            .raw(self.borrower.as_bytes())
            .raw(self.invitation.as_bytes())
            .u64(self.total.utrm());
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            lender: NodeId::from_bytes(from.raw("lender")?),
            borrower: NodeId::from_bytes(from.raw("borrower")?),
            invitation: InvitationId::from_bytes(from.raw("invitation")?),
            total: Amount::from_utrm(from.u64("total")?)
                .ok()
                .filter(|total| !total.is_zero())
                .ok_or(DecodeError::Value("total"))?,
        })
    }
}
