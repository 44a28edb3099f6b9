//! Handing out: by an agent of this node, out of its own mandate, or by the holder of a grant.
//!
//! What a root payer hands out is set aside at once, through the gate, and counts against the agent's
//! mandate and every one above it. It is drawn part by part as receipts become known, and what its
//! tracker says was not used goes back to where it came from. Nothing here ends by time: what a
//! tracker does not answer for counts as used.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tirami_manifest::commerce::VerifiedReceipt;
use tirami_manifest::mandate::{Action, List};
use tirami_manifest::mandate_chain::{Actions, Allowed, Grant, MandateChain, RangeReturn};
use tirami_manifest::range::{Range, RangeSet};
use tirami_manifest::signed::Signed;
use tirami_manifest::{AgentId, Amount, GrantId, ModelId, Multiplier, NodeId, Timestamp};

use super::{Under, damaged, units_hold};
use crate::error::WalletError;
use crate::hold::{Work, set_aside};
use crate::intent::{Attempt, seal, store_answer};
use crate::ledger::account::Account;
use crate::ledger::apply::{Applied, apply, apply_group};
use crate::ledger::gate;
use crate::ledger::mandate::{Link, chain};
use crate::ledger::ranges::{self, Share, Source};
use crate::ledger::refusal::Refusal;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{self, Kind, Transfer, TransferCode};
use crate::membership::network;
use crate::statement::{ReceiptRow, Side};
use crate::token::main_agent;
use crate::travelling::holding;
use crate::wallet::Wallet;

/// What is to be handed out. Absent terms are as wide as what it comes from allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOut {
    /// Out of which grant that this node holds; out of the agent's own mandate when absent.
    pub from: Option<GrantId>,
    /// To whom.
    pub holder: NodeId,
    /// How much in all.
    pub amount: Amount,
    /// The one provider that may accept it, also while this node cannot be reached; without one this
    /// node is asked before each job.
    pub pinned: Option<NodeId>,
    /// Most that one request may take.
    pub per_request: Option<Amount>,
    /// Highest price relative to par.
    pub ceiling: Option<Multiplier>,
    /// With which models.
    pub models: Vec<ModelId>,
    /// Whom it may be paid to.
    pub payees: Vec<NodeId>,
    /// After this nothing may be spent.
    pub expires: Timestamp,
    /// How often it may be handed on.
    pub depth_left: u8,
}

/// A mandate that was handed out here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOut {
    /// By which agent.
    pub agent: AgentId,
    /// The chain that ends in it, as its bytes.
    chain: Vec<u8>,
    /// The hold that pays for it; none where it was handed on.
    hold: Option<tirami_manifest::TransferId>,
    /// When.
    pub at: Timestamp,
    /// What is known to be spent of it, here at the root payer.
    pub drawn: Amount,
    /// When nothing of it was left to be spent or to come back.
    pub closed: Option<Timestamp>,
}

impl HandedOut {
    /// The chain that ends in it.
    ///
    /// # Errors
    ///
    /// A store failure when the row is damaged.
    pub fn chain(&self) -> Result<MandateChain, WalletError> {
        let chain = MandateChain::from_bytes(&self.chain);
        Ok(chain.map_err(|_| damaged(Table::HandedOut))?)
    }

    /// Whether this node's money pays for it.
    pub const fn is_root(&self) -> bool {
        self.hold.is_some()
    }
}

/// One mandate that was handed out here, with its terms.
#[derive(Clone, Debug)]
pub struct Outstanding {
    /// What is kept of it.
    pub row: HandedOut,
    /// Its terms.
    pub grant: Grant,
    /// How much of it came back.
    pub back: Amount,
}

