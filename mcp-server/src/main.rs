//! `tirami-agent`: a wallet, a budget that holds, a model to sell and a market to buy from.

use std::process::ExitCode;

fn main() -> ExitCode {
    tirami_mcp_server::cli::main()
}
