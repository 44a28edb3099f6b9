//! Who is there and what they sell.

use tirami_agent_runtime::ops::{Models, Peers};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::table::{Align, Table};
use crate::access::Need;

pub(super) async fn peers(context: &Context) -> Result<Exit, Problem> {
    let answer = context.ask(Need::Mesh, Peers {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(Exit::Ok);
    }
    if answer.peers.is_empty() {
        out.line("no other node is known; invite one with 'tirami-agent ticket'");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("node", Align::Whole),
        ("role", Align::Whole),
        ("answers", Align::Whole),
        ("path", Align::Whole),
        ("ms", Align::Right),
        ("last heard", Align::Whole),
        ("sells", Align::Left),
    ]);
    for peer in answer.peers {
        table.row([
            peer.node.short(),
            peer.role,
            if peer.connected { "yes" } else { "no" }.into(),
            peer.path.unwrap_or_else(|| "none".into()),
            peer.rtt_ms.map(|ms| format!("{ms:.1}")).unwrap_or_default(),
            peer.last_heard
                .map_or_else(|| "never".into(), |at| local_time::minute(&at)),
            peer.models.join(", "),
        ]);
    }
    out.table(&table);
    Ok(Exit::Ok)
}

pub(super) async fn models(context: &Context) -> Result<Exit, Problem> {
    let answer = context.ask(Need::Mesh, Models {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&answer);
        return Ok(Exit::Ok);
    }
    if answer.models.is_empty() {
        out.line("no model here, and no peer that sells one");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("model", Align::Left),
        ("at", Align::Whole),
        ("context", Align::Right),
        ("of par", Align::Right),
        ("TRM for 100 in, 100 out", Align::Right),
    ]);
    for model in answer.models {
        let (at, price, cost) = if model.local {
            ("here".to_owned(), "free".to_owned(), "0".to_owned())
        } else {
            let ppm = model.multiplier_ppm;
            let percent = format!("{}.{:04} %", ppm / 10_000, ppm % 10_000);
            (
                model.provider.short(),
                percent,
                model.trm_per_100_in_100_out.to_string(),
            )
        };
        table.row([model.name, at, model.context.to_string(), price, cost]);
    }
    out.table(&table);
    Ok(Exit::Ok)
}
