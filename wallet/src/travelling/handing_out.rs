//! Handing out: by an agent of this node, out of its own mandate, or by the holder of a grant.
//!
//! What a root payer hands out is set aside at once, through the gate, and counts against the agent's
//! mandate and every one above it. It is drawn part by part as receipts become known
//! ([`super::drawing`]), and what its tracker says was not used goes back to where it came from
//! ([`super::reclaiming`]). Nothing here ends by time: what a tracker does not answer for counts as
//! used.

use serde::{Deserialize, Serialize};
use tirami_manifest::mandate::Action;
use tirami_manifest::mandate_chain::{Actions, Grant, MandateChain};
use tirami_manifest::range::Range;
use tirami_manifest::{
    AgentId, Amount, GrantId, ModelId, Multiplier, NodeId, Timestamp, TransferId,
};

use super::damaged;
use super::drawing::can_be_paid;
use super::narrowing::{Narrowed, narrowed};
use crate::error::WalletError;
use crate::hold::{Work, set_aside};
use crate::intent::{Attempt, seal, store_answer};
use crate::ledger::account::Account;
use crate::ledger::gate;
use crate::ledger::mandate::chain;
use crate::ledger::ranges::{self, Share, Source};
use crate::ledger::refusal::Refusal;
use crate::ledger::rows::ReadRows;
use crate::ledger::rule::Rule;
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::{Kind, Transfer, TransferCode};
use crate::membership::network;
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
    pub(super) hold: Option<TransferId>,
    /// When.
    pub at: Timestamp,
    /// What is known to be spent of it, here at the root payer.
    pub drawn: Amount,
    /// When nothing of it was left to be spent or to come back.
    pub closed: Option<Timestamp>,
}

impl HandedOut {
    /// Whether its holders may have `work` done: what the agent that handed it out may not do now, they
    /// may not either. A mandate that was granted anew does not bring back what the one before handed
    /// out.
    pub(super) fn allows(
        &self,
        tables: &impl ReadRows,
        work: &Work,
        now: Timestamp,
    ) -> Result<(), WalletError> {
        let own = tables.mandate(&self.agent)?;
        if own.as_ref().is_some_and(|own| own.granted > self.at) {
            return Err(WalletError::Refused(Refusal::NotAllowed {
                rule: Rule::Revoked,
                mandate: self.agent,
                passes_at: None,
            }));
        }
        let payer = own.map_or(self.agent, |own| own.payer);
        gate::check(tables, &payer, &work.by(self.agent), Amount::ZERO, now)?;
        Ok(())
    }

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
        if asked.holder == self.node() {
            let text = "it is for this node itself, whose agents get their mandates from \
                        'tirami-agent mandate grant'";
            return Err(WalletError::Mandate(text.into()));
        }
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
    if let Some(provider) = &asked.pinned {
        // It will not ask before it works, so whether it can be paid is to be known now.
        can_be_paid(tables, &wallet.node(), provider)?;
    }
    let spend = work(asked, &terms).of(attempt);
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
    let payer = tables.mandate(&agent)?.map_or(agent, |row| row.payer);
    gate::check(
        tables,
        &payer,
        &work(&effective, &terms).of(attempt),
        Amount::ZERO,
        now,
    )?;
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

/// What is judged when something is handed out: the payee is the pinned one. Where there are several, any
/// will do, because no rule of the chain tells them apart; [`narrowed`] sees to that.
fn work(asked: &HandOut, terms: &Narrowed) -> Work {
    let payees = terms.payees.list();
    Work {
        action: Action::Chat,
        payee: asked.pinned.or_else(|| payees.first().copied()),
        model: terms.models.list().first().copied(),
        price: terms.ceiling,
    }
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
    hold: Option<TransferId>,
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

pub(super) fn carving(
    tables: &impl ReadTables,
    grant: &Grant,
) -> Result<ranges::Carving, WalletError> {
    let before = grant.serial.checked_sub(1);
    let found = ranges::carvings(tables, &grant.parent, before, 1)?;
    let (_, carving) = found
        .into_iter()
        .find(|(serial, _)| *serial == grant.serial)
        .ok_or(damaged(Table::Carvings))?;
    Ok(carving)
}

pub(super) fn row(tables: &impl ReadTables, grant: &GrantId) -> Result<HandedOut, WalletError> {
    tables
        .row(Table::HandedOut, grant.as_bytes())?
        .ok_or_else(|| WalletError::UnknownGrant(grant.short()))
}

pub(super) fn last(chain: &MandateChain) -> Result<&Grant, WalletError> {
    Ok(chain.last().ok_or(damaged(Table::HandedOut))?)
}
