//! What the ledger and its model are asked, by the tests and by the fuzz target: mostly what may pass,
//! and every way in which it may not.
//!
//! Every choice is a number below another, whether it comes from a seed or from a fuzzer's bytes.

use std::collections::BTreeSet;

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
const ACTIONS: [Action; 2] = [Action::Chat, Action::LocalChat];
pub(crate) const PEER: Account = Account::Clearing(PAYEES[0]);
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
pub(crate) enum Step {
    Move(Kind, TransferCode),
    /// Percent of the hold.
    Vouch(usize, u64),
    Post(usize, u64),
    /// Moves it and leaves the rest.
    Draw(usize, u64),
    Void(usize, bool),
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
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

/// Where choices come from.
pub(crate) trait Choices {
    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64;
}

/// Asks for whatever is chosen.
pub(crate) struct Asker<C>(pub(crate) C);

impl<C: Choices> Asker<C> {
    /// From `from` to below `to`.
    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.below(to - from)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.range(0, 100) < percent
    }

    fn index(&mut self) -> usize {
        // A byte is enough for the few that there are.
        usize::try_from(self.0.below(256)).unwrap_or(0)
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
        match self.range(0, 100) {
            0..5 => self.utrm(0, 3),
            5..9 => self.utrm(300, 3_200),
            9 => self.utrm(1 << 39, 1 << 40),
            _ => self.utrm(1, 221),
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

    /// Something between any two accounts, which nearly never names a spend.
    fn other_move(&mut self) -> Step {
        let (debit, credit) = (self.pick(&ACCOUNTS), self.pick(&ACCOUNTS));
        let (spend, hold) = (self.maybe(4, Self::spend), self.percent(40));
        Step::Move(self.moves(debit, credit, spend, hold), self.pick(&CODES))
    }

    fn allot(&mut self) -> Step {
        let kind = Kind::Allot {
            from: self.pick(&[ROOT, ROOT, OTHER]),
            from_pot: self.pick(&Pot::ALL),
            to: self.pick(&[ROOT, ROOT, OTHER, OTHER, CHILD]),
            to_pot: self.pick(&Pot::ALL),
            amount: self.amount(),
        };
        Step::Move(kind, TransferCode::Allotment)
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

    pub(crate) fn terms(&mut self) -> Terms {
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
                actions: self.list(&ACTIONS),
                models: self.list(&MODELS),
            },
            breakers,
            quiet_hours: self.maybe(4, Self::quiet_hours),
            expires: self.maybe(5, |d| Timestamp::from_ms(START + d.range(1, 3 * HOUR))),
            pots: self.maybe(14, |d| d.pick(&rules)).unwrap_or_default(),
        }
    }

    /// Percent of a hold.
    fn part(&mut self) -> u64 {
        let some = self.range(1, 101);
        self.pick(&[some, some, some, 100, 100, 0, 110])
    }

    /// Something that becomes of a hold.
    fn end(&mut self) -> Step {
        match self.range(0, 14) {
            0..5 => Step::Vouch(self.index(), self.part()),
            5..8 => Step::Post(self.index(), self.part()),
            8..10 => Step::Draw(self.index(), self.part()),
            _ => Step::Void(self.index(), self.percent(60)),
        }
    }

    fn step(&mut self) -> Step {
        match self.range(0, 10) {
            0..5 => Step::Move(self.purchase(), TransferCode::Budget),
            5..8 => self.end(),
            8 => self.other_move(),
            _ => self.allot(),
        }
    }

    /// Steps around the lengths of the windows and of their buckets.
    fn time(&mut self) -> u64 {
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

    pub(crate) fn op(&mut self) -> Op {
        match self.range(0, 100) {
            0..36 => Op::Group(vec![Step::Move(self.purchase(), TransferCode::Budget)]),
            36..42 => Op::Group(vec![self.other_move()]),
            42..45 => Op::Group(vec![self.allot()]),
            45..48 => {
                let count = self.range(2, 5);
                Op::Group((0..count).map(|_| self.step()).collect())
            }
            48..63 => Op::Group(vec![self.end()]),
            63..68 => Op::Pay(self.index(), self.part()),
            68..70 => Op::Renew(self.index()),
            70..73 => Op::Expire,
            73..85 => Op::Time(self.time()),
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
