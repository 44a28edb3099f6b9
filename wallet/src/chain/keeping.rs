//! How entries lie in the store: without what follows from their neighbours or stands in another
//! table, so that a trade is not written twice.

use serde::{Deserialize, Serialize};
use tirami_manifest::chain::{Certificate, Entry, Predecessor, Repaid, Step, Trade};
use tirami_manifest::commerce::Receipt;
use tirami_manifest::genesis::{Genesis, LoanGrant};
use tirami_manifest::key::Signature;
use tirami_manifest::merkle::{self, Frontier, Hash};
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, EntryId, InvitationId, NodeId, ReceiptId, Timestamp};

use crate::economy::loan;
use crate::ledger::tables::{ReadTables, Table, Tables};
use crate::statement::ReceiptRow;
use crate::store::StoreError;
use crate::tree::{Tree, push};

/// Key of the newest entry's row in [`Table::Meta`].
const HEAD: &[u8] = b"chain";

/// Key of the borrower's signed loan grant in [`Table::Meta`].
const GRANT: &[u8] = b"loan-grant";

/// Key of the newest certificate in [`Table::Meta`].
const CERTIFICATE: &[u8] = b"certificate";

/// Key of the ends of the chains before this one in [`Table::Meta`].
const BEFORE: &[u8] = b"chains-before";

/// The number of an entry says in its first byte on which of the node's chains it stands.
const SEQ_BITS: u32 = 56;

/// The end of the chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// Number of the newest entry.
    pub(super) seq: u64,
    /// Its id; the network's id before the first.
    pub(super) id: [u8; 32],
    /// Its time.
    pub(super) hlc: u64,
    /// What can be spent after it.
    pub(super) spendable: Amount,
    /// What was made in all.
    pub(super) made: Amount,
    /// What of it was retired.
    pub(super) retired: Amount,
    /// Hash of the key that may succeed.
    pub(super) successor: [u8; 32],
    /// Number of the last checkpoint; 0 before the first.
    pub(super) checkpoint: u64,
    /// Number of the newest transfer that was looked at.
    pub(super) covered: u64,
    /// Whether the lender was to be asked for a grant that is missing.
    pub(super) asked: bool,
    /// The tree over the ids of all entries.
    pub(super) log: Frontier,
}

impl Head {
    pub(super) fn read(tables: &impl ReadTables) -> Result<Self, StoreError> {
        Ok(tables.row(Table::Meta, HEAD)?.unwrap_or_default())
    }

    pub(super) fn write(&self, tables: &mut impl Tables) -> Result<(), StoreError> {
        tables.put_row(Table::Meta, HEAD, self)
    }

    const fn part(&self, generation: u8, author: NodeId) -> Part {
        Part {
            generation,
            author,
            seq: self.seq,
            id: self.id,
        }
    }
}

/// One of the chains of this node: the present one, or one whose key was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// How many chains came before it.
    pub(super) generation: u8,
    /// Whose it is.
    pub(super) author: NodeId,
    /// How many entries it has.
    pub(super) seq: u64,
    /// Id of the newest; the network's before the first.
    pub(super) id: [u8; 32],
}

impl Part {
    /// The key of an entry in [`Table::Chain`].
    fn key(self, seq: u64) -> [u8; 8] {
        number(self.generation, seq).to_be_bytes()
    }

    /// As the chain that goes on names it.
    pub(super) const fn end(&self) -> Predecessor {
        Predecessor {
            author: self.author,
            seq: self.seq,
            entry: EntryId::from_bytes(self.id),
        }
    }
}

fn number(generation: u8, seq: u64) -> u64 {
    u64::from(generation).unbounded_shl(SEQ_BITS) | seq
}

/// The chains before the present one, the oldest first.
pub(super) fn before(tables: &impl ReadTables) -> Result<Vec<Part>, StoreError> {
    Ok(tables.row(Table::Meta, BEFORE)?.unwrap_or_default())
}

/// How many chains came before the present one.
pub(super) fn generation(tables: &impl ReadTables) -> Result<u8, StoreError> {
    number_of(&before(tables)?)
}

