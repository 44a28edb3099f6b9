//! Intents: what an idempotency key names. One purchase, however often it is asked for.
//!
//! The answer is stored with the payment, in the same transaction, encrypted under a key made from
//! the node's: same key and same body answers it again. An intent that was refused or failed stays
//! open, so its key is not burnt.

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::hash;
use tirami_manifest::{AgentId, Amount, Timestamp, TransferId};
use zeroize::Zeroizing;

use crate::error::WalletError;
use crate::ledger::rows::ReadRows as _;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer;
use crate::store::StoreError;
use crate::wallet::Wallet;

/// How long an answer is kept: 24 hours.
pub const ANSWER_KEPT_MS: u64 = 24 * 3_600_000;

/// Intents looked at when old ones are dropped, per new one; two, so that they never pile up.
const DROP_AT_ONCE: usize = 2;

/// Longest idempotency key, in bytes; chosen.
pub const KEY_MAX: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IntentRow {
    pub(crate) body_hash: [u8; 32],
    pub(crate) begun: Timestamp,
    /// When it was last asked for; its age counts from here, so that work under way is not dropped.
    pub(crate) asked: Timestamp,
    /// Attempts so far; each has transfer ids of its own.
    pub(crate) attempts: u32,
    /// Nonce (24 bytes) and ciphertext of the answer, once there is one.
    pub(crate) answer: Option<Vec<u8>>,
}

/// Which intent: an agent and its idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentKey {
    pub(crate) agent: AgentId,
    pub(crate) row_key: Vec<u8>,
    /// What the caller named it.
    pub key: String,
}

impl IntentKey {
    /// The intent that `agent` names `key`.
    pub fn new(agent: AgentId, key: &str) -> Self {
        let digest = hash(b"trm/v1/intent\0", &[agent.as_bytes(), key.as_bytes()]);
        let row_key = [agent.as_bytes().as_slice(), &digest].concat();
        Self {
            agent,
            row_key,
            key: key.to_owned(),
        }
    }

    /// What tells this intent from every other.
    pub fn row_key(&self) -> &[u8] {
        &self.row_key
    }

    /// Whose it is.
    pub const fn agent(&self) -> AgentId {
        self.agent
    }
}

/// One try at an intent. Every try has transfer ids of its own, also after the intent's record was
/// dropped and its key came again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub(crate) intent: IntentKey,
    pub(crate) begun: Timestamp,
    /// The hash of what is asked for.
    pub(crate) body: [u8; 32],
    /// From 1.
    pub number: u32,
}

impl Attempt {
    /// Whose intent it is, and its key.
    pub const fn intent(&self) -> &IntentKey {
        &self.intent
    }

    /// Whether nobody asked for the intent before.
    pub const fn is_first(&self) -> bool {
        self.number == 1
    }

    /// The id of the hold this attempt makes.
    pub(crate) fn hold_id(&self) -> TransferId {
        let (begun, number) = (self.begun.ms().to_le_bytes(), self.number.to_le_bytes());
        transfer::id_at(self.begun, "hold", &[&self.intent.row_key, &begun, &number])
    }
}

/// Where an intent stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To be worked on.
    Attempt(Attempt),
    /// Paid for; the stored answer.
    Answered(Vec<u8>),
}

impl Wallet {
    /// Begins an intent, or answers it from what is stored.
    ///
    /// # Errors
    ///
    /// [`WalletError::KeyReused`] when the key was used for another body.
    pub async fn begin(&self, intent: IntentKey, body: [u8; 32]) -> Result<Intent, WalletError> {
        let key = self.inner.key.clone();
        self.write(move |tables, now| {
            drop_old(tables, &intent.agent, now)?;
            let row: Option<IntentRow> = tables.row(Table::Intents, &intent.row_key)?;
            let mut row = match row {
                Some(row) if row.body_hash != body => {
                    return Err(WalletError::KeyReused { key: intent.key });
                }
                Some(IntentRow {
                    answer: Some(sealed),
                    ..
                }) => {
                    let damaged = StoreError::Row {
                        table: Table::Intents,
                    };
                    return open(&key, &sealed)
                        .map(Intent::Answered)
                        .ok_or(damaged.into());
                }
                Some(row) => row,
                None => IntentRow {
                    body_hash: body,
                    begun: now,
                    asked: now,
                    attempts: 0,
                    answer: None,
                },
            };
            row.attempts = row.attempts.saturating_add(1);
            row.asked = now;
            tables.put_row(Table::Intents, &intent.row_key, &row)?;
            let (begun, number) = (row.begun, row.attempts);
            Ok(Intent::Attempt(Attempt {
                intent,
                begun,
                body,
                number,
            }))
        })
        .await
    }

