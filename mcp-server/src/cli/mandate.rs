//! Mandates: a tree from the owner down to every spender. What an agent grants adds nothing to what
//! it may do itself.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::json;
use tirami_agent_runtime::ops::{
    GrantMandate, MandateOutput, Mandates, MandatesOutput, RevokeMandate,
};
use tirami_manifest::mandate::Terms;
use tirami_manifest::owner::Decision;

use super::budget::{self, present};
use super::confirm::confirm;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::grant_id::Written;
use super::local_time;
use super::output::Style;
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use super::table::{Align, Table};
use super::terms::TermArgs;
use super::token::agent_name;
use super::travelling::{self, AcceptArgs, HandOutArgs, MandateArgs, ReclaimArgs};
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum MandateCommand {
    /// Give an agent part of what another may spend
    Grant(Box<GrantArgs>),
    /// Who may spend, as a tree
    List,
    /// One agent's mandate and what is left of it, or one that travels
    Show(ShowArgs),
    /// Take a mandate away, and those of every agent below
    Revoke(NameArgs),
    /// Hand part of a mandate to another node, as one line of text
    HandOut(Box<HandOutArgs>),
    /// Take a mandate that another node handed out to this one
    Accept(AcceptArgs),
    /// Take back what is left of a mandate that was handed to another node
    Reclaim(ReclaimArgs),
    /// Give back what is left of a mandate that is held here
    GiveBack(MandateArgs),
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The agent's name
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The agent's name, or the id of a mandate that travels, or the beginning of it
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// The agent's name; it is created when it is new
    #[arg(value_parser = agent_name)]
    name: String,
    /// Out of whose mandate, by name; that of the agent that asks when absent
    #[arg(long, value_name = "NAME")]
    parent: Option<String>,
    /// Grant as the owner: without --parent an account of its own, also anew after a revocation
    #[arg(long)]
    owner: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
    #[command(flatten)]
    terms: TermArgs,
}

pub(super) async fn run(context: &Context, command: MandateCommand) -> Result<Exit, Problem> {
    match command {
        MandateCommand::Grant(args) => Box::pin(grant(context, *args)).await,
        MandateCommand::List => list(context).await,
        MandateCommand::Show(args) => show(context, args.name).await,
        MandateCommand::Revoke(args) => revoke(context, args.name).await,
        MandateCommand::HandOut(args) => Box::pin(travelling::hand_out(context, *args)).await,
        MandateCommand::Accept(args) => travelling::accept(context, args).await,
        MandateCommand::Reclaim(args) => travelling::reclaim(context, args).await,
        MandateCommand::GiveBack(args) => travelling::give_back(context, args).await,
    }
}

async fn grant(context: &Context, args: GrantArgs) -> Result<Exit, Problem> {
    let straight = args.owner && args.parent.is_none();
    let (terms, parent) = if straight {
        (Terms::standard(), None)
    } else {
        let parent = present(context, args.parent.clone()).await?;
        (parent.terms, Some(parent.agent_id))
    };
    let terms = args.terms.over(context, &terms).await?;
    let granted = if args.owner {
        let decision = Decision::Grant {
            agent_name: args.name.clone(),
            parent,
            terms: Box::new(terms),
        };
        decide(context, &args.passphrase, decision).await?;
        one(context, &args.name).await?
    } else {
        let grant = GrantMandate {
            agent: args.name,
            parent: args.parent,
            terms,
        };
        context.ask(Need::Books, grant).await?
    };
    let out = &context.out;
    if out.is_json() {
        out.json(&granted);
        return Ok(Exit::Ok);
    }
    out.line(&format!(
        "agent {} has a mandate from {}; one request may cost {} TRM now",
        granted.agent,
        from(&granted),
        granted.trm_left
    ));
    out.note(&format!(
        "the owner makes its token: 'tirami-agent token create {}'",
        granted.agent
    ));
    Ok(Exit::Ok)
}

fn from(mandate: &MandateOutput) -> String {
    let parent = mandate.parent.as_ref();
    parent.map_or_else(|| "the owner".to_owned(), |name| format!("agent {name}"))
}

async fn every(context: &Context) -> Result<MandatesOutput, Problem> {
    context.ask(Need::Books, Mandates {}).await
}

async fn one(context: &Context, name: &str) -> Result<MandateOutput, Problem> {
    let mandates = every(context).await?.mandates;
    let found = mandates.into_iter().find(|mandate| mandate.agent == name);
    found.ok_or_else(|| {
        Problem::new(
            tirami_agent_runtime::FailureCode::NotFound,
            format!("there is no agent named '{name}' here or below"),
        )
        .hint("'tirami-agent mandate list' shows them")
    })
}

async fn list(context: &Context) -> Result<Exit, Problem> {
    let mandates = every(context).await?;
    let travelling = travelling::all(context).await?;
    if context.out.is_json() {
        context.out.json(&json!({
            "mandates": mandates.mandates,
            "handed_out": travelling.handed_out,
            "held": travelling.held,
        }));
    } else {
        context.out.table(&table(&mandates.mandates));
        travelling::list(context, &travelling);
    }
    Ok(Exit::Ok)
}

fn table(mandates: &[MandateOutput]) -> Table {
    let mut table = Table::new(&[
        ("agent", Align::Left),
        ("state", Align::Whole),
        ("lifetime, TRM", Align::Amount),
        ("used", Align::Amount),
        ("left now", Align::Amount),
    ]);
    for (depth, mandate) in tree(mandates) {
        table.row([
            format!("{}{}", "  ".repeat(depth), mandate.agent),
            state(mandate).to_owned(),
            mandate.terms.limits.lifetime_trm.to_string(),
            mandate.trm_used_lifetime.to_string(),
            mandate.trm_left.to_string(),
        ]);
    }
    table
}

