//! Resource quantities (apimachinery `api/resource/quantity.go`), exact to a thousandth and rounded up beyond it.

/// The quantity in thousandths, rounded up; `None` if it cannot be read. Values beyond what fits are the largest.
#[must_use]
pub(super) fn thousandths(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) || digits.len() > 30 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?;
    let (factor, exponent) = unit(suffix)?;
    let magnitude = shift(mantissa.saturating_mul(factor), exponent - scale + 3);
    Some(if negative { -magnitude } else { magnitude })
}

/// Binary factor and decimal exponent of a suffix.
fn unit(suffix: &str) -> Option<(i128, i32)> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(power) = binary.iter().position(|s| *s == suffix) {
        return Some((1 << (10 * (power + 1)), 0));
    }
    let decimal =
        [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    if let Some((_, exponent)) = decimal.iter().find(|(s, _)| *s == suffix) {
        return Some((1, *exponent));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    (-30..=30).contains(&exponent).then_some((1, exponent))
}

fn shift(value: i128, exponent: i32) -> i128 {
    let power = 10_i128.saturating_pow(exponent.unsigned_abs());
    if exponent >= 0 { value.saturating_mul(power) } else { (value + power - 1) / power }
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("1", 1000),
            ("0.5", 500),
            ("100m", 100),
            ("1500u", 2),
            ("1k", 1_000_000),
            ("64Mi", 64 * 1024 * 1024 * 1000),
            ("1.5Gi", 1536 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("-1", -1000),
            (".5", 500),
        ] {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "x", "1x", "1 Mi", "1.2.3", "--1", "1MiB", "e3", "1e99"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
