//! The ledger and its model, asked the same: by the tests and by the fuzz target.
//!
//! The ledger may refuse what the exact sliding window allows for less than one bucket (a second, a
//! minute, 15 minutes); it may never allow what the model refuses, and refuses nothing else.

use std::collections::BTreeMap;

use tirami_manifest::mandate::{Action, Pot, Terms};
use tirami_manifest::{AgentId, Amount, ApprovalId, Timestamp, TransferId};
use tirami_wallet::ledger::account::{Account, Totals};
use tirami_wallet::ledger::apply::{Applied, apply_group, expire_due, renew};
use tirami_wallet::ledger::approval::{APPROVAL_MS, Approval, Verdict};
use tirami_wallet::ledger::audit::audit;
use tirami_wallet::ledger::gate::{Freeze, explain};
use tirami_wallet::ledger::mandate::MandateRow;
use tirami_wallet::ledger::refusal::ApplyError;
use tirami_wallet::ledger::rows::ReadRows;
use tirami_wallet::ledger::tables::{MemoryTables, Order, ReadTables, Table, Tables, encode};
use tirami_wallet::ledger::transfer::{Kind, Transfer, TransferCode};

use crate::asked::{AGENTS, CHILD, LEAF, OTHER, Op, PEER, ROOT, SIBLING, START, Step};
use crate::naive::{Approved, Mandate, Model, Number, WINDOWS};

const QUOTA: u64 = 400;

/// What was done to the tables, so that it can be done again.
#[derive(Clone)]
enum Done {
    Group(Vec<Transfer>, Timestamp),
    Renew(TransferId, Timestamp),
    Expire(Timestamp),
    Put(Table, Vec<u8>, Option<Vec<u8>>),
}

impl Done {
    /// Whether it was refused.
    fn on(&self, books: &mut MemoryTables) -> Result<usize, Number> {
        let outcome = match self {
            Self::Group(transfers, now) => {
                apply_group(books, transfers, *now).map(|done| usize::from(done == Applied::Now))
            }
            Self::Renew(id, now) => renew(books, id, *now).map(|()| 0),
            Self::Expire(now) => expire_due(books, *now, usize::MAX),
            Self::Put(table, key, None) => {
                books.remove(*table, key).map(|()| 0).map_err(Into::into)
            }
            Self::Put(table, key, Some(row)) => {
                books.put(*table, key, row).map(|()| 0).map_err(Into::into)
            }
        };
        match outcome {
            Ok(count) => Ok(count),
            Err(ApplyError::Refused(refusal)) => Err(refusal.number()),
            Err(ApplyError::Store(error)) => panic!("{error}"),
        }
    }
}

/// The ledger, its model, and what was asked of both.
pub(crate) struct Pair {
    books: MemoryTables,
    model: Model,
    history: Vec<Done>,
    asked: Vec<Vec<Transfer>>,
    holds: Vec<TransferId>,
    fresh: u64,
    accepted: u32,
    /// After so many accepted groups all is compared: it costs as much as what it looks at.
    every: u32,
    /// How often each refusal was given; 0 is none.
    pub(crate) seen: BTreeMap<Number, u64>,
}

fn utrm(n: u64) -> Amount {
    Amount::from_utrm(n).expect("below the cap")
}

