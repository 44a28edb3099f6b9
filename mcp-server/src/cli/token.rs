//! Bearer tokens: the main agent's, and those the owner makes and takes back.

use clap::Subcommand;
use serde_json::json;
use tirami_agent_runtime::ops::{KnowsAgent, TokenOutput, Tokens, TokensOutput};
use tirami_agent_runtime::{FailureCode, data_dir, owner};
use tirami_manifest::id::{from_hex, to_hex};
use tirami_manifest::owner::{AGENT_NAME_MAX, Decision};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use super::table::{Align, Table};
use crate::access::Need;

/// Digits of a token's hash that are shown and that name it.
const HASH_START: usize = 8;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print the main agent's token, for HTTP clients on this machine
    Show,
    /// List the tokens: for whom each speaks, and the start of its hash
    List,
    /// Make a token for an agent, new or known; needs the owner
    Create {
        /// The agent's name; it gets a wallet and the default limits when it is new
        #[arg(value_parser = agent_name)]
        agent: String,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
    /// Take a token's right away; needs the owner
    Revoke {
        /// The token, or '-' to read it from standard input
        #[arg(
            value_name = "TOKEN",
            required_unless_present = "hash",
            conflicts_with = "hash"
        )]
        revoked: Option<String>,
        /// One that is lost: the start of its hash, 8 digits or more, as 'tirami-agent token list' shows it
        #[arg(long, value_name = "HEX", value_parser = hash_start)]
        hash: Option<String>,
        #[command(flatten)]
        passphrase: PassphraseArgs,
    },
}

pub(super) fn agent_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if text.is_empty() || text.len() > AGENT_NAME_MAX || !text.chars().all(good) {
        return Err(format!(
            "a name is 1 to {AGENT_NAME_MAX} lower-case letters, digits, '-' and '_'"
        ));
    }
    Ok(text.to_owned())
}

