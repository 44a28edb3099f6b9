//! Operations on mandates: what is left, why, who may do what, and what waits for the owner.

use tirami_manifest::mandate::Action;
use tirami_manifest::owner::AGENT_NAME_MAX;
use tirami_manifest::{AgentId, Amount, ModelId, Multiplier, NodeId, Timestamp};
use tirami_wallet::WalletError;
use tirami_wallet::Work;
use tirami_wallet::ledger::approval::{Approval, Verdict};
use tirami_wallet::ledger::mandate::{Link, MandateRow};
use tirami_wallet::ledger::refusal::Refusal;
use tirami_wallet::ledger::rule::{Finding, Measure, Rule};

use super::books::pots;
use super::money::agent_name;
use super::page::page;
use super::{
    AlertOutput, Alerts, AlertsOutput, ApprovalOutput, Approvals, ApprovalsOutput, Budget,
    BudgetOutput, Caller, Deny, ExplainBudget, ExplainOutput, GrantMandate, MandateOutput,
    Mandates, MandatesOutput, Operation, RevokeMandate, RevokedOutput, RuleOutput, TextSink,
    TightenBudget, UsedOutput,
};
use crate::buy::body_hash;
use crate::failure::{Failure, FailureCode};
use crate::runtime::Runtime;

/// Alerts in a page.
const PAGE: u32 = 50;
/// Most alerts in a page.
const PAGE_MAX: u32 = 1_000;

/// The agent asked about: the caller, or one below it; the main agent may ask about everybody.
pub(super) fn whom(
    runtime: &Runtime,
    caller: Caller,
    name: Option<&str>,
) -> Result<AgentId, Failure> {
    let Some(name) = name else {
        return Ok(caller.agent);
    };
    let wallet = &runtime.inner.wallet;
    let agent = wallet.agent(name)?;
    if caller.is_main() || wallet.is_above(&caller.agent, &agent)? {
        return Ok(agent);
    }
    let text = format!("agent {name} has its mandate from somebody else");
    Err(Failure::new(FailureCode::Unauthorized, text).hint(
        "use the token of the agent that granted it, or the one 'tirami-agent token show' prints",
    ))
}

impl Operation for Budget {
    const NAME: &'static str = "budget";
    type Output = BudgetOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<BudgetOutput, Failure> {
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        budget_of(runtime, agent)
    }
}

fn budget_of(runtime: &Runtime, agent: AgentId) -> Result<BudgetOutput, Failure> {
    let budget = runtime.inner.wallet.budget(&agent)?;
    let Some(Link { row, usage, .. }) = budget.chain.first() else {
        return Err(Failure::new(
            FailureCode::Internal,
            "a mandate without terms",
        ));
    };
    let now = budget.now;
    let trm = |utrm| Amount::from_utrm(utrm).unwrap_or(Amount::MAX);
    Ok(BudgetOutput {
        agent: agent_name(runtime, &agent)?,
        agent_id: agent,
        parent: parent_name(runtime, row)?,
        payer: agent_name(runtime, &row.payer)?,
        expires_at: row.terms.expires.map(Timestamp::to_rfc3339),
        terms: row.terms.clone(),
        used: UsedOutput {
            trm_minute: trm(usage.minute().sum(now)),
            trm_hour: trm(usage.hour().sum(now)),
            trm_day: trm(usage.day().sum(now)),
            trm_lifetime: usage.used_in_all(),
            in_flight: usage.open(),
            spends_in_minute: usage.spends().sum(now),
            errors_in_row: usage.errors(),
        },
        pots: pots(budget.pots),
        trm_left: budget.left,
        left_by: budget.by.name().to_owned(),
        frozen: budget.freeze.map(|freeze| freeze.reason),
    })
}

fn parent_name(runtime: &Runtime, row: &MandateRow) -> Result<Option<String>, Failure> {
    row.parent
        .as_ref()
        .map(|parent| agent_name(runtime, parent))
        .transpose()
}

impl Operation for TightenBudget {
    const NAME: &'static str = "tighten_budget";
    type Output = BudgetOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<BudgetOutput, Failure> {
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        runtime.inner.wallet.tighten(agent, self.terms).await?;
        budget_of(runtime, agent)
    }
}

impl Operation for ExplainBudget {
    const NAME: &'static str = "explain_budget";
    type Output = ExplainOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ExplainOutput, Failure> {
        let agent = whom(runtime, caller, self.agent.as_deref())?;
        let price = self
            .trm_per_gflop
            .map(|price| {
                u32::try_from(price.utrm())
                    .map(Multiplier::from_ppm)
                    .map_err(|_| {
                        let text = format!("trm_per_gflop is {price}; the most is 4294.967295");
                        Failure::new(FailureCode::InvalidInput, text)
                    })
            })
            .transpose()?;
        let work = Work {
            action: self.action.unwrap_or(Action::Chat),
            payee: self.payee,
            model: self.model,
            price,
        };
        let body = self.request.as_ref().map(body_hash).transpose()?;
        let wallet = &runtime.inner.wallet;
        let explanation = wallet.explain(&agent, work, self.trm_amount, body.as_ref())?;
        let rules = explanation
            .findings
            .iter()
            .map(|finding| rule_output(runtime, &work, finding))
            .collect::<Result<_, _>>()?;
        let refusal = explanation.refusal;
        Ok(ExplainOutput {
            agent: agent_name(runtime, &agent)?,
            trm_amount: self.trm_amount,
            passes: refusal.is_none(),
            refusal_number: refusal.as_ref().map(Refusal::number),
            passes_at: refusal
                .as_ref()
                .and_then(Refusal::passes_at)
                .map(Timestamp::to_rfc3339),
            refusal: refusal.map(|refusal| Failure::from(WalletError::Refused(refusal))),
            rules,
        })
    }
}

