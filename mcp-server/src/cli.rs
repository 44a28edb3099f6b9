//! The command line: what can be said, and who does it.
//!
//! A command translates words into operations and their outputs into words. It decides nothing.

mod accounts;
mod approvals;
mod archive;
mod audit;
mod backup;
mod balance;
mod budget;
mod bundle;
mod chat;
mod clock;
mod confirm;
mod context;
mod doctor;
mod earnings;
pub mod exit;
mod explain;
mod freeze;
mod fund;
mod grant_id;
mod history;
mod identity;
mod join;
mod key;
mod line_file;
mod loans;
mod local_time;
mod mandate;
mod manifest;
mod mcp;
mod net;
mod network;
mod out_file;
pub mod output;
mod owner;
mod passphrase;
mod peers;
mod prove;
mod receipt;
mod secrets;
mod serve;
mod statement;
mod status;
pub mod table;
mod terms;
mod token;
mod travelling;
pub(crate) mod up;
mod verify;
mod wallet;
pub(crate) mod web;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::config::{ConfigFile, LogLevel};
use crate::demo;
use context::Context;
use exit::{Exit, Problem};
use output::Output;

/// After so many steps of tasks a thread looks who else is there. By default it is 61, and whoever wants
/// to freeze waits in front of the door while the spenders inside go on; chosen, since looking takes
/// little beside a step.
const LOOK_EVERY: u32 = 5;