fn hash_start(text: &str) -> Result<String, String> {
    let is_hash = text.chars().all(|c| c.is_ascii_hexdigit());
    if !is_hash || !(HASH_START..=64).contains(&text.len()) {
        return Err(format!(
            "the start of a hash is {HASH_START} to 64 hexadecimal digits"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result<Exit, Problem> {
    match command {
        TokenCommand::Show => show(context).await,
        TokenCommand::Create { agent, passphrase } => create(context, agent, &passphrase).await,
        TokenCommand::List => list(context).await,
        TokenCommand::Revoke {
            revoked,
            hash,
            passphrase,
        } => {
            let (token_hash, agent) = match (revoked, hash) {
                (_, Some(start)) => by_hash(context, &start).await?,
                (Some(token), None) => (by_itself(&token)?, None),
                (None, None) => return Err(Problem::internal("clap asks for one of them")),
            };
            revoke(context, (token_hash, agent), &passphrase).await
        }
    }
}

async fn show(context: &Context) -> Result<Exit, Problem> {
    let session = context.open(Need::Books).await?;
    let token = data_dir::read_token(session.data_dir());
    session.close().await;
    let token = token?;
    if context.out.is_json() {
        context
            .out
            .json(&json!({ "agent": "main", "token": token }));
    } else {
        context.out.line(&token);
    }
    Ok(Exit::Ok)
}

async fn create(
    context: &Context,
    agent: String,
    passphrase: &PassphraseArgs,
) -> Result<Exit, Problem> {
    let named = KnowsAgent {
        agent: agent.clone(),
    };
    let is_new = !context.ask(Need::Books, named).await?.is_known;
    let token = data_dir::new_token();
    let decision = Decision::CreateToken {
        agent_name: agent.clone(),
        token_hash: owner::token_hash(&token),
    };
    decide(context, passphrase, decision).await?;
    if context.out.is_json() {
        context
            .out
            .json(&json!({ "agent": agent, "token": token, "is_new": is_new }));
    } else {
        context.out.line(&token);
        if is_new {
            context.out.note(&format!(
                "there was no agent {agent}: it has a wallet now, with nothing in it, and a mandate from the owner \
                 at the default limits; 'tirami-agent mandate revoke {agent}' ends that"
            ));
        }
        context.out.note(&format!(
            "speaks for {agent}; it is shown this once and kept nowhere"
        ));
    }
    Ok(Exit::Ok)
}

async fn list(context: &Context) -> Result<Exit, Problem> {
    let all: TokensOutput = context.ask(Need::Books, Tokens {}).await?;
    let out = &context.out;
    if out.is_json() {
        out.json(&all);
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("hash", Align::Whole),
        ("agent", Align::Left),
        ("made", Align::Whole),
        ("", Align::Left),
    ]);
    for one in &all.tokens {
        let start = one.token_hash.get(..HASH_START).unwrap_or_default();
        let made = local_time::minute(&one.created_at);
        let own = if one.is_own { "this node's own" } else { "" };
        table.row([start.to_owned(), one.agent.clone(), made, own.to_owned()]);
    }
    out.table(&table);
    out.note("one is taken back with 'tirami-agent token revoke --hash HASH'; what it was, nobody can tell");
    Ok(Exit::Ok)
}

/// The hash of the only token whose hash starts so, and for whom it speaks.
async fn by_hash(context: &Context, start: &str) -> Result<([u8; 32], Option<String>), Problem> {
    let all: TokensOutput = context.ask(Need::Books, Tokens {}).await?;
    let fits = |one: &&TokenOutput| one.token_hash.starts_with(start);
    let fitting: Vec<&TokenOutput> = all.tokens.iter().filter(fits).collect();
    let [one] = fitting.as_slice() else {
        let (code, text) = match fitting.len() {
            0 => (
                FailureCode::NotFound,
                "no token has a hash that starts with",
            ),
            _ => (
                FailureCode::InvalidInput,
                "more than one token has a hash that starts with",
            ),
        };
        let problem = Problem::new(code, format!("--hash: {text} '{start}'"));
        return Err(problem.hint("'tirami-agent --json token list' shows them whole"));
    };
    let hash = from_hex(&one.token_hash);
    let hash = hash.ok_or_else(|| Problem::internal("a hash is 64 hexadecimal digits"))?;
    Ok((hash, Some(one.agent.clone())))
}

fn by_itself(token: &str) -> Result<[u8; 32], Problem> {
    let mut line = String::new();
    let token = if token == "-" {
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| Problem::file("standard input".as_ref(), &error))?;
        line.trim()
    } else {
        token.trim()
    };
    if hash_start(token).is_ok() {
        let problem = Problem::usage(format!("'{token}' is no token but the hash of one"));
        return Err(problem.hint("a hash goes behind --hash"));
    }
    Ok(owner::token_hash(token))
}

async fn revoke(
    context: &Context,
    (token_hash, agent): ([u8; 32], Option<String>),
    passphrase: &PassphraseArgs,
) -> Result<Exit, Problem> {
    if let Some(agent) = &agent {
        context.out.note(&format!("it speaks for {agent}"));
    }
    let decision = Decision::RevokeToken { token_hash };
    decide(context, passphrase, decision).await?;
    if context.out.is_json() {
        let revoked = json!({ "revoked": true, "agent": agent, "token_hash": to_hex(&token_hash) });
        context.out.json(&revoked);
    } else {
        context.out.line("revoked");
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_hash_is_eight_digits_or_more() {
        assert_eq!(hash_start("00FFaa11").as_deref(), Ok("00ffaa11"));
        for bad in ["", "00ffaa1", "00ffaa1g", &"0".repeat(65)] {
            assert!(hash_start(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_agents_name_is_plain() {
        assert_eq!(agent_name("writer-2").as_deref(), Ok("writer-2"));
        for bad in [
            "",
            "Writer",
            "a b",
            "\u{e4}",
            "x".repeat(AGENT_NAME_MAX + 1).as_str(),
        ] {
            assert!(agent_name(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
