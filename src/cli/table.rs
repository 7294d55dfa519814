//! The table that all commands share: columns two blanks apart, as wide as their widest cell.
//!
//! On a terminal a row is cut at the edge of the screen, so that one row is one line; nothing is
//! cut for a file or a pipe. Widths are those of Unicode (UAX 11), computed by `tabwriter`, which
//! is the smallest library that supports them: it adds 30 kB to the program, comfy-table 110 kB and
//! tabled 240 kB.

use super::output::OutputStyle;
use crate::printable::escaped;
use clap::builder::styling::Style;
use std::borrow::Cow;
use std::io::Write as _;
use tabwriter::TabWriter;

/// The end of a row that is cut.
const CUT: &str = "…";

/// Headings, and rows that are added one by one.
#[derive(Debug)]
pub struct TextTable {
    look: OutputStyle,
    cells: TabWriter<Vec<u8>>,
}

impl TextTable {
    pub fn new<'a>(look: OutputStyle, headings: impl IntoIterator<Item = &'a str>) -> Self {
        let cells = TabWriter::new(Vec::new()).minwidth(0).padding(2).ansi(look.coloured);
        let mut table = Self { look, cells };
        table.row(headings.into_iter().map(|heading| (heading, Style::new().bold())));
        table
    }

    /// Adds a row; it may contain strings of others unchanged.
    pub fn row<'a, C: Into<Cow<'a, str>>>(&mut self, cells: impl IntoIterator<Item = (C, Style)>) {
        for (column, (cell, style)) in cells.into_iter().enumerate() {
            let cell = cell.into();
            // Without a style the end of a row is blank, and is cut off.
            let style = if cell.is_empty() { Style::new() } else { self.look.style(style) };
            let tab = if column == 0 { "" } else { "\t" };
            // It is written to memory, which never fails.
            let _ = write!(self.cells, "{tab}{style}{}{style:#}", escaped(&cell));
        }
        let _ = writeln!(self.cells);
    }

    pub fn render(self) -> String {
        let bytes = self.cells.into_inner().unwrap_or_default();
        let mut text = String::with_capacity(bytes.len());
        for line in String::from_utf8_lossy(&bytes).lines() {
            let line = line.trim_end();
            let shown = match self.look.width {
                Some(width) => console::truncate_str(line, width, CUT),
                None => Cow::Borrowed(line),
            };
            text.push_str(&shown);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::builder::styling::AnsiColor;

    const PLAIN: Style = Style::new();

    fn rendered(look: OutputStyle, rows: &[[&str; 3]]) -> String {
        let mut table = TextTable::new(look, ["NAME", "STATE", ""]);
        for row in rows {
            let red = AnsiColor::Red.on_default();
            table.row(row.iter().zip([PLAIN, red, PLAIN]).map(|(cell, style)| (*cell, style)));
        }
        table.render()
    }

    #[test]
    fn columns_are_straight_however_wide_a_character_is() {
        let rows =
            [["lamp", "alive", "x"], ["厨房", "expired", ""], ["Kü\u{308}che", "alive", "y"]];
        assert_eq!(
            rendered(OutputStyle::default(), &rows),
            "NAME   STATE\n\
             lamp   alive    x\n\
             厨房   expired\n\
             Kü\u{308}che  alive    y\n"
        );
    }

    #[test]
    fn a_cell_is_one_cell_whatever_is_in_it() {
        let text = rendered(OutputStyle::default(), &[["a\tb", "\x1b[2J", "c\nd"]]);
        assert_eq!(text, "NAME  STATE\na\\tb  \\u{1b}[2J  c\\nd\n");
    }

    #[test]
    fn colours_change_no_column_and_a_screen_ends_a_row() {
        let rows = [["lamp", "alive", "a long story"]];
        let look = OutputStyle { coloured: true, ..OutputStyle::default() };
        let painted = rendered(look, &rows);
        assert!(painted.contains("\x1b[31malive\x1b[0m"), "{painted:?}");
        let plain = console::strip_ansi_codes(&painted).into_owned();
        assert_eq!(plain, rendered(OutputStyle::default(), &rows));
        let narrow = rendered(OutputStyle { width: Some(18), ..look }, &rows);
        let narrow = console::strip_ansi_codes(&narrow).into_owned();
        assert_eq!(narrow, "NAME  STATE\nlamp  alive  a lo…\n");
    }
}
