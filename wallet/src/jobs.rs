//! Jobs that this node began for others and that are paid while they stream: what was vouched for, from the
//! start until a receipt or a claim settles it.
//!
//! A job is settled once. Where its consumer signs no receipt, the last voucher is its word for what it comes
//! to: the provider claims exactly that. While the consumer may have signed one, it is asked first, for it
//! would have paid by that.

use serde::{Deserialize, Serialize};
use tirami_manifest::commerce::{Agreement, Quote, Receipt, Voucher, lane_key};
use tirami_manifest::job::{Finish, Sampler};
use tirami_manifest::model::Usage;
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{Amount, NodeId, Timestamp, TransferId};

use crate::error::WalletError;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer;
use crate::store::StoreError;
use crate::wallet::Wallet;

/// How long a consumer that may have signed a receipt has to show it: as long as receipts may take.
pub const ASKED_FOR_MS: u64 = 30 * 24 * 3_600_000;

/// How long after that it is claimed all the same: half of the day by which its consumer waits longer, for
/// clocks that differ.
const HALF_A_DAY_MS: u64 = 12 * 3_600_000;

/// What a job is begun with, beside its quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStart {
    /// The consumer's hold.
    pub hold: TransferId,
    /// How tokens are chosen.
    pub sampler: Sampler,
    /// When it was begun.
    pub started: Timestamp,
    /// First 8 bytes of SHA-256 of the engine's name and version.
    pub engine_fingerprint: [u8; 8],
}

/// A job that was begun and is not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenJob {
    quote: Vec<u8>,
    start: JobStart,
    /// Tokens of the prompt, and of those the ones that are not charged.
    counted: (u32, u32),
    voucher: Option<Vec<u8>>,
    at: Timestamp,
}

/// The name of a job at its provider: see [`Agreement::lane_key`].
pub type Lane = [u8; 32];

/// The name of a job under a quote and a hold.
pub fn lane(quote: &Quote, hold: &TransferId) -> Lane {
    lane_key(&quote.consumer, hold, 0, &quote.provider)
}

impl OpenJob {
    fn quote(&self) -> Result<Signed<Quote>, StoreError> {
        Signed::from_bytes(&self.quote).map_err(|_| damaged())
    }

    /// Who pays.
    ///
    /// # Errors
    ///
    /// A damaged row.
    pub fn consumer(&self) -> Result<NodeId, WalletError> {
        Ok(self.quote()?.body.consumer)
    }

    /// Whether something was vouched for.
    pub const fn is_owed(&self) -> bool {
        self.voucher.is_some()
    }

    /// What was vouched for, if anything was.
    ///
    /// # Errors
    ///
    /// A damaged row.
    pub fn vouched(&self) -> Result<Option<Amount>, WalletError> {
        let Some(voucher) = &self.voucher else {
            return Ok(None);
        };
        let voucher = Signed::<Voucher>::from_bytes(voucher).map_err(|_| damaged())?;
        Ok(Some(voucher.body.total))
    }

    /// Whether its consumer had all the time that it has to show a receipt.
    pub const fn is_due(&self, now: Timestamp) -> bool {
        now.since_ms(self.at) >= ASKED_FOR_MS
    }

    /// Whether its consumer may have taken back what it vouched for.
    pub const fn is_late(&self, now: Timestamp) -> bool {
        now.since_ms(self.at) >= ASKED_FOR_MS + HALF_A_DAY_MS
    }
}

impl Wallet {
    /// Keeps the newest voucher of a job, which was checked against what was sent. To be on disk before
    /// anything is sent on it.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`] when no such job is open, or a store failure.
    pub async fn keep_voucher(
        &self,
        job: Lane,
        counted: (u32, u32),
        voucher: &Verified<Voucher>,
    ) -> Result<(), WalletError> {
        let voucher = voucher.signed().to_bytes();
        self.write(move |tables, now| {
            let row: Option<OpenJob> = tables.row(Table::Jobs, &job)?;
            let row = OpenJob {
                counted,
                voucher: Some(voucher),
                at: now,
                ..row.ok_or(WalletError::OtherReceipt("job, which is over"))?
            };
            Ok(tables.put_row(Table::Jobs, &job, &row)?)
        })
        .await
    }

