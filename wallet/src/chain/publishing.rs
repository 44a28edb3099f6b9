//! What follows for the chain from what the ledger recorded.

use tirami_manifest::chain::{Entry, Repaid, State, Step, after, successor_hash};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, InvitationId, NodeId, ReceiptId, Timestamp, TransferId};

use super::keeping::{self, Head, append, grant, trade};
use super::open;
use crate::economy::loan;
use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{Order, ReadTables, Table, Tables};
use crate::ledger::transfer::{self, Entry as Recorded, Kind, TransferCode};
use crate::membership::{network, redeem_again};
use crate::store::StoreError;
use crate::strangers::Waiting;

/// Entries between two checkpoints; chosen, so that what a stranger must read stays below a megabyte.
pub(crate) const CHECKPOINT_EVERY: u64 = 1_024;

/// Transfers read at once.
const PAGE: usize = 1_024;

/// Transfers after which the mark of what was looked at is written although nothing followed.
const MARK_EVERY: u64 = 4_096;

/// Looks at every transfer after number `from`, or after the last that is known to have been looked
/// at, and appends what follows. Answers whether all of them were; it waits where a grant is missing
/// that a wallet from before there were chains did not keep.
pub(crate) fn publish(
    tables: &mut impl Tables,
    key: &SecretKey,
    from: Option<u64>,
) -> Result<bool, WalletError> {
    let newest = tables.last_seq()?;
    if from == Some(newest) {
        return Ok(true);
    }
    let Some(genesis) = network(tables)? else {
        return Ok(true);
    };
    let mut head = Head::read(tables)?;
    let written = head.covered;
    let generation = keeping::generation(tables)?;
    let mut chain = Publisher {
        genesis,
        node: key.id(),
        key,
        generation,
        head: &mut head,
        sale: None,
    };
    let mut done = from.unwrap_or(written);
    let mut whole = true;
    let before = chain.head.seq;
    'log: while done < newest {
        let mark = done.to_be_bytes();
        for (_, id) in tables.scan(Table::Log, &[], Some(&mark), Order::Ascending, PAGE)? {
            let recorded = recorded(tables, id)?;
            match chain.follow(tables, &recorded)? {
                Follows::Nothing => {}
                Follows::Step(step) => chain.append(tables, step, recorded.at)?,
                Follows::Missing => {
                    whole = false;
                    break 'log;
                }
            }
            done = recorded.seq;
        }
    }
    let waits = !whole && (!head.asked || done > written);
    if head.seq > before || done.saturating_sub(written) >= MARK_EVERY || waits {
        if !whole && !head.asked {
            // Its lender signs the same again.
            head.asked = true;
            redeem_again(tables)?;
        }
        head.covered = done;
        head.write(tables)?;
    }
    Ok(whole)
}

/// Names the key that may succeed the node's, as long as nothing stands on its chain.
pub(crate) fn name_successor(
    tables: &mut impl Tables,
    successor: &NodeId,
) -> Result<bool, WalletError> {
    let mut head = Head::read(tables)?;
    if head.seq == 0 && head.successor == [0; 32] {
        head.successor = successor_hash(successor);
        head.write(tables)?;
    }
    Ok(head.successor == successor_hash(successor))
}

/// Whether the chain names a key that may succeed the node's, or can still name one.
pub(crate) fn names_successor(tables: &impl ReadTables) -> Result<Option<bool>, StoreError> {
    let head = Head::read(tables)?;
    let named = head.successor != [0; 32];
    Ok((named || head.seq > 0).then_some(named))
}

/// Whether the chain named this key at its beginning.
pub(crate) fn may_succeed(tables: &impl ReadTables, key: &NodeId) -> Result<(), WalletError> {
    let named = Head::read(tables)?.successor;
    let why = if named == successor_hash(key) {
        return Ok(());
    } else if named == [0; 32] {
        "the chain named no key at its beginning that may succeed this one"
    } else {
        "it is not the key that the chain named at its beginning"
    };
    Err(WalletError::Succession(why.to_owned()))
}