fn number_of(before: &[Part]) -> Result<u8, StoreError> {
    u8::try_from(before.len()).map_err(|_| damaged())
}

/// Every chain of `node`, the oldest first; the last is the present one.
pub(super) fn parts(tables: &impl ReadTables, node: NodeId) -> Result<Vec<Part>, StoreError> {
    let mut parts = before(tables)?;
    let head = Head::read(tables)?;
    let generation = number_of(&parts)?;
    parts.push(head.part(generation, node));
    Ok(parts)
}

/// The present chain of `node`.
pub(super) fn present(tables: &impl ReadTables, node: NodeId) -> Result<Part, StoreError> {
    parts(tables, node)?.pop().ok_or_else(damaged)
}

/// Ends the present chain of `node`: the next entry begins another.
pub(super) fn ends(tables: &mut impl Tables, node: NodeId) -> Result<(), StoreError> {
    let parts = parts(tables, node)?;
    tables.put_row(Table::Meta, BEFORE, &parts)
}

/// What is kept of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    id: [u8; 32],
    hlc: u64,
    spendable: Amount,
    waits: bool,
    step: KeptStep,
    signature: Signature,
}

/// What is kept of what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum KeptStep {
    Genesis {
        successor: [u8; 32],
    },
    Checkpoint {
        state: [u8; 32],
    },
    /// The agreement and its signatures are in [`Table::Receipts`].
    Trade {
        payer: NodeId,
        receipt: ReceiptId,
    },
    /// The loan is in [`Table::Loans`].
    Mint {
        borrower: NodeId,
        grant: Signature,
    },
    /// The grant is in [`Table::Meta`].
    Borrow,
    Repay(KeptRepaid),
    Retire(KeptRepaid),
    Receive {
        payer: NodeId,
        receipt: ReceiptId,
        amount: Amount,
        debit: EntryId,
    },
    Succession {
        successor: NodeId,
    },
}

/// See [`Repaid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptRepaid {
    other: NodeId,
    invitation: InvitationId,
    amount: Amount,
    receipt: [u8; 32],
}

/// Keeps the grant of the loan that this node was given, signed by its lender.
pub(crate) fn keep_grant(
    tables: &mut impl Tables,
    grant: &Signed<LoanGrant>,
) -> Result<(), StoreError> {
    tables.put(Table::Meta, GRANT, &grant.to_bytes())
}

/// The newest certificate over an entry of the chain of `author`, which is or was this node.
pub(super) fn certificate(
    tables: &impl ReadTables,
    author: &NodeId,
) -> Result<Option<Certificate>, StoreError> {
    let newest = read_certificate(tables, CERTIFICATE)?;
    if newest.as_ref().is_some_and(|c| c.head.author == *author) {
        return Ok(newest);
    }
    read_certificate(tables, &last_certificate(author))
}

/// Key of the last certificate over a chain before the present one in [`Table::Meta`].
fn last_certificate(author: &NodeId) -> Vec<u8> {
    [CERTIFICATE, author.as_bytes()].concat()
}

fn read_certificate(
    tables: &impl ReadTables,
    key: &[u8],
) -> Result<Option<Certificate>, StoreError> {
    let bytes = tables.get(Table::Meta, key)?;
    let damaged = StoreError::Row { table: Table::Meta };
    bytes
        .map(|bytes| Certificate::from_bytes(&bytes).map_err(|_| damaged))
        .transpose()
}

/// Keeps it, also when one of another key comes after it.
pub(super) fn keep_certificate(
    tables: &mut impl Tables,
    certificate: &Certificate,
) -> Result<(), StoreError> {
    if let Some(newest) = read_certificate(tables, CERTIFICATE)?
        && newest.head.author != certificate.head.author
    {
        let key = last_certificate(&newest.head.author);
        tables.put(Table::Meta, &key, &newest.to_bytes())?;
    }
    tables.put(Table::Meta, CERTIFICATE, &certificate.to_bytes())
}

