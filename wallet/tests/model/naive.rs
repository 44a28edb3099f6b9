//! The ledger as one would explain it to somebody: maps, vectors and loops. A limit is its own
//! definition, the list of everything charged and a sum over some of it; nothing is kept that could
//! be counted anew.

use std::collections::{BTreeMap, BTreeSet};

use tirami_manifest::mandate::{List, Pot, Terms};
use tirami_manifest::{AgentId, Amount, ApprovalId, NodeId, TransferId};
use tirami_wallet::ledger::account::Account;
use tirami_wallet::ledger::transfer::{Kind, Spend, Transfer, TransferCode};

/// The number of a refusal.
pub(crate) type Number = u16;

#[derive(Clone, Debug, Default)]
pub(crate) struct Money {
    pub(crate) out: u64,
    pub(crate) out_held: u64,
    pub(crate) into: u64,
    pub(crate) into_held: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Mandate {
    pub(crate) terms: Terms,
    pub(crate) parent: Option<AgentId>,
    pub(crate) payer: AgentId,
    pub(crate) revoked: bool,
    pub(crate) epoch: u32,
    pub(crate) parent_epoch: u32,
    /// Purchases that failed in a row, and when the last of them did.
    pub(crate) failures: (u32, u64),
}

/// A spend that was let through.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    /// The spender and everybody above.
    chain: Vec<AgentId>,
    /// Those of them who limited what this payee gets.
    limiting: Vec<AgentId>,
    payee: Option<NodeId>,
    request: u64,
    at: u64,
    /// What was not given back.
    pub(crate) n: u64,
    open: bool,
    drawn: Vec<(Pot, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) from: Account,
    pub(crate) to: Account,
    pub(crate) amount: u64,
    pub(crate) timeout: u64,
    pub(crate) expires: u64,
    pub(crate) vouched: u64,
    /// Moved while the rest stayed held.
    moved: u64,
    pub(crate) ended: bool,
    charge: Option<usize>,
}

/// One approved or denied request.
#[derive(Clone, Debug)]
pub(crate) struct Approved {
    pub(crate) yes: bool,
    pub(crate) most: u64,
    pub(crate) epoch: u32,
    pub(crate) expires: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) frozen: bool,
    pub(crate) quota: u64,
    pub(crate) accounts: BTreeMap<Account, Money>,
    pub(crate) pots: BTreeMap<(AgentId, Pot), u64>,
    pub(crate) mandates: BTreeMap<AgentId, Mandate>,
    pub(crate) charges: Vec<Charge>,
    pub(crate) approvals: BTreeMap<ApprovalId, Approved>,
    pub(crate) holds: BTreeMap<TransferId, Hold>,
    pub(crate) done: BTreeMap<TransferId, Transfer>,
    /// Refusals that the ledger may give although the definition does not, until a bucket is over.
    pub(crate) late: BTreeSet<Number>,
}

/// The rules of a window, and the length of the ledger's buckets.
pub(crate) const WINDOWS: [(Number, u64, u64); 5] = [
    (18, 60_000, 1_000),
    (22, 60_000, 1_000),
    (23, 3_600_000, 60_000),
    (24, 86_400_000, 900_000),
    (26, 86_400_000, 900_000),
];

impl Model {
    /// All of `transfers`, or nothing; the number of the first refusal.
    pub(crate) fn group(&mut self, transfers: &[Transfer]) -> Result<bool, Number> {
        self.late.clear();
        let (mut next, mut changed) = (self.clone(), false);
        for transfer in transfers {
            let outcome = next.one(transfer);
            self.late = next.late.clone();
            changed |= outcome?;
        }
        *self = next;
        Ok(changed)
    }

