//! Who is in the networks of these tests, and a hand that writes chains, also wrong ones.

use tirami_manifest::chain::{Certificate, Entry, Head, Step, Trade, after};
use tirami_manifest::chain_file::{ChainEnd, ChainHeader, ChainLine};
use tirami_manifest::commerce::{Agreement, Consent, Quote, Receipt, Voucher};
use tirami_manifest::genesis::{Genesis, LoanGrant};
use tirami_manifest::id::to_hex;
use tirami_manifest::job::Finish;
use tirami_manifest::key::SecretKey;
use tirami_manifest::merkle::{self, Frontier};
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::{Amount, InvitationId, ModelId, Multiplier, NodeId, Timestamp, TransferId};

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

pub(crate) fn id(n: u8) -> NodeId {
    key(n).id()
}

pub(crate) fn trm(n: u64) -> Amount {
    Amount::from_trm(n)
}

/// Milliseconds after the network was founded.
pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_700_000_000_000 + ms)
}

/// A network of which node 1 is issuer and only witness.
pub(crate) fn private() -> Genesis {
    Genesis::private("golden", id(1), at(0), [0x55; 16])
}

/// One with four witnesses, and two issuers of which node 1 has a small quota.
pub(crate) fn shared() -> Genesis {
    Genesis {
        name: "shared".to_owned(),
        issuers: vec![
            (id(1), trm(1_500)),
            (id(4), Amount::MAX.saturating_sub(trm(1_500))),
        ],
        witnesses: vec![id(1), id(5), id(6), id(7)],
        ..private()
    }
}

/// A model of which one token of prompt costs one TRM.
const CARD: ModelCard = ModelCard {
    id: ModelId::from_bytes([0x11; 32]),
    block_weights: 500_000_000,
    head_weights: 0,
    attention_flop: 0,
    window: 0,
    context: 100_000,
};

/// The receipt of a trade of so many TRM, in which `provider` sells to `consumer`.
pub(crate) fn receipt(
    genesis: &Genesis,
    (provider, consumer): (u8, u8),
    amount: u32,
    nonce: u8,
) -> Receipt {
    let quote = Quote {
        network: genesis.id(),
        provider: id(provider),
        consumer: id(consumer),
        card: CARD,
        multiplier: Multiplier::PAR,
        max_in: amount,
        max_out: 0,
        max_amount: trm(amount.into()),
        chunk_tokens: 8,
        window: 0,
        issued: at(1_000),
        expires: at(31_000),
        nonce: [nonce; 16],
    };
    let usage = Usage {
        tokens_in: amount,
        ..Usage::default()
    };
    let agreement = Agreement {
        network: genesis.id(),
        provider: id(provider),
        consumer: id(consumer),
        nonce: [nonce; 16],
        quote: quote.id(),
        hold: TransferId::from_bytes([nonce; 16]),
        model: CARD.id,
        usage,
        kflop: CARD.kflop(usage).unwrap(),
        multiplier: Multiplier::PAR,
        earlier: Amount::ZERO,
        amount: trm(amount.into()),
        transcript: [0x88; 32],
        seed: 7,
        temperature_milli: 0,
        top_k: 0,
        lane: 0,
        voucher_seq: 0,
        audit_ok: false,
        engine_fingerprint: [0x99; 8],
        started_hlc: at(1_500).ms() << 16,
        ended_hlc: at(2_000).ms() << 16,
        finish: Finish::Stop,
    };
    Receipt {
        quote: Signed::new(quote, &key(provider)),
        provider_signature: agreement.sign(&key(provider)),
        consent: Consent::Signature(agreement.sign(&key(consumer))),
        agreement,
    }
}

/// What `provider` claims by the voucher of `consumer`, the second of its job, where it signed no receipt.
pub(crate) fn claim(
    genesis: &Genesis,
    (provider, consumer): (u8, u8),
    amount: u32,
    nonce: u8,
) -> Receipt {
    let Receipt {
        quote, agreement, ..
    } = receipt(genesis, (provider, consumer), amount, nonce);
    let agreement = Agreement {
        voucher_seq: 2,
        finish: Finish::Cancelled,
        ..agreement
    };
    let voucher = Voucher {
        network: agreement.network,
        hold: agreement.hold,
        lane: agreement.lane,
        payee: agreement.provider,
        seq: agreement.voucher_seq,
        total: agreement.amount,
        tokens_out: agreement.usage.tokens_out,
        transcript: agreement.transcript,
    };
    Receipt {
        quote,
        provider_signature: agreement.sign(&key(provider)),
        consent: Consent::Voucher(Signed::new(voucher, &key(consumer))),
        agreement,
    }
}

/// A trade as entries have it; paid by its consumer.
pub(crate) fn trade(genesis: &Genesis, parties: (u8, u8), amount: u32, nonce: u8) -> Step {
    of(&receipt(genesis, parties, amount, nonce))
}

