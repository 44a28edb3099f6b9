//! Documents with any content: each is read back as it was, no byte of it can be changed, and none passes
//! for another one.

use proptest::prelude::*;
use tirami_manifest::bytes::DecodeError;
use tirami_manifest::chain::{
    Certificate, Chain, ENTRY_MAX, Entry, FraudKind, FraudProof, Head, Predecessor, Repaid, Step,
    Trade,
};
use tirami_manifest::commerce::{Agreement, Consent, Quote, Voucher};
use tirami_manifest::genesis::{Genesis, Invitation, LoanGrant};
use tirami_manifest::job::Finish;
use tirami_manifest::key::Keyring;
use tirami_manifest::loan::Repayment;
use tirami_manifest::mandate::{Limits, Pot, Terms};
use tirami_manifest::mandate_chain::{Action, Actions, Allowed, Grant, RangeReturn, Spend};
use tirami_manifest::merkle::Hash;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::range::Range;
use tirami_manifest::signed::{Document, SIGNATURE_TAG, Signed, hash};
use tirami_manifest::statement::Statement;
use tirami_manifest::tree_head::TreeHead;
use tirami_manifest::{
    AgentId, Amount, ApprovalId, EntryId, GrantId, InvitationId, ModelId, Multiplier, NetworkId,
    NodeId, QuoteId, ReceiptId, Timestamp, TransferId,
};

use crate::signatures::{Kind, kind};
use crate::world::{id, key, private, shared};

/// How many kinds of steps there are.
const STEPS: u64 = 11;

/// Every domain, by the name of what is signed under it.
const DOMAINS: [(&str, &[u8]); 17] = [
    ("agreement", b"trm/v1/agreement\0"),
    ("voucher", b"trm/v1/voucher\0"),
    ("loan grant", b"trm/v1/loan-grant\0"),
    ("invitation", b"trm/v1/invitation\0"),
    ("repayment", b"trm/v1/repayment\0"),
    ("range return", b"trm/v1/range-return\0"),
    ("head", b"trm/v1/cert\0"),
    ("entry", b"trm/v1/entry\0"),
    ("quote", b"trm/v1/quote\0"),
    ("grant", b"trm/v1/grant\0"),
    ("spend", b"trm/v1/range-spend\0"),
    ("owner order", b"trm/v1/owner-order\0"),
    ("tree head", b"trm/v1/sth\0"),
    ("statement", b"trm/v1/statement\0"),
    ("genesis", b"trm/v1/genesis\0"),
    ("fraud", b"trm/v1/fraud\0"),
    ("nothing", b""),
];

/// Whatever follows from a number: `SplitMix64`.
struct Any(u64);

impl Any {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Small ones, large ones, and those at the ends.
    fn int(&mut self) -> u64 {
        match self.u64() % 4 {
            0 => 0,
            1 => u64::MAX,
            _ => self.u64() >> (self.u64() % 64),
        }
    }

    fn u32(&mut self) -> u32 {
        u32::try_from(self.int() >> 32).unwrap()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.fill_with(|| self.u64().to_le_bytes()[0]);
        bytes
    }

    fn amount(&mut self) -> Amount {
        Amount::from_utrm(self.int()).unwrap_or(Amount::MAX)
    }

    fn node(&mut self) -> NodeId {
        NodeId::from_bytes(self.bytes())
    }

    fn network(&mut self) -> NetworkId {
        NetworkId::from_bytes(self.bytes())
    }

    fn time(&mut self) -> Timestamp {
        Timestamp::from_ms(self.int())
    }

    fn signature(&mut self) -> tirami_manifest::key::Signature {
        tirami_manifest::key::Signature::from_bytes(self.bytes())
    }

    fn agreement(&mut self) -> Agreement {
        let finishes = [Finish::Stop, Finish::Length, Finish::Cancelled];
        Agreement {
            network: self.network(),
            provider: self.node(),
            consumer: self.node(),
            nonce: self.bytes(),
            quote: QuoteId::from_bytes(self.bytes()),
            hold: TransferId::from_bytes(self.bytes()),
            model: ModelId::from_bytes(self.bytes()),
            usage: Usage {
                tokens_in: self.u32(),
                tokens_cached: self.u32(),
                tokens_out: self.u32(),
            },
            kflop: self.int(),
            multiplier: Multiplier::from_ppm(self.u32()),
            earlier: self.amount(),
            amount: self.amount(),
            transcript: self.bytes(),
            seed: self.int(),
            temperature_milli: self.u32(),
            top_k: self.u32(),
            lane: self.u32(),
            voucher_seq: self.u32(),
            audit_ok: self.u64().is_multiple_of(2),
            engine_fingerprint: self.bytes(),
            started_hlc: self.int(),
            ended_hlc: self.int(),
            finish: finishes[usize::try_from(self.u64() % 3).unwrap()],
        }
    }

