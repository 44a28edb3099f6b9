//! Exit codes, and how a failure becomes one. `docs/operating.md` lists them; they do not change.

use std::fmt;
use std::process::ExitCode;

use tirami_agent_runtime::{Failure, FailureCode};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It did not work, for a reason that has no number of its own.
    Failure,
    /// The command line or the config file is not what it should be.
    Usage,
    /// Refused: mandate, approval, `max_trm`, funds or freeze.
    Refused,
    /// The owner is needed, or the passphrase or token is wrong.
    Owner,
    /// Nothing has this id or name.
    NotFound,
    /// A document does not hold: receipt, manifest or ticket.
    Invalid,
    /// No provider, node or server could be reached.
    Unreachable,
    /// The disk or the wallet file.
    Store,
}

impl Exit {
    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Owner => 4,
            Self::NotFound => 5,
            Self::Invalid => 6,
            Self::Unreachable => 7,
            Self::Store => 8,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

impl From<FailureCode> for Exit {
    fn from(code: FailureCode) -> Self {
        match code {
            FailureCode::InvalidInput => Self::Usage,
            FailureCode::OverBudget
            | FailureCode::NotAllowed
            | FailureCode::RateLimited
            | FailureCode::ApprovalRequired
            | FailureCode::Denied
            | FailureCode::AboveMaxTrm
            | FailureCode::Frozen
            | FailureCode::InsufficientFunds => Self::Refused,
            FailureCode::OwnerRequired | FailureCode::Unauthorized => Self::Owner,
            FailureCode::NotFound => Self::NotFound,
            FailureCode::Ticket => Self::Invalid,
            FailureCode::NoProvider | FailureCode::ProviderFailed => Self::Unreachable,
            FailureCode::Store | FailureCode::InUse => Self::Store,
            _ => Self::Failure,
        }
    }
}

/// Why a command ends early: what to say, and the number to end with.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What to say.
    pub failure: Box<Failure>,
    /// The number to end with.
    pub exit: Exit,
}

impl Problem {
    /// A problem whose number follows from its code.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Failure::new(code, message).into()
    }

    /// A command line or config file that is not what it should be.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureCode::InvalidInput, message)
    }

    /// A document that does not hold.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Invalid,
            ..Self::usage(message)
        }
    }

    /// Something that should not happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureCode::Internal, message)
    }

    /// The owner is needed.
    pub fn owner(message: impl Into<String>) -> Self {
        Self::new(FailureCode::OwnerRequired, message)
    }

    /// A file that could not be read or written.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => FailureCode::NotFound,
            _ => FailureCode::Store,
        };
        Self::new(code, format!("{}: {error}", path.display()))
    }

    /// With the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.failure.hint = Some(hint.into());
        self
    }

    /// Ending with another number.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl std::error::Error for Problem {}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self {
            exit: failure.code.into(),
            failure: Box::new(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_manual() {
        let manual = include_str!("../../../docs/operating.md");
        for (exit, number) in [
            (Exit::Ok, 0),
            (Exit::Failure, 1),
            (Exit::Usage, 2),
            (Exit::Refused, 3),
            (Exit::Owner, 4),
            (Exit::NotFound, 5),
            (Exit::Invalid, 6),
            (Exit::Unreachable, 7),
            (Exit::Store, 8),
        ] {
            assert_eq!(exit.number(), number);
            assert!(
                manual.contains(&format!("\n| {number} |")),
                "{number} is not in the manual"
            );
        }
    }

    #[test]
    fn a_refusal_and_a_missing_owner_have_numbers_of_their_own() {
        for code in [
            FailureCode::OverBudget,
            FailureCode::NotAllowed,
            FailureCode::RateLimited,
            FailureCode::ApprovalRequired,
            FailureCode::Denied,
            FailureCode::AboveMaxTrm,
            FailureCode::Frozen,
            FailureCode::InsufficientFunds,
        ] {
            assert_eq!(Exit::from(code), Exit::Refused);
        }
        assert_eq!(Exit::from(FailureCode::OwnerRequired), Exit::Owner);
        assert_eq!(Problem::invalid("altered").exit, Exit::Invalid);
    }
}
