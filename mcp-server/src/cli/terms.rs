//! The terms of a mandate on the command line: a flag for each, or the whole as JSON.
//!
//! What is not named stays as it is. `none` lifts a term that may be absent.

mod show;
mod words;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use tirami_agent_runtime::ops::Models;
use tirami_manifest::mandate::{Action, List, PotRule, QuietHours, Terms};
use tirami_manifest::{Amount, NodeId};

use super::context::Context;
use super::exit::Problem;
use crate::access::Need;
use crate::tools::input;
pub(super) use show::show;
use words::{End, Lift, Pots, Rule};
pub(super) use words::{Model, ModelNames, action, pot};

/// Longest file of terms or of a request; chosen, as large as a request may be.
const FILE_MAX: u64 = 1_024 * 1_024;

#[expect(clippy::doc_markdown, reason = "help is shown as it is written")]
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Terms of the mandate; 'none' lifts one that may be absent")]
pub(super) struct TermArgs {
    /// Most that one request may cost
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    per_request: Option<Amount>,
    /// Most in any 60 seconds
    #[arg(long, value_name = "TRM|none", allow_hyphen_values = true)]
    minute: Option<Lift<Amount>>,
    /// Most in any 60 minutes
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    hour: Option<Amount>,
    /// Most in any 24 hours
    #[arg(long, value_name = "TRM|none", allow_hyphen_values = true)]
    day: Option<Lift<Amount>>,
    /// Most in all
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    lifetime: Option<Amount>,
    /// Most to one payee in any 24 hours
    #[arg(long, value_name = "TRM|none", allow_hyphen_values = true)]
    payee_day: Option<Lift<Amount>>,
    /// Most requests set aside at once
    #[arg(long, value_name = "N|none")]
    in_flight: Option<Lift<u32>>,
    /// What must stay in the account
    #[arg(long, value_name = "TRM|none", allow_hyphen_values = true)]
    reserve: Option<Lift<Amount>>,
    /// Most that 10^9 FLOP may cost
    #[arg(long, value_name = "TRM|none", allow_hyphen_values = true)]
    price_ceiling: Option<Lift<Amount>>,
    /// Requests above this wait for the owner
    #[arg(long, value_name = "TRM|none", allow_hyphen_values = true)]
    approval_above: Option<Lift<Amount>>,
    /// So many failed purchases in a row stop spending for a minute
    #[arg(long, value_name = "N|none")]
    errors_in_row: Option<Lift<u32>>,
    /// Most purchases in any 60 seconds
    #[arg(long, value_name = "N|none")]
    spends_per_minute: Option<Lift<u32>>,
    /// Most times that the same request may be bought in 10 minutes, up to 32
    #[arg(long, value_name = "N|none")]
    same_request: Option<Lift<u32>>,
    /// Only these providers may be paid; repeat it for more, the list is replaced
    #[arg(long, value_name = "NODE|none")]
    allow_payee: Vec<Lift<NodeId>>,
    /// Never this provider; repeat it for more, the list grows
    #[arg(long, value_name = "NODE|none")]
    deny_payee: Vec<Lift<NodeId>>,
    /// Only these models, by name or id; repeat it for more, the list is replaced
    #[arg(long, value_name = "MODEL|none")]
    allow_model: Vec<Lift<Model>>,
    /// Never this model; repeat it for more, the list grows
    #[arg(long, value_name = "MODEL|none")]
    deny_model: Vec<Lift<Model>>,
    /// Only chat or local_chat; repeat it for both, the list is replaced
    #[arg(long, value_name = "ACTION|none")]
    allow_action: Vec<Lift<Action>>,
    /// Never chat, or never local_chat; repeat it for both, the list grows
    #[arg(long, value_name = "ACTION|none")]
    deny_action: Vec<Lift<Action>>,
    /// When nothing may be spent, every day: 22:00-07:00+02:00; UTC without the last part
    #[arg(long, value_name = "HOURS|none")]
    quiet: Option<Lift<QuietHours>>,
    /// From when on nothing may be spent: RFC 3339, a local date, 7d or 12h
    #[arg(long, value_name = "WHEN|none")]
    expires: Option<Lift<End>>,
    /// Which pots pay, in this order: seed, earned, borrowed, restricted
    #[arg(long, value_name = "POT,..|none")]
    pots: Option<Lift<Pots>>,
    /// Which pots pay for something, as in chat:model=NAME:restricted; the first rule that fits counts
    #[arg(long, value_name = "RULE|none")]
    pot_rule: Vec<Lift<Rule>>,
    /// All terms as JSON, from a file or - for standard input; flags change what it says
    #[arg(long, value_name = "FILE")]
    terms: Option<PathBuf>,
}

impl TermArgs {
    /// These terms with what is named here in their place. Asks the node for the ids of models.
    pub(super) async fn over(&self, context: &Context, present: &Terms) -> Result<Terms, Problem> {
        let names = if self.names_models() {
            ModelNames::new(context.ask(Need::Mesh, Models {}).await?.models)
        } else {
            ModelNames::default()
        };
        let terms = match &self.terms {
            Some(path) => from_file(path)?,
            None => present.clone(),
        };
        self.apply(terms, &names)
    }

