//! Real inference with llama.cpp.
//!
//! One thread for each model owns the model and its context. Jobs reach it through a bounded channel;
//! it takes up to a few at a time and computes one token for each in turn, each in a sequence and a
//! batch of its own, so that what one consumer asks changes nothing for another. A job whose events
//! nobody reads is passed over until there is room. What llama.cpp must never see (too long a
//! prompt, too large a batch) is refused here, for it would end the process.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_2::{LogOptions, send_logs_to_tracing};
use tirami_manifest::ModelId;
use tirami_manifest::job::{Finish, Message, PromptShape, Sampler};
use tirami_manifest::model::{ModelCard, Usage};
use tokio::sync::oneshot;

use super::gguf::GgufError;
use super::template::{Part, Template};
use super::text::Assembler;
use super::{
    Engine, EngineError, Event, Feed, Job, Run, check_bytes, check_shape, check_stop, fingerprint,
    sample,
};

mod weights;

pub use weights::Weights;

/// Most tokens of prompt and answer unless configured otherwise. Chosen: memory for a sequence of an
/// 8B model is then half a GiB.
pub const CONTEXT_DEFAULT: u32 = 4_096;

/// Jobs that wait for a place; one more is refused as busy. Chosen.
pub const QUEUE: usize = 16;

/// Parameters below which a model is small. Measured: one thread is then the fastest, for more of
/// them wait on each other, and a sequence costs a few MiB.
const SMALL: u64 = 100_000_000;

/// Jobs at a time on small models, and on others. Chosen, for memory.
const PLACES: (u32, u32) = (4, 2);

/// Prompt tokens computed at once, the most llama.cpp is told to expect. Chosen: a cancelled job
/// stops within one such batch.
const BATCH: u32 = 256;

/// Context sizes are multiples of this in llama.cpp.
const CONTEXT_STEP: u32 = 256;

/// Stack of the thread. Chosen: llama.cpp splits text with `std::regex`, which recurses for each
/// character; only what is touched takes memory.
const STACK_BYTES: usize = 64 << 20;

/// Longest sleep while nobody reads. Readers wake the thread; this only bounds a mistake.
const NAP: Duration = Duration::from_secs(1);

/// A model run by llama.cpp.
#[derive(Debug)]
pub struct Llama {
    about: Arc<About>,
    worker: Arc<Worker>,
}

/// What is known of a model without loading it.
#[derive(Debug)]
struct About {
    name: String,
    card: ModelCard,
    weights: Weights,
    template: Template,
    /// Tokens that one byte of text can become.
    tokens_per_byte: u64,
    context: u32,
    small: bool,
}

/// The thread. Ends when the last handle is gone: that of the engine and those of its runs.
#[derive(Debug)]
struct Worker {
    inbox: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Load,
    Count(Box<Counting>),
    Job(Box<Queued>),
}

/// A prompt that is only counted.
struct Counting {
    parts: Vec<Part>,
    messages: Vec<Message>,
    answer: oneshot::Sender<Result<u32, EngineError>>,
}

/// A job that waits for its turn.
struct Queued {
    job: Job,
    parts: Vec<Part>,
    /// What was promised of its prompt.
    max_in: u64,
    feed: Feed,
}

