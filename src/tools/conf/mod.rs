//! akashita.conf(5): what the scripts are told of a machine, read as data.
//!
//! A file of `key=value` lines. Nothing in it is run or expanded; a key that
//! is not known, and a value that its tool would refuse, are told with their
//! line before anything begins. The scripts get it as variables, so no shell
//! ever reads a value as a program.

pub mod environment;
pub mod exclusive;
pub mod origin;

use std::collections::BTreeMap;

use crate::catalog::retention::Retention;
use crate::storage::Dest;
use crate::window::{Window, Zone};
use crate::{partsize, units};

/// Bytes in the longest value. It is more than any needs, and a variable of a
/// process may be as long on every system.
const LONGEST: usize = 16 << 10;

/// Bytes in what a stream may tell of its filters: see glacier-lines(5).
const FILTER: usize = 512;

/// Gives a value as its tool takes it, or what is wrong with it.
type Check = fn(&str) -> Result<String, String>;

/// A key that a configuration may have.
struct Key {
    name: &'static str,
    /// What it is when it is not there.
    default: &'static str,
    /// Whether it may come several times.
    many: bool,
    check: Check,
}

const fn one(name: &'static str, default: &'static str, check: Check) -> Key {
    Key { name, default, many: false, check }
}

const fn many(name: &'static str, check: Check) -> Key {
    Key { name, default: "", many: true, check }
}

/// Every key, in the order of akashita.conf(5). `tests/conf.rs` sees that the
/// page has the same.
const KEYS: &[Key] = &[
    one("dest", "", |text| text.parse().map(|dest: Dest| dest.to_string())),
    one("region", "", word),
    one("profile", "", word),
    one("endpoint_url", "", word),
    one("storage_class", "", word),
    one("manifest_class", "", word),
    many("dataset", dataset),
    one("recursive", "no", |text| choice(text, &["no", "each", "one"])),
    one("prefix", "akashita", prefix),
    one("send", "", send),
    one("raw", "auto", |text| choice(text, &["auto", "yes", "no"])),
    one("format", "zfs", |text| choice(text, &["zfs", "tar"])),
    many("path", relative),
    many("exclude", |text| Ok(text.to_owned())),
    one("filter", "", filter),
    one("unfilter", "", filter),
    many("recipient", recipient),
    one("identity", "", path),
    one("full_every", "30", |text| number(text, 1, 10_000)),
    one("local_keep", "2", |text| number(text, 1, 10_000)),
    one("keep", "", |text| text.parse().map(|_: Retention| text.to_owned())),
    one("free_only", "yes", |text| choice(text, &["yes", "no"])),
    one("delete_profile", "", word),
    one("mode", "auto", |text| choice(text, &["auto", "stream", "spool"])),
    one("window", "00:00-24:00", |text| Window::parse(text).map(|window| window.to_string())),
    one("tz", "", |text| Zone::named(text).map(|_| text.to_owned())),
    one("rate", "", |text| units::rate(text).map(|_| text.to_owned())),
    one("part_size", partsize::PART, |text| partsize::part(text).map(|_| text.to_owned())),
    one("volume_size", partsize::VOLUME, |text| partsize::volume(text).map(|_| text.to_owned())),
    one("reserve", "268435456", |text| units::size(text).map(|size| size.to_string())),
    one("warn_age", "172800s", seconds),
    one("fail_age", "691200s", seconds),
    one("tier", "Standard", |text| choice(text, &["Expedited", "Standard", "Bulk"])),
    one("max_cost", "", cost),
    one("drill", "", dataset),
    one("verify_budget", "64M", |text| units::size(text).map(|_| text.to_owned())),
    one("concurrency", "4", |text| number(text, 1, 255)),
    one("patience", "8h", |text| units::duration(text).map(|_| text.to_owned())),
    one("state", "", path),
    one("spool", "", path),
    one("catalog", "", path),
    one("log", "", path),
];

