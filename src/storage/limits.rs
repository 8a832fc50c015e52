//! What a destination takes, keeps and hides.

use std::ops::RangeInclusive;

use jiff::SignedDuration;

use crate::line::description;
use crate::partsize;
use crate::units;

/// What a destination takes, and how long it keeps and hides things. What has
/// no value does not happen there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a part, but for the last.
    pub part: RangeInclusive<u64>,
    /// Parts of an archive.
    pub parts: u64,
    /// Bytes of an archive.
    pub whole: u64,
    /// Bytes of a description.
    pub about: usize,
    /// How long an upload is kept in which nothing moves.
    pub idle_upload: Option<SignedDuration>,
    /// How long after an archive was stored a list must have been made to
    /// prove that it is not there.
    pub list_lag: SignedDuration,
    /// A list that was asked for so long after a change is the last there
    /// will be: the service makes no new one of what does not change.
    pub list_silence: Option<SignedDuration>,
    /// How long a list or an archive may take to be brought up: what takes
    /// longer is not waited for.
    pub retrieval: SignedDuration,
    /// How long what was brought up can be read.
    pub output_lasts: Option<SignedDuration>,
}

/// Those of a vault (Amazon Glacier developer guide, "Uploading Large Archives
/// in Parts", "Downloading a Vault Inventory", "Downloading an Archive"). An
/// inventory is made about once a day, of a vault that changes; the slowest
/// retrieval takes twelve hours.
pub const VAULT: Limits = Limits {
    part: partsize::SMALLEST..=partsize::LARGEST,
    parts: partsize::PARTS,
    whole: partsize::LARGEST * partsize::PARTS,
    about: description::LONGEST,
    idle_upload: Some(SignedDuration::from_hours(24)),
    list_lag: SignedDuration::from_hours(26),
    list_silence: Some(SignedDuration::from_hours(72)),
    retrieval: SignedDuration::from_hours(24),
    output_lasts: Some(SignedDuration::from_hours(24)),
};

/// Those of a bucket (Amazon S3 user guide, "Amazon S3 multipart upload
/// limits", "Archive retrieval options"), and of services that speak like S3: a
/// part has at least 5 MiB, so that of the sizes here 8 MiB is the least. What
/// is stored is listed at once, an upload stays until it is dropped, and the
/// slowest restore takes 48 hours.
pub const BUCKET: Limits = Limits {
    part: 8 << 20..=partsize::LARGEST,
    parts: partsize::PARTS,
    whole: partsize::LARGEST * partsize::PARTS,
    about: description::LONGEST,
    idle_upload: None,
    list_lag: SignedDuration::ZERO,
    list_silence: None,
    retrieval: SignedDuration::from_hours(72),
    output_lasts: None,
};

impl Limits {
    /// Whether volumes of a size, in parts of another, can be stored.
    ///
    /// # Errors
    /// What does not fit.
    pub fn take(&self, part: u64, volume: u64) -> Result<(), String> {
        let (least, most) = (*self.part.start(), *self.part.end());
        if !self.part.contains(&part) {
            Err(format!(
                "parts of {} are not taken there; --part-size is {} to {}",
                units::bytes(part),
                units::bytes(least),
                units::bytes(most)
            ))
        } else if volume > self.whole || volume.div_ceil(part) > self.parts {
            let fits = self.whole.min(part.saturating_mul(self.parts));
            Err(format!(
                "a volume of {} is too large there; --volume-size is at most {} with such parts",
                units::bytes(volume),
                units::bytes(fits)
            ))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_does_not_fit_is_told_with_what_does() {
        let limits = Limits { part: 8 * MIB..=4096 * MIB, parts: 1000, ..VAULT };
        limits.take(8 * MIB, 8000 * MIB).unwrap();
        let why = limits.take(4 * MIB, 64 * MIB).unwrap_err();
        assert_eq!(why, "parts of 4 MiB are not taken there; --part-size is 8 MiB to 4 GiB");
        let why = limits.take(16 * MIB, 16_384 * MIB).unwrap_err();
        assert!(why.contains("at most 15.6 GiB with such parts"), "{why}");
    }
}
