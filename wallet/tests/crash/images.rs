//! Every disk that a crash can leave.

use std::time::Instant;

use crate::books::{Dump, Workload, carry_on, dump, record};
use crate::disk::{Dice, Disk, Step, replay};
use crate::setting;

/// The smallest piece that a disk writes whole.
const SECTOR: usize = 512;

/// What became of what was written after the last sync.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// All of it is there.
    All,
    /// Nothing is.
    Nothing,
    /// All of it, and of the last write this many bytes.
    Torn(usize),
    /// All of it, but the file did not grow.
    NotGrown,
    /// Some of it, in any order, the last perhaps torn.
    Some(u64),
}

/// What the disk holds while the record runs.
#[derive(Default)]
struct Now<'a> {
    synced: Vec<u8>,
    loose: Vec<&'a Step>,
}

impl<'a> Now<'a> {
    fn does(&mut self, step: &'a Step) {
        match step {
            Step::Sync => {
                for step in self.loose.drain(..) {
                    replay(&mut self.synced, step);
                }
            }
            Step::Answered => {}
            Step::Write(..) | Step::SetLen(_) => self.loose.push(step),
        }
    }

    fn kinds(&self, seeds: usize, dice: &mut Dice) -> Vec<Left> {
        let mut kinds = vec![Left::All];
        if self.loose.is_empty() {
            return kinds;
        }
        kinds.push(Left::Nothing);
        if let Some(Step::Write(_, data)) = self.loose.last() {
            kinds.extend((0..data.len()).step_by(SECTOR).skip(1).map(Left::Torn));
        }
        if self
            .loose
            .iter()
            .any(|step| matches!(step, Step::SetLen(_)))
        {
            kinds.push(Left::NotGrown);
        }
        kinds.extend((0..seeds).map(|_| Left::Some(dice.next())));
        kinds
    }

    fn image(&self, left: Left) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        match left {
            Left::Nothing => {}
            Left::All => self.loose.iter().for_each(|step| replay(&mut bytes, step)),
            Left::Torn(at) => {
                let (last, before) = self.loose.split_last().unwrap();
                for step in before {
                    replay(&mut bytes, step);
                }
                if let Step::Write(offset, data) = last {
                    within(&mut bytes, *offset, &data[..at]);
                }
            }
            Left::NotGrown => {
                for step in &self.loose {
                    if let Step::Write(offset, data) = step {
                        within(&mut bytes, *offset, data);
                    }
                }
            }
            Left::Some(seed) => self.some(&mut bytes, &mut Dice(seed)),
        }
        bytes
    }

    /// Some lengths in their order, and some writes in any.
    fn some(&self, bytes: &mut Vec<u8>, dice: &mut Dice) {
        let lengths = self.loose.iter().filter(|s| matches!(s, Step::SetLen(_)));
        let lengths: Vec<_> = lengths.collect();
        for step in &lengths[..dice.below(lengths.len() + 1)] {
            replay(bytes, step);
        }
        // Sometimes nearly all of it, sometimes nearly nothing.
        let odds = 1 + dice.below(7);
        let mut writes: Vec<_> = self.loose.iter().collect();
        writes.retain(|s| matches!(s, Step::Write(..)));
        for (n, step) in writes.iter().enumerate() {
            let Step::Write(offset, data) = step else {
                continue;
            };
            let last = n + 1 == writes.len();
            let torn = if last {
                dice.below(data.len() + 1)
            } else {
                data.len()
            };
            if dice.below(8) <= odds {
                within(bytes, *offset, &data[..torn]);
            }
        }
    }
}

/// A write to where the file already is; what lies beyond its length is not there.
fn within(bytes: &mut [u8], offset: u64, data: &[u8]) {
    let from = usize::try_from(offset).unwrap().min(bytes.len());
    let room = data.len().min(bytes.len() - from);
    bytes[from..from + room].copy_from_slice(&data[..room]);
}

