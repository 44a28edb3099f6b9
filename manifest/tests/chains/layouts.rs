//! The bytes of everything that chains are made of, field by field: `files/layouts` has them with a comment
//! for each, made from tables that follow `docs/protocol.md` and know nothing of the encoder.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};
use tirami_manifest::anchor::{ANCHOR_LEN, Anchor};
use tirami_manifest::bytes::DecodeError;
use tirami_manifest::chain::{Certificate, Entry, FraudProof, Predecessor, Step, successor_hash};
use tirami_manifest::id::{hex_bytes, to_hex};
use tirami_manifest::signed::{Document, Signed};
use tirami_manifest::statement::Statement;
use tirami_manifest::tree_head::TreeHead;

use crate::anchored;
use crate::files::{claimed, compare, golden, issuer, member, read, seller};
use crate::fraud;
use crate::journal::Journal;
use crate::statements;
use crate::world::{Pen, id, private, shared, trm};

/// What a field is.
#[derive(Clone, Copy)]
enum Is {
    /// A number of so many bytes.
    Int(usize),
    /// Micro-TRM.
    Utrm,
    /// Milliseconds since 1970.
    Ms,
    /// Milliseconds and a counter of 16 bits.
    Hybrid,
    /// A public key.
    Key,
    /// So many bytes as they are.
    Raw(usize),
    /// A number of so many bytes, and what some of them mean.
    OneOf(usize, &'static [(u64, &'static str)]),
}

use Is::{Hybrid, Int, Key, Ms, OneOf, Raw, Utrm};

/// Name, what it is, and what it means.
type Field = (&'static str, Is, &'static str);

const TYPES: &[(u64, &str)] = &[
    (1, "genesis"),
    (2, "checkpoint"),
    (3, "succession"),
    (13, "trade"),
    (15, "receive"),
    (41, "repay"),
    (50, "mint"),
    (51, "borrow"),
    (52, "retire"),
];

const ENTRY: &[Field] = &[
    ("version", Int(1), ""),
    ("type", OneOf(2, TYPES), ""),
    (
        "flags",
        OneOf(2, &[(0, "none"), (1, "the credit waits")]),
        "",
    ),
    ("network", Raw(32), "id of the network's genesis document"),
    ("author", Key, "whose chain"),
    ("seq", Int(8), ""),
    (
        "prev",
        Raw(32),
        "id of the entry before; in the first, the network's",
    ),
    ("time", Hybrid, ""),
    ("spendable", Utrm, "after this entry"),
    ("held", Utrm, ""),
    ("staked", Utrm, ""),
    (
        "log root",
        Raw(32),
        "root of the tree over the ids of all entries before",
    ),
];

const PREDECESSOR: &[Field] = &[
    ("before: author", Key, "whose chain this one goes on"),
    ("before: seq", Int(8), "of its last entry"),
    ("before: entry", Raw(32), "id of its last entry"),
];

const SIGNATURE: &[Field] = &[("signature", Raw(64), "over the id, by the author")];

const AGREEMENT: &[Field] = &[
    ("agreement: version", Int(1), ""),
    ("agreement: network", Raw(32), ""),
    ("agreement: kind", OneOf(2, &[(1, "trade")]), ""),
    ("agreement: provider", Key, ""),
    ("agreement: consumer", Key, ""),
    ("agreement: nonce", Raw(16), ""),
    ("agreement: quote", Raw(32), "id of the quote"),
    ("agreement: ledger", OneOf(1, &[(1, "settled")]), ""),
    ("agreement: hold", Raw(16), ""),
    ("agreement: model", Raw(32), "SHA-256 of the file"),
    ("agreement: tokens in", Int(4), ""),
    ("agreement: tokens cached", Int(4), ""),
    ("agreement: tokens out", Int(4), ""),
    ("agreement: kFLOP", Int(8), ""),
    ("agreement: multiplier", Int(4), "parts per million"),
    ("agreement: earlier", Utrm, ""),
    ("agreement: amount", Utrm, ""),
    ("agreement: transcript", Raw(32), ""),
    ("agreement: seed", Int(8), ""),
    ("agreement: temperature", Int(4), "thousandths"),
    ("agreement: top k", Int(4), ""),
    ("agreement: lane", Int(4), ""),
    (
        "agreement: voucher seq",
        OneOf(4, &[(0, "none"), (2, "the second")]),
        "",
    ),
    (
        "agreement: audit ok",
        OneOf(1, &[(0, "no"), (1, "yes")]),
        "",
    ),
    ("agreement: engine fingerprint", Raw(8), ""),
    ("agreement: started", Hybrid, ""),
    ("agreement: ended", Hybrid, ""),
    (
        "agreement: finish",
        OneOf(1, &[(1, "stop"), (2, "length"), (3, "cancelled")]),
        "",
    ),
    ("provider's signature", Raw(64), "over the agreement's id"),
];

