//! Bytes as operations: every choice takes a byte, so that a changed byte changes one choice.

use std::collections::BTreeSet;

use libfuzzer_sys::arbitrary::Unstructured;
use tirami_manifest::mandate::{
    Action, Breakers, Limits, List, Pot, PotRule, QuietHours, Scope, Terms,
};
use tirami_manifest::{AgentId, Amount, ApprovalId, ModelId, Multiplier, NodeId, Timestamp};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::transfer::{Kind, Spend, TransferCode};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// 16:00 and some seconds, UTC.
pub const START: u64 = 1_000 * HOUR + 12_345;

/// Two below the first, one below the first of these, and one with an account of its own.
pub const ROOT: AgentId = AgentId::from_bytes([1; 16]);
pub const CHILD: AgentId = AgentId::from_bytes([11; 16]);
pub const SIBLING: AgentId = AgentId::from_bytes([12; 16]);
pub const LEAF: AgentId = AgentId::from_bytes([111; 16]);
pub const OTHER: AgentId = AgentId::from_bytes([2; 16]);
pub const AGENTS: [AgentId; 5] = [ROOT, CHILD, SIBLING, LEAF, OTHER];
const NOBODY: AgentId = AgentId::from_bytes([9; 16]);

const PAYEES: [NodeId; 2] = [NodeId::from_bytes([3; 32]), NodeId::from_bytes([4; 32])];
const MODELS: [ModelId; 2] = [ModelId::from_bytes([5; 32]), ModelId::from_bytes([6; 32])];
const ACTIONS: [Action; 2] = [Action::Chat, Action::LocalChat];
pub const PEER: Account = Account::Clearing(PAYEES[0]);
const ACCOUNTS: [Account; 8] = [
    Account::Agent(ROOT),
    Account::Agent(OTHER),
    Account::Agent(CHILD),
    Account::Outgoing,
    PEER,
    Account::Position,
    Account::Issuer,
    Account::Revenue,
];
const CODES: [TransferCode; 10] = [
    TransferCode::Budget,
    TransferCode::Purchase,
    TransferCode::Acknowledged,
    TransferCode::Reservation,
    TransferCode::Sale,
    TransferCode::Earnings,
    TransferCode::WelcomeLoan,
    TransferCode::Expiry,
    TransferCode::Allotment,
    TransferCode::Repayment,
];

/// A step of a group; a `usize` is an index into what was there before.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Move(Kind, TransferCode),
    /// Percent of the hold.
    Vouch(usize, u64),
    Post(usize, u64),
    Void(usize, bool),
}

#[derive(Clone, Debug)]
pub enum Op {
    /// All or none.
    Group(Vec<Step>),
    /// Posts a hold and moves it on to the payee.
    Pay(usize, u64),
    Renew(usize),
    Expire,
    Time(u64),
    Freeze(bool),
    /// Does an earlier group again, as it was.
    Again(usize),
    /// Uses an earlier id for something else.
    Taken(usize, Kind),
    Terms(AgentId, Box<Terms>),
    Revoke(AgentId),
    Grant(AgentId),
    Decide(ApprovalId, AgentId, bool, u64),
}

/// Asks for whatever the bytes say; what there are no bytes for is the first of what may be.
pub struct Asker<'a>(pub Unstructured<'a>);