/// What the books said after every commit, on a disk that lost nothing; and for every step how many
/// commits there were, and how many of them were told. What was on the disk before was told.
fn history(before: &[u8], steps: &[Step]) -> (Vec<Dump>, Vec<(usize, Option<usize>)>) {
    let (mut bytes, mut books, mut told) = (before.to_vec(), Vec::<Dump>::new(), None);
    if !before.is_empty() {
        books.push(dump(Disk::holding(bytes.clone()).storage()).unwrap());
        told = Some(0);
    }
    let mut marks = vec![(books.len(), told)];
    for step in steps {
        replay(&mut bytes, step);
        match step {
            Step::Sync => {
                if let Ok(now) = dump(Disk::holding(bytes.clone()).storage())
                    && books.last() != Some(&now)
                {
                    books.push(now);
                }
            }
            Step::Answered => told = Some(books.len() - 1),
            Step::Write(..) | Step::SetLen(_) => {}
        }
        marks.push((books.len(), told));
    }
    (books, marks)
}

/// Opens what a crash leaves: the books after some commit, and no earlier one than was answered.
fn judge(bytes: Vec<u8>, books: &[Dump], mark: (usize, Option<usize>), what: &str) -> bool {
    let (commits, told) = mark;
    let found = match dump(Disk::holding(bytes).storage()) {
        Ok(found) => found,
        // A file is moved into place whole; a backend is made in place, and until that was synced
        // there is no wallet to be half of.
        Err(_) if told.is_none() => return false,
        Err(error) => panic!("{what}: {error}"),
    };
    let from = told.unwrap_or(0);
    // The next commit may be there already: its answer was on its way.
    let next = books.len().min(commits + 1);
    let at = books[from..next].iter().position(|books| *books == found);
    assert!(
        at.is_some() || (told.is_none() && found.is_empty()),
        "{what}: the books are not those after a commit from {from} to {next}"
    );
    at.is_some_and(|at| at > 0)
}

fn crash(what: Workload) {
    crash_after(&format!("{what:?}"), &[], &record(what));
}

/// Crashes at any step after what was on the disk before; answers what the books said after each commit.
pub(crate) fn crash_after(name: &str, before: &[u8], steps: &[Step]) -> Vec<Dump> {
    let start = Instant::now();
    let (books, marks) = history(before, steps);
    assert!(books.len() > 5, "{} commits", books.len());
    let wanted = setting("TIRAMI_CRASH_IMAGES", 1_500) / 5;
    // How many there are with two seeds at each step; then more seeds, or fewer images.
    let mut dice = Dice(20_260_131);
    let begin = || Now {
        synced: before.to_vec(),
        ..Now::default()
    };
    let mut now = begin();
    let mut total = 0;
    for step in steps {
        now.does(step);
        total += now.kinds(2, &mut dice).len();
    }
    let seeds = 2 + wanted.saturating_sub(total).div_ceil(steps.len() / 2);
    let (mut now, mut opened, mut ahead) = (begin(), 0_usize, 0_usize);
    for (at, step) in steps.iter().enumerate() {
        now.does(step);
        for left in now.kinds(seeds, &mut dice) {
            if total > wanted && dice.below(total) >= wanted {
                continue;
            }
            let what = format!(
                "{name}, after {} of {} steps, {left:?}",
                at + 1,
                steps.len()
            );
            ahead += usize::from(judge(now.image(left), &books, marks[at + 1], &what));
            opened += 1;
        }
    }
    println!(
        "{name}: {opened} images of {} steps and {} commits, {ahead} ahead of an answer, {:.1?}",
        steps.len(),
        books.len(),
        start.elapsed()
    );
    assert!(opened * 10 > wanted * 8 && ahead > 0);
    books
}

#[test]
fn a_crash_while_buying_leaves_every_answered_command_and_no_half_of_any() {
    crash(Workload::Buy);
}

#[test]
fn a_crash_while_selling_leaves_every_answered_command_and_no_half_of_any() {
    crash(Workload::Sell);
}

#[test]
fn a_crash_among_many_at_once_leaves_every_answered_command_and_no_half_of_any() {
    crash(Workload::Together);
}

#[test]
fn a_crash_while_the_file_grows_leaves_every_answered_command_and_no_half_of_any() {
    crash(Workload::Grow);
}

#[test]
fn a_crash_while_opening_and_closing_leaves_every_answered_command_and_no_half_of_any() {
    crash(Workload::Reopen);
}

#[test]
fn after_a_crash_at_any_answer_a_purchase_goes_on_and_is_paid_once() {
    let mut bytes = Vec::new();
    for step in record(Workload::Buy) {
        replay(&mut bytes, &step);
        if matches!(step, Step::Answered) {
            carry_on(bytes.clone());
        }
    }
}
