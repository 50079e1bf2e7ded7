//! Quantities as Kubernetes writes them: `100m`, `1.5`, `64Mi`, `2G`, `1e3` (apimachinery `api/resource/quantity.go`).

use std::str::FromStr;

/// An amount, kept in billionths: the finest that a quantity can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// Text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no quantity: use digits with a suffix such as `500m`, `1.5`, `64Mi` or `2G`")]
pub struct InvalidQuantity(pub String);

const NANOS: i128 = 1_000_000_000;

impl Quantity {
    /// Whole units, rounded up as Kubernetes does: the bytes of a memory limit.
    #[must_use]
    pub fn units(self) -> i128 {
        divide_up(self.nanos, NANOS)
    }

    /// Thousandths, rounded up: the millicores of a cpu limit.
    #[must_use]
    pub fn millis(self) -> i128 {
        divide_up(self.nanos, NANOS / 1000)
    }
}

fn divide_up(value: i128, by: i128) -> i128 {
    let whole = value.div_euclid(by);
    if value.rem_euclid(by) == 0 { whole } else { whole + 1 }
}

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        parse(text).map(|nanos| Self { nanos }).ok_or_else(|| InvalidQuantity(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<i128> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (numerator, denominator) = multiplier(suffix)?;
    // Finer than a billionth is rounded up, as Kubernetes does.
    let nanos = divide_up(digits.checked_mul(numerator)?, scale.checked_mul(denominator)?);
    Some(if negative { -nanos } else { nanos })
}

/// What one unit with that suffix is in billionths, as a fraction.
fn multiplier(suffix: &str) -> Option<(i128, i128)> {
    let nanos = |factor: i128| Some((factor.checked_mul(NANOS)?, 1));
    match suffix {
        "n" => Some((1, 1)),
        "u" => Some((1_000, 1)),
        "m" => Some((1_000_000, 1)),
        "" => nanos(1),
        "k" => nanos(1_000),
        "M" => nanos(1_000_000),
        "G" => nanos(1_000_000_000),
        "T" => nanos(1_000_000_000_000),
        "P" => nanos(1_000_000_000_000_000),
        "E" => nanos(1_000_000_000_000_000_000),
        "Ki" => nanos(1 << 10),
        "Mi" => nanos(1 << 20),
        "Gi" => nanos(1 << 30),
        "Ti" => nanos(1 << 40),
        "Pi" => nanos(1 << 50),
        "Ei" => nanos(1 << 60),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs().min(30))?;
            if exponent < 0 { Some((NANOS, power)) } else { nanos(power) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[track_caller]
    fn check(text: &str, units: i128, millis: i128) {
        let quantity: Quantity = text.parse().expect("a quantity");
        assert_eq!((quantity.units(), quantity.millis()), (units, millis), "{text}");
    }

    #[test]
    fn quantities_read_as_kubernetes_reads_them() {
        check("0", 0, 0);
        check("100m", 1, 100);
        check("1.5", 2, 1500);
        check(".5", 1, 500);
        check("5.", 5, 5000);
        check("64Mi", 64 << 20, (64 << 20) * 1000);
        check("2G", 2_000_000_000, 2_000_000_000_000);
        check("1e3", 1000, 1_000_000);
        check("1E", 1_000_000_000_000_000_000, 1_000_000_000_000_000_000_000);
        check("1E2", 100, 100_000);
        check("12e-1", 2, 1200);
        check("1n", 1, 1);
        check("-1", -1, -1000);
        check("+3k", 3000, 3_000_000);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", ".", "-", "1.2.3", "1 Gi", "Mi", "1KB", "1ki", "0x10", "1e", "1Ee", "ä", "99999999999999999999999E"]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
