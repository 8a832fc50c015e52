//! glacier-put against glacier-local.

mod again;
mod attacks;
mod books;
mod clock;
mod deleted;
mod edges;
mod hours;
mod input;
mod network;
mod nights;
mod rates;
mod stored;
mod upgrade;
mod window;

use crate::common::local::{Local, pattern};
use crate::common::{Ended, Place, run_with};
use serde_json::Value;

const MIB: usize = 1 << 20;

/// What put says of a stream whose end did not come.
const NOT_WHOLE: &str = "stream not whole yet; run the same command again";

/// Cuts bytes into parts of 1 MiB and volumes of 2.
fn chunk_as(place: &Place, bytes: &[u8], options: &[&str]) -> Ended {
    let sizes = ["--part-size", "1M", "--volume-size", "2M", "--spool-limit", "none"];
    run_with(&mut place.tool("glacier-chunk", &[&sizes, options].concat()), bytes)
}

/// The lines of a whole stream, whose parts are in the spool.
fn chunk(place: &Place, name: &str, bytes: &[u8]) -> String {
    chunk_as(place, bytes, &["--trust-eof", "--name", name]).done().stdout
}

/// Runs put on lines.
fn put(server: &Local, place: &Place, arguments: &[&str], lines: &str) -> Ended {
    run_with(&mut server.put(place, arguments), lines.as_bytes())
}

/// The lines before the first of this type.
fn before<'a>(lines: &'a str, of: &str) -> &'a str {
    lines.split(&format!("{{\"type\":\"{of}\"")).next().unwrap()
}

/// The lines up to the `count`th of this type, with it.
fn up_to(lines: &str, of: &str, count: usize) -> String {
    let start = format!("{{\"type\":\"{of}\"");
    let mut seen = 0;
    let mut kept = String::new();
    for line in lines.split_inclusive('\n') {
        kept.push_str(line);
        seen += usize::from(line.starts_with(&start));
        if seen == count {
            break;
        }
    }
    kept
}

/// Adds fields to each line.
fn with_fields(lines: &str, fields: &str) -> String {
    lines.replace("}\n", &format!(",{fields}}}\n"))
}

/// The stream that lines are about.
fn id_of(lines: &str) -> String {
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    first["stream"].as_str().unwrap().to_owned()
}

/// A server with a vault that has one stream of five parts in three volumes,
/// its bytes, and what put printed.
fn one_stored() -> (Place, Local, Vec<u8>, Ended) {
    let place = Place::default();
    let server = Local::start(&place);
    let bytes = pattern(4 * MIB + 5);
    let lines = chunk(&place, "x", &bytes);
    let stored = put(&server, &place, &["--create-vault", "v"], &lines).done();
    (place, server, bytes, stored)
}