impl Wallet {
    /// Hands out part of what an agent may spend, or part of a grant that is held here. The answer is
    /// stored under the attempt's intent, as `answer` makes it: asked again, nothing is handed out
    /// twice.
    ///
    /// # Errors
    ///
    /// A refusal of the gate or of the units; [`WalletError::Mandate`] for terms that would allow more
    /// than what it comes from.
    pub async fn hand_out(
        &self,
        attempt: Attempt,
        asked: HandOut,
        answer: impl FnOnce(&MandateChain) -> Vec<u8> + Send + 'static,
    ) -> Result<MandateChain, WalletError> {
        let wallet = self.clone();
        self.write(move |tables, now| {
            let made = match asked.from {
                None => start(tables, &wallet, &attempt, &asked, now)?,
                Some(from) => hand_on(tables, &wallet, &attempt, (&asked, from), now)?,
            };
            let chain = match made {
                Ok(chain) => chain,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let sealed = seal(&wallet.inner.key, &answer(&chain))?;
            store_answer(tables, attempt.intent(), sealed)?;
            Ok(Ok(chain))
        })
        .await?
        .map_err(WalletError::from)
    }

    /// Every mandate that was handed out here, the newest last.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn handed_out(&self) -> Result<Vec<Outstanding>, WalletError> {
        let view = self.view()?;
        let mut all = Vec::new();
        for (_, bytes) in view.scan(Table::HandedOut, &[], None, Order::Ascending, usize::MAX)? {
            let row: HandedOut = decode(Table::HandedOut, &bytes)?;
            let grant = last(&row.chain()?)?.clone();
            let back = carving(&view, &grant)?.back.total();
            all.push(Outstanding { row, grant, back });
        }
        all.sort_by_key(|out| (out.row.at, out.grant.serial));
        Ok(all)
    }

    /// Books what was bought under a mandate that this node handed out: draws on what was set aside
    /// for it. The same receipt again changes nothing. A freeze does not stop it, because the grant
    /// was a promise.
    ///
    /// # Errors
    ///
    /// [`WalletError::OtherReceipt`] when chain, spend and receipt are not of one purchase under a
    /// mandate of this node, [`WalletError::Units`] when a unit was used before.
    pub async fn book_draw(
        &self,
        receipt: VerifiedReceipt,
        under: Under,
    ) -> Result<Applied, WalletError> {
        let node = self.node();
        self.write(move |tables, now| book(tables, &node, (&receipt, &under), now))
            .await
    }

    /// Voids every mandate that was handed out here so far: raises the epoch that new ones carry. Where
    /// this node is asked, nothing passes under the earlier ones from now on; a pinned provider learns
    /// of it by a newer mandate only, so what is pinned is to be taken back as well.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub async fn void_handed_out(&self) -> Result<u64, WalletError> {
        let node = self.node();
        self.write(move |tables, _| {
            let next = ranges::epoch(tables, &node)?.saturating_add(1);
            ranges::bump_epoch(tables, &node, next)?;
            Ok(next)
        })
        .await
    }

    /// Takes back what is left of a mandate that this node remembers the units of, at once. Answers
    /// how much came back.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`] for one that was not handed out here.
    pub async fn reclaim_here(&self, grant: GrantId) -> Result<Amount, WalletError> {
        let key = self.inner.key.clone();
        self.write(move |tables, now| {
            let row = row(tables, &grant)?;
            let chain = row.chain()?;
            let terms = last(&chain)?;
            let whole = Signed::new(RangeReturn::of(terms, terms.range), &key);
            let by = Some(&whole.signature);
            let backs = super::tracking::give_units_back(tables, &key, (terms, by), now)?;
            take_back(tables, (&grant, &backs), now)
        })
        .await
    }

    /// What to send to the tracker of a mandate that was handed out here, to take back what is left:
    /// the chain, and the request signed by this node.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`].
    pub fn reclaim_request(
        &self,
        grant: &GrantId,
    ) -> Result<(MandateChain, Signed<RangeReturn>), WalletError> {
        let chain = row(&self.view()?, grant)?.chain()?;
        let terms = last(&chain)?;
        let back = RangeReturn::of(terms, terms.range);
        let back = Signed::new(back, &self.inner.key);
        Ok((chain, back))
    }

    /// Takes back units that their tracker says were not used. Answers how much came back now.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownGrant`], or [`WalletError::Units`] when the tracker did not sign.
    pub async fn took_back(
        &self,
        grant: GrantId,
        backs: Vec<Signed<RangeReturn>>,
    ) -> Result<Amount, WalletError> {
        self.write(move |tables, now| take_back(tables, (&grant, &backs), now))
            .await
    }
}