fn rule_output(runtime: &Runtime, work: &Work, finding: &Finding) -> Result<RuleOutput, Failure> {
    let none = || "no limit".to_owned();
    let known = match finding.rule {
        Rule::PriceCeiling => work.price.is_some(),
        Rule::Payee => work.payee.is_some(),
        Rule::Model => work.model.is_some(),
        _ => true,
    };
    let (observed, limit) = match finding.measure {
        Measure::Amounts { limit, .. } if !known => (
            "not given".to_owned(),
            limit.map_or_else(none, |limit| format!("{limit} TRM")),
        ),
        Measure::Listed { said: true } if finding.rule == Rule::Freeze => {
            ("frozen".to_owned(), "by the kill switch".to_owned())
        }
        Measure::Listed { said: true } if !known => {
            ("not given".to_owned(), "by its list".to_owned())
        }
        // Who is not known could have been paid anything.
        Measure::Amounts {
            used: Amount::MAX,
            limit,
            ..
        } => (
            "an unknown payee".to_owned(),
            limit.map_or_else(none, |limit| format!("{limit} TRM")),
        ),
        Measure::Amounts { used, asked, limit } => (
            format!("{} TRM", used.checked_add(asked).unwrap_or(Amount::MAX)),
            limit.map_or_else(none, |limit| format!("{limit} TRM")),
        ),
        Measure::Counts { seen, limit } => (
            seen.to_string(),
            limit.map_or_else(none, |limit| limit.to_string()),
        ),
        Measure::Listed { said } => (
            if finding.passes {
                "allowed"
            } else {
                "not allowed"
            }
            .to_owned(),
            if said { "by its list" } else { "no limit" }.to_owned(),
        ),
        Measure::Date(date) => (
            if finding.passes { "open" } else { "closed" }.to_owned(),
            date.map_or_else(none, Timestamp::to_rfc3339),
        ),
    };
    Ok(RuleOutput {
        number: finding.rule.number(),
        rule: finding.rule.name().to_owned(),
        mandate: agent_name(runtime, &finding.mandate)?,
        observed,
        limit,
        passes: finding.passes,
        passes_at: finding.passes_at.map(Timestamp::to_rfc3339),
    })
}

impl Operation for Alerts {
    const NAME: &'static str = "alerts";
    type Output = AlertsOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<AlertsOutput, Failure> {
        let count = page(self.limit, (PAGE, PAGE_MAX))?;
        let wallet = &runtime.inner.wallet;
        let mut alerts = Vec::new();
        // What others were told of takes no place of what the caller sees.
        let newest = if caller.is_main() { count } else { usize::MAX };
        for alert in wallet.alerts(newest)? {
            if alerts.len() == count {
                break;
            }
            if caller.is_main() || wallet.is_above(&caller.agent, &alert.agent)? {
                alerts.push(AlertOutput {
                    at: alert.at.to_rfc3339(),
                    agent: agent_name(runtime, &alert.agent)?,
                    limit: alert.rule.name().to_owned(),
                    percent: alert.percent,
                    used: alert.figure(alert.used),
                    allowed: alert.figure(alert.limit),
                });
            }
        }
        Ok(AlertsOutput { alerts })
    }
}

impl Operation for Mandates {
    const NAME: &'static str = "mandates";
    type Output = MandatesOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<MandatesOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let mut mandates = Vec::new();
        for (agent, row) in wallet.mandates()? {
            if caller.is_main() || wallet.is_above(&caller.agent, &agent)? {
                mandates.push(mandate_output(runtime, agent, row)?);
            }
        }
        mandates.sort_by(|a, b| (a.depth, &a.agent).cmp(&(b.depth, &b.agent)));
        Ok(MandatesOutput { mandates })
    }
}

