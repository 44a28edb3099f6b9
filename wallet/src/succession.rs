//! Changing the node's key: its chain ends with the key that it named at its beginning, and goes on under
//! that one, with all that it had. Whoever steals a key cannot do so: it takes the one that was named.

use tirami_manifest::key::SecretKey;
use tirami_manifest::{Amount, NodeId, Timestamp};

use crate::chain;
use crate::error::WalletError;
use crate::intent;
use crate::keys;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::store::set_node;
use crate::strangers;
use crate::travelling::holding::HeldRow;
use crate::travelling::tracking;
use crate::wallet::Wallet;

/// Most entries that may wait to be certified when the key is changed: they are shown at once.
const UNCERTIFIED_MAX: usize = 200;

/// Most keys that one node may have had; chosen.
const KEYS_MAX: usize = 200;

/// What a chain says of the key that may succeed the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// The chain has not begun: it can still be named.
    Open,
    /// It is named, as a hash.
    Named,
    /// The chain began without one: none may succeed.
    Never,
}

impl Wallet {
    /// What the chain says of the key that may succeed the node's.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn successor(&self) -> Result<Successor, WalletError> {
        Ok(match chain::names_successor(&self.view()?)? {
            None => Successor::Open,
            Some(true) => Successor::Named,
            Some(false) => Successor::Never,
        })
    }

    /// The present key of the node that has or had this one, as far as it is known here.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn newest_key(&self, key: &NodeId) -> Result<NodeId, WalletError> {
        Ok(keys::newest(&self.view()?, key)?)
    }

    /// Whether the chain names this key as the one that may succeed the node's.
    ///
    /// # Errors
    ///
    /// [`WalletError::Succession`] when it does not.
    pub fn may_succeed(&self, key: &NodeId) -> Result<(), WalletError> {
        chain::may_succeed(&self.view()?, key)
    }

    /// Names the key that may succeed the node's, as long as its chain has not begun. Says whether it is
    /// the one that is named.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn name_successor(&self, successor: NodeId) -> Result<bool, WalletError> {
        self.write(move |tables, _| chain::name_successor(tables, &successor))
            .await
    }

    /// Ends the chain with `successor`, under which it goes on and names `next` in its turn. From here on
    /// the wallet is that key's: it must be opened anew.
    ///
    /// # Errors
    ///
    /// [`WalletError::Succession`], which says what is in the way; then nothing changed.
    pub async fn succeed(&self, successor: SecretKey, next: NodeId) -> Result<(), WalletError> {
        let key = self.inner.key.clone();
        if self.uncertified(UNCERTIFIED_MAX.saturating_add(1))?.len() > UNCERTIFIED_MAX {
            return Err(no(
                "too much of the chain is not certified yet; start the node, so \
                           that the network's witness certifies it",
            ));
        }
        self.write(move |tables, now| {
            nothing_is_open(tables, &key.id(), now)?;
            let (old, new) = (key.id(), successor.id());
            if new == old || next == new || next == old || keys::is_known(tables, &new)? {
                return Err(no("each key can be the node's once"));
            }
            chain::succeed(tables, (&key, &successor), &next, now)?;
            keys::follow(tables, &old, &new)?;
            intent::seal_again(tables, &key, &successor)?;
            Ok(set_node(tables, &new)?)
        })
        .await
    }
}

fn no(why: &str) -> WalletError {
    WalletError::Succession(why.to_owned())
}

/// Refuses while something runs, or is out, that names the present key.
fn nothing_is_open(
    tables: &impl ReadRows,
    node: &NodeId,
    now: Timestamp,
) -> Result<(), WalletError> {
    let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
    if genesis.quota(node) > Amount::ZERO || genesis.witnesses.contains(node) {
        return Err(no(
            "the network's genesis document names this key as an issuer or witness, for good; found \
             another network under another --data-dir",
        ));
    }
    if tables.last_seq()? == 0 {
        return Err(no(
            "nothing stands on the chain yet; begin with another --data-dir",
        ));
    }
    if chain::own_keys(tables, *node)?.len() >= KEYS_MAX {
        return Err(no("the node has had as many keys as one may have"));
    }
    if !tables
        .open_holds(Timestamp::from_ms(u64::MAX), 1)?
        .is_empty()
    {
        return Err(no(
            "money is set aside for work that runs, or for a mandate that was handed out; wait until it is \
             over, or take the mandate back with 'tirami-agent mandate reclaim'",
        ));
    }
    if tables.last_key(Table::Outbox)?.is_some() {
        return Err(no(
            "a receipt that names the present key has not reached its provider; start the node until \
             'tirami-agent status' shows none",
        ));
    }
    if tables.last_key(Table::Jobs)?.is_some() {
        return Err(no(
            "a job for another node is not settled yet, and what was vouched for in it names the present key; \
             start the node until 'tirami-agent status' shows nothing on its way",
        ));
    }
    if tables.last_key(Table::Promised)?.is_some() {
        return Err(no(
            "what the present key vouched for in a job that broke off is not claimed yet; start the node and \
             wait until 'tirami-agent balance' shows nothing unclaimed, 31 days at most",
        ));
    }
    if let Some(since) = strangers::oldest_job(tables, now)? {
        return Err(WalletError::Succession(format!(
            "a job that was begun at {} for somebody else than the network's authority was not paid yet; \
             its receipt would name the present key: wait until it comes, or a day",
            since.to_rfc3339()
        )));
    }
    if tracking::is_any_open(tables, now)? {
        return Err(no(
            "a job that a mandate of another machine pays for was not paid yet; wait until its time is over",
        ));
    }
    for (_, row) in tables.scan(Table::Held, &[], None, Order::Ascending, usize::MAX)? {
        let row: HeldRow = decode(Table::Held, &row)?;
        let over = match row.chain()?.last() {
            Some(grant) => grant.expires <= now,
            None => true,
        };
        if row.given_back.is_none() && !over {
            return Err(no(
                "this node holds a mandate that was granted to its present key; give it back first, with \
                 'tirami-agent mandate return'",
            ));
        }
    }
    Ok(())
}

/// Books at the witness that another key goes on with all that a member had.
pub(crate) fn book(
    tables: &mut impl Tables,
    (old, new): (&NodeId, &NodeId),
    now: Timestamp,
) -> Result<(), WalletError> {
    let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
    let account = Account::Clearing(*new);
    let taken = keys::is_known(tables, new)?
        || tables.get(Table::Accounts, &account.key())?.is_some()
        || genesis.witnesses.contains(new);
    if taken {
        return Err(no(
            "the key that should succeed is another member's already",
        ));
    }
    if keys::line(tables, old)? >= KEYS_MAX {
        return Err(no("the member has had as many keys as one may have"));
    }
    let totals = tables.totals(&Account::Clearing(*old))?;
    if !totals.pending().is_zero() || totals.credits_pending > 0 {
        let why = "work runs that is paid from or to the member's present key".to_owned();
        return Err(WalletError::NotYet(why));
    }
    keys::follow(tables, old, new)?;
    let amount = totals.available();
    if amount.is_zero() {
        return Ok(());
    }
    let pass_on = Transfer {
        id: transfer::id("succession", &[old.as_bytes(), new.as_bytes()]),
        kind: Kind::Single {
            debit: Account::Clearing(*old),
            credit: account,
            amount,
            spend: None,
        },
        code: TransferCode::Succession,
        reference: *new.as_bytes(),
    };
    apply(tables, &pass_on, now)?;
    Ok(())
}
