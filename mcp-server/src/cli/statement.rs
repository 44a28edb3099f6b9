//! What moved on an agent's account, with the balance after each movement, page by page: however
//! long the history is, little of it is in memory.

use clap::{Args, ValueEnum};
use serde_json::json;
use tirami_agent_runtime::ops::{Statement, StatementLine, StatementOutput};
use tirami_manifest::{Amount, Timestamp};

use super::context::{Context, Session};
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::Output;
use crate::access::Need;

/// Which movements.
#[derive(Debug, Args)]
pub(super) struct MovementArgs {
    /// Whose account, by name; that of the agent that asks when absent
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// From this moment on: RFC 3339, or a local date; from the beginning when absent
    #[arg(long, value_name = "WHEN", value_parser = local_time::moment)]
    pub(super) from: Option<Timestamp>,
    /// Before this moment; up to now when absent or later
    #[arg(long, value_name = "WHEN", value_parser = local_time::moment)]
    pub(super) to: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(super) struct StatementArgs {
    #[command(flatten)]
    what: MovementArgs,
    /// How it is written [default: csv, with --json: json]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// How a statement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values by RFC 4180, with a heading.
    Csv,
    /// One object.
    Json,
}

pub(super) async fn statement(context: &Context, args: StatementArgs) -> Result<Exit, Problem> {
    let format = match (args.format, context.out.is_json()) {
        (Some(Format::Csv), true) => {
            return Err(Problem::usage(
                "--json and --format csv exclude one another",
            ));
        }
        (Some(format), _) => format,
        (None, true) => Format::Json,
        (None, false) => Format::Csv,
    };
    let question = Statement {
        agent: args.what.agent,
        from: args.what.from,
        to: args.what.to,
        page: None,
    };
    let session = context.open(Need::Books).await?;
    let done = pages(&session, question, format, &context.out).await;
    session.close().await;
    done.map(|()| Exit::Ok)
}

async fn pages(
    session: &Session,
    mut question: Statement,
    format: Format,
    out: &Output,
) -> Result<(), Problem> {
    let mut writer: Option<Writer> = None;
    loop {
        let page = session.call(question.clone()).await?;
        let open = writer.get_or_insert_with(|| Writer::begin(format));
        out.document(&open.page(&page)?);
        match page.next {
            Some(next) => question.page = Some(next),
            None => return Ok(()),
        }
    }
}

/// Writes a statement piece by piece.
struct Writer {
    format: Format,
    begun: bool,
    lines: u64,
}

impl Writer {
    const fn begin(format: Format) -> Self {
        Self {
            format,
            begun: false,
            lines: 0,
        }
    }

    /// One page, with the opening before the first and the closing after the last.
    fn page(&mut self, page: &StatementOutput) -> Result<String, Problem> {
        let broken = |error: &dyn std::fmt::Display| {
            Problem::internal(format!("the statement could not be written: {error}"))
        };
        match self.format {
            Format::Csv => self.csv(page).map_err(|error| broken(&error)),
            Format::Json => self.json(page).map_err(|error| broken(&error)),
        }
    }

    fn csv(&mut self, page: &StatementOutput) -> Result<String, Box<dyn std::error::Error>> {
        let mut csv = csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .from_writer(Vec::new());
        if !self.begun {
            csv.write_record([
                "seq",
                "at",
                "reason",
                "agent",
                "other",
                "trm_in",
                "trm_out",
                "trm_balance",
                "receipt",
            ])?;
            csv.write_record(total("opening", page.trm_opening))?;
        }
        self.begun = true;
        for line in &page.lines {
            csv.write_record(record(line))?;
        }
        if page.next.is_none() {
            csv.write_record(total("closing", page.trm_closing))?;
        }
        csv.flush()?;
        let bytes = csv.into_inner().map_err(|error| error.to_string())?;
        Ok(String::from_utf8(bytes)?)
    }

    fn json(&mut self, page: &StatementOutput) -> Result<String, serde_json::Error> {
        let mut text = String::new();
        if !self.begun {
            let (agent, opening) = (json!(page.agent), json!(page.trm_opening));
            text = format!("{{\"agent\":{agent},\"trm_opening\":{opening},\"lines\":[");
        }
        self.begun = true;
        for line in &page.lines {
            text += if self.lines == 0 { "\n" } else { ",\n" };
            text += &serde_json::to_string(line)?;
            self.lines = self.lines.saturating_add(1);
        }
        if page.next.is_none() {
            let closing = json!(page.trm_closing).to_string();
            text.extend(["\n],\"trm_closing\":", &closing, "}\n"]);
        }
        Ok(text)
    }
}

fn total(name: &str, balance: Amount) -> [String; 9] {
    let none = String::new;
    let balance = balance.to_string();
    [
        none(),
        none(),
        name.to_owned(),
        none(),
        none(),
        none(),
        none(),
        balance,
        none(),
    ]
}

fn record(line: &StatementLine) -> [String; 9] {
    let amount = |amount: Amount| {
        if amount.is_zero() {
            String::new()
        } else {
            amount.to_string()
        }
    };
    [
        line.seq.to_string(),
        line.at.clone(),
        line.reason.clone(),
        line.agent.clone().unwrap_or_default(),
        line.other.clone(),
        amount(line.trm_in),
        amount(line.trm_out),
        line.trm_balance.to_string(),
        line.receipt.map(|id| id.to_string()).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use tirami_agent_runtime::ops::StatementPage;

    use super::*;

    fn page(seq: u64, last: bool) -> StatementOutput {
        let trm = Amount::from_trm;
        StatementOutput {
            agent: "main".into(),
            trm_opening: trm(seq - 1),
            lines: vec![StatementLine {
                seq,
                at: "2026-01-31T12:00:00.250Z".into(),
                reason: "earnings".into(),
                agent: None,
                other: "a, \"b\"".into(),
                trm_in: trm(1),
                trm_out: Amount::ZERO,
                trm_balance: trm(seq),
                receipt: None,
            }],
            trm_closing: trm(seq),
            next: (!last).then_some(StatementPage {
                after: seq,
                through: 2,
                trm_opening: trm(seq),
            }),
        }
    }

    fn written(format: Format) -> String {
        let mut writer = Writer::begin(format);
        writer.page(&page(1, false)).unwrap() + &writer.page(&page(2, true)).unwrap()
    }

    #[test]
    fn pages_make_one_csv_file() {
        let at = "2026-01-31T12:00:00.250Z";
        assert_eq!(
            written(Format::Csv),
            format!(
                "seq,at,reason,agent,other,trm_in,trm_out,trm_balance,receipt\r\n\
                 ,,opening,,,,,0,\r\n\
                 1,{at},earnings,,\"a, \"\"b\"\"\",1,,1,\r\n\
                 2,{at},earnings,,\"a, \"\"b\"\"\",1,,2,\r\n\
                 ,,closing,,,,,2,\r\n"
            )
        );
    }

    #[test]
    fn pages_make_one_json_object() {
        let whole: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!(whole["trm_opening"], "0");
        assert_eq!(whole["trm_closing"], "2");
        assert_eq!(whole["lines"].as_array().map(Vec::len), Some(2));
        assert_eq!(whole["lines"][1]["trm_balance"], "2");
    }
}
