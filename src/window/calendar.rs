//! A window as people see it: the week as a grid.

use std::time::Duration;

use super::span::{DAY, NAMES, WEEK};
use super::{Flow, Window, Zone};
use crate::units;

/// Minutes in a cell.
const CELL: u16 = 30;

/// Over the cells, six to each number.
const HOURS: &str = "     00    03    06    09    12    15    18    21    24";

/// A week of the clock on the wall: a line a day, a cell for each half hour,
/// and what the cells mean. No line is longer than 80 columns.
pub fn calendar(window: &Window, zone: &Zone) -> String {
    let place = zone.name().unwrap_or("local time");
    let mut lines = vec![format!("Any week, by the clock on the wall: {place}"), HOURS.to_owned()];
    let (mut rates, mut seen) = (Vec::new(), String::new());
    for (day, name) in (0_u16..).zip(NAMES) {
        let cells = (day * DAY..(day + 1) * DAY).step_by(usize::from(CELL));
        let cells: String = cells.map(|begin| mark(cell(window, begin), &mut rates)).collect();
        lines.push(format!("{name}  {cells}"));
        seen += &cells;
    }
    lines.push(String::new());
    let free = [('#', "as fast as it goes".to_owned())];
    let rates =
        LETTERS.chars().zip(&rates).map(|(letter, rate)| (letter, units::bytes(*rate) + "/s"));
    let rest = [('?', "another rate"), ('.', "closed"), ('+', "changes within")];
    let legend =
        free.into_iter().chain(rates).chain(rest.map(|(mark, text)| (mark, text.to_owned())));
    let meanings = legend.filter(|(mark, _)| seen.contains(*mark));
    lines.extend(meanings.map(|(mark, meaning)| format!("{mark}  {meaning}")));
    let open = (0..WEEK).map(u32::from).filter(|minute| window.flow_in(*minute).is_open()).count();
    let open = units::time(Duration::from_mins(u64::try_from(open).unwrap_or_default()));
    let closed = match window.longest_gap() {
        gap if gap.is_zero() => "never closed".to_owned(),
        gap => format!("closed for {} at a time", units::time(gap)),
    };
    lines.extend([String::new(), format!("open for {open} a week, {closed}"), String::new()]);
    lines.join("\n")
}

/// Rates have letters, in the order in which they come.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";

/// The flow of a cell, if it is one.
fn cell(window: &Window, begin: u16) -> Option<Flow> {
    let flow = window.flow_in(begin.into());
    let mut all = begin..begin + CELL;
    all.all(|minute| window.flow_in(minute.into()) == flow).then_some(flow)
}

fn mark(flow: Option<Flow>, rates: &mut Vec<u64>) -> char {
    let rate = match flow {
        None => return '+',
        Some(Flow::Closed) => return '.',
        Some(Flow::Free) => return '#',
        Some(Flow::Rate(rate)) => rate,
    };
    let number = rates.iter().position(|known| *known == rate).unwrap_or_else(|| {
        rates.push(rate);
        rates.len() - 1
    });
    LETTERS.chars().nth(number).unwrap_or('?')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(window: &str) -> String {
        let zone = Zone::named("Europe/Berlin").unwrap();
        calendar(&Window::parse(window).unwrap(), &zone)
    }

    #[test]
    fn shows_the_week() {
        let expected = "\
Any week, by the clock on the wall: Europe/Berlin
     00    03    06    09    12    15    18    21    24
Mon  aaaaaaaaaaaa...............+................aaaa
Tue  aaaaaaaaaaaa...............+................aaaa
Wed  aaaaaaaaaaaa...............+................aaaa
Thu  aaaaaaaaaaaa...............+................aaaa
Fri  aaaaaaaaaaaa...............+................aaaa
Sat  ################################################
Sun  ################################################

#  as fast as it goes
a  5 MiB/s
.  closed
+  changes within

open for 3 d 17 h a week, closed for 8 h 15 min at a time
";
        let window = "22:00-06:00=5M,weekend 00:00-24:00,weekday 13:30-13:45";
        assert_eq!(shown(window), expected);
    }

    #[test]
    fn fits_a_terminal_whatever_the_window() {
        let many: Vec<String> = (0..30)
            .map(|rate| format!("{:02}:{:02}-24:00={}K", rate / 2, rate % 2 * 30, rate + 1))
            .collect();
        let many = shown(&many.join(","));
        assert!(many.contains("z  26 KiB/s\n?  another rate\n"), "{many}");
        for text in [many, shown("00:00-24:00")] {
            assert!(text.lines().all(|line| line.len() <= 80 && line.is_ascii()), "{text}");
        }
        assert!(shown("00:00-24:00").ends_with("open for 7 d a week, never closed\n"));
    }
}
