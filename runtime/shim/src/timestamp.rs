//! Wall-clock time as text. Pure: the time is passed in.

use std::time::Duration;

const SECONDS_A_DAY: u64 = 86_400;

/// RFC 3339 in UTC with nine decimals, as in a CRI log line: `2026-01-01T00:00:00.000000000Z`.
pub(crate) fn rfc3339_nanos(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_from_days(seconds / SECONDS_A_DAY);
    let of_day = seconds % SECONDS_A_DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since_epoch.subsec_nanos())
}

/// Year, month and day of a number of days after 1970-01-01, in the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is the last day of a year.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + DAYS_FROM_MARCH_OF_YEAR_0;
    let era = days / DAYS_IN_400_YEARS;
    let day_of_era = days % DAYS_IN_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rfc3339_nanos;

    #[test]
    fn known_moments_are_written_as_rfc_3339_says() {
        let check = |seconds, nanos, expected| assert_eq!(rfc3339_nanos(Duration::new(seconds, nanos)), expected);
        check(0, 0, "1970-01-01T00:00:00.000000000Z");
        check(951_782_400, 5, "2000-02-29T00:00:00.000000005Z");
        check(1_767_225_599, 999_999_999, "2025-12-31T23:59:59.999999999Z");
        check(1_767_225_600, 0, "2026-01-01T00:00:00.000000000Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z");
    }
}
