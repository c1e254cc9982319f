//! `--set KEY=VALUE`, made in the text of a run file.

use super::mistakes::located;
use crate::exit::Error;

/// One `--set KEY=VALUE` made in the text. A value that is no TOML is taken for a string.
pub(super) fn changed(name: &str, text: &str, change: &str) -> Result<String, Error> {
    let wrong = |message: String| Error::Usage(format!("--set {change}: {message}"));
    let (key, value) = change
        .split_once('=')
        .ok_or_else(|| wrong("write it as KEY=VALUE, such as train.steps=100".into()))?;
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| {
            Error::Usage(located(name, text, error.message(), error.span()))
        })?;
    let path = toml_edit::Key::parse(key.trim())
        .map_err(|_| wrong(format!("`{key}` is no key; write names with dots between")))?;
    let value: toml_edit::Value = value
        .trim()
        .parse()
        .unwrap_or_else(|_| toml_edit::Value::from(value.trim()));
    let (last, parents) = path
        .split_last()
        .ok_or_else(|| wrong("the key is empty".into()))?;
    let mut place: &mut toml_edit::Item = document.as_item_mut();
    for parent in parents {
        place = step_into(place, parent.get())
            .ok_or_else(|| wrong(format!("`{}` is no table in {name}", parent.get())))?;
    }
    if place.is_array_of_tables() || place.is_array() || !(place.is_table_like() || place.is_none())
    {
        return Err(wrong(format!("`{key}` does not lie in a table of {name}")));
    }
    match place.as_table_like_mut() {
        Some(table) => {
            table.insert(last.get(), toml_edit::Item::Value(value));
        }
        None => place[last.get()] = toml_edit::Item::Value(value),
    }
    Ok(document.to_string())
}

/// A child of a table, or of a list of tables by number (`losses.0`); a missing table is made.
fn step_into<'a>(place: &'a mut toml_edit::Item, key: &str) -> Option<&'a mut toml_edit::Item> {
    if place.is_array_of_tables() {
        return place.get_mut(key.parse::<usize>().ok()?);
    }
    let table = place.as_table_like_mut()?;
    if !table.contains_key(key) {
        let mut made = toml_edit::InlineTable::new();
        made.set_dotted(false);
        table.insert(key, toml_edit::Item::Value(made.into()));
    }
    table
        .get_mut(key)
        .filter(|item| item.is_table_like() || item.is_array_of_tables())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_the_text() {
        let text = "train = { steps = 3 }\nloss.a.x = 1\n[[losses]]\nweight = 1\n";
        let change = |change: &str| changed("run.toml", text, change);
        assert!(
            change("train.steps=100")
                .expect("a key")
                .contains("train = { steps = 100 }")
        );
        assert!(
            change("loss.a.x = 2")
                .expect("a key")
                .contains("loss.a.x = 2")
        );
        assert!(
            change("losses.0.weight=0.5")
                .expect("a key")
                .contains("weight = 0.5")
        );
        assert!(
            change("schedule.cosine.warmup=5")
                .expect("new")
                .contains("schedule")
        );
        assert!(
            change("device=metal")
                .expect("a string")
                .contains("device = \"metal\"")
        );
        assert!(change("train").is_err());
        assert!(change("losses.7.weight=1").is_err());
    }
}
