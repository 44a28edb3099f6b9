//! Checking what somebody shows, offline: needs no data directory, no network and nobody's word.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use tirami_agent_runtime::ops::VerifyOutput;
use tirami_manifest::anchored_file::AnchoredFacts;
use tirami_manifest::archive_file::ArchiveFacts;
use tirami_manifest::chain_file::ChainFacts;
use tirami_manifest::journal_file::{GrowthFacts, RecordFacts};
use tirami_manifest::proof_file::{BalanceFacts, FraudFacts, InclusionFacts, MandateFacts};
use tirami_manifest::receipt_file::ReceiptFile;
use tirami_manifest::statement::LINES_MAX;
use tirami_manifest::statement_file::StatementFacts;
use tirami_manifest::verify::{
    LINE_MAX, LineReader, SIZE_MAX, Verified, VerifyError, verify as check,
};

use super::exit::{Exit, Problem};
use super::local_time;
use super::output::{Output, Style};

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The file with the receipt, chain, balance, statement, archive or proof, or '-' for standard input
    file: PathBuf,
}

/// Checks a file and says what holds, or why it does not.
pub(super) fn verify(out: &Output, args: &VerifyArgs) -> Result<Exit, Problem> {
    let stdin = args.file.as_os_str() == "-";
    let name = if stdin {
        Path::new("standard input")
    } else {
        &args.file
    };
    let does_not =
        |error: VerifyError| Problem::invalid(format!("{} does not hold: {error}", name.display()));
    let verified = if stdin {
        read(std::io::stdin().lock(), name)?
    } else {
        let file = std::fs::File::open(name).map_err(|error| Problem::file(name, &error))?;
        read(BufReader::new(file), name)?
    };
    let verified = verified.map_err(does_not)?;
    if out.is_json() {
        out.json(&VerifyOutput::from(Ok(verified)));
        return Ok(Exit::Ok);
    }
    match verified {
        Verified::Receipt(file) => receipt(out, &file),
        Verified::Chain(facts) => chain(out, &facts),
        Verified::Balance(facts) => balance(out, &facts),
        Verified::Inclusion(facts) => inclusion(out, &facts),
        Verified::Fraud(facts) => fraud(out, &facts),
        Verified::Mandate(facts) => mandate(out, &facts),
        Verified::Record(facts) => record(out, &facts),
        Verified::Growth(facts) => growth(out, &facts),
        Verified::Archive(facts) => archive(out, &facts),
        Verified::Statement(facts) => statement(out, &facts),
        Verified::Anchored(facts) => anchored(out, &facts),
    }
    Ok(Exit::Ok)
}

/// Reads and checks: a chain or an archive line by line, however long it is, everything else whole.
fn read(mut from: impl BufRead, name: &Path) -> Result<Result<Verified, VerifyError>, Problem> {
    let first = line(&mut from, name)?.unwrap_or_default();
    if let Some(mut reader) = LineReader::of(&first) {
        let mut next = Some(first);
        while let Some(text) = next {
            if let Err(error) = reader.line(&text) {
                return Ok(Err(error));
            }
            next = line(&mut from, name)?;
        }
        return Ok(reader.finish());
    }
    let room = u64::try_from(SIZE_MAX).unwrap_or(u64::MAX);
    let mut rest = Vec::new();
    from.take(room.saturating_add(1))
        .read_to_end(&mut rest)
        .map_err(|error| Problem::file(name, &error))?;
    let rest = String::from_utf8(rest).map_err(|_| not_text(name))?;
    let text = format!("{first}\n{rest}");
    if text.len() > SIZE_MAX {
        return Err(Problem::invalid(format!(
            "{} does not hold: larger than {SIZE_MAX} bytes; not a receipt, statement or proof",
            name.display()
        ))
        .hint(format!(
            "a statement has at most {LINES_MAX} lines: ask for one of a narrower period"
        )));
    }
    Ok(check(&text))
}

/// The next line without its end, as long as lines may be.
fn line(from: &mut impl BufRead, name: &Path) -> Result<Option<String>, Problem> {
    let room = u64::try_from(LINE_MAX.max(SIZE_MAX)).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    from.take(room.saturating_add(2))
        .read_until(b'\n', &mut bytes)
        .map_err(|error| Problem::file(name, &error))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| not_text(name))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(Some(text))
}

