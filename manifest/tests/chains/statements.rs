//! Statements: one that holds, those that a node or somebody else forged, and every byte of one changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tirami_manifest::id::to_hex;
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::statement::{LINES_MAX, Statement, StatementLine, root};
use tirami_manifest::statement_file::{SIZE_MAX, StatementFile, StatementRow};
use tirami_manifest::verify::verify;
use tirami_manifest::{Amount, ReceiptId, Timestamp};

use crate::journal::Journal;
use crate::no_byte_can_be_changed;
use crate::world::{at, id, key, private, receipt, shared, trm};

/// What moved: it lent out of what it got, bought and sold.
pub(crate) fn lines() -> Vec<StatementLine> {
    let sale = |parties| Some(receipt(&private(), parties, 120, 2).id());
    let line = |seq, (came_in, went_out, balance), receipt: Option<ReceiptId>| StatementLine {
        seq,
        at: at(1_000 * seq),
        reason: "welcome_loan".to_owned(),
        other: "position".to_owned(),
        agent: None,
        came_in: trm(came_in),
        went_out: trm(went_out),
        balance: trm(balance),
        receipt,
    };
    vec![
        line(3, (1_000, 0, 1_000), None),
        StatementLine {
            reason: "budget".to_owned(),
            other: "outgoing".to_owned(),
            agent: Some("main".to_owned()),
            ..line(7, (0, 300, 700), sale((1, 2)))
        },
        StatementLine {
            reason: "earnings".to_owned(),
            other: "revenue".to_owned(),
            ..line(12, (120, 0, 820), sale((2, 1)))
        },
    ]
}

/// What the node signs of these lines, that begin with nothing.
pub(crate) fn of(lines: &[StatementLine]) -> Statement {
    let journal = Journal::of(1, 11).head(11).body;
    Statement {
        network: private().id(),
        node: id(1),
        agent: "main".to_owned(),
        from: at(0),
        to: at(20_000),
        opening: Amount::ZERO,
        closing: lines.last().map_or(Amount::ZERO, |line| line.balance),
        count: u32::try_from(lines.len()).unwrap(),
        lines: root(lines),
        size: journal.size,
        root: journal.root,
        at: at(60_000),
    }
}

/// The golden one.
pub(crate) fn statement() -> Signed<Statement> {
    Signed::new(of(&lines()), &key(1))
}

fn file() -> StatementFile {
    StatementFile::new(&private(), &lines(), &statement()).unwrap()
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

pub(crate) fn valid() -> BTreeMap<&'static str, String> {
    let none = Statement {
        opening: trm(5),
        closing: trm(5),
        ..of(&[])
    };
    let none = StatementFile::new(&private(), &[], &Signed::new(none, &key(1))).unwrap();
    BTreeMap::from([
        ("statement.json", pretty(&file())),
        ("statement-of-nothing.json", pretty(&none)),
    ])
}

/// A file whose node signed whatever it liked: the words are those of the golden one but for the lines.
fn signed(lines: &[StatementLine], body: Statement) -> StatementFile {
    let row = |line: &StatementLine| -> StatementRow {
        let mut row = json!({
            "seq": line.seq,
            "at": line.at.to_rfc3339(),
            "reason": line.reason,
            "other": line.other,
            "trm_in": line.came_in,
            "trm_out": line.went_out,
            "trm_balance": line.balance,
        });
        if let Some(agent) = &line.agent {
            row["agent"] = json!(agent);
        }
        if let Some(receipt) = &line.receipt {
            row["receipt"] = json!(receipt);
        }
        serde_json::from_value(row).unwrap()
    };
    let mut file = file();
    file.lines = lines.iter().map(row).collect();
    file.statement = to_hex(&Signed::new(body, &key(1)).to_bytes());
    file
}

/// The same, of lines that were changed in some way.
fn changed(change: impl FnOnce(&mut Vec<StatementLine>)) -> StatementFile {
    let mut lines = lines();
    change(&mut lines);
    signed(&lines, of(&lines))
}

/// The golden file with other lines, or other words.
fn altered(change: impl FnOnce(&mut StatementFile)) -> StatementFile {
    let mut file = file();
    change(&mut file);
    file
}

type Forged = BTreeMap<&'static str, (String, &'static str)>;