/// All units there are: a root payer's budget is what it sets aside, and the numbers only tell units
/// apart.
fn everything() -> Result<Range, WalletError> {
    Range::new(0, Amount::MAX.utrm()).map_err(|error| WalletError::Mandate(error.to_string()))
}

/// The root payer hands out: money is set aside for it.
fn start(
    tables: &mut impl Tables,
    wallet: &Wallet,
    attempt: &Attempt,
    asked: &HandOut,
    now: Timestamp,
) -> Result<Result<MandateChain, Refusal>, WalletError> {
    let agent = attempt.intent().agent();
    let links = chain(tables, &agent)?;
    let terms = narrowed(&links, asked)?;
    let work = Work {
        action: Action::Chat,
        payee: terms.payees.list().first().copied(),
        model: terms.models.list().first().copied(),
        price: terms.ceiling,
    };
    let spend = work.of(attempt);
    let payer = links.first().map_or(agent, |own| own.row.payer);
    let hold = Transfer {
        id: attempt.hold_id(),
        kind: Kind::Hold {
            debit: Account::Agent(payer),
            credit: Account::Delegated,
            amount: asked.amount,
            // It ends by the tracker's word, never by time.
            timeout_ms: u64::MAX,
            spend: Some(spend),
        },
        code: TransferCode::Delegation,
        reference: *asked.holder.as_bytes(),
    };
    if let Err(refusal) = set_aside(tables, &hold, &attempt.intent().key, now)? {
        return Ok(Err(refusal));
    }
    let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
    let node = wallet.node();
    let (range, serial) = carve(tables, (Grant::NO_PARENT, everything()?), asked)?;
    let grant = Grant {
        network: genesis.id(),
        root: node,
        parent: Grant::NO_PARENT,
        serial,
        range,
        holder: asked.holder,
        pinned: asked.pinned,
        per_request: terms.per_request,
        ceiling: terms.ceiling,
        actions: Actions::CHAT,
        models: terms.models,
        payees: terms.payees,
        expires: asked.expires,
        epoch: ranges::epoch(tables, &node)?,
        depth_left: asked.depth_left,
    };
    ranges::seal(tables, &grant)?;
    let chain = MandateChain::start(grant, &wallet.inner.key);
    keep(tables, (agent, &chain), Some(hold.id), now)?;
    Ok(Ok(chain))
}

/// A holder hands on part of what it holds.
fn hand_on(
    tables: &mut impl Tables,
    wallet: &Wallet,
    attempt: &Attempt,
    (asked, from): (&HandOut, GrantId),
    now: Timestamp,
) -> Result<Result<MandateChain, Refusal>, WalletError> {
    let agent = attempt.intent().agent();
    let held = holding::held(tables, &from, &agent)?;
    let verified = holding::verified(tables, &held, now)?;
    let above = verified.limits();
    if asked.pinned.is_some_and(|pin| above.pinned != Some(pin)) {
        let text = "pinned is for the first grant to say; this one is handed on as it is";
        return Err(WalletError::Mandate(text.into()));
    }
    // What the agent may not do with it, nobody gets from it.
    let effective = HandOut {
        pinned: above.pinned,
        payees: named_or(&asked.payees, above.payees.list()),
        models: named_or(&asked.models, above.models.list()),
        ..asked.clone()
    };
    let terms = narrowed(&chain(tables, &agent)?, &effective)?;
    let work = Work {
        action: Action::Chat,
        payee: terms.payees.list().first().copied(),
        model: terms.models.list().first().copied(),
        price: terms.ceiling,
    };
    let payer = tables.mandate(&agent)?.map_or(agent, |row| row.payer);
    gate::check(tables, &payer, &work.of(attempt), Amount::ZERO, now)?;
    let (range, serial) = carve(tables, (from, verified.range()), asked)?;
    let grant = Grant {
        parent: from,
        serial,
        range,
        holder: asked.holder,
        per_request: asked
            .per_request
            .unwrap_or_else(|| terms.per_request.min(above.per_request)),
        ceiling: match (terms.ceiling, above.ceiling) {
            (Some(own), Some(most)) if asked.ceiling.is_none() => Some(own.min(most)),
            (own, most) => own.or(most),
        },
        models: terms.models,
        payees: terms.payees,
        expires: asked.expires,
        depth_left: asked.depth_left,
        ..above.clone()
    };
    let place = verified.ids().len();
    grant.check_within(above, place)?;
    ranges::seal(tables, &grant)?;
    let chain = held.chain()?.extend(grant, &wallet.inner.key);
    keep(tables, (agent, &chain), None, now)?;
    Ok(Ok(chain))
}

