//! The witness's side: certifying members' chains, in a network whose only witness this node is.
//!
//! It signs for each number of each chain one entry, ever, and only what follows what it signed
//! before, holds by itself and says no more than its own ledger has for that member. A member that pays
//! another one is debited here when its entry is certified; the payee is credited in the same
//! transaction. What proves a fraud is kept, and whoever is proved one is certified no more.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tirami_manifest::chain::{
    self, Certificate, Chain, Entry, FraudProof, Predecessor, Rejected, Step, Trade, Vote, vote,
};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::key::Signature;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, EntryId, NodeId, ReceiptId, Timestamp};

use crate::chain::CHECKPOINT_EVERY;
use crate::error::WalletError;
use crate::keys;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::store::StoreError;
use crate::succession;
use crate::wallet::Wallet;

/// Credits that are asked for at once.
const CREDITS_AT_ONCE: usize = 250;

/// Chains that are remembered as far as they were read; chosen.
const READ_MAX: usize = 64;

/// The newest entry of a member's chain that was certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Witnessed {
    seq: u64,
    id: [u8; 32],
    spendable: Amount,
    signature: Signature,
    at: Timestamp,
}

/// A certified debit that its payee has not received on its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CreditRow {
    payer: NodeId,
    amount: Amount,
    debit: EntryId,
}

/// Members' chains as far as they were read.
#[derive(Debug, Default)]
pub(crate) struct ReadChains(Mutex<Read>);

#[derive(Debug, Default)]
struct Read {
    /// Each with when it was used last.
    chains: BTreeMap<NodeId, (u64, Chain)>,
    uses: u64,
}

impl ReadChains {
    fn keep(&self, chain: Chain) {
        let mut read = self.lock();
        let author = chain.author();
        if read.chains.len() >= READ_MAX && !read.chains.contains_key(&author) {
            let oldest = read.chains.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(author, _)| *author) {
                read.chains.remove(&oldest);
            }
        }
        read.uses = read.uses.saturating_add(1);
        let now = read.uses;
        read.chains.insert(author, (now, chain));
    }

    /// A chain as far as it was read.
    fn known(&self, author: &NodeId) -> Option<Chain> {
        let mut read = self.lock();
        read.uses = read.uses.saturating_add(1);
        let now = read.uses;
        let (used, chain) = read.chains.get_mut(author)?;
        *used = now;
        Some(chain.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a witness certified of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// Over the newest entry that it took; none before the first.
    pub certificate: Option<Certificate>,
    /// Of the receipts that it waits for, those whose debits are certified, each with the payer's entry.
    pub credits: Vec<(ReceiptId, EntryId)>,
}

/// A member whose chain was certified here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertifiedHead {
    /// The member.
    pub node: NodeId,
    /// Number of the newest certified entry.
    pub seq: u64,
    /// Its id.
    pub entry: EntryId,
    /// What can be spent after it.
    pub spendable: Amount,
    /// When it was certified.
    pub at: Timestamp,
}

impl Wallet {
    /// Certifies what `author` shows of its chain: entries in their order, the first of which follows
    /// the newest that was certified, or was certified before. None shown asks what is certified. Says also
    /// which of the receipts in `waiting` are certified. Entries of the chain that its own goes on, up to
    /// the succession, may come before them.
    ///
    /// # Errors
    ///
    /// [`WalletError::NotWitness`], [`WalletError::Fraud`], [`WalletError::ChainRejected`] when an entry
    /// does not hold, [`WalletError::NotYet`] when it is ahead of this ledger; then nothing was signed of
    /// the chain that does not hold.
    pub async fn certify(
        &self,
        author: NodeId,
        mut entries: Vec<Signed<Entry>>,
        waiting: &[ReceiptId],
    ) -> Result<Attested, WalletError> {
        while let Some(first) = entries.first() {
            let whose = first.body.author;
            if whose == author {
                break;
            }
            let all = entries.iter();
            let end = all.take_while(|entry| entry.body.author == whose).count();
            let rest = entries.split_off(end);
            let passes = entries.last().zip(rest.first());
            if !passes.is_some_and(|(last, first)| passes_on(last, first)) {
                return Err(WalletError::Succession(
                    "the chain before does not end with a key that goes on with it".to_owned(),
                ));
            }
            let booked = rest.first().map_or(Ok(None), |first| {
                keys::before(&self.view()?, &first.body.author).map_err(WalletError::from)
            })?;
            // What was booked is not asked for again, whatever the old key signed since.
            if booked != Some(whose) {
                self.certify_own((whose, true), entries, &[]).await?;
            }
            entries = rest;
        }
        self.certify_own((author, false), entries, waiting).await
    }