    fn grant(&mut self) -> LoanGrant {
        LoanGrant {
            network: self.network(),
            issuer: self.node(),
            borrower: self.node(),
            invitation: InvitationId::from_bytes(self.bytes()),
            principal: self.amount(),
            granted: self.time(),
            due: self.time(),
        }
    }

    fn voucher(&mut self) -> Voucher {
        Voucher {
            network: self.network(),
            hold: TransferId::from_bytes(self.bytes()),
            lane: self.u32(),
            payee: self.node(),
            seq: self.u32().max(1),
            total: self.amount(),
            tokens_out: self.u32(),
            transcript: self.bytes(),
        }
    }

    fn repaid(&mut self) -> Repaid {
        Repaid {
            other: self.node(),
            invitation: InvitationId::from_bytes(self.bytes()),
            amount: self.amount(),
            receipt: self.bytes(),
        }
    }

    fn lent(&mut self) -> Box<Signed<LoanGrant>> {
        Box::new(Signed {
            body: self.grant(),
            signature: self.signature(),
        })
    }

    /// A step of each kind, and a genesis with and without a chain before.
    fn step(&mut self, kind: u64) -> Step {
        match kind {
            0 | 1 => Step::Genesis {
                successor: self.bytes(),
                predecessor: (kind == 1).then(|| Predecessor {
                    author: self.node(),
                    seq: self.int(),
                    entry: EntryId::from_bytes(self.bytes()),
                }),
            },
            2 => Step::Checkpoint {
                state: self.bytes(),
            },
            3 => Step::Succession {
                successor: self.node(),
            },
            4 | 10 => Step::Trade(Box::new(Trade {
                payer: self.node(),
                agreement: self.agreement(),
                provider_signature: self.signature(),
                consent: if kind == 4 {
                    Consent::Signature(self.signature())
                } else {
                    Consent::Voucher(Signed {
                        body: self.voucher(),
                        signature: self.signature(),
                    })
                },
            })),
            5 => Step::Receive {
                payer: self.node(),
                receipt: ReceiptId::from_bytes(self.bytes()),
                amount: self.amount(),
                debit: EntryId::from_bytes(self.bytes()),
            },
            6 => Step::Repay(self.repaid()),
            7 => Step::Mint(self.lent()),
            8 => Step::Borrow(self.lent()),
            _ => Step::Retire(self.repaid()),
        }
    }

    fn entry(&mut self, kind: u64, author: NodeId) -> Entry {
        Entry {
            network: self.network(),
            author,
            seq: self.int(),
            prev: self.bytes(),
            hlc: self.int(),
            spendable: self.amount(),
            held: self.amount(),
            staked: self.amount(),
            log_root: Hash(self.bytes()),
            waits: self.u64().is_multiple_of(2),
            step: self.step(kind),
        }
    }

    fn head(&mut self) -> Head {
        Head {
            network: self.network(),
            epoch: self.int(),
            author: self.node(),
            seq: self.int(),
            entry: EntryId::from_bytes(self.bytes()),
        }
    }

    fn quote(&mut self) -> Quote {
        Quote {
            network: self.network(),
            provider: self.node(),
            consumer: self.node(),
            card: ModelCard {
                id: ModelId::from_bytes(self.bytes()),
                block_weights: self.int(),
                head_weights: self.int(),
                attention_flop: self.int(),
                window: self.u32(),
                context: self.u32(),
            },
            multiplier: Multiplier::from_ppm(self.u32()),
            max_in: self.u32(),
            max_out: self.u32(),
            max_amount: self.amount(),
            chunk_tokens: u16::from_le_bytes(self.bytes()),
            window: u16::from_le_bytes(self.bytes()),
            issued: self.time(),
            expires: self.time(),
            nonce: self.bytes(),
        }
    }

