//! Ten ledgers that somebody forged, each signed as well as can be, and why it does not hold.

use std::collections::BTreeMap;

use tirami_manifest::chain::Step;

use crate::files::{member, part};
use crate::world::{Pen, at, claim, grant, of, private, receipt, shared, trade, trm};

/// Every forgery with what is said of it.
pub(crate) fn ledgers() -> BTreeMap<&'static str, (String, &'static str)> {
    BTreeMap::from([
        ("wash-ring.chain", (wash_ring(), "not certified waits")),
        ("self-trade.chain", (self_trade(), "trade with itself")),
        (
            "hidden-top-up.chain",
            (hidden_top_up(), "follow from the entries"),
        ),
        ("backdating.chain", (backdating(), "time is not after")),
        ("fork.chain", (fork(), "is the next")),
        ("altered-balance.chain", (altered_balance(), "signature")),
        (
            "foreign-network.chain",
            (foreign_network(), "another network"),
        ),
        ("truncated-log.chain", (truncated_log(), "another end")),
        (
            "replayed-receipt.chain",
            (replayed_receipt(), "stands on this chain already"),
        ),
        (
            "claimed-again.chain",
            (claimed_again(), "stands on this chain already"),
        ),
        (
            "claim-above-voucher.chain",
            (claim_above_voucher(), "voucher promises something else"),
        ),
        ("over-quota-mint.chain", (over_quota(), "its quota is 1500")),
    ])
}

/// Three nodes sell to each other in a circle, so that each seems to have earned.
fn wash_ring() -> String {
    let genesis = shared();
    let mut pen = Pen::new(&genesis, 2);
    pen.write(trade(&genesis, (2, 3), 500, 1))
        .write(trade(&genesis, (8, 2), 500, 2))
        .write(trade(&genesis, (2, 3), 500, 3));
    pen.file(None)
}

fn self_trade() -> String {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    pen.write(trade(&genesis, (1, 1), 500, 1));
    pen.file(None)
}

/// A trade after which there is more than it brought.
fn hidden_top_up() -> String {
    let mut pen = member();
    let mut entry = pen.next(trade(&private(), (2, 1), 10, 9));
    entry.spendable = entry.spendable.checked_add(trm(1_000)).unwrap();
    pen.put(entry);
    pen.file(None)
}

fn backdating() -> String {
    let mut pen = member();
    let mut entry = pen.next(trade(&private(), (1, 2), 10, 9));
    entry.hlc = at(10).ms() << 16;
    pen.put(entry);
    pen.file(None)
}

/// The last entry twice, with another content.
fn fork() -> String {
    let mut pen = member();
    let before = {
        let mut pen = pen.clone();
        pen.entries.pop();
        pen
    };
    let mut other = before.next(trade(&private(), (1, 2), 10, 9));
    other.log_root = pen.last().body.log_root;
    pen.put(other);
    pen.file(None)
}

/// A balance that was changed, with the signature of the one before.
fn altered_balance() -> String {
    let mut pen = member();
    let last = pen.entries.last_mut().unwrap();
    last.body.spendable = trm(9_999);
    pen.file(None)
}

/// A chain of another network, with this one's genesis in front.
fn foreign_network() -> String {
    let mut pen = member();
    pen.genesis.nonce = [0x56; 16];
    pen.file(None)
}

/// A chain without its last entry, beside the certificate of the whole.
fn truncated_log() -> String {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    pen.write(Step::Mint(grant(&genesis, (1, 2), 0xaa)))
        .write(trade(&genesis, (1, 2), 300, 1))
        .write(trade(&genesis, (2, 1), 120, 2))
        .write(Step::Retire(part(2, 50, None)));
    let certificate = pen.certificate(&[1]);
    pen.entries.pop();
    pen.file(Some(&certificate))
}

/// The same receipt, earned twice.
fn replayed_receipt() -> String {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    let sale = receipt(&genesis, (1, 2), 300, 1);
    pen.write(of(&sale)).write(of(&sale));
    pen.file(None)
}

/// A job that was settled by receipt is claimed by voucher as well.
fn claimed_again() -> String {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    pen.write(trade(&genesis, (1, 2), 300, 1))
        .write(of(&claim(&genesis, (1, 2), 200, 1)));
    pen.file(None)
}

/// More is claimed than was vouched for.
fn claim_above_voucher() -> String {
    let genesis = private();
    let mut pen = Pen::new(&genesis, 1);
    let less = claim(&genesis, (1, 2), 100, 1);
    let mut more = claim(&genesis, (1, 2), 300, 1);
    more.consent = less.consent;
    pen.write(of(&more));
    pen.file(None)
}

/// Two loans of 1,000 TRM under a quota of 1,500.
fn over_quota() -> String {
    let genesis = shared();
    let mut pen = Pen::new(&genesis, 1);
    pen.write(Step::Mint(grant(&genesis, (1, 2), 0xaa)));
    let mut entry = pen.next(Step::Mint(grant(&genesis, (1, 3), 0xab)));
    entry.hlc = at(2 * 24 * 3_600_000).ms() << 16;
    pen.put(entry);
    pen.file(None)
}
