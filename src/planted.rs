//! Faults planted on purpose, to see whether the laboratory finds them.
//!
//! A laboratory that has never been red proves nothing. With the feature
//! `planted`, `AKASHITA_PLANTED` names the one fault that a program then has;
//! without it, which is how programs are used, all of this is the constant
//! `false`. `tests/faultlab/alarm.rs` demands that each is found.

/// A fault that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A part is renamed before its bytes are on disk (I3).
    PartSync,
    /// A part is announced before its name is on disk (I3).
    DirectorySync,
    /// A part is announced before it has its name (I3).
    EarlyLine,
    /// Parts leave the spool when their archive is asked for, not when it is
    /// there (I2).
    EarlyRemoval,
    /// Journal and catalog are relied on before they are on disk (I2).
    BooksSync,
    /// The end of the input is taken for the end of the stream (I1).
    EndOfInput,
    /// put does not compare the service's checksum of an archive (I2).
    ArchiveHash,
    /// get passes on what it did not verify (I5).
    PartHash,
    /// A linear hash is put back beside the lock under which it is looked for.
    HashOrder,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::PartSync,
        Self::DirectorySync,
        Self::EarlyLine,
        Self::EarlyRemoval,
        Self::BooksSync,
        Self::EndOfInput,
        Self::ArchiveHash,
        Self::PartHash,
        Self::HashOrder,
    ];

    /// What `AKASHITA_PLANTED` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PartSync => "part-sync",
            Self::DirectorySync => "directory-sync",
            Self::EarlyLine => "early-line",
            Self::EarlyRemoval => "early-removal",
            Self::BooksSync => "books-sync",
            Self::EndOfInput => "end-of-input",
            Self::ArchiveHash => "archive-hash",
            Self::PartHash => "part-hash",
            Self::HashOrder => "hash-order",
        }
    }

    /// Whether this program has it.
    #[cfg(feature = "planted")]
    pub fn is_planted(self) -> bool {
        std::env::var_os("AKASHITA_PLANTED").is_some_and(|name| name == self.name())
    }

    /// Whether this program has it: no.
    #[cfg(not(feature = "planted"))]
    pub const fn is_planted(self) -> bool {
        false
    }
}