/// What a node signed although it cannot be.
fn lies() -> Forged {
    let top_up = changed(|lines| {
        lines[1].balance = trm(900);
        lines[2].balance = trm(1_020);
    });
    let both_ways = changed(|lines| {
        (lines[0].came_in, lines[0].went_out) = (trm(9_000), trm(8_000));
    });
    let mut open = of(&lines());
    open.closing = trm(1_820);
    let outside = changed(|lines| lines[2].at = at(20_000));
    let before = changed(|lines| lines[0].at = Timestamp::from_ms(at(0).ms() - 1));
    let numbers = changed(|lines| lines[2].seq = 7);
    let twice = changed(|lines| {
        let mut again = lines[1].clone();
        (again.seq, again.balance) = (8, trm(400));
        lines.insert(2, again);
        lines[3].balance = trm(520);
    });
    let later = Statement {
        to: at(60_001),
        ..of(&lines())
    };
    let backwards = Statement {
        from: at(30_000),
        ..of(&[])
    };
    let (open, later) = (signed(&lines(), open), signed(&lines(), later));
    let backwards = signed(&[], backwards);
    [
        ("statement-top-up.json", top_up, "line 2: its balance"),
        ("statement-both-ways.json", both_ways, "line 1: a transfer"),
        ("statement-other-closing.json", open, "closing one"),
        ("statement-after.json", outside, "not in the period"),
        ("statement-before.json", before, "line 1: it is not after"),
        ("statement-numbers.json", numbers, "line 3: it is not after"),
        ("statement-receipt-twice.json", twice, "counted before"),
        ("statement-of-tomorrow.json", later, "after it was signed"),
        ("statement-backwards.json", backwards, "before it begins"),
    ]
    .map(|(name, file, why)| (name, (pretty(&file), why)))
    .into()
}

/// Every forgery with what is said of it; each is signed as well as can be.
pub(crate) fn forged() -> Forged {
    let stranger = altered(|file| {
        let body = statement().body;
        file.statement = to_hex(&Signed::new(body, &key(2)).to_bytes());
    });
    let foreign = altered(|file| file.genesis = to_hex(&shared().to_bytes()));
    let added = altered(|file| {
        let mut row = file.lines[2].clone();
        (row.seq, row.receipt) = (13, None);
        row.trm_balance = trm(940);
        file.lines.push(row);
    });
    let line = altered(|file| "clearing".clone_into(&mut file.lines[1].other));
    let words = altered(|file| file.says.trm_in = trm(9_000));
    let mut files = lies();
    files.extend(
        [
            ("statement-stranger.json", stranger, "signature"),
            ("statement-foreign.json", foreign, "another network"),
            ("statement-line-added.json", added, "not as many"),
            (
                "statement-line-altered.json",
                line,
                "not those that the node signed",
            ),
            ("statement-words.json", words, "the file was altered"),
        ]
        .map(|(name, file, why)| (name, (pretty(&file), why))),
    );
    files
}

/// Whatever is changed, left out, added or put elsewhere in the words: it does not hold.
#[test]
fn no_field_and_no_line_of_a_statement_can_be_changed() {
    let whole = serde_json::to_value(file()).unwrap();
    let holds = |value: &Value| verify(&value.to_string()).is_ok();
    assert!(holds(&whole));
    let other = |value: &Value| match value {
        Value::Number(_) => json!(4),
        Value::String(text) if text.ends_with('Z') => json!("2026-01-31T12:00:00.250Z"),
        Value::String(text) if text.len() == 64 => json!("ab".repeat(32)),
        Value::String(text) if text.parse::<Amount>().is_ok() => json!("77"),
        _ => json!("other"),
    };
    let mut tried = 0;
    let mut each = |at: &str| {
        let object = whole.pointer(at).unwrap().as_object().unwrap().clone();
        let with = |object: serde_json::Map<String, Value>| {
            let mut value = whole.clone();
            *value.pointer_mut(at).unwrap() = Value::Object(object);
            value
        };
        assert!(holds(&with(object.clone())));
        for (field, value) in &object {
            for new in [Some(other(value)), Some(Value::Null), None] {
                let mut object = object.clone();
                match new {
                    Some(new) => object.insert(field.clone(), new),
                    None => object.remove(field),
                };
                assert!(!holds(&with(object)), "{at}/{field}");
                tried += 1;
            }
        }
        let mut more = object;
        more.insert("more".to_owned(), json!(1));
        assert!(!holds(&with(more)), "{at}: one more field");
    };
    for at in ["", "/says", "/lines/0", "/lines/1", "/lines/2"] {
        each(at);
    }
    assert!(tried > 120, "{tried}");
    for n in 0..3 {
        let mut value = whole.clone();
        value["lines"].as_array_mut().unwrap().remove(n);
        assert!(!holds(&value), "line {n} was left out");
        let mut value = whole.clone();
        value["lines"].as_array_mut().unwrap().swap(n, (n + 1) % 3);
        assert!(!holds(&value), "line {n} was moved");
        let mut value = whole.clone();
        let line = value["lines"][n].clone();
        value["lines"].as_array_mut().unwrap().insert(n, line);
        assert!(!holds(&value), "line {n} stands twice");
    }
}