/// A configuration: each key, with its value or values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Conf {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// The first line that is wrong, with its number and why.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut values: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (number, line) in (1_u64..).zip(text.split(|byte| *byte == b'\n')) {
            let wrong = |why: String| format!("line {number}: {why}");
            let line = std::str::from_utf8(line).map_err(|_| wrong("not UTF-8".to_owned()))?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| wrong("not KEY=VALUE; a comment begins with #".to_owned()))?;
            let (name, value) = (name.trim_end(), value.trim_start());
            let key = KEYS
                .iter()
                .find(|key| key.name == name)
                .ok_or_else(|| wrong(format!("{name}: no such key{}", nearest(name))))?;
            let checked = line_of(value).and_then(|value| (key.check)(value));
            let value = checked.map_err(|why| wrong(format!("{name}: {why}")))?;
            let known = values.entry(key.name).or_default();
            if !(known.is_empty() || key.many) {
                return Err(wrong(format!("{name}: comes twice")));
            }
            known.push(value);
        }
        let conf = Self { values };
        conf.fits()?;
        Ok(conf)
    }

    /// What no single line can tell.
    fn fits(&self) -> Result<(), String> {
        let size = |name| units::size(&self.value(name));
        partsize::fits(size("part_size")?, size("volume_size")?)
            .map_err(|why| format!("part_size, volume_size: {why}"))?;
        let filters = self.filters();
        if filters.len() > FILTER {
            return Err(format!(
                "filter, recipient: {} bytes together, and {FILTER} is the most; name fewer recipients",
                filters.len()
            ));
        }
        if self.value("filter").is_empty() != self.value("unfilter").is_empty() {
            return Err(
                "filter, unfilter: one without the other; nothing could be restored".to_owned()
            );
        }
        Ok(())
    }

    /// What a stream goes through before it is cut, as its lines tell it; empty
    /// if it is cut as it is. Encryption comes last, as nothing compresses it.
    pub fn filters(&self) -> String {
        let mut filters = vec![self.value("filter")];
        let recipients = self.values.get("recipient").map(Vec::as_slice).unwrap_or_default();
        if !recipients.is_empty() {
            filters.push(format!("age -r {}", recipients.join(" -r ")));
        }
        filters.retain(|filter| !filter.is_empty());
        filters.join(" | ")
    }

    /// The value of a key, or its default. Several are joined by newlines.
    pub fn value(&self, name: &str) -> String {
        let default = KEYS.iter().find(|key| key.name == name).map_or("", |key| key.default);
        self.values.get(name).map_or_else(|| default.to_owned(), |values| values.join("\n"))
    }

    /// The keys that were given or have a default, each with a value.
    pub fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        KEYS.iter().flat_map(|key| {
            let defaults = || vec![key.default.to_owned()];
            let values = self.values.get(key.name).cloned().unwrap_or_else(defaults);
            values.into_iter().filter(|value| !value.is_empty()).map(|value| (key.name, value))
        })
    }

    /// The variables that a script is given: `AKASHITA_` and the key for each,
    /// empty where there is no value; and `AKASHITA_FILTERS`, see [`Self::filters`].
    pub fn variables(&self) -> Vec<(String, String)> {
        let name = |key: &Key| format!("AKASHITA_{}", key.name.to_ascii_uppercase());
        let keys = KEYS.iter().map(|key| (name(key), self.value(key.name)));
        keys.chain([("AKASHITA_FILTERS".to_owned(), self.filters())]).collect()
    }
}

/// The names of all keys.
pub fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// The key that was meant, perhaps.
fn nearest(name: &str) -> String {
    let typed = name.to_ascii_lowercase().replace('-', "_");
    let near = |key: &&str| {
        let (short, long) = if key.len() < typed.len() { (*key, &*typed) } else { (&*typed, *key) };
        // A letter too many or too few, or a whole word of the key.
        short.len() > 2 && (long.starts_with(short) || long.ends_with(short))
    };
    keys().find(near).map(|key| format!("; is {key} meant?")).unwrap_or_default()
}

