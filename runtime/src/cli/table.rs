//! Text in columns, as kubectl sets it: left-aligned, three blanks between columns, nothing behind the last.

use comfy_table::presets;

/// Space between two columns.
const GAP: u16 = 3;

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
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).add_rows(&self.rows);
        if !self.headers.is_empty() {
            table.set_header(&self.headers);
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let mut text = String::new();
        for line in table.lines() {
            text.push_str(line.trim_end());
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

    #[test]
    fn a_wide_character_takes_the_two_columns_that_a_terminal_gives_it() {
        let mut table = Table::new(&["NAME", "AGE"]);
        table.push(["\u{8c5a}\u{8089}", "5s"]);
        table.push(["e\u{301}t\u{e9}", "10m"]);
        assert_eq!(table.render(), "NAME   AGE\n\u{8c5a}\u{8089}   5s\ne\u{301}t\u{e9}    10m\n");
    }

    #[test]
    fn rows_stand_without_headers_and_where_cells_are_missing_or_empty() {
        let mut table = Table::new(&[]);
        assert_eq!(table.render(), "");
        table.push(["a", "b", "c"]);
        table.push(["longer"]);
        table.push(["", "b", ""]);
        assert_eq!(table.render(), "a        b   c\nlonger\n         b\n");
    }
}