fn not_text(name: &Path) -> Problem {
    Problem::invalid(format!("{} does not hold: it is not text", name.display()))
}

fn receipt(out: &Output, file: &ReceiptFile) {
    out.marked(
        Style::Good,
        "valid:",
        "signed by both, under a quote signed by the provider",
    );
    out.facts(&[
        ("receipt", file.receipt.to_string()),
        ("network", file.network.to_string()),
        ("provider", file.provider.to_string()),
        ("consumer", file.consumer.to_string()),
        ("model", file.model_id.to_string()),
        (
            "tokens",
            format!("{} in, {} out", file.tokens_in, file.tokens_out),
        ),
        (
            "work",
            format!("{} kFLOP at {} ppm of par", file.kflop, file.multiplier_ppm),
        ),
        (
            "paid",
            format!("{} TRM of at most {}", file.trm_amount, file.trm_quoted_max),
        ),
        (
            "ended",
            format!("{} ({})", local_time::exact(&file.ended_at), file.finish),
        ),
    ]);
}

/// What stands behind it, in words.
fn assurance(word: &str) -> String {
    match word {
        "certified" => {
            "certified by the witnesses of that network: worth what you trust them".to_owned()
        }
        _ => "signed by the node alone: its own word, which no witness has certified".to_owned(),
    }
}

fn chain(out: &Output, facts: &ChainFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "every entry is signed, follows the one before, and its balances add up",
    );
    out.facts(&[
        (
            "network",
            format!("{} ({})", facts.network, facts.network_name),
        ),
        ("node", facts.node.to_string()),
        ("entries", facts.entries.to_string()),
        ("head", facts.head.to_string()),
        ("as of", local_time::exact(&facts.as_of)),
        ("spendable", format!("{} TRM", facts.trm_spendable)),
        ("waiting", format!("{} TRM", facts.trm_waiting)),
        ("loans", format!("{} TRM", facts.trm_loans)),
        (
            "made",
            format!("{} TRM, {} retired", facts.trm_made, facts.trm_retired),
        ),
        ("assurance", assurance(&facts.assurance)),
    ]);
}

fn balance(out: &Output, facts: &BalanceFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "signed by the node whose balance it is",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        ("spendable", format!("{} TRM", facts.trm_spendable)),
        ("held", format!("{} TRM", facts.trm_held)),
        ("staked", format!("{} TRM", facts.trm_staked)),
        ("entry", format!("{} ({})", facts.seq, facts.head)),
        ("as of", local_time::exact(&facts.as_of)),
        ("assurance", assurance(&facts.assurance)),
    ]);
}

fn inclusion(out: &Output, facts: &InclusionFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the entry stands on the node's chain",
    );
    let mut rows = vec![
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        ("entry", format!("{} ({})", facts.seq, facts.entry)),
        ("what", facts.kind.clone()),
    ];
    if let Some(receipt) = facts.receipt {
        rows.push(("receipt", receipt.to_string()));
    }
    if let Some(amount) = facts.trm_amount {
        rows.push(("amount", format!("{amount} TRM")));
    }
    rows.push(("at", local_time::exact(&facts.at)));
    rows.push(("under", format!("entry {}", facts.under)));
    rows.push(("assurance", assurance(&facts.assurance)));
    out.facts(&rows);
}

fn fraud(out: &Output, facts: &FraudFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the accused signed two things that cannot both stand",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("accused", facts.accused.to_string()),
        ("fraud", facts.fraud.clone()),
    ]);
}

fn mandate(out: &Output, facts: &MandateFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "every grant is signed by the holder of the one before, and within it",
    );
    out.facts(&[
        ("mandate", facts.mandate.to_string()),
        ("network", facts.network.to_string()),
        ("payer", facts.payer.to_string()),
        ("holder", facts.holder.to_string()),
        ("grants", facts.grants.to_string()),
        ("for", format!("{} TRM in all", facts.trm_amount)),
        ("ends", local_time::exact(&facts.expires_at)),
        (
            "not shown",
            "whether it has ended, was taken back or is used up".to_owned(),
        ),
    ]);
}

