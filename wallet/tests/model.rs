//! The ledger against a model a reader can check in one sitting: see `model/naive.rs`.
//!
//! The ledger may refuse what the exact sliding window allows for less than one bucket (a second, a
//! minute, 15 minutes); it may never allow what the model refuses, and refuses nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::too_many_arguments,
    clippy::disallowed_methods,
    reason = "a test that cannot go on should stop, one list reads best in one piece, and the time \
              it took is of interest"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tirami_manifest::mandate::{Pot, Terms};
use tirami_manifest::{AgentId, Amount, Timestamp, TransferId};
use tirami_wallet::ledger::account::{Account, Totals};
use tirami_wallet::ledger::apply::{Applied, apply_group, expire_due, renew};
use tirami_wallet::ledger::approval::{APPROVAL_MS, Approval, Verdict};
use tirami_wallet::ledger::audit::audit;
use tirami_wallet::ledger::gate::{Freeze, explain};
use tirami_wallet::ledger::mandate::MandateRow;
use tirami_wallet::ledger::refusal::ApplyError;
use tirami_wallet::ledger::rows::ReadRows;
use tirami_wallet::ledger::tables::{MemoryTables, Order, ReadTables, Table, Tables};
use tirami_wallet::ledger::transfer::{Kind, Transfer, TransferCode};

#[path = "model/asked.rs"]
mod asked;
#[path = "model/naive.rs"]
mod naive;

use asked::{
    AGENTS, CHILD, Case, End, LEAF, OTHER, Op, PEER, ROOT, SIBLING, START, cases as cases_of,
};
use naive::{Approved, Mandate, Model, Number, WINDOWS};

const QUOTA: u64 = 400;
/// Most operations of one case: many short cases find more than a few long ones.
const OPS: usize = 32;

fn utrm(n: u64) -> Amount {
    Amount::from_utrm(n).unwrap()
}

fn transfer(id: TransferId, kind: Kind, code: TransferCode) -> Transfer {
    let reference = [0; 32];
    Transfer {
        id,
        kind,
        code,
        reference,
    }
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, ApplyError>) -> Result<T, Number> {
    match outcome {
        Ok(done) => Ok(done),
        Err(ApplyError::Refused(refusal)) => Err(refusal.number()),
        Err(ApplyError::Store(error)) => panic!("{error}"),
    }
}

/// The ledger, its model, and what was asked of both.
struct Pair {
    books: MemoryTables,
    model: Model,
    asked: Vec<Vec<Transfer>>,
    holds: Vec<TransferId>,
    fresh: u64,
    accepted: u32,
    /// How often each refusal was given; 0 is none.
    seen: BTreeMap<Number, u64>,
}

impl Pair {
    /// Everybody's mandate as `terms` say; one account of 3000, another of 1500.
    fn begin(terms: &[Terms]) -> Self {
        let mut pair = Self {
            books: MemoryTables::default(),
            model: Model {
                now: START,
                quota: QUOTA,
                ..Model::default()
            },
            asked: Vec::new(),
            holds: Vec::new(),
            fresh: 0,
            accepted: 0,
            seen: BTreeMap::new(),
        };
        let quota = utrm(QUOTA);
        let key = b"issuer-quota";
        pair.books.put_row(Table::Meta, key, &quota).unwrap();
        let tree = [
            (ROOT, None),
            (CHILD, Some(ROOT)),
            (SIBLING, Some(ROOT)),
            (LEAF, Some(CHILD)),
            (OTHER, None),
        ];
        for ((agent, parent), terms) in tree.into_iter().zip(terms) {
            let mandate = Mandate {
                terms: terms.clone(),
                parent,
                payer: if agent == OTHER { OTHER } else { ROOT },
                revoked: false,
                epoch: 1,
                parent_epoch: u32::from(parent.is_some()),
                failures: (0, 0),
            };
            pair.model.mandates.insert(agent, mandate);
            pair.set_mandate(agent);
        }
        for (agent, code, n) in [
            (ROOT, TransferCode::Acknowledged, 2_000),
            (ROOT, TransferCode::Earnings, 700),
            (ROOT, TransferCode::WelcomeLoan, 300),
            (OTHER, TransferCode::Acknowledged, 1_500),
        ] {
            let kind = Kind::Single {
                debit: Account::Position,
                credit: Account::Agent(agent),
                amount: utrm(n),
                spend: None,
            };
            let id = pair.fresh();
            pair.agrees(&[transfer(id, kind, code)]);
        }
        pair
    }

