//! The programs that docs are made with, built without compiling anything twice.

use std::path::Path;

use serde_json::Value;

use crate::{Error, program};

/// Paths of programs.
#[derive(Debug, PartialEq)]
pub(crate) struct Programs {
    /// `nearfar`, which gives the reference.
    pub(crate) nearfar: String,
    /// The example of `nearfar-conformance` that draws the pictures of the guide.
    pub(crate) pictures: String,
}

/// Builds them as `cargo test --workspace` does.
///
/// Cargo gives a dependency the features that the packages at hand ask for, so `cargo run --package` would compile candle once
/// more, for each package anew. The whole workspace is not enough: without an example, cargo leaves out the features that
/// dev-dependencies ask for. Therefore both are built at once.
pub(crate) fn programs(root: &Path) -> Result<Programs, Error> {
    let arguments = [
        "build",
        "--quiet",
        "--workspace",
        "--bin",
        "nearfar",
        "--example",
        "pictures",
        "--message-format",
        "json-render-diagnostics",
    ];
    read(&program::output(&program::cargo(), arguments, root)?)
}

/// Builds `nearfar` as it is to be used, and gives its path.
pub(crate) fn release(root: &Path) -> Result<String, Error> {
    let arguments = [
        "build",
        "--quiet",
        "--release",
        "--package",
        "nearfar",
        "--bin",
        "nearfar",
        "--message-format",
        "json-render-diagnostics",
    ];
    path(
        &program::output(&program::cargo(), arguments, root)?,
        "nearfar",
        "bin",
    )
}

fn read(messages: &[u8]) -> Result<Programs, Error> {
    Ok(Programs {
        nearfar: path(messages, "nearfar", "bin")?,
        pictures: path(messages, "pictures", "example")?,
    })
}

/// A path in what cargo says: one JSON object per line, among them one with an `executable` for each program.
pub(crate) fn path(messages: &[u8], name: &'static str, kind: &str) -> Result<String, Error> {
    let messages = messages
        .split(|&it| it == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let of_it = |it: &Value| it["target"]["name"] == name && it["target"]["kind"][0] == kind;
    messages
        .filter(of_it)
        .find_map(|it| it["executable"].as_str().map(str::to_owned))
        .ok_or(Error::NotBuilt { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_what_cargo_says() {
        let artifact = |kind: &str, name: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}},"executable":{executable}}}"#
            )
        };
        let mut lines = vec![
            artifact("lib", "nearfar", "null"),
            artifact("bin", "nearfar", r#""/target/debug/nearfar""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let error = read(lines.join("\n").as_bytes()).expect_err("no example");
        assert!(error.to_string().contains("`pictures`"), "{error}");
        lines.push(artifact(
            "example",
            "pictures",
            r#""/target/debug/examples/pictures""#,
        ));
        let expected = Programs {
            nearfar: "/target/debug/nearfar".to_owned(),
            pictures: "/target/debug/examples/pictures".to_owned(),
        };
        assert_eq!(read(lines.join("\n").as_bytes()).expect("both"), expected);
    }
}
