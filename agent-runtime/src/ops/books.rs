//! Operations that read the books: accounts and history.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::Pot;
use tirami_manifest::{AgentId, Amount, ReceiptId, Timestamp};
use tirami_wallet::ledger::account::{Account, Totals};
use tirami_wallet::ledger::transfer::{Kind, TransferCode};
use tirami_wallet::statement::Line;

use super::budget::whom;
use super::page::page;
use super::{Caller, Operation, PotOutput, TextSink};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// Entries in a page of history.
const PAGE: u32 = 20;
/// Most entries in a page.
const PAGE_MAX: u32 = 100;
/// Transfers that are looked at in one go.
pub(super) const CHUNK: usize = 1_000;

/// Kinds of account that history can be asked for.
const KINDS: [&str; 8] = [
    "agent",
    "revenue",
    "position",
    "clearing",
    "outgoing",
    "issuer",
    "delegated",
    "uncertified",
];

/// Reasons that history can be asked for.
const REASONS: [TransferCode; 13] = [
    TransferCode::Budget,
    TransferCode::Purchase,
    TransferCode::Acknowledged,
    TransferCode::Reservation,
    TransferCode::Sale,
    TransferCode::Earnings,
    TransferCode::WelcomeLoan,
    TransferCode::Expiry,
    TransferCode::Allotment,
    TransferCode::Repayment,
    TransferCode::Delegation,
    TransferCode::Uncertified,
    TransferCode::Certified,
];

/// The newest transfers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Most entries to return, 1 to 100; 20 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only entries with a smaller number than this; from `next_before` of the page before.
    #[serde(default)]
    pub before: Option<u64>,
    /// Only what this agent, by name, spent or has in its account.
    #[serde(default)]
    pub agent: Option<String>,
    /// Only this reason, such as `purchase`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Only out of this kind of account, such as `agent`.
    #[serde(default)]
    pub from: Option<String>,
    /// Only into this kind of account, such as `outgoing`.
    #[serde(default)]
    pub to: Option<String>,
    /// Only from this moment on, in milliseconds since 1970.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Only before this moment, in milliseconds since 1970.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Only this much or more.
    #[serde(default)]
    pub min_trm: Option<Amount>,
    /// Only what follows from this receipt.
    #[serde(default)]
    pub receipt: Option<ReceiptId>,
}

/// A page of history, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryOutput {
    /// The entries.
    pub entries: Vec<HistoryEntry>,
    /// Ask again with this as `before` for the next page; absent on the last.
    pub next_before: Option<u64>,
}

/// One recorded transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// Its number.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What it does: `transfer`, `allot`, `post` and `draw` move the amount; `hold` sets it aside,
    /// `vouch` promises it, `void` and `expire` give back what was not promised.
    pub kind: String,
    /// Why: `budget`, `purchase`, `acknowledged`, `reservation`, `sale`, `earnings`,
    /// `welcome_loan`, `expiry`, `allotment`, `repayment` or `delegation`.
    pub reason: String,
    /// How much.
    pub trm_amount: Amount,
    /// The account it leaves.
    pub from: String,
    /// The account it enters.
    pub to: String,
    /// The agent that spends, who may not be the one that pays.
    pub agent: Option<String>,
    /// The receipt it follows from.
    pub receipt: Option<ReceiptId>,
}

super::empty_input!(
    /// Every account with its balance; an agent sees its own and those of agents below it.
    Accounts
);

/// Every account with its balance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountsOutput {
    /// By kind, agents first.
    pub accounts: Vec<AccountBalance>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountBalance {
    /// Which, an agent by its name and a peer by its id.
    pub account: String,
    /// The agent's id.
    pub agent_id: Option<AgentId>,
    /// Moved in less moved out, what is set aside included; below zero for accounts that give.
    pub trm_balance: String,
    /// Set aside to move out.
    pub trm_held: Amount,
    /// Moved in, in all.
    pub trm_in: String,
    /// Moved out, in all.
    pub trm_out: String,
    /// Where an agent's money came from, and how much of each is available.
    pub pots: Vec<PotOutput>,
}

/// Refuses a time that ends before it begins.
pub(super) fn in_order(
    (begin, from): (&str, Option<Timestamp>),
    (end, to): (&str, Option<Timestamp>),
) -> Result<(), Failure> {
    match (from, to) {
        (Some(from), Some(to)) if from > to => {
            let (from, to) = (from.to_rfc3339(), to.to_rfc3339());
            let text = format!("{begin} is {from}, after {end}, which is {to}");
            Err(Failure::new(FailureCode::InvalidInput, text))
        }
        _ => Ok(()),
    }
}