impl Llama {
    /// Describes a model; loads nothing yet. `context` bounds prompt and answer together.
    ///
    /// # Errors
    ///
    /// See [`GgufError`]. [`GgufError::Missing`] also for a file without a chat template, and
    /// [`GgufError::Damaged`] for one whose template cannot be read.
    pub fn new(
        name: String,
        id: ModelId,
        weights: Weights,
        context: u32,
    ) -> Result<Self, GgufError> {
        let gguf = weights.describe()?;
        let card = gguf.card(id)?;
        let source = gguf.text("tokenizer.chat_template").ok_or_else(|| {
            GgufError::Missing("chat template, so it is not a chat model".to_owned())
        })?;
        let (bos, eos) = gguf.sequence_tokens();
        let template = Template::new(source.to_owned(), bos.to_owned(), eos.to_owned())
            .map_err(|e| GgufError::Damaged(e.to_string()))?;
        let tokens_per_byte = match gguf.text("tokenizer.ggml.model") {
            // Both fall back to one token for each byte.
            Some("llama" | "gpt2") => 1,
            // Others may rewrite text before they split it; no known one makes it four times as long.
            _ => 4,
        };
        let about = Arc::new(About {
            name,
            card,
            weights,
            template,
            tokens_per_byte,
            context: card.context.min(context.max(1)),
            small: gguf.parameters() < SMALL,
        });
        let worker = Worker::spawn(Arc::clone(&about)).map_err(GgufError::Io)?;
        Ok(Self {
            about,
            worker: Arc::new(worker),
        })
    }

    fn send(&self, request: Request) -> Result<(), EngineError> {
        let inbox = self.worker.inbox.as_ref().ok_or(EngineError::Stopped)?;
        inbox.try_send(request).map_err(|e| match e {
            TrySendError::Full(_) => EngineError::Busy,
            TrySendError::Disconnected(_) => EngineError::Stopped,
        })?;
        if let Some(thread) = &self.worker.thread {
            thread.thread().unpark();
        }
        Ok(())
    }
}

impl About {
    /// Tokens of a prompt of so many bytes: one for each byte, one that begins the sequence, and one
    /// for the space that some tokenizers put before the first word. They put another one after each
    /// special token, which has at least two bytes for it (see [`Specials`]).
    fn max_in(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.tokens_per_byte).saturating_add(2)
    }
}

impl Engine for Llama {
    fn name(&self) -> &str {
        &self.about.name
    }

    fn card(&self) -> ModelCard {
        self.about.card
    }

    fn fingerprint(&self) -> [u8; 8] {
        // The version of the binding fixes that of llama.cpp; a test in `models` compares.
        fingerprint(concat!(
            "llama.cpp of llama-cpp-2 0.1.160 tirami-mesh ",
            env!("CARGO_PKG_VERSION")
        ))
    }

    fn max_in(&self, shape: &PromptShape) -> Result<u32, EngineError> {
        check_shape(shape, self.about.context)?;
        let bytes = self.about.template.bytes(shape)?;
        check_bytes(bytes, self.about.context)?;
        let tokens = self.about.max_in(bytes);
        u32::try_from(tokens).map_err(|_| EngineError::TooLong {
            tokens,
            context: self.about.context,
        })
    }

    fn count<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> Pin<Box<dyn Future<Output = Result<u32, EngineError>> + Send + 'a>> {
        Box::pin(async move {
            let (answer, counted) = oneshot::channel();
            let parts = self.about.template.render(messages)?;
            self.send(Request::Count(Box::new(Counting {
                parts,
                messages: messages.to_vec(),
                answer,
            })))?;
            counted.await.unwrap_or(Err(EngineError::Stopped))
        })
    }

    fn start(&self, job: Job) -> Result<Run, EngineError> {
        check_stop(&job.stop)?;
        let shape = PromptShape::of(&job.messages).ok_or(EngineError::TooLong {
            tokens: u64::from(u32::MAX),
            context: self.about.context,
        })?;
        let max_in = u64::from(self.max_in(&shape)?);
        let parts = self.about.template.render(&job.messages)?;
        let thread = self.worker.thread.as_ref().map(|t| t.thread().clone());
        let (feed, mut run) = Run::woken(thread);
        let worker: Arc<dyn Any + Send + Sync> = Arc::clone(&self.worker) as _;
        run.keep(worker);
        self.send(Request::Job(Box::new(Queued {
            job,
            parts,
            max_in,
            feed,
        })))?;
        Ok(run)
    }

    fn context(&self) -> u32 {
        self.about.context
    }

    fn preload(&self) {
        if let Err(e) = self.send(Request::Load) {
            tracing::debug!(model = self.about.name, "not loaded ahead: {e}");
        }
    }
}