/// The grant of the loan that this node was given.
pub(super) fn grant(tables: &impl ReadTables) -> Result<Option<Signed<LoanGrant>>, StoreError> {
    let bytes = tables.get(Table::Meta, GRANT)?;
    let damaged = StoreError::Row { table: Table::Meta };
    bytes
        .map(|bytes| Signed::from_bytes(&bytes).map_err(|_| damaged))
        .transpose()
}

/// Writes the next entry and the head after it.
pub(super) fn append(
    tables: &mut impl Tables,
    generation: u8,
    head: &mut Head,
    signed: &Signed<Entry>,
) -> Result<(), StoreError> {
    let entry = &signed.body;
    let id = entry.id();
    let repaid = |repaid: &Repaid| KeptRepaid {
        other: repaid.other,
        invitation: repaid.invitation,
        amount: repaid.amount,
        receipt: repaid.receipt,
    };
    let step = match &entry.step {
        Step::Genesis { successor, .. } => KeptStep::Genesis {
            successor: *successor,
        },
        Step::Checkpoint { state } => KeptStep::Checkpoint { state: *state },
        Step::Trade(trade) => KeptStep::Trade {
            payer: trade.payer,
            receipt: trade.agreement.id(),
        },
        Step::Mint(grant) => KeptStep::Mint {
            borrower: grant.body.borrower,
            grant: grant.signature,
        },
        Step::Borrow(_) => KeptStep::Borrow,
        Step::Repay(part) => KeptStep::Repay(repaid(part)),
        Step::Retire(part) => KeptStep::Retire(repaid(part)),
        Step::Receive {
            payer,
            receipt,
            amount,
            debit,
        } => KeptStep::Receive {
            payer: *payer,
            receipt: *receipt,
            amount: *amount,
            debit: *debit,
        },
        Step::Succession { successor } => KeptStep::Succession {
            successor: *successor,
        },
    };
    let kept = Kept {
        id: *id.as_bytes(),
        hlc: entry.hlc,
        spendable: entry.spendable,
        waits: entry.waits,
        step,
        signature: signed.signature,
    };
    let key = number(generation, entry.seq).to_be_bytes();
    tables.put_row(Table::Chain, &key, &kept)?;
    let leaf = merkle::leaf(id.as_bytes());
    let place = (Table::ChainTree, number(generation, 0), 1);
    push(tables, place, &mut head.log, leaf)?;
    (head.seq, head.id, head.hlc) = (entry.seq, *id.as_bytes(), entry.hlc);
    head.spendable = entry.spendable;
    if matches!(entry.step, Step::Checkpoint { .. }) {
        head.checkpoint = entry.seq;
    }
    Ok(())
}

/// What is damaged when an entry is not as it was written.
pub(super) fn damaged() -> StoreError {
    StoreError::Row {
        table: Table::Chain,
    }
}

/// The id of an entry.
pub(super) fn id_of(tables: &impl ReadTables, part: Part, seq: u64) -> Result<EntryId, StoreError> {
    Ok(EntryId::from_bytes(kept(tables, part, seq)?.id))
}

/// When an entry was appended.
pub(super) fn at(tables: &impl ReadTables, part: Part, seq: u64) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_ms(kept(tables, part, seq)?.hlc >> 16))
}

/// The receipt of an entry that is a trade.
pub(super) fn receipt_of(
    tables: &impl ReadTables,
    part: Part,
    seq: u64,
) -> Result<Option<ReceiptId>, StoreError> {
    Ok(match kept(tables, part, seq)?.step {
        KeptStep::Trade { receipt, .. } => Some(receipt),
        _ => None,
    })
}

fn kept(tables: &impl ReadTables, part: Part, seq: u64) -> Result<Kept, StoreError> {
    let row = tables.row(Table::Chain, &part.key(seq))?;
    row.ok_or_else(damaged)
}

/// An entry as it was signed.
pub(super) fn entry(
    tables: &impl ReadTables,
    genesis: &Genesis,
    part: Part,
    seq: u64,
) -> Result<Signed<Entry>, StoreError> {
    let before = seq.saturating_sub(1);
    let prev = if before == 0 {
        *genesis.id().as_bytes()
    } else {
        kept(tables, part, before)?.id
    };
    let log_root = merkle::root_of(&tree(tables, part), before)?;
    of(tables, (genesis, part), (seq, prev, log_root))
}

