//! The documentation of an item, out of its own source, so that a reference shows what the code says.

/// The text of the `///` comment above `pub struct ITEM` or `pub enum ITEM` in a source; empty where there is none.
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
        ["pub struct ", "pub enum "].iter().any(|start| {
            line.strip_prefix(start)
                .and_then(|rest| rest.strip_prefix(item))
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    let Some(at) = lines.iter().position(|line| is_item(line)) else {
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
