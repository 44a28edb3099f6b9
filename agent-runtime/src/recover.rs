//! At start: ends what a crash left open. When unsure, waits.
//!
//! A purchase that was signed was posted in the same transaction, so a purchase whose hold is still
//! open was not signed, and nothing is owed on it. A reservation may belong to a receipt that the
//! consumer signed and will send again, so it is left to its time.

use std::time::Duration;

use crate::failure::Failure;
use crate::runtime::Runtime;

/// How often holds are looked through in quiet times; chosen: fine enough that a hold never
/// outlives its time by much.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Every how many of these rounds rows that are over for good are looked for; chosen: a million of them
/// are gone in half a day.
const FORGET_EVERY: u32 = 10;

pub(crate) async fn recover(runtime: &Runtime) -> Result<(), Failure> {
    let wallet = &runtime.inner.wallet;
    let given_back = wallet.void_open_purchases().await?;
    let expired = wallet.sweep().await?;
    if given_back > 0 || expired > 0 {
        tracing::info!(given_back, expired, "ended what the last run left open");
    }
    Ok(())
}

/// Counts what an earlier build earned.
pub(crate) async fn count_earnings(runtime: Runtime) {
    loop {
        match runtime.inner.wallet.count_earnings().await {
            Ok(false) => {}
            Ok(true) => break,
            Err(error) => {
                tracing::error!(%error, "what was earned before could not be counted");
                break;
            }
        }
    }
}

/// Expires holds in quiet times, forgets what is over for good, and pays back what can be paid of a loan
/// that is due.
pub(crate) async fn keep_swept(runtime: Runtime) {
    let mut ticks = tokio::time::interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in (0..FORGET_EVERY).cycle() {
        ticks.tick().await;
        let wallet = &runtime.inner.wallet;
        if tick == 0
            && let Err(error) = wallet.forget_over().await
        {
            tracing::error!(%error, "what is over for good could not be forgotten");
        }
        if tick == 0
            && let Err(error) = wallet.take_back_unclaimed().await
        {
            tracing::error!(%error, "what nobody claimed could not be taken back");
        }
        let due = match wallet.open_holds() {
            Ok(holds) => holds.iter().any(|(_, row)| row.expires <= runtime.now()),
            Err(error) => {
                tracing::error!(%error, "the open holds could not be read");
                continue;
            }
        };
        if due && let Err(error) = wallet.sweep().await {
            tracing::error!(%error, "holds that are due could not be expired");
        }
        match wallet.repay_due().await {
            Ok(paid) if paid.is_zero() => {}
            Ok(paid) => tracing::info!(%paid, "the loan is due: paid back what was there"),
            Err(error) => tracing::error!(%error, "a loan that is due could not be paid back"),
        }
    }
}
