//! What a sale costs in reads and writes, and that it costs no more after a long history.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows should stop"
)]

use std::cell::Cell;

use tirami_manifest::commerce::{Agreement, Consent, Quote, Receipt};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::job::Finish;
use tirami_manifest::key::SecretKey;
use tirami_manifest::merkle::Frontier;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, ModelId, Multiplier, Timestamp, TransferId};

use super::keeping::Head;
use super::publish;
use crate::journal;
use crate::ledger::account::Account;
use crate::ledger::apply::apply;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{MemoryTables, Order, Pair, ReadTables, Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::statement::{ReceiptRow, Side};
use crate::store::StoreError;

const START: Timestamp = Timestamp::from_ms(1_900_000_000_000);

/// Sales that are counted: a checkpoint is among them.
const COUNTED: u64 = 1_024;

/// Tables that count what is asked of them.
#[derive(Default)]
struct Counting {
    tables: MemoryTables,
    /// Questions, and rows in the answers.
    read: Cell<u64>,
    written: Cell<u64>,
    bytes: Cell<u64>,
}

fn add(to: &Cell<u64>, n: usize) {
    to.set(to.get() + u64::try_from(n).unwrap());
}

impl ReadTables for Counting {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.tables.get(table, key)?;
        add(&self.read, 1);
        add(&self.bytes, key.len() + value.as_ref().map_or(0, Vec::len));
        Ok(value)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        beyond: Option<&[u8]>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let rows = self.tables.scan(table, prefix, beyond, order, limit)?;
        add(&self.read, 1 + rows.len());
        add(
            &self.bytes,
            rows.iter()
                .map(|(key, value)| key.len() + value.len())
                .sum(),
        );
        Ok(rows)
    }
}

