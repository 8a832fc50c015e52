//! Faults planted on purpose, to see whether the laboratory finds them: one
//! that has never been red proves nothing.
//!
//! They are in no program that is used, but in a copy of the source that the
//! laboratory makes. `AKASHITA_PLANTED` names the one that such a program has.

use std::fs;
use std::io;
use std::path::Path;

use super::swap::Swap;

/// A fault, and who must find it.
pub struct Planted {
    /// What `AKASHITA_PLANTED` calls it.
    pub name: &'static str,
    /// The layer, in how many runs at most, and where in it to look.
    pub layer: &'static str,
    pub runs: u64,
    pub target: &'static str,
    /// Where a program asks whether it has it.
    pub swaps: &'static [Swap],
}

/// All of them.
pub const PLANTED: &[Planted] = &[
    // A part is renamed before its bytes are on disk (I3).
    Planted {
        name: "part-sync",
        layer: "cuts",
        runs: 200,
        target: "",
        swaps: &[
            Swap {
                file: "spool/stream.rs",
                right: "    let size = std::num::NonZeroU64::new(size as u64);
    // Only a hint",
                wrong: "    if crate::planted::is(\"part-sync\") {
        return;
    }
    let size = std::num::NonZeroU64::new(size as u64);
    // Only a hint",
            },
            Swap {
                file: "spool/stream.rs",
                right: "        file.sync_all()?;
        beneath::rename((&self.directory, new), (&self.directory, name))?;",
                wrong: "        if !crate::planted::is(\"part-sync\") {
            file.sync_all()?;
        }
        beneath::rename((&self.directory, new), (&self.directory, name))?;",
            },
        ],
    },
    // A part is announced before its name is on disk (I3).
    Planted {
        name: "directory-sync",
        layer: "cuts",
        runs: 200,
        target: "",
        swaps: &[Swap {
            file: "spool/stream.rs",
            right: "(&self.directory, name))?;
        sync(&self.directory)
",
            wrong: "(&self.directory, name))?;
        if crate::planted::is(\"directory-sync\") { Ok(()) } else { sync(&self.directory) }
",
        }],
    },
    // A part is announced before it has its name (I3).
    Planted {
        name: "early-line",
        layer: "kills",
        runs: 200,
        target: "",
        swaps: &[
            Swap {
                file: "tools/chunk/writer.rs",
                right: "        if let Some(file) = self.part_file.take() {
            file.seal()?;",
                wrong: "        if crate::planted::is(\"early-line\") {
            self.announce(&line)?;
        }
        if let Some(file) = self.part_file.take() {
            file.seal()?;",
            },
            Swap {
                file: "tools/chunk/writer.rs",
                right: "        self.announce(&line)?;
        self.parts.push(hashes.treehash);",
                wrong: "        if !crate::planted::is(\"early-line\") {
            self.announce(&line)?;
        }
        self.parts.push(hashes.treehash);",
            },
        ],
    },
    // Parts leave the spool when their archive is asked for, not when it is
    // there (I2).
    Planted {
        name: "early-removal",
        layer: "kills",
        runs: 200,
        target: "",
        swaps: &[Swap {
            file: "tools/put/worker.rs",
            right: "        let part_size = self.plan.stream().part_size;
        let terms = self.terms(target);",
            wrong: "        if let (Target::Volume(volume), Ask::Complete { .. }) = (target, &action.ask)
            && crate::planted::is(\"early-removal\")
        {
            self.directory.remove(volume, 0)?;
        }
        let part_size = self.plan.stream().part_size;
        let terms = self.terms(target);",
        }],
    },
    // Journal and catalog are relied on before they are on disk (I2).
    Planted {
        name: "books-sync",
        layer: "cuts",
        runs: 200,
        target: "",
        swaps: &[Swap {
            file: "spool/append.rs",
            right: "    file.sync_data()\n",
            wrong: "    if crate::planted::is(\"books-sync\") { Ok(()) } else { file.sync_data() }\n",
        }],
    },
    // The end of the input is taken for the end of the stream (I1).
    Planted {
        name: "end-of-input",
        layer: "streams",
        runs: 200,
        target: "",
        swaps: &[Swap {
            file: "stream/source.rs",
            right: "        let ending = self.ending()?;
        self.demand(proofs)?;",
            wrong: "        let ending = match self.ending() {
            Err(_) if crate::planted::is(\"end-of-input\") => Some(Ending::Plain),
            ending => ending?,
        };
        self.demand(proofs)?;",
        }],
    },
    // put does not compare the service's checksum of an archive (I2).
    Planted {
        name: "archive-hash",
        layer: "network",
        runs: u64::MAX,
        target: "wrong hash",
        swaps: &[Swap {
            file: "storage/glacier/uploads.rs",
            right: "if hash(answer.checksum())? != seal.treehash {",
            wrong: "if hash(answer.checksum())? != seal.treehash && !crate::planted::is(\"archive-hash\") {",
        }],
    },
    // get passes on what it did not verify (I5).
    Planted {
        name: "part-hash",
        layer: "network",
        runs: u64::MAX,
        target: "corrupt bytes",
        swaps: &[Swap {
            file: "tools/get/deliver.rs",
            right: "            None if whole && found.len() == expected.len() => Ok((bytes, found)),",
            wrong: "            Some(_) if crate::planted::is(\"part-hash\") => Ok((bytes, expected)),
            None if whole && found.len() == expected.len() => Ok((bytes, found)),",
        }],
    },
    // A linear hash is put back beside the lock under which it is looked for.
    Planted {
        name: "hash-order",
        layer: "busy",
        runs: 200,
        target: "treehash",
        swaps: &[
            Swap {
                file: "hash/pool/work.rs",
                right: "        let free = |work: &Work| {
            if work.linear { lock(&work.found.so_far).linear.take() } else { None }
        };",
                wrong: "        let free = |work: &Work| {
            let state = if work.linear { lock(&work.found.so_far).linear.take() } else { None };
            if state.is_none() && crate::planted::is(\"hash-order\") {
                std::thread::yield_now();
            }
            state
        };",
            },
            Swap {
                file: "hash/pool/work.rs",
                right: "                let found = task.run();
                waiting = lock(&self.work);",
                wrong: "                let mut found = task.run();
                if crate::planted::is(\"hash-order\") {
                    Waiting::default().record(std::mem::take(&mut found));
                }
                waiting = lock(&self.work);",
            },
        ],
    },
];

