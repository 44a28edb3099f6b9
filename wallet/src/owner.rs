//! The owner's authority: whoever holds the owner key may loosen, unfreeze and make tokens.
//!
//! The wallet keeps the owner's public key and the number of orders obeyed. An order is signed for
//! this node and that number, so it works here, once.

use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{OwnerId, Timestamp};

use crate::approvals;
use crate::error::WalletError;
use crate::ledger::apply::apply;
use crate::ledger::journal::{self, Event};
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::mandate;
use crate::store::StoreError;
use crate::token::{TokenRow, ensure_agent};
use crate::wallet::Wallet;

/// Key of the owner's public key in [`Table::Meta`].
const OWNER: &[u8] = b"owner";
/// Key of the number of orders obeyed in [`Table::Meta`].
const ORDERS: &[u8] = b"owner-orders";

/// Key of the digest of the last order obeyed in [`Table::Meta`].
const LAST_ORDER: &[u8] = b"owner-last-order";

/// Who owns the node, and how many orders it has obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner's public key.
    pub id: OwnerId,
    /// The number the next order must carry.
    pub next_order: u64,
}

impl Wallet {
    /// The owner, if the node has one.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn owner(&self) -> Result<Option<Owner>, WalletError> {
        owner(&self.view()?)
    }

    /// Makes `id` the owner. The first one to come owns the node for good.
    ///
    /// # Errors
    ///
    /// [`WalletError::HasOwner`] when there is another.
    pub async fn set_owner(&self, id: OwnerId) -> Result<(), WalletError> {
        self.write(move |tables, _| match owner(tables)? {
            Some(present) if present.id != id => Err(WalletError::HasOwner(present.id.short())),
            Some(_) => Ok(()),
            None => {
                journal::note(tables, Event::Owner(id))?;
                Ok(tables.put(Table::Meta, OWNER, id.as_bytes())?)
            }
        })
        .await
    }

    /// Does what the owner decided.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoOwner`], [`WalletError::Order`] when the order is not the owner's, for
    /// another node or not the next one, or why the decision cannot be carried out.
    pub async fn obey(&self, order: Signed<OwnerOrder>) -> Result<(), WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let owner = owner(tables)?.ok_or(WalletError::NoOwner)?;
            let order = order
                .verify(&owner.id)
                .map_err(|_| WalletError::Order("it is not the owner's"))?;
            if order.node != node {
                return Err(WalletError::Order("it is for another node"));
            }
            let digest = order.signed().body.digest();
            let again = order.number.checked_add(1) == Some(owner.next_order)
                && tables.get(Table::Meta, LAST_ORDER)?.as_deref() == Some(digest.as_slice());
            if again {
                // The answer to it was lost: what it says is done.
                return Ok(());
            }
            if order.number != owner.next_order {
                return Err(WalletError::Order(
                    "it was obeyed before, or another came between",
                ));
            }
            carry_out(tables, &order.decision, &digest, now)?;
            tables.put(Table::Meta, LAST_ORDER, &digest)?;
            let next = owner.next_order.saturating_add(1);
            Ok(tables.put(Table::Meta, ORDERS, &next.to_be_bytes())?)
        })
        .await
    }
}

/// Does what the decision says; `digest` names the order.
fn carry_out(
    tables: &mut impl Tables,
    decision: &Decision,
    digest: &[u8; 32],
    now: Timestamp,
) -> Result<(), WalletError> {
    match decision {
        Decision::SetTerms { agent, terms } => {
            mandate::sound(terms)?;
            let mut row = tables
                .mandate(agent)?
                .ok_or_else(|| WalletError::UnknownAgent(agent.short()))?;
            row.terms = (**terms).clone();
            tables.set_mandate(agent, &row)?;
        }
        Decision::Grant {
            agent_name,
            parent,
            terms,
        } => mandate::grant_by_owner(tables, agent_name, *parent, terms, now)?,
        Decision::Approve { approval, amount } => {
            approvals::approve(tables, approval, *amount, now)?;
        }
        Decision::Fund {
            from,
            from_pot,
            to,
            to_pot,
            amount,
        } => {
            for agent in [from, to] {
                if tables.mandate(agent)?.is_none() {
                    return Err(WalletError::UnknownAgent(agent.short()));
                }
            }
            let allot = Transfer {
                id: transfer::id_at(now, "allot", &[digest]),
                kind: Kind::Allot {
                    from: *from,
                    from_pot: *from_pot,
                    to: *to,
                    to_pot: *to_pot,
                    amount: *amount,
                },
                code: TransferCode::Allotment,
                reference: *digest,
            };
            apply(tables, &allot, now)?;
        }
        Decision::Unfreeze => tables.set_freeze(None)?,
        Decision::CreateToken {
            agent_name,
            token_hash,
        } => {
            let agent = ensure_agent(tables, agent_name, now)?;
            tables.put_row(
                Table::Tokens,
                token_hash,
                &TokenRow {
                    agent,
                    created: now,
                },
            )?;
            journal::note(tables, Event::Token(agent, *token_hash, true))?;
        }
        Decision::RevokeToken { token_hash } => {
            let row: Option<TokenRow> = tables.row(Table::Tokens, token_hash)?;
            let row = row.ok_or(WalletError::UnknownToken)?;
            tables.remove(Table::Tokens, token_hash)?;
            journal::note(tables, Event::Token(row.agent, *token_hash, false))?;
        }
    }
    Ok(())
}

fn owner(tables: &impl ReadTables) -> Result<Option<Owner>, WalletError> {
    let damaged = || WalletError::Store(StoreError::Row { table: Table::Meta });
    let Some(id) = tables.get(Table::Meta, OWNER)? else {
        return Ok(None);
    };
    let id = OwnerId::from_bytes(id.try_into().map_err(|_| damaged())?);
    let next_order = match tables.get(Table::Meta, ORDERS)? {
        None => 0,
        Some(bytes) => u64::from_be_bytes(bytes.try_into().map_err(|_| damaged())?),
    };
    Ok(Some(Owner { id, next_order }))
}