impl Pair {
    /// Everybody's mandate as `terms` say; one account of 3000, another of 1500.
    pub(crate) fn begin(terms: &[Terms], every: u32) -> Self {
        let mut pair = Self {
            books: MemoryTables::default(),
            model: Model {
                now: START,
                quota: QUOTA,
                ..Model::default()
            },
            history: Vec::new(),
            asked: Vec::new(),
            holds: Vec::new(),
            fresh: 0,
            accepted: 0,
            every,
            seen: BTreeMap::new(),
        };
        let quota = encode(Table::Meta, &utrm(QUOTA)).expect("it encodes");
        pair.put(Table::Meta, b"issuer-quota", Some(quota));
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
            let transfer = pair.transfer(kind, code);
            pair.agrees(vec![transfer]);
        }
        pair
    }

    fn transfer(&mut self, kind: Kind, code: TransferCode) -> Transfer {
        self.fresh += 1;
        Transfer {
            id: TransferId::from_bytes(u128::from(self.fresh).to_be_bytes()),
            kind,
            code,
            reference: [0; 32],
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.model.now)
    }

    fn apply(&mut self, done: Done) -> Result<usize, Number> {
        let outcome = done.on(&mut self.books);
        self.history.push(done);
        outcome
    }

    fn put(&mut self, table: Table, key: &[u8], row: Option<Vec<u8>>) {
        let done = self.apply(Done::Put(table, key.to_vec(), row));
        assert_eq!(done, Ok(0));
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
        let row = encode(Table::Mandates, &row).expect("it encodes");
        self.put(Table::Mandates, agent.as_bytes(), Some(row));
    }

    /// Asks both for the same, and compares the answers and what they leave.
    fn agrees(&mut self, transfers: Vec<Transfer>) {
        let (before, model_before) = (self.books.clone(), self.model.clone());
        let foreseen = self.foreseen(&transfers);
        let done = Done::Group(transfers.clone(), self.now());
        let ours = self.apply(done).map(|count| count == 1);
        let theirs = self.model.group(&transfers);
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
            for made in &transfers {
                if matches!(made.kind, Kind::Hold { .. }) && !self.holds.contains(&made.id) {
                    self.holds.push(made.id);
                }
            }
            self.accepted += 1;
            if self.accepted.is_multiple_of(self.every) {
                self.same();
            }
        }
        self.asked.push(transfers);
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
            let findings = match explain(&self.books, &payer, &spend, amount, self.now()) {
                Ok(findings) => findings,
                Err(ApplyError::Refused(refusal)) => return Err(refusal.number()),
                Err(ApplyError::Store(error)) => panic!("{error}"),
            };
            let in_order = findings.windows(2).all(|two| two[0].rule <= two[1].rule);
            assert!(in_order, "{findings:?}");
            let first = findings.iter().find(|finding| !finding.passes);
            first.map_or(Ok(()), |finding| Err(finding.rule.number()))
        })
    }

    fn hold(&self, index: usize) -> (TransferId, u64) {
        // One more than there are, so that one is always unknown.
        let known = self.holds.get(index % (self.holds.len() + 1)).copied();
        let id = known.unwrap_or(TransferId::from_bytes([255; 16]));
        (
            id,
            self.model.holds.get(&id).map_or(100, |hold| hold.amount),
        )
    }

    fn step(&mut self, step: Step) -> Transfer {
        let part = |whole: u64, percent: u64| utrm((whole * percent).div_ceil(100));
        let (kind, code) = match step {
            Step::Move(kind, code) => (kind, code),
            Step::Vouch(index, percent) => {
                let (hold, whole) = self.hold(index);
                let amount = part(whole, percent);
                (Kind::Vouch { hold, amount }, TransferCode::Budget)
            }
            Step::Post(index, percent) => {
                let (hold, whole) = self.hold(index);
                let amount = part(whole, percent);
                (Kind::Post { hold, amount }, TransferCode::Budget)
            }
            Step::Draw(index, percent) => {
                let (hold, whole) = self.hold(index);
                let amount = part(whole, percent);
                (Kind::Draw { hold, amount }, TransferCode::Budget)
            }
            Step::Void(index, failed) => {
                let (hold, _) = self.hold(index);
                (Kind::Void { hold, failed }, TransferCode::Budget)
            }
        };
        self.transfer(kind, code)
    }

    pub(crate) fn does(&mut self, op: Op) {
        match op {
            Op::Group(steps) => {
                let transfers = steps.into_iter().map(|step| self.step(step)).collect();
                self.agrees(transfers);
            }
            Op::Pay(index, percent) => {
                let post = self.step(Step::Post(index, percent));
                let Kind::Post { amount, .. } = post.kind else {
                    return;
                };
                let on = Kind::Single {
                    debit: Account::Outgoing,
                    credit: PEER,
                    amount,
                    spend: None,
                };
                let on = self.transfer(on, TransferCode::Purchase);
                self.agrees(vec![post, on]);
            }
            Op::Renew(index) => {
                let ((id, _), now) = (self.hold(index), self.now());
                let ours = self.apply(Done::Renew(id, now)).map(drop);
                let theirs = self.model.open(id).map(|hold| {
                    hold.expires = now.ms() + hold.timeout;
                });
                assert_eq!(ours, theirs);
            }
            Op::Expire => {
                let ours = self.apply(Done::Expire(self.now()));
                assert_eq!(ours, Ok(self.model.expire()));
                self.same();
            }
            Op::Time(ms) => self.model.now += ms,
            Op::Freeze(on) => {
                self.model.frozen = on;
                let freeze = Freeze {
                    reason: "test".into(),
                    since: self.now(),
                };
                let row = encode(Table::Meta, &freeze).expect("it encodes");
                self.put(Table::Meta, b"freeze", on.then_some(row));
            }
            Op::Again(index) => {
                let again = self.asked[index % self.asked.len()].clone();
                self.agrees(again);
            }
            Op::Taken(index, kind) => {
                let taken = self.asked[index % self.asked.len()][0];
                self.agrees(vec![Transfer { kind, ..taken }]);
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
        self.model
            .mandates
            .get_mut(&agent)
            .expect("everybody has one")
    }

    fn decide(&mut self, id: ApprovalId, agent: AgentId, yes: bool, most: u64) {
        let (now, epoch) = (self.now(), self.model.mandates[&agent].epoch);
        let expires = now.after_ms(APPROVAL_MS);
        let approval = Approval {
            agent,
            key: "key".into(),
            action: Action::Chat,
            payee: None,
            model: None,
            amount: utrm(most),
            epoch,
            asked: now,
            expires,
            verdict: if yes {
                Verdict::Approved { at: now }
            } else {
                Verdict::Denied { at: now }
            },
        };
        let row = encode(Table::Approvals, &approval).expect("it encodes");
        self.put(Table::Approvals, id.as_bytes(), Some(row));
        let approved = Approved {
            yes,
            most,
            epoch,
            expires: expires.ms(),
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
            assert_eq!(books.totals(account).expect("a row"), totals, "{account}");
            if !matches!(account, Account::Issuer | Account::Position) {
                assert!(m.out + m.out_held <= m.into, "{account} is overdrawn");
            }
            (out, into) = (out + m.out, into + m.into);
        }
        assert_eq!(out, into, "debits equal credits");
        for agent in [ROOT, OTHER, CHILD] {
            let pots = books.pots(&agent).expect("a row");
            for pot in Pot::ALL {
                let there = model.pots.get(&(agent, pot)).copied().unwrap_or(0);
                assert_eq!(pots.get(pot).utrm(), there, "{pot:?}");
            }
            assert_eq!(pots.sum(&Pot::ALL).utrm(), model.available(agent));
        }
        for agent in AGENTS {
            let usage = books.usage(&agent).expect("a row");
            assert_eq!(usage.used(), wide(model.used(agent, u64::MAX)), "lifetime");
            let open = usize::try_from(usage.open()).expect("a few");
            assert_eq!(open, model.in_flight(agent), "in flight");
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
            assert!(
                wide(theirs) <= usage.used(),
                "children used more than {agent}"
            );
        }
    }

    /// The whole audit, the index of open holds, and the same again from the beginning.
    pub(crate) fn ends_sound(&self) {
        self.same();
        let mut books = self.books.clone();
        for check in audit(&books).expect("it can be read") {
            assert!(check.holds, "{}: {}", check.rule, check.detail);
        }
        let open = self.model.holds.values().filter(|hold| !hold.ended);
        let index = books.scan(Table::OpenHolds, &[], None, Order::Ascending, usize::MAX);
        assert_eq!(index.expect("it can be read").len(), open.count());

        // What was accepted is known by its id, and does nothing a second time.
        for transfers in &self.asked {
            let known = |made: &Transfer| self.model.done.get(&made.id) == Some(made);
            if transfers.iter().all(known) {
                let again = Done::Group(transfers.clone(), self.now()).on(&mut books);
                assert_eq!(again, Ok(0), "{transfers:?}");
            }
        }
        assert_eq!(books, self.books, "a repetition wrote something");

        let mut replayed = MemoryTables::default();
        for done in &self.history {
            // What was refused is refused again.
            let _refused = done.on(&mut replayed);
        }
        assert_eq!(replayed, self.books, "the same list gives other tables");
    }
}