    /// Refuses to change nothing.
    pub(super) fn must_say_something(&self) -> Result<(), Problem> {
        let Self {
            per_request,
            minute,
            hour,
            day,
            lifetime,
            payee_day,
            in_flight,
            reserve,
            price_ceiling,
            approval_above,
            errors_in_row,
            spends_per_minute,
            same_request,
            allow_payee,
            deny_payee,
            allow_model,
            deny_model,
            allow_action,
            deny_action,
            quiet,
            expires,
            pots,
            pot_rule,
            terms,
        } = self;
        let amounts = [per_request, hour, lifetime].map(Option::is_some);
        let lifted = [
            minute,
            day,
            payee_day,
            reserve,
            price_ceiling,
            approval_above,
        ];
        let counts = [in_flight, errors_in_row, spends_per_minute, same_request];
        let lists = [
            !allow_payee.is_empty() || !deny_payee.is_empty(),
            !allow_model.is_empty() || !deny_model.is_empty(),
            !allow_action.is_empty() || !deny_action.is_empty(),
            !pot_rule.is_empty() || pots.is_some(),
            quiet.is_some() || expires.is_some() || terms.is_some(),
        ];
        let said = amounts
            .into_iter()
            .chain(lifted.map(Option::is_some))
            .chain(counts.map(Option::is_some))
            .chain(lists)
            .any(|said| said);
        if said {
            return Ok(());
        }
        Err(Problem::usage("no term is named, so nothing would change")
            .hint("name one, such as --hour 100; --help lists them"))
    }

    fn names_models(&self) -> bool {
        let lists = self.allow_model.iter().chain(&self.deny_model);
        lists.filter_map(Lift::as_ref).any(Model::is_name)
            || self
                .pot_rule
                .iter()
                .filter_map(Lift::as_ref)
                .any(Rule::names_a_model)
    }

    fn apply(&self, mut terms: Terms, names: &ModelNames) -> Result<Terms, Problem> {
        let limits = &mut terms.limits;
        set(&mut limits.per_request_trm, self.per_request);
        set(&mut limits.hour_trm, self.hour);
        set(&mut limits.lifetime_trm, self.lifetime);
        lift(&mut limits.minute_trm, self.minute.as_ref());
        lift(&mut limits.day_trm, self.day.as_ref());
        lift(&mut limits.payee_day_trm, self.payee_day.as_ref());
        lift(&mut limits.in_flight, self.in_flight.as_ref());
        lift(&mut limits.price_ceiling_trm, self.price_ceiling.as_ref());
        lift(&mut limits.approval_above_trm, self.approval_above.as_ref());
        set(&mut limits.reserve_trm, or_zero(self.reserve.as_ref()));
        let breakers = &mut terms.breakers;
        set(
            &mut breakers.errors_in_row,
            breaker("--errors-in-row", self.errors_in_row.as_ref())?,
        );
        set(
            &mut breakers.spends_per_minute,
            breaker("--spends-per-minute", self.spends_per_minute.as_ref())?,
        );
        set(
            &mut breakers.same_request,
            breaker("--same-request", self.same_request.as_ref())?,
        );
        let scope = &mut terms.scope;
        list(&mut scope.payees, &self.allow_payee, &self.deny_payee);
        list(&mut scope.actions, &self.allow_action, &self.deny_action);
        let (allow, deny) = (names.ids(&self.allow_model)?, names.ids(&self.deny_model)?);
        list(&mut scope.models, &allow, &deny);
        lift(&mut terms.quiet_hours, self.quiet.as_ref());
        if let Some(expires) = &self.expires {
            terms.expires = expires.as_ref().map(|end| end.0);
        }
        self.pots(&mut terms.pots, names)?;
        Ok(terms)
    }

    /// Rules replace the rules there are; `--pots` is the one for everything else, the last.
    fn pots(&self, pots: &mut Vec<PotRule>, names: &ModelNames) -> Result<(), Problem> {
        if self.pot_rule.is_empty() && self.pots.is_none() {
            return Ok(());
        }
        pots.clear();
        for rule in self.pot_rule.iter().filter_map(Lift::as_ref) {
            pots.push(rule.resolve(names)?);
        }
        if let Some(Lift::To(Pots(all))) = &self.pots {
            pots.push(PotRule::only(all.clone()));
        }
        Ok(())
    }
}

fn set<T: Copy>(term: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *term = said;
    }
}

fn lift<T: Copy>(term: &mut Option<T>, said: Option<&Lift<T>>) {
    if let Some(said) = said {
        *term = said.as_ref().copied();
    }
}

fn or_zero(said: Option<&Lift<Amount>>) -> Option<Amount> {
    said.map(|said| said.as_ref().copied().unwrap_or(Amount::ZERO))
}

/// A breaker's number; the terms write none as 0.
fn breaker(flag: &str, said: Option<&Lift<u32>>) -> Result<Option<u32>, Problem> {
    match said {
        Some(Lift::To(0)) => {
            let text = format!("{flag} is 0; write 'none' to lift it");
            Err(Problem::usage(text))
        }
        said => Ok(said.map(|said| said.as_ref().copied().unwrap_or(0))),
    }
}

/// What is allowed replaces the list; what is denied is added to it. `none` empties it first.
fn list<T: Clone + Ord>(list: &mut List<T>, allow: &[Lift<T>], deny: &[Lift<T>]) {
    let named = |said: &[Lift<T>]| -> BTreeSet<T> {
        said.iter().filter_map(Lift::as_ref).cloned().collect()
    };
    if !allow.is_empty() {
        let allow = named(allow);
        list.allow = (!allow.is_empty()).then_some(allow);
    }
    if deny.iter().any(|said| said.as_ref().is_none()) {
        list.deny.clear();
    }
    list.deny.extend(named(deny));
}

fn from_file(path: &Path) -> Result<Terms, Problem> {
    let text = text_of(path)?;
    let wrong = |what: String| Problem::usage(format!("{}: {what}", path.display()));
    let value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    input::read(value).map_err(|failure| wrong(failure.message))
}

/// What a file holds; `-` is standard input.
pub(super) fn text_of(path: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(FILE_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| Problem::file(path, &error))?;
    Ok(text)
}

#[cfg(test)]
mod tests;