impl Worker {
    fn spawn(about: Arc<About>) -> std::io::Result<Self> {
        let (inbox, requests) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name(format!("llama-{}", about.name))
            .stack_size(STACK_BYTES)
            .spawn(move || work(&about, &requests))?;
        Ok(Self {
            inbox: Some(inbox),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    /// Waits for the thread, so that llama.cpp computes nothing while the process ends: at most one
    /// batch, or the loading of the model.
    fn drop(&mut self) {
        self.inbox = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        thread.thread().unpark();
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("the thread of a model panicked");
        }
    }
}

/// The life of the thread. After a failure the model is loaded again with the next request.
fn work(about: &About, requests: &Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let outcome = catch_unwind(AssertUnwindSafe(|| match load(about) {
            Ok(model) => serve(about, &model, requests, first),
            Err(e) => {
                tracing::error!(model = about.name, "{e}");
                first.fail(e);
            }
        }));
        // The feeds of running jobs are gone with the panic, which their readers see.
        if outcome.is_err() {
            tracing::error!(model = about.name, "panicked; its jobs are lost");
        }
    }
}

impl Request {
    /// Tells whoever waits for it.
    fn fail(self, error: EngineError) {
        match self {
            Self::Load => {}
            // Whoever asked may be gone.
            Self::Count(counting) => drop(counting.answer.send(Err(error))),
            Self::Job(queued) => {
                queued.feed.try_send(Err(error));
            }
        }
    }
}

fn model_error(what: &str, e: &dyn std::fmt::Display) -> EngineError {
    EngineError::Model(format!("{what}: {e}"))
}

/// llama.cpp, initialised once for the process and quiet unless debug messages are wanted.
fn backend() -> Result<&'static LlamaBackend, EngineError> {
    static BACKEND: OnceLock<Result<LlamaBackend, EngineError>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        let wanted = tracing::enabled!(target: "llama-cpp-2", tracing::Level::DEBUG);
        send_logs_to_tracing(LogOptions::default().with_logs_enabled(wanted));
        LlamaBackend::init().map_err(|e| model_error("llama.cpp does not start", &e))
    });
    backend.as_ref().map_err(Clone::clone)
}

fn load(about: &About) -> Result<LlamaModel, EngineError> {
    let backend = backend()?;
    let loaded = about
        .weights
        .at_path(|path| LlamaModel::load_from_file(backend, path, &LlamaModelParams::default()));
    let model = loaded
        .map_err(|e| model_error("its file cannot be opened", &e))?
        .map_err(|e| model_error("llama.cpp did not load it (RUST_LOG=debug says why)", &e))?;
    tracing::info!(model = about.name, id = %about.card.id.short(), "loaded");
    Ok(model)
}