    fn one(&mut self, transfer: &Transfer) -> Result<bool, Number> {
        if let Some(earlier) = self.done.get(&transfer.id) {
            return if earlier == transfer {
                Ok(false)
            } else {
                Err(1)
            };
        }
        match transfer.kind {
            Kind::Single {
                debit,
                credit,
                amount,
                spend,
            } => {
                let (n, code) = (amount.utrm(), transfer.code);
                let charge = self.take(debit, credit, (n, code), spend, false)?;
                if let Some(charge) = charge {
                    self.finish(charge, n, Some(true));
                }
                self.put(credit, n, code);
            }
            Kind::Hold {
                debit,
                credit,
                amount,
                timeout_ms,
                spend,
            } => {
                let n = amount.utrm();
                let charge = self.take(debit, credit, (n, transfer.code), spend, true)?;
                let hold = Hold {
                    from: debit,
                    to: credit,
                    amount: n,
                    timeout: timeout_ms,
                    expires: self.now + timeout_ms,
                    vouched: 0,
                    moved: 0,
                    ended: false,
                    charge,
                };
                self.holds.insert(transfer.id, hold);
            }
            Kind::Vouch { amount, .. } | Kind::Post { amount, .. } | Kind::Draw { amount, .. }
                if amount.is_zero() =>
            {
                return Err(2);
            }
            Kind::Vouch { hold, amount } => {
                let frozen = self.frozen;
                let row = self.asks_of(hold, amount)?;
                if row.vouched == amount.utrm() {
                    return Err(2);
                }
                if frozen {
                    return Err(8);
                }
                row.vouched = amount.utrm();
            }
            Kind::Post { hold, amount } => {
                self.asks_of(hold, amount)?;
                self.end(hold, amount.utrm(), Some(true), transfer.code);
            }
            Kind::Draw { hold, amount } => {
                let n = amount.utrm();
                let row = self.open(hold)?;
                if n > row.amount {
                    return Err(6);
                }
                if n == row.amount {
                    self.end(hold, n, Some(true), transfer.code);
                } else {
                    (row.amount, row.moved) = (row.amount - n, row.moved + n);
                    row.vouched = row.vouched.saturating_sub(n);
                    let (from, to) = (row.from, row.to);
                    let money = self.accounts.entry(from).or_default();
                    (money.out_held, money.out) = (money.out_held - n, money.out + n);
                    let money = self.accounts.entry(to).or_default();
                    (money.into_held, money.into) = (money.into_held - n, money.into + n);
                    self.put(to, n, transfer.code);
                }
            }
            Kind::Void { hold, failed } => {
                let vouched = self.open(hold)?.vouched;
                self.end(hold, vouched, failed.then_some(false), transfer.code);
            }
            Kind::Expire { .. } => unreachable!("only time expires holds here"),
            Kind::Allot {
                from,
                from_pot,
                to,
                to_pot,
                amount,
            } => {
                if amount.is_zero() {
                    return Err(2);
                }
                if (from, from_pot) == (to, to_pot) {
                    return Err(3);
                }
                let n = amount.utrm();
                let pot = self.pots.entry((from, from_pot)).or_default();
                *pot = pot.checked_sub(n).ok_or(31_u16)?;
                *self.pots.entry((to, to_pot)).or_default() += n;
                if from != to {
                    self.accounts.entry(Account::Agent(from)).or_default().out += n;
                    self.accounts.entry(Account::Agent(to)).or_default().into += n;
                }
            }
        }
        self.done.insert(transfer.id, *transfer);
        Ok(true)
    }

    /// Takes `n` from one account for another; which charge it made.
    fn take(
        &mut self,
        from: Account,
        to: Account,
        (n, code): (u64, TransferCode),
        spend: Option<Spend>,
        hold: bool,
    ) -> Result<Option<usize>, Number> {
        if n == 0 {
            return Err(2);
        }
        if from == to {
            return Err(3);
        }
        let mut charge = None;
        if let Account::Agent(payer) = from {
            let repays = code == TransferCode::Repayment && !hold;
            if let Some(refused) = self.refuses(payer, spend.as_ref(), repays, n) {
                return Err(refused);
            }
            let order = self.pots_for(spend.as_ref());
            let drawn = self.draw(payer, &order, n).ok_or(31_u16)?;
            if let Some(spend) = spend {
                let chain = self.chain(spend.agent);
                let limits = |who: &AgentId| self.mandates[who].terms.limits.payee_day_trm;
                let limiting = chain.iter().copied().filter(|who| limits(who).is_some());
                charge = Some(self.charges.len());
                self.charges.push(Charge {
                    limiting: limiting.collect(),
                    chain,
                    payee: spend.payee,
                    request: spend.request,
                    at: self.now,
                    n,
                    open: true,
                    drawn,
                });
            }
        }
        let money = self.accounts.entry(from).or_default();
        *(if hold {
            &mut money.out_held
        } else {
            &mut money.out
        }) += n;
        let used = money.out + money.out_held;
        if from == Account::Issuer && used > self.quota {
            return Err(30);
        }
        if from != Account::Issuer && from != Account::Position && used > money.into {
            return Err(31);
        }
        let money = self.accounts.entry(to).or_default();
        *(if hold {
            &mut money.into_held
        } else {
            &mut money.into
        }) += n;
        if to == Account::Position && money.into + money.into_held > money.out {
            return Err(31);
        }
        Ok(charge)
    }