/// What was named, or else all that is allowed.
fn named_or<T: Copy>(asked: &[T], above: &[T]) -> Vec<T> {
    if asked.is_empty() { above } else { asked }.to_vec()
}

fn carve(
    tables: &mut impl Tables,
    (parent, range): (GrantId, Range),
    asked: &HandOut,
) -> Result<(Range, u64), WalletError> {
    let serial = ranges::next_serial(tables, &parent)?;
    let share = Share {
        serial,
        holder: asked.holder,
        amount: asked.amount,
        expires: asked.expires,
    };
    let carving = ranges::carve(tables, &Source { parent, range }, &share)?;
    Ok((carving.range, serial))
}

fn keep(
    tables: &mut impl Tables,
    (agent, chain): (AgentId, &MandateChain),
    hold: Option<tirami_manifest::TransferId>,
    at: Timestamp,
) -> Result<(), WalletError> {
    let row = HandedOut {
        agent,
        chain: chain.to_bytes(),
        hold,
        at,
        drawn: Amount::ZERO,
        closed: None,
    };
    let id = last(chain)?.id();
    Ok(tables.put_row(Table::HandedOut, id.as_bytes(), &row)?)
}

/// What the grant may say at most, where the request says nothing.
struct Narrowed {
    per_request: Amount,
    ceiling: Option<Multiplier>,
    models: Allowed<ModelId>,
    payees: Allowed<NodeId>,
}