impl Tables for Counting {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        add(&self.written, 1);
        add(&self.bytes, key.len() + value.len());
        self.tables.put(table, key, value)
    }

    fn remove(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        add(&self.written, 1);
        self.tables.remove(table, key)
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

fn genesis() -> Genesis {
    Genesis::private("cost", key(1).id(), START, [7; 16])
}

/// The node sells for one TRM.
fn receipt() -> Receipt {
    let card = ModelCard {
        id: ModelId::from_bytes([5; 32]),
        block_weights: 500_000_000,
        head_weights: 0,
        attention_flop: 0,
        window: 0,
        context: 1_000,
    };
    let quote = Quote {
        network: genesis().id(),
        provider: key(1).id(),
        consumer: key(2).id(),
        card,
        multiplier: Multiplier::PAR,
        max_in: 1,
        max_out: 0,
        max_amount: Amount::from_trm(1),
        chunk_tokens: 8,
        window: 0,
        issued: START,
        expires: START,
        nonce: [1; 16],
    };
    let usage = Usage {
        tokens_in: 1,
        ..Usage::default()
    };
    let agreement = Agreement {
        network: quote.network,
        provider: quote.provider,
        consumer: quote.consumer,
        nonce: quote.nonce,
        quote: quote.id(),
        hold: TransferId::from_bytes([1; 16]),
        model: card.id,
        usage,
        kflop: card.kflop(usage).unwrap(),
        multiplier: quote.multiplier,
        earlier: Amount::ZERO,
        amount: quote.max_amount,
        transcript: [0; 32],
        seed: 0,
        temperature_milli: 0,
        top_k: 0,
        lane: 0,
        voucher_seq: 0,
        audit_ok: false,
        engine_fingerprint: [0; 8],
        started_hlc: 0,
        ended_hlc: 0,
        finish: Finish::Stop,
    };
    Receipt {
        quote: Signed::new(quote, &key(1)),
        provider_signature: agreement.sign(&key(1)),
        consent: Consent::Signature(agreement.sign(&key(2))),
        agreement,
    }
}

/// A node whose customer has plenty of money.
fn books(receipt: &Receipt) -> Counting {
    let mut books = Counting::default();
    books
        .put(Table::Meta, b"genesis", &genesis().to_bytes())
        .unwrap();
    let row = ReceiptRow {
        bytes: receipt.to_bytes(),
        side: Side::Sold,
        at: START,
    };
    books
        .put_row(Table::Receipts, receipt.id().as_bytes(), &row)
        .unwrap();
    let kind = Kind::Single {
        debit: Account::Position,
        credit: Account::Clearing(key(2).id()),
        amount: Amount::from_trm(1_000_000),
        spend: None,
    };
    does(&mut books, kind, (TransferCode::Acknowledged, [0; 32]), 0);
    books
}

/// What the writer does for a command that makes one transfer.
fn does(books: &mut Counting, kind: Kind, (code, reference): (TransferCode, [u8; 32]), n: u64) {
    let transfer = Transfer {
        id: transfer::id("cost", &[&n.to_be_bytes()]),
        kind,
        code,
        reference,
    };
    let now = START.after_ms(n);
    let before = books.last_seq().unwrap();
    apply(books, &transfer, now).unwrap();
    publish(books, &key(1), Some(before)).unwrap();
    journal::seal(books, now).unwrap();
}

fn sells(books: &mut Counting, receipt: &Receipt, n: u64) {
    let kind = Kind::Single {
        debit: Account::Clearing(key(2).id()),
        credit: Account::Revenue,
        amount: Amount::from_trm(1),
        spend: None,
    };
    does(
        books,
        kind,
        (TransferCode::Sale, *receipt.id().as_bytes()),
        n,
    );
}

/// A tree of so many leaves, whose hashes nobody looks at.
fn frontier(size: u64) -> Frontier {
    let peaks = vec![[9_u8; 32]; usize::try_from(size.count_ones()).unwrap()];
    let bytes = postcard::to_stdvec(&(size, peaks)).unwrap();
    postcard::from_bytes(&bytes).unwrap()
}

/// The rows that `to` sales leave, made from those of the newest: as many of each table, and where they
/// would lie.
fn ages(books: &mut Counting, to: u64) {
    let mut head = Head::read(books).unwrap();
    let numbered = [Table::Log, Table::Journal, Table::Chain];
    let newest = numbered.map(|table| {
        let key = books.last_key(table).unwrap().unwrap();
        books.get(table, &key).unwrap().unwrap()
    });
    let transfers = books.scan(Table::Transfers, &[], None, Order::Ascending, 1);
    let (_, transfer) = transfers.unwrap().remove(0);
    let receipts = books.scan(Table::Receipts, &[], None, Order::Ascending, 1);
    let (_, receipt) = receipts.unwrap().remove(0);
    for seq in head.seq + 1..=to {
        for (table, row) in numbered.iter().zip(&newest) {
            let key = seq.to_be_bytes().to_vec();
            books.tables.put_owned(*table, key, row.clone()).unwrap();
        }
        let mut other = [0; 32];
        other[..8].copy_from_slice(&seq.to_be_bytes());
        let books = &mut books.tables;
        books
            .put_owned(Table::Transfers, other[..16].to_vec(), transfer.clone())
            .unwrap();
        books
            .put_owned(Table::Receipts, other.to_vec(), receipt.clone())
            .unwrap();
        for level in [0_u8, 4, 8, 12, 16] {
            if seq.is_multiple_of(1 << level) {
                let index = ((seq >> level) - 1).to_be_bytes();
                let place = [[level].as_slice(), &index].concat();
                books.put(Table::JournalTree, &place, &[9; 32]).unwrap();
                if level > 0 {
                    books.put(Table::ChainTree, &place, &[9; 32]).unwrap();
                }
            }
        }
    }
    (head.seq, head.covered, head.log) = (to, to, frontier(to));
    head.checkpoint = to - to % 1_024;
    head.write(books).unwrap();
    let sealed = (to, [9_u8; 32], frontier(to));
    books.put_row(Table::Meta, b"journal", &sealed).unwrap();
}

/// Reads, writes and bytes of all that is counted, after so many sales.
fn cost(history: u64) -> [u64; 3] {
    let receipt = receipt();
    let mut books = books(&receipt);
    for n in 1..=8 {
        sells(&mut books, &receipt, n);
    }
    ages(&mut books, history);
    for counter in [&books.read, &books.written, &books.bytes] {
        counter.set(0);
    }
    for n in 0..COUNTED {
        sells(&mut books, &receipt, history + n);
    }
    let head = Head::read(&books.tables).unwrap();
    assert_eq!(
        head.seq,
        history + COUNTED + 1,
        "a checkpoint beside the sales"
    );
    [books.read.get(), books.written.get(), books.bytes.get()]
}

#[test]
fn a_sale_costs_no_more_after_a_hundred_thousand_than_after_a_thousand() {
    let (young, old) = (cost(1_000), cost(100_000));
    for (what, (young, old)) in ["reads", "writes", "bytes"]
        .iter()
        .zip(young.into_iter().zip(old))
    {
        assert!(young >= COUNTED);
        assert!(old * 10 <= young * 13, "{what}: {young}, later {old}");
    }
}
