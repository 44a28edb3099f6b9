//! Mandates that travel to other machines: handing one out, taking one, and giving back what is left.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use tirami_agent_runtime::ops::{
    AcceptMandate, GiveBackMandate, HandOutMandate, HandOutOutput, HandedOutOutput, HeldOutput,
    Models, ReclaimAllMandates, ReclaimMandate, RefusedOutput, TravellingMandates,
    TravellingOutput,
};
use tirami_manifest::{Amount, GrantId, NodeId};

use super::confirm::confirm;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::grant_id::{self, Written};
use super::local_time;
use super::table::{Align, Table};
use super::terms::{Model, ModelNames};
use crate::access::Need;

/// Most bytes of a mandate's text: one of the longest layout, in base64, with room for its prefix.
const TEXT_MAX: u64 = 32 * 1_024;

#[derive(Debug, Args)]
pub(super) struct HandOutArgs {
    /// The node that may spend it: 64 hexadecimal digits, as its 'tirami-agent status' shows
    node: NodeId,
    /// How much in all; set aside at once
    #[arg(value_name = "TRM", allow_hyphen_values = true)]
    amount: Amount,
    /// The one provider that may accept it, also while this node is away; without it this node is
    /// asked before each job
    #[arg(long, value_name = "NODE")]
    pin: Option<NodeId>,
    /// For how long: 7d, 12h, 30m, 90s; 7d, or as long as what it comes from, unless said
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    valid: Option<u64>,
    /// Most that one request may take
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    per_request: Option<Amount>,
    /// Most that 10^9 FLOP may cost
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    price_ceiling: Option<Amount>,
    /// For this model only, by name or id; repeat it for more, up to 8
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// To be paid to this provider only; repeat it for more, up to 8
    #[arg(long, value_name = "NODE")]
    payee: Vec<NodeId>,
    /// How often it may be handed on
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: u8,
    /// Hand on part of this mandate, which was handed here, in place of an agent's own
    #[arg(long, value_name = "MANDATE")]
    from: Option<Written>,
    /// Which agent hands it out, by name; the one that asks when absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Name this: asking again with the same key hands nothing out twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// The line that was handed out, or '-' to read it from standard input
    #[arg(required_unless_present = "file")]
    text: Option<String>,
    /// Read it from a file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Which agent may spend it, by name; the one that asks when absent
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct MandateArgs {
    /// The mandate: its id or the beginning of it, as 'tirami-agent mandate list' shows
    mandate: Written,
}

#[derive(Debug, Args)]
pub(super) struct ReclaimArgs {
    /// The mandate: its id or the beginning of it, as 'tirami-agent mandate list' shows
    #[arg(required_unless_present = "all")]
    mandate: Option<Written>,
    /// Void every mandate that was handed out here, and take back what is left of each
    #[arg(long, conflicts_with = "mandate")]
    all: bool,
}

/// Reads a duration in whole seconds.
fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a duration; write 7d, 12h, 30m or 90s");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let count: u64 = text
        .strip_suffix(unit)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(wrong)?;
    count.checked_mul(seconds).ok_or_else(wrong)
}

pub(super) async fn hand_out(context: &Context, args: HandOutArgs) -> Result<Exit, Problem> {
    let models: Vec<Model> = args.model.iter().map(|text| Model::parse(text)).collect();
    let names = if models.iter().any(Model::is_name) {
        ModelNames::new(context.ask(Need::Mesh, Models {}).await?.models)
    } else {
        ModelNames::default()
    };
    let models = models.iter().map(|model| names.id(model));
    let from = match &args.from {
        Some(written) => Some(written.id(context).await?),
        None => None,
    };
    let operation = HandOutMandate {
        to: args.node,
        trm_amount: args.amount,
        from,
        agent: args.agent,
        pinned: args.pin,
        per_request_trm: args.per_request,
        price_ceiling_trm: args.price_ceiling,
        models: models.collect::<Result<_, _>>()?,
        payees: args.payee,
        valid_s: args.valid,
        depth_left: args.depth,
        idempotency_key: args.idempotency_key,
    };
    let handed: HandOutOutput = context.ask(Need::Books, operation).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&handed);
        return Ok(Exit::Ok);
    }
    out.line(&handed.text);
    let asked = handed.pinned.map_or_else(
        || "this node is asked before each job".to_owned(),
        |provider| format!("only {} may accept it", provider.short()),
    );
    out.note(&format!(
        "{} TRM for node {} until {}; {asked}",
        handed.trm_amount,
        handed.holder.short(),
        local_time::minute(&handed.expires_at)
    ));
    out.note("give it the line above, for: tirami-agent mandate accept LINE");
    Ok(Exit::Ok)
}

