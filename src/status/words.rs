//! Times, sizes and names as people read them.

use std::time::Duration;

use crate::wal::name::SegmentName;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A time in its two largest units: `12 min 40 s`, `26 h`.
#[must_use]
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let in_units = |unit: u64, name: &str, smaller: u64, smaller_name: &str| {
        let whole = seconds.checked_div(unit).unwrap_or_default();
        let rest = seconds.checked_rem(unit).and_then(|it| it.checked_div(smaller));
        match rest.unwrap_or_default() {
            0 => format!("{whole} {name}"),
            rest => format!("{whole} {name} {rest} {smaller_name}"),
        }
    };
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => in_units(MINUTE, "min", 1, "s"),
        HOUR..172_800 => in_units(HOUR, "h", MINUTE, "min"),
        _ => in_units(DAY, "days", HOUR, "h"),
    }
}

/// A size in the largest unit of which it has at least one, rounded down; of few with tenths.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(30, "TB"), (20, "GB"), (10, "MB"), (0, "kB")];
    let tenths = |power: u32| (bytes >> power).saturating_mul(10) >> 10;
    let fitting = units.into_iter().map(|(power, unit)| (tenths(power), unit));
    match fitting.into_iter().find(|(tenths, _)| *tenths >= 10) {
        None => format!("{bytes} bytes"),
        Some((tenths, unit)) => {
            let (whole, rest) = (tenths.checked_div(10), tenths.checked_rem(10));
            match (whole.unwrap_or_default(), rest.unwrap_or_default()) {
                (whole @ 0..10, rest @ 1..) => format!("{whole}.{rest} {unit}"),
                (whole, _) => format!("{whole} {unit}"),
            }
        }
    }
}

/// `1 segment`, `7 segments`.
#[must_use]
pub fn count(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// A name that anybody may have given: in quotes and with escapes where it is not a plain word.
#[must_use]
pub fn name(name: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    if name.chars().all(is_plain) { name.to_owned() } else { format!("{name:?}") }
}

/// A text of others in one line, without what a terminal would act upon.
#[must_use]
pub fn harmless(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// A segment next to another one that is named in full: only its last digits, where the others are the same.
#[must_use]
pub fn short(name: SegmentName, beside: SegmentName) -> String {
    if name.timeline == beside.timeline && name.position.log == beside.position.log {
        format!("{:02X}", name.position.segment)
    } else {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_the_units_that_fit() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (760, "12 min 40 s"),
            (93_600, "26 h"),
            (93_660, "26 h 1 min"),
            (864_000 + 3600, "10 days 1 h"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), words);
        }
        for (bytes, words) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 kB"),
            (80 << 20, "80 MB"),
            (3 << 29, "1.5 GB"),
            (41 << 30, "41 GB"),
            (u64::MAX, "16777215 TB"),
        ] {
            assert_eq!(size(bytes), words);
        }
        assert_eq!([count(1_u64, "segment"), count(7_u64, "segment")], ["1 segment", "7 segments"]);
    }
}
