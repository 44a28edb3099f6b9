//! Reading the chain, and what it says of the ledger.

use tirami_manifest::chain::{self, Certificate, Chain, Entry};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::merkle::{self, Frontier, Hash, Inclusion};
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, EntryId, ReceiptId};

use super::keeping::{self, Head, Tree};
use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::audit::Check;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{ReadTables, Table};
use crate::membership::network;
use crate::statement::ReceiptRow;
use crate::wallet::Wallet;

/// Where this node's chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The network.
    pub genesis: Genesis,
    /// Number of the newest entry; 0 before the first.
    pub seq: u64,
    /// Its id; the network's before the first.
    pub head: EntryId,
    /// What the node can spend after it.
    pub spendable: Amount,
    /// What it made as an issuer.
    pub made: Amount,
    /// What of that it retired.
    pub retired: Amount,
}

impl Wallet {
    /// Where this node's chain stands.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn chain_position(&self) -> Result<Position, WalletError> {
        let view = self.view()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let head = Head::read(&view)?;
        let id = if head.seq == 0 {
            *genesis.id().as_bytes()
        } else {
            head.id
        };
        Ok(Position {
            genesis,
            seq: head.seq,
            head: EntryId::from_bytes(id),
            spendable: head.spendable,
            made: head.made,
            retired: head.retired,
        })
    }

    /// The entries after number `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn chain_after(&self, after: u64, limit: usize) -> Result<Vec<Signed<Entry>>, WalletError> {
        let view = self.view()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let node = self.node();
        let mut rows = Vec::new();
        for seq in (after.saturating_add(1)..=Head::read(&view)?.seq).take(limit) {
            rows.push(keeping::entry(&view, (&genesis, node), seq)?);
        }
        Ok(rows)
    }
}

impl Wallet {
    /// The newest entry of the chain, with the network's genesis; `None` before the first.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn chain_head(&self) -> Result<(Genesis, Option<Signed<Entry>>), WalletError> {
        let view = self.view()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let seq = Head::read(&view)?.seq;
        let entry = if seq == 0 {
            None
        } else {
            Some(keeping::entry(&view, (&genesis, self.node()), seq)?)
        };
        Ok((genesis, entry))
    }

    /// The certificate over entry `seq` of this node's chain, if there is one. A network's only witness
    /// certifies its own.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn certificate(&self, seq: u64) -> Result<Option<Certificate>, WalletError> {
        let view = self.view()?;
        let node = self.node();
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        if seq == 0 || seq > Head::read(&view)?.seq {
            return Ok(None);
        }
        if genesis.authority() != Some(node) {
            let newest = keeping::certificate(&view)?;
            return Ok(newest.filter(|newest| newest.head.seq == seq));
        }
        let head = chain::Head {
            network: genesis.id(),
            epoch: 0,
            author: node,
            seq,
            entry: keeping::id_of(&view, seq)?,
        };
        Ok(Some(Certificate::alone(head, &self.inner.key)))
    }

    /// Number of the newest entry of this node's chain that is certified; 0 when none is.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn certified_seq(&self) -> Result<u64, WalletError> {
        let view = self.view()?;
        Ok(keeping::certificate(&view)?.map_or(0, |newest| newest.head.seq))
    }

    /// Keeps a certificate over an entry of this node's chain, when it holds and is newer.
    ///
    /// # Errors
    ///
    /// [`WalletError::Certificate`] when it does not hold or is for another chain.
    pub async fn keep_certificate(&self, certificate: Certificate) -> Result<(), WalletError> {
        let node = self.node();
        self.write(move |tables, _| {
            let genesis = network(tables)?.ok_or(WalletError::NoNetwork)?;
            certificate
                .verify(&genesis)
                .map_err(|error| WalletError::Certificate(error.to_string()))?;
            let said = certificate.head;
            let own = said.author == node
                && (1..=Head::read(tables)?.seq).contains(&said.seq)
                && keeping::id_of(tables, said.seq)? == said.entry;
            if !own {
                let why = "it is for another entry than stands on this node's chain";
                return Err(WalletError::Certificate(why.to_owned()));
            }
            let before = keeping::certificate(tables)?.map_or(0, |newest| newest.head.seq);
            if said.seq > before {
                keeping::keep_certificate(tables, &certificate)?;
            }
            Ok(())
        })
        .await
    }

    /// That entry `seq` stands on the chain whose newest entry is given beside it; `None` when there
    /// is no such entry.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn prove_entry(&self, seq: u64) -> Result<Option<Proof>, WalletError> {
        let view = self.view()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let whose = (&genesis, self.node());
        let newest = Head::read(&view)?.seq;
        if seq == 0 || seq > newest {
            return Ok(None);
        }
        let entry = keeping::entry(&view, whose, seq)?;
        let head = keeping::entry(&view, whose, newest)?;
        let before = newest.saturating_sub(1);
        let proof = Inclusion::new(&Tree(&view), seq.saturating_sub(1), before)?;
        let path = proof.map(|proof| proof.path).unwrap_or_default();
        Ok(Some(Proof {
            genesis,
            entry,
            head,
            path,
        }))
    }

    /// Number of the entry with the trade of a receipt, if it stands on this chain.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn entry_of(&self, receipt: &ReceiptId) -> Result<Option<u64>, WalletError> {
        let view = self.view()?;
        let Some(row) = view.row::<ReceiptRow>(Table::Receipts, receipt.as_bytes())? else {
            return Ok(None);
        };
        let newest = Head::read(&view)?.seq;
        // Times never go back, so this halves the numbers; then those of one millisecond are looked at.
        let (mut before, mut from) = (0, newest.saturating_add(1));
        while from.saturating_sub(before) > 1 {
            let middle = before.midpoint(from);
            if keeping::at(&view, middle)? < row.at {
                before = middle;
            } else {
                from = middle;
            }
        }
        for seq in from..=newest {
            if keeping::receipt_of(&view, seq)? == Some(*receipt) {
                return Ok(Some(seq));
            }
            if keeping::at(&view, seq)? > row.at {
                break;
            }
        }
        Ok(None)
    }
}

