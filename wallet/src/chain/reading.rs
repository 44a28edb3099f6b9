//! Reading the chain, and what it says of the ledger.

use tirami_manifest::anchor::Heads;
use tirami_manifest::chain::{self, Certificate, Chain, Entry};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::merkle::{self, Frontier, Hash, Inclusion};
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, EntryId, NodeId, ReceiptId, Timestamp};

use super::keeping::{self, Head, Part};
use crate::error::WalletError;
use crate::ledger::account::Account;
use crate::ledger::audit::Check;
use crate::ledger::rows::ReadRows;
use crate::ledger::tables::{ReadTables, Table};
use crate::membership::network;
use crate::statement::ReceiptRow;
use crate::wallet::Wallet;
use crate::witness::certified_heads;

/// The newest entries of the chains that are known here, all read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHeads {
    /// The network.
    pub genesis: Genesis,
    /// This node's, once its chain has begun, and those of members that this node certified.
    pub heads: Heads,
    /// The newest entry of this node's chain, which is among them.
    pub own: Option<Signed<Entry>>,
    /// When this was.
    pub at: Timestamp,
}

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
        let present = keeping::present(&view, self.node())?;
        entries(&view, &genesis, present, (after, limit))
    }

    /// The chains of this node that ended when its key was changed, the oldest first.
    ///
    /// # Errors
    ///
    /// A store failure.
    pub fn chains_before(&self) -> Result<Vec<Ended>, WalletError> {
        let view = self.view()?;
        let mut ended = Vec::new();
        for part in keeping::before(&view)? {
            let newest = keeping::certificate(&view, &part.author)?;
            ended.push(Ended {
                author: part.author,
                entries: part.seq,
                head: EntryId::from_bytes(part.id),
                certificate: newest.filter(|newest| newest.head.seq == part.seq),
                part,
            });
        }
        Ok(ended)
    }

    /// The entries after number `after` of a chain that ended, oldest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn ended_after(
        &self,
        ended: &Ended,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Signed<Entry>>, WalletError> {
        let view = self.view()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        entries(&view, &genesis, ended.part, (after, limit))
    }

    /// What the witness has not certified, oldest first, at most `limit` entries. What it has certified of
    /// the present chain, it has certified of all before.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn uncertified(&self, limit: usize) -> Result<Vec<Signed<Entry>>, WalletError> {
        let certified = self.certified_seq()?;
        let mut shown = Vec::new();
        if certified == 0 {
            let view = self.view()?;
            let mut open = Vec::new();
            for ended in self.chains_before()?.into_iter().rev() {
                let newest = keeping::certificate(&view, &ended.author)?;
                let seq = newest.map_or(0, |newest| newest.head.seq);
                open.push((ended, seq));
                if seq > 0 {
                    break;
                }
            }
            for (ended, seq) in open.into_iter().rev() {
                // Its last entry is shown again, so that what follows it is read as what goes on.
                let after = seq.min(ended.entries.saturating_sub(1));
                let left = limit.saturating_sub(shown.len());
                shown.extend(self.ended_after(&ended, after, left)?);
            }
        }
        let left = limit.saturating_sub(shown.len());
        shown.extend(self.chain_after(certified, left)?);
        Ok(shown)
    }
}

/// A chain of this node that ended when its key was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The key.
    pub author: NodeId,
    /// How many entries it has.
    pub entries: u64,
    /// Id of the last.
    pub head: EntryId,
    /// The certificate over the last, where it was kept.
    pub certificate: Option<Certificate>,
    part: Part,
}

fn entries(
    view: &impl ReadTables,
    genesis: &Genesis,
    part: Part,
    (after, limit): (u64, usize),
) -> Result<Vec<Signed<Entry>>, WalletError> {
    let mut rows = Vec::new();
    for seq in (after.saturating_add(1)..=part.seq).take(limit) {
        rows.push(keeping::entry(view, genesis, part, seq)?);
    }
    Ok(rows)
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
        let entry = newest(&view, &genesis, self.node())?;
        Ok((genesis, entry))
    }

    /// The newest entries of the chains that are known here: this node's, and those it certified.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn known_heads(&self) -> Result<KnownHeads, WalletError> {
        let (view, at) = self.view_now()?;
        let genesis = network(&view)?.ok_or(WalletError::NoNetwork)?;
        let own = newest(&view, &genesis, self.node())?;
        let heads = certified_heads(&view)?.into_iter();
        let mut heads: Vec<_> = heads
            .map(|head| (head.node, head.seq, head.entry))
            .collect();
        if let Some(own) = &own {
            heads.push((own.body.author, own.body.seq, own.body.id()));
        }
        Ok(KnownHeads {
            genesis,
            heads: Heads::new(heads),
            own,
            at,
        })
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
        let present = keeping::present(&view, node)?;
        if seq == 0 || seq > present.seq {
            return Ok(None);
        }
        if genesis.authority() != Some(node) {
            let newest = keeping::certificate(&view, &node)?;
            return Ok(newest.filter(|newest| newest.head.seq == seq));
        }
        let head = chain::Head {
            network: genesis.id(),
            epoch: 0,
            author: node,
            seq,
            entry: keeping::id_of(&view, present, seq)?,
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
        let newest = keeping::certificate(&view, &self.node())?;
        Ok(newest.map_or(0, |newest| newest.head.seq))
    }

    /// Keeps a certificate over an entry of this node's chain, or of one before it, when it holds and is
    /// newer.
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
            let mut parts = keeping::parts(tables, node)?.into_iter();
            let own = match parts.find(|part| part.author == said.author) {
                Some(part) if (1..=part.seq).contains(&said.seq) => {
                    keeping::id_of(tables, part, said.seq)? == said.entry
                }
                _ => false,
            };
            if !own {
                let why = "it is for another entry than stands on this node's chain";
                return Err(WalletError::Certificate(why.to_owned()));
            }
            let before = keeping::certificate(tables, &said.author)?;
            let before = before.map_or(0, |newest| newest.head.seq);
            if said.seq > before {
                keeping::keep_certificate(tables, &certificate)?;
            }
            Ok(())
        })
        .await
    }

    /// That the trade of a receipt stands on this node's chain, or on one before it, whose newest entry is
    /// given beside it; `None` when there is no such trade.
    ///
    /// # Errors
    ///
    /// [`WalletError::NoNetwork`] or a store failure.
    pub fn prove_trade(&self, receipt: &ReceiptId) -> Result<Option<Proof>, WalletError> {
        let view = self.view()?;
        for part in keeping::parts(&view, self.node())?.into_iter().rev() {
            if let Some(seq) = entry_of(&view, part, receipt)? {
                return self.prove(&view, part, seq).map(Some);
            }
        }
        Ok(None)
    }

    fn prove(&self, view: &impl ReadTables, part: Part, seq: u64) -> Result<Proof, WalletError> {
        let genesis = network(view)?.ok_or(WalletError::NoNetwork)?;
        let entry = keeping::entry(view, &genesis, part, seq)?;
        let head = keeping::entry(view, &genesis, part, part.seq)?;
        let before = part.seq.saturating_sub(1);
        let proof = Inclusion::new(&keeping::tree(view, part), seq.saturating_sub(1), before)?;
        let path = proof.map(|proof| proof.path).unwrap_or_default();
        let certificate = if part.author == self.node() {
            self.certificate(part.seq)?
        } else {
            keeping::certificate(view, &part.author)?.filter(|newest| newest.head.seq == part.seq)
        };
        Ok(Proof {
            genesis,
            entry,
            head,
            certificate,
            path,
        })
    }
}