    fn range(&mut self) -> Range {
        Range::new(self.u64() % 100, 100 + self.u64() % 100).unwrap()
    }

    fn mandate(&mut self) -> Grant {
        Grant {
            network: self.network(),
            root: self.node(),
            parent: GrantId::from_bytes(self.bytes()),
            serial: self.int(),
            range: self.range(),
            holder: self.node(),
            pinned: self.u64().is_multiple_of(2).then(|| self.node()),
            per_request: self.amount(),
            ceiling: self
                .u64()
                .is_multiple_of(2)
                .then(|| Multiplier::from_ppm(self.u32())),
            actions: Actions::CHAT,
            models: Allowed::only([ModelId::from_bytes(self.bytes())]).unwrap(),
            payees: Allowed::ANY,
            expires: self.time(),
            epoch: self.int(),
            depth_left: self.bytes::<1>()[0],
        }
    }

    fn spend(&mut self) -> Spend {
        Spend {
            network: self.network(),
            chain: GrantId::from_bytes(self.bytes()),
            range: self.range(),
            payee: self.node(),
            action: Action::Chat,
            model: ModelId::from_bytes(self.bytes()),
            request: self.bytes(),
            nonce: self.bytes(),
            expires: self.time(),
        }
    }

    fn decision(&mut self) -> Decision {
        let agent = AgentId::from_bytes(self.bytes());
        let (agent_name, token_hash) = ("agent".to_owned(), self.bytes());
        let terms = Box::new(Terms::of(Limits::DEFAULT));
        match self.u64() % 7 {
            0 => Decision::SetTerms { agent, terms },
            1 => Decision::Unfreeze,
            2 => Decision::CreateToken {
                agent_name,
                token_hash,
            },
            3 => Decision::RevokeToken { token_hash },
            4 => Decision::Grant {
                agent_name,
                parent: Some(agent),
                terms,
            },
            5 => Decision::Approve {
                approval: ApprovalId::from_bytes(self.bytes()),
                amount: self.amount(),
            },
            _ => Decision::Fund {
                from: agent,
                from_pot: Pot::Seed,
                to: AgentId::from_bytes(self.bytes()),
                to_pot: Pot::Earned,
                amount: self.amount(),
            },
        }
    }

    fn tree_head(&mut self) -> TreeHead {
        TreeHead {
            network: self.network(),
            node: self.node(),
            size: self.int(),
            hash: Hash(self.bytes()),
            root: Hash(self.bytes()),
            at: self.time(),
        }
    }

    fn statement(&mut self) -> Statement {
        Statement {
            network: self.network(),
            node: self.node(),
            agent: "main".to_owned(),
            from: self.time(),
            to: self.time(),
            opening: self.amount(),
            closing: self.amount(),
            count: self.u32(),
            lines: Hash(self.bytes()),
            size: self.int(),
            root: Hash(self.bytes()),
            at: self.time(),
        }
    }

    /// A document of each kind whose body has the network after its version, signed by node 1; an owner's
    /// order has its node there.
    fn documents(&mut self) -> Vec<Kind> {
        let signer = key(1);
        let invitation = Invitation {
            network: self.network(),
            issuer: self.node(),
            id: InvitationId::from_bytes(self.bytes()),
        };
        let repayment = Repayment {
            network: self.network(),
            lender: self.node(),
            borrower: self.node(),
            invitation: InvitationId::from_bytes(self.bytes()),
            total: Amount::from_trm(self.u64() % 1_000 + 1),
        };
        let range = RangeReturn {
            network: self.network(),
            root: self.node(),
            grant: GrantId::from_bytes(self.bytes()),
            range: self.range(),
            tracker: self.node(),
        };
        let order = OwnerOrder {
            node: self.node(),
            number: self.int(),
            decision: self.decision(),
        };
        vec![
            kind("quote", self.quote(), &signer),
            kind("grant", self.mandate(), &signer),
            kind("spend", self.spend(), &signer),
            kind("owner order", order, &signer),
            kind("tree head", self.tree_head(), &signer),
            kind("statement", self.statement(), &signer),
            kind("agreement", self.agreement(), &signer),
            kind("voucher", self.voucher(), &signer),
            kind("loan grant", self.grant(), &signer),
            kind("invitation", invitation, &signer),
            kind("repayment", repayment, &signer),
            kind("range return", range, &signer),
            kind("head", self.head(), &signer),
        ]
    }
}