/// Answers jobs until nobody can send more.
fn serve(about: &About, model: &LlamaModel, requests: &Receiver<Request>, first: Request) {
    let mut first = Some(first);
    let mut bench = match Bench::new(about, model) {
        Ok(bench) => bench,
        Err(e) => {
            if let Some(first) = first {
                first.fail(e);
            }
            return;
        }
    };
    loop {
        while let Some(place) = bench.free() {
            let request = match first.take() {
                Some(request) => Ok(request),
                None if bench.is_idle() => requests.recv().map_err(|_| TryRecvError::Disconnected),
                None => requests.try_recv(),
            };
            match request {
                Ok(Request::Load) => {}
                Ok(Request::Count(counting)) => bench.count(*counting),
                Ok(Request::Job(queued)) => bench.admit(place, *queued),
                Err(TryRecvError::Disconnected) if bench.is_idle() => return,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        if !bench.round() {
            thread::park_timeout(NAP);
        }
    }
}

/// A job that runs.
struct Running {
    prompt: Vec<LlamaToken>,
    /// Prompt tokens computed so far.
    seen: usize,
    /// Chosen, but not yet computed.
    last: Option<LlamaToken>,
    left: u32,
    sampler: Sampler,
    text: Assembler,
    usage: Usage,
    feed: Feed,
    outbox: VecDeque<Event>,
    finished: bool,
}

impl Running {
    fn finish(&mut self, finish: Finish) {
        self.outbox.extend(self.text.flush().map(Event::Piece));
        let usage = self.usage;
        self.outbox.push_back(Event::End { usage, finish });
        self.finished = true;
    }

    /// Takes a token that was chosen.
    fn take(&mut self, token: LlamaToken, vocab: &LlamaVocab<'_>) -> Result<(), EngineError> {
        if vocab.is_eog(token) {
            self.finish(Finish::Stop);
            return Ok(());
        }
        let id = u32::try_from(token.0).map_err(|e| model_error("a token", &e))?;
        self.usage.tokens_out = self.usage.tokens_out.saturating_add(1);
        self.left = self.left.saturating_sub(1);
        self.last = Some(token);
        if self
            .text
            .push(id, &vocab.token_to_piece(token, false, None))
        {
            self.finish(Finish::Stop);
        } else if self.left == 0 {
            self.finish(Finish::Length);
        } else {
            self.outbox.extend(self.text.take().map(Event::Piece));
        }
        Ok(())
    }
}

/// What became of a job in one round.
enum Step {
    Worked,
    Waits,
    Done,
}

/// Where jobs are computed: the context, and a place for each sequence of it.
struct Bench<'a> {
    about: &'a About,
    vocab: LlamaVocab<'a>,
    specials: Specials,
    context: LlamaContext<'a>,
    batch: LlamaBatch<'static>,
    /// The index is the sequence.
    places: Vec<Option<Running>>,
}

impl<'a> Bench<'a> {
    fn new(about: &'a About, model: &'a LlamaModel) -> Result<Self, EngineError> {
        let places = if about.small { PLACES.0 } else { PLACES.1 };
        let threads = if about.small {
            1
        } else {
            let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
            i32::try_from(cores.saturating_sub(1).max(1)).unwrap_or(1)
        };
        let each = about
            .context
            .div_ceil(CONTEXT_STEP)
            .saturating_mul(CONTEXT_STEP);
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(each.saturating_mul(places)))
            .with_n_seq_max(places)
            .with_kv_unified(false)
            .with_n_batch(BATCH)
            .with_n_ubatch(BATCH)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let context = model
            .new_context(backend()?, params)
            .map_err(|e| model_error("llama.cpp made no context; memory may be short", &e))?;
        let vocab = model.vocab();
        Ok(Self {
            about,
            specials: Specials::of(&vocab),
            vocab,
            context,
            batch: LlamaBatch::new(usize::try_from(BATCH).unwrap_or(1), 1),
            places: (0..places).map(|_| None).collect(),
        })
    }

    fn free(&self) -> Option<usize> {
        self.places.iter().position(Option::is_none)
    }

    fn is_idle(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    fn admit(&mut self, place: usize, queued: Queued) {
        if queued.feed.is_closed() {
            return;
        }
        let prompt = match self.prompt(&queued) {
            Ok(prompt) => prompt,
            Err(e) => {
                queued.feed.try_send(Err(e));
                return;
            }
        };
        let tokens_in = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        let room = self.about.context.saturating_sub(tokens_in);
        let mut running = Running {
            prompt,
            seen: 0,
            last: None,
            left: queued.job.max_out.min(room),
            sampler: queued.job.sampler,
            text: Assembler::new(queued.job.stop),
            usage: Usage {
                tokens_in,
                ..Usage::default()
            },
            feed: queued.feed,
            outbox: VecDeque::new(),
            finished: false,
        };
        if running.left == 0 {
            running.finish(Finish::Length);
        }
        if let Some(place) = self.places.get_mut(place) {
            *place = Some(running);
        }
    }

    fn count(&self, counting: Counting) {
        let Counting {
            parts,
            messages,
            answer,
        } = counting;
        let tokens = self.specials.prompt(&self.vocab, &parts, &messages);
        // Whoever asked may be gone.
        drop(answer.send(Ok(u32::try_from(tokens.len()).unwrap_or(u32::MAX))));
    }

    /// The tokens of a prompt that leaves room for at least one more.
    fn prompt(&self, queued: &Queued) -> Result<Vec<LlamaToken>, EngineError> {
        let tokens = self
            .specials
            .prompt(&self.vocab, &queued.parts, &queued.job.messages);
        let count = u64::try_from(tokens.len()).unwrap_or(u64::MAX);
        if tokens.is_empty() {
            return Err(EngineError::Template("it made an empty prompt".to_owned()));
        }
        if count >= u64::from(self.about.context) {
            return Err(EngineError::TooLong {
                tokens: count,
                context: self.about.context,
            });
        }
        if count > u64::from(queued.job.max_in) {
            return Err(EngineError::AboveAgreed {
                tokens: count,
                max_in: queued.job.max_in,
            });
        }
        if count > queued.max_in {
            return Err(EngineError::Model(format!(
                "its tokenizer made {count} tokens where at most {} were promised",
                queued.max_in
            )));
        }
        Ok(tokens)
    }

    /// Lets each job make one step. False when all of them wait for their readers.
    fn round(&mut self) -> bool {
        let mut worked = false;
        for index in 0..self.places.len() {
            let Some(mut running) = self.places.get_mut(index).and_then(Option::take) else {
                continue;
            };
            let step = self.step(index, &mut running).unwrap_or_else(|e| {
                running.feed.try_send(Err(e));
                Step::Done
            });
            match step {
                Step::Done => self.forget(index),
                Step::Worked | Step::Waits => {
                    if let Some(place) = self.places.get_mut(index) {
                        *place = Some(running);
                    }
                }
            }
            worked |= !matches!(step, Step::Waits);
        }
        worked
    }

    fn forget(&mut self, index: usize) {
        let sequence = u32::try_from(index).ok();
        if let Err(e) = self.context.clear_kv_cache_seq(sequence, None, None) {
            tracing::error!(model = self.about.name, "a sequence was not cleared: {e}");
        }
    }

    fn step(&mut self, index: usize, running: &mut Running) -> Result<Step, EngineError> {
        if running.feed.is_closed() {
            return Ok(Step::Done);
        }
        while running.feed.has_room() {
            let Some(event) = running.outbox.pop_front() else {
                break;
            };
            running.feed.try_send(Ok(event));
        }
        if running.outbox.is_empty() && running.finished {
            return Ok(Step::Done);
        }
        if !running.feed.has_room() {
            return Ok(Step::Waits);
        }
        if running.feed.is_cancelled() {
            running.finish(Finish::Cancelled);
            return Ok(Step::Worked);
        }
        let size = usize::try_from(BATCH).unwrap_or(1);
        let rest = running.prompt.get(running.seen..).unwrap_or_default();
        if rest.is_empty() {
            let (past, out) = (running.usage.tokens_in, running.usage.tokens_out);
            let last: Vec<_> = running.last.into_iter().collect();
            self.compute(index, &last, past.saturating_add(out).saturating_sub(1))?;
        } else {
            let chunk = rest.get(..size).unwrap_or(rest);
            let past = u32::try_from(running.seen).unwrap_or(u32::MAX);
            self.compute(index, chunk, past)?;
            running.seen = running.seen.saturating_add(chunk.len());
            if running.seen < running.prompt.len() {
                return Ok(Step::Worked);
            }
        }
        let position = running
            .usage
            .tokens_in
            .saturating_add(running.usage.tokens_out);
        let logits = self
            .context
            .get_logits_ith(self.batch.n_tokens().saturating_sub(1));
        let token = sample::choose(logits, running.sampler, position)
            .and_then(|token| i32::try_from(token).ok())
            .ok_or_else(|| EngineError::Model("it computed no numbers".to_owned()))?;
        running.take(LlamaToken(token), &self.vocab)?;
        Ok(Step::Worked)
    }

    /// Computes tokens (at most a batch) after `past` others of the same sequence.
    fn compute(
        &mut self,
        index: usize,
        tokens: &[LlamaToken],
        past: u32,
    ) -> Result<(), EngineError> {
        let narrow = |e| model_error("a position", &e);
        let sequence = i32::try_from(index).map_err(narrow)?;
        self.batch.clear();
        let mut position = i32::try_from(past).map_err(narrow)?;
        for (n, token) in tokens.iter().enumerate() {
            let is_last = n.saturating_add(1) == tokens.len();
            self.batch
                .add(*token, position, &[sequence], is_last)
                .map_err(|e| model_error("a batch", &e))?;
            position = position.saturating_add(1);
        }
        self.context
            .decode(&mut self.batch)
            .map_err(|e| model_error("llama.cpp", &e))
    }
}

/// The control tokens of a vocabulary, longest first, by their first byte. One of a single byte is
/// left out: nobody means it as control, and the bound of [`About::max_in`] rests on two.
struct Specials(BTreeMap<u8, Vec<(Vec<u8>, LlamaToken)>>);

impl Specials {
    fn of(vocab: &LlamaVocab<'_>) -> Self {
        let mut specials: BTreeMap<u8, Vec<(Vec<u8>, LlamaToken)>> = BTreeMap::new();
        for token in (0..vocab.n_tokens()).map(LlamaToken) {
            if !vocab.is_control(token) {
                continue;
            }
            let text = vocab.text(token).map_or(&[][..], |text| text.to_bytes());
            if let [first, _, ..] = text {
                let entry = specials.entry(*first).or_default();
                entry.push((text.to_vec(), token));
            }
        }
        for same in specials.values_mut() {
            same.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        Self(specials)
    }

    /// The special token that `text` starts with.
    fn at(&self, text: &[u8]) -> Option<&(Vec<u8>, LlamaToken)> {
        let same = self.0.get(text.first()?)?;
        same.iter().find(|(special, _)| text.starts_with(special))
    }

    /// The tokens of a prompt: what llama.cpp makes of the whole text, except that the text of a
    /// special token inside a content is only text.
    fn prompt(
        &self,
        vocab: &LlamaVocab<'_>,
        parts: &[Part],
        messages: &[Message],
    ) -> Vec<LlamaToken> {
        let mut tokens = Vec::new();
        let mut plain = Vec::new();
        for part in parts {
            match part {
                Part::Content(index) => {
                    let content = messages.get(*index).map_or("", |m| m.content.as_str());
                    plain.extend_from_slice(content.as_bytes());
                }
                Part::Frame(text) => {
                    let mut rest = text.as_bytes();
                    while let Some((first, after)) = rest.split_first() {
                        if let Some((special, token)) = self.at(rest) {
                            words(vocab, &mut plain, &mut tokens);
                            tokens.push(*token);
                            rest = rest.get(special.len()..).unwrap_or_default();
                        } else {
                            plain.push(*first);
                            rest = after;
                        }
                    }
                }
            }
        }
        words(vocab, &mut plain, &mut tokens);
        let begin = vocab.bos();
        if vocab.should_add_bos() && begin.0 >= 0 && tokens.first() != Some(&begin) {
            tokens.insert(0, begin);
        }
        tokens
    }
}

/// Moves text without special tokens over to the tokens it makes. A tokenizer that merges ordinary
/// letters into a control token all the same loses it here.
fn words(vocab: &LlamaVocab<'_>, plain: &mut Vec<u8>, tokens: &mut Vec<LlamaToken>) {
    if plain.is_empty() {
        return;
    }
    let made = vocab.tokenize(plain, false, false);
    let harmless = |token: &LlamaToken| !vocab.is_control(*token) && !vocab.is_eog(*token);
    tokens.extend(made.into_iter().filter(harmless));
    plain.clear();
}

#[cfg(test)]
mod tests;
