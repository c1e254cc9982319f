//! Names with stars.

/// Whether a name fits a pattern, in which `*` stands for any text: how a run file names parameters.
///
/// ```
/// use nearfar_core::name_matches;
///
/// assert!(name_matches("layer1.*.bias", "layer1.0.bn1.bias"));
/// assert!(!name_matches("layer1.*", "layer10.0.bn1.bias"));
/// ```
pub fn name_matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty(); // No star at all.
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::name_matches;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name) in [
            ("*", "a.b"),
            ("a.b", "a.b"),
            ("*.bias", "conv1.bias"),
            ("loss.*", "loss.centers"),
            ("*.norm*.weight", "block.0.norm1.weight"),
            ("a*a", "aa"),
            ("", ""),
        ] {
            assert!(name_matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("a.b", "a.b.c"),
            ("*.bias", "bias"),
            ("loss.*", "gloss.x"),
            ("a*a", "a"),
            ("*b*c", "cb"),
            ("", "a"),
        ] {
            assert!(!name_matches(pattern, name), "{pattern} {name}");
        }
    }
}
