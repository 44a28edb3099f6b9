//! A paid chat: what one side spends the other earns, and the receipt proves it.

use serde_json::{Value, json};
use tirami_manifest::Amount;
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::receipt_file::ReceiptFile;

use crate::cli::{EXE, Home, bare, finish};
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, trm};

/// The price of a receipt, computed from its tokens and the weights it names.
fn price(receipt: &VerifiedReceipt) -> Amount {
    let (card, usage) = (receipt.quote.body.card, receipt.agreement.usage);
    assert_eq!(usage.tokens_cached, 0);
    let (n_in, n_out) = (u128::from(usage.tokens_in), u128::from(usage.tokens_out));
    // The last token is generated and not processed again.
    let processed = n_in + n_out - 1;
    // A prompt's position t sees t + 1 positions; the k-th token that is generated sees in + k.
    let window = if card.window == 0 {
        u128::MAX
    } else {
        u128::from(card.window)
    };
    let positions = (1..=n_in).chain(n_in..n_in + n_out);
    let seen: u128 = positions.map(|position| position.min(window)).sum();
    let flop = 2 * u128::from(card.block_weights) * processed
        + 2 * u128::from(card.head_weights) * n_out
        + u128::from(card.attention_flop) * seen;
    // Thousands of FLOP, rounded up, times the price in parts per million of par, rounded up.
    let utrm =
        (flop.div_ceil(1_000) * u128::from(receipt.agreement.multiplier.ppm())).div_ceil(1_000_000);
    Amount::try_from(utrm).unwrap()
}

/// Asserts that both sides have the same receipt, byte for byte, that it verifies without a node,
/// and that its price is what its FLOP cost. Answers the amount.
async fn proven(pair: &Pair, id: &str) -> Amount {
    let (a, b) = (pair.a.text("receipt.json"), pair.b.text("receipt.json"));
    pair.a.ask(&["receipt", id, "--out", &a]).await;
    pair.b.ask(&["receipt", id, "--out", &b]).await;
    let text = std::fs::read_to_string(&a).unwrap();
    assert_eq!(
        text,
        std::fs::read_to_string(&b).unwrap(),
        "the same bytes on both sides"
    );
    let mut verify = bare(&[EXE]);
    verify.env_clear().args(["--json", "verify", &b]);
    let verified = finish(verify).await;
    assert_eq!(verified.code, 0, "{verified:?}");
    let said: Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(
        (&said["valid"], &said["facts"]["receipt"]),
        (&json!(true), &json!(id))
    );
    let (file, receipt) = ReceiptFile::verify(&text).unwrap();
    assert_eq!(price(&receipt), file.trm_amount, "the price of its FLOP");
    assert!(file.trm_amount <= file.trm_quoted_max);
    file.trm_amount
}

async fn a_sale(pair: &Pair, chat: Value) -> Value {
    let mcp = Mcp::start(&pair.b).await;
    let before = trm(&mcp.ask("balance", json!({})).await["trm_balance"]);
    let quote = mcp
        .ask(
            "quote",
            json!({ "prompt": chat["prompt"], "max_tokens": 20 }),
        )
        .await;
    let answer = mcp.ask("chat", chat).await;
    let cost = trm(&answer["trm_cost"]);
    assert!(
        cost > Amount::ZERO && cost <= trm(&quote["trm_max"]),
        "{answer} {quote}"
    );
    assert_eq!(answer["provider"], pair.up.ready["node"]);
    assert_eq!(
        trm(&answer["trm_balance"]),
        before.checked_sub(cost).unwrap()
    );
    let receipt = mcp
        .ask("receipt", json!({ "receipt": answer["receipt"] }))
        .await;
    assert_eq!(trm(&receipt["trm_amount"]), cost);
    assert_eq!(receipt["tokens_out"], answer["tokens_out"]);
    let id = answer["receipt"].as_str().unwrap();
    assert_eq!(proven(pair, id).await, cost);
    assert_eq!(
        pair.agree().await,
        cost,
        "A earned what B spent, and that is what it cost"
    );
    answer
}

#[tokio::test]
async fn what_one_side_spends_the_other_earns_and_the_receipt_proves_it() {
    let pair = Pair::start().await;
    let answer = a_sale(
        &pair,
        json!({ "prompt": "one two three", "max_tokens": 20 }),
    )
    .await;
    assert_eq!(answer["text"].as_str().unwrap().trim(), "one two three");
    // Three words and a role in, three words out: 6 tokens processed, 3 generated, at 1,000 each.
    assert_eq!(
        trm(&answer["trm_cost"]),
        "0.009".parse().unwrap(),
        "{answer}"
    );
}

#[cfg(feature = "llama")]
#[tokio::test]
async fn sprout_answers_for_what_its_flop_cost() {
    let pair = Pair::of(Home::new(""), Home::buyer()).await;
    let answer = a_sale(&pair, json!({ "prompt": "Who are you?", "max_tokens": 20 })).await;
    assert_eq!(answer["model"], "sprout");
    assert!(
        !answer["text"].as_str().unwrap().trim().is_empty(),
        "{answer}"
    );
}

