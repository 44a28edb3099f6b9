//! Killed without warning, started again: the same node with the same money.

use serde_json::{Value, json};

use crate::cli::Home;
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question};

async fn everything(home: &Home, receipts: &[String]) -> Value {
    let mut files = Vec::new();
    for receipt in receipts {
        files.push(home.ask(&["receipt", receipt]).await);
    }
    json!({ "books": home.books().await, "receipts": files })
}

#[tokio::test]
async fn after_a_crash_of_both_nothing_is_different() {
    let pair = Pair::start().await;
    pair.b.init_owner().await;
    let mcp = Mcp::start(&pair.b).await;
    for n in 0..3 {
        mcp.ask("chat", question(5, &format!("k{n}"))).await;
    }
    let spent = pair.agree().await;
    let receipts = pair.b.receipts("purchase").await;
    assert_eq!(receipts.len(), 3);
    let before = (
        everything(&pair.a, &receipts).await,
        everything(&pair.b, &receipts).await,
    );
    let Pair { a, b, up } = pair;
    up.kill().await;
    mcp.kill().await;
    let up = Up::start(&a).await;
    let mcp = Mcp::start(&b).await;
    let pair = Pair { a, b, up };
    assert_eq!(everything(&pair.a, &receipts).await, before.0);
    assert_eq!(everything(&pair.b, &receipts).await, before.1);
    assert_eq!(pair.agree().await, spent);
    // They find each other again and go on.
    mcp.ask("chat", question(5, "after")).await;
    assert!(pair.agree().await > spent);
}