fn is_by_nobody_once_changed(signed: &Signed<Entry>, any: &mut Any, ring: &Keyring) {
    let (author, bytes) = (signed.body.author, signed.to_bytes());
    assert!(ring.is_signed(&author, signed));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= any.bytes::<1>()[0].max(1);
        let Ok(read) = Signed::<Entry>::from_bytes(&changed) else {
            continue;
        };
        assert_eq!(
            read.to_bytes(),
            changed,
            "two layouts of one entry: byte {at}"
        );
        assert!(!ring.is_signed(&author, &read), "byte {at} was changed");
    }
}

fn votes(head: Head, genesis: &Genesis) -> Certificate {
    let mut votes: Vec<_> = [1, 5, 6, 7].map(|n| (id(n), head.sign(&key(n)))).to_vec();
    votes.retain(|(witness, _)| genesis.witnesses.contains(witness));
    votes.sort_by_key(|(witness, _)| *witness);
    Certificate { head, votes }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_of_any_type_is_read_back_and_no_byte_of_it_can_be_changed(seed in any::<u64>()) {
        let (mut any, ring) = (Any(seed), Keyring::default());
        for kind in 0..STEPS {
            let signed = Signed::new(any.entry(kind, id(1)), &key(1));
            let bytes = signed.to_bytes();
            prop_assert!(bytes.len() <= ENTRY_MAX);
            prop_assert_eq!(Signed::<Entry>::from_bytes(&bytes), Ok(signed.clone()));
            for end in [0, 1, 176, bytes.len() - 65, bytes.len() - 1] {
                prop_assert!(Signed::<Entry>::from_bytes(&bytes[..end]).is_err());
            }
            is_by_nobody_once_changed(&signed, &mut any, &ring);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// No byte of anything that is signed can be changed, none can be cut off, and none added.
    #[test]
    fn no_byte_of_any_signed_document_can_be_changed(seed in any::<u64>()) {
        let (mut any, signer) = (Any(seed), key(1));
        for (name, bytes, is) in any.documents() {
            prop_assert!(is(&bytes, &signer), "{}", name);
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= any.bytes::<1>()[0].max(1);
                prop_assert!(!is(&changed, &signer), "{}: byte {} was changed", name, at);
                prop_assert!(!is(&bytes[..at], &signer), "{}: cut at {}", name, at);
            }
            prop_assert!(!is(&[bytes.as_slice(), &[0]].concat(), &signer), "{} and more", name);
        }
    }

    /// A signature holds for one document, in one network: not under the body of another kind, nor of the same
    /// with another network's id, nor the other way round.
    #[test]
    fn whatever_is_signed_passes_for_nothing_else(seed in any::<u64>()) {
        let (mut any, signer) = (Any(seed), key(1));
        let mut all: Vec<(Kind, usize)> = any.documents().into_iter().map(|one| (one, 1)).collect();
        for step in 0..STEPS {
            let entry = any.entry(step, id(1));
            // An entry has type and flags between version and network.
            all.push((kind("entry", entry, &signer), 5));
        }
        for ((name, bytes, is), network) in &all {
            prop_assert!(is(bytes, &signer), "{}", name);
            let (body, signature) = bytes.split_at(bytes.len() - 64);
            let mut elsewhere = body.to_vec();
            elsewhere[*network..network + 32].copy_from_slice(private().id().as_bytes());
            prop_assert!(!is(&[&elsewhere, signature].concat(), &signer), "{} elsewhere", name);
            // Nor is what was signed under another domain, none, or without the tag of signatures.
            for (of, domain) in DOMAINS {
                let digest = hash(domain, &[body]);
                let tagged = signer.sign(&[SIGNATURE_TAG, &digest].concat());
                let says = [body, tagged.as_bytes()].concat();
                prop_assert_eq!(is(&says, &signer), of == *name, "{} as {}", of, name);
                let bare = [body, signer.sign(&digest).as_bytes()].concat();
                prop_assert!(!is(&bare, &signer), "{} without the tag", name);
            }
            for ((other, others, is_other), _) in &all {
                if bytes == others {
                    continue;
                }
                prop_assert!(name == other || !is_other(bytes, &signer), "{} as {}", name, other);
                let mixed = [body, &others[others.len() - 64..]].concat();
                prop_assert!(!is(&mixed, &signer), "{} by {}", name, other);
            }
        }
    }

    /// Certificates and proofs of fraud: of their network, about what was signed.
    #[test]
    fn certificates_and_proofs_hold_in_their_network_alone(seed in any::<u64>()) {
        let mut any = Any(seed);
        let (here, there) = (shared(), Genesis { nonce: any.bytes(), ..shared() });
        let head = Head { network: here.id(), epoch: 0, ..any.head() };
        let certificate = votes(head, &here);
        prop_assert_eq!(certificate.verify(&here), Ok(()));
        prop_assert_eq!(Certificate::from_bytes(&certificate.to_bytes()), Ok(certificate.clone()));
        prop_assert!(certificate.verify(&there).is_err() && certificate.verify(&private()).is_err());
        // The same votes over the same entry, said to be of the other network.
        let mut moved = certificate;
        moved.head.network = there.id();
        prop_assert!(moved.verify(&there).is_err() && moved.verify(&here).is_err());
        let step = any.u64() % STEPS;
        let one = Entry { network: here.id(), ..any.entry(step, id(1)) };
        let other = Entry { hlc: !one.hlc, ..one.clone() };
        let [one, other] = [one, other].map(|entry| Signed::new(entry, &key(1)));
        let proof = FraudProof::between(&one, &other).unwrap();
        prop_assert_eq!(proof.kind, FraudKind::Fork);
        prop_assert_eq!(FraudProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));
        prop_assert_eq!(FraudProof::between(&other, &one), Some(proof.clone()));
        prop_assert_eq!(FraudProof::between(&one, &one), None);
        let elsewhere = FraudProof { network: there.id(), ..proof.clone() };
        prop_assert!(elsewhere.verify().is_err());
        let voucher = FraudProof { kind: FraudKind::Voucher, ..proof };
        prop_assert!(voucher.verify().is_err());
    }
}

