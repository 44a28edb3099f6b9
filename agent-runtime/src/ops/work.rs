//! Operations on work: asking for it, pricing it, and seeing who offers it.

use tirami_manifest::Amount;
use tirami_manifest::id::to_hex;
use tirami_manifest::job::{Message, Role};
use tirami_manifest::model::Usage;

use super::{
    Caller, CandidateOutput, Chat, ChatOutput, ModelOutput, Models, ModelsOutput, Operation, Quote,
    QuoteOutput, Schedule, ScheduleOutput, TextSink,
};
use crate::buy::{self, GIVEN_KEY};
use crate::clock::random;
use crate::failure::{Failure, FailureCode};
use crate::means::Means;
use crate::runtime::Runtime;
use crate::{offers, plan, price};

/// Longest prompt in bytes, all messages together; chosen below the frame limit.
const PROMPT_MAX: usize = 200_000;
/// Most messages in one request.
const MESSAGES_MAX: usize = 256;
/// Most stop texts, and the longest of them in bytes; as OpenAI's API has them.
const STOPS_MAX: (usize, usize) = (4, 256);
/// Highest temperature in thousandths.
const TEMPERATURE_MAX: u32 = 2_000;
/// Most tokens of an answer that a request may name; chosen, far above what models write.
const TOKENS_MAX: u32 = 1_000_000;

/// Longest answer `schedule` plans for when nothing is said.
const PLANNED_TOKENS: u32 = 256;

impl Operation for Chat {
    const NAME: &'static str = "chat";
    type Output = ChatOutput;

    fn prepare(&mut self) {
        self.idempotency_key
            .get_or_insert_with(|| format!("{GIVEN_KEY}{}", to_hex(&random::<16>())));
    }

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        text: Option<TextSink>,
    ) -> Result<ChatOutput, Failure> {
        validate(&self)?;
        let key = self.idempotency_key.as_deref().unwrap_or_default();
        let bought = buy::buy(runtime, caller, &self, text).await;
        bought.map_err(|failure| failure.asked_under(key))
    }
}

fn validate(chat: &Chat) -> Result<(), Failure> {
    let refuse = |text: String| Err(Failure::new(FailureCode::InvalidInput, text));
    let bytes: usize = chat
        .messages
        .iter()
        .map(|message| message.content.len())
        .sum();
    if chat.messages.is_empty() || bytes == 0 {
        return refuse("the prompt is empty".to_owned());
    }
    if bytes > PROMPT_MAX || chat.messages.len() > MESSAGES_MAX {
        return refuse(format!(
            "the prompt has {bytes} bytes in {} messages; at most {PROMPT_MAX} in {MESSAGES_MAX} \
             are taken",
            chat.messages.len()
        ));
    }
    if let Some(tokens) = chat.max_tokens
        && !(1..=TOKENS_MAX).contains(&tokens)
    {
        return refuse(format!(
            "max_tokens is {tokens}; it must be 1 to {TOKENS_MAX}, or left out"
        ));
    }
    if chat.max_trm.is_some_and(Amount::is_zero) {
        return refuse("max_trm is 0; it must be more, or left out".to_owned());
    }
    if chat.temperature_milli > TEMPERATURE_MAX {
        return refuse(format!(
            "temperature is {} thousandths; it must be 0 to {TEMPERATURE_MAX}",
            chat.temperature_milli
        ));
    }
    if let Some(key) = &chat.idempotency_key {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > buy::KEY_MAX || !visible {
            return refuse(format!(
                "idempotency_key has {} bytes; it must be 1 to {} visible ASCII characters",
                key.len(),
                buy::KEY_MAX
            ));
        }
    }
    let (count, longest) = STOPS_MAX;
    if chat.stop.len() > count || chat.stop.iter().any(|s| s.is_empty() || s.len() > longest) {
        return refuse(format!(
            "stop takes at most {count} texts of 1 to {longest} bytes"
        ));
    }
    Ok(())
}

fn chat_of(prompt: String, model: Option<String>, max_tokens: Option<u32>) -> Chat {
    let messages = vec![Message {
        role: Role::User,
        content: prompt,
    }];
    Chat {
        model,
        max_tokens,
        ..Chat::new(messages)
    }
}

impl Operation for Quote {
    const NAME: &'static str = "quote";
    type Output = QuoteOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<QuoteOutput, Failure> {
        let chat = chat_of(self.prompt, self.model, self.max_tokens);
        validate(&chat)?;
        price::price(runtime, caller, &chat).await
    }
}

impl Operation for Schedule {
    const NAME: &'static str = "schedule";
    type Output = ScheduleOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<ScheduleOutput, Failure> {
        let prompt = self
            .prompt
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "?".to_owned());
        let mut chat = chat_of(prompt, self.model, self.max_tokens.or(Some(PLANNED_TOKENS)));
        chat.max_trm = self.max_trm;
        validate(&chat)?;
        let means = Means::of(runtime, caller, &chat, Amount::ZERO)?;
        let sellers = offers::sellers(runtime).await?;
        let plan = plan::plan(runtime, &chat, &sellers, means.most)?;
        Ok(ScheduleOutput {
            chosen: plan.chosen().map(|ranked| ranked.provider),
            candidates: plan
                .ranked
                .iter()
                .map(|ranked| CandidateOutput {
                    provider: ranked.provider,
                    local: ranked.provider == runtime.node(),
                    model: ranked.name.clone(),
                    trm_estimate: ranked.trm_price,
                    waiting: ranked.waiting,
                    eligible: ranked.reason.is_eligible(),
                    reason: ranked.reason.to_string(),
                })
                .collect(),
        })
    }
}

impl Operation for Models {
    const NAME: &'static str = "models";
    type Output = ModelsOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<ModelsOutput, Failure> {
        let hundred = Usage {
            tokens_in: 100,
            tokens_cached: 0,
            tokens_out: 100,
        };
        let sellers = offers::sellers(runtime).await?;
        let models = sellers
            .iter()
            .flat_map(|seller| seller.offers.iter().map(move |offer| (seller, offer)))
            .filter_map(|(seller, offer)| {
                Some(ModelOutput {
                    name: offer.name.clone(),
                    model_id: offer.card.id,
                    provider: seller.peer.id,
                    local: seller.local,
                    context: offer.card.context,
                    multiplier_ppm: offer.multiplier.ppm(),
                    trm_per_100_in_100_out: offer.card.price(hundred, offer.multiplier).ok()?,
                })
            })
            .collect();
        Ok(ModelsOutput { models })
    }
}
