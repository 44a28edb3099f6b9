//! The same hold the usual way on PostgreSQL: one transaction each, one connection a client.
//!
//! The server is Debian's, started here on a socket in a folder of its own. Tuned: memory for all the
//! data, no checkpoint within a round, no TCP, prepared statements, room in pages for updates in
//! place. Every commit is flushed (`synchronous_commit = on`); commits at once share a flush.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use postgres::{Client, Config, NoTls, Statement};

use crate::meter::{Lap, Traffic, Watch};

/// Whose rows a client changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// All clients spend from one account, as the wallet's do: each waits for the row.
    Shared,
    /// Each client has an agent and a payee to itself: nobody waits for a row.
    Own,
    /// The same, and the whole transaction is one call of a function in the server.
    OwnInServer,
}

const SCHEMA: &str = "
    CREATE TABLE accounts (
        id bigint PRIMARY KEY,
        debits_posted bigint NOT NULL, debits_pending bigint NOT NULL,
        credits_posted bigint NOT NULL, credits_pending bigint NOT NULL) WITH (fillfactor = 20);
    CREATE TABLE mandates (
        agent bigint PRIMARY KEY,
        per_request bigint NOT NULL, per_hour bigint NOT NULL, lifetime bigint NOT NULL,
        hour bigint NOT NULL, used_hour bigint NOT NULL, used bigint NOT NULL) WITH (fillfactor = 20);
    CREATE TABLE transfers (
        seq bigserial PRIMARY KEY, id bytea NOT NULL UNIQUE, at bigint NOT NULL,
        debit bigint NOT NULL, credit bigint NOT NULL, amount bigint NOT NULL,
        code integer NOT NULL, reference bytea NOT NULL, expires bigint NOT NULL);
    INSERT INTO accounts SELECT n, 0, 0, 1000000000000, 0 FROM generate_series(0, 511) n;
    INSERT INTO mandates SELECT n, 1000000, 1000000000000, 1000000000000, 0, 0, 0
        FROM generate_series(0, 255) n;
    CREATE FUNCTION hold(i bytea, a bigint, payer bigint, payee bigint, amt bigint, ref bytea)
    RETURNS void LANGUAGE plpgsql AS $$
    DECLARE m mandates; p accounts; used_now bigint;
    BEGIN
        SELECT * INTO m FROM mandates WHERE agent = payer FOR UPDATE;
        SELECT * INTO p FROM accounts WHERE id = payer FOR UPDATE;
        used_now := CASE WHEN m.hour = a / 3600000 THEN m.used_hour ELSE 0 END + amt;
        IF amt > m.per_request OR used_now > m.per_hour OR m.used + amt > m.lifetime
            OR p.debits_posted + p.debits_pending + amt > p.credits_posted THEN
            RAISE EXCEPTION 'refused';
        END IF;
        UPDATE mandates SET hour = a / 3600000, used_hour = used_now, used = used + amt
            WHERE agent = payer;
        UPDATE accounts SET debits_pending = debits_pending + amt WHERE id = payer;
        UPDATE accounts SET credits_pending = credits_pending + amt WHERE id = payee;
        INSERT INTO transfers (id, at, debit, credit, amount, code, reference, expires)
            VALUES (i, a, payer, payee, amt, 1, ref, a + 120000);
    END $$;
    ANALYZE;
";

const SETTINGS: [&str; 12] = [
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=512MB",
    "fsync=on",
    "synchronous_commit=on",
    "wal_buffers=64MB",
    "max_wal_size=8GB",
    "checkpoint_timeout=30min",
    "wal_level=minimal",
    "max_wal_senders=0",
    "jit=off",
    "logging_collector=off",
];

pub(crate) struct Postgres {
    server: Child,
    socket: tempfile::TempDir,
    next: u64,
}