    /// The spender's mandate, then each one above it.
    fn chain(&self, agent: AgentId) -> Vec<AgentId> {
        std::iter::successors(Some(agent), |who| self.mandates[who].parent).collect()
    }

    fn refuses(
        &mut self,
        payer: AgentId,
        spend: Option<&Spend>,
        repays: bool,
        n: u64,
    ) -> Option<Number> {
        if self.frozen {
            return Some(8);
        }
        let Some(spend) = spend else {
            return (!repays).then_some(9);
        };
        if self
            .mandates
            .get(&spend.agent)
            .is_none_or(|own| own.payer != payer)
        {
            return Some(9);
        }
        let chain = self.chain(spend.agent);
        let broken = |late: bool, rule: &Number| {
            chain
                .iter()
                .any(|who| self.breaks(*rule, *who, spend, n, late))
        };
        let late: Vec<_> = (10..=29).filter(|rule| broken(true, rule)).collect();
        let first = (10..=29).find(|rule| broken(false, rule));
        self.late.extend(
            late.into_iter()
                .filter(|rule| WINDOWS.iter().any(|w| w.0 == *rule)),
        );
        first
    }

    /// Whether a spend of `n` breaks one rule in one mandate; `late`: by the ledger's buckets at
    /// their worst.
    fn breaks(&self, rule: Number, who: AgentId, spend: &Spend, n: u64, late: bool) -> bool {
        let own = &self.mandates[&who];
        let Terms {
            limits,
            scope,
            breakers,
            quiet_hours,
            expires,
            ..
        } = &own.terms;
        let above = |limit: Option<Amount>, used: u64| limit.is_some_and(|l| used + n > l.utrm());
        let reached =
            |limit: u32, seen: usize| limit > 0 && seen >= usize::try_from(limit).unwrap();
        let under = |c: &&Charge| c.chain.contains(&who);
        let within = |c: &&Charge, span: u64| self.now - c.at < span;
        let window = WINDOWS.iter().find(|w| w.0 == rule);
        let span = window.map_or(
            u64::MAX,
            |(_, span, bucket)| if late { span + bucket } else { *span },
        );
        let charges = || {
            self.charges
                .iter()
                .filter(under)
                .filter(|c| within(c, span))
        };
        let used = || charges().map(|c| c.n).sum::<u64>();
        let available = self.available(own.payer);
        match rule {
            10 => {
                own.revoked
                    || own.parent.is_some_and(|parent| {
                        let parent = &self.mandates[&parent];
                        parent.revoked || parent.epoch != own.parent_epoch
                    })
            }
            11 => expires.is_some_and(|end| self.now >= end.ms()),
            12 => quiet_hours.is_some_and(|quiet| {
                let here = (self.now / 60_000 + 1_440)
                    .saturating_add_signed(quiet.utc_offset_minutes.into());
                let mut minute = u64::from(quiet.from_minute);
                while minute != u64::from(quiet.to_minute) && minute != here % 1_440 {
                    minute = (minute + 1) % 1_440;
                }
                minute != u64::from(quiet.to_minute)
            }),
            13 => !lists(&scope.actions, Some(&spend.action)),
            14 => !lists(&scope.payees, spend.payee.as_ref()),
            15 => !lists(&scope.models, spend.model.as_ref()),
            16 => limits.price_ceiling_trm.is_some_and(|most| {
                spend
                    .price
                    .is_none_or(|price| u64::from(price.ppm()) > most.utrm())
            }),
            17 => {
                let (count, last) = own.failures;
                reached(breakers.errors_in_row, usize::try_from(count).unwrap())
                    && self.now < last + 60_000
            }
            18 => reached(breakers.spends_per_minute, charges().count()),
            19 => {
                let same = charges().filter(|c| c.request == spend.request && within(c, 600_000));
                reached(breakers.same_request, same.count())
            }
            20 => limits.in_flight.is_some_and(|most| {
                charges().filter(|c| c.open).count() >= usize::try_from(most).unwrap()
            }),
            21 => n > limits.per_request_trm.utrm(),
            22 => above(limits.minute_trm, used()),
            23 => above(Some(limits.hour_trm), used()),
            24 => above(limits.day_trm, used()),
            25 => above(Some(limits.lifetime_trm), used()),
            26 => limits.payee_day_trm.is_some_and(|most| {
                let paid =
                    charges().filter(|c| c.limiting.contains(&who) && c.payee == spend.payee);
                spend.payee.is_none() || paid.map(|c| c.n).sum::<u64>() + n > most.utrm()
            }),
            27 => {
                n <= available
                    && n + limits.reserve_trm.utrm() > available
                    && !limits.reserve_trm.is_zero()
            }
            28 => {
                let pots = self.pots_for(Some(spend));
                let there: u64 = pots.iter().map(|pot| self.pot(own.payer, *pot)).sum();
                n <= available && n > there
            }
            29 => above(limits.approval_above_trm, 0) && !self.approves(spend, n),
            _ => false,
        }
    }