const COUNTERSIGNED: &[Field] = &[("consumer's signature", Raw(64), "over the agreement's id")];

const GRANT: &[Field] = &[
    ("grant: version", Int(1), ""),
    ("grant: network", Raw(32), ""),
    ("grant: issuer", Key, ""),
    ("grant: borrower", Key, ""),
    ("grant: invitation", Raw(16), ""),
    ("grant: principal", Utrm, ""),
    ("grant: granted", Ms, ""),
    ("grant: due", Ms, ""),
    (
        "grant: signature",
        Raw(64),
        "over the grant's id, by the issuer",
    ),
];

const RECEIVE: &[Field] = &[
    ("payer", Key, ""),
    ("receipt", Raw(32), "id of the agreement"),
    ("amount", Utrm, ""),
    ("debit", Raw(32), "id of the payer's entry"),
];

const PART: &[Field] = &[
    (
        "other",
        Key,
        "lender where the borrower says it, else the borrower",
    ),
    ("invitation", Raw(16), "whose loan it is"),
    ("amount", Utrm, ""),
    ("receipt", Raw(32), "of the sale it came out of, or zeros"),
];

const VOUCHER: &[Field] = &[
    ("version", Int(1), ""),
    ("network", Raw(32), ""),
    ("hold", Raw(16), ""),
    ("lane", Int(4), ""),
    ("payee", Key, ""),
    ("seq", Int(4), "from 1"),
    ("total", Utrm, ""),
    ("tokens out", Int(4), ""),
    ("transcript", Raw(32), ""),
    (
        "signature",
        Raw(64),
        "over the voucher's id, by its consumer",
    ),
];

const HEAD: &[Field] = &[
    ("version", Int(1), ""),
    ("network", Raw(32), ""),
    (
        "epoch",
        OneOf(8, &[(0, "the genesis document's witnesses")]),
        "",
    ),
    ("author", Key, "whose chain"),
    ("seq", Int(8), ""),
    ("entry", Raw(32), "id of the entry"),
];

const VOTE: &[Field] = &[
    ("witness", Key, ""),
    (
        "vote",
        Raw(64),
        "signature over the id of all before the count",
    ),
];

const KINDS: &[(u64, &str)] = &[
    (1, "fork"),
    (2, "arithmetic"),
    (3, "voucher contradiction"),
    (4, "double agreement"),
];

const FRAUD: &[Field] = &[
    ("version", Int(1), ""),
    ("network", Raw(32), ""),
    ("kind", OneOf(2, KINDS), ""),
    ("accused", Key, ""),
];

const TREE_HEAD: &[Field] = &[
    ("version", Int(1), ""),
    ("network", Raw(32), ""),
    ("node", Key, "whose journal; the signer"),
    ("size", Int(8), "how many records"),
    ("hash", Raw(32), "of the newest of them with all before it"),
    ("root", Raw(32), "of the tree over those hashes"),
    ("at", Ms, "when it was signed"),
    ("signature", Raw(64), "over the id, by the node"),
];

const STATEMENT: &[Field] = &[
    ("version", Int(1), ""),
    ("network", Raw(32), ""),
    ("node", Key, "whose books; the signer"),
    ("agent", Int(4), "bytes"),
    ("agent", Raw(4), "its name: main"),
    ("from", Ms, "from this moment on"),
    ("to", Ms, "before this moment"),
    ("opening", Utrm, "the balance before the first line"),
    ("closing", Utrm, "the balance after the last"),
    ("lines", Int(4), "how many"),
    ("root of the lines", Raw(32), "of the tree over their bytes"),
    ("journal", Int(8), "how many records it had"),
    (
        "root of the journal",
        Raw(32),
        "of the tree over their hashes",
    ),
    ("at", Ms, "when it was signed"),
    ("signature", Raw(64), "over the id, by the node"),
];