impl Postgres {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let programs = programs()?;
        let data = folder.join("postgresql");
        fs::create_dir_all(&data)?;
        // Paths of sockets are short.
        let socket = tempfile::Builder::new().prefix("tirami").tempdir()?;
        let user = user();
        if let Some((uid, gid)) = user {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
            for path in [&data, socket.path()] {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        let run = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
                .current_dir(&data)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            command
        };
        let made = run("initdb")
            .args([
                "-U",
                "bench",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(&data)
            .stderr(Stdio::null())
            .status()?;
        if !made.success() {
            bail!("initdb failed");
        }
        let mut server = run("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(socket.path());
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        let server = server.stderr(Stdio::null()).spawn()?;
        let mut this = Self {
            server,
            socket,
            next: 0,
        };
        let mut client = this.wait()?;
        client.batch_execute(SCHEMA)?;
        Ok(this)
    }

    fn wait(&mut self) -> Result<Client> {
        for _ in 0..200 {
            if let Some(status) = self.server.try_wait()? {
                bail!("PostgreSQL ended: {status}");
            }
            if let Ok(client) = self.connect() {
                return Ok(client);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("PostgreSQL does not answer")
    }

    fn connect(&self) -> Result<Client> {
        let mut config = Config::new();
        config
            .host_path(self.socket.path())
            .user("bench")
            .dbname("postgres");
        Ok(config.connect(NoTls)?)
    }

    pub(crate) fn holds(&mut self, count: u64, in_flight: u64, rows: Rows) -> Result<Lap> {
        let first = self.next;
        self.next += count;
        let share = count / in_flight;
        let connections: Result<Vec<_>> = (0..in_flight)
            .map(|_| self.connect().and_then(Connection::new))
            .collect();
        let mut watch = Watch::new(&Traffic::default());
        watch.start();
        std::thread::scope(|scope| {
            for (client, mut connection) in (0..in_flight).zip(connections?) {
                let (payer, payee) = match rows {
                    Rows::Shared => (0, 256),
                    Rows::Own | Rows::OwnInServer => {
                        let own = i64::try_from(client).unwrap_or_default();
                        (own, 256 + own)
                    }
                };
                scope.spawn(move || {
                    for n in 0..share {
                        let id = crate::raw::scattered(first + client * share + n);
                        let held = match rows {
                            Rows::OwnInServer => connection.call(&id, payer, payee),
                            Rows::Own | Rows::Shared => connection.hold(&id, payer, payee),
                        };
                        held.expect("there is enough");
                    }
                });
            }
            anyhow::Ok(())
        })?;
        watch.stop(share * in_flight);
        Ok(watch.lap())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGINT: PostgreSQL's fast shutdown.
        if let Ok(pid) = i32::try_from(self.server.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).ok();
        }
        drop(self.server.wait());
    }
}

struct Connection {
    client: Client,
    limits: Statement,
    funds: Statement,
    charge: Statement,
    debit: Statement,
    credit: Statement,
    record: Statement,
    all: Statement,
}

impl Connection {
    fn new(mut client: Client) -> Result<Self> {
        Ok(Self {
            limits: client.prepare(
                "SELECT per_request, per_hour, lifetime, hour, used_hour, used
                 FROM mandates WHERE agent = $1 FOR UPDATE",
            )?,
            funds: client.prepare(
                "SELECT debits_posted, debits_pending, credits_posted
                 FROM accounts WHERE id = $1 FOR UPDATE",
            )?,
            charge: client.prepare(
                "UPDATE mandates SET hour = $2, used_hour = $3, used = $4 WHERE agent = $1",
            )?,
            debit: client.prepare(
                "UPDATE accounts SET debits_pending = debits_pending + $2 WHERE id = $1",
            )?,
            credit: client.prepare(
                "UPDATE accounts SET credits_pending = credits_pending + $2 WHERE id = $1",
            )?,
            all: client.prepare("SELECT hold($1, $2, $3, $4, $5, $6)")?,
            // That the id is new is checked by its index.
            record: client.prepare(
                "INSERT INTO transfers (id, at, debit, credit, amount, code, reference, expires)
                 VALUES ($1, $2, $3, $4, $5, 1, $6, $7)",
            )?,
            client,
        })
    }

    fn call(&mut self, id: &[u8], payer: i64, payee: i64) -> Result<()> {
        let now = 1_900_000_000_000_i64;
        let reference = [3_u8; 32];
        self.client.execute(
            &self.all,
            &[&id, &now, &payer, &payee, &1_i64, &reference.as_slice()],
        )?;
        Ok(())
    }

    fn hold(&mut self, id: &[u8], payer: i64, payee: i64) -> Result<()> {
        const AMOUNT: i64 = 1;
        let now = 1_900_000_000_000_i64;
        let mut write = self.client.transaction()?;
        let limits = write.query_one(&self.limits, &[&payer])?;
        let [per_request, per_hour, lifetime, hour, used_hour, used]: [i64; 6] =
            std::array::from_fn(|n| limits.get(n));
        let this_hour = now / 3_600_000;
        let used_hour = if hour == this_hour { used_hour } else { 0 };
        if AMOUNT > per_request || used_hour + AMOUNT > per_hour || used + AMOUNT > lifetime {
            bail!("a limit is reached");
        }
        let funds = write.query_one(&self.funds, &[&payer])?;
        let [posted, pending, credits]: [i64; 3] = std::array::from_fn(|n| funds.get(n));
        if posted + pending + AMOUNT > credits {
            bail!("there is not enough");
        }
        write.execute(
            &self.charge,
            &[&payer, &this_hour, &(used_hour + AMOUNT), &(used + AMOUNT)],
        )?;
        write.execute(&self.debit, &[&payer, &AMOUNT])?;
        write.execute(&self.credit, &[&payee, &AMOUNT])?;
        let (reference, expires) = ([3_u8; 32], now + 120_000);
        write.execute(
            &self.record,
            &[
                &id,
                &now,
                &payer,
                &payee,
                &AMOUNT,
                &reference.as_slice(),
                &expires,
            ],
        )?;
        Ok(write.commit()?)
    }
}

/// The folder of the newest PostgreSQL that Debian installed.
fn programs() -> Result<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed (apt-get install postgresql)")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    versions.sort();
    versions.pop().context("PostgreSQL is not installed")
}

/// PostgreSQL does not run as root; then it runs as the user its package made, or as nobody.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let id = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    };
    id("postgres").or_else(|| id("nobody"))
}
