//! Tables, for people.

/// Cells in rows below a head; all rows are as long as the head.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "a row is as long as the head");
        self.rows.push(cells);
    }

    /// With columns aligned to the right.
    pub fn text(&self) -> String {
        let widths = self.widths();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let cells: Vec<_> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
            format!("{}\n", cells.join("  "))
        };
        let mut text = line(&mut self.head.iter().copied());
        self.rows.iter().for_each(|row| text += &line(&mut row.iter().map(String::as_str)));
        text
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.head.join(" | "), "---:|".repeat(self.head.len()));
        self.rows.iter().for_each(|row| text += &format!("| {} |\n", row.join(" | ")));
        text
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].as_str());
            cells.chain([self.head[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        (0..self.head.len()).map(width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let mut table = Table::new(&["op", "rate"]);
        table.row(vec!["put".into(), "1–2".into()]);
        table.row(vec!["get".into(), "10".into()]);
        assert_eq!(table.text(), " op  rate\nput   1–2\nget    10\n");
        assert_eq!(table.markdown(), "| op | rate |\n|---:|---:|\n| put | 1–2 |\n| get | 10 |\n");
    }
}
