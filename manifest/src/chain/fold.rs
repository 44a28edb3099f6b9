//! Reading a chain: each entry is checked against all before it.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{ENTRY_MAX, Entry};
use super::rejected::Rejected;
use super::seen::Seen;
use super::step::{Predecessor, Repaid, Step, Trade, successor_hash};
use crate::amount::Amount;
use crate::bytes::Writer;
use crate::commerce::Consent;
use crate::genesis::{Genesis, LoanGrant};
use crate::id::{EntryId, InvitationId, NetworkId, NodeId, ReceiptId};
use crate::issuance::{DAY_MS, lent_in_a_day};
use crate::key::Keyring;
use crate::merkle::{self, Frontier};
use crate::signed::{Document, Signed, hash};

/// Domain of a state's digest.
const STATE: &[u8] = b"trm/v1/state\0";

/// A loan of which something is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loan {
    /// Whether the chain's author lent it; otherwise it borrowed.
    pub lent: bool,
    /// The other side.
    pub other: NodeId,
    /// What is still owed.
    pub owed: Amount,
}

/// A credit that waits to be certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Who pays.
    pub payer: NodeId,
    /// How much.
    pub amount: Amount,
}

/// What follows from a chain so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What the node may spend.
    pub spendable: Amount,
    /// What it has set aside on its chain.
    pub held: Amount,
    /// What it has staked.
    pub staked: Amount,
    /// What it made in all, as an issuer.
    pub made: Amount,
    /// What of that came back and was retired.
    pub retired: Amount,
    /// Hash of the key that may succeed its own; zeros when none may.
    pub successor: [u8; 32],
    /// Loans of which something is owed, by the invitation that was used.
    pub loans: BTreeMap<InvitationId, Loan>,
    /// Credits that wait to be certified, by receipt.
    pub waiting: BTreeMap<ReceiptId, Waits>,
}

impl State {
    /// One hash for all of it, as checkpoints have it.
    pub fn digest(&self) -> [u8; 32] {
        let mut out = Writer::default();
        for amount in [
            self.spendable,
            self.held,
            self.staked,
            self.made,
            self.retired,
        ] {
            out.u64(amount.utrm());
        }
        out.raw(&self.successor);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        out.u32(count(self.loans.len()));
        for (invitation, loan) in &self.loans {
            out.raw(invitation.as_bytes())
                .u8(u8::from(loan.lent))
                .raw(loan.other.as_bytes())
                .u64(loan.owed.utrm());
        }
        out.u32(count(self.waiting.len()));
        for (receipt, waits) in &self.waiting {
            out.raw(receipt.as_bytes())
                .raw(waits.payer.as_bytes())
                .u64(waits.amount.utrm());
        }
        hash(STATE, &[&out.finish()])
    }
}

/// A chain that was read up to some entry.
#[derive(Clone, Debug)]
pub struct Chain {
    genesis: Genesis,
    network: NetworkId,
    author: NodeId,
    seq: u64,
    head: [u8; 32],
    hlc: u64,
    log: Frontier,
    state: State,
    predecessor: Option<Predecessor>,
    /// The key that goes on, once the chain has ended.
    successor: Option<NodeId>,
    /// Jobs that were agreed on and invitations that were used on it.
    seen: Seen,
    /// When how much was made, in the last 24 hours.
    day: VecDeque<(u64, Amount)>,
    keys: Keyring,
}

impl Chain {
    /// A chain of which nothing was read yet.
    pub fn new(genesis: Genesis, author: NodeId) -> Self {
        let network = genesis.id();
        Self {
            genesis,
            network,
            author,
            seq: 0,
            head: *network.as_bytes(),
            hlc: 0,
            log: Frontier::default(),
            state: State::default(),
            predecessor: None,
            successor: None,
            seen: Seen::default(),
            day: VecDeque::new(),
            keys: Keyring::default(),
        }
    }

    /// The chain that goes on where this one ended, with all that it had; `None` when it has not ended.
    #[must_use]
    pub fn goes_on(&self) -> Option<Self> {
        let author = self.successor?;
        let before = Predecessor {
            author: self.author,
            seq: self.seq,
            entry: self.head(),
        };
        let mut state = self.state.clone();
        state.successor = [0; 32];
        Some(Self {
            author,
            seq: 0,
            head: *self.network.as_bytes(),
            log: Frontier::default(),
            state,
            predecessor: Some(before),
            successor: None,
            ..self.clone()
        })
    }

