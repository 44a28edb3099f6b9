//! How soon a provider's engine stops when whoever reads the answer hangs up.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context, Result};
use tirami_agent_runtime::Ask;
use tirami_manifest::job::{Finish, Message, PromptShape};
use tirami_manifest::model::{ModelCard, Usage};
use tirami_mesh::engine::echo::Echo;
use tirami_mesh::engine::{Engine, EngineError, Event, Feed, Job, Piece, Run};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::inside::{Inside, Wire};
use crate::process::WITHIN;

/// How often an engine looks whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Pieces that are read before the reader hangs up, at least.
const READ: u32 = 2;

/// An engine that says a word in every beat, and when it stopped.
#[derive(Debug)]
struct Metronome {
    beat: Duration,
    stopped: mpsc::UnboundedSender<Instant>,
}

impl Engine for Metronome {
    fn name(&self) -> &'static str {
        "metronome"
    }

    fn card(&self) -> ModelCard {
        Echo.card()
    }

    fn fingerprint(&self) -> [u8; 8] {
        Echo.fingerprint()
    }

    fn max_in(&self, shape: &PromptShape) -> Result<u32, EngineError> {
        Echo.max_in(shape)
    }

    fn count<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> Pin<Box<dyn Future<Output = Result<u32, EngineError>> + Send + 'a>> {
        Echo.count(messages)
    }

    fn start(&self, job: Job) -> Result<Run, EngineError> {
        let (feed, run) = Run::channel();
        tokio::spawn(beats(feed, job, self.beat, self.stopped.clone()));
        Ok(run)
    }
}

async fn beats(feed: Feed, job: Job, beat: Duration, stopped: mpsc::UnboundedSender<Instant>) {
    let mut usage = Usage {
        tokens_in: job.max_in,
        ..Usage::default()
    };
    let mut next = Instant::now();
    let finish = loop {
        if feed.is_cancelled() || feed.is_closed() {
            if stopped.send(Instant::now()).is_err() {
                // The measurement is over.
                return;
            }
            break Finish::Cancelled;
        }
        if usage.tokens_out == job.max_out {
            break Finish::Length;
        }
        if Instant::now() < next {
            sleep(LOOK_EVERY).await;
            continue;
        }
        next += beat;
        usage.tokens_out += 1;
        let piece = Piece {
            tokens: vec![usage.tokens_out],
            text: "tick ".to_owned(),
        };
        feed.send(Ok(Event::Piece(piece))).await;
    };
    feed.send(Ok(Event::End { usage, finish })).await;
}

/// Milliseconds from hanging up to the end of the work, over loopback, at so many words a second.
pub(crate) async fn measure(dir: &Path, beat: Duration, times: u32) -> Result<Vec<f64>> {
    let (stopped, mut stops) = mpsc::unbounded_channel();
    let engine = Arc::new(Metronome { beat, stopped });
    let pair = Inside::start(dir, Wire::Loopback, engine).await?;
    let mut took = Vec::new();
    for number in 0..times {
        let (sink, mut text) = mpsc::channel(64);
        let agent = pair.buyer.agent();
        let ask = Ask::new("how late is it?").max_tokens(1_000);
        let purchase = tokio::spawn(async move { agent.ask_streaming(ask, sink).await });
        for _ in 0..READ + number % 3 {
            let piece = timeout(WITHIN, text.recv()).await?;
            piece.context("the answer ended")?;
        }
        // In another moment between two words each time.
        sleep(beat * (number % 7) / 8).await;
        let hung_up = Instant::now();
        drop(text);
        let end = timeout(WITHIN, stops.recv()).await?.context("no engine")?;
        took.push(end.saturating_duration_since(hung_up).as_secs_f64() * 1e3);
        // What was vouched for is paid, or nothing was; either way it is over now.
        drop(timeout(WITHIN, purchase).await?);
    }
    pair.stop().await?;
    Ok(took)
}
