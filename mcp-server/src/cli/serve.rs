//! How this node sells: shown, and changed one thing at a time. Only whoever has the data directory or
//! the main agent's token changes it.

use std::fmt::Display;
use std::str::FromStr;

use clap::{Args, Subcommand};
use tirami_agent_runtime::ops::{Buyers, ChangeServe, Serve, ServeOutput};
use tirami_manifest::{Amount, NodeId, Timestamp};

use super::context::Context;
use super::exit::{Exit, Problem};
use super::local_time;
use super::output::{Output, Style};
use crate::access::Need;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ServeArgs {
    #[command(subcommand)]
    command: Option<ServeCommand>,
}

#[derive(Debug, Subcommand)]
enum ServeCommand {
    /// Let the price move between two bounds, the higher the more places are taken
    Price(PriceArgs),
    /// Sell in certain hours of the node's local time only, or always
    ///
    /// Hours are two times of the day, with days before them when not every day is meant; they may go
    /// over midnight: 22:00-07:00, or mon-fri 22:00-07:00 sat,sun 00:00-24:00
    Schedule {
        /// Hours, each with its days before it where it has some; or 'always'
        #[arg(required = true, value_name = "HOURS|always")]
        words: Vec<String>,
    },
    /// Sell nothing from now on; jobs that run go on
    Pause {
        /// How long, such as 2h or 3d, or until which moment, a year at most; until 'resume' when absent
        #[arg(long = "for", value_name = "DURATION", value_parser = local_time::end)]
        until: Option<Timestamp>,
    },
    /// Sell again after a pause
    Resume,
    /// Sell nothing while the machine's load is above this percentage of what its processors can do
    Busy {
        /// Percent, or 'off'
        #[arg(value_name = "PERCENT|off")]
        percent: OrOff<u32>,
    },
    /// Stop selling once so much was earned in any 24 hours
    DailyCap {
        /// TRM, or 'off'
        #[arg(value_name = "TRM|off", allow_hyphen_values = true)]
        trm: OrOff<Amount>,
    },
    /// How many jobs run at once
    Slots {
        /// From 1 to 256
        count: u32,
    },
    /// How many jobs wait for a slot; further ones are told to come back
    Queue {
        /// From 0 to 256
        count: u32,
    },
    /// Who may buy
    #[command(subcommand)]
    Buyers(BuyersCommand),
}

#[derive(Debug, Args)]
struct PriceArgs {
    /// What is asked with nothing to do, relative to par, such as 0.8; or 'default' for the configured
    /// price
    #[arg(value_name = "MIN|default")]
    min: OrDefault,
    /// What is asked when every place is taken, such as 2; the same as MIN when absent
    #[arg(value_name = "MAX")]
    max: Option<Price>,
}

#[derive(Debug, Subcommand)]
enum BuyersCommand {
    /// Whoever can pay
    Any,
    /// Those whose accounts this node keeps, and the network's authority
    Members,
    /// These nodes only
    List {
        /// Ids of nodes; 'tirami-agent peers --json' shows them
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<NodeId>,
    },
}

/// A value, or none.
#[derive(Clone, Copy, Debug)]
enum OrOff<T> {
    To(T),
    Off,
}

impl<T: FromStr> FromStr for OrOff<T>
where
    T::Err: Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::To)
            .map_err(|error: T::Err| format!("{error}; or write 'off'"))
    }
}

/// A price relative to par, in parts per million; written as a decimal number.
#[derive(Clone, Copy, Debug)]
struct Price(u32);

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A price relative to par is what 10^9 FLOP cost in TRM.
        let trm: Amount = text
            .parse()
            .map_err(|error| format!("'{text}' is not a price relative to par: {error}"))?;
        match u32::try_from(trm.utrm()) {
            Ok(0) => Err("a price of 0 is not traded; the least is 0.000001".to_owned()),
            Ok(ppm) => Ok(Self(ppm)),
            Err(_) => Err(format!("'{text}' is above the highest price, 4294.967295")),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum OrDefault {
    To(Price),
    Default,
}

impl FromStr for OrDefault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        text.parse()
            .map(Self::To)
            .map_err(|error| format!("{error}; or write 'default'"))
    }
}

pub(super) async fn run(context: &Context, args: ServeArgs) -> Result<Exit, Problem> {
    let serve = match args.command {
        None => context.ask(Need::Books, Serve {}).await?,
        Some(command) => context.ask(Need::Books, change(command)?).await?,
    };
    if context.out.is_json() {
        context.out.json(&serve);
    } else {
        show(&context.out, &serve);
    }
    Ok(Exit::Ok)
}

