use std::cell::OnceCell;

use jiff::Timestamp;
use proptest::prelude::*;

use super::span::DAY;
use super::*;

fn window(text: &str) -> Window {
    Window::parse(text).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn reads_the_grammar_and_nothing_else() {
    for good in [
        "22:00-06:00",
        "00:00-24:00",
        "01:30-02:30,22:00-24:00",
        "23:59-00:00",
        "00:00-00:01",
        "22:00-06:00=5M",
        "Mon-Fri 22:00-06:00=80Mbit/s, Sat,Sun 00:00-24:00",
        " weekday  22:00-06:00 ,weekend 00:00-24:00",
    ] {
        assert_eq!(window(good).to_string(), good);
    }
    for bad in [
        "",
        ",",
        "22:00",
        "22-06",
        "22:00-6:00",
        "22:00-06:00,",
        "22:00 - 06:00",
        "24:00-06:00",
        "22:60-06:00",
        "25:00-06:00",
        "22:00-24:01",
        "+2:00-06:00",
        "22:00-06:00-07:00",
        "Mon-Fri 22-06",
        "Mon-Fri  22:00 -06:00",
        "22:00-06:00 Mon",
        "２２:00-06:00",
        "22:00:00-06:00",
    ] {
        let why = Window::parse(bad).unwrap_err();
        assert!(why.contains("is not HH:MM-HH:MM, such as "), "{bad}: {why}");
    }
    for equal in ["06:00-06:00", "00:00-00:00"] {
        let why = Window::parse(equal).unwrap_err();
        assert_eq!(why, format!("'{equal}' is empty; all day is 00:00-24:00"));
    }
}

#[test]
fn is_open_from_its_first_instant_up_to_its_last() {
    let (window, zone) = (window("22:00-06:00"), Zone::named("UTC").unwrap());
    for (at, open) in [
        ("2026-01-05T21:59:59.999999999Z", false),
        ("2026-01-05T22:00:00Z", true),
        ("2026-01-06T05:59:59.999999999Z", true),
        ("2026-01-06T06:00:00Z", false),
    ] {
        assert_eq!(window.is_open(time(at), &zone), open, "{at}");
    }
    let noon = time("2026-01-05T12:00:00.5Z");
    assert_eq!(window.next_open(noon, &zone), Some(time("2026-01-05T22:00:00Z")));
    assert_eq!(window.closes(noon, &zone), None);
    let night = time("2026-01-05T22:00:00.5Z");
    assert_eq!(window.closes(night, &zone), Some(time("2026-01-06T06:00:00Z")));
    assert_eq!(window.next_open(night, &zone), Some(time("2026-01-06T22:00:00Z")));
}

#[test]
fn never_closes_when_it_is_all_day() {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let at = time("2026-03-28T12:00:00Z");
    for all_day in ["00:00-24:00", "12:00-00:00,00:00-12:00", "06:00-18:00,17:00-07:00"] {
        let all_day = window(all_day);
        assert!(all_day.is_open(at, &zone));
        assert_eq!((all_day.closes(at, &zone), all_day.next_open(at, &zone)), (None, None));
        assert_eq!(all_day.longest_gap(), Duration::ZERO);
    }
}

#[test]
fn knows_the_longest_gap() {
    for (text, hours) in [
        ("22:00-06:00", 16),
        ("00:00-01:00", 23),
        ("02:00-03:00,12:00-20:00", 9),
        ("06:00-22:00", 8),
        ("Mon-Fri 22:00-06:00", 24 + 24 + 16),
        ("weekend 00:00-24:00", 5 * 24),
        ("Sun 22:00-06:00", 6 * 24 + 16),
        ("Wed 10:00-11:00=5M,Wed 11:00-12:00", 6 * 24 + 22),
        ("Tue-Sun 00:00-24:00", 24),
    ] {
        assert_eq!(window(text).longest_gap(), Duration::from_secs(hours * 3600), "{text}");
    }
}

#[test]
fn the_later_of_two_spans_decides() {
    let zone = Zone::named("UTC").unwrap();
    let window = window("00:00-24:00=5M,Mon-Fri 08:00-18:00=1M,Wed 12:00-13:00");
    // 7 January 2026 is a Wednesday.
    let mut at = time("2026-01-07T07:30:00Z");
    let mut changes = Vec::new();
    while changes.len() < 5 {
        let (next, flow) = window.next_flow(at, &zone).unwrap();
        assert_eq!(window.flow(next, &zone), flow);
        changes.push((next.strftime("%a %H:%M").to_string(), flow));
        at = next;
    }
    let [slow, fast] = [Flow::Rate(1 << 20), Flow::Rate(5 << 20)];
    let expected = [
        ("Wed 08:00", slow),
        ("Wed 12:00", Flow::Free),
        ("Wed 13:00", slow),
        ("Wed 18:00", fast),
        ("Thu 08:00", slow),
    ];
    assert_eq!(changes, expected.map(|(at, flow)| (at.to_owned(), flow)));
    // The rate changes, but it never closes.
    assert_eq!((window.closes(at, &zone), window.next_open(at, &zone)), (None, None));
    assert_eq!(window.longest_gap(), Duration::ZERO);
}

#[test]
fn a_change_of_the_rate_closes_nothing() {
    let zone = Zone::named("UTC").unwrap();
    let window = window("22:00-06:00=5M,00:00-04:00");
    let at = time("2026-01-05T23:00:00Z");
    assert_eq!(window.flow(at, &zone).rate(), Some(5 << 20));
    assert_eq!(window.next_flow(at, &zone), Some((time("2026-01-06T00:00:00Z"), Flow::Free)));
    assert_eq!(window.closes(at, &zone), Some(time("2026-01-06T06:00:00Z")));
    assert_eq!(window.next_open(at, &zone), Some(time("2026-01-06T22:00:00Z")));
    // Nor does one that changes nothing change the flow.
    let same = Window::parse("22:00-02:00=5M,02:00-06:00=5M").unwrap();
    assert_eq!(same.next_flow(at, &zone), Some((time("2026-01-06T06:00:00Z"), Flow::Closed)));
}

#[test]
fn a_night_belongs_to_the_day_it_begins_on() {
    let (friday, zone) = (window("Fri 22:00-06:00"), Zone::named("UTC").unwrap());
    // 9 January 2026 is a Friday.
    for (at, open) in [
        ("2026-01-09T05:00:00Z", false),
        ("2026-01-09T22:00:00Z", true),
        ("2026-01-10T05:59:59Z", true),
        ("2026-01-10T22:00:00Z", false),
    ] {
        assert_eq!(friday.is_open(time(at), &zone), open, "{at}");
    }
    let sunday = window("Sun 22:00-06:00");
    assert!(sunday.is_open(time("2026-01-12T05:59:59Z"), &zone), "into Monday");
    assert!(!sunday.is_open(time("2026-01-11T05:59:59Z"), &zone));
}

#[test]
fn finds_an_opening_that_a_calendar_or_a_clock_has_left_out() {
    // Samoa had no Friday in the last week of 2011.
    let (friday, zone) = (window("Fri 10:00-11:00"), Zone::named("Pacific/Apia").unwrap());
    let opens = friday.next_open(time("2011-12-24T00:00:00Z"), &zone).unwrap();
    assert_eq!(opens, time("2012-01-05T20:00:00Z"));
    let (sunday, zone) = (window("Sun 02:15-02:45"), Zone::named("Europe/Berlin").unwrap());
    let opens = sunday.next_open(time("2026-03-22T12:00:00Z"), &zone).unwrap();
    assert_eq!(opens, time("2026-04-05T00:15:00Z"));
}

#[test]
fn skips_and_repeats_what_the_clock_does() {
    let zone = Zone::named("Europe/Berlin").unwrap();
    // 02:00 becomes 03:00 on 29 March 2026, so half past two is not there.
    let half = window("02:15-02:45");
    assert_eq!(
        half.next_open(time("2026-03-28T12:00:00Z"), &zone),
        Some(time("2026-03-30T00:15:00Z"))
    );
    // A window that the skipped hour ends or begins in is shorter.
    let night = window("22:00-02:30");
    assert_eq!(
        night.closes(time("2026-03-28T22:00:00Z"), &zone),
        Some(time("2026-03-29T01:00:00Z"))
    );
    let morning = window("02:30-05:00");
    assert_eq!(
        morning.next_open(time("2026-03-28T12:00:00Z"), &zone),
        Some(time("2026-03-29T01:00:00Z"))
    );
    // 03:00 becomes 02:00 on 25 October 2026: half past two comes twice.
    let first = time("2026-10-25T00:15:00Z");
    assert_eq!(half.closes(first, &zone), Some(time("2026-10-25T00:45:00Z")));
    assert_eq!(half.next_open(first, &zone), Some(time("2026-10-25T01:15:00Z")));
}

#[test]
fn refuses_an_unknown_zone() {
    for bad in [
        "",
        "Europe/Atlantis",
        "Etc/Unknown",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "../etc/passwd",
        "local",
    ] {
        assert!(Zone::named(bad).is_err(), "{bad}");
    }
    assert_eq!(Zone::named("america/new_york").unwrap().name(), Some("America/New_York"));
}

/// Whether `HH:MM` is in a window, by comparing text.
fn oracle(text: &str, clock: &str) -> bool {
    text.split(',').any(|span| {
        let (opens, closes) = span.split_once('-').unwrap();
        if opens < closes {
            opens <= clock && clock < closes
        } else {
            opens <= clock || clock < closes
        }
    })
}

/// Every minute of a year, and the openings and closings found by waiting.
fn compare(text: &str, zone: &str, year: i16) {
    let (window, named) = (window(text), Zone::named(zone).unwrap());
    let zone = jiff::tz::TimeZone::get(zone).unwrap();
    let start = jiff::civil::date(year, 1, 1)
        .at(0, 0, 0, 0)
        .to_zoned_datetime(zone.clone())
        .unwrap()
        .timestamp();
    let minutes = 366 * 24 * 60;
    let at = |minute: i64| Timestamp::from_second(start.as_second() + minute * 60).unwrap();
    let open: Vec<bool> = (0..minutes)
        .map(|minute| {
            oracle(text, &at(minute).to_zoned_datetime(zone.clone()).strftime("%H:%M").to_string())
        })
        .collect();
    // From the end on, as each minute knows the next change from the one
    // behind it.
    let (mut opens, mut closes) = (OnceCell::new(), OnceCell::new());
    for minute in (0..minutes - 1).rev() {
        let now = usize::try_from(minute).unwrap();
        match (open[now], open[now + 1]) {
            (false, true) => opens = OnceCell::from(at(minute + 1)),
            (true, false) => closes = OnceCell::from(at(minute + 1)),
            _ => {}
        }
        let found = at(minute);
        assert_eq!(window.is_open(found, &named), open[now], "{text} {found}");
        // The last days of the year do not know what comes after it.
        if minute < minutes - 3 * 24 * 60 && (minute % 7 == 0 || open[now] != open[now + 1]) {
            assert_eq!(window.next_open(found, &named), opens.get().copied(), "{text} {found}");
            let end = closes.get().copied().filter(|_| open[now]);
            assert_eq!(window.closes(found, &named), end, "{text} {found}");
        }
    }
}

#[test]
fn equals_waiting_minute_by_minute_over_a_year() {
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]
    {
        compare("22:00-06:00", zone, 2026);
        compare("01:45-02:15,02:30-03:00,12:00-24:00", zone, 2026);
    }
    // A day that was not there, and clocks changed at midnight.
    compare("22:00-06:00", "Pacific/Apia", 2011);
    compare("00:00-00:30,23:30-24:00", "America/Havana", 2026);
}

