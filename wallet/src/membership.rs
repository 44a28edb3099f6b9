//! Which network this node belongs to, and how a newcomer comes to its first loan.

use serde::{Deserialize, Serialize};
use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::issuance::lent_in_a_day;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::ticket::Ticket;
use tirami_manifest::{Amount, InvitationId, NodeId};

use crate::chain;
use crate::economy::loan;
use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::store::set_node;
use crate::wallet::Wallet;

/// Key of the genesis document in [`Table::Meta`].
const GENESIS: &[u8] = b"genesis";
/// Key of the ticket that is still to be redeemed in [`Table::Meta`].
const TICKET: &[u8] = b"ticket";

/// Key of the ticket by which the node came in [`Table::Meta`]; kept for its addresses.
const INVITER: &[u8] = b"inviter";

/// An invitation this issuer gave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InvitationRow {
    /// Who used it.
    pub(crate) used_by: Option<NodeId>,
}

impl Wallet {
    /// The network this node belongs to, if any.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn network(&self) -> Result<Option<Genesis>, WalletError> {
        network(&self.view()?)
    }

    /// Founds a private network unless the node belongs to one already; answers which it is.
    ///
    /// # Errors
    ///
    /// [`WalletError::Invitation`] when the genesis is not a valid one, or a store failure.
    pub async fn found(&self, genesis: Genesis) -> Result<Genesis, WalletError> {
        let node = self.node();
        self.write(move |tables, _| {
            if let Some(present) = network(tables)? {
                // A wallet that was begun before it said whose it is.
                set_node(tables, &node)?;
                return Ok(present);
            }
            enter(tables, &genesis, &node)?;
            Ok(genesis)
        })
        .await
    }

    /// Enters the network of `ticket` and remembers to redeem its invitation. Doing so again with a
    /// ticket of the same network changes nothing that was reached before.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherNetwork`] when the node belongs to another network and anything happened
    /// there.
    pub async fn enter(&self, ticket: Ticket) -> Result<Genesis, WalletError> {
        let node = self.node();
        self.write(move |tables, _| {
            let wanted = ticket.genesis.clone();
            match network(tables)? {
                Some(present) if present.id() == wanted.id() => {}
                Some(present) if tables.last_seq()? > 0 || invited_anyone(tables)? => {
                    return Err(WalletError::OtherNetwork {
                        have: present.id().short(),
                        other: wanted.id().short(),
                    });
                }
                _ => enter(tables, &wanted, &node)?,
            }
            tables.put(Table::Meta, INVITER, ticket.to_string().as_bytes())?;
            if ticket.invitation.body.issuer != node && loan::of_borrower(tables, &node)?.is_none()
            {
                tables.put(Table::Meta, TICKET, ticket.to_string().as_bytes())?;
            }
            Ok(wanted)
        })
        .await
    }

    /// Gives up on a ticket that turned out to be no good, and goes back to the network `before` as
    /// long as nothing happened in the other.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn leave(&self, before: Genesis) -> Result<(), WalletError> {
        let node = self.node();
        self.write(move |tables, _| {
            tables.remove(Table::Meta, TICKET)?;
            let elsewhere = network(tables)?.is_some_and(|genesis| genesis.id() != before.id());
            if elsewhere && tables.last_seq()? == 0 {
                tables.remove(Table::Meta, INVITER)?;
                enter(tables, &before, &node)?;
            }
            Ok(())
        })
        .await
    }

    /// Stops asking for the loan of a ticket that its issuer refuses for good.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn drop_ticket(&self) -> Result<(), WalletError> {
        self.write(|tables, _| Ok(tables.remove(Table::Meta, TICKET)?))
            .await
    }

    /// The ticket whose invitation is still to be redeemed.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn pending_ticket(&self) -> Result<Option<Ticket>, WalletError> {
        let text = self.view()?.get(Table::Meta, TICKET)?;
        Ok(text
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|t| t.parse().ok()))
    }

    /// Where the inviting node could be reached when it invited this one.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn inviter(&self) -> Result<Option<Ticket>, WalletError> {
        let text = self.view()?.get(Table::Meta, INVITER)?;
        let Some(text) = text.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return Ok(None);
        };
        // Its signature is checked when it is read, and it is asked for at every purchase.
        let mut read = self.inviter_read();
        if read.as_ref().is_none_or(|(before, _)| *before != text) {
            *read = text.parse().ok().map(|ticket| (text, ticket));
        }
        Ok(read.as_ref().map(|(_, ticket)| ticket.clone()))
    }

    /// Makes an invitation that one newcomer can use for one welcome loan.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`], or [`WalletError::Invitation`] when this node is not an issuer.
    pub async fn invite(&self, id: InvitationId) -> Result<Signed<Invitation>, WalletError> {
        let (node, key) = (self.node(), self.inner.key.clone());
        self.write(move |tables, _| {
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            if genesis.quota(&node).is_zero() {
                return Err(WalletError::Invitation(
                    "cannot be made here: only an issuer of the network invites; ask its founder",
                ));
            }
            // Asking again makes the same invitation, used or not.
            if tables.get(Table::Invitations, id.as_bytes())?.is_none() {
                let row = InvitationRow { used_by: None };
                tables.put_row(Table::Invitations, id.as_bytes(), &row)?;
            }
            Ok(Signed::new(
                Invitation {
                    network: genesis.id(),
                    issuer: node,
                    id,
                },
                &key,
            ))
        })
        .await
    }

    /// Redeems an invitation for a newcomer: lends it the welcome loan, once per invitation and
    /// within the daily cap. The same newcomer asking again gets the same answer.
    ///
    /// # Errors
    ///
    /// [`WalletError::Invitation`], or a refusal of the ledger when the issuer's quota is used up.
    pub async fn welcome(
        &self,
        invitation: Signed<Invitation>,
        newcomer: NodeId,
    ) -> Result<Welcome, WalletError> {
        let (node, key) = (self.node(), self.inner.key.clone());
        self.write(move |tables, now| {
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            let invitation = invitation
                .verify(&node)
                .map_err(|_| WalletError::Invitation("is not by this node"))?;
            if invitation.network != genesis.id() {
                return Err(WalletError::Invitation("is for another network"));
            }
            let id = invitation.id;
            let row: InvitationRow = tables
                .row(Table::Invitations, id.as_bytes())?
                .ok_or(WalletError::Invitation("is not known here"))?;
            if row.used_by.is_some_and(|by| by != newcomer) {
                return Err(WalletError::Invitation(
                    "was used by another node; ask for a new one",
                ));
            }
            if let Some(loan) = loan::of_borrower(tables, &newcomer)? {
                return Ok(Welcome {
                    grant: Some(loan.grant(&genesis, &key)),
                    note: None,
                });
            }
            let row = InvitationRow {
                used_by: Some(newcomer),
            };
            tables.put_row(Table::Invitations, id.as_bytes(), &row)?;
            let made = Amount::try_from(tables.totals(&Account::Issuer)?.debits_posted);
            let made = made.unwrap_or(Amount::MAX);
            let most = lent_in_a_day(&genesis, genesis.quota(&node), made);
            if loan::lent_today(tables, now)?
                .checked_add(genesis.welcome_loan)
                .is_none_or(|sum| sum > most)
            {
                return Ok(Welcome {
                    grant: None,
                    note: Some(format!(
                        "the issuer has lent its {most} TRM for today; ask again tomorrow"
                    )),
                });
            }
            let loan = loan::lend(tables, &genesis, (node, newcomer), id, now)?;
            Ok(Welcome {
                grant: Some(loan.grant(&genesis, &key)),
                note: None,
            })
        })
        .await
    }

    /// Books the welcome loan that an issuer of the network granted to this node. Once.
    ///
    /// # Errors
    ///
    /// [`WalletError::Invitation`] when the grant is not for this node or not by an issuer.
    pub async fn accept_loan(&self, grant: Signed<LoanGrant>) -> Result<Amount, WalletError> {
        let node = self.node();
        self.write(move |tables, now| {
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            let issuer = grant.body.issuer;
            let grant = grant
                .verify(&issuer)
                .map_err(|_| WalletError::Invitation("grant is not signed"))?;
            if grant.borrower != node
                || grant.network != genesis.id()
                || genesis.quota(&issuer).is_zero()
            {
                return Err(WalletError::Invitation(
                    "grant is not for this node and network",
                ));
            }
            let due = grant.granted.after_ms(genesis.welcome_term_ms);
            if grant.due != due || grant.principal > genesis.welcome_loan {
                return Err(WalletError::Invitation(
                    "grant is not due when the network says, or lends more than it does",
                ));
            }
            match loan::of_borrower(tables, &node)? {
                Some(loan) if loan.invitation != grant.invitation => {
                    return Err(WalletError::Invitation(
                        "grant is a second one; this node has its welcome loan",
                    ));
                }
                _ => loan::accept(tables, &grant, now)?,
            }
            chain::keep_grant(tables, grant.signed())?;
            tables.remove(Table::Meta, TICKET)?;
            Ok(grant.principal)
        })
        .await
    }
}

