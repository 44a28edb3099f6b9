//! The network this node belongs to.

use tirami_agent_runtime::ops::Network;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use crate::access::Need;

pub(super) async fn network(context: &Context) -> Result<Exit, Problem> {
    let network = context.ask(Need::Books, Network {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&network);
        return Ok(Exit::Ok);
    }
    let mut rows = vec![
        ("network", format!("{} ({})", network.network, network.name)),
        ("founded", local_time::exact(&network.founded_at)),
    ];
    for issuer in &network.issuers {
        rows.push((
            "issuer",
            format!("{}, at most {} TRM", issuer.node, issuer.trm_quota),
        ));
    }
    for witness in &network.witnesses {
        rows.push(("witness", witness.to_string()));
    }
    let trust = if network.witnesses.len() == 1 {
        "1 of 1: its operator is trusted".to_owned()
    } else {
        format!("{} of {}", network.quorum, network.witnesses.len())
    };
    rows.push(("certify", trust));
    rows.push((
        "made here",
        format!("{} TRM, {} retired", network.trm_made, network.trm_retired),
    ));
    rows.push((
        "chain here",
        format!(
            "{} entries, {} TRM spendable",
            network.entries, network.trm_spendable
        ),
    ));
    rows.push(("head", network.head.to_string()));
    rows.push(("waiting here", format!("{} TRM", network.trm_waiting)));
    if let Some(why) = network.uncertified {
        rows.push(("not certified", why));
    }
    for head in &network.certified {
        rows.push((
            "certified",
            format!(
                "{}: {} entries, {} TRM",
                head.node, head.seq, head.trm_spendable
            ),
        ));
    }
    rows.push((
        "known here",
        format!("{} chains, root {:?}", network.chains, network.root),
    ));
    for fraud in &network.frauds {
        rows.push((
            "fraud",
            format!("{}: {}", fraud.says.accused, fraud.says.fraud),
        ));
    }
    out.facts(&rows);
    Ok(Exit::Ok)
}
