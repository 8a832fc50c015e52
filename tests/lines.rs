//! glacier-lines(5) against the programs: its examples, its tables of fields,
//! and the types of `akashita::line` must be the same.

use std::collections::{BTreeMap, BTreeSet};

use akashita::line::description::Description;
use akashita::line::{Line, Reader, Stamp, Text};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const MANUAL: &str = include_str!("../man/glacier-lines.5");

/// Each type once more, from the manual and not from the code. A field that is
/// not here is refused, so none slips in or out unnoticed.
mod mirror {
    #![allow(dead_code, reason = "only what is accepted matters")]
    #![allow(clippy::struct_field_names, reason = "the names are the manual's")]

    use serde::Deserialize;

    type Id = String;
    type Hash = String;
    type Guid = String;
    type Time = jiff::Timestamp;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Stream {
        r#type: String,
        v: u64,
        stream: Id,
        host: String,
        name: String,
        format: String,
        guid: Option<Guid>,
        from_guid: Option<Guid>,
        created: Option<Time>,
        features: Option<Vec<String>>,
        clone: Option<bool>,
        compound: Option<bool>,
        resumed: Option<bool>,
        filter: Option<String>,
        part_size: u64,
        volume_size: u64,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Chain {
        r#type: String,
        stream: Id,
        streams: u32,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Recipe {
        r#type: String,
        text: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Plan {
        r#type: String,
        stream: Id,
        name: String,
        dest: String,
        volumes: u64,
        parts: u64,
        size: u64,
        requests: u64,
        seconds: Option<u64>,
        openings: Option<u64>,
        done: Option<Time>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Doomed {
        r#type: String,
        stream: Option<Id>,
        name: Option<String>,
        dest: Option<String>,
        archives: Option<u64>,
        uploads: Option<u64>,
        spooled: Option<bool>,
        size: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Snapshot {
        r#type: String,
        stream: Id,
        name: String,
        guid: Guid,
        from_guid: Option<Guid>,
        created: Option<Time>,
        features: Option<Vec<String>>,
        clone: Option<bool>,
        offset: u64,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Part {
        r#type: String,
        stream: Id,
        volume: u64,
        part: u64,
        offset: u64,
        size: u64,
        treehash: Hash,
        sha256: Hash,
        spooled: Option<bool>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Volume {
        r#type: String,
        stream: Id,
        volume: u64,
        offset: u64,
        size: u64,
        parts: u64,
        treehash: Hash,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct End {
        r#type: String,
        stream: Id,
        volumes: u64,
        size: u64,
        treehash: Hash,
        whole: String,
        misplaced: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Failed {
        r#type: String,
        stream: Option<Id>,
        code: u64,
        message: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Hashes {
        r#type: String,
        stream: Id,
        generation: Option<u64>,
        volume: u64,
        part: u64,
        dest: String,
        treehashes: Vec<Hash>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Archive {
        r#type: String,
        v: u64,
        stream: Id,
        host: String,
        name: String,
        generation: Option<u64>,
        volume: u64,
        offset: u64,
        size: u64,
        treehash: Hash,
        part_size: u64,
        dest: String,
        region: String,
        archive_id: String,
        version: Option<String>,
        class: Option<String>,
        composite: Option<Hash>,
        etag: Option<String>,
        uploaded: Time,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Job {
        r#type: String,
        v: u64,
        stream: Id,
        host: String,
        name: String,
        generation: Option<u64>,
        volume: u64,
        offset: u64,
        size: u64,
        treehash: Hash,
        part_size: u64,
        dest: String,
        region: String,
        archive_id: String,
        version: Option<String>,
        class: Option<String>,
        composite: Option<Hash>,
        etag: Option<String>,
        uploaded: Time,
        job_id: String,
        tier: String,
        requested: Time,
        range_offset: Option<u64>,
        range_size: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Verified {
        r#type: String,
        stream: Id,
        host: String,
        name: String,
        generation: Option<u64>,
        volume: u64,
        part: u64,
        parts: u64,
        offset: u64,
        size: u64,
        dest: String,
        region: String,
        archive_id: String,
        verified: Time,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Sample {
        r#type: String,
        stream: Id,
        host: String,
        name: String,
        generation: Option<u64>,
        volume: u64,
        part: u64,
        parts: u64,
        offset: u64,
        size: u64,
        dest: String,
        region: String,
        archive_id: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Cost {
        r#type: String,
        tier: String,
        jobs: u64,
        size: u64,
        retrieval: String,
        transfer: String,
        price: String,
        currency: String,
        prices_date: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Deleted {
        r#type: String,
        stream: Option<Id>,
        name: Option<String>,
        generation: Option<u64>,
        volume: Option<u64>,
        dest: Option<String>,
        region: Option<String>,
        archive_id: Option<String>,
        upload_id: Option<String>,
        spooled: Option<bool>,
        size: Option<u64>,
        deleted: Time,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Upload {
        r#type: String,
        dest: String,
        region: String,
        upload_id: String,
        begun: Time,
        part_size: u64,
        size: u64,
        spooled: Option<bool>,
        kind: Option<String>,
        stream: Option<Id>,
        generation: Option<u64>,
        volume: Option<u64>,
        host: Option<String>,
        name: Option<String>,
        guid: Option<Guid>,
        from_guid: Option<Guid>,
        description: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Inventoried {
        r#type: String,
        dest: String,
        region: String,
        archive_id: String,
        size: u64,
        treehash: Option<Hash>,
        etag: Option<String>,
        class: Option<String>,
        uploaded: Time,
        inventory: Time,
        kind: Option<String>,
        stream: Option<Id>,
        generation: Option<u64>,
        volume: Option<u64>,
        host: Option<String>,
        name: Option<String>,
        guid: Option<Guid>,
        from_guid: Option<Guid>,
        description: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Inventory {
        r#type: String,
        dest: String,
        region: String,
        made: Time,
        age_s: u64,
        archives: u64,
        size: u64,
        foreign: u64,
        later: Option<u64>,
        refused: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Vault {
        r#type: String,
        name: String,
        dest: String,
        region: String,
        created: Option<Time>,
        archives: u64,
        size: u64,
        inventory: Option<Time>,
        age_s: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Retrieval {
        r#type: String,
        job_id: String,
        dest: String,
        region: String,
        action: String,
        state: String,
        message: Option<String>,
        tier: Option<String>,
        created: Option<Time>,
        completed: Option<Time>,
        size: Option<u64>,
        archive_id: Option<String>,
        range_offset: Option<u64>,
        range_size: Option<u64>,
        stream: Option<Id>,
        name: Option<String>,
        generation: Option<u64>,
        volume: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Stored {
        r#type: String,
        v: u64,
        stream: Id,
        host: String,
        name: String,
        format: String,
        guid: Option<Guid>,
        from_guid: Option<Guid>,
        created: Option<Time>,
        features: Option<Vec<String>>,
        clone: Option<bool>,
        compound: Option<bool>,
        resumed: Option<bool>,
        filter: Option<String>,
        generation: Option<u64>,
        volumes: u64,
        size: u64,
        treehash: Hash,
        whole: String,
        misplaced: Option<u64>,
        dest: String,
        region: String,
        manifest_id: Option<String>,
        stored: Time,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Treehash {
        r#type: String,
        path: Option<String>,
        size: u64,
        treehash: Hash,
        sha256: Option<Hash>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Window {
        r#type: String,
        window: String,
        tz: Option<String>,
        open: bool,
        opens: Option<Time>,
        closes: Option<Time>,
        remaining_s: Option<u64>,
        rate: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Restorable {
        r#type: String,
        name: String,
        guid: Option<Guid>,
        filter: Option<String>,
        host: String,
        stream: Id,
        streams: u64,
        size: u64,
        dest: String,
        stored: Time,
        created: Option<Time>,
        age_s: u64,
        features: Option<Vec<String>>,
        origin: Option<Guid>,
        misplaced: Option<u64>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Kept {
        r#type: String,
        name: String,
        guid: Option<Guid>,
        host: String,
        stream: Id,
        size: u64,
        dest: String,
        region: String,
        stored: Time,
        created: Option<Time>,
        reason: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Prunable {
        r#type: String,
        name: Option<String>,
        guid: Option<Guid>,
        host: Option<String>,
        stream: Option<Id>,
        size: u64,
        dest: String,
        region: String,
        stored: Option<Time>,
        created: Option<Time>,
        reason: String,
        archives: u64,
        early_days: Option<u64>,
        early_fee: Option<String>,
        free_from: Option<jiff::civil::Date>,
        currency: Option<String>,
        prices_date: Option<jiff::civil::Date>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Restore {
        r#type: String,
        tier: String,
        streams: u64,
        archives: u64,
        jobs: u64,
        size: u64,
        disk: u64,
        minutes_least: u64,
        minutes_most: u64,
        seconds: Option<u64>,
        retrieval_price: String,
        transfer_price: String,
        price: String,
        currency: String,
        prices_date: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Listening {
        r#type: String,
        endpoint: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Description {
        v: u64,
        kind: String,
        stream: Id,
        generation: Option<u64>,
        volume: Option<u64>,
        host: String,
        name: String,
        guid: Option<Guid>,
        from_guid: Option<Guid>,
    }
}

/// Reads a line, or says why not.
type Mirror = fn(&str) -> Result<(), String>;

fn reads<T: DeserializeOwned>(text: &str) -> Result<(), String> {
    serde_json::from_str::<T>(text).map(drop).map_err(|e| e.to_string())
}

/// All mirrors, by what the manual calls them.
fn mirrors() -> BTreeMap<&'static str, Mirror> {
    BTreeMap::from([
        ("stream", reads::<mirror::Stream> as Mirror),
        ("snapshot", reads::<mirror::Snapshot>),
        ("part", reads::<mirror::Part>),
        ("volume", reads::<mirror::Volume>),
        ("end", reads::<mirror::End>),
        ("failed", reads::<mirror::Failed>),
        ("hashes", reads::<mirror::Hashes>),
        ("archive", reads::<mirror::Archive>),
        ("stored", reads::<mirror::Stored>),
        ("treehash", reads::<mirror::Treehash>),
        ("window", reads::<mirror::Window>),
        ("listening", reads::<mirror::Listening>),
        ("chain", reads::<mirror::Chain>),
        ("restorable", reads::<mirror::Restorable>),
        ("plan", reads::<mirror::Plan>),
        ("kept", reads::<mirror::Kept>),
        ("prunable", reads::<mirror::Prunable>),
        ("doomed", reads::<mirror::Doomed>),
        ("restore", reads::<mirror::Restore>),
        ("job", reads::<mirror::Job>),
        ("verified", reads::<mirror::Verified>),
        ("sample", reads::<mirror::Sample>),
        ("cost", reads::<mirror::Cost>),
        ("deleted", reads::<mirror::Deleted>),
        ("upload", reads::<mirror::Upload>),
        ("inventoried", reads::<mirror::Inventoried>),
        ("inventory", reads::<mirror::Inventory>),
        ("vault", reads::<mirror::Vault>),
        ("retrieval", reads::<mirror::Retrieval>),
        ("recipe", reads::<mirror::Recipe>),
        ("description", reads::<mirror::Description>),
    ])
}

/// The examples of the manual.
fn examples() -> Vec<&'static str> {
    MANUAL.lines().filter(|line| line.starts_with('{')).collect()
}

fn example(of: &str) -> &'static str {
    let head = format!("{{\"type\":\"{of}\"");
    examples().into_iter().find(|line| line.starts_with(&head)).unwrap()
}

fn fields(text: &str) -> BTreeSet<String> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
    object.into_iter().map(|(name, _)| name).collect()
}

/// What a mirror accepts, in its own words.
fn accepted(mirror: Mirror) -> BTreeSet<String> {
    let refusal = mirror(r#"{"?":0}"#).unwrap_err();
    let (_, list) = refusal.split_once(", expected ").unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The table of fields in the manual's section `title`, with `?` where a field
/// may be absent.
fn table(title: &str) -> Vec<(String, bool)> {
    let section = MANUAL.split_once(&format!("{title}\n")).unwrap().1;
    let table = section.split_once(".Bl -column").unwrap().1.split_once(".El").unwrap().0;
    table
        .lines()
        .filter_map(|line| line.strip_prefix(".It Cm "))
        .map(|line| {
            let mut columns = line.split(" Ta ");
            (columns.next().unwrap().to_owned(), columns.next().unwrap().ends_with('?'))
        })
        .collect()
}

/// Lines with every field that their types have.
fn full() -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let with = |of: &str, more: Value| {
        let text = example(of).strip_suffix('}').unwrap();
        let more = serde_json::to_string(&more).unwrap();
        format!("{text},{}", more.strip_prefix('{').unwrap())
    };
    let flags = json!({"from_guid": "987", "clone": true, "compound": true, "resumed": true,
        "filter": "age -r age1"});
    lines.push(with("stream", flags));
    let base = json!({"from_guid": "18446744073709551615", "clone": true});
    lines.push(with("snapshot", base));
    lines.push(with("part", json!({"spooled": false})));
    let flags = json!({"from_guid": "987", "clone": true, "compound": true, "resumed": true,
        "generation": 2, "filter": "age -r age1", "misplaced": 2});
    lines.push(with("stored", flags));
    let hash = "0".repeat(64);
    let in_bucket = json!({"generation": 1, "version": "v1", "class": "DEEP_ARCHIVE",
        "composite": hash, "etag": "e"});
    lines.push(with("archive", in_bucket.clone()));
    lines.push(with("hashes", json!({"generation": 1})));
    let mut job = in_bucket;
    job["range_offset"] = json!(1_048_576);
    job["range_size"] = json!(1_048_576);
    lines.push(with("job", job));
    lines.push(with("verified", json!({"generation": 1})));
    lines.push(with("deleted", json!({"generation": 1, "upload_id": "u", "spooled": true})));
    let described = json!({"generation": 1, "from_guid": "987", "description": "text"});
    let mut upload = described.clone();
    upload["spooled"] = json!(true);
    lines.push(with("upload", upload));
    let mut listed = described;
    listed["etag"] = json!("e");
    listed["class"] = json!("DEEP_ARCHIVE");
    lines.push(with("inventoried", listed));
    lines.push(with("inventory", json!({"later": 1, "refused": 0})));
    lines.push(with("end", json!({"misplaced": 2})));
    lines.extend(["volume", "failed", "chain", "recipe"].map(|of| example(of).to_owned()));
    lines
}

#[test]
fn the_examples_are_read_and_written_the_same() {
    let mut seen = BTreeSet::new();
    for text in examples() {
        let Some(line) = Line::parse(text).unwrap_or_default() else { continue };
        let stamp = Stamp::parse(text).unwrap();
        if stamp.window.is_some() {
            assert_eq!(stamp.tz.as_deref(), Some("Europe/Berlin"));
            let bare = line.text().unwrap();
            assert!(text.starts_with(bare.trim_end().strip_suffix('}').unwrap()));
            continue;
        }
        assert_eq!(line.text().unwrap(), format!("{text}\n"));
        seen.extend(fields(text).contains("type").then(|| text.split('"').nth(3).unwrap()));
    }
    assert_eq!(seen.len(), 17, "an example of each: {seen:?}");
}

#[test]
fn the_mirrors_take_the_examples_and_no_other_field() {
    let mirrors = mirrors();
    let mut seen = BTreeSet::new();
    for text in examples() {
        let of = match text.split('"').nth(1) {
            Some("type") => text.split('"').nth(3).unwrap(),
            _ => "description",
        };
        if text.contains(",\"window\":") && of != "window" {
            assert!(mirrors[of](text).is_err(), "a stamp is not of the line's type");
            continue;
        }
        mirrors[of](text).unwrap_or_else(|e| panic!("{of}: {e}"));
        seen.insert(of);
    }
    assert_eq!(seen, mirrors.keys().copied().collect());
}

#[test]
fn a_type_has_the_fields_of_its_table_and_no_other() {
    for (of, mirror) in mirrors() {
        let title = match of {
            "description" => ".Sh ARCHIVE DESCRIPTIONS".to_owned(),
            of => format!(".Ss {of}"),
        };
        let mut named: BTreeSet<String> = table(&title).into_iter().map(|(name, _)| name).collect();
        if of != "description" {
            named.insert("type".to_owned());
        }
        assert_eq!(named, accepted(mirror), "{of}");
    }
    let stamp = table(".Ss window and tz in any line");
    assert_eq!(stamp, [("window".to_owned(), true), ("tz".to_owned(), true)]);
}

#[test]
fn the_types_write_every_field_of_the_manual_and_no_other() {
    let mirrors = mirrors();
    for text in full() {
        let line = Line::parse(&text).unwrap().unwrap();
        let written = line.text().unwrap();
        let of = text.split('"').nth(3).unwrap();
        assert_eq!(fields(&written), accepted(mirrors[of]), "{of}");
        assert_eq!(Line::parse(&written), Ok(Some(line)));
        mirrors[of](&written).unwrap();
    }
}

#[test]
fn a_field_may_be_absent_exactly_if_the_manual_says_so() {
    for text in full() {
        let of = text.split('"').nth(3).unwrap();
        for (name, optional) in table(&format!(".Ss {of}")) {
            let mut line: Value = serde_json::from_str(&text).unwrap();
            line.as_object_mut().unwrap().remove(&name).unwrap();
            let read = Line::parse(&line.to_string());
            if optional {
                let written = read.unwrap().unwrap().text().unwrap();
                assert!(!fields(&written).contains(&name), "{of}: {name} came back");
            } else {
                assert_eq!(read, Err(format!("no \"{name}\"")), "{of}");
            }
        }
    }
}

#[test]
fn nothing_is_null_when_it_is_absent() {
    for text in full() {
        let written = Line::parse(&text).unwrap().unwrap().text().unwrap();
        assert!(!written.contains("null"), "{written}");
    }
}

#[test]
fn descriptions_are_read_and_written_the_same() {
    let ours: Vec<&str> = examples().into_iter().filter(|l| l.starts_with("{\"v\"")).collect();
    assert_eq!(ours.len(), 2);
    for text in ours {
        let description = Description::parse(text).unwrap();
        assert_eq!(description.text().unwrap(), text);
        let mut full: Value = serde_json::from_str(text).unwrap();
        full["from_guid"] = json!("987");
        full["volume"] = json!(7);
        let full = Description::parse(&full.to_string()).unwrap().text().unwrap();
        assert_eq!(fields(&full), accepted(mirrors()["description"]));
        for (name, optional) in table(".Sh ARCHIVE DESCRIPTIONS") {
            let mut less: Value = serde_json::from_str(&full).unwrap();
            less.as_object_mut().unwrap().remove(&name);
            assert_eq!(Description::parse(&less.to_string()).is_some(), optional, "{name}");
        }
    }
}

#[test]
fn a_description_that_is_not_ours_is_left_alone() {
    for text in [
        "",
        "photos of 2012",
        "{}",
        "null",
        "[]",
        r#"{"v":1}"#,
        r#"{"v":2,"kind":"volume","stream":"8dab4d18b6631a4aa67d021930811bbd","host":"a","name":"b"}"#,
        r#"{"v":1,"kind":"other","stream":"8dab4d18b6631a4aa67d021930811bbd","host":"a","name":"b"}"#,
        r#"{"v":1,"kind":"volume","stream":"../8dab4d18b6631a4aa67d021930811","host":"a","name":"b"}"#,
    ] {
        assert_eq!(Description::parse(text), None, "{text}");
    }
    assert_eq!(Description::parse(&"[".repeat(1024)), None);
}

/// A `part` line with the value of one field replaced by this text.
fn part_with(field: &str, value: &str) -> String {
    let text = example("part").replace('}', ",\"spooled\":false}");
    let (before, after) = text.split_once(&format!("\"{field}\":")).unwrap();
    let end = after.find([',', '}']).unwrap();
    format!("{before}\"{field}\":{value}{}", &after[end..])
}

#[test]
fn a_hostile_line_is_refused_in_exact_words() {
    const ID: &str = "a stream id is 32 lower-case hexadecimal digits";
    const HASH: &str = "a hash is 64 lower-case hexadecimal digits";
    const GUID: &str = "a guid is a decimal number in a string";
    const FILTER: &str = "a filter is 1 to 512 printable ASCII characters";
    let filter = |value: &str| example("stored").replace('}', &format!(",\"filter\":{value}}}"));
    let snapshot = |guid: &str| {
        format!(
            r#"{{"type":"snapshot","stream":"8dab4d18b6631a4aa67d021930811bbd","name":"a@b","guid":{guid},"offset":0}}"#
        )
    };
    let deep = format!("{{\"type\":\"part\",\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let upper = "8DAB4D18B6631A4AA67D021930811BBD";
    let half = "8dab4d18b6631a4a\\u00007d021930811bbd";
    for (text, why) in [
        (part_with("stream", "\"../../../../../../etc/passwd\\u00000\""), ID),
        (part_with("stream", "\"..\""), ID),
        (part_with("stream", "\"/etc/cron.d/0\""), ID),
        (part_with("stream", "\"\""), ID),
        (part_with("stream", &format!("\"{upper}\"")), ID),
        (part_with("stream", &format!("\"{half}\"")), ID),
        (part_with("stream", "7"), "7 is not a text"),
        (part_with("stream", "null"), "null is not a text"),
        (part_with("treehash", "\"abc\""), HASH),
        (part_with("sha256", "[]"), "a list is not a text"),
        (part_with("volume", "-1"), "-1 is not a whole number from 0 to 4294967295"),
        (
            part_with("volume", "4294967296"),
            "4294967296 is not a whole number from 0 to 4294967295",
        ),
        (part_with("volume", "\"0\""), "\"0\" is not a whole number from 0 to 4294967295"),
        (
            part_with("volume", "\"0/../../1\""),
            "\"0/../../1\" is not a whole number from 0 to 4294967295",
        ),
        (part_with("part", "1.5"), "1.5 is not a whole number from 0 to 4294967295"),
        (part_with("part", "true"), "true is not a whole number from 0 to 4294967295"),
        (
            part_with("size", "18446744073709551616"),
            "1.8446744073709552e+19 is not a whole number from 0 to 18446744073709551615",
        ),
        (part_with("size", "1e999"), "not a JSON object: number out of range"),
        (part_with("offset", "-0.1"), "-0.1 is not a whole number from 0 to 18446744073709551615"),
        (filter("\"\""), FILTER),
        (filter("\"a\\nb\""), FILTER),
        (filter("\"\\u001b[31m\""), FILTER),
        (filter("\"é\""), FILTER),
        (filter(&json!("x".repeat(513)).to_string()), FILTER),
        (
            filter("\"age -i AGE-SECRET-KEY-1X\""),
            "a filter holds a secret key; name the recipient instead",
        ),
        (filter("7"), "7 is not a text"),
        (part_with("spooled", "0"), "0 is not true or false"),
        (part_with("part", "0,\"part\":1"), "\"part\" twice"),
        (part_with("type", "\"part\",\"type\":\"end\""), "\"type\" twice"),
        (part_with("type", "7"), "7 is not a text"),
        // What is in a field that nobody knows is passed over, and not kept.
        (deep, "no \"stream\""),
        (snapshot("7"), "7 is not a text"),
        (snapshot("\"+7\""), GUID),
        (snapshot("\"007\""), GUID),
        (snapshot("\"-1\""), GUID),
        (snapshot("\"18446744073709551616\""), GUID),
        (snapshot("\"7\\u0000\""), GUID),
        (example("part").replace('}', "} {}"), "not a JSON object: trailing characters"),
        (example("part").replace('}', ""), "a torn line"),
        (format!("\u{feff}{}", example("part")), "not a JSON object"),
        ("\u{0}".to_owned(), "not a JSON object"),
        ("{\u{0}}".to_owned(), "not a JSON object: key must be a string"),
        (
            example("stored").replace("\"v\":1", "\"v\":2"),
            "stored: version 2 is newer than this program, which knows 1",
        ),
        (
            r#"{"type":"stream","v":1099511627776,"all":"else is new"}"#.to_owned(),
            "stream: version 1099511627776 is newer than this program, which knows 1",
        ),
        (
            example("archive").replace("\"v\":1", "\"v\":\"1\""),
            "\"1\" is not a whole number from 0 to 4294967295",
        ),
    ] {
        assert_eq!(Line::parse(&text).unwrap_err(), why, "{text}");
    }
    let undated = example("archive").replace("2026-11-23T22:04:12Z", "yesterday");
    assert!(Line::parse(&undated).is_err());
}

#[test]
fn what_is_new_is_ignored_or_passed_on() {
    // A field of another type than one of ours of the same name, too.
    let part = part_with("part", "0,\"v\":\"beta\",\"colour\":[[{}],1e308]");
    assert!(matches!(Line::parse(&part), Ok(Some(Line::Part(_)))));
    for text in [
        r#"{"type":"colour"}"#,
        r#"{"type":"colour","v":"beta"}"#,
        r#"{"type":"part\u0000"}"#,
        r#"{"type":"../stream"}"#,
        r#"{"v":{"major":9},"type":""}"#,
    ] {
        assert_eq!(Line::parse(text), Ok(None), "{text}");
    }
}

#[test]
fn a_name_is_text_whatever_it_holds() {
    for name in ["../../etc/passwd", "a\u{0}b", "\u{1b}[31m", "a\nb", "\u{202e}", "\"}", "é😀"] {
        let text = example("stream").replace("\"tank/home@mon\"", &json!(name).to_string());
        let line = Line::parse(&text).unwrap().unwrap();
        assert!(matches!(&line, Line::Stream(stream) if stream.name == name));
        let written = line.text().unwrap();
        assert_eq!(written.lines().count(), 1, "{written}");
        assert_eq!(Line::parse(&written), Ok(Some(line)));
    }
}

#[test]
fn a_reader_takes_any_bytes() {
    let mut input = b"\xff\xfe\n\0\n\n \t\r\n".to_vec();
    input.extend(vec![b'{'; 10_000_000]);
    input.extend(b"\n{\"type\":\"end\"}");
    let mut reader = Reader::new(&input[..]);
    let mut next = || reader.read().unwrap().map(|text| (text, reader.number));
    assert_eq!(next(), Some((Text::Bad("not UTF-8".to_owned()), 1)));
    assert_eq!(next(), Some((Text::Line("\0".to_owned()), 2)));
    assert_eq!(next(), Some((Text::Bad("longer than 4096 bytes".to_owned()), 5)));
    assert_eq!(next(), Some((Text::Line("{\"type\":\"end\"}".to_owned()), 6)));
    assert_eq!(next(), None);
}

#[test]
fn the_longest_run_of_hashes_fits_into_a_line() {
    #[derive(Deserialize)]
    struct Hashes {
        treehashes: Vec<String>,
    }
    let mut line = Line::parse(example("hashes")).unwrap().unwrap();
    let Line::Hashes(hashes) = &mut line else { panic!("not hashes") };
    let hash = hashes.treehashes[0];
    hashes.treehashes = vec![hash; akashita::line::HASHES];
    hashes.generation = u32::MAX;
    hashes.volume = u32::MAX;
    hashes.part = u32::MAX;
    // The longest name of a vault, and a stamp.
    hashes.dest = format!("glacier://{}", "v".repeat(255));
    let text = line.text().unwrap();
    let read: Hashes = serde_json::from_str(&text).unwrap();
    assert_eq!(read.treehashes.len(), 50);
}
