//! Requests that wait for the owner: remembered by the gate, decided by the owner, void by
//! themselves after a day.

use std::collections::BTreeMap;

use tirami_manifest::signed::hash;
use tirami_manifest::{AgentId, Amount, ApprovalId, Timestamp};

use crate::error::WalletError;
use crate::hold::Work;
use crate::intent::{Attempt, IntentKey, is_answered};
use crate::ledger::approval::{APPROVAL_MS, Approval, Verdict};
use crate::ledger::mandate::DEPTH_MAX;
use crate::ledger::rows::{ReadRows, WriteRows};
use crate::ledger::tables::{Order, ReadTables, Table, Tables, decode};
use crate::ledger::transfer::Spend;
use crate::store::StoreError;
use crate::wallet::Wallet;

/// Domain of an approval id.
const APPROVAL_DOMAIN: &[u8] = b"trm/v1/approval\0";

/// Most requests that are remembered at once; chosen, so that a loop cannot fill the disk.
const REMEMBERED: usize = 256;

/// The id of the approval that this request would need: made from the purchase's name, all that was
/// asked, the payee, the model and what it may do, so that nothing else passes under it.
pub(crate) fn id(attempt: &Attempt, work: &Work) -> ApprovalId {
    let zero = [0; 32];
    let digest = hash(
        APPROVAL_DOMAIN,
        &[
            attempt.intent().row_key(),
            &attempt.body,
            work.action.name().as_bytes(),
            work.payee.as_ref().map_or(&zero, |id| id.as_bytes()),
            work.model.as_ref().map_or(&zero, |id| id.as_bytes()),
        ],
    );
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    ApprovalId::from_bytes(id)
}

/// Remembers that a spend waits for the owner.
pub(crate) fn ask(
    tables: &mut impl Tables,
    spend: &Spend,
    key: &str,
    amount: Amount,
    now: Timestamp,
) -> Result<(), WalletError> {
    let Some(id) = spend.approval else {
        return Ok(());
    };
    let epoch = tables.mandate(&spend.agent)?.map_or(0, |row| row.epoch);
    if let Some(present) = tables.approval(&id)?
        && now < present.expires
        && present.epoch == epoch
    {
        match present.verdict {
            // No is no, also to more.
            Verdict::Denied { .. } => return Err(WalletError::Denied(id)),
            Verdict::Waiting | Verdict::Approved { .. } if amount <= present.amount => {
                return Ok(());
            }
            Verdict::Waiting | Verdict::Approved { .. } => {}
        }
    }
    make_room(tables, (&id, spend.agent), now)?;
    let approval = Approval {
        agent: spend.agent,
        key: key.to_owned(),
        action: spend.action,
        payee: spend.payee,
        model: spend.model,
        amount,
        epoch,
        asked: now,
        expires: now.after_ms(APPROVAL_MS),
        verdict: Verdict::Waiting,
    };
    Ok(tables.set_approval(&id, Some(&approval))?)
}

/// Drops what is over. When too many are left besides the new one, the branch of mandates that has most
/// of them gives one up: nobody's request is pushed out by somebody who asks more often, also not through
/// agents of its own making. What the owner approved stays for its time.
fn make_room(
    tables: &mut impl Tables,
    (new, agent): (&ApprovalId, AgentId),
    now: Timestamp,
) -> Result<(), WalletError> {
    let (mut left, mut others) = (0_usize, Vec::new());
    for (id, approval) in all(tables)? {
        if approval.expires <= now {
            tables.set_approval(&id, None)?;
        } else if id != *new {
            left = left.saturating_add(1);
            if !matches!(approval.verdict, Verdict::Approved { .. }) {
                others.push(Candidate {
                    line: line(tables, approval.agent)?,
                    denied: matches!(approval.verdict, Verdict::Denied { .. }),
                    asked: approval.asked,
                    id,
                });
            }
        }
    }
    if left < REMEMBERED {
        return Ok(());
    }
    let asker = line(tables, agent)?;
    let out = first_out(others, 0, Some(&asker)).ok_or(WalletError::ApprovalsFull(REMEMBERED))?;
    Ok(tables.set_approval(&out, None)?)
}

/// A request that may make room for another.
struct Candidate {
    /// The agents from the top of its branch down to the one that asked.
    line: Vec<AgentId>,
    denied: bool,
    asked: Timestamp,
    id: ApprovalId,
}

/// An agent and those above it, the highest first.
fn line(tables: &impl ReadRows, agent: AgentId) -> Result<Vec<AgentId>, StoreError> {
    let (mut line, mut next) = (Vec::new(), Some(agent));
    while let Some(agent) = next
        && line.len() <= usize::from(DEPTH_MAX)
    {
        line.push(agent);
        next = tables.mandate(&agent)?.and_then(|row| row.parent);
    }
    line.reverse();
    Ok(line)
}

