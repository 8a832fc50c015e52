//! Where archives are stored, as a URL.

use std::fmt;
use std::str::FromStr;

use super::{BUCKET, Limits, VAULT};

/// A destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dest {
    /// `glacier://VAULT`; a bare word means this.
    Glacier {
        /// The vault's name: 1 to 255 of `a-zA-Z0-9_.-` (Amazon Glacier API
        /// reference, "Create Vault").
        vault: String,
    },
    /// `s3://BUCKET/PREFIX`, or `s3://BUCKET`.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// What the keys of all archives begin with; nothing, or text that
        /// neither begins nor ends with a `/`.
        prefix: String,
    },
}

/// Bytes of a prefix, at most.
const PREFIX: usize = 200;

/// The destination in a bucket, by what stands behind `s3://`.
fn in_bucket(text: &str) -> Result<Dest, String> {
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if bucket.starts_with("arn:") {
        return Err("an access point's ARN is no destination here; name its bucket".into());
    }
    if bucket.ends_with("--x-s3") {
        return Err("a directory bucket has no archive classes; name another bucket".into());
    }
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    let ends = |c: char| c.is_ascii_alphanumeric();
    let is_good = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(good)
        && bucket.starts_with(ends)
        && bucket.ends_with(ends)
        && !bucket.contains("..");
    if !is_good {
        return Err(
            "a bucket's name is 3 to 63 lower-case letters, digits, \".\" or \"-\", with a letter or digit at its ends"
                .into(),
        );
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-');
    let is_step = |step: &str| !matches!(step, "" | "." | "..");
    let is_good = prefix.bytes().all(good) && prefix.split('/').all(is_step);
    if prefix.len() > PREFIX || !(prefix.is_empty() || is_good) {
        return Err(format!(
            "a prefix is at most {PREFIX} letters, digits, \".\", \"_\" or \"-\", with single \"/\" between"
        ));
    }
    Ok(Dest::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

impl FromStr for Dest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let vault = match text.split_once("://") {
            None => text,
            Some(("glacier", vault)) => vault,
            Some(("s3", place)) => return in_bucket(place),
            Some((scheme, _)) => {
                return Err(format!(
                    "\"{scheme}://\" is no destination here; use glacier://VAULT or s3://BUCKET/PREFIX"
                ));
            }
        };
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if vault.is_empty() || vault.len() > 255 || !vault.bytes().all(good) {
            return Err("a vault's name is 1 to 255 letters, digits, \"_\", \".\" or \"-\"".into());
        }
        Ok(Self::Glacier { vault: vault.to_owned() })
    }
}

impl Dest {
    /// What it takes.
    pub fn limits(&self) -> &'static Limits {
        match self {
            Self::Glacier { .. } => &VAULT,
            Self::S3 { .. } => &BUCKET,
        }
    }

    /// The option that creates the place where there is none.
    pub fn creates(&self) -> &'static str {
        match self {
            Self::Glacier { .. } => "--create-vault",
            Self::S3 { .. } => "--create-bucket",
        }
    }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glacier { vault } => write!(f, "glacier://{vault}"),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_word_is_a_vault() {
        let vault: Dest = "my-vault".parse().unwrap();
        assert_eq!(vault.to_string(), "glacier://my-vault");
        assert_eq!(vault, "glacier://my-vault".parse().unwrap());
        for bad in ["", "glacier://", "a/b", "../x", "a b", "gs://bucket", "glacier://ü"] {
            assert!(bad.parse::<Dest>().is_err(), "{bad}");
        }
        assert!("x".repeat(255).parse::<Dest>().is_ok());
        assert!("x".repeat(256).parse::<Dest>().is_err());
    }

    #[test]
    fn a_bucket_has_a_prefix_or_none() {
        for (text, told) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/nas/Tank_1", "s3://my.bucket-1/nas/Tank_1"),
            ("s3://bucket/nas/", "s3://bucket/nas"),
        ] {
            let dest: Dest = text.parse().unwrap();
            assert_eq!(dest.to_string(), told);
            assert_eq!(dest, told.parse().unwrap());
        }
        for bad in [
            "s3://",
            "s3://b/p",
            "s3://Bucket",
            "s3://-bucket",
            "s3://bucket./p",
            "s3://a..b",
            "s3://bucket//p",
            "s3://bucket/p//q",
            "s3://bucket/../q",
            "s3://bucket/./q",
            "s3://bucket/p q",
            "s3://bucket/ü",
            "s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/a",
            "s3://bucket--use1-az4--x-s3",
            &format!("s3://bucket/{}", "x".repeat(201)),
        ] {
            assert!(bad.parse::<Dest>().is_err(), "{bad}");
        }
    }
}