    /// The network's genesis.
    pub const fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Whose chain.
    pub const fn author(&self) -> NodeId {
        self.author
    }

    /// Number of the newest entry; 0 before the first.
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Id of the newest entry; the network's id before the first.
    pub const fn head(&self) -> EntryId {
        EntryId::from_bytes(self.head)
    }

    /// Hybrid time of the newest entry.
    pub const fn hlc(&self) -> u64 {
        self.hlc
    }

    /// The tree over the ids of all entries.
    pub const fn log(&self) -> &Frontier {
        &self.log
    }

    /// What follows from the entries.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The chain this one goes on.
    pub const fn predecessor(&self) -> Option<Predecessor> {
        self.predecessor
    }

    /// The key that goes on, once the chain has ended.
    pub const fn successor(&self) -> Option<NodeId> {
        self.successor
    }

    /// Checks the next entry in the bytes it came in, and takes it.
    ///
    /// # Errors
    ///
    /// [`Rejected`]; then nothing changed.
    pub fn append_bytes(&mut self, bytes: &[u8]) -> Result<EntryId, Rejected> {
        if bytes.len() > ENTRY_MAX {
            return Err(Rejected::TooLarge(bytes.len()));
        }
        self.append(&Signed::from_bytes(bytes)?)
    }

    /// Checks the next entry and takes it.
    ///
    /// # Errors
    ///
    /// [`Rejected`]; then nothing changed.
    pub fn append(&mut self, signed: &Signed<Entry>) -> Result<EntryId, Rejected> {
        let entry = &signed.body;
        self.stands_here(entry)?;
        let id = entry.id();
        let signers = [Some(self.author), succeeds(entry)];
        let by = |key: NodeId| self.keys.signed(&key, id.as_bytes(), &signed.signature);
        if !signers.into_iter().flatten().any(by) {
            return Err(Rejected::Signature);
        }
        let next = self.next(entry)?;
        self.says(entry, &next)?;
        // Nothing is refused from here on.
        if let Some(made) = next.minted {
            let now = entry.at().ms();
            self.day.push_back((now, made));
            self.day.retain(|(at, _)| now.saturating_sub(*at) < DAY_MS);
        }
        self.take(&next);
        if let Step::Succession { successor } = &entry.step {
            self.successor = Some(*successor);
        }
        (self.seq, self.head, self.hlc) = (entry.seq, *id.as_bytes(), entry.hlc);
        self.log.push(merkle::leaf(id.as_bytes()), |_, _, _| ());
        Ok(id)
    }

    /// Checks what holds for an entry whatever stands before it: for one that is shown without its chain.
    ///
    /// # Errors
    ///
    /// [`Rejected`].
    pub fn check_alone(genesis: &Genesis, signed: &Signed<Entry>) -> Result<(), Rejected> {
        let entry = &signed.body;
        let chain = Self::new(genesis.clone(), entry.author);
        if entry.network != chain.network {
            return Err(Rejected::Network);
        }
        if !entry.is_signed_by(&entry.author, &signed.signature) {
            return Err(Rejected::Signature);
        }
        if entry.seq == 0 {
            return Err(Rejected::Seq { has: 0, wants: 1 });
        }
        Self::kind_stands(entry, entry.seq)?;
        for (what, says) in [("held", entry.held), ("staked", entry.staked)] {
            if !says.is_zero() {
                return Err(Rejected::Balance {
                    what,
                    says,
                    follows: Amount::ZERO,
                });
            }
        }
        let mut next = Next::after(&chain.state);
        match &entry.step {
            Step::Genesis { predecessor, .. } => {
                if entry.prev != chain.head {
                    return Err(Rejected::Prev);
                }
                if entry.log_root != chain.log.root() {
                    return Err(Rejected::LogRoot);
                }
                if predecessor.is_none() {
                    chain.says(entry, &next)?;
                }
            }
            Step::Trade(trade) => chain.trade(entry, trade, &mut next)?,
            Step::Mint(grant) => chain.lends(grant, &mut next)?,
            Step::Borrow(grant) => chain.borrows(grant, &mut next)?,
            Step::Checkpoint { .. }
            | Step::Succession { .. }
            | Step::Receive { .. }
            | Step::Repay(_)
            | Step::Retire(_) => {}
        }
        Ok(())
    }

