//! Operations on money: they read the wallet, or make it stricter.

use std::time::Duration;

use tirami_manifest::id::hex_bytes;
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::receipt_file::ReceiptFile;
use tirami_manifest::signed::Signed;
use tirami_manifest::{AgentId, Amount};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::statement::Side;
use tirami_wallet::store::Integrity;

use super::archive::absolute;
use super::loans::loan_output;
use super::{
    AccountOutput, Audit, AuditOutput, Balance, BalanceOutput, Budget, BudgetOutput, Caller,
    CheckOutput, Freeze, FreezeOutput, GetReceipt, MemberOutput, Obey, Operation, ReceiptOutput,
    SetOwner, TextSink, tokens,
};
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// How long an audit waits until all of the file was read; chosen, for a file of gigabytes.
const READ_WITHIN: Duration = Duration::from_mins(1);

/// Longest reason for a freeze, in characters.
const REASON_MAX: usize = 200;

impl Operation for Balance {
    const NAME: &'static str = "balance";
    type Output = BalanceOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<BalanceOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let balance = wallet.balance(&caller.agent)?;
        let wide = |utrm: u128| Amount::try_from(utrm).unwrap_or(Amount::MAX);
        let authority = runtime.genesis().authority() == Some(runtime.node());
        let members = if authority && caller.is_main() {
            wallet.members()?
        } else {
            Vec::new()
        };
        let owed = balance.loans.iter().fold(Amount::ZERO, |sum, loan| {
            sum.checked_add(loan.owed).unwrap_or(Amount::MAX)
        });
        let waiting = wallet.waiting()?;
        let waiting = waiting.iter().fold(Amount::ZERO, |sum, (_, row)| {
            sum.checked_add(row.amount).unwrap_or(Amount::MAX)
        });
        let now = wallet.now()?;
        Ok(BalanceOutput {
            agent: agent_name(runtime, &caller.agent)?,
            trm_balance: balance.available,
            trm_held: balance.held,
            trm_spent: wide(balance.spent),
            trm_earned: wide(balance.earned),
            trm_waiting: waiting,
            trm_unclaimed: wallet.unclaimed()?,
            trm_owed: owed,
            loans: balance
                .loans
                .iter()
                .map(|loan| loan_output(now, loan))
                .collect(),
            members: members
                .into_iter()
                .map(|(node, totals)| MemberOutput {
                    node,
                    trm_balance: totals.posted(),
                    trm_held: totals.pending(),
                })
                .collect(),
            frozen: wallet.frozen()?.map(|freeze| freeze.reason),
        })
    }
}

pub(super) fn agent_name(runtime: &Runtime, id: &AgentId) -> Result<String, Failure> {
    let agents = runtime.inner.wallet.agents()?;
    Ok(agents
        .into_iter()
        .find(|agent| agent.id == *id)
        .map_or_else(|| id.short(), |a| a.name))
}

impl Operation for GetReceipt {
    const NAME: &'static str = "receipt";
    type Output = ReceiptOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ReceiptOutput, Failure> {
        let row = runtime
            .inner
            .wallet
            .receipt(&self.receipt)?
            .filter(|row| match row.side {
                Side::Bought { agent }
                | Side::BoughtUnder { agent, .. }
                | Side::Drawn { agent, .. } => agent == caller.agent || caller.is_main(),
                Side::Sold => true,
            });
        let row = row.ok_or_else(|| {
            let text = format!("there is no receipt {} here", self.receipt);
            Failure::new(FailureCode::NotFound, text)
                .hint("receipt ids come with chat answers and history")
                .next_tool("history")
        })?;
        let receipt = row.receipt().map_err(tirami_wallet::WalletError::from)?;
        Ok(ReceiptFile::new(&receipt))
    }
}

