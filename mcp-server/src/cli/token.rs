//! Bearer tokens: the main agent's, and those the owner makes and takes back.

use clap::Subcommand;
use serde_json::json;
use tirami_agent_runtime::{data_dir, owner};
use tirami_manifest::owner::{AGENT_NAME_MAX, Decision};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::owner::decide;
use super::passphrase::PassphraseArgs;
use crate::access::Need;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Print the main agent's token, for HTTP clients on this machine
    Show,
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
        #[arg(value_name = "TOKEN")]
        revoked: String,
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

pub(super) async fn run(context: &Context, command: TokenCommand) -> Result<Exit, Problem> {
    match command {
        TokenCommand::Show => show(context).await,
        TokenCommand::Create { agent, passphrase } => create(context, agent, &passphrase).await,
        TokenCommand::Revoke {
            revoked,
            passphrase,
        } => revoke(context, &revoked, &passphrase).await,
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
    let token = data_dir::new_token();
    let decision = Decision::CreateToken {
        agent_name: agent.clone(),
        token_hash: owner::token_hash(&token),
    };
    decide(context, passphrase, decision).await?;
    if context.out.is_json() {
        context.out.json(&json!({ "agent": agent, "token": token }));
    } else {
        context.out.line(&token);
        context.out.note(&format!(
            "speaks for {agent}; it is shown this once and kept nowhere"
        ));
    }
    Ok(Exit::Ok)
}

async fn revoke(
    context: &Context,
    revoked: &str,
    passphrase: &PassphraseArgs,
) -> Result<Exit, Problem> {
    let mut line = String::new();
    let token = if revoked == "-" {
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| Problem::file("standard input".as_ref(), &error))?;
        line.trim()
    } else {
        revoked.trim()
    };
    let decision = Decision::RevokeToken {
        token_hash: owner::token_hash(token),
    };
    decide(context, passphrase, decision).await?;
    if context.out.is_json() {
        context.out.json(&json!({ "revoked": true }));
    } else {
        context.out.line("revoked");
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

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
