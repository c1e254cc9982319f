//! What is printed, and where: results on stdout, everything else on stderr.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

use crate::args::Global;

/// How to speak to whoever started the program.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    /// Progress bars are drawn: stderr is a terminal that can.
    pub(crate) bars: bool,
    color: bool,
}

impl Out {
    pub(crate) fn new(global: &Global) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            bars: std::io::stderr().is_terminal() && !global.quiet && !global.json && !dumb,
            color: std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb,
        }
    }

    /// A result: text for people, an object for machines.
    pub(crate) fn result(&self, text: &str, object: Value) {
        if self.json {
            self.object(object)
        } else {
            stdout(text)
        }
    }

    /// An object on its own line, only for machines.
    pub(crate) fn object(&self, object: Value) {
        if self.json {
            stdout(&object.to_string());
        }
    }

    /// What happens, for people who did not ask for quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            stderr(text);
        }
    }

    /// Something to know even when quiet.
    pub(crate) fn warning(&self, text: &str) {
        if self.json {
            self.object(json!({"type": "warning", "message": text}));
        } else {
            stderr(&format!("warning: {text}"));
        }
    }

    /// Details, for people who asked.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose && !self.json {
            stderr(text);
        }
    }

    /// Text in bold where there are colors.
    pub(crate) fn bold(&self, text: &str) -> String {
        if self.color {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}

/// A line on stdout. A reader who has gone away is no error: the program ends quietly, as `head` expects.
pub(crate) fn stdout(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .is_err()
    {
        std::process::exit(0);
    }
}

/// A line on stderr; nothing can be done when it is closed.
pub(crate) fn stderr(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Rows as aligned columns: the first to the left, numbers to the right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count().min(*width));
            match column {
                0 => line.push_str(&format!("{cell}{padding}")),
                _ => line.push_str(&format!("  {padding}{cell}")),
            }
        }
        line.trim_end().to_string()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(
        rows.iter()
            .map(|row| line(row.iter().map(String::as_str).collect())),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![
            vec!["raw pixels".into(), "0.9".into()],
            vec!["net".into(), "0.99".into()],
        ];
        assert_eq!(
            table(&["", "Recall@1"], &rows),
            "            Recall@1\nraw pixels       0.9\nnet             0.99"
        );
    }
}
