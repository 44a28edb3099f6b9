//! Places for jobs: how many run, how many wait in line, and what they may earn.
//!
//! Whoever is alone may take them all. Where several want them, who has fewer goes first, and takes the place of
//! whoever waits with the most: nobody's crowd shuts another out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tirami_manifest::{Amount, Clock, NodeId};
use tokio::sync::oneshot;

/// How long a job waits in line at most; chosen: half of how long a consumer waits for a word.
const WAIT_MOST: Duration = Duration::from_secs(30);

/// What a job is taken to last while none has ended, in milliseconds; chosen.
const LASTS_MS: u64 = 5_000;

/// How many jobs may run and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) slots: u32,
    pub(crate) queue: u32,
}

impl Room {
    /// Places in all.
    pub(crate) const fn places(self) -> u32 {
        self.slots.saturating_add(self.queue)
    }
}

/// How many jobs run and wait now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) running: u32,
    pub(crate) waiting: u32,
}

impl Taken {
    /// Both together.
    pub(crate) const fn all(self) -> u32 {
        self.running.saturating_add(self.waiting)
    }
}

/// There is no place; how long until there may be one, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) retry_ms: u64,
}

/// The places of a node. Every clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Held for a few steps at a time; no await happens inside.
    line: Mutex<Line>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Line {
    room: Room,
    running: u32,
    /// Of them, of each buyer.
    of: BTreeMap<NodeId, u32>,
    /// Who waits, first come first; each is told when its turn has come.
    waiting: VecDeque<(NodeId, oneshot::Sender<()>)>,
    /// What jobs last that end, in milliseconds, each counting for an eighth.
    lasts_ms: u64,
    /// What the jobs that are under way may earn together.
    under_way: u128,
}

impl Line {
    fn taken(&mut self) -> Taken {
        self.waiting.retain(|(_, turn)| !turn.is_closed());
        Taken {
            running: self.running,
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
        }
    }

    /// Gives free slots to those who wait.
    fn call(&mut self) {
        while self.running < self.room.slots {
            // Of those who have the fewest running, who came first.
            let waiting = self.waiting.iter().enumerate();
            let next = waiting.min_by_key(|(place, (buyer, _))| (self.runs(buyer), *place));
            let Some((place, _)) = next else {
                break;
            };
            if let Some((buyer, turn)) = self.waiting.remove(place)
                && turn.send(()).is_ok()
            {
                self.begins(buyer);
            }
        }
    }

    fn begins(&mut self, buyer: NodeId) {
        self.running = self.running.saturating_add(1);
        let runs = self.of.entry(buyer).or_default();
        *runs = runs.saturating_add(1);
    }

    fn ends(&mut self, buyer: &NodeId) {
        self.running = self.running.saturating_sub(1);
        if let Some(runs) = self.of.get_mut(buyer) {
            *runs = runs.saturating_sub(1);
            if *runs == 0 {
                self.of.remove(buyer);
            }
        }
        self.call();
    }

    fn runs(&self, buyer: &NodeId) -> u32 {
        self.of.get(buyer).copied().unwrap_or_default()
    }

    /// What runs and waits of a buyer.
    fn has(&self, buyer: &NodeId) -> usize {
        let waits = self.waiting.iter().filter(|(of, _)| of == buyer).count();
        waits.saturating_add(usize::try_from(self.runs(buyer)).unwrap_or(usize::MAX))
    }

    /// The last in line of the buyer with the most places, if that has two more than `buyer`.
    fn crowding(&self, buyer: &NodeId) -> Option<usize> {
        let waiting = self.waiting.iter().enumerate();
        let most = waiting.max_by_key(|(place, (of, _))| (self.has(of), *place));
        let (place, (of, _)) = most?;
        (self.has(of) > self.has(buyer).saturating_add(1)).then_some(place)
    }

    /// Whether there is no place, not even one that a crowd has to give up.
    fn full(&mut self, buyer: Option<&NodeId>) -> Option<Full> {
        let taken = self.taken();
        let free = taken.running < self.room.slots
            || taken.waiting < self.room.queue
            || buyer.is_some_and(|buyer| self.crowding(buyer).is_some());
        (!free).then(|| {
            let slots = u64::from(self.room.slots.max(1));
            let ahead = u64::from(taken.waiting).saturating_add(1);
            let retry_ms = self.lasts_ms.saturating_mul(ahead) / slots;
            Full {
                retry_ms: retry_ms.clamp(1_000, 60_000),
            }
        })
    }
}

