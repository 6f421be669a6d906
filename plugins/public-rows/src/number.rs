//! Numbers, compared as they are written: a `numeric` may have more digits than any float.

use std::cmp::Ordering;

/// A number of the configuration.
#[derive(Debug)]
pub(crate) struct Number {
    text: String,
    int: Option<i64>,
    float: f64,
}

/// A number of any length.
#[derive(PartialEq, Eq)]
struct Decimal<'a> {
    negative: bool,
    /// Without zeros in front.
    whole: &'a str,
    /// Without zeros at the end.
    fraction: &'a str,
}

impl Number {
    /// None if it is no number, or one with an exponent.
    pub(crate) fn read(text: &str) -> Option<Self> {
        Decimal::read(text)?;
        Some(Self { int: text.parse().ok(), float: text.parse().ok()?, text: text.to_owned() })
    }

    /// How the value stands to this number.
    pub(crate) fn than_int(&self, value: i64) -> Ordering {
        match self.int {
            Some(int) => value.cmp(&int),
            // A fraction, or beyond 64 bits.
            None => self.than_text(&value.to_string()).unwrap_or(Ordering::Equal),
        }
    }

    /// NaN is above all, as in Postgres.
    pub(crate) fn than_float(&self, value: f64) -> Ordering {
        value.partial_cmp(&self.float).unwrap_or(Ordering::Greater)
    }

    /// A `numeric`; None if it is none.
    pub(crate) fn than_text(&self, value: &str) -> Option<Ordering> {
        match value {
            "NaN" | "Infinity" => Some(Ordering::Greater),
            "-Infinity" => Some(Ordering::Less),
            _ => Some(Decimal::read(value)?.cmp(&Decimal::read(&self.text)?)),
        }
    }
}

impl<'a> Decimal<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !zero, whole, fraction })
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let size = |a: &Self, b: &Self| {
            let whole = a.whole.len().cmp(&b.whole.len()).then_with(|| a.whole.cmp(b.whole));
            whole.then_with(|| a.fraction.cmp(b.fraction))
        };
        match (self.negative, other.negative) {
            (false, false) => size(self, other),
            (true, true) => size(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_digit_by_digit() {
        // In order.
        let numbers = [
            "-Infinity",
            "-10.5",
            "-10",
            "-9.99",
            "-0.1",
            "0",
            "0.09",
            "0.1",
            "0.11",
            "1",
            "1.5",
            "9007199254740992.9",
            "9007199254740993",
            "9223372036854775808",
            "Infinity",
            "NaN",
        ];
        for (at, value) in numbers.iter().enumerate() {
            for (other, with) in numbers.iter().enumerate() {
                let Some(number) = Number::read(with) else { continue };
                let expected = at.cmp(&other);
                assert_eq!(number.than_text(value), Some(expected), "{value} and {with}");
                if let Ok(int) = value.parse() {
                    assert_eq!(number.than_int(int), expected, "{value} and {with}");
                }
            }
        }
        for (value, with) in [("1.10", "1.1"), ("-0.0", "0"), ("007", "7")] {
            assert_eq!(Number::read(with).unwrap().than_text(value), Some(Ordering::Equal));
        }
        assert_eq!(Number::read("1.5").unwrap().than_float(f64::NAN), Ordering::Greater);
        assert_eq!(Number::read("0.1").unwrap().than_float(0.1), Ordering::Equal);
        for bad in ["", "-", ".5", "1e3", "1.2.3", "NaN", "+1", "١"] {
            assert!(Number::read(bad).is_none(), "{bad}");
            if bad != "NaN" {
                assert_eq!(Number::read("1").unwrap().than_text(bad), None, "{bad}");
            }
        }
    }
}
