//! A statement as a file: what moved on an agent's account, signed by its node, line by line in words.
//!
//! The lines stand in words only: their bytes follow from the words, and the root over them is signed. It is
//! the node's own word about its own books, complete as far as the journal that it names.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::genesis::Genesis;
use crate::id::{self, NetworkId, NodeId, ReceiptId};
use crate::merkle::Hash;
use crate::proof_file::{ProofError, bytes, damaged, genesis, present, wrong};
use crate::signed::{Document, Signed};
use crate::statement::{LINES_MAX, Statement, StatementLine, root};
use crate::time::Timestamp;

/// Largest file that is read as a statement: one with the most lines fits.
pub const SIZE_MAX: usize = 512 * 1_024;

/// A statement with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementFile {
    /// Version of this layout: 1.
    pub tirami_statement: u8,
    /// What it says, in words.
    pub says: StatementFacts,
    /// The network's genesis document in hexadecimal.
    pub genesis: String,
    /// What moved, oldest first.
    pub lines: Vec<StatementRow>,
    /// The signed statement in hexadecimal.
    pub statement: String,
}

/// What a node says of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementFacts {
    /// The network.
    pub network: NetworkId,
    /// Whose books.
    pub node: NodeId,
    /// Whose account, by name.
    pub agent: String,
    /// From this moment on, RFC 3339 in UTC.
    pub from: String,
    /// Before this moment, RFC 3339 in UTC.
    pub to: String,
    /// The balance before the first line.
    pub trm_opening: Amount,
    /// What came in, in all.
    pub trm_in: Amount,
    /// What went out, in all.
    pub trm_out: Amount,
    /// The balance after the last line.
    pub trm_closing: Amount,
    /// How many lines.
    pub lines: u64,
    /// How many records the node's journal had then.
    pub size: u64,
    /// Root of the journal's tree then.
    pub root: Hash,
    /// When it was signed, RFC 3339 in UTC.
    pub as_of: String,
    /// `signed`: the node's own word about its own books.
    pub assurance: String,
}

/// A line in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatementRow {
    /// The number of the transfer.
    pub seq: u64,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// Why.
    pub reason: String,
    /// The other account.
    pub other: String,
    /// The agent that spent, where one did.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub agent: Option<String>,
    /// What came in.
    pub trm_in: Amount,
    /// What went out.
    pub trm_out: Amount,
    /// The balance after it.
    pub trm_balance: Amount,
    /// The receipt it follows from, where it follows from one.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub receipt: Option<ReceiptId>,
}

impl StatementRow {
    fn new(line: &StatementLine) -> Self {
        Self {
            seq: line.seq,
            at: line.at.to_rfc3339(),
            reason: line.reason.clone(),
            other: line.other.clone(),
            agent: line.agent.clone(),
            trm_in: line.came_in,
            trm_out: line.went_out,
            trm_balance: line.balance,
            receipt: line.receipt,
        }
    }

    /// The line that the words say; `None` when its time is none.
    fn line(&self) -> Option<StatementLine> {
        Some(StatementLine {
            seq: self.seq,
            at: Timestamp::from_rfc3339(&self.at)?,
            reason: self.reason.clone(),
            other: self.other.clone(),
            agent: self.agent.clone(),
            came_in: self.trm_in,
            went_out: self.trm_out,
            balance: self.trm_balance,
            receipt: self.receipt,
        })
    }
}

impl StatementFile {
    /// Puts a statement and its lines into words.
    ///
    /// # Errors
    ///
    /// [`ProofError`] when it is none that would hold.
    pub fn new(
        genesis: &Genesis,
        lines: &[StatementLine],
        signed: &Signed<Statement>,
    ) -> Result<Self, ProofError> {
        Ok(Self {
            tirami_statement: 1,
            says: adds_up(&signed.body, lines)?,
            genesis: id::to_hex(&genesis.to_bytes()),
            lines: lines.iter().map(StatementRow::new).collect(),
            statement: id::to_hex(&signed.to_bytes()),
        })
    }

