//! Statements: what moved on one account, with the balance after each movement, page by page; or signed, as a
//! file that others can check.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::statement::{self, LINES_MAX};
use tirami_manifest::statement_file::StatementFile;
use tirami_manifest::{AgentId, Amount, ReceiptId, Timestamp};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::statement::{Line, Movements};

use super::books::{CHUNK, Names, in_order, receipt_of};
use super::budget::whom;
use super::{Caller, Operation, TextSink};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// What moved on an agent's account between two moments, oldest first, with the balance after each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Whose account, by name; the caller's when absent.
    #[serde(default)]
    pub agent: Option<String>,
    /// From this moment on, in milliseconds since 1970; from the beginning when absent.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Before this moment, in milliseconds since 1970; up to now when absent.
    #[serde(default)]
    pub to: Option<Timestamp>,
    /// For the next page: `next` of the page before.
    #[serde(default)]
    pub page: Option<StatementPage>,
}

/// Where a statement goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementPage {
    /// The number of the last transfer that was looked at.
    pub after: u64,
    /// The number of the last transfer that the statement covers.
    pub through: u64,
    /// The balance then.
    pub trm_opening: Amount,
}

/// A page of a statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementOutput {
    /// Whose account.
    pub agent: String,
    /// The balance before the first line, what was set aside included.
    pub trm_opening: Amount,
    /// What moved, oldest first; what was only set aside moved nothing.
    pub lines: Vec<StatementLine>,
    /// The balance after the last line.
    pub trm_closing: Amount,
    /// Ask again with this as `page` for what follows; absent on the last page.
    pub next: Option<StatementPage>,
}

/// One movement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatementLine {
    /// The transfer's number.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Why.
    pub reason: String,
    /// The agent that spends.
    pub agent: Option<String>,
    /// The other account.
    pub other: String,
    /// What came in.
    pub trm_in: Amount,
    /// What went out.
    pub trm_out: Amount,
    /// The balance after it.
    pub trm_balance: Amount,
    /// The receipt it follows from.
    pub receipt: Option<ReceiptId>,
}

/// What moved on an agent's account between two moments, signed by the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProveStatement {
    /// Whose account, by name; the caller's when absent.
    #[serde(default)]
    pub agent: Option<String>,
    /// From this moment on, in milliseconds since 1970; from the beginning when absent.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Before this moment, in milliseconds since 1970; up to now when absent or later.
    #[serde(default)]
    pub to: Option<Timestamp>,
}

impl Operation for Statement {
    const NAME: &'static str = "statement";
    type Output = StatementOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<StatementOutput, Failure> {
        in_order(("from", self.from), ("to", self.to))?;
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        let names = Names::load(runtime)?;
        has_account(runtime, &names, &agent)?;
        let account = Account::Agent(agent);
        let page = match self.page.clone() {
            Some(page) => page,
            None => self.first(runtime, &account)?,
        };
        let mut balance = page.trm_opening;
        let (mut lines, mut after) = (Vec::new(), page.after);
        for line in runtime.inner.wallet.history_after(after, CHUNK)? {
            if line.entry.seq > page.through {
                after = page.through;
                break;
            }
            after = line.entry.seq;
            let (trm_in, trm_out) = line.moved_for(&account);
            if trm_in.is_zero() && trm_out.is_zero() {
                continue;
            }
            balance = moved(balance, trm_in, trm_out)?;
            lines.push(StatementLine {
                seq: line.entry.seq,
                at: line.entry.at.to_rfc3339(),
                reason: line.entry.transfer.code.name().to_owned(),
                agent: line.spender.as_ref().map(|id| names.agent(id)),
                other: names.account(other(&line, &account)),
                trm_in,
                trm_out,
                trm_balance: balance,
                receipt: receipt_of(&line),
            });
        }
        Ok(StatementOutput {
            agent: names.agent(&agent),
            trm_opening: page.trm_opening,
            lines,
            trm_closing: balance,
            next: (after < page.through).then_some(StatementPage {
                after,
                through: page.through,
                trm_opening: balance,
            }),
        })
    }
}