    /// Whether an intent was begun before.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn knows_intent(&self, intent: &IntentKey) -> Result<bool, WalletError> {
        let row = self.view()?.get(Table::Intents, &intent.row_key)?;
        Ok(row.is_some())
    }

    /// What is owed for earlier tries at an intent, whichever process made them.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn owed_before(&self, attempt: &Attempt) -> Result<Amount, WalletError> {
        let view = self.view()?;
        let mut owed = Amount::ZERO;
        for number in 1..attempt.number {
            let earlier = Attempt {
                number,
                ..attempt.clone()
            };
            if let Some(hold) = view.hold(&earlier.hold_id())? {
                owed = owed.checked_add(hold.vouched).unwrap_or(Amount::MAX);
            }
        }
        Ok(owed)
    }

    /// Stores the answer of an intent that cost nothing.
    ///
    /// # Errors
    ///
    /// [`WalletError::KeyRunning`] when another try answered it first, or a store failure.
    pub async fn answer(&self, intent: IntentKey, answer: Vec<u8>) -> Result<(), WalletError> {
        let sealed = seal(&self.inner.key, &answer)?;
        self.write(move |tables, _| store_answer(tables, &intent, sealed))
            .await
    }
}

/// Whether an intent has its answer.
pub(crate) fn is_answered(
    tables: &impl ReadTables,
    intent: &IntentKey,
) -> Result<bool, StoreError> {
    let row: Option<IntentRow> = tables.row(Table::Intents, &intent.row_key)?;
    Ok(row.is_some_and(|row| row.answer.is_some()))
}

/// Writes a sealed answer into its intent, once. An intent that was never begun, or was dropped
/// after its time, has nowhere to keep one.
pub(crate) fn store_answer(
    tables: &mut impl Tables,
    intent: &IntentKey,
    sealed: Vec<u8>,
) -> Result<(), WalletError> {
    let row: Option<IntentRow> = tables.row(Table::Intents, &intent.row_key)?;
    let Some(mut row) = row else {
        return Ok(());
    };
    if row.answer.is_some() {
        // Two tries ran at once and the other was first: what it answered is the answer.
        let key = intent.key.clone();
        return Err(WalletError::KeyRunning { key });
    }
    row.answer = Some(sealed);
    Ok(tables.put_row(Table::Intents, &intent.row_key, &row)?)
}

/// Encrypts an answer.
pub(crate) fn seal(key: &SecretKey, answer: &[u8]) -> Result<Vec<u8>, WalletError> {
    let mut nonce = [0; 24];
    crate::keystore::random(&mut nonce)?;
    let sealed = cipher(key)
        .encrypt(&XNonce::from(nonce), answer)
        .map_err(|_| StoreError::Io("an answer could not be encrypted".into()))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(key: &SecretKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<24>()?;
    cipher(key).decrypt(&XNonce::from(*nonce), sealed).ok()
}

/// Encrypts every stored answer for another key of the node.
pub(crate) fn seal_again(
    tables: &mut impl Tables,
    key: &SecretKey,
    next: &SecretKey,
) -> Result<(), WalletError> {
    let damaged = || StoreError::Row {
        table: Table::Intents,
    };
    for (name, bytes) in tables.scan(Table::Intents, &[], None, Order::Ascending, usize::MAX)? {
        let mut row: IntentRow = decode(Table::Intents, &bytes)?;
        let Some(sealed) = row.answer else {
            continue;
        };
        let answer = open(key, &sealed).ok_or_else(damaged)?;
        row.answer = Some(seal(next, &answer)?);
        tables.put_row(Table::Intents, &name, &row)?;
    }
    Ok(())
}

fn cipher(key: &SecretKey) -> XChaCha20Poly1305 {
    let secret = hash(b"trm/v1/stored-answers\0", &[key.to_bytes().as_slice()]);
    let secret = Zeroizing::new(secret);
    XChaCha20Poly1305::new((&*secret).into())
}

fn drop_old(tables: &mut impl Tables, agent: &AgentId, now: Timestamp) -> Result<(), WalletError> {
    // A cursor per agent: with one for all, agents taking turns would look at the first few for ever.
    let cursor_key = [b"intent-cursor".as_slice(), agent.as_bytes()].concat();
    let cursor = tables.get(Table::Meta, &cursor_key)?;
    let prefix = agent.as_bytes();
    let some = tables.scan(
        Table::Intents,
        prefix,
        cursor.as_deref(),
        Order::Ascending,
        DROP_AT_ONCE,
    )?;
    match some.last() {
        Some((key, _)) if some.len() == DROP_AT_ONCE => {
            tables.put(Table::Meta, &cursor_key, key)?;
        }
        _ => tables.remove(Table::Meta, &cursor_key)?,
    }
    for (key, bytes) in some {
        let row: IntentRow = decode(Table::Intents, &bytes)?;
        if now.since_ms(row.asked) > ANSWER_KEPT_MS {
            tables.remove(Table::Intents, &key)?;
        }
    }
    Ok(())
}