    /// Certifies entries of one chain. A chain ends only where the key that goes on with it agrees.
    async fn certify_own(
        &self,
        (author, agreed): (NodeId, bool),
        entries: Vec<Signed<Entry>>,
        waiting: &[ReceiptId],
    ) -> Result<Attested, WalletError> {
        let view = self.view()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        if genesis.authority() != Some(self.node()) || author == self.node() {
            return Err(WalletError::NotWitness);
        }
        if !is_member(&view, &author)? {
            return Err(WalletError::NotMember);
        }
        if keys::succeeded(&view, &author)? && entries.is_empty() {
            // Whoever asks so has a key that is another's now, or a wallet from before it was.
            return Err(WalletError::Succession(
                "another key succeeded this one".to_owned(),
            ));
        }
        refuse_frauds(&view, &author)?;
        let before: Option<Witnessed> = view.row(Table::Witnessed, author.as_bytes())?;
        let last = before.map_or(0, |row| row.seq);
        let mut new = Vec::new();
        for entry in entries {
            if entry.body.seq > last {
                new.push(entry);
            } else if let Some(proof) = forked(&view, &author, &entry)? {
                return Err(self.convict(proof).await?);
            }
        }
        if new.is_empty() {
            return self.attested(&genesis, author, waiting);
        }
        let ends = |entry: &Signed<Entry>| matches!(entry.body.step, Step::Succession { .. });
        if !agreed && new.iter().any(ends) {
            return Err(WalletError::NotYet(
                "a succession is shown with the first entry of the key that goes on".to_owned(),
            ));
        }
        let wallet = self.clone();
        // A long chain has many signatures.
        let read = tokio::task::spawn_blocking(move || {
            let view = wallet.view()?;
            let mut chain = wallet.read_chain(&view, author)?;
            let wrong = new.iter().enumerate().find_map(|(place, entry)| {
                let why = chain.append(entry).err()?;
                Some((place, why))
            });
            Ok::<_, WalletError>((chain, new, wrong))
        });
        let read = read.await.map_err(|_| StoreError::Closed)?;
        let (chain, new, wrong) = read?;
        if let Some((place, why)) = wrong {
            return Err(self.rejects(author, &new, place, why).await?);
        }
        drop(view);
        let ids: Vec<EntryId> = new.iter().map(|entry| entry.body.id()).collect();
        let signed = before.map(|row| (row.seq, EntryId::from_bytes(row.id)));
        if vote(signed, &ids, (chain.seq(), chain.head())) != Vote::Sign {
            return Err(WalletError::NotYet("there are entries between".to_owned()));
        }
        let head = chain::Head {
            network: genesis.id(),
            epoch: 0,
            author,
            seq: chain.seq(),
            entry: chain.head(),
        };
        let spendable = chain.state().spendable;
        self.take((head, spendable), new, before.map(|row| row.seq))
            .await?;
        self.inner.read_chains.keep(chain);
        self.attested(&genesis, author, waiting)
    }