    fn approves(&self, spend: &Spend, n: u64) -> bool {
        let epoch = self.mandates[&spend.agent].epoch;
        spend
            .approval
            .and_then(|id| self.approvals.get(&id))
            .is_some_and(|said| {
                said.yes && n <= said.most && said.epoch == epoch && self.now < said.expires
            })
    }

    pub(crate) fn available(&self, agent: AgentId) -> u64 {
        let money = self
            .accounts
            .get(&Account::Agent(agent))
            .cloned()
            .unwrap_or_default();
        money.into - money.out - money.out_held
    }

    fn pot(&self, agent: AgentId, pot: Pot) -> u64 {
        self.pots.get(&(agent, pot)).copied().unwrap_or(0)
    }

    /// The pots that pay, in order: what the spender says, as far as everybody above says so too.
    fn pots_for(&self, spend: Option<&Spend>) -> Vec<Pot> {
        let Some(spend) = spend else {
            return vec![Pot::Borrowed, Pot::Earned, Pot::Seed];
        };
        let says = |who: &AgentId| {
            let fits = |rule: &&tirami_manifest::mandate::PotRule| {
                rule.action.is_none_or(|a| a == spend.action)
                    && rule.payee.is_none_or(|p| Some(p) == spend.payee)
                    && rule.model.is_none_or(|m| Some(m) == spend.model)
            };
            let rule = self.mandates[who].terms.pots.iter().find(fits);
            rule.map_or(vec![Pot::Earned, Pot::Seed, Pot::Borrowed], |rule| {
                rule.pots.clone()
            })
        };
        let chain = self.chain(spend.agent);
        let mut pots = says(&spend.agent);
        pots.retain(|pot| chain.iter().all(|who| says(who).contains(pot)));
        pots
    }

    fn draw(&mut self, payer: AgentId, order: &[Pot], n: u64) -> Option<Vec<(Pot, u64)>> {
        let (mut left, mut drawn) = (n, Vec::new());
        for pot in order {
            let there = self.pots.entry((payer, *pot)).or_default();
            let part = left.min(*there);
            (*there, left) = (*there - part, left - part);
            drawn.push((*pot, part));
        }
        (left == 0).then_some(drawn)
    }