/// An issuer's answer to a newcomer.
#[derive(Clone, Debug)]
pub struct Welcome {
    /// The loan, signed; `None` when none was given.
    pub grant: Option<Signed<LoanGrant>>,
    /// Why none was given.
    pub note: Option<String>,
}

/// The network a node belongs to.
pub(crate) fn network(tables: &impl ReadTables) -> Result<Option<Genesis>, WalletError> {
    match tables.get(Table::Meta, GENESIS)? {
        None => Ok(None),
        Some(bytes) => Genesis::from_bytes(&bytes)
            .map(Some)
            .map_err(|_| crate::store::StoreError::Row { table: Table::Meta }.into()),
    }
}

/// Redeems the invitation once more by which the node came, if it is known.
pub(crate) fn redeem_again(tables: &mut impl Tables) -> Result<(), WalletError> {
    if let Some(ticket) = tables.get(Table::Meta, INVITER)? {
        tables.put(Table::Meta, TICKET, &ticket)?;
    }
    Ok(())
}

fn enter(
    tables: &mut (impl Tables + ReadRows),
    genesis: &Genesis,
    node: &NodeId,
) -> Result<(), WalletError> {
    let bytes = genesis.to_bytes();
    // What cannot be read again would leave a wallet that answers nothing.
    if Genesis::from_bytes(&bytes).as_ref() != Ok(genesis) {
        return Err(WalletError::Invitation(
            "is for a network whose genesis does not hold",
        ));
    }
    tables.put(Table::Meta, GENESIS, &bytes)?;
    set_node(tables, node)?;
    Ok(tables.set_quota(genesis.quota(node))?)
}

fn invited_anyone(tables: &impl ReadTables) -> Result<bool, WalletError> {
    use crate::ledger::tables::Order;
    Ok(!tables
        .scan(Table::Invitations, &[], None, Order::Ascending, 1)?
        .is_empty())
}
