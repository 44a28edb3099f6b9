//! Requests that wait for the owner: remembered by the gate, decided by the owner, void by
//! themselves after a day.

use tirami_manifest::signed::hash;
use tirami_manifest::{AgentId, Amount, ApprovalId, Timestamp};

use crate::error::WalletError;
use crate::hold::Work;
use crate::intent::Attempt;
use crate::ledger::approval::{APPROVAL_MS, Approval, Verdict};
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
    make_room(tables, (&id, &spend.agent), now)?;
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
    Ok(tables.set_approval(&id, &approval)?)
}

/// Drops what is over. When too many are left, one that still waits makes room: the oldest of the agent
/// that asks, or else the oldest. What the owner answered stays for its time, whoever asks how often.
fn make_room(
    tables: &mut impl Tables,
    (new, agent): (&ApprovalId, &AgentId),
    now: Timestamp,
) -> Result<(), WalletError> {
    let (mut left, mut first_out) = (0_usize, None);
    for (id, approval) in all(tables)? {
        if approval.expires <= now {
            tables.remove(Table::Approvals, id.as_bytes())?;
            continue;
        }
        left = left.saturating_add(1);
        if approval.verdict == Verdict::Waiting {
            let worth = (approval.agent != *agent, approval.asked, id);
            first_out = Some(first_out.map_or(worth, |least| worth.min(least)));
        }
    }
    if left < REMEMBERED {
        return Ok(());
    }
    let Some((_, _, oldest)) = first_out else {
        let text =
            format!("the owner answered {REMEMBERED} requests in the last 24 hours; ask later");
        return Err(WalletError::Approval(*new, text));
    };
    Ok(tables.remove(Table::Approvals, oldest.as_bytes())?)
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
    Ok(tables.set_approval(id, &approval)?)
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
    Ok(approval)
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
            tables.set_approval(&id, &approval)?;
            Ok(approval)
        })
        .await
    }
}