const STATEMENT_LINE: &[Field] = &[
    ("seq", Int(8), "number of the transfer"),
    ("at", Ms, "when it was applied"),
    ("reason", Int(4), "bytes"),
    ("reason", Raw(6), "budget"),
    ("other", Int(4), "bytes"),
    ("other", Raw(8), "the other account: outgoing"),
    (
        "agent",
        OneOf(1, &[(0, "none spent"), (1, "one spent")]),
        "",
    ),
    ("agent", Int(4), "bytes"),
    ("agent", Raw(4), "its name: main"),
    ("in", Utrm, ""),
    ("out", Utrm, ""),
    ("balance", Utrm, "after it"),
    ("receipt", OneOf(1, &[(0, "none"), (1, "there is one")]), ""),
    ("receipt", Raw(32), "id of the agreement"),
];

const ANCHOR: &[Field] = &[
    ("magic", Raw(4), "TRM1"),
    ("version", Int(1), ""),
    ("network", Raw(8), "the first 8 bytes of its id"),
    ("chains", Int(8), "how many"),
    ("time", Hybrid, ""),
    ("root", Raw(32), "of the tree over their newest entries"),
];

/// Bytes, and what is written down of them so far.
struct Walk {
    bytes: Vec<u8>,
    at: usize,
    within: String,
    page: String,
}

impl Walk {
    fn fields(&mut self, fields: &[Field]) {
        for field in fields {
            self.field(*field);
        }
    }

    /// Writes down one field; the number in it, where it has one.
    fn field(&mut self, (name, is, means): Field) -> u64 {
        let len = match is {
            Int(len) | Raw(len) | OneOf(len, _) => len,
            Utrm | Ms | Hybrid => 8,
            Key => 32,
        };
        let field = self.bytes[self.at..self.at + len].to_vec();
        let mut number = [0; 8];
        if len <= 8 {
            number[..len].copy_from_slice(&field);
        }
        let number = u64::from_le_bytes(number);
        let value = match is {
            Int(_) => number.to_string(),
            Utrm => format!("{number} micro-TRM"),
            Ms => format!("{number} ms"),
            Hybrid => format!("{} ms, counter {}", number >> 16, number & 0xffff),
            Key => (1..=9)
                .find(|n| id(*n).as_bytes() == field.as_slice())
                .map_or("key".to_owned(), |n| format!("node {n}")),
            Raw(_) => String::new(),
            OneOf(_, known) => {
                let meaning = known.iter().find(|(n, _)| *n == number);
                format!("{number}, {}", meaning.map_or("unknown", |(_, what)| what))
            }
        };
        let says: Vec<_> = [value.as_str(), means]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect();
        let colon = if says.is_empty() { "" } else { ": " };
        let (at, within, hex) = (self.at, &self.within, to_hex(&field));
        writeln!(
            self.page,
            "{at:>4}  {hex:<16}  {within}{name}{colon}{}",
            says.join("; ")
        )
        .unwrap();
        self.at += len;
        number
    }

    fn entry(&mut self) {
        let kind = u16::from_le_bytes(self.bytes[self.at + 1..self.at + 3].try_into().unwrap());
        self.fields(ENTRY);
        let len = self.field(("payload", Int(4), "bytes"));
        let start = self.at;
        match kind {
            1 => {
                self.fields(&[(
                    "successor",
                    Raw(32),
                    "hash of the key that may go on, or zeros",
                )]);
                let is = OneOf(1, &[(0, "none"), (1, "there is one")]);
                if self.field(("before", is, "")) == 1 {
                    self.fields(PREDECESSOR);
                }
            }
            2 => self.fields(&[("state", Raw(32), "digest of the state before this entry")]),
            3 => self.fields(&[("successor", Key, "the key that goes on")]),
            13 => {
                self.fields(&[("payer", Key, "whose money pays")]);
                self.fields(AGREEMENT);
                self.fields(COUNTERSIGNED);
            }
            11 => {
                self.fields(&[("payer", Key, "whose money pays: the consumer's")]);
                self.fields(AGREEMENT);
                "voucher: ".clone_into(&mut self.within);
                self.fields(VOUCHER);
                self.within = String::new();
            }
            15 => self.fields(RECEIVE),
            41 | 52 => self.fields(PART),
            50 | 51 => self.fields(GRANT),
            other => panic!("type {other} is not on the page"),
        }
        assert_eq!(start + usize::try_from(len).unwrap(), self.at);
        self.fields(SIGNATURE);
    }

