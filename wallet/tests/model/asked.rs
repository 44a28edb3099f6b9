//! What the ledger and its model are asked: mostly what may pass, and every way in which it may not.
//!
//! Each operation is made from one number, which costs far less than a tree of strategies: nearly
//! all of the time goes into the ledger. A failure is still cut down to the few operations that it
//! takes.

use std::collections::BTreeSet;

use proptest::prelude::*;
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
pub(crate) const START: u64 = 1_000 * HOUR + 12_345;

/// Two below the first, one below the first of these, and one with an account of its own.
pub(crate) const ROOT: AgentId = AgentId::from_bytes([1; 16]);
pub(crate) const CHILD: AgentId = AgentId::from_bytes([11; 16]);
pub(crate) const SIBLING: AgentId = AgentId::from_bytes([12; 16]);
pub(crate) const LEAF: AgentId = AgentId::from_bytes([111; 16]);
pub(crate) const OTHER: AgentId = AgentId::from_bytes([2; 16]);
pub(crate) const AGENTS: [AgentId; 5] = [ROOT, CHILD, SIBLING, LEAF, OTHER];
const NOBODY: AgentId = AgentId::from_bytes([9; 16]);

const PAYEES: [NodeId; 2] = [NodeId::from_bytes([3; 32]), NodeId::from_bytes([4; 32])];
const MODELS: [ModelId; 2] = [ModelId::from_bytes([5; 32]), ModelId::from_bytes([6; 32])];
pub(crate) const PEER: Account = Account::Clearing(PAYEES[0]);
const ACCOUNTS: [Account; 7] = [
    Account::Agent(ROOT),
    Account::Agent(OTHER),
    Account::Outgoing,
    PEER,
    Account::Position,
    Account::Issuer,
    Account::Revenue,
];

/// What becomes of a hold; figures in percent of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Vouch(u64),
    Post(u64),
    /// Moves it and leaves the rest.
    Draw(u64),
    /// Posts it and moves it on to the payee.
    Pay(u64),
    Void(bool),
    /// Voids a hold that nobody made.
    Unknown,
}

/// What is asked; a `usize` is an index into what was there before, from its start again after its
/// end.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Move(Kind, TransferCode),
    /// Both or neither.
    Two(Kind, Kind),
    On(usize, End),
    Renew(usize),
    Expire,
    Step(u64),
    Freeze(bool),
    /// Does an earlier transfer or group again, as it was.
    Again(usize),
    /// Uses an earlier id for something else.
    Taken(usize, Kind),
    Terms(AgentId, Box<Terms>),
    Revoke(AgentId),
    Grant(AgentId),
    Decide(ApprovalId, AgentId, bool, u64),
}

