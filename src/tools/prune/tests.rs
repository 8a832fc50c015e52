//! Retentions over random catalogs, against a model that was written from
//! glacier-prune(1): it takes each rule by its word, looks at everything, and
//! asks glacier-chain's own search for chains.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write as _;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::catalog::{Catalog, Link, scan};
use crate::tools::prune::survey::Books;

const HASH: &str = "9bc1b2a288b26af7257a36277ae3816a7d4f16e89c1e7e77d0a5c48bad62b360";
const RULES: [&str; 5] = ["last", "daily", "weekly", "monthly", "yearly"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/Havana", "Pacific/Kiritimati"];

/// A stream as a catalog may have it.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that may be wrong")]
struct Made {
    number: usize,
    host: u8,
    dest: u8,
    /// Snapshots: dataset, guid, base.
    holds: Vec<(u8, u64, Option<u64>)>,
    compound: bool,
    bytes: bool,
    resumed: bool,
    /// No `archive` line of its second volume.
    gap: bool,
    /// An archive of it was deleted.
    deleted: bool,
    size: u64,
    /// Seconds.
    time: i64,
}

impl Made {
    fn id(&self) -> String {
        // No guid of these tests looks like it.
        format!("a{:031x}", self.number)
    }

    fn dest(&self) -> String {
        format!("glacier://vault-{}", self.dest)
    }

    fn name(&self, dataset: u8, guid: u64) -> String {
        match (self.bytes, guid % 2) {
            (true, 0) => format!("photos-{guid}.tar"),
            _ => format!("tank/{dataset}@{guid}"),
        }
    }

    fn lines(&self) -> String {
        let (id, dest, (dataset, guid, from)) = (self.id(), self.dest(), self.holds[0]);
        let name = self.name(dataset, guid);
        let of = format!(r#""v":1,"stream":"{id}","host":"host-{}","name":"{name}""#, self.host);
        let at = format!(r#""dest":"{dest}","region":"eu-central-1""#);
        let time = Timestamp::from_second(self.time).unwrap();
        let mut text = String::new();
        for volume in 0..if self.gap { 1 } else { 2 } {
            writeln!(
                text,
                r#"{{"type":"archive",{of},"volume":{volume},"offset":0,"size":{},"treehash":"{HASH}","part_size":1048576,{at},"archive_id":"{}","uploaded":"{time}"}}"#,
                self.size / 2,
                self.archive(volume)
            )
            .unwrap();
        }
        if !self.bytes {
            for (offset, (dataset, guid, from)) in self.holds.iter().enumerate() {
                let name = self.name(*dataset, *guid);
                let from = from.map(|from| format!(r#","from_guid":"{from}""#)).unwrap_or_default();
                writeln!(
                    text,
                    r#"{{"type":"snapshot","stream":"{id}","name":"{name}","guid":"{guid}"{from},"offset":{offset}}}"#
                )
                .unwrap();
            }
        }
        let mut what = String::new();
        if self.bytes {
            what += r#""format":"bytes""#;
        } else {
            what += r#""format":"zfs""#;
            if self.compound {
                what += r#","compound":true"#;
            } else {
                write!(what, r#","guid":"{guid}""#).unwrap();
                what += &from.map(|from| format!(r#","from_guid":"{from}""#)).unwrap_or_default();
            }
            what += if self.resumed { r#","resumed":true"# } else { "" };
        }
        writeln!(
            text,
            r#"{{"type":"stored",{of},{what},"volumes":2,"size":{},"treehash":"{HASH}","whole":"zfs",{at},"manifest_id":"m{}","stored":"{time}"}}"#,
            self.size,
            self.archive(9)
        )
        .unwrap();
        if self.deleted {
            text += &gone(&self.archive(1));
        }
        text
    }

    fn archive(&self, volume: u32) -> String {
        format!("{}-{}-{volume}", self.number, self.dest)
    }

    /// Whether nothing is wrong with it, whatever it is based on.
    fn is_sound(&self) -> bool {
        !(self.gap || self.deleted || self.resumed)
    }
}

fn gone(id: &str) -> String {
    format!(
        "{{\"type\":\"deleted\",\"archive_id\":\"{id}\",\"deleted\":\"2027-01-01T00:00:00Z\"}}\n"
    )
}

fn text(made: &[Made]) -> String {
    made.iter().map(Made::lines).collect()
}

fn snapshot() -> impl Strategy<Value = (u8, u64, Option<u64>)> {
    (0u8..3, 0u64..16, prop::option::weighted(0.8, 0u64..16))
}

/// Streams of two hosts in one vault or two; most are sound, and most are
/// based on what was stored before.
fn streams(vaults: u8) -> impl Strategy<Value = Vec<Made>> {
    let kind = prop::sample::select(vec![0, 0, 0, 0, 1, 1, 2]);
    let fault = prop::sample::select(vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
    let one = (
        (0u8..2, 0..vaults, kind, fault),
        prop::collection::vec(snapshot(), 1..4),
        (2u64..1 << 20, 0i64..86_400 * 60, prop::bool::weighted(0.2)),
    );
    prop::collection::vec(one, 1..14).prop_map(|all| {
        let mut streams: Vec<Made> = Vec::new();
        for (number, ((host, dest, kind, fault), mut holds, (size, time, again))) in
            all.into_iter().enumerate()
        {
            if kind != 1 {
                holds.truncate(1);
            }
            let mut made = Made {
                number,
                host,
                dest,
                holds,
                compound: kind == 1,
                bytes: kind == 2,
                resumed: fault == 1 && kind != 2,
                gap: fault == 2,
                deleted: fault == 3,
                size: size * 2,
                time: 1_760_000_000 + time * 7,
            };
            // The same stream in another vault.
            if let Some(old) = streams.first().filter(|old| again && old.dest != dest) {
                made = Made { dest, time: made.time, gap: made.gap, ..old.clone() };
            }
            if !streams.iter().any(|old| (old.number, old.dest) == (made.number, made.dest)) {
                streams.push(made);
            }
        }
        streams
    })
}

fn retention() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let rule = (0..RULES.len(), prop::sample::select(vec![0, 1, 1, 2, 3, 5, u64::MAX]));
    prop::collection::vec(rule, 1..4).prop_filter_map("keeps nothing", |mut rules| {
        rules.sort_unstable();
        rules.dedup_by_key(|(rule, _)| *rule);
        rules.iter().any(|(_, count)| *count > 0).then_some(rules)
    })
}

fn worded(rules: &[(usize, u64)]) -> Retention {
    let count = |count: u64| if count == u64::MAX { "all".to_owned() } else { count.to_string() };
    let rules: Vec<String> =
        rules.iter().map(|(rule, many)| format!("{}={}", RULES[*rule], count(*many))).collect();
    rules.join(",").parse().unwrap()
}

/// A copy: the number of its stream, and its vault.
type Name = (usize, u8);

/// What prune says of each copy.
fn judged(text: &str, rules: &[(usize, u64)], zone: &str, free: bool) -> BTreeMap<Name, Fate> {
    let (books, skipped) = Books::read(text.as_bytes()).unwrap();
    assert_eq!(skipped.warning(), None);
    let copies = books.copies();
    let zone = Zone::named(zone).unwrap();
    let question = Question {
        keep: &worded(rules),
        zone: Some(&zone),
        free_only: free,
        // In the middle of what is stored, so that some of it is early.
        now: Timestamp::from_second(1_760_000_000 + 86_400 * 300).unwrap(),
        prices: &Prices::read(None).unwrap(),
    };
    let fates = judge(&books, &copies, &question);
    let name = |copy: &Copy| {
        (number(copy.stored.stream), copy.stored.dest.rsplit_once('-').unwrap().1.parse().unwrap())
    };
    copies.iter().map(name).zip(fates).collect()
}

fn number(stream: StreamId) -> usize {
    usize::from_str_radix(&stream.to_string()[1..], 16).unwrap()
}

fn catalog(text: &str) -> Catalog {
    scan::survey(text.as_bytes()).unwrap().0
}

/// The lines of one vault, and those that have none.
fn only(text: &str, dest: u8) -> String {
    let here = format!("\"dest\":\"glacier://vault-{dest}\"");
    let lines = text.lines().filter(|line| !line.contains("\"dest\"") || line.contains(&here));
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn chain(catalog: &Catalog, word: &str) -> Option<Vec<Link>> {
    catalog.chain(word, &HashSet::new()).ok()
}

fn named(link: &Link) -> Name {
    (number(link.stream), link.dest.rsplit_once('-').unwrap().1.parse().unwrap())
}

/// The chain of a copy in its own vault.
fn chain_of(made: &Made, text: &str) -> Option<Vec<Name>> {
    let links = chain(&catalog(&only(text, made.dest)), &made.id())?;
    Some(links.iter().map(named).collect())
}

/// The calendar's label of a time: any two times of one day have the same.
fn label(rule: usize, time: i64, zone: &str) -> String {
    let zone = TimeZone::get(zone).unwrap();
    let local = Timestamp::from_second(time).unwrap().to_zoned_datetime(zone);
    let date = local.date();
    match RULES[rule] {
        "daily" => format!("{date}"),
        "monthly" => format!("{}-{}", date.year(), date.month()),
        "yearly" => format!("{}", date.year()),
        // Days since the Monday before 1970, and whole weeks of them.
        _ => {
            let epoch = jiff::civil::date(1969, 12, 29);
            let days = date.since((jiff::Unit::Day, epoch)).unwrap().get_days();
            format!("{}", days.div_euclid(7))
        }
    }
}

/// The copies that hold what the rules keep, by the word of the manual.
fn model(made: &[Made], restorable: &[bool], rules: &[(usize, u64)], zone: &str) -> BTreeSet<Name> {
    struct Held {
        when: (i64, usize, usize),
        what: String,
        copy: Name,
    }
    let mut datasets: BTreeMap<String, Vec<Held>> = BTreeMap::new();
    for (line, (stream, _)) in made.iter().zip(restorable).enumerate().filter(|(_, (_, r))| **r) {
        let mut seen = HashSet::new();
        for (place, (dataset, guid, _)) in stream.holds.iter().enumerate() {
            if !seen.insert(guid) {
                continue;
            }
            let name = stream.name(*dataset, *guid);
            let of = name.split('@').next().unwrap();
            let what = if stream.bytes { stream.id() } else { guid.to_string() };
            let key = format!("{} {} {of}", stream.dest, stream.host);
            let (when, copy) = ((stream.time, line, place), (stream.number, stream.dest));
            datasets.entry(key).or_default().push(Held { when, what, copy });
        }
    }
    let mut kept = BTreeSet::new();
    for held in datasets.values() {
        for (rule, count) in rules {
            // The newest of each label, and of those the newest.
            let mut newest: BTreeMap<String, &Held> = BTreeMap::new();
            for one in held {
                let label =
                    if *rule == 0 { one.what.clone() } else { label(*rule, one.when.0, zone) };
                let known = newest.entry(label).or_insert(one);
                if one.when > known.when {
                    *known = one;
                }
            }
            let mut newest: Vec<&Held> = newest.into_values().collect();
            newest.sort_by_key(|held| Reverse(held.when));
            let count = usize::try_from(*count).unwrap();
            kept.extend(newest.into_iter().take(count).map(|held| held.copy));
        }
    }
    kept
}

/// What is left when all that may go is deleted: without its lines, and with
/// lines that say so.
fn left(made: &[Made], goes: &BTreeSet<Name>) -> [String; 2] {
    let stays = |made: &&Made| !goes.contains(&(made.number, made.dest));
    let bare: String = made.iter().filter(stays).map(Made::lines).collect();
    let mut told = text(made);
    for made in made.iter().filter(|made| goes.contains(&(made.number, made.dest))) {
        for volume in 0..2 {
            told += &gone(&made.archive(volume));
        }
    }
    [bare, told]
}

fn going(fates: &BTreeMap<Name, Fate>) -> BTreeSet<Name> {
    let goes = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Goes(_)));
    goes.map(|(name, _)| *name).collect()
}

proptest! {
    /// In one vault: exactly what the rules keep, with exactly the chains
    /// that glacier-chain finds for it; nothing that cannot be brought back
    /// goes; all that stays keeps its chain, and then nothing more goes.
    #[test]
    fn keeps_exactly_what_the_rules_say(
        made in streams(1),
        rules in retention(),
        zone in prop::sample::select(ZONES.to_vec()),
    ) {
        let text = text(&made);
        let fates = judged(&text, &rules, zone, false);
        let chains: Vec<Option<Vec<Name>>> = made.iter().map(|it| chain_of(it, &text)).collect();
        let restorable: Vec<bool> = chains.iter().map(Option::is_some).collect();
        let kept = model(&made, &restorable, &rules, zone);
        let mut stays: BTreeSet<Name> = kept.clone();
        for (made, chain) in made.iter().zip(&chains) {
            if kept.contains(&(made.number, made.dest)) {
                stays.extend(chain.iter().flatten());
            }
        }
        for (made, restorable) in made.iter().zip(restorable) {
            let name = (made.number, made.dest);
            let expected = match &fates[&name] {
                Fate::Kept(_) => kept.contains(&name),
                Fate::Needed(_) => !kept.contains(&name) && stays.contains(&name),
                Fate::Goes(_) => restorable && !stays.contains(&name),
                Fate::Closed(_) => !restorable && !made.deleted,
                Fate::Deleted => made.deleted,
                Fate::Held(_) => false,
            };
            prop_assert!(expected, "{made:?}: {:?}", fates[&name]);
        }
        let goes = going(&fates);
        for after in left(&made, &goes) {
            for (made, chain) in made.iter().zip(&chains) {
                if stays.contains(&(made.number, made.dest)) {
                    prop_assert_eq!(&chain_of(made, &after), chain, "{:?}", made);
                }
            }
            if !after.is_empty() {
                let again = judged(&after, &rules, zone, false);
                prop_assert_eq!(going(&again), BTreeSet::new());
            }
        }
    }

    /// In two vaults, where a chain may go through both: what can be brought
    /// back of what is kept can be brought back after, from its own vault
    /// where it could before.
    #[test]
    fn never_breaks_a_chain_that_is_kept(
        made in streams(2),
        rules in retention(),
        zone in prop::sample::select(ZONES.to_vec()),
        free in any::<bool>(),
        some in prop_oneof![Just(u16::MAX), any::<u16>()],
    ) {
        let text = text(&made);
        let fates = judged(&text, &rules, zone, free);
        // Of what goes a part is deleted, or all.
        let is_gone = |(number, _): &Name| (some >> number) & 1 == 1;
        let goes: BTreeSet<Name> = going(&fates).into_iter().filter(is_gone).collect();
        let before = catalog(&text);
        let stays = |made: &&Made| {
            let fate = &fates[&(made.number, made.dest)];
            matches!(fate, Fate::Kept(_) | Fate::Needed(_) | Fate::Held(_))
        };
        for after in left(&made, &goes) {
            let left = catalog(&after);
            for made in made.iter().filter(stays) {
                prop_assert!(made.is_sound());
                prop_assert!(chain(&left, &made.id()).is_some(), "{made:?}");
                let here = chain_of(made, &text);
                prop_assert!(here.is_none() || chain_of(made, &after).is_some(), "{made:?}");
                for (_, guid, _) in made.holds.iter().filter(|_| !made.bytes) {
                    let word = guid.to_string();
                    prop_assert!(
                        chain(&before, &word).is_none() || chain(&left, &word).is_some(),
                        "{guid}: {made:?}"
                    );
                }
            }
        }
        // What may be brought back by the rules alone, and so much as that.
        let restorable: Vec<bool> = made
            .iter()
            .map(|it| chain_of(it, &text).is_some() || it.is_sound() && chain(&before, &it.id()).is_some())
            .collect();
        let kept = model(&made, &restorable, &rules, zone);
        let is_kept = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Kept(_)));
        prop_assert_eq!(is_kept.map(|(name, _)| *name).collect::<BTreeSet<_>>(), kept);
    }

    /// What is early stays, with all it is based on; nothing else does.
    #[test]
    fn what_is_not_free_is_left_out_with_its_bases(
        made in streams(1),
        rules in retention(),
    ) {
        let text = text(&made);
        let (all, free) = (judged(&text, &rules, "UTC", false), judged(&text, &rules, "UTC", true));
        let mut held: BTreeSet<Name> = BTreeSet::new();
        for made in &made {
            let name = (made.number, made.dest);
            if let Fate::Goes(Some(_)) = all[&name] {
                prop_assert!(!matches!(free[&name], Fate::Goes(_)));
                held.extend(chain_of(made, &text).unwrap());
            }
        }
        let expected: BTreeSet<Name> = going(&all).difference(&held).copied().collect();
        prop_assert_eq!(going(&free), expected);
    }
}

/// An inventory that lists all of these in a vault, as glacier-ls prints it.
fn inventory(made: &[Made], dest: u8, time: Timestamp) -> String {
    let here = || made.iter().filter(|made| made.dest == dest);
    let at = format!(r#""dest":"glacier://vault-{dest}","region":"eu-central-1""#);
    let mut lines = String::new();
    for made in here() {
        let (dataset, guid, from) = made.holds[0];
        let mut of = format!(
            r#""stream":"{}","host":"host-{}","name":"{}""#,
            made.id(),
            made.host,
            made.name(dataset, guid)
        );
        if !made.bytes && !made.compound {
            write!(of, r#","guid":"{guid}""#).unwrap();
            of += &from.map(|from| format!(r#","from_guid":"{from}""#)).unwrap_or_default();
        }
        let uploaded = Timestamp::from_second(made.time).unwrap();
        for (id, kind) in made.ids().into_iter().zip(["volume", "volume", "manifest"]) {
            writeln!(
                lines,
                r#"{{"type":"inventoried",{at},"archive_id":"{id}","size":1,"treehash":"{HASH}","uploaded":"{uploaded}","inventory":"{time}","kind":"{kind}",{of}}}"#
            )
            .unwrap();
        }
    }
    let count = lines.lines().count();
    format!(
        "{{\"type\":\"inventory\",{at},\"made\":\"{time}\",\"age_s\":1,\"archives\":{count},\"size\":0,\"foreign\":0}}\n{lines}"
    )
}

impl Made {
    /// Its volumes and its manifest.
    fn ids(&self) -> [String; 3] {
        [self.archive(0), self.archive(1), format!("m{}", self.archive(9))]
    }
}

/// The ids that are offered by no rule of the retention, and the fates.
fn orphans_of(text: &str, now: Timestamp) -> Option<(HashSet<String>, Vec<Copy>, Vec<Fate>)> {
    let (books, _) = Books::read(text.as_bytes()).ok()?;
    let copies = books.copies();
    let prices = Prices::read(None).unwrap();
    let keep = worded(&[(0, 1)]);
    let question = Question { keep: &keep, zone: None, free_only: false, now, prices: &prices };
    let fates = judge(&books, &copies, &question);
    let orphans =
        orphans::find(&books, &copies, jiff::SignedDuration::from_hours(24), now, &prices);
    let lines = orphans.into_iter().map(|orphan| {
        let start = usize::try_from(orphan.span.0).unwrap();
        let end = start + usize::try_from(orphan.span.1).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text[start..end]).unwrap();
        let ids = ["archive_id", "manifest_id"].map(|id| line[id].as_str());
        ids.into_iter().flatten().next().unwrap().to_owned()
    });
    Some((lines.collect(), copies, fates))
}

proptest! {
    /// Of a catalog that ends anywhere, with an inventory behind it that is
    /// whole, one that is cut, or none: no archive of a stream is called an
    /// orphan that the whole catalog calls stored, and no rule lets go what one is
    /// based on that only the inventory knows.
    #[test]
    fn a_catalog_that_is_cut_offers_nothing_that_the_whole_one_needs(
        made in streams(2),
        cut in any::<prop::sample::Index>(),
        at_line in any::<bool>(),
        listed in prop_oneof![Just(None), (0_usize..4000).prop_map(Some), Just(Some(usize::MAX))],
    ) {
        let made: Vec<Made> = made.into_iter().map(|it| Made { gap: false, deleted: false, ..it }).collect();
        let whole = text(&made);
        let mut end = cut.index(whole.len() + 1);
        if at_line {
            end = whole[..end].rfind('\n').map_or(0, |end| end + 1);
        }
        let now = Timestamp::from_second(1_760_000_000 + 86_400 * 900).unwrap();
        let mut text = format!("{}\n", &whole[..end]);
        if let Some(most) = listed {
            let all = inventory(&made, 0, now) + &inventory(&made, 1, now);
            text += &all[..most.min(all.len())];
        }
        if let Some((orphans, copies, fates)) = orphans_of(&text, now) {
            for made in &made {
                for id in made.ids() {
                    prop_assert!(!orphans.contains(&id), "{id}: {made:?}");
                }
            }
            let cut_off = made.iter().filter(|made| {
                !whole[..end].contains(&format!("\"manifest_id\":\"{}\"", made.ids()[2]))
            });
            let single = cut_off.filter(|it| !it.compound && !it.bytes && listed == Some(usize::MAX));
            for made in single {
                let needs = made.holds[0].2;
                for (copy, fate) in copies.iter().zip(&fates) {
                    let holds = copy.holds.iter().any(|it| it.guid.map(|it| it.0) == needs);
                    let is_base = needs.is_some() && holds;
                    prop_assert!(!is_base || !matches!(fate, Fate::Goes(_)), "{made:?}");
                }
            }
        }
    }

    /// What was given up is offered once an inventory proves it.
    #[test]
    fn what_an_inventory_has_no_manifest_of_is_offered(made in streams(1)) {
        let made: Vec<Made> = made.into_iter().map(|it| Made { gap: false, deleted: false, ..it }).collect();
        let whole = text(&made);
        let given_up = &made[0];
        let ids = given_up.ids();
        let lines = |text: &str, what: &str| -> String {
            text.split_inclusive('\n').filter(|line| !line.contains(what)).collect()
        };
        let now = Timestamp::from_second(1_760_000_000 + 86_400 * 900).unwrap();
        let catalog = lines(&whole, &format!("\"manifest_id\":\"{}\"", ids[2]));
        let listed = lines(&inventory(&made, 0, now), &format!("\"archive_id\":\"{}\"", ids[2]));
        let count = listed.lines().count() - 1;
        let listed = listed.replace(
            &format!("\"archives\":{},", made.len() * 3),
            &format!("\"archives\":{count},"),
        );
        let (orphans, ..) = orphans_of(&(catalog.clone() + &listed), now).unwrap();
        prop_assert_eq!(orphans, HashSet::from([ids[0].clone(), ids[1].clone()]));
        let (orphans, ..) = orphans_of(&catalog, now).unwrap();
        prop_assert_eq!(orphans, HashSet::new());
    }
}
