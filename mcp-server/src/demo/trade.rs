//! Steps one to three: the network, the loan, and the trade.

use serde_json::{Value, json};
use tirami_agent_runtime::data_dir;
use tirami_agent_runtime::ops::{
    BalanceOutput, ChatOutput, JoinOutput, StatusOutput, TicketOutput,
};
use tirami_manifest::receipt_file::ReceiptFile;
use tirami_manifest::{Amount, ReceiptId};

use super::client::Client;
use super::process::{Nodes, Ready};
use super::report::Report;
use super::stage::{Broken, Stage, Who, ensure, equal, wait_for};
use super::stream;

/// What is asked through MCP, and through HTTP.
const QUESTIONS: [&str; 2] = ["Who are you?", "What is a receipt?"];

/// The two nodes and what the newcomer was lent.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) a: Ready,
    pub(super) b: Ready,
    pub(super) loan: Amount,
}

/// What was sold so far.
#[derive(Clone, Debug)]
pub(super) struct Sales {
    pub(super) paid: Amount,
    pub(super) receipts: Vec<ReceiptId>,
    /// The first answer, bought through MCP.
    pub(super) first: ChatOutput,
}

/// The input of the first purchase, and of the same purchase asked for again.
pub(super) fn first_question() -> Value {
    question("demo-1")
}

/// An input for the tool `chat`.
pub(super) fn question(key: &str) -> Value {
    json!({ "prompt": QUESTIONS[0], "max_tokens": 48, "max_trm": "5", "idempotency_key": key })
}

/// Starts both nodes and has the second join the network of the first.
pub(super) async fn open(
    stage: &Stage,
    nodes: &mut Nodes,
    report: &mut Report<'_>,
) -> Result<Scene, Broken> {
    let a = nodes.start(stage, Who::A).await?;
    report.fact("node A", about(&a));
    let b = nodes.start(stage, Who::B).await?;
    report.fact("node B", about(&b));
    ensure(a.pid != b.pid && a.node != b.node, || {
        "the two nodes are one".to_owned()
    })?;
    equal("A's role", a.role.as_str(), "founder")?;
    equal("what A sells", &a.models[..], &["sprout".to_owned()])?;
    equal("what B sells", &b.models[..], &[])?;
    let loopback = |address: &String| address.starts_with("127.0.0.1:");
    ensure(a.addresses.iter().chain(&b.addresses).all(loopback), || {
        "a node can be reached from elsewhere".to_owned()
    })?;
    report.proven("two processes with keys and wallets of their own, reachable on loopback only");

    let passphrase = stage.text("passphrase");
    let owner: Value = stage
        .ask(Who::B, &["owner", "init", "--passphrase-file", &passphrase])
        .await?;
    let owner = owner
        .get("owner")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    report.fact("owner of B", super::report::short(&owner));
    let ticket: TicketOutput = stage.ask(Who::A, &["ticket"]).await?;
    report.fact("ticket of A", super::report::short(&ticket.ticket));
    let joined: JoinOutput = stage.ask(Who::B, &["join", &ticket.ticket]).await?;
    equal("the network B joined", joined.network, a.network)?;
    report.proven(format!(
        "B is in A's network \"{}\" ({})",
        joined.name,
        joined.network.short()
    ));
    Ok(Scene {
        a,
        b,
        loan: ticket.trm_welcome_loan,
    })
}

fn about(node: &Ready) -> String {
    let sells = if node.models.is_empty() {
        "nothing".to_owned()
    } else {
        node.models.join(", ")
    };
    format!("{}, process {}, sells {sells}", node.node.short(), node.pid)
}

/// Waits for the welcome loan and shows who has what.
pub(super) async fn balances(
    stage: &Stage,
    scene: &Scene,
    report: &mut Report<'_>,
) -> Result<(), Broken> {
    let b = wait_for("the welcome loan", async || {
        let balance: BalanceOutput = stage.ask(Who::B, &["balance"]).await?;
        Ok((!balance.trm_owed.is_zero()).then_some(balance))
    })
    .await?;
    let a: BalanceOutput = stage.ask(Who::A, &["balance"]).await?;
    equal("B's balance", b.trm_balance, scene.loan)?;
    equal("B's debt", b.trm_owed, scene.loan)?;
    equal("A's earnings", a.trm_earned, Amount::ZERO)?;
    report.fact(
        "A has",
        format!("{} TRM, earned {}", a.trm_balance, a.trm_earned),
    );
    report.fact(
        "B has",
        format!("{} TRM, owes {}", b.trm_balance, b.trm_owed),
    );
    report.proven(format!(
        "B was lent {} TRM, and owes them; nobody else gained",
        scene.loan
    ));
    Ok(())
}

/// Buys through MCP and through HTTP, and checks what both sides then have.
pub(super) async fn buy(
    stage: &Stage,
    scene: &Scene,
    client: &mut Client,
    report: &mut Report<'_>,
) -> Result<Sales, Broken> {
    let tools = client.tools().await?;
    report.fact(
        "MCP",
        format!("'tirami-agent mcp' offers {} tools", tools.len()),
    );
    let answer: ChatOutput = client.call("chat", first_question()).await?;
    report.fact("asked", QUESTIONS[0]);
    report.fact("answered", one_line(&answer.text));
    ensure(!answer.text.trim().is_empty(), || {
        "the answer is empty".to_owned()
    })?;
    equal("who answered", answer.provider, scene.a.node)?;
    ensure(!answer.local && !answer.trm_cost.is_zero(), || {
        "nothing was paid".to_owned()
    })?;
    let receipt = answer
        .receipt
        .ok_or_else(|| Broken::new("there is no receipt"))?;
    report.fact(
        "tokens",
        format!("{} in, {} out", answer.tokens_in, answer.tokens_out),
    );
    report.fact(
        "progress",
        format!("told {} times while it was generated", client.told()),
    );
    report.proven(format!(
        "an MCP client paid {} TRM for an answer of node A",
        answer.trm_cost
    ));
    let sales = Sales {
        paid: answer.trm_cost,
        receipts: vec![receipt],
        first: answer,
    };
    let sales = streamed(stage, scene, sales, report).await?;
    settled(stage, scene, &sales).await?;
    say_settled(scene, &sales, report);
    report.proven(format!(
        "A earned what B spent, to the millionth: {} TRM",
        sales.paid
    ));
    receipt_holds(stage, &sales, report).await?;
    Ok(sales)
}