/// Lets an AI agent pay its own way: a wallet, a budget that holds, a model to sell, a market.
#[derive(Debug, Parser)]
#[command(name = "tirami-agent", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[expect(clippy::doc_markdown, reason = "help is shown as it is written")]
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Globals {
    /// Where keys and wallet are [default: $XDG_DATA_HOME/tirami or ~/.local/share/tirami]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "TIRAMI_DATA_DIR",
        hide_env = true
    )]
    data_dir: Option<PathBuf>,
    /// Config file [default: config.toml in the data directory, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// JSON on standard output, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Answers yes where a command would ask
    #[arg(long, global = true)]
    yes: bool,
    /// Never asks, not even on a terminal
    #[arg(long, global = true)]
    no_input: bool,
    /// Reads the passphrase of the node's key from this file, where that is under one
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TIRAMI_KEY_PASSPHRASE_FILE",
        hide_env = true
    )]
    key_passphrase_file: Option<PathBuf>,
    /// Speaks for another agent than the main one; better in the environment as TIRAMI_TOKEN
    #[arg(long, global = true, env = "TIRAMI_TOKEN", hide_env = true)]
    token: Option<String>,
    /// How much is logged to standard error [default: warn]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "TIRAMI_LOG",
        hide_env = true
    )]
    log: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node: serve peers and HTTP clients until stopped
    Up(up::UpArgs),
    /// Serve MCP on standard input and output, for an editor or an agent
    Mcp(up::NodeArgs),
    /// Start two nodes, trade, and show that every promise holds
    Demo(demo::DemoArgs),
    /// The bearer tokens that speak for agents
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// The owner, who alone can loosen limits and lift a freeze
    #[command(subcommand)]
    Owner(owner::OwnerCommand),
    /// Enter the network of a ticket
    Join(join::JoinArgs),
    /// Make a ticket: an invitation for one newcomer
    Ticket,
    /// What the node is and how it does
    Status,
    /// Ask a model, local or bought
    Chat(chat::ChatArgs),
    /// What the agent and its node have
    Balance,
    /// The newest transfers
    History(Box<history::HistoryArgs>),
    /// A stored receipt, as a file anyone can verify
    Receipt(receipt::ReceiptArgs),
    /// Check a receipt, a chain, a balance or a proof, offline and asking nobody
    Verify(verify::VerifyArgs),
    /// Prove to others what this node has and did, as files anyone can verify
    #[command(subcommand)]
    Prove(prove::ProveCommand),
    /// The network this node belongs to: its issuers, witnesses and totals
    Network,
    /// Who this node is: its keys and their names
    Identity,
    /// The node's key: put it under a passphrase, or change it
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Check the books and the public chain, or show what happened to the ledger
    Audit(audit::AuditArgs),
    /// What an agent may spend: terms, what is left, why a spend would pass or not
    #[command(subcommand)]
    Budget(budget::BudgetCommand),
    /// Who may spend, and out of whose mandate
    #[command(subcommand)]
    Mandate(mandate::MandateCommand),
    /// Requests that wait for the owner
    Approvals(approvals::ApprovalsArgs),
    /// Let a request through that waits; needs the owner
    Approve(approvals::ApproveArgs),
    /// Say no to a request that waits, or was approved and not used
    Deny(approvals::DenyArgs),
    /// The kill switch: no new spending from now on
    Freeze(freeze::FreezeArgs),
    /// Lift the freeze; needs the owner
    Unfreeze(passphrase::PassphraseArgs),
    /// The nodes this one knows
    Peers,
    /// One of them: how far away it is
    #[command(subcommand)]
    Peer(net::PeerCommand),
    /// This node's own network: whether it can be reached
    #[command(subcommand)]
    Net(net::NetCommand),
    /// The models this node has or can buy
    Models,
    /// How this node sells: price, hours, pauses, caps, places, buyers
    Serve(serve::ServeArgs),
    /// What this node earned by selling
    Earnings,
    /// The signed agent manifest: this node's, or a check of another's
    Manifest(manifest::ManifestArgs),
    /// Look for what is wrong and say the way out
    Doctor,
    /// The books: accounts, history, statements, audit; moving money between pots
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// What was borrowed and lent, and paying it back
    Loans(loans::LoansArgs),
}

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error, &words).into(),
    };
    let mut globals = cli.globals;
    // There, standard output belongs to the protocol.
    globals.json &= !matches!(cli.command, Command::Mcp(_));
    let context = Context::new(globals);
    start_log(&context);
    if let Err(error) = secrets::keep_out_of_dumps() {
        context.out.warn(&format!(
            "a crash of this process may write its memory, keys included, to a file: {error}"
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .event_interval(LOOK_EVERY)
        .global_queue_interval(LOOK_EVERY)
        .thread_name("tirami")
        .enable_all()
        .build();
    let exit = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(dispatch(&context, cli.command));
            // A read of standard input cannot be cancelled; it must not keep the process alive.
            runtime.shutdown_background();
            match done {
                Ok(exit) => exit,
                Err(problem) => {
                    context.out.problem(&problem);
                    problem.exit
                }
            }
        }
        Err(error) => {
            context.out.problem(&Problem::internal(format!(
                "threads cannot be started: {error}"
            )));
            Exit::Failure
        }
    };
    if exit == Exit::Ok && context.out.failed() {
        Exit::Store
    } else {
        exit
    }
    .into()
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Problem> {
    match command {
        Command::Up(args) => up::up(context, args).await,
        Command::Mcp(args) => mcp::mcp(context, args).await,
        Command::Demo(args) => Box::pin(demo::run(args, &context.out)).await,
        Command::Token(command) => token::run(context, command).await,
        Command::Owner(command) => owner::run(context, command).await,
        Command::Join(args) => join::join(context, args).await,
        Command::Ticket => join::ticket(context).await,
        Command::Status => status::status(context).await,
        Command::Chat(args) => chat::chat(context, args).await,
        Command::Balance => balance::balance(context).await,
        Command::History(args) => history::history(context, *args).await,
        Command::Receipt(args) => receipt::receipt(context, args).await,
        Command::Verify(args) => verify::verify(&context.out, &args),
        Command::Prove(command) => prove::run(context, command).await,
        Command::Network => network::network(context).await,
        Command::Identity => identity::identity(context).await,
        Command::Key(command) => Box::pin(key::run(context, command)).await,
        Command::Audit(args) => audit::run(context, args).await,
        Command::Budget(command) => Box::pin(budget::run(context, command)).await,
        Command::Mandate(command) => Box::pin(mandate::run(context, command)).await,
        Command::Approvals(args) => approvals::approvals(context, &args).await,
        Command::Approve(args) => approvals::approve(context, args).await,
        Command::Deny(args) => approvals::deny(context, &args).await,
        Command::Freeze(args) => freeze::freeze(context, args).await,
        Command::Unfreeze(args) => freeze::unfreeze(context, args).await,
        Command::Peers => peers::peers(context).await,
        Command::Peer(command) => net::peer(context, command).await,
        Command::Net(command) => net::net(context, command).await,
        Command::Models => peers::models(context).await,
        Command::Serve(args) => serve::run(context, args).await,
        Command::Earnings => earnings::earnings(context).await,
        Command::Manifest(args) => manifest::manifest(context, args).await,
        Command::Doctor => doctor::doctor(context).await,
        Command::Wallet(command) => Box::pin(wallet::run(context, command)).await,
        Command::Loans(args) => loans::run(context, args).await,
    }
}

/// Help and version are what was asked for; anything else is a usage error, as JSON where JSON was
/// asked for.
fn unparsed(error: &clap::Error, words: &[OsString]) -> Exit {
    if error.use_stderr() && words.iter().any(|word| word == "--json") {
        let text = error.render().to_string();
        let text = text
            .split("\n\nFor more information")
            .next()
            .unwrap_or(&text);
        let text = text.trim().trim_start_matches("error: ");
        Output::new(true).json(&json!({ "error": Problem::usage(text).failure }));
        return Exit::Usage;
    }
    // Where the terminal went away there is nobody to tell.
    drop(error.print());
    if error.use_stderr() {
        Exit::Usage
    } else {
        Exit::Ok
    }
}

fn start_log(context: &Context) {
    // What is wrong with the file is said by the command that needs it.
    let from_file = || ConfigFile::read(&context.config_path().ok()?).ok()?.log;
    let level = context.globals.log.or_else(from_file).unwrap_or_default();
    let started = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level.filter()))
        .with_writer(std::io::stderr)
        .with_ansi(context.out.colours_errors())
        .try_init();
    if started.is_err() {
        context
            .out
            .warn("logging had been started before; --log has no effect");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"tirami-agent").chain(words))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_takes_the_global_options_on_either_side() {
        for words in [
            ["--json", "--data-dir", "/d", "--config", "/c", "status"],
            ["status", "--json", "--data-dir", "/d", "--config", "/c"],
        ] {
            let cli = parse(&words).unwrap();
            assert!(cli.globals.json);
            assert_eq!(cli.globals.data_dir, Some(PathBuf::from("/d")));
            assert_eq!(cli.globals.config, Some(PathBuf::from("/c")));
        }
    }

    #[test]
    fn an_amount_that_is_none_is_a_usage_error_that_says_why() {
        for (bad, why) in [
            ("-5", "negative"),
            ("NaN", "not an amount"),
            ("1e99", "not an amount"),
            ("", "not an amount"),
            ("0.0000001", "six decimals"),
            ("99999999999", "supply cap"),
        ] {
            for flag in [
                "--per-request",
                "--hour",
                "--lifetime",
                "--day",
                "--reserve",
            ] {
                let error = parse(&["budget", "set", flag, bad])
                    .unwrap_err()
                    .to_string();
                assert!(
                    error.contains(why) && error.contains(flag),
                    "{bad}: {error}"
                );
            }
            let error = parse(&["chat", "hello", "--max-trm", bad])
                .unwrap_err()
                .to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn every_command_with_terms_takes_them() {
        for words in [
            ["budget", "set"].as_slice(),
            &["budget", "tighten"],
            &["budget", "loosen"],
            &["mandate", "grant", "writer"],
        ] {
            let words = [words, &["--hour", "5", "--quiet", "22:00-07:00"]].concat();
            assert!(parse(&words).is_ok(), "{words:?}");
        }
    }

    #[test]
    fn a_node_without_a_model_cannot_name_one() {
        assert!(parse(&["up", "--no-local", "--model", "echo"]).is_err());
        assert!(parse(&["mcp", "--no-local"]).is_ok());
        assert!(parse(&["up", "--listen", "off", "--hold-timeout", "0"]).is_err());
    }
}
