//! Step five: killed without warning, started again, and nothing is different.

use serde_json::Value;
use tirami_agent_runtime::ops::{
    AuditOutput, BalanceOutput, ChatOutput, ModelsOutput, StatusOutput,
};
use tirami_manifest::{NodeId, OwnerId};

use super::client::Client;
use super::process::Nodes;
use super::report::Report;
use super::stage::{Broken, Stage, Who, ensure, equal, finish, wait_for};
use super::trade::{Sales, Scene, first_question, receipt, settled};
use crate::cli::exit::Exit;

/// Everything about a node that has to outlive its process.
#[derive(Debug, PartialEq, Eq)]
struct Books {
    node: NodeId,
    owner: Option<OwnerId>,
    balance: BalanceOutput,
    receipts: Vec<String>,
}

impl Books {
    async fn read(stage: &Stage, who: Who, sales: &Sales) -> Result<Self, Broken> {
        let status: StatusOutput = stage.ask(who, &["status"]).await?;
        let mut receipts = Vec::new();
        for id in &sales.receipts {
            receipts.push(receipt(stage, who, *id).await?);
        }
        let balance = stage.ask(who, &["balance"]).await?;
        Ok(Self {
            node: status.node,
            owner: status.owner,
            balance,
            receipts,
        })
    }
}

/// Kills both, starts both, compares; then asks for a purchase again and checks a receipt offline.
pub(super) async fn survive(
    stage: &Stage,
    nodes: &mut Nodes,
    scene: &Scene,
    sales: &Sales,
    report: &mut Report<'_>,
) -> Result<(), Broken> {
    let before = (
        Books::read(stage, Who::A, sales).await?,
        Books::read(stage, Who::B, sales).await?,
    );
    nodes.kill_one(Who::A).await?;
    nodes.kill_one(Who::B).await?;
    report.fact(
        "SIGKILL",
        format!("processes {} and {} are gone", scene.a.pid, scene.b.pid),
    );
    let a = nodes.start(stage, Who::A).await?;
    let b = nodes.start(stage, Who::B).await?;
    report.fact("started", format!("processes {} and {}", a.pid, b.pid));
    let after = (
        Books::read(stage, Who::A, sales).await?,
        Books::read(stage, Who::B, sales).await?,
    );
    for (who, before, after) in [("A", &before.0, &after.0), ("B", &before.1, &after.1)] {
        equal(&format!("{who}'s identity"), after.node, before.node)?;
        equal(&format!("{who}'s owner"), after.owner, before.owner)?;
        equal(&format!("{who}'s balance"), &after.balance, &before.balance)?;
        ensure(after.receipts == before.receipts, || {
            format!("{who}'s receipts differ")
        })?;
    }
    let count = sales.receipts.len();
    report.proven(format!(
        "same identities, balances and {count} receipts on both after SIGKILL"
    ));
    for who in [Who::A, Who::B] {
        let audit: AuditOutput = stage.ask(who, &["wallet", "audit"]).await?;
        let broken = audit.checks.iter().find(|check| !check.holds);
        ensure(audit.holds, || {
            format!("the books do not agree: {broken:?}")
        })?;
        report.fact(
            "audit",
            format!("{} rules hold on node {}", audit.checks.len(), who.name()),
        );
    }
    report.proven("debits equal credits, and every other rule of the audit holds, on both");
    again(stage, scene, sales, report).await?;
    offline(stage, sales, report).await
}

/// The nodes find each other again, and a purchase that is asked for again is not paid again.
async fn again(
    stage: &Stage,
    scene: &Scene,
    sales: &Sales,
    report: &mut Report<'_>,
) -> Result<(), Broken> {
    wait_for("that B finds A again", async || {
        let models: ModelsOutput = stage.ask(Who::B, &["models"]).await?;
        Ok(models
            .models
            .iter()
            .any(|model| model.provider == scene.a.node)
            .then_some(()))
    })
    .await?;
    let mut client = Client::connect(stage).await?;
    let answer: ChatOutput = client.call("chat", first_question()).await?;
    client.close().await?;
    ensure(answer.replayed, || "the purchase was made again".to_owned())?;
    equal("the receipt", answer.receipt, sales.first.receipt)?;
    equal("the answer", &answer.text, &sales.first.text)?;
    settled(stage, scene, sales).await?;
    report.proven("asked again under the same idempotency key: same answer, paid once");
    Ok(())
}

/// A receipt is checked with nothing but its bytes: no data directory, no environment, no network.
async fn offline(stage: &Stage, sales: &Sales, report: &mut Report<'_>) -> Result<(), Broken> {
    let id = *sales
        .receipts
        .first()
        .ok_or_else(|| Broken::new("nothing was sold"))?;
    let path = stage.text("receipt.json");
    let written: Value = stage
        .ask(Who::B, &["receipt", &id.to_string(), "--out", &path])
        .await?;
    equal(
        "the file of the receipt",
        written.get("file").and_then(Value::as_str),
        Some(&*path),
    )?;
    equal(
        "the check of the receipt",
        verify(stage, &path).await?,
        Some(0),
    )?;
    report.fact("verify", format!("receipt {} is valid", id.short()));
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Broken::because("the receipt's file", error))?;
    for (name, altered) in altered(&text)? {
        let path = stage.text(&format!("{name}.json"));
        std::fs::write(&path, altered)
            .map_err(|error| Broken::because("an altered receipt's file", error))?;
        let code = verify(stage, &path).await?;
        equal(name, code, Some(i32::from(Exit::Invalid.number())))?;
        report.fact("verify", format!("{name} is refused"));
    }
    report.proven("a receipt verifies offline, and every altered copy of it is refused");
    Ok(())
}

async fn verify(stage: &Stage, path: &str) -> Result<Option<i32>, Broken> {
    let mut command = stage.command(None);
    command.env_clear().args(["verify", path, "--json"]);
    Ok(finish(command, &["verify"]).await?.code)
}

/// The receipt with another amount, with a bit flipped under the signatures, and cut off.
fn altered(text: &str) -> Result<[(&'static str, String); 3], Broken> {
    let mut amount: Value =
        serde_json::from_str(text).map_err(|error| Broken::because("the receipt", error))?;
    let mut signed = amount.clone();
    if let Some(field) = amount.get_mut("trm_amount") {
        *field = "0.000001".into();
    }
    if let Some(Value::String(hex)) = signed.get_mut("signed") {
        let middle = hex.len() / 2;
        let other = if hex.get(middle..=middle) == Some("0") {
            "1"
        } else {
            "0"
        };
        hex.replace_range(middle..=middle, other);
    }
    let cut = text.chars().take(text.chars().count() / 2).collect();
    Ok([
        ("a receipt with another amount", amount.to_string()),
        ("a receipt with a digit changed", signed.to_string()),
        ("a receipt that is cut off", cut),
    ])
}