/// The second purchase, token by token.
async fn streamed(
    stage: &Stage,
    scene: &Scene,
    mut sales: Sales,
    report: &mut Report<'_>,
) -> Result<Sales, Broken> {
    let token = data_dir::read_token(&stage.path(Who::B.name()))
        .map_err(|failure| Broken::because("B's token", failure))?;
    let http = scene.b.http.as_deref().unwrap_or_default();
    let streamed = stream::chat(http, &token, QUESTIONS[1]).await?;
    report.fact("streamed", one_line(&streamed.text));
    let (first, last) = (streamed.first.as_millis(), streamed.last.as_millis());
    report.fact(
        "token by token",
        format!("{} pieces, {first} to {last} ms", streamed.pieces),
    );
    ensure(streamed.pieces > 1, || {
        "the answer came in one piece".to_owned()
    })?;
    let cost = streamed
        .cost
        .ok_or_else(|| Broken::new("the stream says no cost"))?;
    let receipt = cost
        .receipt
        .ok_or_else(|| Broken::new("the stream has no receipt"))?;
    sales.receipts.push(receipt);
    sales.paid = sum(sales.paid, cost.trm_cost)?;
    report.proven(format!(
        "B's OpenAI route streamed a second one for {} TRM",
        cost.trm_cost
    ));
    Ok(sales)
}

/// A sum of payments.
pub(super) fn sum(a: Amount, b: Amount) -> Result<Amount, Broken> {
    a.checked_add(b)
        .ok_or_else(|| Broken::new("more TRM than there is"))
}

/// Waits until both sides have booked everything, and compares them to the last digit.
pub(super) async fn settled(stage: &Stage, scene: &Scene, sales: &Sales) -> Result<(), Broken> {
    wait_for("settlement", async || {
        let status: StatusOutput = stage.ask(Who::B, &["status"]).await?;
        Ok((status.outbox == 0 && status.open_holds == 0).then_some(()))
    })
    .await?;
    let a: BalanceOutput = stage.ask(Who::A, &["balance"]).await?;
    let b: BalanceOutput = stage.ask(Who::B, &["balance"]).await?;
    equal("what B spent", b.trm_spent, sales.paid)?;
    equal("what A earned", a.trm_earned, sales.paid)?;
    equal(
        "what B has left",
        b.trm_balance,
        scene.loan.saturating_sub(sales.paid),
    )?;
    equal("what B has set aside", b.trm_held, Amount::ZERO)?;
    let member = a.members.iter().find(|member| member.node == scene.b.node);
    let member = member.map(|member| member.trm_balance);
    equal("what B has in A's books", member, Some(b.trm_balance))
}

/// Says what [`settled`] found equal on both sides.
pub(super) fn say_settled(scene: &Scene, sales: &Sales, report: &mut Report<'_>) {
    let left = scene.loan.saturating_sub(sales.paid);
    report.fact("B spent", format!("{} TRM", sales.paid));
    report.fact("A earned", format!("{} TRM", sales.paid));
    report.fact("B has left", format!("{left} TRM, in B's books and in A's"));
}

/// A receipt as a node hands it out.
pub(super) async fn receipt(stage: &Stage, who: Who, id: ReceiptId) -> Result<String, Broken> {
    let ended = stage.run(who, &["receipt", &id.to_string()]).await?;
    ended.read::<ReceiptFile>(&["receipt"])?;
    Ok(ended.stdout)
}

/// Both nodes have the same receipt, signed by both, for what the FLOP cost.
async fn receipt_holds(
    stage: &Stage,
    sales: &Sales,
    report: &mut Report<'_>,
) -> Result<(), Broken> {
    for id in &sales.receipts {
        let (a, b) = (
            receipt(stage, Who::A, *id).await?,
            receipt(stage, Who::B, *id).await?,
        );
        ensure(a == b, || format!("A and B have different receipts {id}"))?;
        let (file, verified) =
            ReceiptFile::verify(&a).map_err(|error| Broken::because("the receipt", error))?;
        let (card, agreement) = (verified.quote.body.card, &verified.agreement);
        let flop = card.flop(agreement.usage);
        let price = card
            .price(agreement.usage, agreement.multiplier)
            .map_err(|error| Broken::because("the price", error))?;
        equal("the price computed from FLOP", price, file.trm_amount)?;
        let (tokens_in, tokens_out) = (file.tokens_in, file.tokens_out);
        report.fact(
            "receipt",
            format!("{}, {} bytes, equal on both", id.short(), a.len()),
        );
        report.fact(
            "work",
            format!("{tokens_in} + {tokens_out} tokens = {flop} FLOP"),
        );
        report.fact(
            "price",
            format!("{price} TRM, of at most {} quoted", file.trm_quoted_max),
        );
    }
    report.proven("both have the same receipts, signed by both, priced by FLOP, below the quote");
    Ok(())
}

/// The beginning of a text, on one line.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::cli::table::shorten(&line, 56)
}