proptest! {
    #[test]
    fn opens_and_closes_in_turn(
        spans in prop::collection::vec((0..128_u8, 0..DAY, 1..=DAY, 0..3_u8), 1..5),
        seconds in 1_700_000_000_i64..1_900_000_000,
    ) {
        let spans: Vec<String> = spans
            .into_iter()
            .filter(|(_, opens, closes, _)| opens != closes)
            .map(|(days, a, b, rate)| {
                let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
                let chosen = (0..7).filter(|day| days >> day & 1 == 1).map(|day| names[day]);
                let days = chosen.collect::<Vec<_>>().join(",");
                let rate = ["", "=5M", "=80Mbit"][usize::from(rate)];
                let [a, b] = [a, b].map(|at| format!("{:02}:{:02}", at / 60, at % 60));
                format!("{days} {a}-{b}{rate}")
            })
            .collect();
        prop_assume!(!spans.is_empty());
        let (window, zone) = (window(&spans.join(",")), Zone::named("America/New_York").unwrap());
        let at = Timestamp::from_second(seconds).unwrap();
        let before = |at: Timestamp| at.checked_sub(SignedDuration::from_nanos(1)).unwrap();
        if let Some((next, flow)) = window.next_flow(at, &zone) {
            prop_assert_eq!(window.flow(next, &zone), flow);
            prop_assert_eq!(window.flow(before(next), &zone), window.flow(at, &zone));
            prop_assert!(next > at && flow != window.flow(at, &zone));
        }
        if let Some(opens) = window.next_open(at, &zone) {
            prop_assert!(opens > at && window.is_open(opens, &zone));
            prop_assert!(!window.is_open(before(opens), &zone));
            let closes = window.closes(opens, &zone).unwrap();
            prop_assert!(closes > opens && !window.is_open(closes, &zone));
        } else {
            prop_assert_eq!(window.longest_gap(), Duration::ZERO);
        }
    }
}
