//! Taking back: units that their tracker says were not used, and with the last of them the money.

use tirami_manifest::mandate_chain::{MandateChain, RangeReturn};
use tirami_manifest::range::Range;
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, GrantId, Timestamp};

use super::handing_out::{HandedOut, carving, last, row};
use super::tracking::give_units_back;
use crate::error::WalletError;
use crate::keys;
use crate::ledger::apply::apply;
use crate::ledger::ranges;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Table, Tables};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::wallet::Wallet;

/// Most parts in which units are asked back at once; what is left then is asked for another time.
pub const PARTS_MAX: usize = 1_000;

/// What is to be asked for next, when a request for `asked` was answered with `backs`: the units above
/// them. None when that was all.
pub fn rest(asked: Range, backs: &[Signed<RangeReturn>]) -> Option<Range> {
    let last = backs.iter().map(|back| back.body.range.hi()).max()?;
    let rest = Range::new(last, asked.hi()).ok()?;
    // Otherwise the tracker has answered for other units, and would be asked for ever.
    (last > asked.lo()).then_some(rest)
}

impl Wallet {
    /// Takes back what is left of a mandate that this node remembers the units of, in parts that do not
    /// keep others waiting. Answers how much came back.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`] for one that was not handed out here.
    pub async fn reclaim_here(&self, grant: GrantId) -> Result<Amount, WalletError> {
        let (mut came, mut part) = (Amount::ZERO, None);
        for _ in 0..PARTS_MAX {
            let (now, next) = self.reclaim_part(grant, part).await?;
            came = came.checked_add(now).unwrap_or(Amount::MAX);
            part = next;
            if part.is_none() {
                break;
            }
        }
        Ok(came)
    }

    async fn reclaim_part(
        &self,
        grant: GrantId,
        part: Option<Range>,
    ) -> Result<(Amount, Option<Range>), WalletError> {
        let key = self.inner.key.clone();
        self.write(move |tables, now| {
            let chain = row(tables, &grant)?.chain()?;
            let terms = last(&chain)?;
            let units = part.unwrap_or(terms.range);
            let asked = Signed::new(RangeReturn::of(terms, units), &key);
            let asked = (terms, &asked.body, &asked.signature);
            let backs = give_units_back(tables, &key, asked, now)?;
            let came = take_back(tables, (&grant, &backs), now)?;
            Ok((came, rest(units, &backs)))
        })
        .await
    }

    /// Takes back what is left of a mandate that is pinned to a provider whose key was changed since: it
    /// cannot be asked under the earlier key, and it changed that only once nothing was on its way under
    /// it. `None` where the pin stands.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`] for one that was not handed out here.
    pub async fn reclaim_unpinned(&self, grant: GrantId) -> Result<Option<Amount>, WalletError> {
        self.write(move |tables, now| {
            let row = row(tables, &grant)?;
            let chain = row.chain()?;
            let terms = last(&chain)?;
            let stands = match &terms.pinned {
                Some(pin) => !keys::succeeded(tables, pin)?,
                None => true,
            };
            if stands {
                return Ok(None);
            }
            let came = ranges::all_back(tables, terms)?;
            close(tables, (&grant, row), now)?;
            Ok(Some(came.total()))
        })
        .await
    }

    /// What to send to the tracker of a mandate that was handed out here, to take back what is left of
    /// it, or of some of its units: the chain, and the request signed by this node.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`].
    pub fn reclaim_request(
        &self,
        grant: &GrantId,
        part: Option<Range>,
    ) -> Result<(MandateChain, Signed<RangeReturn>), WalletError> {
        let chain = row(&self.view()?, grant)?.chain()?;
        let terms = last(&chain)?;
        let back = RangeReturn::of(terms, part.unwrap_or(terms.range));
        let back = Signed::new(back, &self.inner.key);
        Ok((chain, back))
    }

    /// Takes back units that their tracker says were not used. Answers how much came back now.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`], or [`WalletError::Units`] when the tracker did not sign.
    pub async fn took_back(
        &self,
        grant: GrantId,
        backs: Vec<Signed<RangeReturn>>,
    ) -> Result<Amount, WalletError> {
        self.write(move |tables, now| take_back(tables, (&grant, &backs), now))
            .await
    }
}

/// Takes units back on their tracker's word, and with the last of them the money.
fn take_back(
    tables: &mut impl Tables,
    (grant, backs): (&GrantId, &[Signed<RangeReturn>]),
    now: Timestamp,
) -> Result<Amount, WalletError> {
    let row = row(tables, grant)?;
    let chain = row.chain()?;
    let terms = last(&chain)?;
    for back in backs {
        let used = ranges::used(tables, &terms.root, back.body.range)?;
        if let (true, Some(units)) = (row.is_root(), used.ranges().first().copied()) {
            // Its receipt says otherwise.
            return Err(ranges::Refusal::Used { units }.into());
        }
    }
    let came = ranges::give_back(tables, terms, backs)?;
    close(tables, (grant, row), now)?;
    Ok(came.total())
}

/// Ends what was set aside for a mandate once each of its units is drawn or back.
pub(super) fn close(
    tables: &mut impl Tables,
    (grant, mut row): (&GrantId, HandedOut),
    now: Timestamp,
) -> Result<(), WalletError> {
    let chain = row.chain()?;
    let terms = last(&chain)?;
    let back = carving(tables, terms)?.back.total();
    let known = row.drawn.checked_add(back).unwrap_or(Amount::MAX);
    // Where it was handed on, what was spent of it is known to others only.
    if row.closed.is_none() && known >= terms.range.amount() {
        row.closed = Some(now);
        let open = match &row.hold {
            Some(hold) => tables.hold(hold)?.filter(|held| held.end.is_none()),
            None => None,
        };
        if let (Some(hold), Some(_)) = (row.hold, open) {
            let void = Transfer {
                id: transfer::id_after(&hold, "void", &[hold.as_bytes()]),
                kind: Kind::Void {
                    hold,
                    failed: false,
                },
                code: TransferCode::Delegation,
                reference: *grant.as_bytes(),
            };
            apply(tables, &void, now)?;
        }
    }
    Ok(tables.put_row(Table::HandedOut, grant.as_bytes(), &row)?)
}
