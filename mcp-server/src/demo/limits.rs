//! Step four: what stops an agent that would spend too much, and who can let it go on.

use serde_json::{Value, json};
use tirami_agent_runtime::ops::{
    BudgetOutput, ChatOutput, FreezeOutput, Obey, QuoteOutput, StatusOutput,
};
use tirami_agent_runtime::owner::{self, Passphrase};
use tirami_agent_runtime::{Failure, FailureCode, NodeConfig, data_dir};
use tirami_manifest::Amount;
use tirami_manifest::owner::{Decision, OwnerOrder};

use super::client::Client;
use super::report::Report;
use super::stage::{Broken, Stage, Who, ensure, equal};
use super::trade::{Sales, Scene, question, say_settled, settled, sum};
use crate::access::{Access, Need};
use crate::cli::exit::Exit;

/// What is too dear, with an answer as long as it asks for.
const LONG_STORY: &str = "Tell me a long story.";

/// Exhausts the budget, freezes, and has the owner undo both.
pub(super) async fn hold(
    stage: &Stage,
    scene: &Scene,
    client: &mut Client,
    sales: Sales,
    report: &mut Report<'_>,
) -> Result<Sales, Broken> {
    too_dear(stage, client, report).await?;
    let frozen: FreezeOutput = client.call("freeze", json!({ "reason": "demo" })).await?;
    report.fact("freeze", format!("on since {}", frozen.since));
    let failure = client.refused("chat", question("demo-frozen")).await?;
    equal(
        "why the next chat is refused",
        failure.code,
        FailureCode::Frozen,
    )?;
    report.fact("refused", failure.message);
    report.proven("a frozen node refuses the next chat");
    Box::pin(only_the_owner(stage, scene, client, report)).await?;
    buy_again(stage, scene, client, sales, report).await
}

/// A tighter limit needs nobody, and refuses what would cost more.
async fn too_dear(
    stage: &Stage,
    client: &mut Client,
    report: &mut Report<'_>,
) -> Result<(), Broken> {
    let asked = json!({ "prompt": LONG_STORY, "max_tokens": 400 });
    let quote: QuoteOutput = client.call("quote", asked.clone()).await?;
    let limit = Amount::from_utrm(quote.trm_max.utrm() / 2)
        .map_err(|error| Broken::because("half a quote", error))?;
    let text = limit.to_string();
    let budget: BudgetOutput = stage
        .ask(Who::B, &["budget", "set", "--per-request", &text])
        .await?;
    equal(
        "the limit per request",
        budget.terms.limits.per_request_trm,
        limit,
    )?;
    report.fact("quoted", format!("{} TRM at most", quote.trm_max));
    report.fact("limit per request", format!("{limit} TRM"));
    let failure = client.refused("chat", asked).await?;
    equal(
        "why the chat is refused",
        failure.code,
        FailureCode::OverBudget,
    )?;
    let hint = failure.hint.clone().unwrap_or_default();
    report.fact("refused", failure.message.clone());
    report.fact("what would fit", hint.clone());
    let says = failure.message.contains("per-request") && failure.message.contains(&text);
    ensure(says && hint.contains("would fit"), || {
        "the refusal does not say which limit".to_owned()
    })?;
    report.proven("a request that is too dear is refused, saying limit, what is left, what fits");
    Ok(())
}

/// Neither the agent's token, nor another's key, nor a wrong passphrase lifts the freeze.
async fn only_the_owner(
    stage: &Stage,
    scene: &Scene,
    client: &Client,
    report: &mut Report<'_>,
) -> Result<(), Broken> {
    let tools = client.tools().await?;
    ensure(tools.iter().all(|name| !name.contains("unfreeze")), || {
        format!("there is a tool that lifts a freeze: {}", tools.join(", "))
    })?;
    let status: StatusOutput = stage.ask(Who::B, &["status"]).await?;
    let order = OwnerOrder {
        node: scene.b.node,
        number: status.next_order,
        decision: Decision::Unfreeze,
    };
    let failure = intrude(stage, order).await?;
    equal(
        "why another's order is refused",
        failure.code,
        FailureCode::OwnerRequired,
    )?;
    report.fact("agent's token", failure.message);
    let (right, wrong) = (stage.text("passphrase"), stage.text("wrong"));
    for words in [
        ["unfreeze", "--passphrase-file", &wrong].as_slice(),
        &[
            "budget",
            "set",
            "--per-request",
            "5000",
            "--passphrase-file",
            &wrong,
        ],
    ] {
        let (code, failure) = stage.refused(Who::B, words).await?;
        equal("the exit code", code, i32::from(Exit::Owner.number()))?;
        report.fact("wrong passphrase", failure.message);
    }
    let status: StatusOutput = stage.ask(Who::B, &["status"]).await?;
    ensure(status.frozen.is_some(), || "the freeze is gone".to_owned())?;
    report.proven("B's agent cannot lift it: no tool, no order of another key, no guess");
    let lifted: Value = stage
        .ask(Who::B, &["unfreeze", "--passphrase-file", &right])
        .await?;
    let wanted = json!({ "frozen": false, "was_frozen": true });
    equal("what unfreeze says", lifted, wanted)?;
    let words = [
        "budget",
        "set",
        "--per-request",
        "5000",
        "--passphrase-file",
        &right,
    ];
    let budget: BudgetOutput = stage.ask(Who::B, &words).await?;
    equal(
        "the limit per request",
        budget.terms.limits.per_request_trm,
        Amount::from_trm(5_000),
    )?;
    equal("the freeze", budget.frozen, None)?;
    report.proven("the owner's passphrase lifts the freeze and the limit");
    Ok(())
}

/// Tries, with the agent's token, to have the node obey somebody else's order.
async fn intrude(stage: &Stage, order: OwnerOrder) -> Result<Failure, Broken> {
    let failed = |failure: Failure| Broken::because("the intruder", failure);
    let (own, target) = (stage.path("intruder"), stage.path(Who::B.name()));
    let passphrase = Passphrase::new("an owner, but of nothing".to_owned());
    data_dir::prepare(&own).map_err(failed)?;
    owner::create(&own, &passphrase).map_err(failed)?;
    let order = owner::sign(&own, &passphrase, order).map_err(failed)?;
    let token = data_dir::read_token(&target).map_err(failed)?;
    let access = Access::open(&NodeConfig::new(target), Need::Books)
        .await
        .map_err(failed)?;
    let attached = access.is_attached().await;
    let answer = access.call(&token, Obey { order }).await;
    access.close().await;
    ensure(attached, || "node B is gone".to_owned())?;
    match answer {
        Ok(_) => Err(Broken::new(
            "the node obeyed an order that is not its owner's",
        )),
        Err(failure) => Ok(failure),
    }
}

/// After the owner let it go on, it does.
async fn buy_again(
    stage: &Stage,
    scene: &Scene,
    client: &mut Client,
    mut sales: Sales,
    report: &mut Report<'_>,
) -> Result<Sales, Broken> {
    let answer: ChatOutput = client.call("chat", question("demo-again")).await?;
    sales.paid = sum(sales.paid, answer.trm_cost)?;
    sales.receipts.extend(answer.receipt);
    settled(stage, scene, &sales).await?;
    say_settled(scene, &sales, report);
    report.proven(format!(
        "then it buys again, {} TRM in all, equal on both sides",
        sales.paid
    ));
    Ok(sales)
}