/// What may stand in a value at all.
fn line_of(text: &str) -> Result<&str, String> {
    if text.is_empty() {
        Err("has no value; leave the line out".to_owned())
    } else if text.len() > LONGEST {
        Err(format!("longer than {LONGEST} bytes"))
    } else if text.chars().any(char::is_control) {
        Err("has a control character in it".to_owned())
    } else if text.contains("AGE-SECRET-KEY-") {
        Err("a secret key has no place here; identity= names its file".to_owned())
    } else {
        Ok(text)
    }
}

fn choice(text: &str, choices: &[&str]) -> Result<String, String> {
    if choices.contains(&text) {
        return Ok(text.to_owned());
    }
    let (last, others) = choices.split_last().unwrap_or((&"", &[]));
    Err(format!("'{text}' is neither {} nor {last}", others.join(", ")))
}

fn number(text: &str, least: u64, most: u64) -> Result<String, String> {
    units::within(least, most)(text).map(|number| number.to_string())
}

/// One word of letters, as names and URLs are.
fn word(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_graphic();
    if text.chars().all(good) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is not one word"))
    }
}

/// The name of a dataset, by the rules of zfs(8), NAME: letters, digits and
/// `_-.: ` in components that `/` joins; the pool begins with a letter.
fn dataset(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.: ".contains(c);
    let component = |part: &str| !part.is_empty() && part.chars().all(good) && part != "..";
    let pool = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if pool && text.len() < 256 && text.split('/').all(component) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is not the name of a dataset, such as tank/home"))
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if text.len() <= 64 && text.chars().all(good) && !text.starts_with(['-', '.']) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' cannot begin a snapshot's name; use letters, digits, _ - or ."))
    }
}

/// Flags of zfs-send(8) that change what is in a stream. What makes it
/// compound (`R`, `p`) or raw (`w`) has a key of its own or needs none.
fn send(text: &str) -> Result<String, String> {
    let good = |flags: &str| !flags.is_empty() && flags.chars().all(|c| "Lecphb".contains(c));
    match text.strip_prefix('-') {
        Some(flags) if good(flags) => Ok(text.to_owned()),
        _ => Err(format!("'{text}' is no flags of zfs send, such as -Lc (of L, e, c, p, h, b)")),
    }
}

/// A program with its arguments, which a script cuts at blanks.
fn filter(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-./=+:,@%".contains(c);
    if text.chars().all(plain) && !text.starts_with('-') {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{text}' is not one program with plain arguments, such as zstd -3; no shell reads it"
        ))
    }
}

/// A recipient of age(1): a public key. Its name is in every line of what was
/// encrypted for it, so a file has no place here.
fn recipient(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.strip_prefix("age1").is_some_and(|key| !key.is_empty() && key.chars().all(good)) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is no public key of age, such as age1..."))
    }
}

/// A path in a dataset.
fn relative(text: &str) -> Result<String, String> {
    if text.starts_with(['/', '-']) || text.split('/').any(|part| part == "..") {
        Err(format!("'{text}' is no path from the dataset's root, such as photos/2026"))
    } else {
        Ok(text.to_owned())
    }
}

fn cost(text: &str) -> Result<String, String> {
    match text.parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 && text.len() < 20 => {
            Ok(text.to_owned())
        }
        _ => Err(format!("'{text}' is no number of dollars, such as 5")),
    }
}

fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err(format!("'{text}' is no path from the root, such as /var/spool/akashita"))
    }
}