    /// Whether an entry of its kind may stand at this number, and wait.
    fn kind_stands(entry: &Entry, seq: u64) -> Result<(), Rejected> {
        let first = matches!(entry.step, Step::Genesis { .. });
        if first != (seq == 1) {
            return Err(Rejected::Order(
                "a chain begins with its genesis entry, and has one",
            ));
        }
        if entry.waits && !matches!(entry.step, Step::Trade(_)) {
            return Err(Rejected::Order("only what is earned by a trade can wait"));
        }
        Ok(())
    }

    /// The frame of an entry: network, author, number, predecessor, time and history.
    fn stands_here(&self, entry: &Entry) -> Result<(), Rejected> {
        let wants = self.seq.saturating_add(1);
        if entry.network != self.network {
            return Err(Rejected::Network);
        }
        if entry.author != self.author {
            return Err(Rejected::Author);
        }
        if self.successor.is_some() {
            return Err(Rejected::Order("the chain has ended: another key goes on"));
        }
        if entry.seq != wants {
            return Err(Rejected::Seq {
                has: entry.seq,
                wants,
            });
        }
        if entry.prev != self.head {
            return Err(Rejected::Prev);
        }
        if entry.hlc <= self.hlc {
            return Err(Rejected::Time);
        }
        if entry.log_root != self.log.root() {
            return Err(Rejected::LogRoot);
        }
        Self::kind_stands(entry, wants)
    }

    /// Whether an entry says what follows.
    fn says(&self, entry: &Entry, next: &Next) -> Result<(), Rejected> {
        for (what, says, follows) in [
            ("spendable", entry.spendable, next.spendable),
            ("held", entry.held, self.state.held),
            ("staked", entry.staked, self.state.staked),
        ] {
            if says != follows {
                return Err(Rejected::Balance {
                    what,
                    says,
                    follows,
                });
            }
        }
        Ok(())
    }

    fn take(&mut self, next: &Next) {
        let state = &mut self.state;
        state.spendable = next.spendable;
        (state.made, state.retired) = (next.made, next.retired);
        state.successor = next.successor;
        put(&mut state.loans, next.loan);
        put(&mut state.waiting, next.waits);
        if let Some(once) = next.seen {
            self.seen.insert(once);
        }
    }

    /// The id of something that may stand on a chain once.
    fn once(&self, id: [u8; 32], what: &'static str) -> Result<[u8; 32], Rejected> {
        if self.seen.contains(&id) {
            return Err(Rejected::Twice(what));
        }
        Ok(id)
    }

    /// The loan after part of it is paid back: one that the author lent, or one that it borrowed.
    fn repaid(
        &self,
        repaid: &Repaid,
        lent: bool,
    ) -> Result<(InvitationId, Option<Loan>), Rejected> {
        let loan = self.state.loans.get(&repaid.invitation);
        let loan = loan
            .filter(|loan| (loan.lent, loan.other) == (lent, repaid.other))
            .ok_or(Rejected::Loan("no such loan is open on this chain"))?;
        let owed = loan.owed.checked_sub(repaid.amount);
        let owed = owed
            .filter(|_| !repaid.amount.is_zero())
            .ok_or(Rejected::Loan("not so much is owed"))?;
        let open = (!owed.is_zero()).then_some(Loan { owed, ..*loan });
        Ok((repaid.invitation, open))
    }