    /// Members whose chains were certified here.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn certified_heads(&self) -> Result<Vec<CertifiedHead>, WalletError> {
        certified_heads(&self.view()?)
    }

    /// Every proof of fraud that is known here.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn frauds(&self) -> Result<Vec<FraudProof>, WalletError> {
        Ok(frauds(&self.view()?, &[], usize::MAX)?)
    }

    /// Keeps a proof of fraud, once.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoFraud`] when it proves nothing in this network.
    pub async fn keep_fraud(&self, proof: FraudProof) -> Result<(), WalletError> {
        self.write(move |tables, _| {
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            if proof.network != genesis.id() {
                return Err(WalletError::NoFraud("it is of another network".to_owned()));
            }
            proof
                .verify()
                .map_err(|error| WalletError::NoFraud(error.to_string()))?;
            let key = [proof.accused.as_bytes().as_slice(), &proof.digest()].concat();
            Ok(tables.put(Table::Frauds, &key, &proof.to_bytes())?)
        })
        .await
    }

    /// The error of somebody who proved its own fraud, which is kept first.
    async fn convict(&self, proof: FraudProof) -> Result<WalletError, WalletError> {
        let (accused, kind) = (proof.accused, proof.kind.name());
        self.keep_fraud(proof).await?;
        Ok(WalletError::Fraud { accused, kind })
    }

    /// The error of an entry that does not hold; what it proves is kept first.
    async fn rejects(
        &self,
        author: NodeId,
        new: &[Signed<Entry>],
        place: usize,
        why: Rejected,
    ) -> Result<WalletError, WalletError> {
        let entry = new.get(place);
        let before = match place.checked_sub(1) {
            Some(before) => new.get(before).cloned(),
            None => self.newest_of(&author)?,
        };
        let proof = match (entry, before) {
            (Some(entry), Some(before)) => FraudProof::between(&before, entry),
            _ => None,
        };
        match proof {
            Some(proof) if proof.accused == author => self.convict(proof).await,
            _ => Ok(WalletError::ChainRejected {
                seq: entry.map_or(0, |entry| entry.body.seq),
                why,
            }),
        }
    }

    fn newest_of(&self, author: &NodeId) -> Result<Option<Signed<Entry>>, WalletError> {
        let view = self.view()?;
        let row: Option<Witnessed> = view.row(Table::Witnessed, author.as_bytes())?;
        row.map(|row| stored(&view, author, row.seq))
            .transpose()
            .map_err(WalletError::from)
    }

    /// What was read of a member's chain before, or is now from what was kept of it.
    fn read_chain(&self, view: &impl ReadTables, author: NodeId) -> Result<Chain, WalletError> {
        let genesis = network(view)?.ok_or(WalletError::NoNetwork)?;
        let row: Option<Witnessed> = view.row(Table::Witnessed, author.as_bytes())?;
        let last = row.map_or(0, |row| row.seq);
        let known = self.inner.read_chains.known(&author);
        if let Some(chain) = known.filter(|chain| chain.seq() == last) {
            return Ok(chain);
        }
        let mut chain = match keys::before(view, &author)? {
            None => Chain::new(genesis, author),
            Some(before) => {
                let before = self.read_chain(view, before)?;
                before.goes_on().ok_or_else(damaged)?
            }
        };
        for seq in 1..=last {
            let entry = stored(view, &author, seq)?;
            chain.append(&entry).map_err(|_| damaged())?;
        }
        // Also where what follows it does not hold, so that it is read once.
        self.inner.read_chains.keep(chain.clone());
        Ok(chain)
    }

    /// Books what the new entries say and signs the newest, in one transaction.
    async fn take(
        &self,
        (head, spendable): (chain::Head, Amount),
        new: Vec<Signed<Entry>>,
        before: Option<u64>,
    ) -> Result<(), WalletError> {
        let author = head.author;
        let signature = head.sign(&self.inner.key);
        let witness = self.node();
        self.write(move |tables, now| {
            let row: Option<Witnessed> = tables.row(Table::Witnessed, author.as_bytes())?;
            if row.map(|row| row.seq) != before {
                return Err(WalletError::NotYet("it is being certified just now".to_owned()));
            }
            // It may have been proved one since.
            refuse_frauds(tables, &author)?;
            for entry in &new {
                book(tables, &witness, entry, now)?;
                let key = entry_key(&author, entry.body.seq);
                tables.put_owned(Table::Entries, key, entry.to_bytes())?;
            }
            // What a chain that has just ended had is its successor's by now.
            let whose = keys::newest(tables, &author)?;
            let has = tables.totals(&Account::Clearing(whose))?;
            let has = Amount::try_from(has.credits_posted.saturating_sub(has.debits_posted));
            let has = has.unwrap_or(Amount::ZERO);
            if spendable > has {
                return Err(WalletError::NotYet(format!(
                    "the chain says {spendable} TRM, but {has} are in the witness's ledger: receipts \
                     or repayments are on their way, or missing on the chain"
                )));
            }
            let row = Witnessed {
                seq: head.seq,
                id: *head.entry.as_bytes(),
                spendable,
                signature,
                at: now,
            };
            Ok(tables.put_row(Table::Witnessed, author.as_bytes(), &row)?)
        })
        .await
    }

    /// What is certified of a chain, and which credits wait for it.
    fn attested(
        &self,
        genesis: &Genesis,
        author: NodeId,
        waiting: &[ReceiptId],
    ) -> Result<Attested, WalletError> {
        let view = self.view()?;
        let row: Option<Witnessed> = view.row(Table::Witnessed, author.as_bytes())?;
        let certificate = row.map(|row| Certificate {
            head: chain::Head {
                network: genesis.id(),
                epoch: 0,
                author,
                seq: row.seq,
                entry: EntryId::from_bytes(row.id),
            },
            votes: vec![(self.node(), row.signature)],
        });
        let mut credits = Vec::new();
        for receipt in waiting.iter().take(CREDITS_AT_ONCE) {
            let key = credit_key(&author, receipt);
            let row: Option<CreditRow> = view.row(Table::Credits, &key)?;
            credits.extend(row.map(|row| (*receipt, row.debit)));
        }
        Ok(Attested {
            certificate,
            credits,
        })
    }
}

