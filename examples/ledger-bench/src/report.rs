//! Figures by name, and the ratios between them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::meter::{Lap, flush_time};

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    flush_us: [f64; 2],
    figures: BTreeMap<String, Vec<Lap>>,
    order: Vec<String>,
    times: Vec<(String, f64, Option<f64>)>,
    ratios: Vec<Ratio>,
}

#[derive(Debug)]
struct Ratio {
    what: String,
    /// Best of the one over best of the other.
    best: f64,
    /// Median of the rounds' own ratios.
    median: f64,
    target: Target,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    None,
}

impl Target {
    fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(target) => Some(value >= target),
            Self::AtMost(target) => Some(value <= target),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(target) => format!(">= {target}"),
            Self::AtMost(target) => format!("<= {target}"),
            Self::None => String::new(),
        }
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    if met == Some(false) { "MISSED" } else { "" }
}

impl Report {
    pub(crate) fn new(folder: &Path) -> Self {
        let flush = flush_time(folder).as_secs_f64() * 1e6;
        Self {
            flush_us: [flush, flush],
            figures: BTreeMap::new(),
            order: Vec::new(),
            times: Vec::new(),
            ratios: Vec::new(),
        }
    }

    pub(crate) fn finish(&mut self, folder: &Path) {
        self.flush_us[1] = flush_time(folder).as_secs_f64() * 1e6;
    }

    /// One round of a figure.
    pub(crate) fn lap(&mut self, name: &str, lap: Lap) {
        if !self.figures.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.figures.entry(name.to_owned()).or_default().push(lap);
    }

    /// How long something took, in seconds, that happens once.
    pub(crate) fn time(&mut self, name: &str, seconds: f64, at_most: Option<f64>) {
        self.times.push((name.to_owned(), seconds, at_most));
    }

    fn laps(&self, name: &str) -> &[Lap] {
        self.figures.get(name).map_or(&[], Vec::as_slice)
    }

    fn best(&self, name: &str) -> f64 {
        let rates = self.laps(name).iter().map(Lap::per_second);
        rates.fold(0.0, f64::max)
    }

    fn least(&self, name: &str, of: fn(&Lap) -> f64) -> f64 {
        self.laps(name).iter().map(of).fold(f64::INFINITY, f64::min)
    }

    /// The rate of `above`, times `factor`, over that of `below`.
    pub(crate) fn rates(
        &mut self,
        what: &str,
        (above, factor, below): (&str, f64, &str),
        target: Target,
    ) {
        let best = self.best(above) * factor / self.best(below);
        let each = self.each(above, below, Lap::per_second);
        self.ratio(what, best, median(each) * factor, target);
    }

    /// The processor time of `above` over that of `below`, an operation.
    pub(crate) fn processor(&mut self, what: &str, above: &str, below: &str, target: Target) {
        let best = self.least(above, Lap::processor_us) / self.least(below, Lap::processor_us);
        let each = self.each(above, below, Lap::processor_us);
        self.ratio(what, best, median(each), target);
    }

    fn each(&self, above: &str, below: &str, of: fn(&Lap) -> f64) -> Vec<f64> {
        let pairs = self.laps(above).iter().zip(self.laps(below));
        pairs.map(|(a, b)| of(a) / of(b)).collect()
    }

    fn ratio(&mut self, what: &str, best: f64, median: f64, target: Target) {
        self.ratios.push(Ratio {
            what: what.to_owned(),
            best,
            median,
            target,
        });
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes text");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let [before, after] = self.flush_us;
        writeln!(
            text,
            "4 KiB written and flushed: {before:.0} us before, {after:.0} us after\n"
        )?;
        writeln!(
            text,
            "{:<52} {:>9} {:>9} {:>8} {:>9}",
            "best of the rounds", "a second", "cpu us", "flushes", "KiB"
        )?;
        for name in &self.order {
            writeln!(
                text,
                "{name:<52} {:>9.0} {:>9.1} {:>8.3} {:>9.2}",
                self.best(name),
                self.least(name, Lap::processor_us),
                self.least(name, Lap::flushes_each),
                self.least(name, Lap::bytes_each) / 1024.0
            )?;
        }
        for (name, seconds, at_most) in &self.times {
            let target = at_most.map_or(Target::None, Target::AtMost);
            let met = target.met(*seconds);
            writeln!(
                text,
                "{name:<52} {seconds:>9.3} s   {:<8} {}",
                target.text(),
                verdict(met)
            )?;
        }
        writeln!(
            text,
            "\n{:<60} {:>7} {:>7}  target",
            "ratio", "best", "median"
        )?;
        for Ratio {
            what,
            best,
            median,
            target,
        } in &self.ratios
        {
            let met = verdict(target.met(*best));
            writeln!(
                text,
                "{what:<60} {best:>7.3} {median:>7.3}  {:<8} {met}",
                target.text()
            )?;
        }
        Ok(())
    }

    pub(crate) fn json(&self) -> Result<String> {
        let figures: BTreeMap<&String, Value> = self
            .figures
            .iter()
            .map(|(name, laps)| {
                let of = |of: fn(&Lap) -> f64| -> Vec<f64> { laps.iter().map(of).collect() };
                let value = json!({
                    "per_second": of(Lap::per_second),
                    "processor_us": of(Lap::processor_us),
                    "flushes_each": of(Lap::flushes_each),
                    "bytes_each": of(Lap::bytes_each),
                });
                (name, value)
            })
            .collect();
        let ratios: Vec<Value> = self
            .ratios
            .iter()
            .map(|r| {
                json!({
                    "what": r.what, "best": r.best, "median": r.median,
                    "target": r.target.text(), "met": r.target.met(r.best),
                })
            })
            .collect();
        let times: Vec<Value> = self
            .times
            .iter()
            .map(|(name, seconds, at_most)| json!({"what": name, "seconds": seconds, "at_most": at_most}))
            .collect();
        let all = json!({
            "flush_us": self.flush_us, "figures": figures, "times": times, "ratios": ratios,
        });
        Ok(serde_json::to_string_pretty(&all)?)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