#[test]
fn no_byte_of_a_statement_can_be_changed() {
    let refused = no_byte_can_be_changed(&valid());
    assert!(refused > 9_000, "{refused}");
}

/// The same receipt may pay an account and be paid by it, or for another reason; words are words.
#[test]
fn what_a_line_may_say() {
    let holds = |file: StatementFile| verify(&pretty(&file)).map(|_| ());
    let local = changed(|lines| lines[2].receipt = lines[1].receipt);
    // The words still say what the golden file says, so the totals and lines fit.
    assert!(holds(local).is_ok(), "bought of itself");
    for word in ["", "a\nb", "\u{85}", &"x".repeat(129)] {
        let file = changed(|lines| lines[1].other = word.to_owned());
        let error = holds(file).unwrap_err().to_string();
        assert!(error.contains("line 2: a word"), "{word:?}: {error}");
    }
    let moved_nothing = changed(|lines| {
        lines[1].went_out = Amount::ZERO;
        lines[1].balance = trm(1_000);
        lines[2].balance = trm(1_120);
    });
    let error = holds(moved_nothing).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let round = changed(|lines| {
        let left = Amount::MAX.checked_sub(trm(1_000)).unwrap();
        for (n, line) in lines[1..].iter_mut().enumerate() {
            let (came, out, after) = match n {
                0 => (left, Amount::ZERO, Amount::MAX),
                _ => (Amount::ZERO, left, trm(1_000)),
            };
            (line.came_in, line.went_out, line.balance) = (came, out, after);
        }
        let mut again = lines[1].clone();
        (again.seq, again.receipt) = (13, None);
        again.at = lines[2].at;
        lines.push(again);
    });
    let error = holds(round).unwrap_err().to_string();
    assert!(error.contains("more has moved"), "{error}");
    let nameless = Statement {
        agent: "a\nb".to_owned(),
        ..of(&lines())
    };
    let error = holds(signed(&lines(), nameless)).unwrap_err().to_string();
    assert!(error.contains("damaged"), "{error}");
}

/// One with as many lines as there may be, all as long as they get, is a file that is read; one more is not.
#[test]
fn a_statement_has_so_many_lines_and_no_more() {
    let of_lines = |count: usize| {
        let part = Amount::from_utrm(1_000_001).unwrap();
        let largest = Amount::from_utrm(Amount::MAX.utrm() - 1).unwrap();
        let less = largest.checked_sub(part).unwrap();
        let lines: Vec<_> = (0..count)
            .map(|n| {
                let mut receipt = [0; 32];
                receipt[..8].copy_from_slice(&(n as u64).to_be_bytes());
                let (came_in, went_out, balance) = match n % 2 {
                    0 => (part, Amount::ZERO, largest),
                    _ => (Amount::ZERO, part, less),
                };
                StatementLine {
                    seq: 1 << 60 | n as u64,
                    at: at(1),
                    reason: "welcome_loan".to_owned(),
                    other: format!("uncertified {}", id(3)),
                    agent: Some("m".repeat(32)),
                    came_in,
                    went_out,
                    balance,
                    receipt: Some(ReceiptId::from_bytes(receipt)),
                }
            })
            .collect();
        let body = Statement {
            opening: less,
            ..of(&lines)
        };
        let signed = Signed::new(body, &key(1));
        StatementFile::new(&private(), &lines, &signed)
    };
    let text = pretty(&of_lines(LINES_MAX).unwrap());
    assert!(text.len() + 2 * 4_096 < SIZE_MAX, "{}", text.len());
    assert!(verify(&text).is_ok());
    let error = of_lines(LINES_MAX + 1).unwrap_err().to_string();
    assert!(error.contains("narrower period"), "{error}");
}