impl Places {
    pub(crate) fn new(room: Room, clock: Arc<dyn Clock>) -> Self {
        let line = Line {
            room,
            running: 0,
            of: BTreeMap::new(),
            waiting: VecDeque::new(),
            lasts_ms: LASTS_MS,
            under_way: 0,
        };
        Self(Arc::new(Shared {
            line: Mutex::new(line),
            clock,
        }))
    }

    /// Changes how many there are; jobs that run go on.
    pub(crate) fn set_room(&self, room: Room) {
        let mut line = self.line();
        line.room = room;
        line.call();
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> Taken {
        self.line().taken()
    }

    /// What the jobs that are under way may earn together.
    pub(crate) fn under_way(&self) -> Amount {
        Amount::try_from(self.line().under_way).unwrap_or(Amount::MAX)
    }

    /// How long the next job would wait in line, about, in milliseconds.
    pub(crate) fn wait_ms(&self) -> u64 {
        let mut line = self.line();
        let taken = line.taken();
        if taken.running < line.room.slots && taken.waiting == 0 {
            return 0;
        }
        let ahead = u64::from(taken.waiting).saturating_add(1);
        line.lasts_ms.saturating_mul(ahead) / u64::from(line.room.slots.max(1))
    }

    /// Whether all are taken.
    pub(crate) fn full(&self) -> Option<Full> {
        self.line().full(None)
    }

    /// Whether there is none for a buyer.
    pub(crate) fn full_for(&self, buyer: &NodeId) -> Option<Full> {
        self.line().full(Some(buyer))
    }

    /// Takes a slot, waiting in line for it when there is none. Somebody who goes away leaves the line.
    pub(crate) async fn take(&self, buyer: NodeId, most: Amount) -> Result<Place, Full> {
        let turn = {
            let mut line = self.line();
            if let Some(full) = line.full(Some(&buyer)) {
                return Err(full);
            }
            let taken = line.taken();
            if taken.running < line.room.slots && taken.waiting == 0 {
                line.begins(buyer);
                None
            } else {
                if taken.waiting >= line.room.queue
                    && let Some(place) = line.crowding(&buyer)
                {
                    line.waiting.remove(place);
                }
                let (turn, wait) = oneshot::channel();
                line.waiting.push_back((buyer, turn));
                Some(wait)
            }
        };
        if let Some(wait) = turn {
            let mut waiter = Waiter {
                places: self,
                buyer,
                turn: Some(wait),
            };
            if !waiter.called().await {
                drop(waiter);
                let retry_ms = self.line().lasts_ms.clamp(1_000, 60_000);
                return Err(Full { retry_ms });
            }
        }
        self.line().under_way += u128::from(most.utrm());
        Ok(Place {
            places: self.clone(),
            buyer,
            most,
            since_ms: self.0.clock.elapsed_ms(),
            working: true,
        })
    }

    fn free_slot(&self, buyer: &NodeId) {
        self.line().ends(buyer);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody in line. Whose turn came just as it went away passes it on.
struct Waiter<'a> {
    places: &'a Places,
    buyer: NodeId,
    turn: Option<oneshot::Receiver<()>>,
}

impl Waiter<'_> {
    /// Waits for its turn; false when that does not come in time.
    async fn called(&mut self) -> bool {
        let Some(turn) = &mut self.turn else {
            return false;
        };
        let called = matches!(tokio::time::timeout(WAIT_MOST, turn).await, Ok(Ok(())));
        if called {
            self.turn = None;
        }
        called
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(mut turn) = self.turn.take() {
            turn.close();
            if turn.try_recv().is_ok() {
                self.places.free_slot(&self.buyer);
            }
        }
    }
}

/// The place of one job: a slot while it works, and what it may earn until that is booked or given up.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    buyer: NodeId,
    most: Amount,
    since_ms: u64,
    working: bool,
}

impl Place {
    /// The work is done: the slot is free for others.
    pub(crate) fn leave_slot(&mut self) {
        if !std::mem::take(&mut self.working) {
            return;
        }
        let lasted = self.places.0.clock.elapsed_ms();
        let lasted = lasted.saturating_sub(self.since_ms);
        {
            let mut line = self.places.line();
            line.lasts_ms = line.lasts_ms.saturating_mul(7).saturating_add(lasted) / 8;
        }
        self.places.free_slot(&self.buyer);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave_slot();
        let mut line = self.places.line();
        line.under_way = line.under_way.saturating_sub(self.most.utrm().into());
    }
}