/// Checks that what is handed out allows nothing that a mandate of the agent's chain does not. What a
/// grant cannot say must not be in the way: a limit per payee and quiet hours need this node's word
/// before each job, so they are refused for a pinned grant.
fn narrowed(links: &[Link], asked: &HandOut) -> Result<Narrowed, WalletError> {
    let mut per_request = asked.amount;
    let mut ceiling: Option<Multiplier> = None;
    let (mut payees, mut models) = (Scope::default(), Scope::default());
    for Link { row, .. } in links {
        let terms = &row.terms;
        per_request = per_request.min(terms.limits.per_request_trm);
        ceiling = match (ceiling, terms.limits.ceiling()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        payees.narrow(&terms.scope.payees);
        models.narrow(&terms.scope.models);
        let cannot = |what: &str| {
            Err(WalletError::Mandate(format!(
                "the mandate has {what}, which a pinned provider cannot hold; hand it out without a \
                 pin, so that this node is asked before each job"
            )))
        };
        if asked.pinned.is_some() && terms.quiet_hours.is_some() {
            return cannot("quiet hours");
        }
        if let Some(end) = terms.expires.filter(|end| asked.expires > *end) {
            return widens("expires", &asked.expires.to_rfc3339(), &end.to_rfc3339());
        }
        let one = asked.pinned.is_some() || asked.payees.len() == 1;
        if terms.limits.payee_day_trm.is_some() && !one {
            let text = "the mandate has a limit per payee; pin the grant to one provider, or name \
                        one payee";
            return Err(WalletError::Mandate(text.into()));
        }
    }
    if let Some(own) = asked.per_request.filter(|own| *own > per_request) {
        return widens("per_request_trm", &own, &per_request);
    }
    let dearer = |own: &Multiplier| ceiling.is_some_and(|most| *own > most);
    if let (Some(own), Some(most)) = (asked.ceiling.filter(dearer), ceiling) {
        return widens("price_ceiling", &own.ppm(), &most.ppm());
    }
    let pinned: Vec<NodeId> = asked.pinned.into_iter().collect();
    let named = if asked.payees.is_empty() {
        &pinned
    } else {
        &asked.payees
    };
    Ok(Narrowed {
        per_request: asked.per_request.unwrap_or(per_request),
        ceiling: asked.ceiling.or(ceiling),
        models: models.only("model", &asked.models)?,
        payees: payees.only("payee", named)?,
    })
}

fn widens<T>(
    field: &str,
    asked: &dyn std::fmt::Display,
    most: &dyn std::fmt::Display,
) -> Result<T, WalletError> {
    Err(WalletError::Mandate(format!(
        "{field} is {asked}; the mandate it comes from allows {most}"
    )))
}

/// What the lists of a chain of mandates leave.
struct Scope<T> {
    allow: Option<BTreeSet<T>>,
    deny: BTreeSet<T>,
}

impl<T> Default for Scope<T> {
    fn default() -> Self {
        Self {
            allow: None,
            deny: BTreeSet::new(),
        }
    }
}

impl<T: Copy + Ord + std::fmt::Display> Scope<T> {
    fn narrow(&mut self, list: &List<T>) {
        self.deny.extend(list.deny.iter().copied());
        if let Some(allow) = &list.allow {
            let kept = match &self.allow {
                Some(before) => before.intersection(allow).copied().collect(),
                None => allow.clone(),
            };
            self.allow = Some(kept);
        }
    }

    /// The list a grant shall have: what was named, if all of it is allowed, or all that is.
    fn only(&self, what: &str, named: &[T]) -> Result<Allowed<T>, WalletError> {
        let permits = |thing: &T| {
            !self.deny.contains(thing)
                && self
                    .allow
                    .as_ref()
                    .is_none_or(|allow| allow.contains(thing))
        };
        if let Some(other) = named.iter().find(|thing| !permits(thing)) {
            return Err(WalletError::Mandate(format!(
                "the mandate does not allow the {what} {other}"
            )));
        }
        if !named.is_empty() {
            return Ok(listed(what, named)?.unwrap_or(Allowed::ANY));
        }
        match &self.allow {
            None if self.deny.is_empty() => Ok(Allowed::ANY),
            None => Err(WalletError::Mandate(format!(
                "the mandate forbids some {what}s, which a grant cannot say; name the {what}s it is for"
            ))),
            Some(allow) => {
                let left: Vec<T> = allow.difference(&self.deny).copied().collect();
                listed(what, &left)?.ok_or_else(|| {
                    WalletError::Mandate(format!("the mandate allows no {what} at all"))
                })
            }
        }
    }
}

/// The list of a grant; none when nothing is named.
fn listed<T: Copy + Ord>(what: &str, named: &[T]) -> Result<Option<Allowed<T>>, WalletError> {
    if named.is_empty() {
        return Ok(None);
    }
    Allowed::only(named.iter().copied())
        .map(Some)
        .map_err(|error| WalletError::Mandate(format!("{what}: {error}")))
}

/// The root payer books one draw.
pub(crate) fn book(
    tables: &mut impl Tables,
    node: &NodeId,
    (receipt, under): (&VerifiedReceipt, &Under),
    now: Timestamp,
) -> Result<Applied, WalletError> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    if tables.get(Table::Receipts, id.as_bytes())?.is_some() {
        return Ok(Applied::Already);
    }
    let first = under.chain.links.first();
    let root = first.ok_or(WalletError::OtherReceipt("mandate"))?.body.id();
    let mut row = row(tables, &root).map_err(|_| WalletError::OtherReceipt("mandate"))?;
    let hold = row.hold.ok_or(WalletError::OtherReceipt("mandate"))?;
    let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
    // Both signed when the work began, so that is when chain and spend must have held.
    let then = Timestamp::from_ms(agreement.started_hlc >> 16);
    let epoch = first.map_or(0, |link| link.body.epoch);
    let chain = under.chain.verify(*node, genesis.id(), then, epoch)?;
    let spend = chain.check(&under.spend, agreement.provider, then)?;
    can_be_paid(tables, node, &agreement.provider)?;
    let body = &under.spend.body;
    for (same, what) in [
        (body.request == *agreement.quote.as_bytes(), "quote"),
        (body.model == agreement.model, "model"),
        (spend.holder() == agreement.consumer, "consumer"),
        (agreement.network == genesis.id(), "network"),
        (agreement.amount <= body.range.amount(), "amount"),
        (chain.admits_price(agreement.multiplier), "price"),
    ] {
        if !same {
            return Err(WalletError::OtherReceipt(what));
        }
    }
    let units = units_hold(body);
    let used = body.range.split(agreement.amount).0;
    let back = &carving(tables, last(&row.chain()?)?)?.back;
    if let Some(units) = used.and_then(|used| back.overlap(used)) {
        return Err(ranges::Refusal::Returned { grant: root, units }.into());
    }
    if spend.tracker() == *node {
        // This receipt is new, so what the spend paid for was another.
        let before = ranges::reservation(tables, &units)?.and_then(|row| row.outcome);
        if matches!(before, Some(ranges::Outcome::Spent(_))) {
            return Err(WalletError::OtherReceipt("purchase; its spend is used"));
        }
        ranges::commit_late(tables, units, agreement.amount)?;
    } else if let Some(used) = used {
        ranges::use_up(tables, node, used)?;
    }
    if !agreement.amount.is_zero() {
        let draw = Transfer {
            id: transfer::id_after(&hold, "draw", &[id.as_bytes()]),
            kind: Kind::Draw {
                hold,
                amount: agreement.amount,
            },
            code: TransferCode::Delegation,
            reference: *id.as_bytes(),
        };
        let mut group = vec![draw];
        group.extend(on_its_way(node, genesis.authority(), receipt));
        apply_group(tables, &group, now)?;
    }
    row.drawn = row
        .drawn
        .checked_add(agreement.amount)
        .unwrap_or(Amount::MAX);
    let agent = row.agent;
    close(tables, (&root, row), now)?;
    let row = ReceiptRow {
        bytes: receipt.to_bytes(),
        side: Side::Drawn { agent, grant: root },
        at: now,
    };
    tables.put_row(Table::Receipts, id.as_bytes(), &row)?;
    Ok(Applied::Now)
}

