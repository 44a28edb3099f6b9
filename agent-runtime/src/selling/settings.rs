//! What the owner decided about selling. Kept as JSON: a field that is missing has its default.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tirami_manifest::{Amount, NodeId, Timestamp};

use super::asked::Bounds;
use super::hours::Hours;
use super::places::Room;

/// Jobs at once unless it was set; chosen: what an engine takes and lets wait itself.
const SLOTS: u32 = 16;

/// Jobs in line unless it was set; chosen, so that each has its turn in time on a machine that is not
/// too slow.
const QUEUE: u32 = 64;

/// Most jobs at once or in line; what a node serves at once in all.
pub(crate) const PLACES_MAX: u32 = 256;

/// Most hours in a schedule; chosen.
pub(crate) const HOURS_MAX: usize = 32;

/// Most buyers in a list; chosen.
pub(crate) const BUYERS_MAX: usize = 1_024;

/// Who may buy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Buyers {
    /// Whoever can pay.
    #[default]
    Any,
    /// Those whose accounts this node keeps, and the network's authority.
    Members,
    /// These nodes only.
    List(BTreeSet<NodeId>),
}

/// Nothing is sold for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pause {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Until when; until it is resumed when absent.
    pub(crate) until: Option<Timestamp>,
}

impl Pause {
    /// Whether it is over.
    pub(crate) fn is_over(self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// What the owner decided about selling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The price's bounds; the configured price when absent.
    pub(crate) price: Option<Bounds>,
    /// When it sells; always when there are none.
    pub(crate) hours: Vec<Hours>,
    pub(crate) paused: Option<Pause>,
    /// Nothing is sold while the machine's load is above this.
    pub(crate) busy_percent: Option<u32>,
    /// Most that is earned in any 24 hours.
    pub(crate) daily_cap_trm: Option<Amount>,
    /// Jobs at once.
    pub(crate) slots: u32,
    /// Jobs that wait.
    pub(crate) queue: u32,
    pub(crate) buyers: Buyers,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            price: None,
            hours: Vec::new(),
            paused: None,
            busy_percent: None,
            daily_cap_trm: None,
            slots: SLOTS,
            queue: QUEUE,
            buyers: Buyers::Any,
        }
    }
}

impl Settings {
    pub(crate) const fn room(&self) -> Room {
        Room {
            slots: self.slots,
            queue: self.queue,
        }
    }
}
