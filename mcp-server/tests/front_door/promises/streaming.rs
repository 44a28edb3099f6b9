//! Paid while it streams: who breaks off costs little, and the answer goes on elsewhere.

use std::time::Duration;

use serde_json::Value;
use tirami_manifest::Amount;
use tirami_manifest::ticket::Ticket;

use crate::cli::Home;
use crate::http::{CHAT, chat, text};
use crate::mcp::Mcp;
use crate::nodes::{LOAN, Up, at, question, sum, ticket, trm, until, words};
use crate::wire::{Rules, Wire};

/// A wire that passes everything at once, until it is cut.
const SMOOTH: Rules = Rules {
    delay: Duration::ZERO,
    loss_percent: 0,
    seed: 0,
};

/// Words of an answer that runs long enough to be cut.
const LONG: usize = 900;

/// A founder that sells, a member that sells for less, and one that buys of both.
struct Market {
    founder: Home,
    member: Home,
    buyer: Home,
    founder_up: Up,
    member_up: Up,
}

impl Market {
    async fn open() -> Self {
        let founder = Home::seller();
        let founder_up = Up::start(&founder).await;
        let member = Home::new(&format!(
            "model = \"echo\"\nprice_ppm = 100000\npeers = [\"{}\"]\n",
            at(&founder_up)
        ));
        member.ask(&["join", &ticket(&founder).await]).await;
        let member_up = Up::start(&member).await;
        let buyer = Home::new(&format!(
            "no_local = true\npeers = [\"{}\"]\n",
            at(&member_up)
        ));
        buyer.ask(&["join", &ticket(&founder).await]).await;
        buyer.without_breakers().await;
        Self {
            founder,
            member,
            buyer,
            founder_up,
            member_up,
        }
    }

    /// The same, where the buyer has no other way to the founder and to the member than a wire each.
    async fn by_wire() -> (Self, Wire, Wire) {
        let to = async |up: &Up| {
            let address = up.ready["addresses"][0].as_str().unwrap();
            Wire::to(address.parse().unwrap(), SMOOTH).await
        };
        let founder = Home::new("model = \"echo\"\nmesh_listen = \"[::1]:0\"\n");
        let founder_up = Up::start(&founder).await;
        let member = Home::new(&format!(
            "model = \"echo\"\nprice_ppm = 100000\nmesh_listen = \"[::1]:0\"\npeers = [\"{}\"]\n",
            at(&founder_up)
        ));
        member.ask(&["join", &ticket(&founder).await]).await;
        let member_up = Up::start(&member).await;
        let (by_founder, by_member) = (to(&founder_up).await, to(&member_up).await);
        let buyer = Home::new(&format!(
            "no_local = true\nmesh_listen = \"127.0.0.1:0\"\npeers = [\"{}@{}\"]\n",
            member_up.ready["node"].as_str().unwrap(),
            by_member.front()
        ));
        let mut by_wire: Ticket = ticket(&founder).await.parse().unwrap();
        by_wire.addresses = vec![by_founder.front()];
        buyer.ask(&["join", &by_wire.to_string()]).await;
        buyer.without_breakers().await;
        let market = Self {
            founder,
            member,
            buyer,
            founder_up,
            member_up,
        };
        (market, by_founder, by_member)
    }

    /// Waits until nothing is on its way anywhere, and asserts that all three agree.
    async fn settle(&self) {
        let homes = [&self.founder, &self.member, &self.buyer];
        for home in homes {
            until("nothing is on its way", async || {
                let status = home.ask(&["status"]).await;
                (status["outbox"] == 0 && status["open_holds"] == 0).then_some(())
            })
            .await;
        }
        // What the buyer has and its loan differ by what the two earned, certified or not yet.
        until("what was paid was earned", async || {
            let buyer = self.buyer.ask(&["balance"]).await;
            let has = ["trm_balance", "trm_unclaimed"].map(|part| trm(&buyer[part]));
            let paid = Amount::from_trm(LOAN).checked_sub(sum(has)).unwrap();
            let mut earned = Vec::new();
            for home in [&self.founder, &self.member] {
                let books = home.ask(&["balance"]).await;
                earned.extend(["trm_earned", "trm_waiting"].map(|part| trm(&books[part])));
            }
            (sum(earned) == paid).then_some(())
        })
        .await;
        for home in homes {
            home.audit().await;
        }
    }
}

