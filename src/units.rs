//! Sizes, rates and durations, as they are typed and as they are printed.
//!
//! K, M, G and T are binary everywhere, with or without `iB`; rates in bits
//! are decimal, as uplinks are sold.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

const BINARY: [(&str, u32); 4] = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];

/// Splits `16MiB` into 16 and `MiB`.
fn split(text: &str) -> Result<(u64, &str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number = number.parse().map_err(|_| format!("\"{text}\" does not begin with a number"))?;
    Ok((number, unit))
}

/// What reads a whole number within bounds.
pub fn within<N>(least: N, most: N) -> impl Fn(&str) -> Result<N, String> + Clone
where
    N: Copy + PartialOrd + Display + FromStr,
{
    move |text| match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("not a whole number from {least} to {most}")),
    }
}

/// A size in bytes from `1048576`, `16M`, `4GiB`.
///
/// # Errors
/// What is wrong with the text.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    let unit = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        unit => BINARY
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .map(|(_, shift)| *shift)
            .ok_or_else(|| format!("\"{text}\" is no size; use bytes, or K, M, G, T"))?,
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("\"{text}\" is too large"))
}

/// A size, or `None` for `none`.
///
/// # Errors
/// What is wrong with the text.
pub fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit::None),
        text => size(text).map(Limit::Bytes),
    }
}

/// A limit that can be switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// As much as there is.
    None,
    /// No more than this many bytes.
    Bytes(u64),
}

/// A rate in bytes a second from `5M` (binary, bytes) or `80Mbit` (decimal,
/// bits).
///
/// # Errors
/// What is wrong with the text.
pub fn rate(text: &str) -> Result<u64, String> {
    let bits = text.strip_suffix("bit/s").or_else(|| text.strip_suffix("bit"));
    let rate = match bits {
        None => size(text.strip_suffix("/s").unwrap_or(text))?,
        Some(bits) => {
            let (number, unit) = split(bits)?;
            let factor: u64 = match unit {
                "" => 1,
                "k" | "K" => 1_000,
                "M" => 1_000_000,
                "G" => 1_000_000_000,
                _ => return Err(format!("\"{text}\" is no rate; use 5M or 80Mbit")),
            };
            number.checked_mul(factor).ok_or_else(|| format!("\"{text}\" is too large"))? / 8
        }
    };
    if rate == 0 { Err(format!("\"{text}\" moves nothing")) } else { Ok(rate) }
}

/// A duration from `90s`, `5m`, `8h`, `2d`.
///
/// # Errors
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(format!("\"{text}\" is no duration; use 90s, 5m, 8h or 2d")),
    };
    number
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("\"{text}\" is too large"))
}

/// Bytes as people read them: `16 MiB`, `1.5 GiB`, `512 bytes`.
pub fn bytes(size: u64) -> String {
    let mut unit = "bytes";
    let (mut whole, mut tenths) = (size, 0);
    for name in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (whole, tenths) = (whole / 1024, whole % 1024 * 10 / 1024);
        unit = name;
    }
    if tenths == 0 || unit == "bytes" {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{tenths} {unit}")
    }
}

/// A duration as people read it: `2 d 3 h`, `5 min`, `12 s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("16M", 16 << 20),
            ("4GiB", 4 << 30),
            ("1kB", 1024),
            ("2t", 2 << 40),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "1.5G", "16X", "16 M", "99999999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(limit("none"), Ok(Limit::None));
    }

    #[test]
    fn rates_in_bits_are_decimal() {
        assert_eq!(rate("5M"), Ok(5 << 20));
        assert_eq!(rate("5M/s"), Ok(5 << 20));
        assert_eq!(rate("80Mbit"), Ok(10_000_000));
        assert_eq!(rate("1Gbit/s"), Ok(125_000_000));
        assert!(rate("0").is_err() && rate("7bit").is_err() && rate("5Xbit").is_err());
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("8h"), Ok(Duration::from_hours(8)));
        assert!(duration("5").is_err() && duration("h").is_err());
    }

    #[test]
    fn prints_what_people_read() {
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(16 << 20), "16 MiB");
        assert_eq!(bytes(5 << 40), "5 TiB");
        assert_eq!(time(Duration::from_secs(12)), "12 s");
        assert_eq!(time(Duration::from_mins(500)), "8 h 20 min");
        assert_eq!(time(Duration::from_hours(50)), "2 d 2 h");
    }
}
