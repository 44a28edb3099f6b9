//! A hold's bytes, written in one piece: every hold writes them, and serde would write its ids byte by
//! byte. They are what [`encode`](super::super::tables::encode) makes of it.

use tirami_manifest::AgentId;

use super::{Charge, HoldEnd, HoldRow};
use crate::ledger::account::Account;
use crate::ledger::tables::ROW_VERSION;

/// Bytes that hold any hold.
const MOST: usize = 256;

impl HoldRow {
    /// The row's bytes.
    pub(crate) fn to_row(self) -> Vec<u8> {
        let Self {
            debit,
            credit,
            amount,
            timeout_ms,
            expires,
            charge,
            vouched,
            end,
        } = self;
        let mut out = Vec::with_capacity(MOST);
        out.push(ROW_VERSION);
        account(&mut out, &debit);
        account(&mut out, &credit);
        varint(&mut out, amount.utrm());
        varint(&mut out, timeout_ms);
        varint(&mut out, expires.ms());
        match charge {
            None => out.push(0),
            Some(charge) => {
                out.push(1);
                charged(&mut out, &charge);
            }
        }
        varint(&mut out, vouched.utrm());
        match end {
            None => out.push(0),
            Some(HoldEnd::Posted) => out.extend_from_slice(&[1, 0]),
            Some(HoldEnd::Voided) => out.extend_from_slice(&[1, 1]),
            Some(HoldEnd::Expired) => out.extend_from_slice(&[1, 2]),
        }
        out
    }
}

fn charged(out: &mut Vec<u8>, charge: &Charge) {
    let Charge {
        agent,
        at,
        payee,
        counted_to_payee,
        draw,
    } = charge;
    whose(out, agent);
    varint(out, at.ms());
    match payee {
        None => out.push(0),
        Some(payee) => {
            out.push(1);
            out.extend_from_slice(payee.as_bytes());
        }
    }
    varint(out, (*counted_to_payee).into());
    for part in draw {
        match part {
            None => out.push(0),
            Some((pot, amount)) => {
                // Pots are in the order of their numbers, from 1.
                out.extend_from_slice(&[1, pot.number().saturating_sub(1)]);
                varint(out, amount.utrm());
            }
        }
    }
}

fn account(out: &mut Vec<u8>, account: &Account) {
    match account {
        Account::Agent(agent) => {
            out.push(0);
            whose(out, agent);
        }
        Account::Revenue => out.push(1),
        Account::Position => out.push(2),
        Account::Clearing(node) => {
            out.push(3);
            out.extend_from_slice(node.as_bytes());
        }
        Account::Outgoing => out.push(4),
        Account::Issuer => out.push(5),
        Account::Delegated => out.push(6),
        Account::Uncertified(node) => {
            out.push(7);
            out.extend_from_slice(node.as_bytes());
        }
    }
}

fn whose(out: &mut Vec<u8>, agent: &AgentId) {
    out.extend_from_slice(agent.as_bytes());
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(out: &mut Vec<u8>, n: u64) {
    let mut rest = n;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest = rest.checked_shr(7).unwrap_or(0);
        if rest == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use tirami_manifest::mandate::Pot;
    use tirami_manifest::{Amount, NodeId, Timestamp};

    use super::*;
    use crate::ledger::tables::{Table, decode, encode};

    #[test]
    fn a_hold_is_written_as_serde_writes_it() {
        let agent = AgentId::from_bytes([7; 16]);
        let node = NodeId::from_bytes([0xfe; 32]);
        let accounts = [
            Account::Agent(agent),
            Account::Revenue,
            Account::Position,
            Account::Clearing(node),
            Account::Outgoing,
            Account::Issuer,
            Account::Delegated,
        ];
        let numbers = [0, 1, 127, 128, 16_383, 16_384, 1 << 54];
        let ends = [
            None,
            Some(HoldEnd::Posted),
            Some(HoldEnd::Voided),
            Some(HoldEnd::Expired),
        ];
        let amount = |n: u64| Amount::from_utrm(n).unwrap_or(Amount::MAX);
        let mut draw = [None; 4];
        for (n, pot) in Pot::ALL.into_iter().enumerate() {
            for (debit, number) in accounts.into_iter().zip(numbers) {
                if let Some(place) = draw.get_mut(n) {
                    *place = Some((pot, amount(number)));
                }
                let charge = Charge {
                    agent,
                    at: Timestamp::from_ms(number),
                    payee: (n % 2 == 0).then_some(node),
                    counted_to_payee: u16::try_from(number).unwrap_or(u16::MAX),
                    draw,
                };
                for (credit, end) in accounts.into_iter().rev().zip(ends.into_iter().cycle()) {
                    for charge in [None, Some(charge)] {
                        let row = HoldRow {
                            debit,
                            credit,
                            amount: amount(number),
                            timeout_ms: number,
                            expires: Timestamp::from_ms(u64::MAX.wrapping_sub(number)),
                            charge,
                            vouched: amount(number / 2),
                            end,
                        };
                        let bytes = row.to_row();
                        assert_eq!(encode(Table::Holds, &row).ok().as_ref(), Some(&bytes));
                        assert_eq!(decode(Table::Holds, &bytes).ok(), Some(row));
                        assert!(bytes.len() <= MOST);
                    }
                }
            }
        }
    }
}