/// Agents' names, looked up once.
pub(super) struct Names(BTreeMap<AgentId, String>);

impl Names {
    pub(super) fn load(runtime: &Runtime) -> Result<Self, Failure> {
        let agents = runtime.inner.wallet.agents()?;
        Ok(Self(
            agents
                .into_iter()
                .map(|agent| (agent.id, agent.name))
                .collect(),
        ))
    }

    pub(super) fn agent(&self, id: &AgentId) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    pub(super) fn account(&self, account: &Account) -> String {
        match account {
            Account::Agent(id) => format!("agent {}", self.agent(id)),
            Account::Clearing(id) => format!("clearing {id}"),
            Account::Uncertified(id) => format!("uncertified {id}"),
            other => other.to_string(),
        }
    }
}

/// What a caller may see: everything for the main agent, else what it and agents below it did.
struct Sight {
    caller: Caller,
    below: Vec<AgentId>,
}

impl Sight {
    fn of(runtime: &Runtime, caller: Caller) -> Result<Self, Failure> {
        let wallet = &runtime.inner.wallet;
        let mut below = vec![caller.agent];
        if !caller.is_main() {
            for (agent, _) in wallet.mandates()? {
                if agent != caller.agent && wallet.is_above(&caller.agent, &agent)? {
                    below.push(agent);
                }
            }
        }
        Ok(Self { caller, below })
    }

    fn sees(&self, account: &Account) -> bool {
        self.caller.is_main()
            || matches!(account, Account::Agent(agent) if self.below.contains(agent))
    }

    fn sees_line(&self, line: &Line) -> bool {
        let spends = || {
            line.spender
                .is_some_and(|spender| self.below.contains(&spender))
        };
        self.sees(&line.debit) || self.sees(&line.credit) || spends()
    }
}

impl History {
    /// Refuses words that no transfer has.
    fn check(&self) -> Result<(), Failure> {
        let known = |field: &str, word: Option<&String>, words: &[&str]| match word {
            Some(word) if !words.contains(&word.as_str()) => {
                let text = format!(
                    "{field} is '{word}'; it must be one of {}",
                    words.join(", ")
                );
                Err(Failure::new(FailureCode::InvalidInput, text))
            }
            _ => Ok(()),
        };
        let reasons = REASONS.map(TransferCode::name);
        known("reason", self.reason.as_ref(), &reasons)?;
        known("from", self.from.as_ref(), &KINDS)?;
        known("to", self.to.as_ref(), &KINDS)
    }

    fn wants(&self, line: &Line, agent: Option<&AgentId>) -> bool {
        let is_kind = |kind: &Option<String>, account: &Account| {
            kind.as_deref()
                .is_none_or(|kind| account.to_string().split(' ').next() == Some(kind))
        };
        let of_agent = |agent: &AgentId| {
            let account = Account::Agent(*agent);
            line.debit == account || line.credit == account || line.spender == Some(*agent)
        };
        let transfer = &line.entry.transfer;
        agent.is_none_or(of_agent)
            && self
                .reason
                .as_deref()
                .is_none_or(|reason| transfer.code.name() == reason)
            && is_kind(&self.from, &line.debit)
            && is_kind(&self.to, &line.credit)
            && self.until.is_none_or(|until| line.entry.at < until)
            && self.min_trm.is_none_or(|least| line.amount >= least)
            && self
                .receipt
                .is_none_or(|receipt| receipt_of(line) == Some(receipt))
    }
}

impl Operation for History {
    const NAME: &'static str = "history";
    type Output = HistoryOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<HistoryOutput, Failure> {
        let count = page(self.limit, (PAGE, PAGE_MAX))?;
        self.check()?;
        in_order(("since", self.since), ("until", self.until))?;
        let agent = match &self.agent {
            Some(name) => Some(whom(runtime, caller, Some(name))?),
            None => None,
        };
        let (names, sight) = (Names::load(runtime)?, Sight::of(runtime, caller)?);
        let (mut entries, mut before, mut more) = (Vec::new(), self.before, true);
        while more && entries.len() < count {
            let lines = runtime.inner.wallet.history(before, CHUNK)?;
            more = lines.len() == CHUNK;
            for line in lines {
                if self.since.is_some_and(|since| line.entry.at < since) {
                    more = false;
                    break;
                }
                before = Some(line.entry.seq);
                if sight.sees_line(&line) && self.wants(&line, agent.as_ref()) {
                    entries.push(entry(&names, &line));
                }
                if entries.len() == count {
                    break;
                }
            }
        }
        let next = entries.last().map(|last: &HistoryEntry| last.seq);
        let next = next.filter(|seq| entries.len() == count && *seq > 1);
        Ok(HistoryOutput {
            entries,
            next_before: next,
        })
    }
}

