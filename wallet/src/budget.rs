//! What is left of a mandate, why a spend would pass or not, and the kill switch.

use tirami_manifest::mandate::{Pot, Terms};
use tirami_manifest::{AgentId, Amount, Timestamp, TransferId};

use crate::error::WalletError;
use crate::hold::{Work, request_of};
use crate::ledger::account::Account;
use crate::ledger::alert::Alert;
use crate::ledger::apply::apply;
use crate::ledger::gate::{self, Freeze};
use crate::ledger::mandate::{Link, chain};
use crate::ledger::refusal::{ApplyError, Refusal};
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::ledger::rule::{Finding, Measure, Rule};
use crate::ledger::tables::{Aside, Order, Overlay, ReadTables, Table, decode};
use crate::ledger::transfer::{Kind, Spend, Transfer, TransferCode};
use crate::wallet::Wallet;

/// What an agent may still spend.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its mandate and those above it, its own first.
    pub chain: Vec<Link>,
    /// The most that one request for inference could hold now, with whomever: by limits, pots and
    /// balance. Zero while something stops every request.
    pub left: Amount,
    /// Which rule says so.
    pub by: Rule,
    /// The same for a request that the owner approves.
    pub approved: (Rule, Amount),
    /// What is in each pot of the account that pays.
    pub pots: [(Pot, Amount); 4],
    /// The kill switch, while it is on.
    pub freeze: Option<Freeze>,
    /// The time these figures are of.
    pub now: Timestamp,
}

impl Budget {
    /// What the agent's own mandate says.
    pub fn terms(&self) -> Option<&Terms> {
        self.chain.first().map(|own| &own.row.terms)
    }
}

/// What would become of a spend.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Every rule of every mandate, in the order in which refusals are given.
    pub findings: Vec<Finding>,
    /// What the ledger answered to the spend itself, which was then given up.
    pub refusal: Option<Refusal>,
}

impl Wallet {
    /// What the agent may still spend.
    ///
    /// # Errors
    ///
    /// A refusal when the agent has no mandate, or a store failure.
    pub fn budget(&self, agent: &AgentId) -> Result<Budget, WalletError> {
        let (view, now) = self.view_now()?;
        let chain = chain(&view, agent)?;
        let payer = chain.first().map_or(*agent, |own| own.row.payer);
        let work = Work {
            action: tirami_manifest::mandate::Action::Chat,
            payee: None,
            model: None,
            price: None,
        };
        let least = Amount::from_utrm(1).unwrap_or(Amount::MAX);
        let findings = gate::explain(&view, &payer, &work.by(*agent), least, now)?;
        let (by, left) = most(findings.iter());
        let approved = most(findings.iter().filter(|one| one.rule != Rule::Approval));
        let pots = view.pots(&payer)?;
        Ok(Budget {
            chain,
            left,
            by,
            approved,
            pots: Pot::ALL.map(|pot| (pot, pots.get(pot))),
            freeze: view.freeze()?,
            now,
        })
    }

    /// Asks the gate without spending, as for work that costs nothing but must still be allowed.
    ///
    /// # Errors
    ///
    /// What the gate refuses.
    pub fn admits(&self, agent: &AgentId, work: Work, amount: Amount) -> Result<(), WalletError> {
        let (view, now) = self.view_now()?;
        let payer = view.mandate(agent)?.map_or(*agent, |row| row.payer);
        Ok(gate::check(&view, &payer, &work.by(*agent), amount, now)?)
    }

    /// Does a spend on paper: the same code as a real hold, in a transaction that is given up, and
    /// what every rule says of it. `body` is what the intent's key would stand for, as in
    /// [`Wallet::begin`]; without it nobody can say whether the request is repeated.
    ///
    /// # Errors
    ///
    /// A refusal when the agent has no mandate, or a store failure.
    pub fn explain(
        &self,
        agent: &AgentId,
        work: Work,
        amount: Amount,
        body: Option<&[u8; 32]>,
    ) -> Result<Explanation, WalletError> {
        let (view, now) = self.view_now()?;
        let payer = view.mandate(agent)?.map_or(*agent, |row| row.payer);
        let spend = Spend {
            request: body.map_or(0, request_of),
            ..work.by(*agent)
        };
        let findings = gate::explain(&view, &payer, &spend, amount, now)?;
        let transfer = Transfer {
            // No real transfer has it: ids are hashes.
            id: TransferId::from_bytes([0; 16]),
            kind: Kind::Hold {
                debit: Account::Agent(payer),
                credit: Account::Outgoing,
                amount,
                timeout_ms: self.inner.hold_timeout_ms,
                spend: Some(spend),
            },
            code: TransferCode::Budget,
            reference: [0; 32],
        };
        let mut beneath = Aside(&view);
        let refusal = match apply(&mut Overlay::new(&mut beneath), &transfer, now) {
            Ok(_) => None,
            Err(ApplyError::Refused(refusal)) => Some(refusal),
            Err(ApplyError::Store(error)) => return Err(error.into()),
        };
        Ok(Explanation { findings, refusal })
    }

    /// Limits that were used up to a share worth telling, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn alerts(&self, limit: usize) -> Result<Vec<Alert>, WalletError> {
        self.view()?
            .scan(Table::Alerts, &[], None, Order::Descending, limit)?
            .iter()
            .map(|(_, bytes)| Ok(decode(Table::Alerts, bytes)?))
            .collect()
    }

    /// Turns the kill switch on; anyone may. The first reason stays. Answers the number of the newest
    /// transfer as well: while the switch is on, none after it holds or pays, but for what was vouched
    /// for.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn freeze(&self, reason: String) -> Result<(Freeze, u64), WalletError> {
        self.write_first(move |tables, now: Timestamp| {
            let last = tables.last_seq()?;
            if let Some(present) = tables.freeze()? {
                return Ok((present, last));
            }
            let freeze = Freeze { reason, since: now };
            tables.set_freeze(Some(&freeze))?;
            Ok((freeze, last))
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

/// The most that every limit, pot and the balance let through, and which of them says so.
fn most<'a>(findings: impl Iterator<Item = &'a Finding> + Clone) -> (Rule, Amount) {
    let stopped = |finding: &&Finding| {
        // Without a payee and a model these say nothing.
        let depends = matches!(
            finding.rule,
            Rule::Payee | Rule::Model | Rule::PriceCeiling | Rule::PayeeDay
        );
        !finding.passes && !depends && !matches!(finding.measure, Measure::Amounts { .. })
    };
    if let Some(finding) = findings.clone().find(stopped) {
        return (finding.rule, Amount::ZERO);
    }
    let left = |finding: &Finding| match (finding.rule, finding.measure) {
        (Rule::PriceCeiling | Rule::PayeeDay, _) => None,
        (rule, Measure::Amounts { used, limit, .. }) => Some((rule, limit?.saturating_sub(used))),
        _ => None,
    };
    findings
        .filter_map(left)
        .min_by_key(|(_, left)| *left)
        .unwrap_or((Rule::Funds, Amount::ZERO))
}
