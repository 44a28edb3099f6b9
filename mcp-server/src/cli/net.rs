//! How far away a peer is, and whether this node can be reached.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tirami_agent_runtime::ops::{NetCheck, NetCheckOutput, PingPeer, ReachOutput};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::{Output, Style};
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum PeerCommand {
    /// Measure the way to a node: a dial where there is no connection, then round trips
    Ping(PingArgs),
}

#[expect(clippy::doc_markdown, reason = "help is shown as it is written")]
#[derive(Debug, Args)]
pub(super) struct PingArgs {
    /// A node id, the first digits of a known one's, its address, or NODE_ID@ADDRESS:PORT
    #[arg(value_name = "NODE")]
    peer: String,
    /// How many round trips, one after the other [default: 4]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    count: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(super) enum NetCommand {
    /// Look whether this node can be reached, and whom it reaches
    #[command(
        after_help = "Dials each address of the mesh port from a second node on this machine, asks the relay \
                      where there is one, and pings every known node. Where no node runs, one is \
                      started for it. Ends with 7 when nobody can reach this node, and with 0 otherwise, \
                      also when a peer is away."
    )]
    Check,
}

pub(super) async fn peer(context: &Context, command: PeerCommand) -> Result<Exit, Problem> {
    let PeerCommand::Ping(PingArgs { peer, count }) = command;
    let answer = context.ask(Need::Mesh, PingPeer { peer, count }).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(Exit::Ok);
    }
    let way = match (&answer.path, &answer.to) {
        (Some(path), Some(to)) => format!("{path}, {to}"),
        _ => "the connection has ended since".to_owned(),
    };
    let connection = if answer.was_connected {
        format!("there was one; a stream took {:.1} ms", answer.open_ms)
    } else {
        format!("dialled in {:.1} ms", answer.open_ms)
    };
    let trips: Vec<String> = answer.rtt_ms.iter().map(|ms| format!("{ms:.1}")).collect();
    out.facts(&[
        ("node", answer.node.to_string()),
        ("path", way),
        ("connection", connection),
        ("round trips", format!("{} ms", trips.join(", "))),
        (
            "least, mean, most",
            format!(
                "{:.1}, {:.1}, {:.1} ms",
                answer.rtt_min_ms, answer.rtt_mean_ms, answer.rtt_max_ms
            ),
        ),
    ]);
    Ok(Exit::Ok)
}

pub(super) async fn net(context: &Context, command: NetCommand) -> Result<Exit, Problem> {
    let NetCommand::Check = command;
    let session = context.open(Need::Mesh).await?;
    let running = session.access.is_attached().await;
    let progress = context.out.progress("looking at the network");
    let answer = session.call(NetCheck {}).await;
    drop(progress);
    session.close().await;
    let answer = answer?;
    if context.out.is_json() {
        let mut answer = json!(answer);
        if let Value::Object(fields) = &mut answer {
            fields.insert("running".to_owned(), running.into());
        }
        context.out.json(&answer);
    } else {
        show(&context.out, &answer, running);
    }
    Ok(if answer.reachable {
        Exit::Ok
    } else {
        Exit::Unreachable
    })
}

fn show(out: &Output, answer: &NetCheckOutput, running: bool) {
    if running {
        mark(out, true, &format!("node: it runs, process {}", answer.pid));
    } else {
        let text = "node: none runs, so one was started for this; start it with 'tirami-agent up'";
        out.marked(Style::Warn, "warn", text);
    }
    reached(
        out,
        "loopback",
        &answer.loopback,
        "a firewall keeps UDP out within this machine",
    );
    if answer.addresses.is_empty() {
        mark(out, false, "mesh port: no address");
    }
    for address in &answer.addresses {
        let way_out = "let UDP to it through the firewall, or choose another --mesh-listen address";
        reached(out, "mesh port", address, way_out);
    }
    match &answer.relay {
        Some(relay) => {
            let way_out = "see that it runs there and that its address is the one in --relay";
            reached(out, "relay", relay, way_out);
        }
        None => mark(out, true, "relay: none"),
    }
    for peer in &answer.peers {
        let way = peer.path.as_deref().unwrap_or("no path");
        let (id, ms) = (peer.node.short(), peer.took_ms);
        match &peer.problem {
            None => mark(out, true, &format!("peer {id}: {way}, {ms:.1} ms")),
            Some(problem) => {
                out.marked(
                    Style::Warn,
                    "warn",
                    &format!("peer {id}: {problem}; {ms:.1} ms"),
                );
            }
        }
    }
    if answer.peers.is_empty() {
        mark(out, true, "peers: none is known");
    }
    if !answer.reachable {
        out.line("nobody can reach this node");
    }
}

fn reached(out: &Output, name: &str, reach: &ReachOutput, way_out: &str) {
    let ms = reach.took_ms;
    match &reach.problem {
        None => mark(out, true, &format!("{name}: {}, {ms:.1} ms", reach.to)),
        Some(problem) => {
            mark(
                out,
                false,
                &format!("{name}: {}: {problem}; {ms:.1} ms", reach.to),
            );
            out.line(&format!("     > {way_out}"));
        }
    }
}

fn mark(out: &Output, good: bool, text: &str) {
    if good {
        out.marked(Style::Good, "ok  ", text);
    } else {
        out.marked(Style::Bad, "FAIL", text);
    }
}