    fn fresh(&mut self) -> TransferId {
        self.fresh += 1;
        TransferId::from_bytes(u128::from(self.fresh).to_be_bytes())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.model.now)
    }

    /// Writes the model's mandate into the books, as the wallet does.
    fn set_mandate(&mut self, agent: AgentId) {
        let mandate = &self.model.mandates[&agent];
        let depth = [CHILD, SIBLING].contains(&agent).into();
        let row = MandateRow {
            terms: mandate.terms.clone(),
            parent: mandate.parent,
            payer: mandate.payer,
            depth: if agent == LEAF { 2 } else { depth },
            epoch: mandate.epoch,
            parent_epoch: mandate.parent_epoch,
            granted: Timestamp::from_ms(START),
            revoked: mandate.revoked.then_some(Timestamp::from_ms(START)),
        };
        let key = agent.as_bytes();
        self.books.put_row(Table::Mandates, key, &row).unwrap();
    }

    /// Asks both for the same, and compares the answers and what they leave.
    fn agrees(&mut self, transfers: &[Transfer]) {
        let (before, model_before) = (self.books.clone(), self.model.clone());
        let foreseen = self.foreseen(transfers);
        let now = self.now();
        let outcome = apply_group(&mut self.books, transfers, now);
        let ours = refused(outcome).map(|done| done == Applied::Now);
        let theirs = self.model.group(transfers);
        if ours != theirs {
            // Late by a bucket, at most: with that much more in the window the model refuses too.
            let window = ours.is_err_and(|number| self.model.late.contains(&number));
            // Of a group, another transfer may be the one that the model refuses.
            let first =
                theirs != Ok(false) && (theirs > ours || theirs.is_ok() || transfers.len() > 1);
            assert!(window && first, "{ours:?}, not {theirs:?}: {transfers:?}");
            self.model = model_before;
        }
        *self.seen.entry(ours.err().unwrap_or(0)).or_default() += 1;
        if let Some(foreseen) = foreseen {
            assert_eq!(
                foreseen,
                ours.map(drop),
                "explained otherwise: {transfers:?}"
            );
        }
        if ours.is_err() {
            assert_eq!(self.books, before, "a refusal wrote something");
        } else {
            for made in transfers {
                if matches!(made.kind, Kind::Hold { .. }) && !self.holds.contains(&made.id) {
                    self.holds.push(made.id);
                }
            }
            // Looked at now and then, and at the end: it costs as much as what it looks at.
            self.accepted += 1;
            if self.accepted.is_multiple_of(4) {
                self.same();
            }
        }
        self.asked.push(transfers.to_vec());
    }

    /// What [`explain`] says will become of one spend that is new and moves something.
    fn foreseen(&self, transfers: &[Transfer]) -> Option<Result<(), Number>> {
        let [one] = transfers else { return None };
        let (Kind::Single {
            debit,
            credit,
            amount,
            spend,
        }
        | Kind::Hold {
            debit,
            credit,
            amount,
            spend,
            ..
        }) = one.kind
        else {
            return None;
        };
        let (Account::Agent(payer), Some(spend)) = (debit, spend) else {
            return None;
        };
        let judged = !amount.is_zero()
            && debit != credit
            && credit != Account::Position
            && !self.model.done.contains_key(&one.id);
        judged.then(|| {
            let findings = explain(&self.books, &payer, &spend, amount, self.now());
            let findings = refused(findings)?;
            let in_order = findings.windows(2).all(|two| two[0].rule <= two[1].rule);
            assert!(in_order, "{findings:?}");
            let first = findings.iter().find(|finding| !finding.passes);
            first.map_or(Ok(()), |finding| Err(finding.rule.number()))
        })
    }

    fn does(&mut self, op: Op) {
        match op {
            Op::Move(kind, code) => {
                let id = self.fresh();
                self.agrees(&[transfer(id, kind, code)]);
            }
            Op::Two(one, other) => {
                let ids = [self.fresh(), self.fresh()];
                let code = TransferCode::Budget;
                self.agrees(&[transfer(ids[0], one, code), transfer(ids[1], other, code)]);
            }
            Op::On(index, end) => {
                let unknown = TransferId::from_bytes([255; 16]);
                let hold = match end {
                    End::Unknown => unknown,
                    _ if self.holds.is_empty() => unknown,
                    _ => self.holds[index % self.holds.len()],
                };
                self.ends(hold, end);
            }
            Op::Renew(index) => {
                if self.holds.is_empty() {
                    return;
                }
                let (id, now) = (self.holds[index % self.holds.len()], self.now());
                let ours = refused(renew(&mut self.books, &id, now));
                let theirs = self.model.open(id).map(|hold| {
                    hold.expires = now.ms() + hold.timeout;
                });
                assert_eq!(ours, theirs);
            }
            Op::Expire => {
                let now = self.now();
                let ours = refused(expire_due(&mut self.books, now, usize::MAX));
                assert_eq!(ours, Ok(self.model.expire()));
                self.same();
            }
            Op::Step(ms) => self.model.now += ms,
            Op::Freeze(on) => {
                self.model.frozen = on;
                let (reason, since) = ("test".into(), self.now());
                let freeze = Freeze { reason, since };
                if on {
                    let put = self.books.put_row(Table::Meta, b"freeze", &freeze);
                    put.unwrap();
                } else {
                    self.books.remove(Table::Meta, b"freeze").unwrap();
                }
            }
            Op::Again(index) => {
                let again = self.asked[index % self.asked.len()].clone();
                self.agrees(&again);
            }
            Op::Taken(index, kind) => {
                let taken = self.asked[index % self.asked.len()][0];
                self.agrees(&[Transfer { kind, ..taken }]);
            }
            Op::Terms(agent, terms) => {
                self.mandate(agent).terms = *terms;
                self.set_mandate(agent);
            }
            Op::Revoke(agent) => {
                let mandate = self.mandate(agent);
                mandate.revoked = true;
                mandate.epoch += 1;
                self.set_mandate(agent);
            }
            Op::Grant(agent) => {
                let parent = self.model.mandates[&agent].parent;
                let parent_epoch = parent.map_or(0, |parent| self.model.mandates[&parent].epoch);
                let mandate = self.mandate(agent);
                (mandate.revoked, mandate.parent_epoch) = (false, parent_epoch);
                mandate.epoch += 1;
                self.set_mandate(agent);
            }
            Op::Decide(id, agent, yes, most) => self.decide(id, agent, yes, most),
        }
    }

    fn mandate(&mut self, agent: AgentId) -> &mut Mandate {
        self.model.mandates.get_mut(&agent).unwrap()
    }

    fn ends(&mut self, hold: TransferId, end: End) {
        let whole = self.model.holds.get(&hold).map_or(100, |row| row.amount);
        let part = |percent: u64| utrm((whole * percent).div_ceil(100));
        let kind = match end {
            End::Vouch(percent) => Kind::Vouch {
                hold,
                amount: part(percent),
            },
            End::Draw(percent) => Kind::Draw {
                hold,
                amount: part(percent),
            },
            End::Post(percent) | End::Pay(percent) => Kind::Post {
                hold,
                amount: part(percent),
            },
            End::Void(failed) => Kind::Void { hold, failed },
            End::Unknown => Kind::Void {
                hold,
                failed: false,
            },
        };
        let id = self.fresh();
        let mut group = vec![transfer(id, kind, TransferCode::Budget)];
        // As a purchase: the post and the way on belong together.
        if let End::Pay(percent) = end {
            let kind = Kind::Single {
                debit: Account::Outgoing,
                credit: PEER,
                amount: part(percent),
                spend: None,
            };
            let id = self.fresh();
            group.push(transfer(id, kind, TransferCode::Purchase));
        }
        self.agrees(&group);
    }

    fn decide(&mut self, id: tirami_manifest::ApprovalId, agent: AgentId, yes: bool, most: u64) {
        let (now, epoch) = (self.now(), self.model.mandates[&agent].epoch);
        let expires = now.after_ms(APPROVAL_MS);
        let verdict = if yes {
            Verdict::Approved { at: now }
        } else {
            Verdict::Denied { at: now }
        };
        let approval = Approval {
            agent,
            key: "key".into(),
            action: tirami_manifest::mandate::Action::Chat,
            payee: None,
            model: None,
            amount: utrm(most),
            epoch,
            asked: now,
            expires,
            verdict,
        };
        let put = self
            .books
            .put_row(Table::Approvals, id.as_bytes(), &approval);
        put.unwrap();
        let expires = expires.ms();
        let approved = Approved {
            yes,
            most,
            epoch,
            expires,
        };
        self.model.approvals.insert(id, approved);
    }

    /// Both say the same of every account, pot and mandate.
    fn same(&self) {
        let (books, model) = (&self.books, &self.model);
        let wide = u128::from;
        let (mut out, mut into) = (0, 0);
        for (account, m) in &model.accounts {
            let totals = Totals {
                debits_posted: wide(m.out),
                debits_pending: wide(m.out_held),
                credits_posted: wide(m.into),
                credits_pending: wide(m.into_held),
            };
            assert_eq!(books.totals(account).unwrap(), totals, "{account}");
            if !matches!(account, Account::Issuer | Account::Position) {
                assert!(m.out + m.out_held <= m.into, "{account} is overdrawn");
            }
            (out, into) = (out + m.out, into + m.into);
        }
        assert_eq!(out, into, "debits equal credits");
        for agent in [ROOT, OTHER] {
            let pots = books.pots(&agent).unwrap();
            for pot in Pot::ALL {
                let there = model.pots.get(&(agent, pot)).copied().unwrap_or(0);
                assert_eq!(pots.get(pot).utrm(), there, "{pot:?}");
            }
            assert_eq!(pots.sum(&Pot::ALL).utrm(), model.available(agent));
        }
        for agent in AGENTS {
            let usage = books.usage(&agent).unwrap();
            assert_eq!(usage.used(), wide(model.used(agent, u64::MAX)), "lifetime");
            assert_eq!(
                usize::try_from(usage.open()).unwrap(),
                model.in_flight(agent)
            );
            assert_eq!(usage.errors(), model.mandates[&agent].failures.0);
            let now = self.now();
            let sums = [
                usage.minute().sum(now),
                usage.hour().sum(now),
                usage.day().sum(now),
            ];
            for ((_, span, bucket), sum) in WINDOWS.into_iter().skip(1).zip(sums) {
                let (exact, most) = (model.used(agent, span), model.used(agent, span + bucket));
                assert!(exact <= sum && sum <= most, "{exact} <= {sum} <= {most}");
            }
            // What children used is part of what their parent did.
            let below = model
                .mandates
                .iter()
                .filter(|(_, m)| m.parent == Some(agent));
            let theirs: u64 = below.map(|(child, _)| model.used(*child, u64::MAX)).sum();
            assert!(wide(theirs) <= usage.used());
        }
    }

    /// The whole audit, and the index of open holds.
    fn ends_sound(&self) {
        for check in audit(&self.books).unwrap() {
            assert!(check.holds, "{}: {}", check.rule, check.detail);
        }
        let open = self.model.holds.values().filter(|hold| !hold.ended);
        let books = &self.books;
        let index = books.scan(Table::OpenHolds, &[], None, Order::Ascending, usize::MAX);
        assert_eq!(index.unwrap().len(), open.count());
    }
}

