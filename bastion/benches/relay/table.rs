//! One table a section: what was measured, what it should be, whether it is, and where the figures come from.

use std::time::Duration;

/// A section's table.
pub struct Table {
    title: String,
    rows: Vec<[String; 4]>,
    notes: Vec<String>,
}

impl Table {
    /// An empty one.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), notes: Vec::new() }
    }

    /// A figure that has no target.
    pub fn figure(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        self.rows.push([what.into(), measured.into(), String::new(), String::new()]);
    }

    /// A figure with its target.
    pub fn against(
        &mut self,
        what: impl Into<String>,
        measured: impl Into<String>,
        target: impl Into<String>,
        met: bool,
    ) {
        let verdict = if met { "met" } else { "missed" };
        self.rows.push([what.into(), measured.into(), target.into(), verdict.to_owned()]);
    }

    /// Where figures come from.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Prints it.
    pub fn print(self) {
        println!("\n{}", self.title);
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2)];
        for [what, measured, target, verdict] in &self.rows {
            let line = format!(
                "  {what:0$}  {measured:>1$}  {target:2$}  {verdict}",
                widths[0], widths[1], widths[2]
            );
            println!("{}", line.trim_end());
        }
        for note in &self.notes {
            println!("  . {note}");
        }
    }
}

/// Durations, sorted.
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Of at least one duration.
    pub fn new(mut took: Vec<Duration>) -> Self {
        assert!(!took.is_empty());
        took.sort();
        Self(took)
    }

    /// What this many percent are not above, in milliseconds.
    pub fn at(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100].as_secs_f64() * 1e3
    }

    /// p50 and p99 to read.
    pub fn text(&self) -> String {
        format!("{:.2} / {:.2} ms", self.at(50), self.at(99))
    }
}

/// The one in the middle.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
