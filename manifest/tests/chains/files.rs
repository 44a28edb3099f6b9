//! The golden files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tirami_manifest::chain::{Certificate, Chain, Repaid, Step};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::merkle::{Inclusion, Leaves, leaf};
use tirami_manifest::proof_file::{BalanceFile, FraudFile, InclusionFile};
use tirami_manifest::receipt_file::ReceiptFile;
use tirami_manifest::signed::Document;
use tirami_manifest::verify::verify;
use tirami_manifest::{InvitationId, ReceiptId};

use crate::alone;
use crate::anchored;
use crate::forged;
use crate::fraud;
use crate::journal;
use crate::statements;
use crate::world::{Pen, claim, grant, id, of, private, receipt, shared, trade, trm};

/// The issuer's chain: it lends, sells, buys, and retires what came back.
pub(crate) fn issuer() -> Pen {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    pen.write(Step::Mint(grant(&genesis, (1, 2), 0xaa)))
        .write(trade(&genesis, (1, 2), 300, 1))
        .write(trade(&genesis, (2, 1), 120, 2));
    let sale = receipt(&genesis, (2, 1), 120, 2).id();
    pen.write(Step::Retire(part(2, 120, Some(sale))));
    let state = Chain::clone(&read(&pen)).state().digest();
    pen.write(Step::Checkpoint { state })
        .write(Step::Retire(part(2, 50, None)));
    pen
}

/// The other side of it.
pub(crate) fn member() -> Pen {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 2);
    pen.write(Step::Borrow(grant(&genesis, (1, 2), 0xaa)))
        .write(trade(&genesis, (1, 2), 300, 1))
        .write(trade(&genesis, (2, 1), 120, 2));
    let sale = receipt(&genesis, (2, 1), 120, 2).id();
    pen.write(Step::Repay(part(1, 120, Some(sale))))
        .write(Step::Repay(part(1, 50, None)));
    pen
}

/// A seller in a network of four witnesses: what it earned waits until it is certified.
pub(crate) fn seller() -> Pen {
    let genesis = shared();
    let mut pen = Pen::new(&genesis, 3);
    let sale = receipt(&genesis, (3, 2), 200, 5);
    pen.write_waiting(of(&sale));
    let mut buyer = Pen::new(&genesis, 2);
    buyer
        .write(Step::Borrow(grant(&genesis, (4, 2), 0xab)))
        .write(of(&sale));
    pen.write(Step::Receive {
        payer: id(2),
        receipt: sale.id(),
        amount: trm(200),
        debit: buyer.last().body.id(),
    });
    pen
}

/// A member whose job broke off: its provider claimed what it had vouched for. Another job it sold itself.
pub(crate) fn claimed() -> Pen {
    // A network of its own, of which the issuer's chain is not among the files.
    let genesis = Genesis {
        nonce: [0x2c; 16],
        ..private()
    };
    let mut pen = Pen::new(&genesis, 3);
    pen.write(Step::Borrow(grant(&genesis, (1, 3), 0xac)))
        .write(of(&claim(&genesis, (1, 3), 40, 3)))
        .write(of(&claim(&genesis, (3, 1), 15, 4)));
    pen
}

pub(crate) fn part(other: u8, amount: u64, receipt: Option<ReceiptId>) -> Repaid {
    Repaid {
        other: id(other),
        invitation: InvitationId::from_bytes([0xaa; 16]),
        amount: trm(amount),
        receipt: receipt.map_or([0; 32], |id| *id.as_bytes()),
    }
}

/// The chain as far as it was read.
pub(crate) fn read(pen: &Pen) -> Chain {
    let mut chain = Chain::new(pen.genesis.clone(), pen.key.id());
    for entry in &pen.entries {
        chain.append(entry).unwrap();
    }
    chain
}

fn valid() -> BTreeMap<&'static str, String> {
    let (issuer, member, seller) = (issuer(), member(), seller());
    let json = |value: serde_json::Value| serde_json::to_string_pretty(&value).unwrap() + "\n";
    let alone = issuer.certificate(&[1]);
    let three = seller.certificate(&[1, 6, 7]);
    let leaves: Vec<_> = member
        .entries
        .iter()
        .map(|entry| leaf(entry.body.id().as_bytes()))
        .collect();
    let size = leaves.len() as u64 - 1;
    let proof = Inclusion::new(&Leaves(&leaves), 2, size).unwrap().unwrap();
    let inclusion = InclusionFile::new(
        &member.genesis,
        (&member.entries[2], member.last()),
        None,
        proof.path,
    );
    let balance = BalanceFile::new(&seller.genesis, seller.last(), Some(&three));
    let mut files = BTreeMap::from([
        (
            "receipt.json",
            json(
                serde_json::to_value(ReceiptFile::new(&receipt(&private(), (1, 2), 300, 1)))
                    .unwrap(),
            ),
        ),
        ("issuer.chain", issuer.file(Some(&alone))),
        ("member.chain", member.file(None)),
        ("seller.chain", seller.file(Some(&three))),
        ("claimed.chain", claimed().file(None)),
        (
            "claim.json",
            json(
                serde_json::to_value(ReceiptFile::new(&claim(&private(), (1, 3), 40, 3))).unwrap(),
            ),
        ),
        ("balance.json", json(serde_json::to_value(balance).unwrap())),
        (
            "inclusion.json",
            json(serde_json::to_value(inclusion).unwrap()),
        ),
        ("mandate.txt", fraud::mandate() + "\n"),
    ]);
    files.extend(journal::valid());
    files.extend(statements::valid());
    files.extend(anchored::valid());
    for (name, proof) in fraud::proofs() {
        files.insert(
            name,
            json(serde_json::to_value(FraudFile::new(&proof)).unwrap()),
        );
    }
    files
}

