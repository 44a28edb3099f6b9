//! What an idle node keeps in memory.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::chat::Door;
use crate::process::{Agent, Folder, Running, WITHIN};
use crate::report::Report;
use crate::start::up;

/// Most memory without a model, and with the embedded one, in MB of 10^6 bytes.
const TARGETS: (f64, f64) = (40.0, 60.0);

/// How often memory is looked at, and how many looks in a row must agree before it counts as
/// settled: a model that is being loaded grows all the time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ALIKE: u32 = 10;

/// Memory without a model, with the embedded one loaded, and with it after an answer.
pub(crate) async fn measure(
    agent: &Agent,
    folder: &Folder,
    rounds: u32,
    report: &mut Report,
) -> Result<()> {
    let (mut without, mut with, mut after) = <(Sizes, Sizes, Sizes)>::default();
    for round in 0..rounds {
        let dir = folder.join(&format!("memory-{round}"));
        let (node, _) = up(agent, &dir, &["--no-local"]).await?;
        without.look(&node).await?;
        node.stop().await?;
        let (node, address) = up(agent, &dir, &[]).await?;
        with.look(&node).await?;
        let mut door = Door::open(address, &dir, "sprout").await?;
        door.ask().await?;
        after.look(&node).await?;
        node.stop().await?;
    }
    without.report("without a model", Some(TARGETS.0), report);
    with.report("with sprout", Some(TARGETS.1), report);
    after.report("with sprout, after an answer", Some(TARGETS.1), report);
    Ok(())
}

#[derive(Debug, Default)]
struct Sizes {
    rss: Vec<f64>,
    pss: Vec<f64>,
}

impl Sizes {
    /// Waits until memory has settled, and notes it.
    async fn look(&mut self, node: &Running) -> Result<()> {
        let until = Instant::now() + WITHIN;
        let (mut last, mut alike) = (0, 0);
        while alike < ALIKE && Instant::now() < until {
            sleep(LOOK_EVERY).await;
            let now = node.memory("Rss")?;
            alike = if now.abs_diff(last) <= now / 200 {
                alike + 1
            } else {
                0
            };
            last = now;
        }
        self.rss.push(f64::from(last) / 1e6);
        self.pss.push(f64::from(node.memory("Pss")?) / 1e6);
        Ok(())
    }

    fn report(self, which: &str, target: Option<f64>, report: &mut Report) {
        report.add(format!("idle {which}, RSS"), "MB", self.rss, target);
        report.add(format!("idle {which}, PSS"), "MB", self.pss, None);
    }
}
