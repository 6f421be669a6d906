//! Numbers as decimal digits, of any size: compared without rounding.

use std::cmp::Ordering;

/// A number as Postgres and JSON write them, ordered as Postgres orders `numeric`: NaN is equal to
/// itself and above all else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decimal {
    NegativeInfinity,
    /// `0.DIGITS` × 10^exponent.
    Finite {
        is_negative: bool,
        /// Without zeros at either end; empty of zero.
        digits: Box<str>,
        /// 0 of zero.
        exponent: i64,
    },
    Infinity,
    NaN,
}

impl Decimal {
    /// None if it is no number.
    pub(super) fn read(text: &str) -> Option<Self> {
        match text {
            "NaN" => return Some(Self::NaN),
            "Infinity" => return Some(Self::Infinity),
            "-Infinity" => return Some(Self::NegativeInfinity),
            _ => {}
        }
        let (is_negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, power) = match rest.split_once(['e', 'E']) {
            // Of so many digits nobody means one; what is longer is no number here.
            Some((mantissa, power)) if power.len() <= 10 => (mantissa, power.parse().ok()?),
            Some(_) => return None,
            None => (rest, 0_i64),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all: String = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let leading = all.bytes().take_while(|byte| *byte == b'0').count();
        let digits = all.trim_matches('0');
        if digits.is_empty() {
            return Some(Self::Finite { is_negative: false, digits: "".into(), exponent: 0 });
        }
        let exponent = i64::try_from(whole.len()).ok()? - i64::try_from(leading).ok()? + power;
        Some(Self::Finite { is_negative, digits: digits.into(), exponent })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite { .. } => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let (
            Self::Finite { is_negative, digits, exponent },
            Self::Finite {
                is_negative: their_sign,
                digits: their_digits,
                exponent: their_exponent,
            },
        ) = (self, other)
        else {
            return self.rank().cmp(&other.rank());
        };
        let magnitude = || {
            // Zero is below all others, whatever their exponents.
            let empty = their_digits.is_empty().cmp(&digits.is_empty());
            empty.then(exponent.cmp(their_exponent)).then_with(|| digits.cmp(their_digits))
        };
        match (is_negative, their_sign) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn numbers_are_ordered_to_the_last_digit() {
        let rising = [
            "-Infinity",
            "-1e400",
            "-12345678901234567890.2",
            "-12345678901234567890.1",
            "-1",
            "-0.5",
            "-1e-400",
            "0",
            "1e-400",
            "0.1",
            "0.10000000000000000000000000000000001",
            "9",
            "10",
            "9007199254740992",
            "9007199254740993",
            "1e400",
            "Infinity",
            "NaN",
        ];
        for (at, one) in rising.iter().enumerate() {
            for (place, other) in rising.iter().enumerate() {
                assert_eq!(read(one).cmp(&read(other)), at.cmp(&place), "{one} {other}");
            }
        }
    }

    #[test]
    fn one_number_has_many_forms() {
        for (one, other) in [
            ("1.50", "1.5"),
            ("+007", "7"),
            ("-0", "0.000"),
            ("1e2", "100"),
            ("1.5E-1", ".15"),
            ("12.", "12"),
            ("0.001e3", "1"),
        ] {
            assert_eq!(read(one), read(other), "{one} {other}");
        }
        for none in ["", "-", ".", "1,5", "0x1", "1e", "e1", "1e99999999999", "١", "1 ", "--1"] {
            assert_eq!(Decimal::read(none), None, "{none:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn integers_are_ordered_as_integers(one: i128, other: i128) {
            let order = read(&one.to_string()).cmp(&read(&other.to_string()));
            proptest::prop_assert_eq!(order, one.cmp(&other));
        }

        #[test]
        fn a_shifted_point_is_another_power(number: i64, power in 0_usize..30) {
            let shifted = format!("{number}{}e-{power}", "0".repeat(power));
            proptest::prop_assert_eq!(read(&shifted), read(&number.to_string()));
        }
    }
}