    /// What follows from an entry.
    fn next(&self, entry: &Entry) -> Result<Next, Rejected> {
        let mut next = Next::after(&self.state);
        match &entry.step {
            Step::Genesis {
                successor,
                predecessor,
            } => {
                if *predecessor != self.predecessor {
                    return Err(Rejected::Order(
                        "the chain goes on another one than was read before it",
                    ));
                }
                next.successor = *successor;
            }
            Step::Checkpoint { state } => {
                if *state != self.state.digest() {
                    return Err(Rejected::Checkpoint);
                }
            }
            Step::Succession { successor } => {
                if successor_hash(successor) != self.state.successor {
                    return Err(Rejected::Order(
                        "the key that is to go on is not the one the chain named at first",
                    ));
                }
            }
            Step::Trade(trade) => self.trade(entry, trade, &mut next)?,
            Step::Receive {
                payer,
                receipt,
                amount,
                ..
            } => {
                let (payer, amount) = (*payer, *amount);
                if self.state.waiting.get(receipt) != Some(&Waits { payer, amount }) {
                    return Err(Rejected::Order("no such credit waits on this chain"));
                }
                next.waits = Some((*receipt, None));
            }
            Step::Mint(grant) => self.mint(grant, &mut next, entry)?,
            Step::Borrow(grant) => {
                self.borrows(grant, &mut next)?;
                next.opens(&grant.body, false);
            }
            Step::Repay(repaid) => next.loan = Some(self.repaid(repaid, false)?),
            Step::Retire(repaid) => {
                next.loan = Some(self.repaid(repaid, true)?);
                let retired = next.retired.checked_add(repaid.amount);
                next.retired = retired.ok_or(Rejected::Loan("more is retired than made"))?;
            }
        }
        next.moves(entry.moves())?;
        Ok(next)
    }

    fn trade(&self, entry: &Entry, trade: &Trade, next: &mut Next) -> Result<(), Rejected> {
        let agreement = &trade.agreement;
        let (provider, consumer, payer) = (agreement.provider, agreement.consumer, trade.payer);
        if agreement.network != self.network {
            return Err(Rejected::Network);
        }
        if provider == consumer || provider == payer {
            return Err(Rejected::Party("a node cannot trade with itself"));
        }
        let sells = self.author == provider;
        if !sells && self.author != payer {
            return Err(Rejected::Party(
                "the chain's author has no part in the trade",
            ));
        }
        if agreement.usage.tokens_cached > agreement.usage.tokens_in {
            return Err(Rejected::Trade(
                "more of its tokens are cached than there are",
            ));
        }
        if agreement.amount.is_zero()
            || agreement.multiplier.price(agreement.kflop) != Ok(agreement.amount)
        {
            return Err(Rejected::Trade(
                "its amount does not follow from its FLOP and its price",
            ));
        }
        let id = agreement.id();
        let Some((promised, consent)) = trade.consent.signed(agreement) else {
            return Err(Rejected::Trade("its voucher promises something else"));
        };
        if trade.payer != consumer && matches!(trade.consent, Consent::Voucher(_)) {
            return Err(Rejected::Trade(
                "a voucher is its consumer's word, and another one pays",
            ));
        }
        if !self
            .keys
            .signed(&provider, id.as_bytes(), &trade.provider_signature)
            || !self.keys.signed(&consumer, &promised, &consent)
        {
            return Err(Rejected::Trade("it is not signed by both"));
        }
        next.seen = Some(self.once(agreement.lane_key(), "the job's agreement")?);
        let amount = agreement.amount;
        if !sells {
            if entry.waits {
                return Err(Rejected::Order("what is paid does not wait"));
            }
            return Ok(());
        }
        // In a network with one witness its own ledger has the debit.
        let authority = self.genesis.authority();
        let certified = authority == Some(self.author) || authority == Some(payer);
        match (entry.waits, certified) {
            (true, false) => next.waits = Some((id, Some(Waits { payer, amount }))),
            (false, true) => {}
            (false, false) => {
                return Err(Rejected::Order(
                    "a credit whose debit is not certified waits, and this one does not",
                ));
            }
            (true, true) => {
                return Err(Rejected::Order(
                    "a credit whose debit the only witness has does not wait, and this one does",
                ));
            }
        }
        Ok(())
    }

    /// What holds for a grant on either chain.
    fn granted(&self, grant: &Signed<LoanGrant>, next: &mut Next) -> Result<(), Rejected> {
        let LoanGrant {
            network,
            issuer,
            borrower,
            invitation,
            principal,
            granted,
            due,
        } = grant.body;
        if network != self.network {
            return Err(Rejected::Network);
        }
        if issuer == borrower {
            return Err(Rejected::Loan("an issuer cannot lend to itself"));
        }
        if self.genesis.quota(&issuer).is_zero() {
            return Err(Rejected::Loan("its lender is no issuer of the network"));
        }
        if principal.is_zero() || principal > self.genesis.welcome_loan {
            return Err(Rejected::Loan("it is not what the network lends newcomers"));
        }
        // Its lender cannot call it in before the time that the network gives.
        if due != granted.after_ms(self.genesis.welcome_term_ms) {
            return Err(Rejected::Loan("it is not due when the network says"));
        }
        if !self.keys.is_signed(&issuer, grant) {
            return Err(Rejected::Loan("it is not signed by its issuer"));
        }
        let mut once = [0; 32];
        for (to, from) in once.iter_mut().zip(invitation.as_bytes()) {
            *to = *from;
        }
        next.seen = Some(self.once(once, "the invitation")?);
        Ok(())
    }