/// Ends the chain with the key that it named, and begins the one that goes on under that key, which names
/// `next` in its turn.
pub(crate) fn succeed(
    tables: &mut impl Tables,
    (key, successor): (&SecretKey, &SecretKey),
    next: &NodeId,
    now: Timestamp,
) -> Result<(), WalletError> {
    let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
    if !publish(tables, key, None)? {
        let why = "the lender has to sign its loan again first; start the node for a while";
        return Err(WalletError::Succession(why.to_owned()));
    }
    may_succeed(tables, &successor.id())?;
    let mut head = Head::read(tables)?;
    let generation = keeping::generation(tables)?;
    let mut ending = Publisher {
        genesis: genesis.clone(),
        node: key.id(),
        key,
        generation,
        head: &mut head,
        sale: None,
    };
    let end = Step::Succession {
        successor: successor.id(),
    };
    ending.append(tables, end, now)?;
    head.covered = tables.last_seq()?;
    head.write(tables)?;
    keeping::ends(tables, key.id())?;
    let mut head = Head {
        hlc: head.hlc,
        spendable: head.spendable,
        made: head.made,
        retired: head.retired,
        successor: successor_hash(next),
        covered: head.covered,
        asked: head.asked,
        ..Head::default()
    };
    let mut going_on = Publisher {
        genesis,
        node: successor.id(),
        key: successor,
        generation: generation.saturating_add(1),
        head: &mut head,
        sale: None,
    };
    going_on.begin(tables, now)?;
    Ok(head.write(tables)?)
}

fn recorded(tables: &impl ReadRows, id: Vec<u8>) -> Result<Recorded, StoreError> {
    let damaged = || StoreError::Row { table: Table::Log };
    let id = id.try_into().map_err(|_| damaged())?;
    let entry = tables.entry(&TransferId::from_bytes(id))?;
    entry.ok_or_else(damaged)
}

/// What follows for the chain from a transfer.
enum Follows {
    /// Nothing: it stays inside the node.
    Nothing,
    /// An entry.
    Step(Step),
    /// Something, but what it needs is not here yet.
    Missing,
}

struct Publisher<'a> {
    genesis: Genesis,
    node: NodeId,
    key: &'a SecretKey,
    /// How many chains came before this one.
    generation: u8,
    head: &'a mut Head,
    /// The trade that was last seen: what is repaid out of a sale follows it.
    sale: Option<ReceiptId>,
}

