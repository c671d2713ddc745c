//! A moment as text and back: RFC 3339, in UTC. Pure; which moments, and where they are written, is for others to say.

use std::fmt;
use std::time::SystemTime;

/// A moment, in milliseconds since 1970. It prints with as many digits as [`fmt::Formatter::precision`] asks for: `{:.3}`
/// shows milliseconds, `{}` whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

const DAY: u64 = 24 * 60 * 60;
/// From March of the year 0 to January 1970. Years that begin in March have their leap day at the end.
const DAYS_BEFORE_1970: u64 = 719_468;
/// The days of 400 years, after which the calendar repeats itself.
const ERA: u64 = 146_097;

impl Timestamp {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Reads whole seconds as `2026-01-31T23:59:59Z`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let [year, month, day] = numbers(date, '-')?;
        let [hour, minute, second] = numbers(time, ':')?;
        let is_time = hour < 24 && minute < 60 && second < 60;
        if !is_time || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
            return None;
        }
        let seconds = days(year, month, day)?
            .checked_mul(24)?
            .checked_add(hour)?
            .checked_mul(60)?
            .checked_add(minute)?
            .checked_mul(60)?
            .checked_add(second)?;
        seconds.checked_mul(1000).map(Self)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(since.as_millis().try_into().unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millisecond) = (self.0 / 1000, self.0 % 1000);
        let (year, month, day) = date(seconds / DAY);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match f.precision() {
            Some(_) => write!(f, ".{millisecond:03}Z"),
            None => write!(f, "Z"),
        }
    }
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(separator).map(|it| it.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Days from 1970 to a date.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // Counted from March: the days before a month then follow one formula.
    let (year, month) = if month > 2 {
        (year, month.checked_sub(3)?)
    } else {
        (year.checked_sub(1)?, month.checked_add(9)?)
    };
    let before_month = month.checked_mul(153)?.checked_add(2)? / 5;
    let leap_days = (year / 4).checked_sub(year / 100)?.checked_add(year / 400)?;
    let before_year = year.checked_mul(365)?.checked_add(leap_days)?;
    let days = before_year.checked_add(before_month)?.checked_add(day)?.checked_sub(1)?;
    days.checked_sub(DAYS_BEFORE_1970)
}

/// Year, month and day of a day after 1970.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day.saturating_add(DAYS_BEFORE_1970);
    let (era, of_era) = (day / ERA, day % ERA);
    let leap_days = (of_era / 1460).saturating_add(of_era / 146_096);
    let leap_days = leap_days.saturating_sub(of_era / 36_524);
    let year = of_era.saturating_sub(leap_days) / 365;
    let before_year = year.saturating_mul(365).saturating_add(year / 4).saturating_sub(year / 100);
    let of_year = of_era.saturating_sub(before_year);
    let month = of_year.saturating_mul(5).saturating_add(2) / 153;
    let before_month = month.saturating_mul(153).saturating_add(2) / 5;
    let of_month = of_year.saturating_sub(before_month).saturating_add(1);
    let year = era.saturating_mul(400).saturating_add(year);
    if month < 10 {
        (year, month.saturating_add(3), of_month)
    } else {
        (year.saturating_add(1), month.saturating_sub(9), of_month)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_written_as_rfc_3339_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(seconds * 1000).to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp(seconds * 1000)));
        }
        assert_eq!(format!("{:.3}", Timestamp(1_002)), "1970-01-01T00:00:01.002Z");
        for none in ["", "Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01 00:00:00"]
        {
            assert_eq!(Timestamp::parse(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..253_402_300_799_u64) {
            let moment = Timestamp(seconds * 1000);
            prop_assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        }

        #[test]
        fn any_text_is_a_moment_or_not(text: String, numbers: [u64; 6]) {
            let [a, b, c, d, e, f] = numbers;
            let _ = Timestamp::parse(&text);
            let _ = Timestamp::parse(&format!("{a}-{b}-{c}T{d}:{e}:{f}Z"));
            let _ = Timestamp(a).to_string();
        }
    }
}