fn change(command: ServeCommand) -> Result<ChangeServe, Problem> {
    Ok(match command {
        ServeCommand::Price(PriceArgs { min, max }) => match (min, max) {
            (OrDefault::Default, None) => ChangeServe::DefaultPrice {},
            (OrDefault::Default, Some(_)) => {
                return Err(Problem::usage("'default' takes no second price"));
            }
            (OrDefault::To(min), max) => {
                let max = max.unwrap_or(min);
                if max.0 < min.0 {
                    let text = format!("MAX is {}, below MIN, {}", of_par(max.0), of_par(min.0));
                    return Err(Problem::usage(text));
                }
                ChangeServe::Price {
                    min_ppm: min.0,
                    max_ppm: max.0,
                }
            }
        },
        ServeCommand::Schedule { words } => ChangeServe::Schedule {
            hours: hours(&words),
        },
        ServeCommand::Pause { until: None } => ChangeServe::Pause {},
        ServeCommand::Pause { until: Some(until) } => ChangeServe::PauseUntil { until },
        ServeCommand::Resume => ChangeServe::Resume {},
        ServeCommand::Busy { percent } => match percent {
            OrOff::To(percent) => ChangeServe::Busy { percent },
            OrOff::Off => ChangeServe::BusyOff {},
        },
        ServeCommand::DailyCap { trm } => match trm {
            OrOff::To(trm) => ChangeServe::DailyCap { trm },
            OrOff::Off => ChangeServe::DailyCapOff {},
        },
        ServeCommand::Slots { count } => ChangeServe::Slots { count },
        ServeCommand::Queue { count } => ChangeServe::Queue { count },
        ServeCommand::Buyers(buyers) => ChangeServe::Buyers {
            who: match buyers {
                BuyersCommand::Any => Buyers::Any,
                BuyersCommand::Members => Buyers::Members,
                BuyersCommand::List { nodes } => Buyers::List(nodes.into_iter().collect()),
            },
        },
    })
}

/// Words on the command line as hours: days belong to the hours after them.
fn hours(words: &[String]) -> Vec<String> {
    if words == ["always"] {
        return Vec::new();
    }
    let mut words = words.iter().flat_map(|word| word.split_whitespace());
    let mut hours = Vec::new();
    while let Some(word) = words.next() {
        // What is neither is refused by whoever reads it.
        let rest = if word.contains(':') {
            None
        } else {
            words.next()
        };
        hours.push(rest.map_or_else(|| word.to_owned(), |rest| format!("{word} {rest}")));
    }
    hours
}

fn show(out: &Output, serve: &ServeOutput) {
    match &serve.closed {
        None => out.marked(Style::Good, "selling:", &serve.models.join(", ")),
        Some(why) => out.marked(Style::Warn, "not selling:", why),
    }
    if let Some(at) = &serve.opens_at {
        out.line(&format!("again: {}", local_time::exact(at)));
    }
    out.facts(&facts(serve));
}

fn facts(serve: &ServeOutput) -> Vec<(&'static str, String)> {
    let price = if serve.price_min_ppm == serve.price_max_ppm {
        format!("{} of par", of_par(serve.price_ppm))
    } else {
        format!(
            "{} of par, from {} with nothing to do to {} when every place is taken",
            of_par(serve.price_ppm),
            of_par(serve.price_min_ppm),
            of_par(serve.price_max_ppm)
        )
    };
    let or = |text: Vec<String>, none: &str| {
        if text.is_empty() {
            none.to_owned()
        } else {
            text.join("; ")
        }
    };
    let load = serve
        .load_percent
        .map_or_else(String::new, |load| format!(" (now {load} %)"));
    vec![
        ("price", price),
        ("hours", or(serve.schedule.clone(), "always")),
        (
            "pause",
            match (serve.paused, serve.paused_until.as_deref()) {
                (false, _) => "no".to_owned(),
                (true, None) => "until 'tirami-agent serve resume'".to_owned(),
                (true, Some(until)) => format!("until {}", local_time::exact(until)),
            },
        ),
        (
            "machine",
            serve.busy_percent.map_or_else(
                || format!("its load does not matter{load}"),
                |most| format!("not above a load of {most} %{load}"),
            ),
        ),
        (
            "24 hours",
            serve.daily_cap_trm.map_or_else(
                || format!("{} TRM earned, no cap", serve.trm_earned_24h),
                |cap| {
                    format!(
                        "{} TRM earned and up to {} TRM under way, of at most {cap} TRM",
                        serve.trm_earned_24h, serve.trm_under_way
                    )
                },
            ),
        ),
        ("slots", format!("{}, {} taken", serve.slots, serve.running)),
        (
            "queue",
            format!("{}, {} waiting", serve.queue, serve.waiting),
        ),
        (
            "buyers",
            match &serve.buyers {
                Buyers::Any => "whoever can pay".to_owned(),
                Buyers::Members => "members".to_owned(),
                Buyers::List(nodes) => nodes
                    .iter()
                    .map(NodeId::short)
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        ),
    ]
}

/// Parts per million as a decimal number without needless zeros.
fn of_par(ppm: u32) -> String {
    Amount::from_utrm(ppm.into()).map_or_else(|_| ppm.to_string(), |trm| trm.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_belong_to_the_hours_after_them() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            hours(&words)
        };
        assert_eq!(read(&["22:00-07:00"]), ["22:00-07:00"]);
        assert_eq!(
            read(&[
                "mon-fri",
                "22:00-07:00",
                "sat,sun 00:00-24:00",
                "01:00-02:00"
            ]),
            ["mon-fri 22:00-07:00", "sat,sun 00:00-24:00", "01:00-02:00"]
        );
        assert!(read(&["always"]).is_empty());
        // These are refused where they are read.
        assert_eq!(read(&["mon"]), ["mon"]);
        assert_eq!(read(&["always", "01:00-02:00"]), ["always 01:00-02:00"]);
    }

    #[test]
    fn a_price_is_a_decimal_number_relative_to_par() {
        let read = |text: &str| text.parse::<Price>().map(|price| price.0);
        assert_eq!(read("0.8"), Ok(800_000));
        assert_eq!(read("2"), Ok(2_000_000));
        assert_eq!(of_par(800_000), "0.8");
        for bad in ["0", "-1", "cheap", "0.0000001", "5000"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