    fn borrows(&self, grant: &Signed<LoanGrant>, next: &mut Next) -> Result<(), Rejected> {
        self.granted(grant, next)?;
        if grant.body.borrower != self.author {
            return Err(Rejected::Loan("it is not for this node"));
        }
        Ok(())
    }

    fn lends(&self, grant: &Signed<LoanGrant>, next: &mut Next) -> Result<(), Rejected> {
        self.granted(grant, next)?;
        if grant.body.issuer != self.author {
            return Err(Rejected::Loan("its lender is another node"));
        }
        Ok(())
    }

    fn mint(
        &self,
        grant: &Signed<LoanGrant>,
        next: &mut Next,
        entry: &Entry,
    ) -> Result<(), Rejected> {
        self.lends(grant, next)?;
        let (issuer, principal) = (grant.body.issuer, grant.body.principal);
        let quota = self.genesis.quota(&issuer);
        let before = self.state.made;
        let made = before.checked_add(principal).unwrap_or(Amount::MAX);
        if made > quota || before.checked_add(principal).is_none() {
            return Err(Rejected::OverQuota { made, quota });
        }
        let now = entry.at().ms();
        let today = self
            .day
            .iter()
            .filter(|(at, _)| now.saturating_sub(*at) < DAY_MS)
            .fold(principal, |sum, (_, made)| {
                sum.checked_add(*made).unwrap_or(Amount::MAX)
            });
        let most = lent_in_a_day(&self.genesis, quota, before);
        if today > most {
            return Err(Rejected::OverDay { made: today, most });
        }
        next.made = made;
        next.minted = Some(principal);
        next.opens(&grant.body, true);
        Ok(())
    }
}

/// The key that may sign the entry beside its author's: the successor that it names, whose hash the
/// chain committed to, so that a lost key can be replaced.
fn succeeds(entry: &Entry) -> Option<NodeId> {
    match &entry.step {
        Step::Succession { successor } => Some(*successor),
        _ => None,
    }
}

/// What an entry that is being checked makes of the state.
#[derive(Clone, Copy)]
struct Next {
    spendable: Amount,
    made: Amount,
    retired: Amount,
    successor: [u8; 32],
    /// A loan that is open now, or no more.
    loan: Option<(InvitationId, Option<Loan>)>,
    /// A credit that waits now, or no more.
    waits: Option<(ReceiptId, Option<Waits>)>,
    /// What stands on the chain now and may not again.
    seen: Option<[u8; 32]>,
    /// What the entry makes.
    minted: Option<Amount>,
}

impl Next {
    const fn after(state: &State) -> Self {
        Self {
            spendable: state.spendable,
            made: state.made,
            retired: state.retired,
            successor: state.successor,
            loan: None,
            waits: None,
            seen: None,
            minted: None,
        }
    }

    fn moves(&mut self, (gained, lost): (Amount, Amount)) -> Result<(), Rejected> {
        let sum = self.spendable.checked_add(gained);
        let has = sum.ok_or(Rejected::Order("no node can have that much"))?;
        let left = has.checked_sub(lost);
        self.spendable = left.ok_or(Rejected::Overdrawn { has, asked: lost })?;
        Ok(())
    }

    fn opens(&mut self, grant: &LoanGrant, lent: bool) {
        let loan = Loan {
            lent,
            other: if lent { grant.borrower } else { grant.issuer },
            owed: grant.principal,
        };
        self.loan = Some((grant.invitation, Some(loan)));
    }
}

/// Sets or removes.
fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, change: Option<(K, Option<V>)>) {
    match change {
        Some((key, Some(value))) => {
            map.insert(key, value);
        }
        Some((key, None)) => {
            map.remove(&key);
        }
        None => {}
    }
}
