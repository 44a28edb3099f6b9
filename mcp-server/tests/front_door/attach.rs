//! Several processes on one data directory: one node, one wallet, and no call is lost when the one
//! that has it dies.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::cli::Home;
use crate::http::{CHAT, chat};
use crate::mcp::Mcp;
use crate::nodes::{Pair, Up, question, trm, until, words};

/// A takeover should be done in a second; this machine may be busy with other tests.
const TAKEOVER: Duration = Duration::from_secs(3);

/// The process that has the node of a home.
async fn holder(home: &Home) -> u64 {
    home.ask(&["status"]).await["pid"].as_u64().unwrap()
}

#[tokio::test]
async fn up_and_mcp_share_one_wallet_whoever_comes_first() {
    let pair = Pair::start().await;
    for mcp_first in [false, true] {
        let (up, mcp) = if mcp_first {
            let mcp = Mcp::start(&pair.b).await;
            (Up::start(&pair.b).await, mcp)
        } else {
            let up = Up::start(&pair.b).await;
            (up, Mcp::start(&pair.b).await)
        };
        let http = up.http(&pair.b);
        assert_eq!(up.ready["attached"], mcp_first);
        assert_eq!(
            holder(&pair.b).await,
            if mcp_first { mcp.pid() } else { up.pid() }
        );
        let node = mcp.ask("peers", json!({})).await["node"].clone();
        assert_eq!(node, up.ready["node"]);
        let key = format!("mcp {mcp_first}").replace(' ', "-");
        let bought = mcp.ask("chat", question(3, &key)).await;
        let (_, balance) = http.get("/v1/tirami/balance").await;
        assert_eq!(balance["trm_balance"], bought["trm_balance"]);
        let (status, bought) = http
            .post(CHAT, &chat("one", &format!("http-{mcp_first}")))
            .await;
        assert_eq!(status, 200, "{bought}");
        let balance = mcp.ask("balance", json!({})).await;
        assert_eq!(balance["trm_balance"], bought["x_tirami"]["trm_balance"]);
        pair.agree().await;
        up.kill().await;
        mcp.kill().await;
    }
}

#[tokio::test]
async fn an_attached_process_takes_over_within_about_a_second() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let mcp = Mcp::start(&pair.b).await;
    let bought = mcp.ask("chat", question(3, "before")).await;
    let (node, socket) = (up.ready["node"].clone(), pair.b.data().join("node.sock"));
    assert_eq!(holder(&pair.b).await, up.pid());
    let began = Instant::now();
    up.kill().await;
    assert!(socket.exists(), "what was killed could not clean up");
    let balance = mcp.ask("balance", json!({})).await;
    let took = began.elapsed();
    println!("the takeover took {} ms", took.as_millis());
    assert!(took < TAKEOVER, "{took:?}");
    assert_eq!(balance["trm_balance"], bought["trm_balance"]);
    assert_eq!(holder(&pair.b).await, mcp.pid());
    assert_eq!(mcp.ask("peers", json!({})).await["node"], node);
    mcp.ask("chat", question(3, "after")).await;
    pair.agree().await;
}

#[tokio::test]
async fn an_attached_process_takes_over_though_nobody_asks_it_anything() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let mcp = Mcp::start(&pair.b).await;
    let began = Instant::now();
    up.kill().await;
    // The socket answers again, and nobody but the attached process can have made it do so.
    let socket = pair.b.data().join("node.sock");
    until("somebody listens", async || {
        tokio::net::UnixStream::connect(&socket).await.ok()
    })
    .await;
    let took = began.elapsed();
    assert!(took < TAKEOVER, "{took:?}");
    assert_eq!(holder(&pair.b).await, mcp.pid());
}

#[tokio::test]
async fn a_chat_on_its_way_survives_the_death_of_the_process_that_has_the_node() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let mcp = Mcp::start(&pair.b).await;
    let began = async {
        mcp.progress().await;
        up.kill().await;
    };
    let (answer, ()) = tokio::join!(mcp.ask("chat", question(900, "long")), began);
    assert_eq!(answer["text"].as_str().unwrap().trim(), words(900));
    assert_eq!(holder(&pair.b).await, mcp.pid());
    assert_eq!(pair.agree().await, trm(&answer["trm_cost"]), "paid once");
    let again = mcp.ask("chat", question(900, "long")).await;
    assert_eq!(
        (&again["replayed"], &again["receipt"]),
        (&json!(true), &answer["receipt"])
    );
    assert_eq!(pair.b.receipts("purchase").await.len(), 1);
}

#[tokio::test]
async fn three_processes_hand_the_node_on_until_one_is_left() {
    let pair = Pair::start().await;
    let up = Up::start(&pair.b).await;
    let (one, two) = (Mcp::start(&pair.b).await, Mcp::start(&pair.b).await);
    one.ask("chat", question(3, "one")).await;
    up.kill().await;
    two.ask("chat", question(3, "two")).await;
    one.ask("chat", question(3, "three")).await;
    let heir = holder(&pair.b).await;
    assert!([one.pid(), two.pid()].contains(&heir), "{heir}");
    let (heir, last) = if heir == one.pid() {
        (one, two)
    } else {
        (two, one)
    };
    heir.kill().await;
    last.ask("chat", question(3, "four")).await;
    assert_eq!(holder(&pair.b).await, last.pid());
    assert_eq!(pair.b.receipts("purchase").await.len(), 4);
    pair.agree().await;
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_in_nobodys_way() {
    let home = Home::seller();
    let socket = home.data().join("node.sock");
    let up = Up::start(&home).await;
    let node = up.ready["node"].clone();
    up.kill().await;
    assert!(socket.exists());
    // Short errands do without it, and the next node makes its own, whatever is there.
    assert_eq!(home.ask(&["status"]).await["node"], node);
    let up = Up::start(&home).await;
    assert_eq!(
        (&up.ready["node"], &up.ready["attached"]),
        (&node, &json!(false))
    );
    assert_eq!(holder(&home).await, up.pid());
    up.kill().await;
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "not a socket").unwrap();
    let up = Up::start(&home).await;
    assert_eq!(holder(&home).await, up.pid());
}

#[tokio::test]
async fn processes_that_start_at_once_are_one_node() {
    let home = Home::seller();
    let (one, two, mcp, status, balance) = tokio::join!(
        Up::start(&home),
        Up::start(&home),
        Mcp::start(&home),
        home.ask(&["status"]),
        home.ask(&["balance"]),
    );
    assert_eq!(one.ready["node"], two.ready["node"]);
    assert_eq!(one.ready["node"], status["node"]);
    assert_eq!(one.ready["network"], status["network"]);
    assert_eq!(mcp.ask("peers", json!({})).await["node"], status["node"]);
    assert_eq!(balance["trm_balance"], "0");
}
