//! Naming a mandate that travels: by its whole id, or by the beginning that tables show.

use std::str::FromStr;

use tirami_agent_runtime::FailureCode;
use tirami_agent_runtime::ops::TravellingOutput;
use tirami_manifest::GrantId;

use super::context::Context;
use super::exit::Problem;
use super::travelling;

/// Fewest digits of a beginning: as many as tables show.
const DIGITS_MIN: usize = 10;

/// What somebody wrote for a mandate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// All of its id.
    Whole(GrantId),
    /// The first digits of its id.
    Beginning(String),
}

impl FromStr for Written {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Whole(id));
        }
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if (DIGITS_MIN..GrantId::LEN * 2).contains(&text.len()) && text.bytes().all(digits) {
            return Ok(Self::Beginning(text.to_owned()));
        }
        let text: String = text.chars().take(80).collect();
        Err(format!(
            "'{text}' is no mandate id: {} hexadecimal digits are needed, or the first {DIGITS_MIN} \
             or more of them",
            GrantId::LEN * 2
        ))
    }
}

impl Written {
    /// The one mandate that is meant, among those that were handed out here and those held here.
    pub(super) async fn id(&self, context: &Context) -> Result<GrantId, Problem> {
        match self {
            Self::Whole(id) => Ok(*id),
            Self::Beginning(digits) => pick(digits, &travelling::all(context).await?),
        }
    }
}

/// The one whose id begins so.
fn pick(digits: &str, all: &TravellingOutput) -> Result<GrantId, Problem> {
    let out = all.handed_out.iter().map(|one| one.mandate);
    let held = all.held.iter().map(|one| one.mandate);
    let mut found: Vec<GrantId> = out
        .chain(held)
        .filter(|id| id.to_string().starts_with(digits))
        .collect();
    found.sort_unstable();
    found.dedup();
    match found[..] {
        [id] => Ok(id),
        [] => Err(unknown(digits)),
        _ => {
            let text = format!("{} mandates begin with {digits}", found.len());
            Err(Problem::usage(text)
                .hint("'tirami-agent mandate list --json' shows all of their digits"))
        }
    }
}

/// None was handed out here, and none is held.
pub(super) fn unknown(digits: &str) -> Problem {
    let text = format!("no mandate that travels has the id {digits} here");
    Problem::new(FailureCode::NotFound, text).hint("'tirami-agent mandate list' shows them")
}

#[cfg(test)]
mod tests {
    use tirami_agent_runtime::ops::HandedOutOutput;
    use tirami_manifest::{Amount, NodeId};

    use super::*;

    #[test]
    fn an_id_is_written_whole_or_by_its_first_digits() {
        let whole = "ab".repeat(GrantId::LEN);
        let id = GrantId::from_bytes([0xab; GrantId::LEN]);
        assert_eq!(whole.parse(), Ok(Written::Whole(id)));
        let ten = &whole[..DIGITS_MIN];
        assert_eq!(ten.parse(), Ok(Written::Beginning(ten.to_owned())));
        for bad in [
            &whole[..DIGITS_MIN - 1],
            "ABABABABAB",
            "writer-one",
            "",
            &(whole.clone() + "a"),
        ] {
            let error = bad.parse::<Written>().unwrap_err();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }

    fn handed_out(last: u8) -> HandedOutOutput {
        let mut id = [0xab; GrantId::LEN];
        id[GrantId::LEN - 1] = last;
        HandedOutOutput {
            mandate: GrantId::from_bytes(id),
            agent: "main".into(),
            pays: true,
            holder: NodeId::from_bytes([1; 32]),
            pinned: None,
            trm_amount: Amount::ZERO,
            trm_drawn: Amount::ZERO,
            trm_back: Amount::ZERO,
            trm_out: Amount::ZERO,
            expires_at: String::new(),
            state: "open".into(),
        }
    }

    #[test]
    fn a_beginning_names_one_mandate_or_none() {
        let all = |handed_out| TravellingOutput {
            handed_out,
            held: Vec::new(),
            refused: Vec::new(),
        };
        let digits = "ab".repeat(DIGITS_MIN / 2);
        let (one, other) = (handed_out(1), handed_out(2));
        let id = one.mandate;
        assert_eq!(pick(&digits, &all(vec![one.clone()])).unwrap(), id);
        // The same one twice is one.
        let twice = all(vec![one.clone(), one.clone()]);
        assert_eq!(pick(&digits, &twice).unwrap(), id);
        let many = pick(&digits, &all(vec![one, other])).unwrap_err();
        assert!(many.failure.message.contains("2 mandates begin"), "{many}");
        let none = pick("0123456789", &twice).unwrap_err();
        assert_eq!(none.failure.code, FailureCode::NotFound);
    }
}
