//! Asking before something is done that cannot be undone.

use std::io::{BufRead, IsTerminal};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::output::Style;

/// Goes on only when somebody says yes: on the terminal, or with `--yes`.
pub(super) fn confirm(context: &Context, question: &str) -> Result<(), Problem> {
    if context.globals.yes {
        return Ok(());
    }
    if context.globals.no_input || !std::io::stdin().is_terminal() {
        let text = format!("{question} Nobody can be asked; nothing was changed");
        return Err(Problem::usage(text).hint("add --yes"));
    }
    context
        .out
        .tell(Style::Warn, question, "Write 'yes' to go on.");
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Problem::file("standard input".as_ref(), &error))?;
    if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Problem::usage("nothing was changed").exit(Exit::Failure))
    }
}
