//! Statements that the node signs: what moved on an account, and the journal that it follows from.

use tirami_manifest::genesis::Genesis;
use tirami_manifest::merkle::Hash;
use tirami_manifest::signed::Signed;
use tirami_manifest::statement::{Statement, StatementLine, root};
use tirami_manifest::{Amount, Timestamp};

use super::{Line, line, logged};
use crate::error::WalletError;
use crate::journal::sealed;
use crate::ledger::account::Account;
use crate::ledger::rows::seq_of;
use crate::ledger::tables::{Order, ReadTables, Table, Tables};
use crate::membership::network;
use crate::store::StoreError;
use crate::store::writer::CLOCK;
use crate::wallet::Wallet;

/// Transfers that are looked at in one go.
const CHUNK: usize = 1_000;

/// What moved on an account in a period, and the journal then, all read at one moment.
#[derive(Clone, Debug)]
pub struct Movements {
    /// The network.
    pub genesis: Genesis,
    /// From this moment on.
    pub from: Timestamp,
    /// Before this moment, which has come.
    pub to: Timestamp,
    /// The balance before the first line.
    pub opening: Amount,
    /// What moved something, oldest first, with the balance after it.
    pub lines: Vec<(Line, Amount)>,
    /// How many records the journal has.
    pub size: u64,
    /// Root of the journal's tree.
    pub root: Hash,
    /// When this was.
    pub at: Timestamp,
}

impl Wallet {
    /// A moment that the books have passed: whatever is written later is of it or later, also after a restart.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn moment(&self) -> Result<Timestamp, WalletError> {
        self.write(|tables, now| {
            tables.put(Table::Meta, CLOCK, &now.ms().to_be_bytes())?;
            Ok(now)
        })
        .await
    }

    /// What moved on an account between two moments; `None` when that is more than `most` movements. `now` is a
    /// [`Wallet::moment`], and the period ends with it at the latest, so that nothing is added to it later. This
    /// reads the whole history: call it on a blocking thread.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn movements(
        &self,
        account: &Account,
        (from, to, now): (Timestamp, Timestamp, Timestamp),
        most: usize,
    ) -> Result<Option<Movements>, WalletError> {
        let view = self.view()?;
        let seal = sealed(&view)?;
        let mut found = Movements {
            genesis: network(&view)?.ok_or(WalletError::NoNetwork)?,
            from,
            to: to.min(now),
            opening: Amount::ZERO,
            lines: Vec::new(),
            size: seal.seq,
            root: seal.log.root(),
            at: now,
        };
        let damaged = || StoreError::Row { table: Table::Log };
        let (mut balance, mut after) = (0_u64, 0_u64);
        loop {
            let mark = after.to_be_bytes();
            let rows = view.scan(Table::Log, &[], Some(&mark), Order::Ascending, CHUNK)?;
            if rows.is_empty() {
                return Ok(Some(found));
            }
            for (key, id) in rows {
                after = seq_of(&key).ok_or_else(damaged)?;
                let line = line(&view, logged(&view, &key, id)?)?;
                // The ledger's time never goes back.
                if line.entry.at >= found.to {
                    return Ok(Some(found));
                }
                let (came_in, went_out) = line.moved_for(account);
                if came_in.is_zero() && went_out.is_zero() {
                    continue;
                }
                let sum = balance.checked_add(came_in.utrm());
                let sum = sum.and_then(|sum| sum.checked_sub(went_out.utrm()));
                balance = sum.ok_or_else(damaged)?;
                let now = Amount::from_utrm(balance).map_err(|_| damaged())?;
                if line.entry.at < found.from {
                    found.opening = now;
                } else if found.lines.len() == most {
                    return Ok(None);
                } else {
                    found.lines.push((line, now));
                }
            }
        }
    }

    /// What this node signs of an agent's account: `lines` are those of the movements in words.
    pub fn sign_statement(
        &self,
        agent: String,
        found: &Movements,
        lines: &[StatementLine],
    ) -> Signed<Statement> {
        let body = Statement {
            network: found.genesis.id(),
            node: self.node(),
            agent,
            from: found.from,
            to: found.to,
            opening: found.opening,
            closing: lines.last().map_or(found.opening, |line| line.balance),
            count: u32::try_from(lines.len()).unwrap_or(u32::MAX),
            lines: root(lines),
            size: found.size,
            root: found.root,
            at: found.at,
        };
        Signed::new(body, &self.inner.key)
    }
}
