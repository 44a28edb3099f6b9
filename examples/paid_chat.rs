#![expect(clippy::print_stdout, reason = "a program that talks to a person")]
//! Ask the network one question, pay at most 5 TRM, and say what it cost.
//!
//! `cargo run --example paid_chat -- TICKET` joins the network of a ticket first; without one the
//! node answers with its own model, which costs nothing.

use tirami_agent_runtime::{Ask, Runtime};
use tirami_manifest::trm;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = Runtime::builder("./data");
    let runtime = match std::env::args().nth(1) {
        Some(ticket) => node.model(None).join(&ticket).await?,
        None => node.start().await?,
    };
    let answer = runtime
        .agent()
        .ask(Ask::new("Who are you?").at_most(trm!("5")))
        .await?;
    println!(
        "{}\n({} TRM to {})",
        answer.text, answer.payment.amount, answer.provider
    );
    runtime.shutdown().await;
    Ok(())
}
