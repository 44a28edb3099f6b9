//! Providers that claim what was vouched for in a job that they broke off: twice, too much, of others.

use tirami_agent_runtime::ops::Balance;
use tirami_manifest::commerce::{Consent, Receipt};
use tirami_manifest::signed::Signed;
use tirami_manifest::{Amount, TransferId, trm};
use tirami_mesh::proto::message::{Countersign, Frame, RefuseCode};

use super::provider::{LAST, Provider, SECOND, Word, balanced, buy, honest, price};
use super::providers::Costs;
use crate::{holds, pair, run};

/// One claim.
type Made = fn(&Provider) -> Receipt;

/// What the consumer answers to a claim.
enum Answer {
    Settled,
    /// It shows what it booked for that job before.
    Shown,
    Refused(&'static str),
}

use Answer::{Refused, Settled, Shown};

/// Claims, one after the other, and what the consumer pays for all of them.
struct Claims {
    name: &'static str,
    made: &'static [(Made, Answer)],
    costs: Costs,
}

fn last(provider: &Provider) -> Receipt {
    provider.claim().unwrap()
}

/// By the voucher before the last.
fn older(provider: &Provider) -> Receipt {
    let got = provider.got.lock().unwrap();
    got.claim(&got.vouchers[1], &provider.key).unwrap()
}

/// The last, with something else in it; the provider signs it again.
fn changed(provider: &Provider, change: impl FnOnce(&mut Receipt)) -> Receipt {
    let mut receipt = last(provider);
    change(&mut receipt);
    let signed = Signed::new(receipt.agreement.clone(), &provider.key);
    receipt.provider_signature = signed.signature;
    receipt
}

fn another_of_the_same(provider: &Provider) -> Receipt {
    changed(provider, |receipt| receipt.agreement.nonce = [9; 16])
}

/// A voucher for the whole answer, which the provider signed itself.
fn forged(provider: &Provider) -> Receipt {
    let got = provider.got.lock().unwrap();
    let mut voucher = got.vouchers.last().unwrap().body.clone();
    (voucher.tokens_out, voucher.total, voucher.seq) = (20, price(20), 9);
    let voucher = Signed::new(voucher, &provider.key);
    got.claim(&voucher, &provider.key).unwrap()
}

const CLAIMS: &[Claims] = &[
    Claims {
        name: "the same twice",
        made: &[(last, Settled), (last, Settled)],
        costs: Costs::Tokens(16),
    },
    Claims {
        name: "another one by the same voucher",
        made: &[(last, Settled), (another_of_the_same, Shown)],
        costs: Costs::Tokens(16),
    },
    Claims {
        name: "both vouchers, the last first",
        made: &[(last, Settled), (older, Shown)],
        costs: Costs::Tokens(16),
    },
    Claims {
        name: "both vouchers, the lower first",
        made: &[(older, Settled), (last, Shown)],
        costs: Costs::Tokens(8),
    },
    Claims {
        name: "more than the voucher says",
        made: &[(
            |provider| changed(provider, |receipt| receipt.agreement.voucher_seq += 1),
            Refused("promises something else"),
        )],
        costs: Costs::Nothing,
    },
    Claims {
        name: "another job's",
        made: &[(
            |provider| {
                let other = TransferId::from_bytes([9; 16]);
                changed(provider, |receipt| receipt.agreement.hold = other)
            },
            Refused("promises something else"),
        )],
        costs: Costs::Nothing,
    },
    Claims {
        name: "a forged voucher",
        made: &[(forged, Refused("voucher's signature does not hold"))],
        costs: Costs::Nothing,
    },
    Claims {
        name: "a receipt that the consumer never signed",
        made: &[(
            |provider| {
                changed(provider, |receipt| {
                    let signed = Signed::new(receipt.agreement.clone(), &provider.key);
                    receipt.consent = Consent::Signature(signed.signature);
                })
            },
            Refused("consumer's signature does not hold"),
        )],
        costs: Costs::Nothing,
    },
];

/// Breaks off when two chunks were vouched for.
async fn broken_off(what: &str) -> (crate::Pair, Provider, Amount) {
    let pair = pair().await;
    let mut words = honest();
    words.truncate(LAST);
    let provider = Provider::beside(&pair, words).await;
    let answer = buy(&pair, &provider, what).await;
    (pair, provider, answer.trm_cost)
}

fn claim(receipt: &Receipt) -> Frame {
    Frame::Claim(Countersign {
        receipt: receipt.to_bytes(),
    })
}

#[tokio::test]
async fn what_was_vouched_for_is_claimed_once_and_nothing_else_is() {
    for row in CLAIMS {
        let what = row.name;
        let (pair, provider, in_all) = broken_off(what).await;
        let mut booked = None;
        for (made, answer) in row.made {
            let receipt = made(&provider);
            let said = provider.ask(&claim(&receipt)).await;
            match (answer, said) {
                (Settled, Frame::Settled(id)) => {
                    assert_eq!(id, receipt.id(), "{what}");
                    booked = Some(receipt.to_bytes());
                }
                (Shown, Frame::Countersign(shown)) => {
                    assert_eq!(Some(shown.receipt), booked, "{what}");
                }
                (Refused(why), Frame::Refuse(refused)) => {
                    assert!(refused.message.contains(why), "{what}: {refused}");
                }
                (_, said) => panic!("{what}: {said:?}"),
            }
        }
        if booked.is_some() {
            let not_claimed = price(16).checked_sub(row.costs.amount()).unwrap();
            let in_all = in_all.checked_sub(not_claimed).unwrap();
            balanced(&pair, (row.costs.amount(), in_all), what).await;
        } else {
            let buyer = run(&pair.member, Balance {}).await.unwrap();
            let left = trm!("1000").checked_sub(in_all).unwrap();
            assert_eq!(buyer.trm_balance, left, "{what}");
            assert_eq!(
                buyer.trm_unclaimed,
                price(16),
                "{what}: still to be claimed"
            );
            assert!(holds(&pair.member).await, "{what}");
        }
    }
}

#[tokio::test]
async fn a_claim_while_the_job_runs_has_to_wait() {
    let what = "a claim in the middle";
    let pair = pair().await;
    let mut words = honest();
    words.insert(SECOND, Word::Claim);
    let provider = Provider::beside(&pair, words).await;
    let answer = buy(&pair, &provider, what).await;
    let said = provider.got.lock().unwrap().answered.clone();
    let Some(Frame::Refuse(refused)) = said else {
        panic!("{said:?}");
    };
    assert_eq!(refused.code, RefuseCode::Busy, "{refused}");
    // It goes on, and is paid for the whole, once.
    assert_eq!(answer.provider, provider.key.id());
    let later = provider.ask(&claim(&last(&provider))).await;
    assert!(matches!(later, Frame::Countersign(_)), "{later:?}");
    balanced(&pair, (price(20), price(20)), what).await;
}
