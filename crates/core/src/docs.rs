//! The documentation of an item, out of its own source, so that a reference shows what the code says.

/// The text of the `///` comment above `pub struct ITEM`, `pub enum ITEM` or the variant `ITEM(…)` in a source; empty where there is none.
///
/// Registries give their own files to it (`include_str!`), and `nearfar config reference` shows the result.
///
/// ```
/// let source = "/// Wants a gap.\n///\n/// As large as it says.\n#[derive(Debug)]\npub struct Gap {}";
/// assert_eq!(nearfar_core::doc_of(source, "Gap"), "Wants a gap.\n\nAs large as it says.");
/// assert_eq!(nearfar_core::doc_of(source, "Other"), "");
/// ```
pub fn doc_of(source: &str, item: &str) -> String {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let is_item = |line: &&str| {
        let rest = ["pub struct ", "pub enum ", ""].iter().filter_map(|start| {
            line.strip_prefix(start)?
                .strip_prefix(item)
                .map(|rest| (start.is_empty(), rest))
        });
        rest.into_iter().any(|(variant, rest)| match variant {
            true => rest.starts_with('('),
            false => !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'),
        })
    };
    let Some(at) = lines.iter().position(is_item) else {
        return String::new();
    };
    let above = lines[..at].iter().rev();
    let mut doc: Vec<&str> = above
        .take_while(|line| {
            line.starts_with("///")
                || line.starts_with('#')
                || line.starts_with(']')
                || line.starts_with("//")
        })
        .filter_map(|line| line.strip_prefix("///"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    doc.reverse();
    doc.join("\n").trim().to_string()
}
