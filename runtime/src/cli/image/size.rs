//! Bytes for people: decimal units, three digits.

/// `512B`, `3.5MB`, `142MB`.
pub(super) fn text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        rest = whole % 1000;
        whole /= 1000;
        unit += 1;
    }
    let text = match (unit, whole) {
        (0, _) | (_, 100..) => whole.to_string(),
        (_, 10..) => format!("{whole}.{}", rest / 100),
        _ => format!("{whole}.{:02}", rest / 10),
    };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn sizes_are_short() {
        for (bytes, expected) in [
            (0, "0B"),
            (512, "512B"),
            (3_500_000, "3.5MB"),
            (141_900_000, "141MB"),
            (1_000, "1kB"),
            (12_340, "12.3kB"),
            (7_050_000_000, "7.05GB"),
        ] {
            assert_eq!(text(bytes), expected);
        }
    }
}