impl Asker<'_> {
    fn below(&mut self, end: u64) -> u64 {
        self.0.int_in_range(0..=end - 1).unwrap_or(0)
    }

    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    fn index(&mut self) -> usize {
        usize::try_from(self.below(256)).unwrap_or(0)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = if of.len() == 1 {
            0
        } else {
            self.index() % of.len()
        };
        of[at].clone()
    }

    /// True in one of so many cases; false when the bytes are used up.
    fn one_in(&mut self, cases: u64) -> bool {
        self.below(256) % cases == cases - 1
    }

    fn maybe<T>(&mut self, cases: u64, of: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(cases).then(|| of(self))
    }

    fn nearly<T>(&mut self, cases: u64, of: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (!self.one_in(cases)).then(|| of(self))
    }

    fn utrm(&mut self, from: u64, to: u64) -> Amount {
        Amount::from_utrm(self.range(from, to)).unwrap_or(Amount::ZERO)
    }

    fn amount(&mut self) -> Amount {
        match self.below(32) {
            0 => Amount::ZERO,
            1..4 => self.utrm(1, 4),
            4..6 => self.utrm(300, 3_200),
            6 => self.utrm(1 << 39, 1 << 40),
            _ => self.utrm(1, 221),
        }
    }

    fn spend(&mut self) -> Spend {
        Spend {
            agent: self.pick(&[LEAF, LEAF, LEAF, CHILD, CHILD, SIBLING, ROOT, OTHER, NOBODY]),
            action: if self.one_in(16) {
                Action::LocalChat
            } else {
                Action::Chat
            },
            payee: self.nearly(16, |a| a.pick(&PAYEES)),
            model: self.nearly(16, |a| a.pick(&MODELS)),
            price: self.nearly(16, |a| {
                Multiplier::from_ppm(a.pick(&[900_000, 950_000, 1_000_000, 1_050_000]))
            }),
            request: self.below(3),
            approval: self.maybe(2, Self::approval),
        }
    }

    fn approval(&mut self) -> ApprovalId {
        ApprovalId::from_bytes(self.pick(&[[0; 16], [1; 16]]))
    }

    /// An agent's purchase, from the account that pays for it nearly always.
    fn purchase(&mut self) -> Kind {
        let spend = self.spend();
        let other = (spend.agent == OTHER) != self.one_in(32);
        let debit = Account::Agent(if other { OTHER } else { ROOT });
        let credit = self
            .maybe(16, |a| a.pick(&ACCOUNTS))
            .unwrap_or(Account::Outgoing);
        self.moves(debit, credit, Some(spend))
    }

    fn moves(&mut self, debit: Account, credit: Account, spend: Option<Spend>) -> Kind {
        let amount = self.amount();
        if self.one_in(3) {
            return Kind::Single {
                debit,
                credit,
                amount,
                spend,
            };
        }
        let timeout_ms = match self.below(4) {
            0 => 1,
            1 => 2 * DAY,
            2 => HOUR,
            _ => self.range(1_000, 200_000),
        };
        Kind::Hold {
            debit,
            credit,
            amount,
            timeout_ms,
            spend,
        }
    }

    fn step(&mut self) -> Step {
        match self.below(16) {
            0..7 => Step::Move(self.purchase(), TransferCode::Budget),
            7..9 => {
                let (debit, credit) = (self.pick(&ACCOUNTS), self.pick(&ACCOUNTS));
                let spend = self.maybe(8, Self::spend);
                Step::Move(self.moves(debit, credit, spend), self.pick(&CODES))
            }
            9 => {
                let kind = Kind::Allot {
                    from: self.pick(&[ROOT, ROOT, OTHER]),
                    from_pot: self.pick(&Pot::ALL),
                    to: self.pick(&[ROOT, ROOT, OTHER, CHILD]),
                    to_pot: self.pick(&Pot::ALL),
                    amount: self.amount(),
                };
                Step::Move(kind, TransferCode::Allotment)
            }
            10..12 => Step::Vouch(self.index(), self.percent()),
            12..14 => Step::Post(self.index(), self.percent()),
            _ => Step::Void(self.index(), self.one_in(2)),
        }
    }

    fn percent(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => 110,
            2..4 => 100,
            _ => self.range(1, 101),
        }
    }

    /// Steps around the lengths of the windows and of their buckets.
    fn time(&mut self) -> u64 {
        let (span, by) = self.pick(&[
            (1_500, 1_500),
            (1_500, 1_500),
            (MINUTE, 1_500),
            (MINUTE, 1),
            (10 * MINUTE, 2_000),
            (HOUR, 90_000),
            (HOUR, 1),
            (DAY, 20 * MINUTE),
            (DAY, 1),
        ]);
        self.range(span - by, span + by + 1)
    }

    pub fn op(&mut self) -> Op {
        match self.below(64) {
            0..36 => Op::Group(vec![self.step()]),
            36..40 => {
                let count = self.range(2, 5);
                Op::Group((0..count).map(|_| self.step()).collect())
            }
            40..43 => Op::Pay(self.index(), self.percent()),
            43..45 => Op::Renew(self.index()),
            45..47 => Op::Expire,
            47..54 => Op::Time(self.time()),
            54 => Op::Freeze(!self.one_in(2)),
            55 => Op::Freeze(false),
            56 => Op::Again(self.index()),
            57 => Op::Taken(self.index(), self.purchase()),
            58..60 => Op::Terms(self.pick(&AGENTS), Box::new(self.terms())),
            60 => Op::Revoke(self.pick(&AGENTS)),
            61 => Op::Grant(self.pick(&AGENTS)),
            _ => Op::Decide(
                self.approval(),
                self.pick(&AGENTS),
                !self.one_in(3),
                self.range(60, 420),
            ),
        }
    }

    fn set<T: Ord + Clone>(&mut self, of: &[T]) -> BTreeSet<T> {
        let bits = self.index();
        let chosen = of
            .iter()
            .enumerate()
            .filter(|(at, _)| bits & (1 << at) != 0);
        chosen.map(|(_, item)| item.clone()).collect()
    }

    fn list<T: Ord + Clone>(&mut self, of: &[T]) -> List<T> {
        if !self.one_in(16) {
            return List::default();
        }
        List {
            allow: self.maybe(2, |a| a.set(of)),
            deny: self.set(of),
        }
    }

    fn limits(&mut self) -> Limits {
        Limits {
            per_request_trm: self.utrm(140, 396),
            minute_trm: self.maybe(6, |a| a.utrm(150, 600)),
            hour_trm: self.utrm(300, 1_500),
            day_trm: self.maybe(5, |a| a.utrm(300, 1_500)),
            lifetime_trm: self.utrm(400, 3_000),
            payee_day_trm: self.maybe(5, |a| a.utrm(150, 700)),
            in_flight: self.maybe(10, |a| a.pick(&[0, 1, 2, 3])),
            reserve_trm: self.maybe(10, |a| a.utrm(1, 2_900)).unwrap_or(Amount::ZERO),
            price_ceiling_trm: self.maybe(16, |a| a.utrm(900_000, 1_050_001)),
            approval_above_trm: self.maybe(5, |a| a.utrm(60, 200)),
        }
    }

    fn quiet_hours(&mut self) -> QuietHours {
        let (from, long) = (self.range(930, 1_080), self.range(1, 90));
        let offset = self.pick(&[0, 0, -600, 90]);
        let there = |minute: u64| {
            let minute = (minute + 1_440).saturating_add_signed(offset) % 1_440;
            u16::try_from(minute).unwrap_or(0)
        };
        QuietHours {
            from_minute: there(from),
            to_minute: there(from + long),
            utc_offset_minutes: i16::try_from(offset).unwrap_or(0),
        }
    }

    fn rule(&mut self) -> PotRule {
        PotRule {
            action: self.maybe(3, |a| a.pick(&ACTIONS)),
            payee: self.maybe(3, |a| a.pick(&PAYEES)),
            model: self.maybe(3, |a| a.pick(&MODELS)),
            pots: self.set(&Pot::ALL).into_iter().rev().collect(),
        }
    }

    pub fn terms(&mut self) -> Terms {
        let off_or = |a: &mut Self| a.maybe(7, |a| a.pick(&[1, 2, 3])).unwrap_or(0);
        Terms {
            limits: self.limits(),
            scope: Scope {
                payees: self.list(&PAYEES),
                actions: self.list(&ACTIONS),
                models: self.list(&MODELS),
            },
            breakers: Breakers {
                errors_in_row: off_or(self),
                spends_per_minute: off_or(self),
                same_request: off_or(self),
            },
            quiet_hours: self.maybe(16, Self::quiet_hours),
            expires: self.maybe(16, |a| Timestamp::from_ms(START + a.range(1, 3 * HOUR))),
            pots: self
                .maybe(7, |a| {
                    let count = a.range(1, 4);
                    (0..count).map(|_| a.rule()).collect()
                })
                .unwrap_or_default(),
        }
    }
}
