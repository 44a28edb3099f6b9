//! Who this node is.

use tirami_agent_runtime::data_dir;
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
    for key in &identity.keys_before {
        rows.push(("key before", key.to_string()));
    }
    let dir = context.data_dir()?;
    let key = data_dir::successor_key(&dir);
    rows.push((
        "successor",
        match identity.successor.as_str() {
            "never" => "none was named when the chain began: the key cannot be changed".to_owned(),
            _ if key.exists() => format!("named; its key is {}", key.display()),
            _ => "named; its key is kept elsewhere".to_owned(),
        },
    ));
    match identity.owner_did {
        Some(did) => rows.push(("owner", did)),
        None => rows.push(("owner", "none; run 'tirami-agent owner init'".to_owned())),
    }
    out.facts(&rows);
    Ok(Exit::Ok)
}