/// Types of entries that do not exist yet: holds and their claims, payments without work, stakes, loans
/// between members, and what `docs/protocol.md` reserves beside them.
const RESERVED: [u16; 13] = [10, 12, 14, 30, 31, 32, 40, 42, 60, 61, 70, 71, 72];

/// The types there are.
const TYPES: [u16; 10] = [1, 2, 3, 11, 13, 15, 41, 50, 51, 52];

/// Nobody stakes, votes or audits on a chain: whatever such an entry says, however well it is signed.
#[test]
fn an_entry_of_a_reserved_type_is_refused_whatever_it_says() {
    let (mut any, signer, genesis) = (Any(1), key(1), private());
    for step in 0..STEPS {
        let mut chain = Chain::new(genesis.clone(), id(1));
        let body = Entry {
            network: genesis.id(),
            seq: 1,
            prev: *genesis.id().as_bytes(),
            ..any.entry(step, id(1))
        }
        .to_bytes();
        let is = u16::from_le_bytes([body[1], body[2]]);
        let of_type = |number: u16| {
            let mut body = body.clone();
            body[1..3].copy_from_slice(&number.to_le_bytes());
            let digest = hash(Entry::DOMAIN, &[&body]);
            let signature = signer.sign(&[SIGNATURE_TAG, &digest].concat());
            [body.as_slice(), signature.as_bytes()].concat()
        };
        assert!(Signed::<Entry>::from_bytes(&of_type(is)).is_ok(), "{is}");
        for number in RESERVED {
            let (bytes, refused) = (of_type(number), Err(DecodeError::Value("type")));
            assert_eq!(Signed::<Entry>::from_bytes(&bytes), refused, "{number}");
            assert!(chain.append_bytes(&bytes).is_err(), "{number}");
        }
        assert_eq!(chain.state(), Chain::new(genesis.clone(), id(1)).state());
        // Nor is any other number a type.
        let mut body = body.clone();
        for number in (0..=u16::MAX).filter(|number| !TYPES.contains(number)) {
            body[1..3].copy_from_slice(&number.to_le_bytes());
            assert!(Entry::from_bytes(&body).is_err(), "{number}");
        }
    }
}
