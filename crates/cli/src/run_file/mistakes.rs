//! Where a mistake in a TOML file is, and what was meant.

use serde::de::DeserializeOwned;

use crate::exit::Error;

/// Reads TOML; a mistake is reported at its line and column, with the nearest valid name.
pub(crate) fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text)
        .map_err(|error| Error::Usage(located(name, text, error.message(), error.span())))
}

/// `run.toml, line 9, column 3: message`, the line itself and a mark below what is wrong.
pub(super) fn located(
    name: &str,
    text: &str,
    message: &str,
    span: Option<std::ops::Range<usize>>,
) -> String {
    let message = with_suggestion(message.trim());
    let Some(span) = span else {
        return format!("{name}: {message}");
    };
    let start = span.start.min(text.len());
    let before = &text[..start];
    let number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or("");
    let column = text[line_start..start].chars().count();
    let inside = text[start..span.end.min(text.len()).max(start)]
        .lines()
        .next()
        .unwrap_or("");
    let marks = "^".repeat(
        inside
            .chars()
            .count()
            .max(1)
            .min(line.chars().count().saturating_sub(column).max(1)),
    );
    let gutter = number.to_string();
    let empty = " ".repeat(gutter.len());
    format!(
        "{name}, line {number}, column {}: {message}\n  {gutter} | {line}\n  {empty} | {}{marks}",
        column + 1,
        " ".repeat(column)
    )
}

/// Adds the nearest valid name to serde's "unknown field `x`, expected one of `y`, `z`".
fn with_suggestion(message: &str) -> String {
    let (Some(rest), true) = (
        message.split_once('`').map(|(_, rest)| rest),
        message.starts_with("unknown "),
    ) else {
        return message.to_string();
    };
    let Some((written, expected)) = rest.split_once('`') else {
        return message.to_string();
    };
    let valid: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match nearest(written, &valid) {
        Some(name) if valid.len() > 1 => format!("{message}; did you mean `{name}`?"),
        _ => message.to_string(),
    }
}

/// The valid name that is most like what was written, if one is like it at all.
fn nearest<'a>(written: &str, valid: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &str| {
        strsim::jaro_winkler(written, name)
            .max(strsim::normalized_damerau_levenshtein(written, name))
    };
    let (name, best) = valid
        .iter()
        .map(|name| (*name, likeness(name)))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best > 0.6).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Small {
        loss: nearfar_losses::NamedLoss,
        #[serde(default)]
        steps: u64,
    }

    #[test]
    fn a_wrong_key_is_shown_at_its_place() {
        let error = read::<Small>(
            "run.toml",
            "steps = 3\n[loss.triplet_margin]\nmargn = 0.3\n",
        )
        .expect_err("margn")
        .to_string();
        assert!(
            error.starts_with("run.toml, line 3, column 1: unknown field `margn`, expected"),
            "{error}"
        );
        assert!(error.contains("`margin`"), "{error}");
        assert!(error.ends_with("  3 | margn = 0.3\n    | ^^^^^"), "{error}");
        let error = read::<Small>("run.toml", "loss.tripplet_margin = {}")
            .expect_err("name")
            .to_string();
        assert!(
            error.contains("line 1, column 6: unknown variant `tripplet_margin`")
                && error.contains("did you mean `triplet_margin`?"),
            "{error}"
        );
        let error = read::<Small>("run.toml", "loss.triplet_margin = { margin = -1.0 }")
            .expect_err("value")
            .to_string();
        assert!(
            error.contains("line 1, column 34: -1 must be 0 or greater"),
            "{error}"
        );
    }
}