/// Refuses a provider that this network cannot pay on this node's word: the authority can be, and where
/// this node is it, its members.
pub(super) fn can_be_paid(
    tables: &impl ReadTables,
    node: &NodeId,
    provider: &NodeId,
) -> Result<(), WalletError> {
    let authority = network(tables)?.ok_or(WalletError::NoNetwork)?.authority();
    let kept = Account::Clearing(*provider).key();
    let member = authority == Some(*node) && tables.get(Table::Accounts, &kept)?.is_some();
    if provider == node || authority == Some(*provider) || member {
        return Ok(());
    }
    Err(WalletError::OtherReceipt("network's provider"))
}

/// What was drawn goes on to the provider. Where that is the network's authority, it is in its books
/// already; where it is this node, it earned it.
fn on_its_way(
    node: &NodeId,
    authority: Option<NodeId>,
    receipt: &VerifiedReceipt,
) -> Vec<Transfer> {
    let (id, agreement) = (receipt.id(), &receipt.agreement);
    let clearing = Account::Clearing(agreement.provider);
    let earner = Account::Agent(main_agent());
    let mut legs = Vec::new();
    if agreement.provider == *node {
        legs.push((Account::Delegated, Account::Revenue, TransferCode::Sale));
        legs.push((Account::Revenue, earner, TransferCode::Earnings));
    } else {
        legs.push((Account::Delegated, clearing, TransferCode::Purchase));
        if authority != Some(*node) {
            legs.push((clearing, Account::Position, TransferCode::Acknowledged));
        }
    }
    legs.into_iter()
        .map(|(debit, credit, code)| Transfer {
            id: transfer::id(code.name(), &[b"drawn", id.as_bytes()]),
            kind: Kind::Single {
                debit,
                credit,
                amount: agreement.amount,
                spend: None,
            },
            code,
            reference: *id.as_bytes(),
        })
        .collect()
}