/// That an entry stands on this node's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The network.
    pub genesis: Genesis,
    /// The entry.
    pub entry: Signed<Entry>,
    /// The newest entry.
    pub head: Signed<Entry>,
    /// The hashes from the entry to the newest one's log root.
    pub path: Vec<Hash>,
}

/// Reads the whole chain as a stranger would, and checks it against the ledger.
pub(crate) fn audit(
    tables: &impl ReadRows,
    node: tirami_manifest::NodeId,
) -> Result<Vec<Check>, WalletError> {
    let check = |rule, holds, detail| Check {
        rule,
        holds,
        detail,
    };
    let owned = owned(tables)?;
    let Some(genesis) = network(tables)? else {
        return Ok(Vec::new());
    };
    let head = Head::read(tables)?;
    let mut chain = Chain::new(genesis.clone(), node);
    let mut log = Frontier::default();
    let mut wrong = None;
    for seq in 1..=head.seq {
        let at = (seq, *chain.head().as_bytes(), log.root());
        let signed = keeping::of(tables, (&genesis, node), at)?;
        match chain.append(&signed) {
            Ok(id) => log.push(merkle::leaf(id.as_bytes()), |_, _, _| ()),
            Err(rejected) => {
                wrong = Some(format!("entry {seq}: {rejected}"));
                break;
            }
        }
    }
    let ends = wrong.is_none() && (head.seq == 0 || head.id == *chain.head().as_bytes());
    let detail = wrong.unwrap_or_else(|| format!("{} entries", head.seq));
    Ok(vec![
        check("the public chain holds", ends, detail),
        check(
            "what the node's accounts hold is what its chain says",
            owned == u128::from(head.spendable.utrm()),
            format!("{owned} and {} micro-TRM", head.spendable.utrm()),
        ),
    ])
}

/// What the accounts hold that belong to the node, open holds included.
fn owned(tables: &impl ReadRows) -> Result<u128, WalletError> {
    let mut sum = 0_u128;
    for (account, row) in tables.accounts()? {
        let own = matches!(
            account,
            Account::Agent(_) | Account::Revenue | Account::Outgoing | Account::Delegated
        );
        if own {
            let t = row.totals;
            sum = sum
                .saturating_add(t.credits_posted)
                .saturating_sub(t.debits_posted);
        }
    }
    Ok(sum)
}