#[tokio::test]
async fn an_answer_goes_on_at_another_provider_when_the_first_dies() {
    let mut market = Market::open().await;
    let buyer_up = Up::start(&market.buyer).await;
    let http = buyer_up.http(&market.buyer);
    let mut stream = http.stream(&chat(&words(600), "long")).await.unwrap();
    let mut read = String::new();
    for _ in 0..20 {
        read += &stream.piece().await.expect("it has begun");
    }
    market.member_up.kill_now().await;
    let mut last = Value::Null;
    while let Some(event) = stream.next().await {
        read += &text(&event).unwrap_or_default();
        last = event;
    }
    assert_eq!(
        read.trim(),
        words(600).trim(),
        "not a word is missing or doubled"
    );
    let about = &last["x_tirami"];
    assert_eq!(about["provider"], market.founder_up.ready["node"], "{last}");
    let part = &about["parts"][0];
    assert_eq!(part["provider"], market.member_up.ready["node"], "{last}");
    let begun = part["tokens_out"].as_u64().unwrap();
    assert!((20..600).contains(&begun), "{last}");
    // It was paid for the prompt and for what arrived, but for the window at most: 0.0001 and 0.0002 TRM each.
    let of = |tokens: u64| Amount::from_utrm((601 + 2 * tokens) * 100).unwrap();
    let paid = trm(&part["trm_cost"]);
    assert!(paid <= of(begun) && paid >= of(begun - 8), "{last}");
    market.member_up = Up::start(&market.member).await;
    market.settle().await;
}

#[tokio::test]
async fn three_nodes_agree_whoever_of_them_dies_while_they_trade() {
    let mut market = Market::open().await;
    for (round, dies) in ["member", "buyer", "founder", "member"].iter().enumerate() {
        let ask = question(300, &format!("round-{round}"));
        let mcp = Mcp::start(&market.buyer).await;
        let killed = async {
            mcp.progress().await;
            let (up, home) = match *dies {
                "member" => (&mut market.member_up, &market.member),
                "founder" => (&mut market.founder_up, &market.founder),
                _ => return mcp.kill_now(),
            };
            up.kill_now().await;
            *up = Up::start(home).await;
        };
        let (first, ()) = tokio::join!(mcp.call_of_the_dying("chat", ask.clone()), killed);
        if *dies == "member" {
            let first = first.expect("the buyer lives");
            assert!(first.is_ok(), "another goes on: {first:?}");
        }
        // The same request comes to its end, here or in another process.
        let mcp = Mcp::start(&market.buyer).await;
        let answer = until("the purchase comes to its end", async || {
            mcp.call("chat", ask.clone()).await.ok()
        })
        .await;
        assert_eq!(answer["text"].as_str().unwrap().trim(), words(300).trim());
    }
    // What is claimed of the buyer is claimed of a node that runs.
    let _buyer_up = Up::start(&market.buyer).await;
    market.settle().await;
}

#[tokio::test]
async fn three_nodes_agree_whoever_of_them_is_cut_off_while_they_trade() {
    let (market, by_founder, by_member) = Market::by_wire().await;
    let buyer_up = Up::start(&market.buyer).await;
    let http = buyer_up.http(&market.buyer);
    for (round, who) in ["founder", "member", "both"].iter().enumerate() {
        let mut ask = chat(&words(LONG), &format!("round-{round}"));
        ask["model"] = "echo".into();
        let mut stream = http.stream(&ask).await.unwrap();
        let mut read = String::new();
        for _ in 0..20 {
            read += &stream.piece().await.expect("it has begun");
        }
        by_member.cut(*who != "founder");
        by_founder.cut(*who != "member");
        let mut last = Value::Null;
        while let Some(event) = stream.next().await {
            read += &text(&event).unwrap_or_default();
            last = event;
        }
        assert!(words(LONG).starts_with(read.trim()), "{who}: {read}");
        if *who == "both" {
            let message = last["error"]["message"].as_str().unwrap();
            assert!(message.contains("TRM are owed for"), "{last}");
        } else {
            // From the other where the first was cut off, and to the end where only the witness was.
            assert_eq!(read.trim(), words(LONG).trim(), "{who}: {last}");
            let parts = last["x_tirami"]["parts"].as_array().map_or(0, Vec::len);
            assert_eq!(parts, usize::from(*who == "member"), "{who}: {last}");
        }
        by_member.cut(false);
        by_founder.cut(false);
        // The same request comes to its end.
        let whole = until("the purchase comes to its end", async || {
            let mut again = ask.clone();
            again["stream"] = false.into();
            let (status, answer) = http.post(CHAT, &again).await;
            (status == 200).then_some(answer)
        })
        .await;
        let said = whole["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(said.trim(), words(LONG).trim(), "{who}");
        market.settle().await;
    }
}