pub(super) async fn accept(context: &Context, args: AcceptArgs) -> Result<Exit, Problem> {
    let text = match (args.file, args.text) {
        (Some(path), _) => {
            let file = std::fs::File::open(&path).map_err(|error| Problem::file(&path, &error))?;
            read(file).map_err(|error| Problem::file(&path, &error))?
        }
        (None, Some(text)) if text == "-" => read(std::io::stdin())
            .map_err(|error| Problem::file("standard input".as_ref(), &error))?,
        (None, text) => text.unwrap_or_default(),
    };
    let agent = args.agent;
    let operation = AcceptMandate { text, agent };
    let held: HeldOutput = context.ask(Need::Books, operation).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&held);
        return Ok(Exit::Ok);
    }
    out.line(&format!(
        "agent {} may spend {} TRM of node {} until {}",
        held.agent,
        held.trm_amount,
        held.payer.short(),
        local_time::minute(&held.expires_at)
    ));
    out.note(&format!(
        "spend it: 'tirami-agent chat --mandate {}'",
        held.mandate
    ));
    Ok(Exit::Ok)
}

fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(TEXT_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What was handed out and what is held here.
pub(super) async fn all(context: &Context) -> Result<TravellingOutput, Problem> {
    context.ask(Need::Books, TravellingMandates {}).await
}

/// The tables of `mandate list`; nothing where there are none.
pub(super) fn list(context: &Context, all: &TravellingOutput) {
    let out = &context.out;
    if !all.handed_out.is_empty() {
        out.line("");
        out.line("handed to other nodes");
        out.table(&handed_out(&all.handed_out));
    }
    if !all.held.is_empty() {
        out.line("");
        out.line("handed here by other nodes");
        out.table(&held(&all.held));
    }
    if !all.refused.is_empty() {
        out.line("");
        out.line("receipts that were refused for good");
        out.table(&refused(&all.refused));
    }
}

fn handed_out(all: &[HandedOutOutput]) -> Table {
    let mut table = Table::new(&[
        ("mandate", Align::Left),
        ("to", Align::Left),
        ("TRM", Align::Amount),
        ("drawn", Align::Amount),
        ("out", Align::Amount),
        ("state", Align::Whole),
    ]);
    for one in all {
        table.row([
            one.mandate.short(),
            one.holder.short(),
            one.trm_amount.to_string(),
            one.trm_drawn.to_string(),
            one.trm_out.to_string(),
            one.state.clone(),
        ]);
    }
    table
}

fn refused(all: &[RefusedOutput]) -> Table {
    let mut table = Table::new(&[
        ("receipt", Align::Left),
        ("by", Align::Left),
        ("TRM", Align::Amount),
        ("at", Align::Left),
        ("reason", Align::Whole),
    ]);
    for one in all {
        table.row([
            one.receipt.short(),
            one.by.short(),
            one.trm_amount.to_string(),
            local_time::minute(&one.at),
            one.reason.clone(),
        ]);
    }
    table
}

fn held(all: &[HeldOutput]) -> Table {
    let mut table = Table::new(&[
        ("mandate", Align::Left),
        ("agent", Align::Left),
        ("payer", Align::Left),
        ("TRM", Align::Amount),
        ("free", Align::Amount),
        ("ends", Align::Left),
        ("state", Align::Whole),
    ]);
    for one in all {
        table.row([
            one.mandate.short(),
            one.agent.clone(),
            one.payer.short(),
            one.trm_amount.to_string(),
            one.trm_free.to_string(),
            local_time::minute(&one.expires_at),
            one.state.clone(),
        ]);
    }
    table
}

/// One of them.
pub(super) async fn show(context: &Context, id: GrantId) -> Result<Exit, Problem> {
    let all = all(context).await?;
    let out = &context.out;
    if let Some(one) = all.handed_out.iter().find(|one| one.mandate == id) {
        if out.is_json() {
            out.json(one);
        } else {
            out.facts(&facts_of_handed_out(one));
        }
    } else if let Some(one) = all.held.iter().find(|one| one.mandate == id) {
        if out.is_json() {
            out.json(one);
        } else {
            out.facts(&facts_of_held(one));
        }
    } else {
        return Err(grant_id::unknown(&id.to_string()));
    }
    Ok(Exit::Ok)
}

fn pin(pinned: Option<&NodeId>, else_asked: &str) -> String {
    pinned.map_or_else(|| format!("nobody; {else_asked}"), ToString::to_string)
}

fn facts_of_handed_out(one: &HandedOutOutput) -> Vec<(&'static str, String)> {
    vec![
        ("mandate", one.mandate.to_string()),
        ("handed out by", format!("agent {}", one.agent)),
        ("to", one.holder.to_string()),
        ("pinned to", pin(one.pinned.as_ref(), "this node is asked")),
        ("in all", format!("{} TRM", one.trm_amount)),
        ("drawn", format!("{} TRM", one.trm_drawn)),
        ("came back", format!("{} TRM", one.trm_back)),
        ("still out", format!("{} TRM", one.trm_out)),
        ("ends", local_time::exact(&one.expires_at)),
        ("state", one.state.clone()),
    ]
}

fn facts_of_held(one: &HeldOutput) -> Vec<(&'static str, String)> {
    vec![
        ("mandate", one.mandate.to_string()),
        ("spent by", format!("agent {}", one.agent)),
        ("paid by", one.payer.to_string()),
        ("pinned to", pin(one.pinned.as_ref(), "its payer is asked")),
        ("in all", format!("{} TRM", one.trm_amount)),
        ("free", format!("{} TRM", one.trm_free)),
        ("one request", format!("{} TRM at most", one.trm_left)),
        ("handed on", format!("{} times more", one.depth_left)),
        ("ends", local_time::exact(&one.expires_at)),
        ("state", one.state.clone()),
    ]
}

pub(super) async fn reclaim(context: &Context, args: ReclaimArgs) -> Result<Exit, Problem> {
    let mandate = match &args.mandate {
        Some(written) => written.id(context).await?,
        None => return reclaim_all(context).await,
    };
    let question = format!(
        "This ends the mandate {} for whoever holds it or part of it.",
        mandate.short()
    );
    confirm(context, &question)?;
    let operation = ReclaimMandate { mandate };
    let reclaimed = context.ask(Need::Mesh, operation).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&reclaimed);
        return Ok(Exit::Ok);
    }
    let after = &reclaimed.mandate;
    out.line(&format!(
        "{} TRM came back; {} of {} TRM were drawn",
        reclaimed.trm_came_back, after.trm_drawn, after.trm_amount
    ));
    if !after.trm_out.is_zero() {
        out.note(&format!(
            "{} TRM are in use, or their receipts have not arrived: ask again later",
            after.trm_out
        ));
    }
    Ok(Exit::Ok)
}