    /// What comes to an agent comes into one of its pots.
    fn put(&mut self, to: Account, n: u64, code: TransferCode) {
        if let Account::Agent(agent) = to {
            let pot = match code {
                TransferCode::Earnings => Pot::Earned,
                TransferCode::WelcomeLoan => Pot::Borrowed,
                _ => Pot::Seed,
            };
            *self.pots.entry((agent, pot)).or_default() += n;
        }
    }

    pub(crate) fn open(&mut self, id: TransferId) -> Result<&mut Hold, Number> {
        let now = self.now;
        let hold = self.holds.get_mut(&id).ok_or(4_u16)?;
        if hold.ended || hold.expires <= now {
            Err(5)
        } else {
            Ok(hold)
        }
    }

    fn asks_of(&mut self, id: TransferId, amount: Amount) -> Result<&mut Hold, Number> {
        let hold = self.open(id)?;
        match amount.utrm() {
            n if n > hold.amount => Err(6),
            n if n < hold.vouched => Err(7),
            _ => Ok(hold),
        }
    }

    fn end(&mut self, id: TransferId, posted: u64, bought: Option<bool>, code: TransferCode) {
        let hold = self.holds.get_mut(&id).expect("the caller looked");
        assert!(
            !hold.ended && posted >= hold.vouched,
            "it ended twice, or gave back what was promised"
        );
        hold.ended = true;
        let Hold {
            from,
            to,
            amount,
            moved,
            charge,
            ..
        } = hold.clone();
        let money = self.accounts.entry(from).or_default();
        (money.out_held, money.out) = (money.out_held - amount, money.out + posted);
        let money = self.accounts.entry(to).or_default();
        (money.into_held, money.into) = (money.into_held - amount, money.into + posted);
        if let Some(charge) = charge {
            self.finish(charge, moved + posted, bought);
        }
        self.put(to, posted, code);
    }

    /// A spend is over: `bought` when it was neither called off nor failed.
    fn finish(&mut self, charge: usize, spent: u64, bought: Option<bool>) {
        let now = self.now;
        let charge = &mut self.charges[charge];
        let mut back = charge.n - spent;
        (charge.n, charge.open) = (spent, false);
        let payer = self.mandates[&charge.chain[0]].payer;
        for (pot, taken) in charge.drawn.iter().rev() {
            let part = back.min(*taken);
            *self.pots.entry((payer, *pot)).or_default() += part;
            back -= part;
        }
        for who in &charge.chain {
            let failures = &mut self
                .mandates
                .get_mut(who)
                .expect("it is never removed")
                .failures;
            match bought {
                Some(true) => failures.0 = 0,
                Some(false) => *failures = (failures.0 + 1, now),
                None => {}
            }
        }
    }

    /// Ends every hold whose time is over; how many there were.
    pub(crate) fn expire(&mut self) -> usize {
        let due = |hold: &Hold| !hold.ended && hold.expires <= self.now;
        let due: Vec<_> = self
            .holds
            .iter()
            .filter(|(_, hold)| due(hold))
            .map(|(id, hold)| (*id, hold.vouched))
            .collect();
        for (id, vouched) in &due {
            self.end(*id, *vouched, Some(false), TransferCode::Expiry);
        }
        due.len()
    }

    /// What one mandate was charged in the last `span` milliseconds.
    pub(crate) fn used(&self, who: AgentId, span: u64) -> u64 {
        let counts = |c: &&Charge| c.chain.contains(&who) && self.now - c.at < span;
        self.charges.iter().filter(counts).map(|c| c.n).sum()
    }

    /// Its spends that are open.
    pub(crate) fn in_flight(&self, who: AgentId) -> usize {
        self.charges
            .iter()
            .filter(|c| c.open && c.chain.contains(&who))
            .count()
    }
}

/// What is not known is not allowed where a list says anything.
fn lists<T: Ord>(list: &List<T>, item: Option<&T>) -> bool {
    let Some(item) = item else {
        return list.allow.is_none() && list.deny.is_empty();
    };
    !list.deny.contains(item) && list.allow.as_ref().is_none_or(|only| only.contains(item))
}
