//! The books of the node, as commands.

use clap::Subcommand;

use super::archive::{ArchiveArgs, UnarchiveArgs};
use super::audit::ArchivesArgs;
use super::backup::{BackupArgs, RestoreArgs};
use super::bundle::BundleArgs;
use super::context::Context;
use super::exit::{Exit, Problem};
use super::fund::FundArgs;
use super::history::HistoryArgs;
use super::statement::StatementArgs;
use super::{accounts, archive, audit, backup, bundle, fund, history, statement};

#[derive(Debug, Subcommand)]
pub(super) enum WalletCommand {
    /// Every account with its balance, and where agents' money came from
    Accounts,
    /// The newest transfers, or those that fit
    History(Box<HistoryArgs>),
    /// What moved on an agent's account, with the balance after each, as CSV or JSON
    Statement(Box<StatementArgs>),
    /// Check the books: debits equal credits, holds agree, nothing was made or lost
    Audit(ArchivesArgs),
    /// Write the journal's entries to a file that anyone can check; with --drop they leave the wallet
    Archive(ArchiveArgs),
    /// Put entries of the journal back that left the wallet, from their archive
    Unarchive(UnarchiveArgs),
    /// Move money between agents, or between two pots of one; needs the owner
    Fund(Box<FundArgs>),
    /// Copy the wallet to a new file while the node works; keys are not in it
    Backup(BackupArgs),
    /// Move the node, its keys and its wallet, into one file under a passphrase
    Export(BundleArgs),
    /// Put the node of such a file into this data directory, which may have none
    Import(BundleArgs),
    /// Put a backup in the place of the wallet; needs the owner where there is one
    Restore(RestoreArgs),
}

pub(super) async fn run(context: &Context, command: WalletCommand) -> Result<Exit, Problem> {
    match command {
        WalletCommand::Accounts => accounts::accounts(context).await,
        WalletCommand::History(args) => history::history(context, *args).await,
        WalletCommand::Statement(args) => statement::statement(context, *args).await,
        WalletCommand::Audit(args) => audit::audit(context, &args).await,
        WalletCommand::Archive(args) => archive::archive(context, args).await,
        WalletCommand::Unarchive(args) => archive::unarchive(context, args).await,
        WalletCommand::Fund(args) => Box::pin(fund::fund(context, *args)).await,
        WalletCommand::Backup(args) => backup::backup(context, &args).await,
        WalletCommand::Export(args) => Box::pin(bundle::export(context, &args)).await,
        WalletCommand::Import(args) => bundle::import(context, &args),
        WalletCommand::Restore(args) => backup::restore(context, &args),
    }
}