/// A folder of golden files.
pub(crate) fn golden(folder: &str) -> PathBuf {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    files.join(folder)
}

pub(crate) fn compare(folder: &str, files: &BTreeMap<&'static str, String>) {
    let folder = golden(folder);
    for (name, text) in files {
        let path = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let saved = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            saved == *text,
            "{} is not what it was; UPDATE=1 writes it anew",
            path.display()
        );
    }
    let there = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(there, files.len(), "{} has other files", folder.display());
}

#[test]
fn the_golden_files_hold_and_are_what_they_were() {
    let files = valid();
    for (name, text) in &files {
        let verified = verify(text);
        assert!(verified.is_ok(), "{name}: {}", verified.unwrap_err());
    }
    compare("valid", &files);
}

#[test]
fn the_golden_forgeries_do_not_hold_and_are_what_they_were() {
    let mut files = forged::ledgers();
    files.extend(journal::forged());
    files.extend(statements::forged());
    files.extend(anchored::forged());
    files.extend(alone::proofs());
    for (name, (text, why)) in &files {
        let error = verify(text).expect_err(name).to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    let texts = files.into_iter().map(|(name, (text, _))| (name, text));
    compare("forged", &texts.collect());
}

/// What is checked whole is of a size that such a file gets: a statement has many lines, a proof has not.
#[test]
fn no_file_is_larger_than_its_kind_gets() {
    let files = valid();
    for (name, most) in [
        ("balance.json", tirami_manifest::proof_file::SIZE_MAX),
        ("anchored.json", tirami_manifest::proof_file::SIZE_MAX),
        ("statement.json", tirami_manifest::statement_file::SIZE_MAX),
    ] {
        let text = &files[name];
        let of = |size: usize| text.clone() + &" ".repeat(size - text.len());
        assert!(verify(&of(most)).is_ok(), "{name}");
        let error = verify(&of(most + 1)).unwrap_err().to_string();
        assert!(error.contains("larger than"), "{name}: {error}");
    }
}

/// Changing any character of a proof that stands for bytes makes it none.
#[test]
fn no_digit_of_a_golden_file_can_be_changed() {
    for (name, text) in valid() {
        if text.lines().count() > 1 && !text.starts_with("{\n") {
            continue;
        }
        let digits = text
            .char_indices()
            .filter(|(_, c)| c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
        for (at, c) in digits {
            let mut changed = text.clone();
            let other = if c == '0' { "1" } else { "0" };
            changed.replace_range(at..=at, other);
            assert!(
                verify(&changed).is_err(),
                "{name}: character {at} was changed"
            );
        }
    }
}

/// No byte of a chain's entries can be changed: each mutation is refused where it stands.
#[test]
fn no_byte_of_an_entry_can_be_changed() {
    for pen in [issuer(), member(), seller(), claimed()] {
        let mut chain = Chain::new(pen.genesis.clone(), pen.key.id());
        for entry in &pen.entries {
            let bytes = entry.to_bytes();
            for at in 0..bytes.len() {
                for flip in [0x01, 0x80] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    assert!(chain.append_bytes(&changed).is_err(), "byte {at}");
                }
            }
            for cut in 0..bytes.len() {
                assert!(chain.append_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
            }
            assert!(
                chain
                    .append_bytes(&[bytes.as_slice(), &[0]].concat())
                    .is_err()
            );
            chain.append_bytes(&bytes).unwrap();
        }
        // Nothing changed by all that was refused.
        assert_eq!(chain.state(), read(&pen).state());
        assert_eq!(chain.head(), pen.last().body.id());
    }
}

/// Nor any byte of a certificate, in whatever way: by one witness, by three of four, and by all.
#[test]
fn no_byte_of_a_certificate_can_be_changed() {
    let (issuer, seller) = (issuer(), seller());
    let (mut tried, mut accepted) = (0_u32, 0_u32);
    for (pen, witnesses) in [
        (&issuer, &[1][..]),
        (&seller, &[1, 6, 7][..]),
        (&seller, &[1, 5, 6, 7][..]),
    ] {
        let certificate = pen.certificate(witnesses);
        assert_eq!(certificate.verify(&pen.genesis), Ok(()));
        let bytes = certificate.to_bytes();
        let holds = |bytes: &[u8]| {
            Certificate::from_bytes(bytes).is_ok_and(|read| read.verify(&pen.genesis).is_ok())
        };
        for at in 0..bytes.len() {
            for flip in [0x01, 0x02, 0x10, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                tried += 1;
                accepted += u32::from(holds(&changed));
            }
        }
        for cut in 0..bytes.len() {
            accepted += u32::from(holds(&bytes[..cut]));
        }
        accepted += u32::from(holds(&[bytes.as_slice(), &[0]].concat()));
        assert!(holds(&bytes));
    }
    assert!(tried > 4_000, "{tried}");
    assert_eq!(accepted, 0);
}

#[test]
fn every_entry_is_the_same_after_it_was_read() {
    for pen in [issuer(), member(), seller(), claimed()] {
        for entry in &pen.entries {
            let bytes = entry.body.to_bytes();
            assert_eq!(
                tirami_manifest::chain::Entry::from_bytes(&bytes).as_ref(),
                Ok(&entry.body)
            );
        }
    }
}
