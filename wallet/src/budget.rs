//! What is left of a mandate, the kill switch, and tightening without the owner.

use serde::Serialize;
use tirami_manifest::mandate::Limits;
use tirami_manifest::{AgentId, Amount, Timestamp};

use crate::error::WalletError;
use crate::ledger::gate::{self, Freeze};
use crate::ledger::refusal::{Limit, Refusal};
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::wallet::Wallet;

/// What an agent may still spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Its limits.
    pub limits: Limits,
    /// Spent and set aside in the last 60 minutes.
    pub used_hour: Amount,
    /// Spent and set aside in all.
    pub used_lifetime: Amount,
    /// The most that one request could hold now by the limits alone.
    pub left: Amount,
    /// The kill switch, while it is on.
    pub freeze: Option<Freeze>,
}

impl Wallet {
    /// What the agent may still spend.
    ///
    /// # Errors
    ///
    /// A refusal when the agent has no mandate, or a store failure.
    pub fn budget(&self, agent: &AgentId) -> Result<Budget, WalletError> {
        let view = self.view()?;
        let row = view
            .mandate(agent)?
            .ok_or(Refusal::NoMandate { agent: *agent })?;
        let now = self.now();
        let left = row
            .left(now)
            .iter()
            .map(|(_, _, left)| *left)
            .min()
            .unwrap_or(Amount::ZERO);
        Ok(Budget {
            limits: row.limits,
            used_hour: row.used_in_hour(now),
            used_lifetime: row.used_in_all(),
            left,
            freeze: view.freeze()?,
        })
    }

    /// Asks the gate without spending, as for work that costs nothing but must still be allowed.
    ///
    /// # Errors
    ///
    /// What the gate refuses.
    pub fn admits(&self, agent: &AgentId, amount: Amount) -> Result<(), WalletError> {
        gate::check(&self.view()?, agent, amount, self.now())?;
        Ok(())
    }

    /// Replaces limits by tighter ones; anyone may.
    ///
    /// # Errors
    ///
    /// [`WalletError::Loosens`] when one of them would rise: that needs an owner's order.
    pub async fn tighten(&self, agent: AgentId, limits: Limits) -> Result<(), WalletError> {
        self.write(move |tables, _| {
            let mut row = tables
                .mandate(&agent)?
                .ok_or(Refusal::NoMandate { agent })?;
            let (have, want) = (row.limits, limits);
            for (limit, from, to) in [
                (
                    Limit::PerRequest,
                    have.per_request_trm,
                    want.per_request_trm,
                ),
                (Limit::Hour, have.hour_trm, want.hour_trm),
                (Limit::Lifetime, have.lifetime_trm, want.lifetime_trm),
            ] {
                if to > from {
                    return Err(WalletError::Loosens {
                        limit: limit.name(),
                        from,
                        to,
                    });
                }
            }
            row.limits = want;
            Ok(tables.set_mandate(&agent, &row)?)
        })
        .await
    }

    /// Turns the kill switch on; anyone may. The first reason stays.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn freeze(&self, reason: String) -> Result<Freeze, WalletError> {
        self.write(move |tables, now: Timestamp| {
            if let Some(present) = tables.freeze()? {
                return Ok(present);
            }
            let freeze = Freeze { reason, since: now };
            tables.set_freeze(Some(&freeze))?;
            Ok(freeze)
        })
        .await
    }

    /// The kill switch, while it is on.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn frozen(&self) -> Result<Option<Freeze>, WalletError> {
        Ok(self.view()?.freeze()?)
    }
}
