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

/// The paths in what cargo says: one JSON object per line, among them one with an `executable` for each program.
fn read(messages: &[u8]) -> Result<Programs, Error> {
    let messages: Vec<Value> = messages
        .split(|&it| it == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let path = |name: &'static str, kind: &str| {
        let of_it = |it: &&Value| it["target"]["name"] == name && it["target"]["kind"][0] == kind;
        let path = messages
            .iter()
            .filter(of_it)
            .find_map(|it| it["executable"].as_str());
        path.map(str::to_owned).ok_or(Error::NotBuilt { name })
    };
    Ok(Programs {
        nearfar: path("nearfar", "bin")?,
        pictures: path("pictures", "example")?,
    })
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