/// `cases` of them; how often each refusal was given.
fn run(cases: u32) -> BTreeMap<Number, u64> {
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let seen = RefCell::new(BTreeMap::<Number, u64>::new());
    let outcome = runner.run(&cases_of(OPS), |Case { terms, ops }| {
        let mut pair = Pair::begin(&terms);
        for op in ops {
            pair.does(op);
        }
        pair.same();
        pair.ends_sound();
        for (number, count) in pair.seen {
            *seen.borrow_mut().entry(number).or_default() += count;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    seen.into_inner()
}

#[test]
fn the_ledger_does_what_the_model_does() {
    let begun = Instant::now();
    // Nightly asks for more.
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 10_000,
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let each = cases.div_ceil(u32::try_from(threads).unwrap());
    let mut seen = BTreeMap::<Number, u64>::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| run(each))).collect();
        for (number, count) in all.into_iter().flat_map(|one| one.join().unwrap()) {
            *seen.entry(number).or_default() += count;
        }
    });
    println!(
        "{cases} cases in {:.1} s; refusals by number: {seen:?}",
        begun.elapsed().as_secs_f64()
    );
    if cases >= 5_000 {
        let never = (0..=31).find(|number| !seen.contains_key(number));
        assert_eq!(never, None, "a refusal that was never given");
    }
}
