//! The same hold the usual way on SQLite: one transaction each.
//!
//! SQLite has one writer at a time, so the clients share one connection under a lock, which is faster
//! than a connection each and waiting in its busy handler. Tuned: WAL, every commit flushed
//! (`synchronous = FULL`), prepared statements, the file locked for good, the wallet's cache size, and
//! a checkpoint every 10,000 pages.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::meter::{Lap, Traffic, Watch};

pub(crate) struct Sqlite {
    connection: Mutex<Connection>,
    next: u64,
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA cache_size = -16384;
    PRAGMA wal_autocheckpoint = 10000;
    CREATE TABLE accounts (
        id INTEGER PRIMARY KEY,
        debits_posted INTEGER NOT NULL, debits_pending INTEGER NOT NULL,
        credits_posted INTEGER NOT NULL, credits_pending INTEGER NOT NULL);
    CREATE TABLE mandates (
        agent INTEGER PRIMARY KEY,
        per_request INTEGER NOT NULL, per_hour INTEGER NOT NULL, lifetime INTEGER NOT NULL,
        hour INTEGER NOT NULL, used_hour INTEGER NOT NULL, used INTEGER NOT NULL);
    CREATE TABLE transfers (
        seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, at INTEGER NOT NULL,
        debit INTEGER NOT NULL, credit INTEGER NOT NULL, amount INTEGER NOT NULL,
        code INTEGER NOT NULL, reference BLOB NOT NULL, expires INTEGER NOT NULL);
    INSERT INTO accounts VALUES (1, 0, 0, 1000000000000, 0), (2, 0, 0, 0, 0);
    INSERT INTO mandates VALUES (1, 1000000, 1000000000000, 1000000000000, 0, 0, 0);
";

impl Sqlite {
    pub(crate) fn new(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self {
            connection: Mutex::new(connection),
            next: 0,
        })
    }

    pub(crate) fn holds(&mut self, count: u64, in_flight: u64) -> Lap {
        let first = self.next;
        self.next += count;
        let share = count / in_flight;
        let mut watch = Watch::new(&Traffic::default());
        watch.start();
        let connection = &self.connection;
        std::thread::scope(|scope| {
            for client in 0..in_flight {
                scope.spawn(move || {
                    for n in 0..share {
                        let mut connection =
                            connection.lock().unwrap_or_else(PoisonError::into_inner);
                        hold(&mut connection, first + client * share + n).expect("there is enough");
                    }
                });
            }
        });
        watch.stop(share * in_flight);
        watch.lap()
    }
}

fn hold(connection: &mut Connection, n: u64) -> rusqlite::Result<()> {
    const AMOUNT: i64 = 1;
    let now = 1_900_000_000_000_i64;
    let id = crate::raw::scattered(n);
    let write = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let earlier: Option<i64> = write
        .prepare_cached("SELECT seq FROM transfers WHERE id = ?")?
        .query_row(params![id.as_slice()], |row| row.get(0))
        .optional()?;
    assert!(earlier.is_none(), "this id is new");
    let (per_request, per_hour, lifetime, hour, used_hour, used): (i64, i64, i64, i64, i64, i64) = write
        .prepare_cached(
            "SELECT per_request, per_hour, lifetime, hour, used_hour, used FROM mandates WHERE agent = 1",
        )?
        .query_row([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })?;
    let this_hour = now / 3_600_000;
    let used_hour = if hour == this_hour { used_hour } else { 0 };
    assert!(
        AMOUNT <= per_request && used_hour + AMOUNT <= per_hour && used + AMOUNT <= lifetime,
        "no limit is reached"
    );
    let (posted, pending, credits): (i64, i64, i64) = write
        .prepare_cached(
            "SELECT debits_posted, debits_pending, credits_posted FROM accounts WHERE id = 1",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    assert!(posted + pending + AMOUNT <= credits, "there is enough");
    write
        .prepare_cached("UPDATE mandates SET hour = ?, used_hour = ?, used = ? WHERE agent = 1")?
        .execute(params![this_hour, used_hour + AMOUNT, used + AMOUNT])?;
    write
        .prepare_cached("UPDATE accounts SET debits_pending = debits_pending + ? WHERE id = 1")?
        .execute(params![AMOUNT])?;
    write
        .prepare_cached("UPDATE accounts SET credits_pending = credits_pending + ? WHERE id = 2")?
        .execute(params![AMOUNT])?;
    write
        .prepare_cached(
            "INSERT INTO transfers (id, at, debit, credit, amount, code, reference, expires)
             VALUES (?, ?, 1, 2, ?, 1, ?, ?)",
        )?
        .execute(params![
            id.as_slice(),
            now,
            AMOUNT,
            [3_u8; 32].as_slice(),
            now + 120_000
        ])?;
    write.commit()
}