/// Numbers that follow from one: `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `from` to below `to`.
    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.range(0, 100) < percent
    }

    fn index(&mut self) -> usize {
        usize::try_from(self.range(0, 1 << 20)).unwrap_or(0)
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index() % of.len()].clone()
    }

    fn maybe<T>(&mut self, percent: u64, of: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.percent(percent).then(|| of(self))
    }

    fn utrm(&mut self, from: u64, to: u64) -> Amount {
        Amount::from_utrm(self.range(from, to)).unwrap_or(Amount::ZERO)
    }

    fn amount(&mut self) -> Amount {
        match self.range(0, 20) {
            0 => self.utrm(0, 3),
            1 => self.utrm(300, 3_200),
            _ => self.utrm(1, 220),
        }
    }

    fn timeout(&mut self) -> u64 {
        let long = self.range(1_000, 200_000);
        self.pick(&[1, long, long, long, HOUR, HOUR, 2 * DAY])
    }

    fn spend(&mut self) -> Spend {
        let agents = [LEAF, LEAF, LEAF, CHILD, SIBLING, ROOT, OTHER];
        Spend {
            agent: if self.percent(2) {
                NOBODY
            } else {
                self.pick(&agents)
            },
            action: if self.percent(94) {
                Action::Chat
            } else {
                Action::LocalChat
            },
            payee: self.maybe(95, |d| d.pick(&PAYEES)),
            model: self.maybe(95, |d| d.pick(&MODELS)),
            price: self.maybe(95, |d| {
                Multiplier::from_ppm(d.pick(&[900_000, 950_000, 1_000_000, 1_050_000]))
            }),
            request: self.range(0, 3),
            approval: self.maybe(70, Self::approval),
        }
    }

    fn approval(&mut self) -> ApprovalId {
        ApprovalId::from_bytes(self.pick(&[[0; 16], [1; 16]]))
    }

    /// An agent's purchase, from the account that pays for it nearly always.
    fn purchase(&mut self) -> Kind {
        let spend = self.spend();
        let other = (spend.agent == OTHER) != self.percent(2);
        let debit = Account::Agent(if other { OTHER } else { ROOT });
        let credit = if self.percent(7) {
            self.pick(&ACCOUNTS)
        } else {
            Account::Outgoing
        };
        let hold = self.percent(75);
        self.moves(debit, credit, Some(spend), hold)
    }

    fn moves(&mut self, debit: Account, credit: Account, spend: Option<Spend>, hold: bool) -> Kind {
        let (amount, timeout_ms) = (self.amount(), self.timeout());
        if hold {
            Kind::Hold {
                debit,
                credit,
                amount,
                timeout_ms,
                spend,
            }
        } else {
            Kind::Single {
                debit,
                credit,
                amount,
                spend,
            }
        }
    }

    /// Something between any two accounts that names no spend.
    fn other_move(&mut self) -> Op {
        let (debit, credit) = (self.pick(&ACCOUNTS), self.pick(&ACCOUNTS));
        let hold = self.percent(40);
        let kind = self.moves(debit, credit, None, hold);
        let codes = [
            TransferCode::Budget,
            TransferCode::Earnings,
            TransferCode::WelcomeLoan,
            TransferCode::Repayment,
        ];
        Op::Move(kind, self.pick(&codes))
    }

    fn allot(&mut self) -> Op {
        let kind = Kind::Allot {
            from: self.pick(&[ROOT, ROOT, OTHER]),
            from_pot: self.pick(&Pot::ALL),
            to: self.pick(&[ROOT, ROOT, OTHER]),
            to_pot: self.pick(&Pot::ALL),
            amount: self.amount(),
        };
        Op::Move(kind, TransferCode::Allotment)
    }

    fn list<T: Ord + Clone>(&mut self, of: &[T]) -> List<T> {
        let set = |d: &mut Self| -> BTreeSet<T> {
            let count = d.index() % of.len();
            (0..count).map(|_| d.pick(of)).collect()
        };
        if self.percent(94) {
            return List::default();
        }
        let deny = set(self);
        List {
            allow: self.maybe(50, set),
            deny,
        }
    }

    fn limits(&mut self) -> Limits {
        Limits {
            per_request_trm: self.utrm(140, 400),
            minute_trm: self.maybe(15, |d| d.utrm(150, 600)),
            hour_trm: self.utrm(300, 1_500),
            day_trm: self.maybe(20, |d| d.utrm(300, 1_500)),
            lifetime_trm: self.utrm(400, 3_000),
            payee_day_trm: self.maybe(20, |d| d.utrm(150, 700)),
            in_flight: self.maybe(10, |d| d.pick(&[0, 1, 2, 3])),
            reserve_trm: self.maybe(10, |d| d.utrm(1, 2_900)).unwrap_or(Amount::ZERO),
            price_ceiling_trm: self.maybe(6, |d| d.utrm(900_000, 1_050_001)),
            approval_above_trm: self.maybe(20, |d| d.utrm(60, 200)),
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

    fn terms(&mut self) -> Terms {
        let payee_first = PotRule {
            payee: Some(PAYEES[0]),
            ..PotRule::only(vec![Pot::Borrowed, Pot::Earned])
        };
        let model_next = PotRule {
            model: Some(MODELS[1]),
            ..PotRule::only(vec![Pot::Restricted])
        };
        let action_last = PotRule {
            action: Some(Action::Chat),
            ..PotRule::only(Pot::ALL.to_vec())
        };
        let rules = [
            vec![PotRule::only(vec![Pot::Restricted, Pot::Seed])],
            vec![PotRule::only(vec![Pot::Earned, Pot::Borrowed])],
            vec![payee_first, model_next, action_last],
        ];
        let mut off_or = |most: &[u32]| self.maybe(14, |d| d.pick(most)).unwrap_or(0);
        let breakers = Breakers {
            errors_in_row: off_or(&[1, 1, 2]),
            spends_per_minute: off_or(&[1, 2, 3]),
            same_request: off_or(&[1, 2, 3]),
        };
        Terms {
            limits: self.limits(),
            scope: Scope {
                payees: self.list(&PAYEES),
                actions: self.list(&[Action::Chat, Action::LocalChat]),
                models: self.list(&MODELS),
            },
            breakers,
            quiet_hours: self.maybe(4, Self::quiet_hours),
            expires: self.maybe(5, |d| Timestamp::from_ms(START + d.range(1, 3 * HOUR))),
            pots: self.maybe(14, |d| d.pick(&rules)).unwrap_or_default(),
        }
    }

    fn end(&mut self) -> End {
        let some = self.range(1, 101);
        let part = self.pick(&[some, some, some, 100, 100, 0, 110]);
        match self.range(0, 18) {
            0..5 => End::Vouch(part),
            5..8 => End::Post(part),
            8..12 => End::Pay(part),
            12..15 => End::Void(self.percent(60)),
            15..17 => End::Draw(part),
            _ => End::Unknown,
        }
    }

    /// Steps around the lengths of the windows and of their buckets.
    fn step(&mut self) -> u64 {
        let (span, by) = self.pick(&[
            (1_500, 1_500),
            (1_500, 1_500),
            (1_500, 1_500),
            (MINUTE, 1_500),
            (MINUTE, 1_500),
            (10 * MINUTE, 2_000),
            (HOUR, 90_000),
            (HOUR, 90_000),
            (HOUR, 1),
            (DAY, 20 * MINUTE),
            (DAY, 1),
        ]);
        self.range(span - by, span + by + 1)
    }

    fn op(&mut self) -> Op {
        match self.range(0, 100) {
            0..36 => Op::Move(self.purchase(), TransferCode::Budget),
            36..42 => self.other_move(),
            42..45 => self.allot(),
            45..48 => Op::Two(self.purchase(), self.purchase()),
            48..68 => Op::On(self.index(), self.end()),
            68..70 => Op::Renew(self.index()),
            70..73 => Op::Expire,
            73..85 => Op::Step(self.step()),
            85..87 => Op::Freeze(self.percent(25)),
            87..90 => Op::Again(self.index()),
            90 => Op::Taken(self.index(), self.purchase()),
            91..94 => Op::Terms(self.pick(&AGENTS), Box::new(self.terms())),
            94 => Op::Revoke(self.pick(&AGENTS)),
            95..97 => Op::Grant(self.pick(&AGENTS)),
            _ => Op::Decide(
                self.approval(),
                self.pick(&AGENTS),
                self.percent(70),
                self.range(60, 420),
            ),
        }
    }
}

/// One case: everybody's terms, and what is done.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) terms: Vec<Terms>,
    pub(crate) ops: Vec<Op>,
}

/// A line for each, so that a failure can be read.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (agent, terms) in AGENTS.iter().zip(&self.terms) {
            let terms = serde_json::to_string(terms).map_err(|_| std::fmt::Error)?;
            writeln!(f, "\n{agent:?}: {terms}")?;
        }
        self.ops.iter().try_for_each(|op| write!(f, "\n{op:?}"))
    }
}

/// Cases of at most so many operations.
pub(crate) fn cases(most: usize) -> impl Strategy<Value = Case> {
    let terms = any::<u64>().prop_map(|seed| {
        let mut dice = Dice(seed);
        AGENTS.map(|_| dice.terms()).to_vec()
    });
    let op = any::<u64>().prop_map(|seed| Dice(seed).op());
    let ops = prop::collection::vec(op, 1..=most);
    (terms, ops).prop_map(|(terms, ops)| Case { terms, ops })
}
