//! Text in columns, as kubectl sets it: left-aligned, three blanks between columns, nothing behind the last.

use std::fmt::Write as _;

/// Space between two columns.
const GAP: usize = 3;

/// Rows of cells under headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// the first line; empty for none
    pub(crate) headers: Vec<String>,
    /// the other lines
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headers: &[&str]) -> Self {
        Self { headers: headers.iter().map(|&h| h.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a line.
    pub(crate) fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The lines, each with its end.
    pub(crate) fn render(&self) -> String {
        let lines: Vec<&Vec<String>> =
            (!self.headers.is_empty()).then_some(&self.headers).into_iter().chain(&self.rows).collect();
        let width =
            |column: usize| lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines.iter().map(|l| l.len()).max().unwrap_or(0)).map(width).collect();
        let mut text = String::new();
        for line in lines {
            for (column, cell) in line.iter().enumerate() {
                if column + 1 == line.len() {
                    text.push_str(cell);
                } else {
                    let _ = write!(text, "{cell:width$}", width = widths[column] + GAP);
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "AGE"]);
        table.push(["a", "5s"]);
        table.push(["longer-name", "10m"]);
        assert_eq!(table.render(), "NAME          AGE\na             5s\nlonger-name   10m\n");
    }
}