impl Operation for ProveStatement {
    const NAME: &'static str = "prove_statement";
    type Output = StatementFile;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<StatementFile, Failure> {
        in_order(("from", self.from), ("to", self.to))?;
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        let names = Names::load(runtime)?;
        has_account(runtime, &names, &agent)?;
        let from = self.from.unwrap_or(Timestamp::EPOCH);
        let to = self.to.unwrap_or(Timestamp::from_ms(u64::MAX));
        let wallet = runtime.inner.wallet.clone();
        let now = wallet.moment().await?;
        // Reading a long history takes long.
        let found = tokio::task::spawn_blocking(move || {
            wallet.movements(&Account::Agent(agent), (from, to, now), LINES_MAX)
        });
        let found = found
            .await
            .map_err(|error| Failure::new(FailureCode::Internal, error.to_string()))??
            .ok_or_else(too_many)?;
        if found.from > found.to {
            let text = format!("from is {}, which has not come yet", from.to_rfc3339());
            let failure = Failure::new(FailureCode::InvalidInput, text);
            return Err(failure.hint("give from as a moment that is past"));
        }
        let lines = in_words(&names, &Account::Agent(agent), &found);
        let wallet = &runtime.inner.wallet;
        let signed = wallet.sign_statement(names.agent(&agent), &found, &lines);
        StatementFile::new(&found.genesis, &lines, &signed).map_err(|error| {
            let text = format!("the history makes no statement: {error}");
            Failure::new(FailureCode::Store, text).hint("run 'tirami-agent wallet audit'")
        })
    }
}

fn too_many() -> Failure {
    let text = format!(
        "more than {LINES_MAX} movements are in this period, which is the most that one statement proves"
    );
    Failure::new(FailureCode::InvalidInput, text).hint(
        "ask for a narrower period by from and to; one statement closes with what the next opens with",
    )
}

/// The lines of a statement, with the names that people gave.
fn in_words(names: &Names, account: &Account, found: &Movements) -> Vec<statement::StatementLine> {
    let line = |(line, balance): &(Line, Amount)| {
        let (came_in, went_out) = line.moved_for(account);
        let other = other(line, account);
        statement::StatementLine {
            seq: line.entry.seq,
            at: line.entry.at,
            reason: line.entry.transfer.code.name().to_owned(),
            other: names.account(other),
            agent: line.spender.as_ref().map(|id| names.agent(id)),
            came_in,
            went_out,
            balance: *balance,
            receipt: receipt_of(line),
        }
    };
    found.lines.iter().map(line).collect()
}

/// The other account of a line.
fn other<'a>(line: &'a Line, account: &Account) -> &'a Account {
    if line.debit == *account {
        &line.credit
    } else {
        &line.debit
    }
}

impl Statement {
    /// Where the first page begins and the last one ends, and the balance at the beginning.
    fn first(&self, runtime: &Runtime, account: &Account) -> Result<StatementPage, Failure> {
        let wallet = &runtime.inner.wallet;
        let end = Timestamp::from_ms(u64::MAX);
        let through = wallet.transfers_before(self.to.unwrap_or(end))?;
        let first = wallet.transfers_before(self.from.unwrap_or(Timestamp::EPOCH))?;
        let (mut balance, mut after) = (Amount::ZERO, 0);
        while after < first {
            for line in wallet.history_after(after, CHUNK)? {
                if line.entry.seq > first {
                    break;
                }
                after = line.entry.seq;
                let (trm_in, trm_out) = line.moved_for(account);
                balance = moved(balance, trm_in, trm_out)?;
            }
        }
        Ok(StatementPage {
            after: first,
            through: through.max(first),
            trm_opening: balance,
        })
    }
}

fn moved(balance: Amount, trm_in: Amount, trm_out: Amount) -> Result<Amount, Failure> {
    let after = balance
        .checked_add(trm_in)
        .and_then(|sum| sum.checked_sub(trm_out));
    after.ok_or_else(|| {
        Failure::new(
            FailureCode::Store,
            "the history does not add up to a balance",
        )
        .hint("run 'tirami-agent wallet audit'")
    })
}

/// An agent that pays out of another's account has none of its own.
fn has_account(runtime: &Runtime, names: &Names, agent: &AgentId) -> Result<(), Failure> {
    let mandates = runtime.inner.wallet.mandates()?;
    let row = mandates.into_iter().find(|(id, _)| id == agent);
    match row {
        Some((_, row)) if row.payer != *agent => {
            let (name, payer) = (names.agent(agent), names.agent(&row.payer));
            let text = format!("agent {name} has no account: it pays out of that of agent {payer}");
            Err(Failure::new(FailureCode::InvalidInput, text).hint(format!(
                "'tirami-agent wallet history --agent {name}' lists what it spent"
            )))
        }
        _ => Ok(()),
    }
}