/// A receipt's trade.
pub(crate) fn of(receipt: &Receipt) -> Step {
    Step::Trade(Box::new(Trade {
        payer: receipt.agreement.consumer,
        agreement: receipt.agreement.clone(),
        provider_signature: receipt.provider_signature,
        consent: receipt.consent.clone(),
    }))
}

/// A welcome loan of node `issuer` to node `borrower`.
pub(crate) fn grant(
    genesis: &Genesis,
    (issuer, borrower): (u8, u8),
    n: u8,
) -> Box<Signed<LoanGrant>> {
    let grant = LoanGrant {
        network: genesis.id(),
        issuer: id(issuer),
        borrower: id(borrower),
        invitation: InvitationId::from_bytes([n; 16]),
        principal: genesis.welcome_loan,
        granted: at(100),
        due: at(100).after_ms(genesis.welcome_term_ms),
    };
    Box::new(Signed::new(grant, &key(issuer)))
}

/// Writes a chain as its author would, and entries as no author should.
#[derive(Clone)]
pub(crate) struct Pen {
    pub(crate) genesis: Genesis,
    pub(crate) key: SecretKey,
    pub(crate) entries: Vec<Signed<Entry>>,
    log: Frontier,
}

impl Pen {
    /// A chain that has begun.
    pub(crate) fn new(genesis: &Genesis, n: u8) -> Self {
        Self::begun(genesis, n, [0; 32])
    }

    /// A chain that names who may succeed its key.
    pub(crate) fn begun(genesis: &Genesis, n: u8, successor: [u8; 32]) -> Self {
        let mut pen = Self {
            genesis: genesis.clone(),
            key: key(n),
            entries: Vec::new(),
            log: Frontier::default(),
        };
        pen.write(Step::Genesis {
            successor,
            predecessor: None,
        });
        pen
    }

    /// The next entry as it should be.
    pub(crate) fn next(&self, step: Step) -> Entry {
        let last = self.entries.last().map(|signed| &signed.body);
        let mut entry = Entry {
            network: self.genesis.id(),
            author: self.key.id(),
            seq: last.map_or(0, |last| last.seq) + 1,
            prev: last.map_or(*self.genesis.id().as_bytes(), |last| *last.id().as_bytes()),
            hlc: after(
                last.map_or(0, |last| last.hlc),
                at(1_000 * self.entries.len() as u64),
            ),
            spendable: last.map_or(Amount::ZERO, |last| last.spendable),
            held: Amount::ZERO,
            staked: Amount::ZERO,
            log_root: self.log.root(),
            waits: false,
            step,
        };
        self.balance(&mut entry);
        entry
    }

    /// Makes an entry say what follows from its step, as far as that can be.
    pub(crate) fn balance(&self, entry: &mut Entry) {
        let before = self
            .entries
            .last()
            .map_or(Amount::ZERO, |last| last.body.spendable);
        let (gained, lost) = entry.moves();
        let sum = before.checked_add(gained).unwrap();
        entry.spendable = sum.saturating_sub(lost);
    }

    /// Writes the next entry.
    pub(crate) fn write(&mut self, step: Step) -> &mut Self {
        let entry = self.next(step);
        self.put(entry)
    }

    /// Writes the next entry, of what waits.
    pub(crate) fn write_waiting(&mut self, step: Step) -> &mut Self {
        let mut entry = self.next(step);
        entry.waits = true;
        self.balance(&mut entry);
        self.put(entry)
    }

    /// Writes an entry as it is.
    pub(crate) fn put(&mut self, entry: Entry) -> &mut Self {
        self.log
            .push(merkle::leaf(entry.id().as_bytes()), |_, _, _| ());
        self.entries.push(Signed::new(entry, &self.key));
        self
    }

    pub(crate) fn last(&self) -> &Signed<Entry> {
        self.entries.last().unwrap()
    }

    /// What witnesses sign of the newest entry.
    pub(crate) fn head(&self) -> Head {
        let last = &self.last().body;
        Head {
            network: self.genesis.id(),
            epoch: 0,
            author: last.author,
            seq: last.seq,
            entry: last.id(),
        }
    }

    /// A certificate by these witnesses.
    pub(crate) fn certificate(&self, witnesses: &[u8]) -> Certificate {
        let head = self.head();
        let mut votes: Vec<_> = witnesses
            .iter()
            .map(|n| (id(*n), head.sign(&key(*n))))
            .collect();
        votes.sort_by_key(|(witness, _)| *witness);
        Certificate { head, votes }
    }

    /// The file of the chain.
    pub(crate) fn file(&self, certificate: Option<&Certificate>) -> String {
        let mut lines =
            vec![serde_json::to_string(&ChainHeader::new(&self.genesis, self.key.id())).unwrap()];
        for entry in &self.entries {
            lines.push(serde_json::to_string(&ChainLine::new(entry)).unwrap());
        }
        let end = ChainEnd {
            entries: self.last().body.seq,
            head: self.last().body.id(),
            certificate: certificate.map(|certificate| to_hex(&certificate.to_bytes())),
        };
        lines.push(serde_json::to_string(&end).unwrap());
        lines.join("\n") + "\n"
    }
}