impl Publisher<'_> {
    /// What follows from one transfer.
    fn follow(
        &mut self,
        tables: &impl ReadRows,
        recorded: &Recorded,
    ) -> Result<Follows, WalletError> {
        let (transfer, code) = (&recorded.transfer, recorded.transfer.code);
        let Some((debit, credit, amount)) = moved(tables, &transfer.kind)? else {
            return Ok(Follows::Nothing);
        };
        let receipt = ReceiptId::from_bytes(transfer.reference);
        let repaid = |other, receipt: Option<ReceiptId>| Repaid {
            other,
            invitation: invitation(&transfer.reference),
            amount,
            receipt: receipt.map_or([0; 32], |id| *id.as_bytes()),
        };
        let step = match (code, debit, credit) {
            (
                TransferCode::Purchase,
                Account::Outgoing | Account::Delegated,
                Account::Clearing(_),
            ) => {
                self.sale = Some(receipt);
                Some(Step::Trade(Box::new(trade(tables, self.node, receipt)?)))
            }
            (TransferCode::Sale, Account::Clearing(payer), Account::Revenue) => {
                self.sale = Some(receipt);
                Some(Step::Trade(Box::new(trade(tables, payer, receipt)?)))
            }
            (TransferCode::Uncertified, Account::Position, Account::Uncertified(payer)) => {
                Some(Step::Trade(Box::new(trade(tables, payer, receipt)?)))
            }
            (TransferCode::Certified, Account::Uncertified(payer), Account::Revenue) => {
                let row: Option<Waiting> = tables.row(Table::Waiting, receipt.as_bytes())?;
                let debit = row.and_then(|row| row.debit);
                Some(Step::Receive {
                    payer,
                    receipt,
                    amount,
                    debit: debit.ok_or(StoreError::Row {
                        table: Table::Waiting,
                    })?,
                })
            }
            (TransferCode::WelcomeLoan, Account::Issuer, Account::Clearing(borrower)) => {
                let loan = loan::of_borrower(tables, &borrower)?.ok_or(StoreError::Row {
                    table: Table::Loans,
                })?;
                let grant = loan.grant(&self.genesis, self.key);
                Some(Step::Mint(Box::new(grant)))
            }
            (TransferCode::WelcomeLoan, Account::Position, _) => match grant(tables)? {
                Some(grant) => Some(Step::Borrow(Box::new(grant))),
                None => return Ok(Follows::Missing),
            },
            (TransferCode::Repayment, Account::Agent(_), Account::Clearing(lender)) => {
                Some(Step::Repay(repaid(lender, None)))
            }
            (TransferCode::Repayment, Account::Revenue, Account::Position) => {
                let lender = self.genesis.authority().unwrap_or(self.node);
                Some(Step::Repay(repaid(lender, self.sale)))
            }
            (TransferCode::Repayment, Account::Clearing(borrower), Account::Issuer) => {
                // The chain knows the loan by the key that it was lent to.
                let lent = loan::of_borrower(tables, &borrower)?;
                let borrower = lent.map_or(borrower, |loan| loan.borrower);
                let out_of =
                    |sale: &ReceiptId| transfer.id == transfer::id("retire", &[sale.as_bytes()]);
                Some(Step::Retire(repaid(borrower, self.sale.filter(out_of))))
            }
            _ => None,
        };
        Ok(step.map_or(Follows::Nothing, Follows::Step))
    }

    /// Signs the next entry, after the genesis entry where there is none yet.
    fn append(
        &mut self,
        tables: &mut impl Tables,
        step: Step,
        at: Timestamp,
    ) -> Result<(), WalletError> {
        self.begin(tables, at)?;
        let since = self.head.seq.saturating_sub(self.head.checkpoint);
        if since >= CHECKPOINT_EVERY {
            let state = self.state(tables)?.digest();
            self.sign(tables, Step::Checkpoint { state }, at)?;
        }
        self.sign(tables, step, at)
    }

    /// Signs the genesis entry, where there is none yet.
    fn begin(&mut self, tables: &mut impl Tables, at: Timestamp) -> Result<(), WalletError> {
        if self.head.seq > 0 {
            return Ok(());
        }
        self.head.id = *self.genesis.id().as_bytes();
        let genesis = Step::Genesis {
            successor: self.head.successor,
            predecessor: keeping::predecessor(tables, self.generation)?,
        };
        self.sign(tables, genesis, at)
    }

    fn sign(
        &mut self,
        tables: &mut impl Tables,
        step: Step,
        at: Timestamp,
    ) -> Result<(), WalletError> {
        match &step {
            Step::Mint(grant) => {
                let made = self.head.made.checked_add(grant.body.principal);
                self.head.made = made.unwrap_or(Amount::MAX);
            }
            Step::Retire(repaid) => {
                let retired = self.head.retired.checked_add(repaid.amount);
                self.head.retired = retired.unwrap_or(Amount::MAX);
            }
            _ => {}
        }
        let head = &*self.head;
        let mut body = Entry {
            network: self.genesis.id(),
            author: self.node,
            seq: head.seq.saturating_add(1),
            prev: head.id,
            hlc: after(head.hlc, at),
            spendable: head.spendable,
            held: Amount::ZERO,
            staked: Amount::ZERO,
            log_root: head.log.root(),
            waits: self.waits(&step),
            step,
        };
        let (gained, lost) = body.moves();
        let sum = body.spendable.checked_add(gained);
        let left = sum.and_then(|sum| sum.checked_sub(lost));
        // The ledger does not allow less than nothing, so its books would not be what they were.
        body.spendable = left.ok_or(StoreError::Row {
            table: Table::Chain,
        })?;
        if let Step::Receive { receipt, .. } = &body.step {
            tables.remove(Table::Waiting, receipt.as_bytes())?;
        }
        open::follow(tables, &body)?;
        let signed = Signed::new(body, self.key);
        Ok(append(tables, self.generation, self.head, &signed)?)
    }

    /// Whether what an entry credits waits: neither side is the network's only witness.
    fn waits(&self, step: &Step) -> bool {
        let Step::Trade(trade) = step else {
            return false;
        };
        let authority = self.genesis.authority();
        trade.agreement.provider == self.node
            && authority != Some(self.node)
            && authority != Some(trade.payer)
    }

    /// What follows from the chain so far.
    fn state(&self, tables: &impl ReadTables) -> Result<State, WalletError> {
        let mut state = State {
            spendable: self.head.spendable,
            made: self.head.made,
            retired: self.head.retired,
            successor: self.head.successor,
            ..State::default()
        };
        open::fill(tables, &mut state)?;
        Ok(state)
    }
}

/// From, to and how much, of a transfer that moves something for good and ends or makes no promise.
fn moved(
    tables: &impl ReadRows,
    kind: &Kind,
) -> Result<Option<(Account, Account, Amount)>, StoreError> {
    Ok(match kind {
        Kind::Single {
            debit,
            credit,
            amount,
            ..
        } => Some((*debit, *credit, *amount)),
        Kind::Post { hold, amount } => {
            let row = tables.hold(hold)?.ok_or(StoreError::Row {
                table: Table::Holds,
            })?;
            Some((row.debit, row.credit, *amount))
        }
        _ => None,
    })
}

/// The invitation in a reference.
fn invitation(reference: &[u8; 32]) -> InvitationId {
    let bytes = reference.first_chunk().copied().unwrap_or_default();
    InvitationId::from_bytes(bytes)
}
