//! The sizes of parts and volumes: 2^n MiB, so that tree hashes fold.
//!
//! Limits are those of Amazon Glacier ("Uploading Large Archives in Parts"):
//! a part is 1 MiB to 4 GiB, an archive has at most 10,000 parts; here at
//! most [`PARTS`], a power of two.

use crate::units::{bytes, size};

const MIB: u64 = 1 << 20;

/// The smallest part.
pub const SMALLEST: u64 = MIB;

/// The largest part.
pub const LARGEST: u64 = 4 << 30;

/// Parts in a volume, at most.
pub const PARTS: u64 = 8192;

/// The size of a part when nothing else is said, as an option has it.
pub const PART: &str = "16M";

/// The size of a volume when nothing else is said.
pub const VOLUME: &str = "4G";

/// The size of a part from an option's text.
///
/// # Errors
/// What is wrong with it, with the nearest good sizes.
pub fn part(text: &str) -> Result<u64, String> {
    power_of_two(size(text)?, SMALLEST, LARGEST)
}

/// The size of a volume from an option's text; whether its parts are few
/// enough is [`fits`]'s to say.
///
/// # Errors
/// What is wrong with it, with the nearest good sizes.
pub fn volume(text: &str) -> Result<u64, String> {
    power_of_two(size(text)?, SMALLEST, LARGEST * PARTS)
}

/// Whether this is the size of a part, as a line tells it.
pub fn is_part(size: u64) -> bool {
    power_of_two(size, SMALLEST, LARGEST).is_ok()
}

fn power_of_two(size: u64, smallest: u64, largest: u64) -> Result<u64, String> {
    if size.is_power_of_two() && (smallest..=largest).contains(&size) {
        return Ok(size);
    }
    let above = size.checked_next_power_of_two().unwrap_or(largest).clamp(smallest, largest);
    let below = (above / 2).clamp(smallest, largest);
    let nearest = if (smallest..=largest).contains(&size) {
        format!("{} and {}", bytes(below), bytes(above))
    } else {
        bytes(above)
    };
    Err(format!(
        "not a power of two of MiB from {} to {}; nearest: {nearest}",
        bytes(smallest),
        bytes(largest)
    ))
}

/// Whether these are the sizes of parts and volumes, as a line tells them.
///
/// # Errors
/// Names the one that is wrong.
pub fn are(part_size: u64, volume_size: u64) -> Result<(), String> {
    power_of_two(part_size, SMALLEST, LARGEST).map_err(|why| format!("part_size: {why}"))?;
    power_of_two(volume_size, SMALLEST, LARGEST * PARTS)
        .map_err(|why| format!("volume_size: {why}"))?;
    fits(part_size, volume_size)
}

/// Whether volumes can be cut into such parts.
///
/// # Errors
/// What does not fit, with the nearest size that does.
pub fn fits(part_size: u64, volume_size: u64) -> Result<(), String> {
    if volume_size < part_size {
        Err(format!(
            "a volume of {} is smaller than a part of {}",
            bytes(volume_size),
            bytes(part_size)
        ))
    } else if volume_size / part_size > PARTS {
        Err(format!(
            "a volume of {} would have more than {PARTS} parts of {}; use parts of {}",
            bytes(volume_size),
            bytes(part_size),
            bytes(volume_size / PARTS)
        ))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_good_sizes() {
        assert_eq!(part("16M"), Ok(16 << 20));
        assert_eq!(part("4GiB"), Ok(4 << 30));
        assert_eq!(volume("32T"), Ok(32 << 40));
        for (text, nearest) in [
            ("17M", "nearest: 16 MiB and 32 MiB"),
            ("1000000", "nearest: 1 MiB"),
            ("5G", "nearest: 4 GiB"),
            ("0", "nearest: 1 MiB"),
            ("3G", "nearest: 2 GiB and 4 GiB"),
        ] {
            let error = part(text).unwrap_err();
            assert!(error.ends_with(nearest), "{text}: {error}");
        }
    }

    #[test]
    fn a_volume_has_one_to_8192_parts() {
        assert!(fits(16 << 20, 4 << 30).is_ok());
        assert!(fits(1 << 20, 1 << 20).is_ok());
        assert!(fits(1 << 20, 8 << 30).is_ok());
        assert!(fits(1 << 20, 16 << 30).unwrap_err().ends_with("use parts of 2 MiB"));
        assert!(fits(32 << 20, 16 << 20).is_err());
    }
}
