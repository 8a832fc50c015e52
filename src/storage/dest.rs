//! Where archives are stored, as a URL.

use std::fmt;
use std::str::FromStr;

use super::{Limits, VAULT};

/// A destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dest {
    /// `glacier://VAULT`; a bare word means this.
    Glacier {
        /// The vault's name: 1 to 255 of `a-zA-Z0-9_.-` (Amazon Glacier API
        /// reference, "Create Vault").
        vault: String,
    },
}

impl FromStr for Dest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let vault = match text.split_once("://") {
            None => text,
            Some(("glacier", vault)) => vault,
            Some((scheme, _)) => {
                return Err(format!("\"{scheme}://\" is no destination here; use glacier://VAULT"));
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
        }
    }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glacier { vault } => write!(f, "glacier://{vault}"),
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
        for bad in ["", "glacier://", "a/b", "../x", "a b", "s3://b/p", "glacier://ü"] {
            assert!(bad.parse::<Dest>().is_err(), "{bad}");
        }
        assert!("x".repeat(255).parse::<Dest>().is_ok());
        assert!("x".repeat(256).parse::<Dest>().is_err());
    }
}