    fn certificate(&mut self) {
        self.fields(HEAD);
        let votes = self.field(("votes", Int(4), "how many"));
        for vote in 1..=votes {
            self.within = format!("{vote}: ");
            self.fields(VOTE);
        }
    }

    fn fraud(&mut self) {
        let kind = u16::from_le_bytes(self.bytes[33..35].try_into().unwrap());
        self.fields(FRAUD);
        for (name, within) in [("first", "first: "), ("second", "second: ")] {
            self.within = String::new();
            let len = self.field((name, Int(4), "bytes"));
            let end = self.at + usize::try_from(len).unwrap();
            within.clone_into(&mut self.within);
            if kind == 3 {
                self.fields(VOUCHER);
            } else {
                self.entry();
            }
            assert_eq!(self.at, end);
        }
    }
}

/// Reads bytes and writes what it read.
type Again = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

/// What stands in a file of its own.
struct Golden {
    name: &'static str,
    title: &'static str,
    bytes: Vec<u8>,
    layout: fn(&mut Walk),
    /// Domain of the id, and how many bytes at the end it leaves out; none where there is no id.
    id: Option<(&'static str, usize)>,
    /// Reads and writes it; none where only its hash is kept.
    again: Option<Again>,
}

impl Golden {
    fn page(&self) -> String {
        let mut walk = Walk {
            bytes: self.bytes.clone(),
            at: 0,
            within: String::new(),
            page: format!("# {}\n# offset, bytes, field\n", self.title),
        };
        (self.layout)(&mut walk);
        assert_eq!(walk.at, self.bytes.len(), "{}", self.name);
        if let Some((domain, left_out)) = self.id {
            let body = &self.bytes[..self.bytes.len() - left_out];
            let id = to_hex(&self.digest(domain, body));
            writeln!(walk.page, "# id {id}, of {domain} and {} bytes", body.len()).unwrap();
        }
        walk.page
    }

