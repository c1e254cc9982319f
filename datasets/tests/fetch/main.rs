//! Fetching from servers that cut, lie and redirect, and from mirrors.

use std::{fs, path::Path, time::Duration};

use nearfar_catalogue::{
    DataSet, Sha256,
    fetch::{Error, Event, Options, Outcome, Source, fetch},
};

mod archives;
mod downloads;
mod names;
mod server;
mod tls;

use server::{Reply, Request, Server, honest};

/// Impatient, so that the tests are quick.
fn options() -> Options {
    Options {
        connect: Duration::from_secs(5),
        silence: Duration::from_millis(400),
        slowest: 1024,
        retries: 4,
        back_off: Duration::from_millis(1),
        redirects: 5,
    }
}

/// Bytes that do not repeat.
fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64)
        .map(|it| (it.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect()
}

/// A data set `tiny` with the given `[[files]]`.
fn set(files: &str) -> DataSet {
    let text = format!(
        r#"
        name = "tiny"
        title = "Tiny"
        modality = "image"
        about = "nothing"
        license = "CC0-1.0"
        commercial_use = true
        citation = "none"
        homepages = []
        samples = 0
        classes = 0
        fidelity = "made up"
        protocol = "none"
        {files}
        [layout.digits]
        [[splits]]
        name = "all"
        about = "all"
        train = {{}}
        test = {{}}
        "#
    );
    toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// One `[[files]]` known by its bytes.
fn file(name: &str, body: &[u8], urls: &[String]) -> String {
    let (bytes, sha256) = (body.len(), Sha256::of(body));
    format!(
        "[[files]]\nname = \"{name}\"\nbytes = {bytes}\nsha256 = \"{sha256}\"\nchecked = \"mirror\"\nurls = {urls:?}\n"
    )
}

/// Names in the folder of the set, but for the lock.
fn left(data: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(data.join("tiny"))
        .expect("the folder of the set")
        .map(|it| {
            it.expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|it| it != ".lock")
        .collect();
    names.sort();
    names
}

/// What came of a fetch, and what happened in lines.
type Fetched = (Result<Vec<(String, Outcome)>, Error>, Vec<String>);

/// Fetches from upstream, and gives what happened in lines.
fn get(set: &DataSet, data: &Path) -> Fetched {
    get_from(set, data, &Source::Upstream, &options())
}

fn get_from(set: &DataSet, data: &Path, source: &Source, options: &Options) -> Fetched {
    let mut lines = Vec::new();
    let result = fetch(set, data, source, options, &mut |event| {
        if !matches!(event, Event::Bytes { .. }) {
            lines.push(event.to_string());
        }
    });
    (result, lines)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}
