//! Texts and JSON that may be an amount: what is read is exactly what was written, or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tirami_manifest::amount::AmountError;
use tirami_manifest::{Amount, Multiplier};
use tirami_manifest_fuzz::write_seeds;

/// The µTRM of a plain decimal number of TRM, digit by digit.
fn utrm(text: &str) -> Option<u64> {
    let (whole, decimals) = match text.split_once('.') {
        None => (text, ""),
        Some((_, "")) => return None,
        Some(parts) => parts,
    };
    if whole.is_empty() || decimals.len() > 6 {
        return None;
    }
    let zeros = std::iter::repeat_n(b'0', 6 - decimals.len());
    let mut utrm = 0_u128;
    for digit in whole.bytes().chain(decimals.bytes()).chain(zeros) {
        if !digit.is_ascii_digit() {
            return None;
        }
        utrm = (utrm * 10 + u128::from(digit - b'0')).min(u128::from(u64::MAX));
    }
    let utrm = u64::try_from(utrm).ok()?;
    (utrm <= Amount::MAX.utrm()).then_some(utrm)
}

/// Digits up to which an `f64` tells any two decimal numbers apart.
const EXACT_DIGITS: usize = 15;

fn reads_json(text: &str) {
    let Ok(read) = serde_json::from_str::<Amount>(text) else {
        return;
    };
    assert!(read <= Amount::MAX);
    let json = text.trim();
    match serde_json::from_str::<serde_json::Value>(text).expect("it was read as an amount") {
        serde_json::Value::String(inner) => assert_eq!(utrm(&inner), Some(read.utrm())),
        serde_json::Value::Number(_) => {
            let plain = json.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            if plain && json.bytes().filter(u8::is_ascii_digit).count() <= EXACT_DIGITS {
                // As written, but that zeros at the end say nothing.
                let short = match json.split_once('.') {
                    Some(_) => json.trim_end_matches('0').trim_end_matches('.'),
                    None => json,
                };
                assert_eq!(utrm(short), Some(read.utrm()), "{json}");
            }
        }
        other => panic!("{other} is an amount"),
    }
}

fn round_trips(amount: Amount) {
    assert_eq!(amount.to_string().parse(), Ok(amount));
    let json = serde_json::to_string(&amount).expect("it serialises");
    assert_eq!(serde_json::from_str::<Amount>(&json).ok(), Some(amount));
    assert_eq!(Amount::from_utrm(amount.utrm()), Ok(amount));
}

fn counts(kflop: u64, ppm: u32, other: u64) {
    let exact = u128::from(kflop) * u128::from(ppm);
    match Multiplier::from_ppm(ppm).price(kflop) {
        Ok(price) => {
            let price = u128::from(price.utrm()) * 1_000_000;
            assert!(exact <= price && price < exact + 1_000_000);
        }
        Err(_) => assert!(exact > u128::from(Amount::MAX.utrm()) * 1_000_000),
    }
    match (Amount::from_utrm(kflop), Amount::from_utrm(other)) {
        (Ok(a), Ok(b)) => {
            round_trips(a);
            let (x, y) = (a.utrm(), b.utrm());
            let sum = Some(x + y).filter(|sum| *sum <= Amount::MAX.utrm());
            assert_eq!(a.checked_add(b).map(Amount::utrm), sum);
            assert_eq!(a.checked_sub(b).map(Amount::utrm), x.checked_sub(y));
            assert_eq!(a.saturating_sub(b).utrm(), x.saturating_sub(y));
        }
        (Err(AmountError::TooLarge), _) => assert!(kflop > Amount::MAX.utrm()),
        (_, Err(AmountError::TooLarge)) => assert!(other > Amount::MAX.utrm()),
        other => panic!("{other:?}"),
    }
}

fn seeds() -> impl Iterator<Item = Vec<u8>> {
    let texts = [
        "5",
        "0.25",
        "\"1.040449\"",
        "21000000000",
        "0.000001",
        "1e2",
        "-1",
        "1.5",
        "\"-0.1\"",
        "8589934592.000001",
        "20999999999.999999",
        " 7 ",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec())
}

fuzz_target!(init: write_seeds(seeds()), |data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(text.parse::<Amount>().ok().map(Amount::utrm), utrm(text));
        if let Ok(amount) = text.parse() {
            round_trips(amount);
        }
        reads_json(text);
    }
    if let [a, b, c, d, e, f, g, h, rest @ ..] = data {
        let first = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
        let other = rest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let ppm = rest.last_chunk().map_or(1, |bytes| u32::from_le_bytes(*bytes));
        counts(first, ppm, other);
    }
});
