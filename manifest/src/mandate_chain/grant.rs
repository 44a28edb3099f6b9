//! One link of a chain: who may spend which units on what until when.

use std::fmt::Display;

use super::allowed::{Actions, Allowed};
use super::chain::ChainError;
use crate::amount::{Amount, Multiplier};
use crate::bytes::{DecodeError, Reader, Writer};
use crate::id::{GrantId, ModelId, NetworkId, NodeId};
use crate::range::Range;
use crate::signed::Document;
use crate::time::Timestamp;

/// Permission to spend a range of units, and to hand on parts of it.
///
/// The first grant of a chain is signed by the root payer, every other by the holder of the grant
/// before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The network whose TRM is spent.
    pub network: NetworkId,
    /// The node whose standing pays, and whose units these are.
    pub root: NodeId,
    /// The grant this one is carved from; [`Grant::NO_PARENT`] in the root payer's own.
    pub parent: GrantId,
    /// Number among what is carved from the same parent, chosen by the one who grants.
    pub serial: u64,
    /// The units, numbered as the root payer numbers them.
    pub range: Range,
    /// Who may spend them and hand them on: a node, or an agent with a key of its own.
    pub holder: NodeId,
    /// The one provider that may accept; `None` when the root payer's ledger decides.
    pub pinned: Option<NodeId>,
    /// Most that one spend may take.
    pub per_request: Amount,
    /// Highest price relative to par, which is the same number as µTRM for 10^9 FLOP.
    pub ceiling: Option<Multiplier>,
    /// What may be done.
    pub actions: Actions,
    /// With which models.
    pub models: Allowed<ModelId>,
    /// Whom it may be paid to.
    pub payees: Allowed<NodeId>,
    /// After this nothing may be spent.
    pub expires: Timestamp,
    /// The root payer's epoch; raising that voids every grant of an earlier one.
    pub epoch: u64,
    /// How many grants may follow this one.
    pub depth_left: u8,
}

impl Grant {
    /// The parent of a grant by the root payer itself.
    pub const NO_PARENT: GrantId = GrantId::from_bytes([0; 32]);

    /// The id: digest of the unsigned body, which names the parent and so every grant before.
    pub fn id(&self) -> GrantId {
        GrantId::from_bytes(self.digest())
    }

    /// Who remembers which units were used, and therefore alone may accept.
    pub fn tracker(&self) -> NodeId {
        self.pinned.unwrap_or(self.root)
    }

    /// Checks that this grant, carved from `parent`, allows nothing that `parent` does not. Looks at
    /// neither signature.
    ///
    /// # Errors
    ///
    /// [`ChainError::OtherParent`], then [`ChainError::Widens`] for the first field that widens;
    /// `link` is this grant's place in its chain.
    pub fn check_within(&self, parent: &Self, link: usize) -> Result<(), ChainError> {
        if self.parent != parent.id() {
            return Err(ChainError::OtherParent { link });
        }
        let (here, above) = (self, parent);
        let require = |holds: bool, field, above: &dyn Display, here: &dyn Display| {
            if holds {
                return Ok(());
            }
            Err(ChainError::Widens {
                link,
                field,
                parent: above.to_string(),
                child: here.to_string(),
            })
        };
        macro_rules! require {
            ($field:ident, $holds:expr) => {
                require($holds, stringify!($field), &above.$field, &here.$field)?
            };
            ($field:ident, $holds:expr, $show:expr) => {
                require($holds, stringify!($field), &$show(above), &$show(here))?
            };
        }
        require!(network, here.network == above.network);
        require!(root, here.root == above.root);
        require!(range, above.range.contains(here.range));
        require!(pinned, here.pinned == above.pinned, Self::show_pin);
        require!(per_request, here.per_request <= above.per_request);
        require!(ceiling, here.ceiling_is_within(above), Self::show_ceiling);
        require!(actions, here.actions.is_within(above.actions));
        require!(models, here.models.is_within(&above.models));
        require!(payees, here.payees.is_within(&above.payees));
        require!(expires, here.expires <= above.expires, |grant: &Self| {
            grant.expires.to_rfc3339()
        });
        require!(epoch, here.epoch == above.epoch);
        require!(depth_left, here.depth_left < above.depth_left);
        Ok(())
    }

    fn ceiling_is_within(&self, parent: &Self) -> bool {
        parent
            .ceiling
            .is_none_or(|most| self.ceiling.is_some_and(|here| here <= most))
    }

    fn show_pin(&self) -> String {
        self.pinned
            .map_or_else(|| "nobody".into(), |provider| provider.to_string())
    }

    fn show_ceiling(&self) -> String {
        self.ceiling
            .map_or_else(|| "none".into(), |most| most.ppm().to_string())
    }
}

impl Document for Grant {
    const DOMAIN: &'static [u8] = b"trm/v1/grant\0";

    fn encode(&self, out: &mut Writer) {
        out.u8(1)
            .raw(self.network.as_bytes())
            .raw(self.root.as_bytes())
            .raw(self.parent.as_bytes())
            .u64(self.serial);
        self.range.encode(out);
        out.raw(self.holder.as_bytes());
        match &self.pinned {
            None => out.u8(0),
            Some(provider) => out.u8(1).raw(provider.as_bytes()),
        };
        out.u64(self.per_request.utrm());
        match self.ceiling {
            None => out.u8(0),
            Some(most) => out.u8(1).u32(most.ppm()),
        };
        out.u32(self.actions.bits());
        self.models.encode(out, ModelId::as_bytes);
        self.payees.encode(out, NodeId::as_bytes);
        out.u64(self.expires.ms())
            .u64(self.epoch)
            .u8(self.depth_left);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        from.version_1()?;
        Ok(Self {
            network: NetworkId::from_bytes(from.raw("network")?),
            root: NodeId::from_bytes(from.raw("root")?),
            parent: GrantId::from_bytes(from.raw("parent")?),
            serial: from.u64("serial")?,
            range: Range::decode(from, "range")?,
            holder: NodeId::from_bytes(from.raw("holder")?),
            pinned: match from.u8("pinned")? {
                0 => None,
                1 => Some(NodeId::from_bytes(from.raw("pinned")?)),
                _ => return Err(DecodeError::Value("pinned")),
            },
            per_request: Amount::from_utrm(from.u64("per request")?)
                .map_err(|_| DecodeError::Value("per request"))?,
            ceiling: match from.u8("ceiling")? {
                0 => None,
                1 => Some(Multiplier::from_ppm(from.u32("ceiling")?)),
                _ => return Err(DecodeError::Value("ceiling")),
            },
            actions: Actions::from_bits(from.u32("actions")?)
                .ok_or(DecodeError::Value("actions"))?,
            models: Allowed::decode(from, "models", ModelId::from_bytes)?,
            payees: Allowed::decode(from, "payees", NodeId::from_bytes)?,
            expires: Timestamp::from_ms(from.u64("expires")?),
            epoch: from.u64("epoch")?,
            depth_left: from.u8("depth left")?,
        })
    }
}