/// An entry whose predecessor and history are known.
pub(super) fn of(
    tables: &impl ReadTables,
    (genesis, part): (&Genesis, Part),
    (seq, prev, log_root): (u64, [u8; 32], Hash),
) -> Result<Signed<Entry>, StoreError> {
    let kept = kept(tables, part, seq)?;
    let body = Entry {
        network: genesis.id(),
        author: part.author,
        seq,
        prev,
        hlc: kept.hlc,
        spendable: kept.spendable,
        held: Amount::ZERO,
        staked: Amount::ZERO,
        log_root,
        waits: kept.waits,
        step: step(tables, (genesis, part), kept.step)?,
    };
    // Whatever was put together otherwise than it was signed is another entry.
    if *body.id().as_bytes() != kept.id {
        return Err(damaged());
    }
    let signature = kept.signature;
    Ok(Signed { body, signature })
}

fn step(
    tables: &impl ReadTables,
    (genesis, part): (&Genesis, Part),
    step: KeptStep,
) -> Result<Step, StoreError> {
    let repaid = |part: KeptRepaid| Repaid {
        other: part.other,
        invitation: part.invitation,
        amount: part.amount,
        receipt: part.receipt,
    };
    Ok(match step {
        KeptStep::Genesis { successor } => Step::Genesis {
            successor,
            predecessor: predecessor(tables, part.generation)?,
        },
        KeptStep::Succession { successor } => Step::Succession { successor },
        KeptStep::Checkpoint { state } => Step::Checkpoint { state },
        KeptStep::Trade { payer, receipt } => Step::Trade(Box::new(trade(tables, payer, receipt)?)),
        KeptStep::Mint { borrower, grant } => {
            let loan = loan::of_borrower(tables, &borrower)?.ok_or_else(damaged)?;
            Step::Mint(Box::new(Signed {
                body: loan.terms(genesis),
                signature: grant,
            }))
        }
        KeptStep::Borrow => Step::Borrow(Box::new(grant(tables)?.ok_or_else(damaged)?)),
        KeptStep::Repay(part) => Step::Repay(repaid(part)),
        KeptStep::Retire(part) => Step::Retire(repaid(part)),
        KeptStep::Receive {
            payer,
            receipt,
            amount,
            debit,
        } => Step::Receive {
            payer,
            receipt,
            amount,
            debit,
        },
    })
}

/// The end of the chain before, which the first entry of one that goes on names.
pub(super) fn predecessor(
    tables: &impl ReadTables,
    generation: u8,
) -> Result<Option<Predecessor>, StoreError> {
    let Some(place) = generation.checked_sub(1) else {
        return Ok(None);
    };
    let before = before(tables)?;
    let part = before.get(usize::from(place)).ok_or_else(damaged)?;
    Ok(Some(part.end()))
}

/// A trade from the receipt that proves it.
pub(super) fn trade(
    tables: &impl ReadTables,
    payer: NodeId,
    receipt: ReceiptId,
) -> Result<Trade, StoreError> {
    let row: Option<ReceiptRow> = tables.row(Table::Receipts, receipt.as_bytes())?;
    let Receipt {
        agreement,
        provider_signature,
        consent,
        ..
    } = row.ok_or_else(damaged)?.receipt()?;
    Ok(Trade {
        payer,
        agreement,
        provider_signature,
        consent,
    })
}

/// The tree over the ids of all entries of a chain, as far as it is kept.
pub(super) fn tree<T: ReadTables>(tables: &T, part: Part) -> Tree<'_, T> {
    let base = number(part.generation, 0);
    Tree::over(tables, (Table::ChainTree, base), |tables, place| {
        // Entries count from 1, leaves from 0.
        let key = place.saturating_add(1).to_be_bytes();
        let row: Option<Kept> = tables.row(Table::Chain, &key)?;
        Ok(merkle::leaf(&row.ok_or_else(damaged)?.id))
    })
}