fn state(mandate: &MandateOutput) -> &'static str {
    match (&mandate.revoked_at, mandate.valid) {
        (Some(_), _) => "revoked",
        (None, false) => "cut off",
        (None, true) => "valid",
    }
}

/// The mandates with their depth, each below the one that granted it.
fn tree(mandates: &[MandateOutput]) -> Vec<(usize, &MandateOutput)> {
    let shown: Vec<&str> = mandates.iter().map(|m| m.agent.as_str()).collect();
    let mut below: BTreeMap<Option<&str>, Vec<&MandateOutput>> = BTreeMap::new();
    for mandate in mandates.iter().rev() {
        // Who is above a caller is not shown to it; those it sees first stand at the left.
        let parent = mandate.parent.as_deref();
        let parent = parent.filter(|parent| shown.contains(parent));
        below.entry(parent).or_default().push(mandate);
    }
    let mut waiting: Vec<(usize, &MandateOutput)> = Vec::new();
    let roots = below.remove(&None).unwrap_or_default();
    waiting.extend(roots.into_iter().map(|mandate| (0, mandate)));
    let mut ordered = Vec::new();
    while let Some((depth, mandate)) = waiting.pop() {
        ordered.push((depth, mandate));
        let children = below.remove(&Some(mandate.agent.as_str()));
        let children = children.unwrap_or_default().into_iter();
        waiting.extend(children.map(|child| (depth + 1, child)));
    }
    ordered
}

async fn show(context: &Context, name: String) -> Result<Exit, Problem> {
    let mandate = match (one(context, &name).await, name.parse::<Written>()) {
        (Ok(mandate), _) => mandate,
        // No agent has that name.
        (Err(_), Ok(written)) => {
            return travelling::show(context, written.id(context).await?).await;
        }
        (Err(problem), Err(_)) => return Err(problem),
    };
    if context.out.is_json() {
        context.out.json(&mandate);
        return Ok(Exit::Ok);
    }
    budget::show(context, &present(context, Some(name)).await?);
    let granted = format!(
        "{} by {} (epoch {})",
        local_time::exact(&mandate.granted_at),
        from(&mandate),
        mandate.epoch
    );
    context.out.facts(&[("granted", granted)]);
    if let Some(at) = &mandate.revoked_at {
        let text = format!("since {}", local_time::exact(at));
        context.out.marked(Style::Bad, "revoked:", &text);
    } else if !mandate.valid {
        let text = "a mandate above it was revoked or granted anew";
        context.out.marked(Style::Bad, "cut off:", text);
    }
    Ok(Exit::Ok)
}

async fn revoke(context: &Context, name: String) -> Result<Exit, Problem> {
    let mandates = every(context).await?.mandates;
    // For a name that nobody has there is nothing to confirm.
    if mandates.iter().any(|mandate| mandate.agent == name) {
        let gone = below(&mandates, &name);
        confirm(
            context,
            &format!("This ends the mandates of {}.", gone.join(", ")),
        )?;
    }
    let revoked = context
        .ask(Need::Books, RevokeMandate { agent: name })
        .await?;
    if context.out.is_json() {
        context.out.json(&revoked);
    } else {
        let agents = revoked.agents.join(", ");
        context
            .out
            .line(&format!("these spend nothing any more: {agents}"));
    }
    Ok(Exit::Ok)
}

/// The agent and everybody below it.
fn below<'a>(mandates: &'a [MandateOutput], name: &'a str) -> Vec<&'a str> {
    let mut gone = vec![name];
    let mut next = 0;
    while let Some(parent) = gone.get(next).copied() {
        let children = mandates
            .iter()
            .filter(|mandate| mandate.parent.as_deref() == Some(parent));
        gone.extend(children.map(|child| child.agent.as_str()));
        next += 1;
    }
    gone
}

#[cfg(test)]
mod tests {
    use tirami_manifest::{AgentId, Amount};

    use super::*;
    use crate::cli::table::fits;

    fn mandate(agent: &str, parent: Option<&str>) -> MandateOutput {
        let most = Amount::from_utrm(20_999_999_999_999_999).unwrap();
        let mut terms = Terms::standard();
        terms.limits.lifetime_trm = most;
        MandateOutput {
            agent: agent.into(),
            agent_id: AgentId::from_bytes([1; 16]),
            parent: parent.map(str::to_owned),
            payer: "main".into(),
            depth: 0,
            epoch: 1,
            granted_at: "2026-01-31T12:00:00.250Z".into(),
            revoked_at: Some("2026-01-31T12:00:00.250Z".into()),
            valid: false,
            trm_used_lifetime: Amount::from_utrm(1).unwrap(),
            trm_left: most,
            expires_at: None,
            terms,
        }
    }

    #[test]
    fn the_tree_stands_below_its_roots_and_fits_the_screen() {
        let deep = "x".repeat(32);
        let mandates = [
            mandate("main", None),
            mandate("other", None),
            mandate("a", Some("main")),
            mandate("b", Some("other")),
            mandate(&deep, Some("a")),
            mandate("seen", Some("hidden")),
        ];
        let names: Vec<_> = tree(&mandates)
            .into_iter()
            .map(|(depth, mandate)| (depth, mandate.agent.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                (0, "main"),
                (1, "a"),
                (2, deep.as_str()),
                (0, "other"),
                (1, "b"),
                (0, "seen")
            ]
        );
        fits(&table(&mandates));
        assert_eq!(below(&mandates, "main"), ["main", "a", deep.as_str()]);
    }
}
