//! Money: the integer we count, its text form, and every rounding rule.
//!
//! This is the only file that rounds. A charge is always rounded up to a whole µTRM.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// µTRM in one TRM.
pub const UTRM_PER_TRM: u64 = 1_000_000;

/// Nominal FLOP that one µTRM pays for at par; from the definition 1 TRM = 10^9 FLOP.
pub const FLOP_PER_UTRM: u128 = 1_000;

/// An amount in micro-TRM (µTRM); one TRM is 1 000 000 µTRM.
///
/// Never above the supply cap, 21·10⁹ TRM. That is 2.1·10¹⁶ µTRM, more than a JSON number holds
/// exactly (2^53), so JSON carries amounts as decimal strings of TRM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The supply cap, 21·10⁹ TRM.
    pub const MAX: Self = Self(21_000_000_000 * UTRM_PER_TRM);

    /// Wraps a count of µTRM.
    ///
    /// # Errors
    ///
    /// [`AmountError::TooLarge`] above [`Amount::MAX`].
    pub const fn from_utrm(utrm: u64) -> Result<Self, AmountError> {
        if utrm > Self::MAX.0 {
            return Err(AmountError::TooLarge);
        }
        Ok(Self(utrm))
    }

    /// Wraps a whole number of TRM.
    ///
    /// # Panics
    ///
    /// Above the supply cap, which at compile time is a compile error: meant for constants.
    pub const fn from_trm(trm: u64) -> Self {
        match trm.checked_mul(UTRM_PER_TRM) {
            Some(utrm) if utrm <= Self::MAX.0 => Self(utrm),
            _ => panic!("more TRM than the supply cap"),
        }
    }

    /// The count of µTRM.
    pub const fn utrm(self) -> u64 {
        self.0
    }

    /// True when there is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above the cap.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0
            .checked_add(other.0)
            .filter(|sum| *sum <= Self::MAX.0)
            .map(Self)
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// What is left when `other` is taken away, never below zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl TryFrom<u128> for Amount {
    type Error = AmountError;

    fn try_from(utrm: u128) -> Result<Self, AmountError> {
        u64::try_from(utrm)
            .map_err(|_| AmountError::TooLarge)
            .and_then(Self::from_utrm)
    }
}

/// Why a text or a number is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmountError {
    /// Above the supply cap.
    #[error("more than the supply cap of 21000000000 TRM")]
    TooLarge,
    /// Not a plain decimal number.
    #[error(
        "'{0}' is not an amount of TRM; write digits with at most six decimals, such as 5 or 0.25"
    )]
    NotANumber(String),
    /// Below zero.
    #[error("'{0}' is negative; an amount of TRM is zero or more")]
    Negative(String),
    /// More than six decimals.
    #[error("'{0}' has more than six decimals; the smallest amount is 0.000001 TRM")]
    TooPrecise(String),
}

/// Longest text that can be an amount: 11 digits, a point, 6 digits, with room to spare.
const TEXT_MAX: usize = 32;

impl FromStr for Amount {
    type Err = AmountError;

    /// Reads a plain decimal number of TRM: digits, optionally a point and one to six digits.
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let shown = || text.chars().take(TEXT_MAX).collect::<String>();
        let not_a_number = || AmountError::NotANumber(shown());
        if let Some(rest) = text.strip_prefix('-') {
            return Err(if rest.starts_with(|c: char| c.is_ascii_digit()) {
                AmountError::Negative(shown())
            } else {
                not_a_number()
            });
        }
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(not_a_number()),
            None => (text, ""),
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err(not_a_number());
        }
        if fraction.len() > 6 {
            return Err(AmountError::TooPrecise(shown()));
        }
        let whole: u64 = whole.parse().map_err(|_| AmountError::TooLarge)?;
        let micro: u64 = format!("{fraction:0<6}")
            .parse()
            .map_err(|_| not_a_number())?;
        whole
            .checked_mul(UTRM_PER_TRM)
            .and_then(|utrm| utrm.checked_add(micro))
            .ok_or(AmountError::TooLarge)
            .and_then(Self::from_utrm)
    }
}

impl fmt::Display for Amount {
    /// Decimal TRM without trailing zeros: `1.5`, `0.000001`, `1000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micro) = (self.0 / UTRM_PER_TRM, self.0 % UTRM_PER_TRM);
        if micro == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{micro:06}").trim_end_matches('0'))
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(AmountVisitor)
        } else {
            Self::from_utrm(u64::deserialize(deserializer)?).map_err(de::Error::custom)
        }
    }
}

struct AmountVisitor;

impl de::Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount of TRM as a decimal string such as \"1.25\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Amount, E> {
        whole.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Amount, E> {
        whole.to_string().parse().map_err(E::custom)
    }

    /// A JSON number with a fraction is accepted when its shortest text has at most six decimals.
    /// From 2^33 on, two amounts a µTRM apart can be the same number: only a text is exact there.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Amount, E> {
        const EXACT_BELOW: f64 = 8_589_934_592.0;
        if number.abs() >= EXACT_BELOW {
            return Err(E::custom(format!(
                "the number {number} is too large to be exact; write it as a text: \"{number}\""
            )));
        }
        number.to_string().parse().map_err(E::custom)
    }
}