    /// Checks everything that can be checked offline.
    ///
    /// # Errors
    ///
    /// [`ProofError`].
    pub fn verify(&self) -> Result<StatementFacts, ProofError> {
        let (part, network) = ("statement", genesis(&self.genesis)?.id());
        let bytes = bytes(part, &self.statement)?;
        let signed = Signed::<Statement>::from_bytes(&bytes).map_err(damaged(part))?;
        let node = signed.body.node;
        let body = signed.verify(&node).map_err(|error| wrong(part, error))?;
        if body.network != network {
            return Err(wrong("genesis", "it is that of another network"));
        }
        let mut lines = Vec::new();
        for (n, row) in (1_u64..).zip(&self.lines) {
            let timeless = || line_is(n, "it has no time");
            lines.push(row.line().ok_or_else(timeless)?);
        }
        let truth = adds_up(&body, &lines)?;
        if root(&lines) != body.lines {
            return Err(wrong("lines", "they are not those that the node signed"));
        }
        if self.tirami_statement != 1 || self.says != truth {
            return Err(ProofError::Altered);
        }
        Ok(truth)
    }
}

fn too_many(count: usize) -> String {
    format!(
        "there are {count}, and one statement has at most {LINES_MAX}; ask for one of a narrower period"
    )
}

fn line_is(n: u64, why: &str) -> ProofError {
    wrong("lines", format!("line {n}: {why}"))
}

/// Whether the lines lead from the opening to the closing, within the period; what that says in words.
fn adds_up(body: &Statement, lines: &[StatementLine]) -> Result<StatementFacts, ProofError> {
    if body.from > body.to || body.to > body.at {
        let why = "its period ends before it begins, or after it was signed";
        return Err(wrong("statement", why));
    }
    if lines.len() > LINES_MAX {
        return Err(wrong("lines", too_many(lines.len())));
    }
    if u32::try_from(lines.len()) != Ok(body.count) {
        return Err(wrong("lines", "they are not as many as the node signed"));
    }
    let (mut balance, mut came_in, mut went_out) = (body.opening, Amount::ZERO, Amount::ZERO);
    let (mut seq, mut at, mut legs) = (0, body.from, BTreeSet::new());
    for (n, line) in (1_u64..).zip(lines) {
        if line.seq <= seq || line.at < at {
            return Err(line_is(n, "it is not after the one before"));
        }
        if !line.has_words() {
            return Err(line_is(n, "a word in it is empty, too long or none"));
        }
        if line.at >= body.to {
            return Err(line_is(n, "it is not in the period"));
        }
        (seq, at) = (line.seq, line.at);
        let sum = balance.utrm().checked_add(line.came_in.utrm());
        let after = sum.and_then(|sum| sum.checked_sub(line.went_out.utrm()));
        if line.came_in.is_zero() == line.went_out.is_zero() {
            return Err(line_is(n, "a transfer brings something in or takes it out"));
        }
        if after != Some(line.balance.utrm()) {
            let why = "its balance is not what it makes of the one before";
            return Err(line_is(n, why));
        }
        balance = line.balance;
        // What a receipt pays enters or leaves an account once for each reason.
        let leg = |id| (id, line.reason.as_str(), line.came_in.is_zero());
        if line.receipt.is_some_and(|id| !legs.insert(leg(id))) {
            return Err(line_is(n, "its receipt was counted before"));
        }
        let sum = |sum: Amount, more| {
            let sum = sum.checked_add(more);
            sum.ok_or_else(|| line_is(n, "more has moved than there can be"))
        };
        (came_in, went_out) = (sum(came_in, line.came_in)?, sum(went_out, line.went_out)?);
    }
    if balance != body.closing {
        let why = "they do not lead from the opening balance to the closing one";
        return Err(wrong("lines", why));
    }
    Ok(StatementFacts {
        network: body.network,
        node: body.node,
        agent: body.agent.clone(),
        from: body.from.to_rfc3339(),
        to: body.to.to_rfc3339(),
        trm_opening: body.opening,
        trm_in: came_in,
        trm_out: went_out,
        trm_closing: body.closing,
        lines: u64::from(body.count),
        size: body.size,
        root: body.root,
        as_of: body.at.to_rfc3339(),
        assurance: "signed".to_owned(),
    })
}