/// Takes units back on their tracker's word, and with the last of them the money.
fn take_back(
    tables: &mut impl Tables,
    (grant, backs): (&GrantId, &[Signed<RangeReturn>]),
    now: Timestamp,
) -> Result<Amount, WalletError> {
    let row = row(tables, grant)?;
    let chain = row.chain()?;
    let terms = last(&chain)?;
    let mut came = RangeSet::new();
    for back in backs {
        let used = ranges::used(tables, &terms.root, back.body.range)?;
        if let (true, Some(units)) = (row.is_root(), used.ranges().first().copied()) {
            // Its receipt says otherwise.
            return Err(ranges::Refusal::Used { units }.into());
        }
        for units in ranges::give_back(tables, terms, back)?.ranges() {
            came.insert(*units).map_err(|_| damaged(Table::Carvings))?;
        }
    }
    close(tables, (grant, row), now)?;
    Ok(came.total())
}

/// Ends what was set aside for a mandate once each of its units is drawn or back.
fn close(
    tables: &mut impl Tables,
    (grant, mut row): (&GrantId, HandedOut),
    now: Timestamp,
) -> Result<(), WalletError> {
    let chain = row.chain()?;
    let terms = last(&chain)?;
    let back = carving(tables, terms)?.back.total();
    let known = row.drawn.checked_add(back).unwrap_or(Amount::MAX);
    // Where it was handed on, what was spent of it is known to others only.
    if row.closed.is_none() && known >= terms.range.amount() {
        row.closed = Some(now);
        let open = match &row.hold {
            Some(hold) => tables.hold(hold)?.filter(|held| held.end.is_none()),
            None => None,
        };
        if let (Some(hold), Some(_)) = (row.hold, open) {
            let void = Transfer {
                id: transfer::id_after(&hold, "void", &[hold.as_bytes()]),
                kind: Kind::Void {
                    hold,
                    failed: false,
                },
                code: TransferCode::Delegation,
                reference: *grant.as_bytes(),
            };
            apply(tables, &void, now)?;
        }
    }
    Ok(tables.put_row(Table::HandedOut, grant.as_bytes(), &row)?)
}

fn carving(tables: &impl ReadTables, grant: &Grant) -> Result<ranges::Carving, WalletError> {
    let before = grant.serial.checked_sub(1);
    let found = ranges::carvings(tables, &grant.parent, before, 1)?;
    let (_, carving) = found
        .into_iter()
        .find(|(serial, _)| *serial == grant.serial)
        .ok_or(damaged(Table::Carvings))?;
    Ok(carving)
}

fn row(tables: &impl ReadTables, grant: &GrantId) -> Result<HandedOut, WalletError> {
    tables
        .row(Table::HandedOut, grant.as_bytes())?
        .ok_or_else(|| WalletError::UnknownGrant(grant.short()))
}

fn last(chain: &MandateChain) -> Result<&Grant, WalletError> {
    Ok(chain.last().ok_or(damaged(Table::HandedOut))?)
}
