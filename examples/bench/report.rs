//! Figures, the targets beside them, and how they are shown.

use serde_json::{Map, Value, json};

/// Which of the values a target holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// Half are below.
    Median,
    /// Of a hundred, one is above.
    P99,
    /// The largest.
    Max,
}

/// On which side of a figure a value shall lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Below(f64),
    AtLeast(f64),
}

/// One thing that was measured, more than once.
#[derive(Debug)]
struct Figure {
    name: String,
    unit: &'static str,
    /// In order of size.
    values: Vec<f64>,
    /// Where this of them shall lie.
    target: Option<(Judged, Side)>,
}

impl Figure {
    fn min(&self) -> f64 {
        self.values.first().copied().unwrap_or(f64::NAN)
    }

    fn max(&self) -> f64 {
        self.values.last().copied().unwrap_or(f64::NAN)
    }

    fn median(&self) -> f64 {
        middle(&self.values)
    }

    fn p99(&self) -> f64 {
        hundredth(&self.values)
    }

    fn verdict(&self) -> &'static str {
        match self.target {
            None => "",
            Some(target) if self.meets(target) => "met",
            Some(_) => "MISSED",
        }
    }

    fn meets(&self, (judged, side): (Judged, Side)) -> bool {
        let value = match judged {
            Judged::Median => self.median(),
            Judged::P99 => self.p99(),
            Judged::Max => self.max(),
        };
        match side {
            Side::Below(below) => value < below,
            Side::AtLeast(least) => value >= least,
        }
    }

    fn line(&self) -> String {
        let target = self.target.map_or(String::new(), |(judged, target)| {
            let which = match judged {
                Judged::Median => "",
                Judged::P99 => "p99 ",
                Judged::Max => "max ",
            };
            match target {
                Side::Below(below) => format!("{which}< {below}"),
                Side::AtLeast(least) => format!("{which}>= {least}"),
            }
        });
        let line = format!(
            "{:<44} {:>8} {:>8} {:>8} {:>8} {:<6} {:>4}  {:<9} {}",
            self.name,
            short(self.min()),
            short(self.median()),
            short(self.p99()),
            short(self.max()),
            self.unit,
            self.values.len(),
            target,
            self.verdict(),
        );
        line.trim_end().to_owned() + "\n"
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "min": self.min(), "median": self.median(),
            "p99": self.p99(), "max": self.max(), "values": self.values,
            "target_below": self.target.and_then(|(_, side)| match side {
                Side::Below(below) => Some(below),
                Side::AtLeast(_) => None,
            }),
            "target_at_least": self.target.and_then(|(_, side)| match side {
                Side::Below(_) => None,
                Side::AtLeast(least) => Some(least),
            }),
            "target_of": self.target.map(|(judged, _)| format!("{judged:?}").to_lowercase()),
            "met": self.target.map(|target| self.meets(target)),
        })
    }
}

/// The middle of values that are in order.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(half.wrapping_sub(1)), at(half))
    } else {
        at(half)
    }
}

/// The smallest of values in order that 99 of 100 do not exceed.
fn hundredth(sorted: &[f64]) -> f64 {
    let above = sorted.len() / 100;
    let place = sorted.len().saturating_sub(1 + above);
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// What 99 of 100 values do not exceed.
pub(crate) fn p99(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    hundredth(&values)
}

/// The median of values in any order.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    middle(&values)
}

/// Three digits or more.
fn short(value: f64) -> String {
    if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// All that was measured, and where.
#[derive(Debug)]
pub(crate) struct Report {
    facts: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(facts: Vec<(&'static str, String)>) -> Self {
        Self {
            facts,
            figures: Vec::new(),
        }
    }

    pub(crate) fn fact(&mut self, name: &'static str, value: String) {
        self.facts.push((name, value));
    }

    /// Adds a figure; the median of `values` shall be below `target`, if there is one.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
        target: Option<f64>,
    ) {
        let target = target.map(|target| (Judged::Median, target));
        self.add_judged(name, unit, values, target);
    }

    /// Adds a figure of which another value than the median is judged.
    pub(crate) fn add_judged(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
        target: Option<(Judged, f64)>,
    ) {
        let target = target.map(|(judged, below)| (judged, Side::Below(below)));
        self.push(name.into(), unit, values, target);
    }

    /// Adds a figure whose median shall be this or more.
    pub(crate) fn add_at_least(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
        least: f64,
    ) {
        let target = Some((Judged::Median, Side::AtLeast(least)));
        self.push(name.into(), unit, values, target);
    }

    fn push(
        &mut self,
        name: String,
        unit: &'static str,
        mut values: Vec<f64>,
        target: Option<(Judged, Side)>,
    ) {
        values.sort_by(f64::total_cmp);
        self.figures.push(Figure {
            name,
            unit,
            values,
            target,
        });
    }

    pub(crate) fn table(&self) -> String {
        let facts = self.facts.iter();
        let mut lines: Vec<String> = facts
            .map(|(name, value)| format!("{name:<26} {value}\n"))
            .collect();
        lines.push(format!(
            "\n{:<44} {:>8} {:>8} {:>8} {:>8} {:<6} {:>4}  target\n",
            "", "min", "median", "p99", "max", "unit", "n"
        ));
        lines.extend(self.figures.iter().map(Figure::line));
        let with_target = self.figures.iter().filter(|f| f.target.is_some());
        let missed = with_target.clone().filter(|f| f.verdict() == "MISSED");
        let (missed, of) = (missed.count(), with_target.count());
        lines.push(format!("\n{missed} of {of} targets are missed\n"));
        lines.concat()
    }

    pub(crate) fn json(&self) -> Value {
        let facts: Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        json!({ "machine": facts, "figures": figures })
    }
}