/// A duration as seconds, which is what a script can compare.
fn seconds(text: &str) -> Result<String, String> {
    units::duration(text).map(|duration| format!("{}s", duration.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Conf::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_file_without_a_line_has_the_defaults() {
        let conf = Conf::parse(b"\n# nothing\n   \n").unwrap();
        assert_eq!(
            (conf.value("window"), conf.value("dest")),
            ("00:00-24:00".into(), String::new())
        );
        assert!(conf.lines().all(|(_, value)| !value.is_empty()));
        assert_eq!(
            conf.lines().find(|(name, _)| *name == "prefix"),
            Some(("prefix", "akashita".into()))
        );
    }

    #[test]
    fn values_are_data_and_come_as_they_are() {
        let conf = Conf::parse(
            b"dest=my-vault\n log = /$(touch x); `y` 'z' \ndataset=tank/a b\ndataset=tank/c\n",
        );
        let conf = conf.unwrap();
        assert_eq!(conf.value("dest"), "glacier://my-vault");
        assert_eq!(conf.value("log"), "/$(touch x); `y` 'z'");
        assert_eq!(conf.value("dataset"), "tank/a b\ntank/c");
        let window = "Mon-Fri 22:00-06:00=5M, weekend 00:00-24:00";
        let hours = Conf::parse(format!("window={window}\n").as_bytes()).unwrap();
        assert_eq!(hours.value("window"), window);
        let variables = conf.variables();
        assert!(variables.contains(&("AKASHITA_DATASET".into(), "tank/a b\ntank/c".into())));
        assert!(variables.contains(&("AKASHITA_TZ".into(), String::new())));
    }

    #[test]
    fn filters_are_told_in_their_order() {
        let conf =
            Conf::parse(b"recipient=age1a\nrecipient=age1b\nfilter=zstd -3\nunfilter=zstd -d");
        assert_eq!(conf.unwrap().filters(), "zstd -3 | age -r age1a -r age1b");
        let many = "recipient=age1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
            .repeat(9);
        assert!(
            wrong(&many).ends_with("bytes together, and 512 is the most; name fewer recipients")
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, why) in [
            ("\nwindw=1", "line 2: windw: no such key"),
            ("volume=4G", "line 1: volume: no such key; is volume_size meant?"),
            ("dest", "line 1: not KEY=VALUE; a comment begins with #"),
            ("tz=", "line 1: tz: has no value; leave the line out"),
            ("tz=UTC\ntz=UTC", "line 2: tz: comes twice"),
            ("window=22-06", "line 1: window: '22-06' is not HH:MM-HH:MM, such as 22:00-06:00"),
            ("full_every=0", "line 1: full_every: not a whole number from 1 to 10000"),
            ("dataset=-r", "line 1: dataset: '-r' is not the name of a dataset, such as tank/home"),
            (
                "dataset=tank/a;b",
                "line 1: dataset: 'tank/a;b' is not the name of a dataset, such as tank/home",
            ),
            (
                "dataset=tank/$(x)",
                "line 1: dataset: 'tank/$(x)' is not the name of a dataset, such as tank/home",
            ),
            (
                "dataset=tank/../x",
                "line 1: dataset: 'tank/../x' is not the name of a dataset, such as tank/home",
            ),
            ("mode=fast", "line 1: mode: 'fast' is neither auto, stream nor spool"),
            (
                "filter=gzip | sh",
                "line 1: filter: 'gzip | sh' is not one program with plain arguments, such as zstd -3",
            ),
            ("filter=gzip", "filter, unfilter: one without the other; nothing could be restored"),
            (
                "recipient=/etc/key",
                "line 1: recipient: '/etc/key' is no public key of age, such as age1...",
            ),
            (
                "exclude=AGE-SECRET-KEY-1X",
                "line 1: exclude: a secret key has no place here; identity= names its file",
            ),
            (
                "path=../etc",
                "line 1: path: '../etc' is no path from the dataset's root, such as photos/2026",
            ),
            ("keep=always", "line 1: keep: "),
            ("max_cost=-1", "line 1: max_cost: '-1' is no number of dollars, such as 5"),
            ("log=/a\x07", "line 1: log: has a control character in it"),
            ("part_size=3M", "line 1: part_size: "),
            ("part_size=1M\nvolume_size=1T", "part_size, volume_size: "),
        ] {
            let told = wrong(text);
            assert!(told.starts_with(why), "{text}: {told}");
        }
        assert_eq!(Conf::parse(b"dest=\xff").unwrap_err(), "line 1: not UTF-8");
    }
}