    /// Jobs that are not settled, those included that run.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn open_jobs(&self) -> Result<Vec<(Lane, OpenJob)>, WalletError> {
        let view = self.view()?;
        let rows = view.scan(Table::Jobs, &[], None, Order::Ascending, usize::MAX)?;
        rows.into_iter()
            .map(|(key, row)| {
                let job = key.try_into().map_err(|_| damaged())?;
                Ok((job, decode(Table::Jobs, &row)?))
            })
            .collect()
    }

    /// What this node claims for a job by its last voucher, always the same; `None` where nothing was
    /// vouched for.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn claim(&self, job: &Lane) -> Result<Option<Receipt>, WalletError> {
        let row: Option<OpenJob> = self.view()?.row(Table::Jobs, job)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let Some(voucher) = &row.voucher else {
            return Ok(None);
        };
        let voucher = Signed::<Voucher>::from_bytes(voucher).map_err(|_| damaged())?;
        let quote = row.quote()?;
        let quote = quote.verify(&self.node()).map_err(|_| damaged())?;
        let agreement = row.agreement(job, &quote, &voucher.body)?;
        Ok(Some(Receipt::claim(
            &quote,
            agreement,
            voucher,
            &self.inner.key,
        )))
    }

    /// Forgets a job for which nothing was vouched, or nothing can be claimed any more.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn forget_job(&self, job: Lane) -> Result<(), WalletError> {
        self.write(move |tables, now| {
            let row: Option<OpenJob> = tables.row(Table::Jobs, &job)?;
            if row.is_some_and(|row| row.voucher.is_none() || row.is_late(now)) {
                tables.remove(Table::Jobs, &job)?;
            }
            Ok(())
        })
        .await
    }
}

impl OpenJob {
    /// What both would have signed, had the job ended where the voucher speaks of.
    fn agreement(
        &self,
        job: &Lane,
        quote: &Verified<Quote>,
        voucher: &Voucher,
    ) -> Result<Agreement, WalletError> {
        let usage = Usage {
            tokens_in: self.counted.0,
            tokens_cached: self.counted.1,
            tokens_out: voucher.tokens_out,
        };
        let hlc = |at: Timestamp| at.ms() << 16;
        Ok(Agreement {
            network: quote.network,
            provider: quote.provider,
            consumer: quote.consumer,
            // One claim for each job, however often it is made.
            nonce: job.first_chunk().copied().unwrap_or_default(),
            quote: quote.id(),
            hold: self.start.hold,
            model: quote.card.id,
            usage,
            kflop: quote.card.kflop(usage).map_err(|_| damaged())?,
            multiplier: quote.multiplier,
            earlier: Amount::ZERO,
            amount: voucher.total,
            transcript: voucher.transcript,
            seed: self.start.sampler.seed,
            temperature_milli: self.start.sampler.temperature_milli,
            top_k: self.start.sampler.top_k,
            lane: voucher.lane,
            voucher_seq: voucher.seq,
            audit_ok: false,
            engine_fingerprint: self.start.engine_fingerprint,
            started_hlc: hlc(self.start.started),
            ended_hlc: hlc(self.at),
            finish: Finish::Cancelled,
        })
    }
}

/// Writes down a job that is paid while it streams, and refuses one that was done before.
pub(crate) fn begin(
    tables: &mut impl Tables,
    quote: &Signed<Quote>,
    start: JobStart,
    now: Timestamp,
) -> Result<(), WalletError> {
    let job = lane(&quote.body, &start.hold);
    refuse_settled(tables, &job)?;
    if tables.get(Table::Jobs, &job)?.is_some() {
        return Err(WalletError::OtherReceipt("job under the same hold"));
    }
    if quote.body.window == 0 || quote.body.chunk_tokens == 0 {
        return Ok(());
    }
    let row = OpenJob {
        quote: quote.to_bytes(),
        start,
        counted: (0, 0),
        voucher: None,
        at: now,
    };
    Ok(tables.put_row(Table::Jobs, &job, &row)?)
}

/// A job is settled once, by receipt or by claim.
pub(crate) fn refuse_settled(tables: &impl ReadRows, job: &Lane) -> Result<(), WalletError> {
    if tables.entry(&sale_id(job))?.is_some() {
        return Err(WalletError::OtherReceipt(
            "job: that of this hold was settled before",
        ));
    }
    Ok(())
}

/// The id of the transfer that settles a job at its provider.
pub(crate) fn sale_id(job: &Lane) -> TransferId {
    transfer::id("sale", &[job])
}

/// The job is settled.
pub(crate) fn settled(tables: &mut impl Tables, job: &Lane) -> Result<(), StoreError> {
    if tables.get(Table::Jobs, job)?.is_some() {
        tables.remove(Table::Jobs, job)?;
    }
    Ok(())
}

const fn damaged() -> StoreError {
    StoreError::Row { table: Table::Jobs }
}
