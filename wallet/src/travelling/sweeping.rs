//! Forgetting: rows of which nothing can come any more.
//!
//! What protects money is not forgotten: the units that were used, and the receipts. What goes is what
//! tells a late answer from a wrong one, when it is too late for either.
//!
//! | row | goes when |
//! |---|---|
//! | reservation and nonce, at the tracker | its spend is over for [`RECEIPTS_WITHIN_MS`]; what nobody answered for comes free |
//! | drawing, at the provider | the same, and its receipt reached its payer or was refused for good; without a receipt it stays, because it says who pays for one that comes |
//! | units named in a spend, at the holder | the same |
//! | mandate held | it is over for as long |
//! | mandate handed out | it is over for as long, and every unit was drawn or came back; where it was handed on, what it comes from is over for as long |

use serde::de::DeserializeOwned;
use tirami_manifest::Timestamp;

use super::damaged;
use super::handing_out::{HandedOut, last};
use super::holding::HeldRow;
use super::tracking::Drawing;
use crate::error::WalletError;
use crate::ledger::ranges;
use crate::ledger::tables::{Order, Table, Tables, decode};
use crate::wallet::Wallet;

/// How long after a spend or a mandate is over a receipt for it is still booked: 30 days; chosen, longer
/// than a node is away.
pub const RECEIPTS_WITHIN_MS: u64 = 30 * 86_400_000;

/// Rows of each kind that one pass looks at; chosen: it does not keep the writer for long.
const LOOK_AT: usize = 256;

/// Up to where each kind was looked through; `None` is the beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    spends: Option<Vec<u8>>,
    names: Option<Vec<u8>>,
    drawings: Option<Vec<u8>>,
    held: Option<Vec<u8>>,
    handed_out: Option<Vec<u8>>,
}

impl Wallet {
    /// Forgets some of what is over for good: looks at a bounded number of rows, further on with each
    /// call, and from the beginning after the last. Answers how many are gone.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn forget_over(&self) -> Result<usize, WalletError> {
        let mut marks = self.marks().clone();
        let (gone, marks) = self
            .write(move |tables, now| {
                let gone = forget(tables, &mut marks, now)?;
                Ok((gone, marks))
            })
            .await?;
        *self.marks() = marks;
        Ok(gone)
    }
}

fn forget(
    tables: &mut impl Tables,
    marks: &mut Marks,
    now: Timestamp,
) -> Result<usize, WalletError> {
    let before = Timestamp::from_ms(now.ms().saturating_sub(RECEIPTS_WITHIN_MS));
    let spends = (marks.spends.as_deref(), LOOK_AT);
    let (reserved, mark) = ranges::forget_spends(tables, before, spends)?;
    marks.spends = mark;
    let spent = (marks.names.as_deref(), LOOK_AT);
    let (unnamed, mark) = ranges::forget_names(tables, before, spent)?;
    marks.names = mark;
    let drawn = each(
        tables,
        (Table::Drawings, &mut marks.drawings),
        |tables, quote, row: &Drawing| {
            let over = row.is_over(tables, quote, before)?;
            if over {
                tables.remove(Table::Drawn, quote)?;
            }
            Ok(over)
        },
    )?;
    let held = each(
        tables,
        (Table::Held, &mut marks.held),
        |_, _, row: &HeldRow| Ok(last(&row.chain()?)?.expires < before),
    )?;
    let out = each(
        tables,
        (Table::HandedOut, &mut marks.handed_out),
        |tables, _, row: &HandedOut| {
            let over = row.is_over(before)?;
            if over {
                ranges::forget_carving(tables, last(&row.chain()?)?)?;
            }
            Ok(over)
        },
    )?;
    Ok([reserved, unnamed, drawn, held, out].iter().sum())
}

/// Removes rows of one table that are over, of those after a mark, and moves the mark.
fn each<T: DeserializeOwned, S: Tables>(
    tables: &mut S,
    (table, mark): (Table, &mut Option<Vec<u8>>),
    is_over: impl Fn(&mut S, &[u8], &T) -> Result<bool, WalletError>,
) -> Result<usize, WalletError> {
    let seen = tables.scan(table, &[], mark.as_deref(), Order::Ascending, LOOK_AT)?;
    let mut count = 0_usize;
    for (key, bytes) in &seen {
        if is_over(tables, key, &decode(table, bytes)?)? {
            tables.remove(table, key)?;
            count = count.saturating_add(1);
        }
    }
    let full = seen.len() == LOOK_AT;
    *mark = seen
        .into_iter()
        .next_back()
        .filter(|_| full)
        .map(|(key, _)| key);
    Ok(count)
}

impl HandedOut {
    /// Whether nothing can come of it any more.
    fn is_over(&self, before: Timestamp) -> Result<bool, WalletError> {
        let chain = self.chain()?;
        if self.is_root() {
            return Ok(self.closed.is_some() && last(&chain)?.expires < before);
        }
        // What it comes from is not spent any more, so nobody needs its units back.
        let above = chain.links.len().checked_sub(2);
        let above = above.and_then(|place| chain.links.get(place));
        let above = above.ok_or(damaged(Table::HandedOut))?;
        Ok(above.body.expires < before)
    }
}
