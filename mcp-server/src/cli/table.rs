//! Tables of at most 80 columns, amounts to the right.

/// Most columns of a line.
const WIDTH: usize = 80;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left; gives way when a line would be too long.
    Left,
    /// At the left, never shortened: what somebody copies.
    Whole,
    /// At the right, for numbers.
    Right,
    /// Amounts, their decimal points below one another.
    Amount,
}

/// Rows under headings.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; what is beyond the headings is dropped.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(
            cells
                .map(|cell| super::output::clean(&cell).replace('\n', " "))
                .into(),
        );
    }

    /// The lines, heading first. When they would be longer than 80 columns, the widest column at the
    /// left gives way.
    pub fn lines(&self) -> Vec<String> {
        let rows = self.aligned();
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (name, _))| {
                let cells = rows.iter().filter_map(|row| row.get(i));
                cells
                    .map(|cell| cell.chars().count())
                    .fold(name.len(), usize::max)
            })
            .collect();
        let gaps = 2 * self.columns.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > WIDTH {
            let widest = widths
                .iter_mut()
                .zip(&self.columns)
                .filter(|(_, (_, align))| *align == Align::Left)
                .map(|(width, _)| width)
                .max();
            match widest {
                Some(width) if *width > 4 => *width -= 1,
                _ => break,
            }
        }
        let heading: Vec<String> = self
            .columns
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        std::iter::once(&heading)
            .chain(&rows)
            .map(|row| self.line(row, &widths))
            .collect()
    }

    /// The rows with amounts padded behind, so that their decimal points are in one place.
    fn aligned(&self) -> Vec<Vec<String>> {
        let mut rows = self.rows.clone();
        for (i, (_, align)) in self.columns.iter().enumerate() {
            if *align != Align::Amount {
                continue;
            }
            let cells = rows.iter().filter_map(|row| row.get(i));
            let most = cells.map(|cell| behind(cell)).max().unwrap_or(0);
            for cell in rows.iter_mut().filter_map(|row| row.get_mut(i)) {
                // A word has no decimal point.
                let number = cell
                    .bytes()
                    .all(|b| b.is_ascii_digit() || b"-.".contains(&b));
                let room = if number { most - behind(cell) } else { 0 };
                cell.extend(std::iter::repeat_n(' ', room));
            }
        }
        rows
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row
            .iter()
            .zip(widths)
            .zip(&self.columns)
            .map(|((cell, width), (_, align))| {
                let cell = shorten(cell, *width);
                match align {
                    Align::Left | Align::Whole => format!("{cell:<width$}"),
                    Align::Right | Align::Amount => format!("{cell:>width$}"),
                }
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

/// Characters of an amount from its decimal point on.
fn behind(amount: &str) -> usize {
    amount.split_once('.').map_or(0, |(_, rest)| rest.len() + 1)
}

/// Asserts that a table fits the screen.
#[cfg(test)]
#[track_caller]
pub(super) fn fits(table: &Table) {
    let lines = table.lines();
    let wide = lines.iter().find(|line| line.chars().count() > WIDTH);
    assert_eq!(wide, None, "\n{}", lines.join("\n"));
}

/// The text itself, or its beginning and two points.
pub fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars()
        .take(width.saturating_sub(2))
        .chain("..".chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_stand_at_the_right_and_lines_fit_80_columns() {
        let mut table = Table::new(&[("what", Align::Left), ("TRM", Align::Right)]);
        table.row(["a".into(), "1.5".into()]);
        table.row(["x".repeat(200), "1000".into()]);
        let lines = table.lines();
        assert_eq!(lines.len(), 3);
        assert!(
            lines[1].ends_with("   1.5") && lines[2].ends_with("..  1000"),
            "{lines:?}"
        );
        assert!(
            lines.iter().all(|line| line.chars().count() <= WIDTH),
            "{lines:?}"
        );
    }

    #[test]
    fn decimal_points_stand_below_one_another() {
        let mut table = Table::new(&[("TRM", Align::Amount), ("x", Align::Left)]);
        for amount in ["1.5", "1000", "-0.000001", "", "none"] {
            table.row([amount.into(), "|".into()]);
        }
        assert_eq!(
            table.lines(),
            [
                "        TRM  x",
                "   1.5       |",
                "1000         |",
                "  -0.000001  |",
                "             |",
                "       none  |",
            ]
        );
    }

    #[test]
    fn a_line_end_in_a_cell_does_not_break_the_table() {
        let mut table = Table::new(&[("name", Align::Left)]);
        table.row(["a\nb\x1b".into()]);
        assert_eq!(table.lines(), ["name", "a b\u{fffd}"]);
    }
}