#[tokio::test]
async fn a_price_above_par_is_what_the_quote_and_the_receipt_say() {
    let pair = Pair::of(
        Home::new("model = \"echo\"\nprice_ppm = 2500001\n"),
        Home::buyer(),
    )
    .await;
    let answer = a_sale(
        &pair,
        json!({ "prompt": "one two three", "max_tokens": 20 }),
    )
    .await;
    assert_eq!(
        trm(&answer["trm_cost"]),
        "0.022501".parse().unwrap(),
        "rounded up once"
    );
}

#[tokio::test]
async fn the_same_key_pays_once_whatever_door_and_process_it_comes_through() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let input = json!({ "prompt": "say it once", "model": "echo", "idempotency_key": "order-1" });
    let first = mcp.ask("chat", input.clone()).await;
    assert_eq!(first["replayed"], false);
    let cost = trm(&first["trm_cost"]);
    let again = mcp.ask("chat", input.clone()).await;
    mcp.kill().await;
    let mcp = Mcp::start(&pair.b).await;
    let restarted = mcp.ask("chat", input.clone()).await;
    let words = [
        "chat",
        "say it once",
        "--model",
        "echo",
        "--idempotency-key",
        "order-1",
    ];
    let cli = pair.b.ask(&words).await;
    for repeated in [again, restarted, cli] {
        assert_eq!(repeated["replayed"], true);
        for field in ["text", "receipt", "trm_cost"] {
            assert_eq!(repeated[field], first[field], "{field}");
        }
    }
    let up = Up::start(&pair.b).await;
    let (status, http) = up
        .http(&pair.b)
        .post(CHAT, &chat("say it once", "order-1"))
        .await;
    assert_eq!(
        (status, &http["x_tirami"]["receipt"]),
        (200, &first["receipt"]),
        "{http}"
    );
    assert_eq!(pair.agree().await, cost, "paid once");
    let mut other = input;
    other["prompt"] = "say something else".into();
    mcp.refused("chat", other)
        .await
        .is("idempotency_key_reused", &["order-1", "new key"]);
    let other = chat("say something else", "order-1");
    let (status, refused) = up.http(&pair.b).post(CHAT, &other).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("idempotency_key_reused"))
    );
    assert_eq!(pair.agree().await, cost, "still paid once");
    assert_eq!(pair.b.receipts("purchase").await.len(), 1);
}

#[tokio::test]
async fn equal_keys_at_the_same_time_pay_once() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let (http, mcp) = (up.http(&pair.b), Mcp::start(&pair.b).await);
    let body = chat("all at once", "k");
    let input = json!({ "prompt": "all at once", "model": "echo", "idempotency_key": "k" });
    let ((_, a), (_, b), c, d) = tokio::join!(
        http.post(CHAT, &body),
        http.post(CHAT, &body),
        mcp.ask("chat", input.clone()),
        mcp.ask("chat", input),
    );
    for receipt in [&b["x_tirami"]["receipt"], &c["receipt"], &d["receipt"]] {
        assert_eq!(&a["x_tirami"]["receipt"], receipt);
    }
    assert_eq!(pair.agree().await, trm(&c["trm_cost"]));
}

#[tokio::test]
async fn max_trm_is_never_exceeded() {
    let pair = Pair::start().await;
    let mcp = Mcp::start(&pair.b).await;
    let before = pair.b.books().await;
    let mut input = question(100, "dear");
    input["max_trm"] = "0.35".into();
    let refused = mcp.refused("chat", input.clone()).await;
    let said = refused.is(
        "above_max_trm",
        &["max_trm is 0.35 TRM", "max_tokens", "would fit"],
    );
    let mut body = chat(input["prompt"].as_str().unwrap(), "dear-too");
    body["max_tokens"] = 100.into();
    body["x_tirami"]["max_trm"] = "0.35".into();
    let up = Up::start(&pair.b).await;
    let (status, _) = up.http(&pair.b).post(CHAT, &body).await;
    assert_eq!(status, 402);
    let words = [
        "chat",
        input["prompt"].as_str().unwrap(),
        "--max-tokens",
        "100",
        "--max-trm",
        "0.35",
    ];
    pair.b
        .refused(&words)
        .await
        .is(3, "above_max_trm", &["max_trm is 0.35 TRM"]);
    assert_eq!(pair.b.books().await, before);
    // What it says would fit, fits; and without a length the length is what fits.
    input["max_tokens"] = fitting(&said).into();
    input["idempotency_key"] = "smaller".into();
    let answer = mcp.ask("chat", input.clone()).await;
    assert!(trm(&answer["trm_cost"]) <= "0.35".parse().unwrap());
    input.as_object_mut().unwrap().remove("max_tokens");
    input["idempotency_key"] = "capped".into();
    let answer = mcp.ask("chat", input).await;
    assert!(trm(&answer["trm_cost"]) <= "0.35".parse().unwrap());
    assert_eq!(
        (&answer["finish_reason"], &answer["capped_by"]),
        (&json!("length"), &json!("max_trm"))
    );
    pair.agree().await;
}

/// The number of tokens that a refusal says would fit.
pub(super) fn fitting(said: &str) -> u64 {
    let (_, rest) = said.split_once("max_tokens ").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number in: {said}"))
}