fn entry(names: &Names, line: &Line) -> HistoryEntry {
    let transfer = &line.entry.transfer;
    let kind = match transfer.kind {
        Kind::Single { .. } => "transfer",
        Kind::Hold { .. } => "hold",
        Kind::Post { .. } => "post",
        Kind::Void { .. } => "void",
        Kind::Expire { .. } => "expire",
        Kind::Vouch { .. } => "vouch",
        Kind::Draw { .. } => "draw",
        Kind::Allot { .. } => "allot",
    };
    HistoryEntry {
        seq: line.entry.seq,
        at: line.entry.at.to_rfc3339(),
        kind: kind.to_owned(),
        reason: transfer.code.name().to_owned(),
        trm_amount: line.amount,
        from: names.account(&line.debit),
        to: names.account(&line.credit),
        agent: line.spender.as_ref().map(|id| names.agent(id)),
        receipt: receipt_of(line),
    }
}

pub(super) fn receipt_of(line: &Line) -> Option<ReceiptId> {
    let transfer = &line.entry.transfer;
    let follows = matches!(
        (transfer.code, transfer.kind),
        (
            TransferCode::Purchase
                | TransferCode::Acknowledged
                | TransferCode::Sale
                | TransferCode::Earnings,
            _
        ) | (TransferCode::Budget, Kind::Post { .. })
    );
    // A repayment is acknowledged too: by the id of its invitation, half as long, with zeros behind it.
    let is_shorter = transfer.reference.ends_with(&[0; 16]);
    (follows && !is_shorter).then(|| ReceiptId::from_bytes(transfer.reference))
}

impl Operation for Accounts {
    const NAME: &'static str = "accounts";
    type Output = AccountsOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<AccountsOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let (names, sight) = (Names::load(runtime)?, Sight::of(runtime, caller)?);
        let mut accounts = Vec::new();
        for (account, totals) in wallet.accounts()? {
            if !sight.sees(&account) {
                continue;
            }
            let agent_id = match account {
                Account::Agent(id) => Some(id),
                _ => None,
            };
            let pots = match &agent_id {
                Some(id) => pots(wallet.pots(id)?),
                None => Vec::new(),
            };
            accounts.push(AccountBalance {
                account: names.account(&account),
                agent_id,
                trm_balance: signed(&totals),
                trm_held: totals.pending(),
                trm_in: decimal(totals.credits_posted),
                trm_out: decimal(totals.debits_posted),
                pots,
            });
        }
        Ok(AccountsOutput { accounts })
    }
}

/// What is in each pot, as every door tells it.
pub(super) fn pots(pots: [(Pot, Amount); 4]) -> Vec<PotOutput> {
    pots.into_iter()
        .map(|(pot, trm_available)| PotOutput { pot, trm_available })
        .collect()
}

/// The balance with its sign, in TRM.
fn signed(totals: &Totals) -> String {
    match totals.credits_posted.checked_sub(totals.debits_posted) {
        Some(plus) => decimal(plus),
        None => format!(
            "-{}",
            decimal(totals.debits_posted.saturating_sub(totals.credits_posted))
        ),
    }
}

/// A total in TRM, which may be above what one amount can be.
fn decimal(utrm: u128) -> String {
    let (whole, rest) = (utrm / 1_000_000, utrm % 1_000_000);
    let fraction = format!("{rest:06}");
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_written_in_trm_with_its_sign() {
        for (credits, debits, text) in [
            (0, 0, "0"),
            (1, 0, "0.000001"),
            (0, 1_500_000, "-1.5"),
            (u128::from(u64::MAX) * 1_000_000, 0, "18446744073709551615"),
        ] {
            let totals = Totals {
                credits_posted: credits,
                debits_posted: debits,
                ..Totals::default()
            };
            assert_eq!(signed(&totals), text);
        }
    }
}