    fn digest(&self, domain: &str, body: &[u8]) -> [u8; 32] {
        assert!(body.len() <= self.bytes.len());
        Sha256::digest([domain.as_bytes(), &[0], body].concat()).into()
    }
}

fn entry(name: &'static str, title: &'static str, entry: &Signed<Entry>) -> Golden {
    let golden = Golden {
        name,
        title,
        bytes: entry.to_bytes(),
        layout: Walk::entry,
        id: Some(("trm/v1/entry", 64)),
        again: Some(|bytes| Signed::<Entry>::from_bytes(bytes).map(|entry| entry.to_bytes())),
    };
    let body = &golden.bytes[..golden.bytes.len() - 64];
    let digest = golden.digest("trm/v1/entry", body);
    assert_eq!(entry.body.id().as_bytes(), &digest, "{name}");
    golden
}

/// A chain that ends, and the one of the next key.
fn heirs() -> (Pen, Pen) {
    let mut ends = Pen::begun(&private(), 2, successor_hash(&id(9)));
    ends.write(Step::Succession { successor: id(9) });
    let last = &ends.last().body;
    let mut next = Pen::new(&private(), 9);
    next.entries.clear();
    let mut first = next.next(Step::Genesis {
        successor: [0; 32],
        predecessor: Some(Predecessor {
            author: id(2),
            seq: last.seq,
            entry: last.id(),
        }),
    });
    first.log_root = tirami_manifest::merkle::empty_root();
    first.hlc = last.hlc + 1;
    next.put(first);
    let before = read(&ends);
    before.goes_on().unwrap().append(next.last()).unwrap();
    (ends, next)
}

fn entries() -> Vec<Golden> {
    let (issuer, member, seller) = (issuer().entries, member().entries, seller().entries);
    let (ends, next) = heirs();
    let (ends, next) = (ends.entries, next.entries);
    vec![
        entry(
            "genesis.txt",
            "A chain begins; a key may succeed it",
            &ends[0],
        ),
        entry(
            "genesis-goes-on.txt",
            "A chain goes on another one",
            &next[0],
        ),
        entry("checkpoint.txt", "A checkpoint", &issuer[5]),
        entry(
            "succession.txt",
            "A chain ends: another key goes on",
            &ends[1],
        ),
        entry(
            "trade-paid.txt",
            "A trade, on its payer's chain",
            &member[2],
        ),
        entry(
            "trade-sold.txt",
            "A trade, on its provider's chain",
            &issuer[2],
        ),
        entry(
            "trade-waits.txt",
            "A trade whose payment is not certified",
            &seller[1],
        ),
        entry(
            "claim-paid.txt",
            "A claim by voucher, on its payer's chain",
            &claimed().entries[2],
        ),
        entry(
            "claim-sold.txt",
            "A claim by voucher, on its provider's chain",
            &claimed().entries[3],
        ),
        entry(
            "receive.txt",
            "A credit that waited is certified",
            &seller[2],
        ),
        entry("repay.txt", "Part of a loan is paid back", &member[4]),
        entry("mint.txt", "An issuer lends what it makes", &issuer[1]),
        entry("borrow.txt", "The same on the borrower's chain", &member[1]),
        entry("retire.txt", "What came back is retired", &issuer[4]),
    ]
}

fn proofs() -> Vec<Golden> {
    let kinds = [
        ("fraud-fork.txt", "Proof of a fork"),
        ("fraud-arithmetic.txt", "Proof of a sum that is wrong"),
        ("fraud-voucher.txt", "Proof of a promise taken back"),
        (
            "fraud-double-agreement.txt",
            "Proof of a receipt counted twice",
        ),
    ];
    let proofs = fraud::proofs().into_iter().map(|(_, proof)| proof);
    let proof = |((name, title), proof): (_, FraudProof)| Golden {
        name,
        title,
        bytes: proof.to_bytes(),
        layout: Walk::fraud,
        id: Some(("trm/v1/fraud", 0)),
        again: Some(|bytes| FraudProof::from_bytes(bytes).map(|proof| proof.to_bytes())),
    };
    kinds.into_iter().zip(proofs).map(proof).collect()
}

fn statement_line() -> Golden {
    let bytes = statements::lines()[1].to_bytes();
    Golden {
        name: "statement-line.txt",
        title: "A line of a statement: the data of a leaf",
        bytes,
        layout: |walk| walk.fields(STATEMENT_LINE),
        id: None,
        again: None,
    }
}

fn all() -> Vec<Golden> {
    let heads = anchored::heads(0);
    let anchor = Anchor::new(&private().id(), 1_700_000_009_000 << 16 | 7, &heads);
    let certificate = Golden {
        name: "certificate.txt",
        title: "A certificate by three of four witnesses",
        bytes: seller().certificate(&[1, 6, 7]).to_bytes(),
        layout: Walk::certificate,
        id: Some(("trm/v1/cert", 4 + 3 * 96)),
        again: Some(|bytes| {
            Certificate::from_bytes(bytes).map(|certificate| certificate.to_bytes())
        }),
    };
    let anchor = Golden {
        name: "anchor.txt",
        title: "An anchor over two chains",
        bytes: anchor.to_bytes(),
        layout: |walk| walk.fields(ANCHOR),
        id: None,
        again: Some(|bytes| Anchor::from_bytes(bytes).map(|anchor| anchor.to_bytes())),
    };
    let tree_head = Golden {
        name: "tree-head.txt",
        title: "A tree head of a journal of five records",
        bytes: Journal::of(1, 5).head(5).to_bytes(),
        layout: |walk| walk.fields(TREE_HEAD),
        id: Some(("trm/v1/sth", 64)),
        again: Some(|bytes| Signed::<TreeHead>::from_bytes(bytes).map(|head| head.to_bytes())),
    };
    let statement = Golden {
        name: "statement.txt",
        title: "A statement of three lines",
        bytes: statements::statement().to_bytes(),
        layout: |walk| walk.fields(STATEMENT),
        id: Some(("trm/v1/statement", 64)),
        again: Some(|bytes| Signed::<Statement>::from_bytes(bytes).map(|signed| signed.to_bytes())),
    };
    let mut all = entries();
    all.extend(proofs());
    all.extend([certificate, anchor, tree_head, statement, statement_line()]);
    all
}

/// The bytes that stand on a page, not those that were just made.
fn is_read_and_written_back(one: &Golden) {
    let page = std::fs::read_to_string(golden("layouts").join(one.name)).unwrap();
    let mut bytes = Vec::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let offset: usize = words.next().unwrap().parse().unwrap();
        assert_eq!(offset, bytes.len(), "{}: {line}", one.name);
        bytes.extend(hex_bytes(words.next().unwrap()).unwrap());
    }
    assert_eq!(bytes, one.bytes, "{}", one.name);
    let Some(again) = one.again else {
        return;
    };
    assert_eq!(again(&bytes).as_ref(), Ok(&bytes), "{}", one.name);
    // What differs in any byte is another document or none, never the same in other bytes.
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let read = again(&changed);
            let other = read.as_ref().is_ok_and(|read| *read == changed);
            assert!(other || read.is_err(), "{}: byte {at}", one.name);
        }
    }
    for cut in 0..bytes.len() {
        assert!(again(&bytes[..cut]).is_err(), "{}: {cut}", one.name);
    }
    assert!(again(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn the_golden_layouts_are_what_they_were_and_are_read_and_written_back() {
    let all = all();
    let pages: BTreeMap<_, _> = all.iter().map(|one| (one.name, one.page())).collect();
    compare("layouts", &pages);
    all.iter().for_each(is_read_and_written_back);
    let anchor = all.iter().find(|one| one.name == "anchor.txt").unwrap();
    assert_eq!(anchor.bytes.len(), ANCHOR_LEN);
}

/// What the protocol page says of the state, with a loan that is open and a credit that waits.
#[test]
fn a_state_has_the_digest_that_the_page_says() {
    let utrm = |n: u64| (n * 1_000_000).to_le_bytes().to_vec();
    let digest = |parts: &[Vec<u8>]| -> [u8; 32] {
        Sha256::digest([b"trm/v1/state\0".to_vec(), parts.concat()].concat()).into()
    };
    let mut lender = issuer();
    lender.entries.truncate(5);
    let state = digest(&[
        utrm(180),                    // spendable: 300 earned, 120 paid
        utrm(0),                      // held
        utrm(0),                      // staked
        utrm(1_000),                  // made
        utrm(120),                    // retired
        vec![0; 32],                  // no successor
        1_u32.to_le_bytes().to_vec(), // open loans
        vec![0xaa; 16],               // invitation
        vec![1],                      // lent by the author
        id(2).as_bytes().to_vec(),    // to whom
        utrm(880),                    // owed
        0_u32.to_le_bytes().to_vec(), // credits that wait
    ]);
    assert_eq!(read(&lender).state().digest(), state);
    let Step::Checkpoint { state: says } = issuer().entries[5].body.step else {
        panic!("the golden checkpoint is elsewhere");
    };
    assert_eq!(says, state);
    let mut waits = seller();
    waits.entries.truncate(2);
    let sale = crate::world::receipt(&shared(), (3, 2), 200, 5);
    let state = digest(&[
        vec![0; 5 * 8],
        vec![0; 32],
        0_u32.to_le_bytes().to_vec(),
        1_u32.to_le_bytes().to_vec(), // credits that wait
        sale.id().as_bytes().to_vec(),
        id(2).as_bytes().to_vec(), // payer
        utrm(200),
    ]);
    assert_eq!(read(&waits).state().digest(), state);
    assert_eq!(read(&waits).state().waiting[&sale.id()].amount, trm(200));
}
