//! The books checked against themselves.

use tirami_agent_runtime::ops::Audit;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::Style;
use crate::access::Need;

pub(super) async fn audit(context: &Context) -> Result<Exit, Problem> {
    let audit = context.ask(Need::Books, Audit {}).await?;
    let out = &context.out;
    let exit = if audit.holds { Exit::Ok } else { Exit::Failure };
    if out.is_json() {
        out.json(&audit);
        return Ok(exit);
    }
    for check in &audit.checks {
        let (style, mark) = if check.holds {
            (Style::Good, "ok  ")
        } else {
            (Style::Bad, "FAIL")
        };
        out.marked(style, mark, &check.rule);
        out.styled(Style::Dim, &format!("     {}", check.detail));
    }
    out.note("every account: 'tirami-agent wallet accounts'");
    Ok(exit)
}