fn mandate_output(
    runtime: &Runtime,
    agent: AgentId,
    row: MandateRow,
) -> Result<MandateOutput, Failure> {
    let budget = runtime.inner.wallet.budget(&agent)?;
    let valid = budget
        .chain
        .iter()
        .all(|link| link.row.revoked.is_none() && !link.cut_off);
    Ok(MandateOutput {
        agent: agent_name(runtime, &agent)?,
        agent_id: agent,
        parent: parent_name(runtime, &row)?,
        payer: agent_name(runtime, &row.payer)?,
        depth: row.depth,
        epoch: row.epoch,
        granted_at: row.granted.to_rfc3339(),
        revoked_at: row.revoked.map(Timestamp::to_rfc3339),
        valid,
        trm_used_lifetime: budget
            .chain
            .first()
            .map_or(Amount::ZERO, |own| own.usage.used_in_all()),
        trm_left: budget.left,
        expires_at: row.terms.expires.map(Timestamp::to_rfc3339),
        terms: row.terms,
    })
}

impl Operation for GrantMandate {
    const NAME: &'static str = "grant_mandate";
    type Output = MandateOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<MandateOutput, Failure> {
        plain(&self.agent)?;
        let parent = whom(runtime, caller, self.parent.as_deref())?;
        let wallet = &runtime.inner.wallet;
        let agent = wallet.grant(parent, self.agent, self.terms).await?;
        one_mandate(runtime, agent)
    }
}

/// Refuses a name that would have to be quoted somewhere.
fn plain(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.is_empty() && name.len() <= AGENT_NAME_MAX && name.chars().all(good) {
        return Ok(());
    }
    let text = format!(
        "agent has {} bytes; a name is 1 to {AGENT_NAME_MAX} lower-case letters, digits, '-' and '_'",
        name.len()
    );
    Err(Failure::new(FailureCode::InvalidInput, text))
}

fn one_mandate(runtime: &Runtime, agent: AgentId) -> Result<MandateOutput, Failure> {
    let found = runtime.inner.wallet.mandates()?;
    let row = found.into_iter().find(|(id, _)| *id == agent);
    let (agent, row) =
        row.ok_or_else(|| Failure::new(FailureCode::NotFound, "the mandate is gone"))?;
    mandate_output(runtime, agent, row)
}

impl Operation for RevokeMandate {
    const NAME: &'static str = "revoke_mandate";
    type Output = RevokedOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<RevokedOutput, Failure> {
        let agent = whom(runtime, caller, Some(&self.agent))?;
        let gone = runtime.inner.wallet.revoke(agent).await?;
        let agents = gone
            .iter()
            .map(|agent| agent_name(runtime, agent))
            .collect::<Result<_, _>>()?;
        Ok(RevokedOutput { agents })
    }
}

impl Operation for Approvals {
    const NAME: &'static str = "approvals";
    type Output = ApprovalsOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ApprovalsOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let mut approvals = Vec::new();
        for (id, approval) in wallet.approvals()? {
            if caller.is_main() || wallet.is_above(&caller.agent, &approval.agent)? {
                approvals.push(approval_output(runtime, id, &approval)?);
            }
        }
        Ok(ApprovalsOutput { approvals })
    }
}

fn approval_output(
    runtime: &Runtime,
    id: tirami_manifest::ApprovalId,
    approval: &Approval,
) -> Result<ApprovalOutput, Failure> {
    let (state, decided) = match approval.verdict {
        Verdict::Waiting if runtime.inner.wallet.is_used(approval)? => ("used", None),
        Verdict::Approved { at } if runtime.inner.wallet.is_used(approval)? => ("used", Some(at)),
        Verdict::Waiting => ("waiting", None),
        Verdict::Approved { at } => ("approved", Some(at)),
        Verdict::Denied { at } => ("denied", Some(at)),
    };
    Ok(ApprovalOutput {
        approval: id,
        agent: agent_name(runtime, &approval.agent)?,
        idempotency_key: approval.key.clone(),
        action: approval.action,
        payee: approval.payee,
        model: approval.model,
        trm_amount: approval.amount,
        state: state.to_owned(),
        asked_at: approval.asked.to_rfc3339(),
        expires_at: approval.expires.to_rfc3339(),
        decided_at: decided.map(Timestamp::to_rfc3339),
    })
}

impl Operation for Deny {
    const NAME: &'static str = "deny";
    type Output = ApprovalOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ApprovalOutput, Failure> {
        let wallet = &runtime.inner.wallet;
        let unknown = || WalletError::UnknownApproval(self.approval.to_string());
        let asked = wallet
            .approvals()?
            .into_iter()
            .find(|(id, _)| *id == self.approval);
        let (_, asked) = asked.ok_or_else(unknown)?;
        if !caller.is_main() && !wallet.is_above(&caller.agent, &asked.agent)? {
            return Err(unknown().into());
        }
        let approval = wallet.deny(self.approval).await?;
        approval_output(runtime, self.approval, &approval)
    }
}

/// What work of this node's own engine is, as mandates see it.
pub(crate) const fn done_here(node: NodeId, model: ModelId) -> Work {
    Work {
        action: Action::LocalChat,
        payee: Some(node),
        model: Some(model),
        price: None,
    }
}

/// What a purchase from this provider is, as mandates see it.
pub(crate) const fn bought_from(payee: NodeId, model: ModelId, price: Multiplier) -> Work {
    Work {
        action: Action::Chat,
        payee: Some(payee),
        model: Some(model),
        price: Some(price),
    }
}