/// What a program of the copy asks.
const SWITCH: &str = "//! Which fault this program has.

/// Whether it is this one.
pub fn is(fault: &str) -> bool {
    std::env::var_os(\"AKASHITA_PLANTED\").is_some_and(|name| name == fault)
}
";

/// A file under src/, with all that is planted in it.
pub fn with_faults(file: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for fault in PLANTED {
        for swap in fault.swaps.iter().filter(|swap| swap.file == file) {
            text = swap.apply(&text, fault.name);
        }
    }
    if file == "lib.rs" { text + "pub mod planted;\n" } else { text }
}

/// Makes the copy of this tree. Its programs are examples there: as such cargo
/// builds them beside those that are used, and not over them.
pub fn copy(top: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    copy_below(&top.join("src"), &to.join("src"), "")?;
    fs::rename(to.join("src/bin"), to.join("examples"))?;
    fs::write(to.join("src/planted.rs"), SWITCH)?;
    copy_below(&top.join("data"), &to.join("data"), "data/")?;
    fs::copy(top.join("Cargo.lock"), to.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(top.join("Cargo.toml"))?;
    let sections = manifest.split_inclusive("\n\n").filter(|text| !text.contains("[[test]]"));
    let manifest = sections.collect::<String>().replace("[[bin]]", "[[example]]");
    fs::write(to.join("Cargo.toml"), manifest)
}

/// Copies a directory; below src/ with what is planted.
fn copy_below(from: &Path, to: &Path, within: &str) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (from, to, file) = (entry.path(), to.join(&name), format!("{within}{name}"));
        if from.is_dir() {
            copy_below(&from, &to, &format!("{file}/"))?;
        } else {
            fs::write(&to, with_faults(&file, &fs::read_to_string(&from)?))?;
        }
    }
    Ok(())
}