/// Among those whose lines are the same above `depth`: the agent at the top and each branch below it have
/// their shares, and the largest gives; of equal ones that of the `asker`, if its line is theirs. Within
/// one agent's own, what waits goes before what was denied, and the oldest first.
fn first_out(
    candidates: Vec<Candidate>,
    depth: usize,
    asker: Option<&[AgentId]>,
) -> Option<ApprovalId> {
    let mut shares: BTreeMap<Option<AgentId>, Vec<Candidate>> = BTreeMap::new();
    for candidate in candidates {
        let share = candidate.line.get(depth).copied();
        shares.entry(share).or_default().push(candidate);
    }
    let asks = asker.map(|line| line.get(depth).copied());
    let (branch, share) = shares
        .into_iter()
        .max_by_key(|(branch, share)| (share.len(), asks == Some(*branch)))?;
    if branch.is_some() {
        let asker = asker.filter(|_| asks == Some(branch));
        return first_out(share, depth.saturating_add(1), asker);
    }
    let oldest = share
        .into_iter()
        .min_by_key(|one| (one.denied, one.asked, one.id));
    oldest.map(|one| one.id)
}

fn all(tables: &impl ReadTables) -> Result<Vec<(ApprovalId, Approval)>, StoreError> {
    let damaged = StoreError::Row {
        table: Table::Approvals,
    };
    tables
        .scan(Table::Approvals, &[], None, Order::Ascending, usize::MAX)?
        .into_iter()
        .map(|(key, bytes)| {
            let id = key.try_into().map_err(|_| damaged.clone())?;
            Ok((
                ApprovalId::from_bytes(id),
                decode(Table::Approvals, &bytes)?,
            ))
        })
        .collect()
}

/// The owner says yes to exactly this.
pub(crate) fn approve(
    tables: &mut impl Tables,
    id: &ApprovalId,
    amount: Amount,
    now: Timestamp,
) -> Result<(), WalletError> {
    let mut approval = waiting(tables, id, now)?;
    if approval.amount != amount {
        let text = format!("it asks for {} TRM by now", approval.amount);
        return Err(WalletError::Approval(*id, text));
    }
    approval.verdict = Verdict::Approved { at: now };
    approval.expires = now.after_ms(APPROVAL_MS);
    Ok(tables.set_approval(id, Some(&approval))?)
}

/// One that was neither decided nor is over; an approval may still be denied.
fn waiting(
    tables: &impl ReadRows,
    id: &ApprovalId,
    now: Timestamp,
) -> Result<Approval, WalletError> {
    let approval = tables
        .approval(id)?
        .filter(|approval| now < approval.expires)
        .ok_or_else(|| WalletError::UnknownApproval(id.to_string()))?;
    if matches!(approval.verdict, Verdict::Denied { .. }) {
        return Err(WalletError::Denied(*id));
    }
    if is_used(tables, &approval)? {
        let text = "the request went through already".to_owned();
        return Err(WalletError::Approval(*id, text));
    }
    Ok(approval)
}

/// Whether the request went through that it was asked for.
fn is_used(tables: &impl ReadTables, approval: &Approval) -> Result<bool, StoreError> {
    is_answered(tables, &IntentKey::new(approval.agent, &approval.key))
}

impl Wallet {
    /// Requests that wait for the owner or were decided, newest first; those that are over are left
    /// out.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn approvals(&self) -> Result<Vec<(ApprovalId, Approval)>, WalletError> {
        let (view, now) = self.view_now()?;
        let mut found = all(&view)?;
        found.retain(|(_, approval)| now < approval.expires);
        found.sort_by_key(|(id, approval)| (std::cmp::Reverse(approval.asked), *id));
        Ok(found)
    }

    /// Whether the request went through that an approval is for.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn is_used(&self, approval: &Approval) -> Result<bool, WalletError> {
        Ok(is_used(&self.view()?, approval)?)
    }

    /// Says no to a request, also to one that was approved; anyone may, since it only makes less
    /// possible.
    ///
    /// # Errors
    ///
    /// [`WalletError::UnknownApproval`], or a store failure.
    pub async fn deny(&self, id: ApprovalId) -> Result<Approval, WalletError> {
        self.write(move |tables, now| {
            let mut approval = waiting(tables, &id, now)?;
            approval.verdict = Verdict::Denied { at: now };
            tables.set_approval(&id, Some(&approval))?;
            Ok(approval)
        })
        .await
    }
}
