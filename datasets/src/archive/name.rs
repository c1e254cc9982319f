//! Names of members.

use super::NameFault;

/// A member's name as a plain relative path: components joined by `/`, without `.` and empty ones.
///
/// # Errors
/// The name is empty, absolute, climbs, has a control character or backslash, or is too long.
///
/// ```
/// use nearfar_catalogue::archive::{NameFault, normalize};
///
/// assert_eq!(normalize("./a//b.txt"), Ok("a/b.txt".to_owned()));
/// assert_eq!(normalize("a/../../b"), Err(NameFault::Climbs));
/// ```
pub fn normalize(name: &str) -> Result<String, NameFault> {
    if name.chars().any(char::is_control) {
        return Err(NameFault::Control);
    }
    if name.contains('\\') {
        return Err(NameFault::Backslash);
    }
    let drive = name.as_bytes().get(1) == Some(&b':') && name.as_bytes()[0].is_ascii_alphabetic();
    if name.starts_with('/') || drive {
        return Err(NameFault::Absolute);
    }
    let mut components = Vec::new();
    for component in name.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err(NameFault::Climbs),
            _ if component.len() > 255 => return Err(NameFault::Long),
            _ => components.push(component),
        }
    }
    if components.is_empty() {
        return Err(NameFault::Empty);
    }
    let name = components.join("/");
    if name.len() > 4096 {
        Err(NameFault::Long)
    } else {
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_as_they_are_and_others_are_refused() {
        for name in ["a", "a/b.c", "A/b", "Alternate Titles.txt", "…/ü"] {
            assert_eq!(normalize(name).as_deref(), Ok(name));
        }
        assert_eq!(normalize("./a/./b/"), Ok("a/b".to_owned()));
        for (name, fault) in [
            ("", NameFault::Empty),
            ("./", NameFault::Empty),
            ("/etc/passwd", NameFault::Absolute),
            ("C:/x", NameFault::Absolute),
            ("c:x", NameFault::Absolute),
            ("..", NameFault::Climbs),
            ("a/../b", NameFault::Climbs),
            ("a\0b", NameFault::Control),
            ("a\nb", NameFault::Control),
            ("a\\b", NameFault::Backslash),
            ("\\\\host\\x", NameFault::Backslash),
        ] {
            assert_eq!(normalize(name), Err(fault), "{name:?}");
        }
        assert_eq!(normalize(&"x".repeat(256)), Err(NameFault::Long));
        assert_eq!(normalize(&"x/".repeat(3000)), Err(NameFault::Long));
    }

    proptest! {
        /// Whatever passes is relative, stays below its root and does not change a second time.
        #[test]
        fn what_passes_is_a_plain_relative_path(name in r"[a./\\:\x00 ü]{0,12}") {
            if let Ok(plain) = normalize(&name) {
                prop_assert!(plain.split('/').all(|it| !matches!(it, "" | "." | "..")));
                prop_assert!(std::path::Path::new(&plain).is_relative());
                prop_assert_eq!(normalize(&plain), Ok(plain));
            }
        }
    }
}