#[cfg(test)]
mod tests {
    use tirami_manifest::time::ManualClock;
    use tirami_manifest::trm;

    use super::*;

    const ONE: NodeId = NodeId::from_bytes([1; 32]);
    const OTHER: NodeId = NodeId::from_bytes([2; 32]);

    fn places(slots: u32, queue: u32) -> Places {
        Places::new(Room { slots, queue }, Arc::new(ManualClock::default()))
    }

    fn taken(places: &Places) -> (u32, u32) {
        let taken = places.taken();
        (taken.running, taken.waiting)
    }

    #[tokio::test]
    async fn who_came_first_gets_the_next_slot_and_one_too_many_is_told_so() {
        let places = places(1, 2);
        let mut first = places.take(ONE, trm!("1")).await.unwrap();
        let line = |places: &Places| {
            let places = places.clone();
            tokio::spawn(async move { places.take(ONE, trm!("2")).await })
        };
        let (second, gone) = (line(&places), line(&places));
        while taken(&places) != (1, 2) {
            tokio::task::yield_now().await;
        }
        let full = places.take(ONE, trm!("4")).await.unwrap_err();
        assert!(full.retry_ms >= 1_000, "{full:?}");
        assert_eq!(places.under_way(), trm!("1"), "who waits earns nothing yet");
        gone.abort();
        assert!(gone.await.is_err());
        assert_eq!(taken(&places), (1, 1), "who goes away leaves the line");
        first.leave_slot();
        let second = second.await.unwrap().unwrap();
        assert_eq!(taken(&places), (1, 0));
        assert_eq!(places.under_way(), trm!("3"), "until both are booked");
        drop(first);
        assert_eq!(places.under_way(), trm!("2"));
        drop(second);
        assert_eq!((taken(&places), places.under_way()), ((0, 0), Amount::ZERO));
    }

    #[tokio::test]
    async fn a_crowd_gives_up_a_place_in_line_and_is_not_served_first() {
        let places = places(2, 3);
        let line = |buyer, places: &Places| {
            let places = places.clone();
            tokio::spawn(async move { places.take(buyer, trm!("1")).await })
        };
        let mut crowd = Vec::new();
        for _ in 0..5 {
            crowd.push(line(ONE, &places));
        }
        while taken(&places) != (2, 3) {
            tokio::task::yield_now().await;
        }
        assert!(places.full_for(&ONE).is_some());
        assert!(places.full_for(&OTHER).is_none());
        let others: Vec<_> = (0..2).map(|_| line(OTHER, &places)).collect();
        let mut running = Vec::new();
        let mut turned_away = 0;
        // Two of the crowd's lose their places in line to the other's.
        while running.len() + turned_away < 4 {
            tokio::task::yield_now().await;
            let (done, left): (Vec<_>, Vec<_>) = crowd
                .into_iter()
                .partition(tokio::task::JoinHandle::is_finished);
            crowd = left;
            for one in done {
                match one.await.unwrap() {
                    Ok(place) => running.push(place),
                    Err(_) => turned_away += 1,
                }
            }
        }
        assert_eq!((running.len(), turned_away, taken(&places)), (2, 2, (2, 3)));
        // The first slot that is free is the other's, although one of the crowd's waits longer.
        running.pop();
        while !others.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await;
        }
        assert_eq!((crowd.len(), taken(&places)), (1, (2, 2)));
        assert!(crowd.iter().all(|one| !one.is_finished()));
    }

    #[tokio::test]
    async fn more_slots_call_those_who_wait_and_fewer_end_no_job() {
        let places = places(1, 1);
        let first = places.take(ONE, trm!("1")).await.unwrap();
        let waits = places.clone();
        let waits = tokio::spawn(async move { waits.take(ONE, trm!("1")).await });
        while taken(&places) != (1, 1) {
            tokio::task::yield_now().await;
        }
        places.set_room(Room { slots: 2, queue: 0 });
        let second = waits.await.unwrap().unwrap();
        places.set_room(Room { slots: 1, queue: 0 });
        assert_eq!(taken(&places), (2, 0));
        drop(first);
        assert!(places.full().is_some(), "one still runs, and one may");
        drop(second);
        assert!(places.full().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_given_up() {
        let places = places(1, 1);
        let _first = places.take(ONE, trm!("1")).await.unwrap();
        places.take(ONE, trm!("1")).await.unwrap_err();
        assert_eq!(taken(&places), (1, 0));
    }
}