async fn reclaim_all(context: &Context) -> Result<Exit, Problem> {
    let question = "This ends every mandate that was handed out here, for whoever holds it.";
    confirm(context, question)?;
    let reclaimed = context.ask(Need::Mesh, ReclaimAllMandates {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&reclaimed);
    } else {
        out.line(&format!("{} TRM came back", reclaimed.trm_came_back));
        out.table(&handed_out(&reclaimed.mandates));
        for failure in &reclaimed.failures {
            let hint = failure.hint.as_deref().unwrap_or_default();
            out.note(&format!("{}; {hint}", failure.message));
        }
    }
    // What could not be taken back is still out.
    Ok(if reclaimed.failures.is_empty() {
        Exit::Ok
    } else {
        Exit::Failure
    })
}

pub(super) async fn give_back(context: &Context, args: MandateArgs) -> Result<Exit, Problem> {
    let mandate = args.mandate.id(context).await?;
    let question = format!("This node spends no more under {}.", mandate.short());
    confirm(context, &question)?;
    let operation = GiveBackMandate { mandate };
    let given = context.ask(Need::Mesh, operation).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&json!(given));
        return Ok(Exit::Ok);
    }
    out.line(&format!(
        "{} TRM given back; whoever handed them out takes them back with: tirami-agent mandate \
         reclaim {}",
        given.trm_given_back, given.mandate.mandate
    ));
    if let Some(why) = &given.unconfirmed {
        out.note(&format!("the payer did not confirm that: {why}"));
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::fits;

    #[test]
    fn a_duration_is_a_count_and_a_unit() {
        let cases = [
            ("7d", 604_800),
            ("12h", 43_200),
            ("30m", 1_800),
            ("90s", 90),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for bad in [
            "",
            "7",
            "d",
            "-1d",
            "+1d",
            "1w",
            "1 d",
            "1.5h",
            "99999999999999999999d",
        ] {
            assert!(duration(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(
            duration("213503982334602d").is_err(),
            "more than there are seconds"
        );
    }

    #[test]
    fn the_largest_mandates_fit_the_screen() {
        let most = Amount::from_utrm(20_999_999_999_999_999).unwrap();
        let handed = HandedOutOutput {
            mandate: GrantId::from_bytes([0xab; 32]),
            agent: "x".repeat(32),
            pays: true,
            holder: NodeId::from_bytes([0xcd; 32]),
            pinned: None,
            trm_amount: most,
            trm_drawn: most,
            trm_back: most,
            trm_out: most,
            expires_at: "2026-01-31T12:00:00.250Z".into(),
            state: "expired".into(),
        };
        fits(&handed_out(&[handed]));
        let one = HeldOutput {
            mandate: GrantId::from_bytes([0xab; 32]),
            agent: "x".repeat(32),
            payer: NodeId::from_bytes([0xcd; 32]),
            pinned: None,
            trm_amount: most,
            trm_free: most,
            trm_left: most,
            depth_left: 3,
            expires_at: "2026-01-31T12:00:00.250Z".into(),
            state: "given_back".into(),
        };
        fits(&held(&[one]));
    }
}