/// The newest entry of a node's own chain; `None` before the first.
fn newest(
    view: &impl ReadTables,
    genesis: &Genesis,
    node: NodeId,
) -> Result<Option<Signed<Entry>>, WalletError> {
    let present = keeping::present(view, node)?;
    if present.seq == 0 {
        return Ok(None);
    }
    Ok(Some(keeping::entry(view, genesis, present, present.seq)?))
}

/// Number of the entry with the trade of a receipt, if it stands on a chain.
fn entry_of(
    view: &impl ReadTables,
    part: Part,
    receipt: &ReceiptId,
) -> Result<Option<u64>, WalletError> {
    let Some(row) = view.row::<ReceiptRow>(Table::Receipts, receipt.as_bytes())? else {
        return Ok(None);
    };
    // Times never go back, so this halves the numbers; then those of one millisecond are looked at.
    let (mut before, mut from) = (0, part.seq.saturating_add(1));
    while from.saturating_sub(before) > 1 {
        let middle = before.midpoint(from);
        if keeping::at(view, part, middle)? < row.at {
            before = middle;
        } else {
            from = middle;
        }
    }
    for seq in from..=part.seq {
        if keeping::receipt_of(view, part, seq)? == Some(*receipt) {
            return Ok(Some(seq));
        }
        if keeping::at(view, part, seq)? > row.at {
            break;
        }
    }
    Ok(None)
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
    /// The certificate over it, when there is one.
    pub certificate: Option<Certificate>,
    /// The hashes from the entry to the newest one's log root.
    pub path: Vec<Hash>,
}

/// Every key that this node had, the present one last.
pub(crate) fn own_keys(tables: &impl ReadTables, node: NodeId) -> Result<Vec<NodeId>, WalletError> {
    let parts = keeping::parts(tables, node)?.into_iter();
    Ok(parts.map(|part| part.author).collect())
}

/// Reads the whole chain as a stranger would, and checks it against the ledger.
pub(crate) fn audit(tables: &impl ReadRows, node: NodeId) -> Result<Vec<Check>, WalletError> {
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
    let mut wrong = None;
    let mut read: Option<Chain> = None;
    let mut count = 0_u64;
    for part in keeping::parts(tables, node)? {
        let goes_on = match &read {
            None => Some(Chain::new(genesis.clone(), part.author)),
            Some(before) => before.goes_on().filter(|next| next.author() == part.author),
        };
        let Some(mut chain) = goes_on else {
            wrong = Some(format!("no succession to {}", part.author.short()));
            break;
        };
        wrong = read_part(tables, &genesis, part, &mut chain)?;
        count = count.saturating_add(part.seq);
        read = Some(chain);
        if wrong.is_some() {
            break;
        }
    }
    let ends = wrong.is_none();
    let detail = wrong.unwrap_or_else(|| format!("{count} entries"));
    Ok(vec![
        check("the public chain holds", ends, detail),
        check(
            "what the node's accounts hold is what its chain says",
            owned == u128::from(head.spendable.utrm()),
            format!("{owned} and {} micro-TRM", head.spendable.utrm()),
        ),
    ])
}

/// Reads one of the node's chains; says what does not hold.
fn read_part(
    tables: &impl ReadRows,
    genesis: &Genesis,
    part: Part,
    chain: &mut Chain,
) -> Result<Option<String>, WalletError> {
    let mut log = Frontier::default();
    for seq in 1..=part.seq {
        let at = (seq, *chain.head().as_bytes(), log.root());
        let signed = keeping::of(tables, (genesis, part), at)?;
        match chain.append(&signed) {
            Ok(id) => log.push(merkle::leaf(id.as_bytes()), |_, _, _| ()),
            Err(rejected) => return Ok(Some(format!("entry {seq}: {rejected}"))),
        }
    }
    let ends = part.seq == 0 || part.id == *chain.head().as_bytes();
    Ok((!ends).then(|| "it ends with another entry".to_owned()))
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