fn record(out: &Output, facts: &RecordFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the record is in the journal that the node signed",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        ("record", format!("{} ({:?})", facts.seq, facts.hash)),
        ("what", facts.event.clone()),
        ("at", local_time::exact(&facts.at)),
        ("journal", format!("{} records", facts.size)),
        ("root", format!("{:?}", facts.root)),
        ("signed", local_time::exact(&facts.as_of)),
    ]);
}

fn growth(out: &Output, facts: &GrowthFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the journal that the node signed begins with the earlier one",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        ("earlier", format!("{} records", facts.from)),
        ("its root", format!("{:?}", facts.from_root)),
        ("journal", format!("{} records", facts.size)),
        ("root", format!("{:?}", facts.root)),
        ("signed", local_time::exact(&facts.as_of)),
        (
            "compare",
            "the earlier root with the one that you kept".to_owned(),
        ),
    ]);
}

fn archive(out: &Output, facts: &ArchiveFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the records are those of the journal that the node signed",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        (
            "records",
            format!(
                "{}, number {} to {}",
                facts.records, facts.first, facts.last
            ),
        ),
        ("since", local_time::exact(&facts.since)),
        ("until", local_time::exact(&facts.until)),
        ("root", format!("{:?}", facts.root)),
        ("signed", local_time::exact(&facts.as_of)),
    ]);
}

fn statement(out: &Output, facts: &StatementFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the node signed these lines, and they add up from the opening balance to the closing one",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        ("agent", facts.agent.clone()),
        ("from", local_time::exact(&facts.from)),
        ("to", local_time::exact(&facts.to)),
        ("opening", format!("{} TRM", facts.trm_opening)),
        (
            "moved",
            format!(
                "{} TRM in, {} TRM out, in {} lines",
                facts.trm_in, facts.trm_out, facts.lines
            ),
        ),
        ("closing", format!("{} TRM", facts.trm_closing)),
        ("journal", format!("{} records", facts.size)),
        ("root", format!("{:?}", facts.root)),
        ("signed", local_time::exact(&facts.as_of)),
        (
            "assurance",
            "signed by the node alone: its own word about its own books, as far as this journal goes"
                .to_owned(),
        ),
    ]);
}

fn anchored(out: &Output, facts: &AnchoredFacts) {
    out.marked(
        Style::Good,
        "valid:",
        "the entry existed before the payload was published, whenever that was",
    );
    out.facts(&[
        ("network", facts.network.to_string()),
        ("node", facts.node.to_string()),
        ("entry", format!("{} ({})", facts.seq, facts.head)),
        ("signed", local_time::exact(&facts.as_of)),
        ("payload", facts.payload.clone()),
        ("made", local_time::exact(&facts.at)),
        ("chains", facts.chains.to_string()),
        ("root", format!("{:?}", facts.root)),
        (
            "compare",
            "the payload with the one that was published, and when".to_owned(),
        ),
        (
            "not shown",
            "whether the chain holds; both times above are its makers' word".to_owned(),
        ),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_nothing_ends_with_its_own_number() {
        let dir = tempfile::tempdir().unwrap();
        let out = Output::new(false);
        for (name, bytes) in [
            ("empty", b"".to_vec()),
            ("cut", b"{\"tirami_receipt\":1,".to_vec()),
            ("binary", vec![0xff; 100]),
            ("large", vec![b' '; SIZE_MAX + 10]),
            ("lines", vec![b'\n'; SIZE_MAX + 10]),
            ("other", b"{\"tirami_balance\":1}".to_vec()),
        ] {
            let file = dir.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            let problem = verify(&out, &VerifyArgs { file }).unwrap_err();
            assert_eq!(problem.exit, Exit::Invalid, "{name}: {problem}");
        }
        let missing = verify(
            &out,
            &VerifyArgs {
                file: dir.path().join("missing"),
            },
        );
        assert_eq!(missing.unwrap_err().exit, Exit::NotFound);
    }
}
