//! The text of a description: lines with tabs, whose cells are set under each other.
//!
//! Lines that follow each other and have a tab at the same place share a column; a line without one ends it.

/// Space behind the widest cell of a column.
const GAP: usize = 2;

/// A description that grows line by line.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    lines: Vec<Vec<String>>,
}

impl Text {
    /// Adds a line; `\t` ends a cell.
    pub(super) fn line(&mut self, line: impl AsRef<str>) {
        self.lines.push(line.as_ref().split('\t').map(str::to_owned).collect());
    }

    /// Adds `name:` and a value.
    pub(super) fn field(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        self.line(format!("{:indent$}{name}:\t{}", "", value.as_ref()));
    }

    /// Adds a field with several values, one below the other; `<none>` without any.
    pub(super) fn list<S: AsRef<str>>(&mut self, indent: usize, name: &str, values: impl IntoIterator<Item = S>) {
        let mut values = values.into_iter();
        self.field(indent, name, values.next().as_ref().map_or("<none>", S::as_ref));
        for value in values {
            self.line(format!("{:indent$}\t{}", "", value.as_ref()));
        }
    }

    /// The text, cells set.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            for (column, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < line.len() {
                    let padding = self.width(index, column) + GAP - length(cell);
                    text.extend(std::iter::repeat_n(' ', padding));
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }

    /// The widest cell of the column in the lines around `index` that have it.
    fn width(&self, index: usize, column: usize) -> usize {
        let has = |line: &&Vec<String>| line.len() > column + 1;
        let above = self.lines[..index].iter().rev().take_while(has);
        let below = self.lines[index..].iter().take_while(has);
        above.chain(below).map(|line| length(&line[column])).max().unwrap_or(0)
    }
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn neighbouring_lines_share_their_columns() {
        let mut text = Text::default();
        text.field(0, "Name", "a");
        text.list(0, "Annotations", ["x=1", "y=2"]);
        text.line("Spec:");
        text.field(2, "A", "b");
        text.line("  one\ttwo\tthree");
        assert_eq!(
            text.render(),
            "Name:         a\nAnnotations:  x=1\n              y=2\nSpec:\n  A:   b\n  one  two  three\n"
        );
    }
}