/// Whether `last` passes a chain on to the key that signed `first`, which says so too: nobody is made a
/// successor who does not know of it.
fn passes_on(last: &Signed<Entry>, first: &Signed<Entry>) -> bool {
    let (ended, begun) = (&last.body, &first.body);
    let (Step::Succession { successor }, Step::Genesis { predecessor, .. }) =
        (&ended.step, &begun.step)
    else {
        return false;
    };
    let end = Predecessor {
        author: ended.author,
        seq: ended.seq,
        entry: ended.id(),
    };
    *successor == begun.author
        && *predecessor == Some(end)
        && begun.network == ended.network
        && begun.is_signed_by(successor, &first.signature)
}

/// What a certified entry does in the witness's own ledger.
fn book(
    tables: &mut impl Tables,
    witness: &NodeId,
    entry: &Signed<Entry>,
    now: Timestamp,
) -> Result<(), WalletError> {
    let author = entry.body.author;
    match &entry.body.step {
        Step::Trade(trade) => pay_another(tables, witness, (entry, trade), now),
        Step::Receive {
            payer,
            receipt,
            amount,
            debit,
        } => {
            let key = credit_key(&author, receipt);
            let row: Option<CreditRow> = tables.row(Table::Credits, &key)?;
            let says = CreditRow {
                payer: *payer,
                amount: *amount,
                debit: *debit,
            };
            if row != Some(says) {
                return Err(WalletError::NotYet(format!(
                    "the debit of receipt {} is not certified",
                    receipt.short()
                )));
            }
            Ok(tables.remove(Table::Credits, &key)?)
        }
        Step::Checkpoint { .. } => spaced(tables, &entry.body),
        Step::Succession { successor } => {
            succession::book(tables, (&author, successor), now)?;
            for (key, row) in tables.scan(
                Table::Credits,
                author.as_bytes(),
                None,
                Order::Ascending,
                usize::MAX,
            )? {
                tables.remove(Table::Credits, &key)?;
                let receipt = key.split_first_chunk::<32>().map_or(&[][..], |(_, id)| id);
                let key = [successor.as_bytes().as_slice(), receipt].concat();
                tables.put(Table::Credits, &key, &row)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A checkpoint costs its author nothing and is kept here for ever, so there is one in so many entries.
fn spaced(tables: &impl ReadTables, checkpoint: &Entry) -> Result<(), WalletError> {
    let first = checkpoint.seq.saturating_sub(CHECKPOINT_EVERY);
    for seq in first.max(1)..checkpoint.seq {
        let key = entry_key(&checkpoint.author, seq);
        let Some(bytes) = tables.get(Table::Entries, &key)? else {
            continue;
        };
        let before = Signed::<Entry>::from_bytes(&bytes).map_err(|_| damaged())?;
        if matches!(before.body.step, Step::Checkpoint { .. }) {
            return Err(WalletError::NotYet(format!(
                "entry {seq} is a checkpoint, and entry {} is the next: there is one in {CHECKPOINT_EVERY} \
                 entries at most",
                checkpoint.seq
            )));
        }
    }
    Ok(())
}

/// A member paid another one: both accounts are kept here.
fn pay_another(
    tables: &mut impl Tables,
    witness: &NodeId,
    (entry, trade): (&Signed<Entry>, &Trade),
    now: Timestamp,
) -> Result<(), WalletError> {
    let (author, agreement) = (entry.body.author, &trade.agreement);
    let payee = keys::newest(tables, &agreement.provider)?;
    if trade.payer != author || payee == *witness {
        return Ok(());
    }
    if agreement.consumer != author {
        // Of a mandate between members the payee would not know who pays.
        return Err(WalletError::NotYet(
            "it pays another member for what somebody else bought".to_owned(),
        ));
    }
    let receipt = agreement.id();
    // Who is no member has no account to be paid into; the money waits for it.
    let member = is_member(tables, &payee)?;
    let credit = if member {
        Account::Clearing(payee)
    } else {
        Account::Uncertified(payee)
    };
    let pay = Transfer {
        id: transfer::id("between-members", &[receipt.as_bytes()]),
        kind: Kind::Single {
            debit: Account::Clearing(author),
            credit,
            amount: agreement.amount,
            spend: None,
        },
        code: TransferCode::Certified,
        reference: *receipt.as_bytes(),
    };
    apply(tables, &pay, now)?;
    if !member {
        return Ok(());
    }
    let row = CreditRow {
        payer: author,
        amount: agreement.amount,
        debit: entry.body.id(),
    };
    Ok(tables.put_row(Table::Credits, &credit_key(&payee, &receipt), &row)?)
}

/// Whether this ledger keeps an account of a node.
fn is_member(tables: &impl ReadTables, node: &NodeId) -> Result<bool, StoreError> {
    let kept = Account::Clearing(*node).key();
    Ok(tables.get(Table::Accounts, &kept)?.is_some() || keys::before(tables, node)?.is_some())
}

fn credit_key(payee: &NodeId, receipt: &ReceiptId) -> Vec<u8> {
    [payee.as_bytes().as_slice(), receipt.as_bytes()].concat()
}

fn entry_key(author: &NodeId, seq: u64) -> Vec<u8> {
    [author.as_bytes().as_slice(), &seq.to_be_bytes()].concat()
}

fn damaged() -> StoreError {
    StoreError::Row {
        table: Table::Entries,
    }
}

/// An entry that was certified.
fn stored(
    tables: &impl ReadTables,
    author: &NodeId,
    seq: u64,
) -> Result<Signed<Entry>, StoreError> {
    let bytes = tables.get(Table::Entries, &entry_key(author, seq))?;
    let entry = bytes.and_then(|bytes| Signed::from_bytes(&bytes).ok());
    entry.ok_or_else(damaged)
}

/// The proof that an entry is another one than was certified under its number.
fn forked(
    tables: &impl ReadTables,
    author: &NodeId,
    entry: &Signed<Entry>,
) -> Result<Option<FraudProof>, StoreError> {
    if entry.body.author != *author || entry.body.seq == 0 {
        return Ok(None);
    }
    let before = stored(tables, author, entry.body.seq)?;
    Ok(FraudProof::between(&before, entry))
}

/// Refuses whoever was proved a fraud.
pub(crate) fn refuse_frauds(tables: &impl ReadTables, node: &NodeId) -> Result<(), WalletError> {
    match fraud_of(tables, node)? {
        Some(proof) => Err(WalletError::Fraud {
            accused: *node,
            kind: proof.kind.name(),
        }),
        None => Ok(()),
    }
}

/// A proof of fraud of `accused`, if there is one.
fn fraud_of(tables: &impl ReadTables, accused: &NodeId) -> Result<Option<FraudProof>, StoreError> {
    Ok(frauds(tables, accused.as_bytes(), 1)?.pop())
}

/// Proofs of fraud whose accused begins so.
fn frauds(
    tables: &impl ReadTables,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<FraudProof>, StoreError> {
    let rows = tables.scan(Table::Frauds, prefix, None, Order::Ascending, limit)?;
    rows.into_iter()
        .map(|(_, bytes)| {
            FraudProof::from_bytes(&bytes).map_err(|_| StoreError::Row {
                table: Table::Frauds,
            })
        })
        .collect()
}

/// The newest certified entry of each member's chain, but for keys that others succeeded.
pub(crate) fn certified_heads(view: &impl ReadTables) -> Result<Vec<CertifiedHead>, WalletError> {
    let mut heads = Vec::new();
    for (key, row) in view.scan(Table::Witnessed, &[], None, Order::Ascending, usize::MAX)? {
        let damaged = StoreError::Row {
            table: Table::Witnessed,
        };
        let row: Witnessed = decode(Table::Witnessed, &row)?;
        heads.push(CertifiedHead {
            node: NodeId::from_bytes(key.try_into().map_err(|_| damaged)?),
            seq: row.seq,
            entry: EntryId::from_bytes(row.id),
            spendable: row.spendable,
            at: row.at,
        });
    }
    let mut newest = Vec::new();
    for head in heads {
        if !keys::succeeded(view, &head.node)? {
            newest.push(head);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_chains_those_that_are_asked_for_stay_in_memory() {
        let node = |n: u8| NodeId::from_bytes([n; 32]);
        let genesis = Genesis::private("test", node(0), Timestamp::EPOCH, [0; 16]);
        let (read, most) = (ReadChains::default(), u8::try_from(READ_MAX).unwrap());
        for n in 1..=most {
            read.keep(Chain::new(genesis.clone(), node(n)));
        }
        // The smallest key is no reason to go: it was used last.
        assert!(read.known(&node(1)).is_some());
        read.keep(Chain::new(genesis, node(most + 1)));
        let there = |n: u8| read.known(&node(n)).is_some();
        assert!(there(1) && there(most + 1) && there(3));
        assert!(!there(2), "the one that was used longest ago");
    }
}
