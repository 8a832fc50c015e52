//! Tables for people: aligned columns, sizes in binary units, times in UTC.
//!
//! Pure: cells in, text out. What others wrote is made printable here, as a
//! table is only ever for a terminal.

use std::time::Duration;

use jiff::Timestamp;

use crate::process::escape::printable;
use crate::units;

/// Characters of a cell that is not the last one, at most.
const WIDEST: usize = 44;

/// Between two columns.
const GAP: &str = "  ";

/// A column: its title, and on which side its cells stand.
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Text.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Left(title) | Self::Right(title) => title,
        }
    }
}

/// Rows of cells under their titles.
#[derive(Debug)]
pub struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Takes a row, a cell for each column. All but the last are shortened in
    /// their middle where they would be too wide.
    pub fn row(&mut self, cells: Vec<String>) {
        let last = self.columns.len().saturating_sub(1);
        let shown = cells.into_iter().enumerate().map(|(column, cell)| {
            let cell = printable(&cell);
            let cell = if column < last { shortened(&cell) } else { cell };
            if cell.is_empty() { "-".to_owned() } else { cell }
        });
        self.rows.push(shown.collect());
    }

    /// The text, with a newline behind each row.
    pub fn text(&self) -> String {
        let titles = || self.columns.iter().map(|column| column.title().to_owned());
        let rows = || std::iter::once(titles().collect()).chain(self.rows.iter().cloned());
        let mut widths = vec![0; self.columns.len()];
        for row in rows() {
            let row: Vec<String> = row;
            for (width, cell) in widths.iter_mut().zip(&row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for row in rows() {
            let cells = self.columns.iter().zip(&row).zip(&widths);
            let cells: Vec<String> = cells
                .map(|((column, cell), width)| match column {
                    Column::Left(_) => format!("{cell:<width$}"),
                    Column::Right(_) => format!("{cell:>width$}"),
                })
                .collect();
            text.push_str(cells.join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

/// A cell without its middle, if it is too wide: names differ at their ends.
fn shortened(cell: &str) -> String {
    let length = cell.chars().count();
    if length <= WIDEST {
        return cell.to_owned();
    }
    let tail = WIDEST / 2;
    let head = cell.chars().take(WIDEST - tail - 3);
    head.chain("...".chars()).chain(cell.chars().skip(length - tail)).collect()
}

/// A time to the minute, in UTC.
pub fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// How long ago a time was; nothing of one that is yet to come.
pub fn age(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(time)).unwrap_or_default()
}

/// The same as people read it.
pub fn old(time: Timestamp, now: Timestamp) -> String {
    units::time(age(time, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[Column::Left("NAME"), Column::Right("SIZE"), Column::Left("WHAT")];

    fn table(rows: &[[&str; 3]]) -> String {
        let mut table = Table::new(COLUMNS);
        for row in rows {
            table.row(row.map(str::to_owned).to_vec());
        }
        table.text()
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_with_spaces() {
        assert_eq!(
            table(&[["a", "1.5 GiB", "x"], ["größe", "12 KiB", ""]]),
            "NAME      SIZE  WHAT\na      1.5 GiB  x\ngröße   12 KiB  -\n"
        );
        assert_eq!(table(&[]), "NAME  SIZE  WHAT\n");
    }

    #[test]
    fn what_is_too_wide_keeps_its_ends_and_the_last_column_all() {
        let long = format!("tank/{}@mon", "x".repeat(200));
        let text = table(&[[&long, "1", &long]]);
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("tank/") && row.ends_with(&long), "{row}");
        assert_eq!(row.chars().count(), WIDEST + 2 + 4 + 2 + long.len());
        assert_eq!(shortened(&long).chars().count(), WIDEST);
        assert!(shortened(&long).ends_with("@mon"));
    }

    #[test]
    fn a_terminal_shows_names_and_obeys_none() {
        let text = table(&[["\u{1b}[2J\n", "1", "\u{202e}x"]]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("\\u{1b}[2J\\n") && text.contains("\\u{202e}x"), "{text}");
    }

    #[test]
    fn a_time_yet_to_come_has_no_age() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (before, then) = (time("2026-11-23T22:00:00Z"), time("2026-11-25T01:00:00Z"));
        assert_eq!(old(before, then), "1 d 3 h");
        assert_eq!(old(then, before), "0 s");
        assert_eq!(minute(before), "2026-11-23 22:00");
    }
}
