//! Asking a model from the terminal: text as it comes, then what it cost.

use std::io::Read;

use clap::Args;
use tirami_agent_runtime::ops::{Chat, ChatOutput};
use tirami_agent_runtime::privacy::Privacy;
use tirami_manifest::Amount;
use tirami_manifest::job::{Message, Role};
use tokio::sync::mpsc;

use super::context::Context;
use super::exit::{Exit, Problem};
use super::grant_id::Written;
use super::output::{Output, Progress};
use crate::access::Need;

/// Pieces of text that may wait for the terminal.
const PIECES: usize = 64;

/// Largest prompt read from standard input; chosen.
const PROMPT_MAX: u64 = 1 << 20;

/// Highest temperature, in thousandths; what OpenAI's API allows.
const TEMPERATURE_MILLI_MAX: u32 = 2_000;

#[derive(Debug, Args)]
pub(super) struct ChatArgs {
    /// What to say, or '-' to read it from standard input
    prompt: String,
    /// Name or id of the model; any when absent
    #[arg(long)]
    model: Option<String>,
    /// Most tokens to generate; what budget and context allow when absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Most to spend on this request
    #[arg(long, value_name = "TRM", allow_hyphen_values = true)]
    max_trm: Option<Amount>,
    /// Name the purchase: asking again with the same key answers the same and pays once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Instructions that come before the prompt
    #[arg(long)]
    system: Option<String>,
    /// 0 always takes the likeliest token; at most 2
    #[arg(long, default_value = "0", value_parser = temperature, allow_hyphen_values = true)]
    temperature: u32,
    /// Seed of the sampler; drawn when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Let this mandate pay, which another node handed here, in place of the agent's own account
    #[arg(long, value_name = "MANDATE")]
    mandate: Option<Written>,
    /// Who may see the prompt: local, own (nodes of the same owner), any, or node ids with commas between
    #[arg(long, value_name = "WHO", default_value = "any")]
    privacy: Privacy,
}

/// Reads a decimal number with at most three decimals, in thousandths.
fn temperature(text: &str) -> Result<u32, String> {
    let wrong = || format!("'{text}' is not a temperature; write 0 to 2, with at most 3 decimals");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return Err(wrong());
    }
    let milli: u32 = format!("{whole}{fraction:0<3}")
        .parse()
        .map_err(|_| wrong())?;
    if milli > TEMPERATURE_MILLI_MAX {
        Err(wrong())
    } else {
        Ok(milli)
    }
}

impl ChatArgs {
    async fn operation(self, context: &Context) -> Result<Chat, Problem> {
        let mandate = match &self.mandate {
            Some(written) => Some(written.id(context).await?),
            None => None,
        };
        let mut prompt = self.prompt;
        if prompt == "-" {
            prompt.clear();
            std::io::stdin()
                .take(PROMPT_MAX)
                .read_to_string(&mut prompt)
                .map_err(|error| Problem::file("standard input".as_ref(), &error))?;
        }
        let system = self.system.map(|content| Message {
            role: Role::System,
            content,
        });
        let user = Message {
            role: Role::User,
            content: prompt,
        };
        Ok(Chat {
            messages: system.into_iter().chain([user]).collect(),
            model: self.model,
            max_tokens: self.max_tokens,
            max_trm: self.max_trm,
            idempotency_key: self.idempotency_key,
            temperature_milli: self.temperature,
            top_k: 0,
            seed: self.seed,
            stop: Vec::new(),
            mandate,
            privacy: self.privacy,
        })
    }
}

pub(super) async fn chat(context: &Context, args: ChatArgs) -> Result<Exit, Problem> {
    let operation = args.operation(context).await?;
    let session = context.open(Need::Mesh).await?;
    let out = &context.out;
    let progress = out.progress("waiting for the first word");
    let (sink, pieces) = mpsc::channel(PIECES);
    let (answer, streamed) = tokio::join!(
        session.call_streaming(operation, sink),
        print(out, pieces, progress)
    );
    session.close().await;
    match answer {
        Ok(answer) => {
            finish(out, &answer, streamed);
            Ok(Exit::Ok)
        }
        Err(problem) => {
            if streamed {
                out.piece("\n");
            }
            Err(problem)
        }
    }
}

/// Prints pieces as they come; says whether there were any.
async fn print(out: &Output, mut pieces: mpsc::Receiver<String>, progress: Progress) -> bool {
    let mut progress = Some(progress);
    let mut streamed = false;
    while let Some(piece) = pieces.recv().await {
        progress.take();
        streamed = true;
        out.piece(&piece);
    }
    streamed
}

fn finish(out: &Output, answer: &ChatOutput, streamed: bool) {
    if out.is_json() {
        out.json(answer);
        return;
    }
    if !streamed {
        out.piece(&answer.text);
    }
    out.piece("\n");
    let tokens = format!("{} tokens in, {} out", answer.tokens_in, answer.tokens_out);
    let cost = match (answer.local, answer.trm_would_cost, &answer.payer) {
        (true, Some(cost), _) => {
            format!("done here for nothing; bought at par it costs {cost} TRM")
        }
        (true, None, _) => "done here for nothing".to_owned(),
        (false, _, Some(payer)) => format!(
            "{} TRM to {}, paid by {}",
            answer.trm_cost,
            answer.provider.short(),
            payer.short()
        ),
        (false, _, None) => format!(
            "{} TRM to {}, {} TRM left",
            answer.trm_cost,
            answer.provider.short(),
            answer.trm_balance
        ),
    };
    let replayed = if answer.replayed {
        "; stored answer, paid earlier"
    } else {
        ""
    };
    out.note(&format!("{}: {tokens}; {cost}{replayed}", answer.model));
    for part in &answer.parts {
        let (node, tokens, cost) = (part.provider.short(), part.tokens_out, part.trm_cost);
        out.note(&format!(
            "begun at {node}, which broke off: {tokens} tokens, {cost} TRM of it"
        ));
    }
    if let Some(receipt) = answer.receipt {
        out.note(&format!("receipt {receipt}"));
    }
    if let Some(limit) = &answer.capped_by {
        out.note(&format!("the answer was cut short by: {limit}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_is_read_in_thousandths() {
        for (text, milli) in [("0", 0), ("0.7", 700), ("1.25", 1_250), ("2.000", 2_000)] {
            assert_eq!(temperature(text), Ok(milli), "{text}");
        }
        for bad in [
            "",
            "-1",
            "2.001",
            "3",
            "NaN",
            "1e0",
            ".5",
            "1.",
            "0.1234",
            "99999999999",
        ] {
            assert!(temperature(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
