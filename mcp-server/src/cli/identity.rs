//! Who this node is.

use tirami_agent_runtime::ops::Identity;

use super::context::Context;
use super::exit::{Exit, Problem};
use crate::access::Need;

pub(super) async fn identity(context: &Context) -> Result<Exit, Problem> {
    let identity = context.ask(Need::Books, Identity {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&identity);
        return Ok(Exit::Ok);
    }
    let mut rows = vec![
        ("node", identity.node.to_string()),
        ("did", identity.did),
        ("network", identity.network.to_string()),
        (
            "agent",
            format!("{} ({})", identity.agent, identity.agent_id),
        ),
    ];
    match identity.owner_did {
        Some(did) => rows.push(("owner", did)),
        None => rows.push(("owner", "none; run 'tirami-agent owner init'".to_owned())),
    }
    out.facts(&rows);
    Ok(Exit::Ok)
}