impl JsonSchema for Amount {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "amount of TRM as a decimal string with at most six decimals, such as \"1.25\"",
            "pattern": r"^(0|[1-9][0-9]{0,10})(\.[0-9]{1,6})?$"
        })
    }
}

/// An [`Amount`] from a literal decimal number of TRM, checked at compile time: `trm!("0.25")`.
#[macro_export]
macro_rules! trm {
    ($text:literal) => {{
        const AMOUNT: $crate::Amount = $crate::amount::literal($text);
        AMOUNT
    }};
}

/// Reads the literal of [`trm!`].
///
/// # Panics
///
/// When `text` is not an amount, which at compile time is a compile error.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "evaluated at compile time, where every failure is a compile error"
)]
pub const fn literal(text: &str) -> Amount {
    let bytes = text.as_bytes();
    assert!(!bytes.is_empty(), "an amount needs digits");
    let (mut utrm, mut decimals, mut point, mut i) = (0_u64, 0, false, 0);
    while i < bytes.len() {
        match bytes[i] {
            digit @ b'0'..=b'9' => {
                utrm = utrm * 10 + (digit - b'0') as u64;
                decimals += point as u32;
            }
            b'.' => {
                assert!(!point && i > 0 && i + 1 < bytes.len(), "misplaced point");
                point = true;
            }
            _ => panic!("an amount is digits and at most one point"),
        }
        i += 1;
    }
    assert!(decimals <= 6, "an amount has at most six decimals");
    utrm *= 10_u64.pow(6 - decimals);
    assert!(utrm <= Amount::MAX.0, "more TRM than the supply cap");
    Amount(utrm)
}

/// What a provider asks relative to par, in parts per million; 1 000 000 is par.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Multiplier(u32);

impl Multiplier {
    /// One TRM for 10^9 FLOP.
    pub const PAR: Self = Self(1_000_000);

    /// A multiplier in parts per million.
    pub const fn from_ppm(ppm: u32) -> Self {
        Self(ppm)
    }

    /// Parts per million.
    pub const fn ppm(self) -> u32 {
        self.0
    }

    /// The price of `kflop` thousand nominal FLOP, rounded up to a whole µTRM.
    ///
    /// # Errors
    ///
    /// [`AmountError::TooLarge`] when the price exceeds [`Amount::MAX`].
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "a u64 times a u32 fits in a u128"
    )]
    pub fn price(self, kflop: u64) -> Result<Amount, AmountError> {
        let scaled = u128::from(kflop) * u128::from(self.0);
        Amount::try_from(scaled.div_ceil(1_000_000))
    }
}

/// Thousands of FLOP, rounded up; `None` when they do not fit in 64 bits.
pub fn kflop(flop: u128) -> Option<u64> {
    u64::try_from(flop.div_ceil(FLOP_PER_UTRM)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_not_amounts_are_refused() {
        for bad in [
            "",
            " ",
            "-5",
            "-0",
            "NaN",
            "1e99",
            "1e3",
            "+1",
            ".5",
            "5.",
            "1.0000001",
            "1,5",
            "0x1",
            "21000000000.000001",
            "99999999999999999999999",
            "١",
            "5 ",
        ] {
            assert!(bad.parse::<Amount>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_literal_is_the_amount_it_says() {
        for (literal, text) in [
            (trm!("5"), "5"),
            (trm!("0.25"), "0.25"),
            (trm!("0.000001"), "0.000001"),
        ] {
            assert_eq!(Ok(literal), text.parse());
        }
    }

    #[test]
    fn a_price_is_rounded_up_to_a_whole_utrm() {
        let half = Multiplier::from_ppm(500_000);
        assert_eq!(half.price(3).map(Amount::utrm), Ok(2));
        assert_eq!(Multiplier::from_ppm(1).price(1).map(Amount::utrm), Ok(1));
        assert_eq!(Multiplier::PAR.price(0).map(Amount::utrm), Ok(0));
        assert!(Multiplier::from_ppm(u32::MAX).price(u64::MAX).is_err());
    }

    #[test]
    fn json_numbers_are_accepted_when_exact_in_six_decimals() {
        let read = |json: &str| serde_json::from_str::<Amount>(json).map(Amount::utrm);
        assert_eq!(read("\"1.040449\"").ok(), Some(1_040_449));
        assert_eq!(read("1.5").ok(), Some(1_500_000));
        assert_eq!(read("7").ok(), Some(7_000_000));
        for bad in [
            "-1",
            "0.1234567",
            "1e99",
            "20999999999.999999",
            "8589934592.000001",
            "null",
            "true",
            "\"\"",
            "\"NaN\"",
            "[]",
        ] {
            assert!(read(bad).is_err(), "{bad} was accepted");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(utrm in 0..=Amount::MAX.utrm()) {
            let amount = Amount::from_utrm(utrm).unwrap();
            prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            if let Ok(amount) = text.parse::<Amount>() {
                prop_assert!(amount <= Amount::MAX);
            }
        }
    }
}