impl Operation for Freeze {
    const NAME: &'static str = "freeze";
    type Output = FreezeOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<FreezeOutput, Failure> {
        let reason = self.reason.unwrap_or_else(|| "no reason given".to_owned());
        let length = reason.chars().count();
        if length == 0 || length > REASON_MAX {
            let text = format!("reason has {length} characters; it must have 1 to {REASON_MAX}");
            return Err(Failure::new(FailureCode::InvalidInput, text));
        }
        // Running purchases stop at once; the disk comes after.
        runtime.inner.frozen.send_replace(true);
        let freeze = runtime.inner.wallet.freeze(reason).await;
        runtime.publish_freeze();
        let (freeze, last_entry) = freeze?;
        Ok(FreezeOutput {
            frozen: true,
            reason: freeze.reason,
            since: freeze.since.to_rfc3339(),
            last_entry,
            lifted_by: "the owner: 'tirami-agent unfreeze', with the owner's passphrase".to_owned(),
        })
    }
}

impl Operation for Obey {
    const NAME: &'static str = "obey";
    // The owner's signature is the authority.
    const NEEDS_TOKEN: bool = false;
    type Output = BudgetOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        text: Option<TextSink>,
    ) -> Result<BudgetOutput, Failure> {
        let invalid = |what: String| Failure::new(FailureCode::InvalidInput, what);
        let bytes =
            hex_bytes(&self.order).ok_or_else(|| invalid("the order is not hexadecimal".into()))?;
        let order = Signed::<OwnerOrder>::from_bytes(&bytes)
            .map_err(|e| invalid(format!("the order cannot be read: {e}")))?;
        if let Decision::RevokeToken { token_hash } = &order.body.decision
            && tokens::own(runtime)?.contains(token_hash)
        {
            let text = "this node's own commands and doors speak with that token";
            let hint = "make another with 'tirami-agent token create main', put it into agent.token of the data \
                        directory, start the node again, and take this one back then";
            return Err(invalid(text.to_owned()).hint(hint));
        }
        runtime.inner.wallet.obey(order).await?;
        runtime.publish_freeze();
        Budget::default().run(runtime, caller, text).await
    }
}

impl Operation for SetOwner {
    const NAME: &'static str = "set_owner";
    // The first to come owns the node, and only its user comes here.
    const NEEDS_TOKEN: bool = false;
    type Output = SetOwner;

    async fn run(self, runtime: &Runtime, _: Caller, _: Option<TextSink>) -> Result<Self, Failure> {
        runtime.inner.wallet.set_owner(self.owner).await?;
        Ok(self)
    }
}

impl Operation for Audit {
    const NAME: &'static str = "audit";
    type Output = AuditOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<AuditOutput, Failure> {
        caller.must_be_main()?;
        let wallet = &runtime.inner.wallet;
        // A long chain has many signatures, and a long journal is done again: nobody else waits for that.
        for file in &self.archives {
            absolute("archives", file)?;
        }
        let books = wallet.clone();
        let audit = move || books.audit_with(&self.archives);
        let audited = tokio::task::spawn_blocking(audit).await;
        let audited = audited.map_err(|error| {
            Failure::new(FailureCode::Internal, format!("the audit died: {error}"))
        })?;
        let mut checks: Vec<_> = audited?
            .into_iter()
            .map(|check| CheckOutput {
                rule: check.rule.to_owned(),
                holds: check.holds,
                detail: check.detail,
            })
            .collect();
        let read = tokio::time::timeout(READ_WITHIN, wallet.whole_integrity()).await;
        let (holds, detail) = match read.unwrap_or_else(|_| wallet.integrity())? {
            Integrity::Sound => (true, "all of it was read".to_owned()),
            Integrity::Checking => (true, "the rest is still being read".to_owned()),
            Integrity::Failed(why) => (false, why),
        };
        checks.push(CheckOutput {
            rule: "every page of the file is what was written".to_owned(),
            holds,
            detail,
        });
        let accounts = wallet.accounts()?;
        Ok(AuditOutput {
            holds: checks.iter().all(|check| check.holds),
            checks,
            accounts: accounts
                .into_iter()
                .map(|(account, totals)| AccountOutput {
                    account: full_name(&account),
                    credits_utrm: totals.credits_posted.to_string(),
                    debits_utrm: totals.debits_posted.to_string(),
                    trm_held: totals.pending(),
                })
                .collect(),
        })
    }
}

fn full_name(account: &Account) -> String {
    match account {
        Account::Agent(id) => format!("agent {id}"),
        Account::Clearing(id) => format!("clearing {id}"),
        Account::Uncertified(id) => format!("uncertified {id}"),
        other => other.to_string(),
    }
}
