//! Fetching from servers that cut, lie and redirect, and from mirrors.

use std::{
    fs,
    io::Cursor,
    path::Path,
    sync::{Mutex, mpsc},
    time::Duration,
};

use nearfar_catalogue::{
    DataSet, Proof, Sha256, Status, archive,
    fetch::{Error, Event, Options, Outcome, Source, fetch},
    status, verify,
};

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

#[test]
fn a_file_comes_is_verified_and_stays() {
    let body = bytes(100_000);
    let server = Server::new({
        let body = body.clone();
        move |request| honest(request, &body, "\"1\"")
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    assert_eq!(
        status(data.path(), &set),
        Status::Missing {
            files: vec!["a.bin".to_owned()]
        }
    );
    let (result, _) = get(&set, data.path());
    assert_eq!(
        result.expect("it comes"),
        [("a.bin".to_owned(), Outcome::Fetched(Proof::Bytes))]
    );
    assert_eq!(
        fs::read(data.path().join("tiny/a.bin")).expect("the file"),
        body
    );
    assert_eq!(left(data.path()), ["a.bin"]);
    assert_eq!(status(data.path(), &set), Status::Present);
    // Once it is there, nobody is asked.
    let (result, _) = get(&set, data.path());
    assert_eq!(
        result.expect("it is there"),
        [("a.bin".to_owned(), Outcome::Present(Proof::Bytes))]
    );
    assert_eq!(server.requests().len(), 1);
    // A damaged file is replaced.
    fs::write(data.path().join("tiny/a.bin"), &body[..50]).expect("written");
    assert!(matches!(status(data.path(), &set), Status::Damaged { .. }));
    assert!(verify(data.path(), &set).is_err());
    get(&set, data.path()).0.expect("it comes again");
    assert!(verify(data.path(), &set).is_ok());
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_stopped() {
    let body = bytes(50_000);
    // Each answer is a tenth of the file.
    let server = Server::new({
        let body = body.clone();
        move |request| honest(request, &body, "\"1\"").cut(5_000)
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    let mut patient = options();
    patient.retries = 20;
    let (result, lines) = get_from(&set, data.path(), &Source::Upstream, &patient);
    result.expect("it comes");
    let starts: Vec<_> = server.requests().iter().map(Request::start).collect();
    let expected: Vec<_> = (0..10)
        .map(|it| if it == 0 { None } else { Some(it * 5_000) })
        .collect();
    assert_eq!(starts, expected);
    assert!(
        server.requests()[1..]
            .iter()
            .all(|it| it.if_range() == Some("\"1\""))
    );
    assert!(
        lines
            .iter()
            .any(|it| it.contains("after 5000 of 50000 bytes")),
        "{lines:#?}"
    );
    assert_eq!(left(data.path()), ["a.bin"]);
}

#[test]
fn what_came_before_the_program_stopped_is_not_asked_for_again() {
    let body = bytes(30_000);
    for cut in [1, 12_345, 29_999] {
        let server = Server::new({
            let body = body.clone();
            move |request| {
                let reply = honest(request, &body, "\"1\"");
                if request.index == 0 {
                    reply.cut(cut)
                } else {
                    reply
                }
            }
        });
        let (data, set) = (
            folder(),
            set(&file("a.bin", &body, &[server.url("/a.bin")])),
        );
        let once = Options {
            retries: 0,
            ..options()
        };
        let (result, _) = get_from(&set, data.path(), &Source::Upstream, &once);
        assert!(
            matches!(result, Err(Error::Connection { .. })),
            "{result:?}"
        );
        assert_eq!(left(data.path()), ["a.bin.part", "a.bin.part.from"]);
        get_from(&set, data.path(), &Source::Upstream, &once)
            .0
            .expect("it comes");
        assert_eq!(server.requests()[1].start(), Some(cut));
        assert_eq!(left(data.path()), ["a.bin"]);
    }
    // All of it came, but it was not published.
    let server = Server::new(|_| Reply::new(500).body(b""));
    let url = server.url("/a.bin");
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, std::slice::from_ref(&url))),
    );
    fs::create_dir(data.path().join("tiny")).expect("a folder");
    fs::write(data.path().join("tiny/a.bin.part"), &body).expect("written");
    fs::write(
        data.path().join("tiny/a.bin.part.from"),
        format!("address = \"{url}\"\netag = '\"1\"'"),
    )
    .expect("written");
    get(&set, data.path()).0.expect("it is here");
    assert!(server.requests().is_empty());
}

#[test]
fn without_a_strong_validator_it_starts_over() {
    let body = bytes(20_000);
    for etag in [None, Some("W/\"1\"")] {
        let server = Server::new({
            let body = body.clone();
            move |request| {
                let reply = Reply::new(200).body(&body);
                let reply = etag.map_or(reply.clone(), |etag| reply.header("ETag", etag));
                if request.index == 0 {
                    reply.cut(7_000)
                } else {
                    reply
                }
            }
        });
        let (data, set) = (
            folder(),
            set(&file("a.bin", &body, &[server.url("/a.bin")])),
        );
        get(&set, data.path()).0.expect("it comes");
        assert!(server.requests().iter().all(|it| it.start().is_none()));
    }
    // A date does.
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let server = Server::new({
        let body = body.clone();
        move |request| {
            let reply = honest(request, &body, date);
            let reply = Reply {
                headers: reply
                    .headers
                    .into_iter()
                    .map(|(name, value)| {
                        if name == "ETag" {
                            ("Last-Modified".to_owned(), value)
                        } else {
                            (name, value)
                        }
                    })
                    .collect(),
                ..reply
            };
            if request.index == 0 {
                reply.cut(7_000)
            } else {
                reply
            }
        }
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    get(&set, data.path()).0.expect("it comes");
    assert_eq!(
        (
            server.requests()[1].start(),
            server.requests()[1].if_range()
        ),
        (Some(7_000), Some(date))
    );
}

#[test]
fn a_file_that_changes_between_two_ranges_is_not_mixed() {
    let (old, new) = (vec![7; 20_000], bytes(20_000));
    // An honest server sends the new file in full.
    let server = Server::new({
        let (old, new) = (old.clone(), new.clone());
        move |request| match request.index {
            0 => honest(request, &old, "\"1\"").cut(9_000),
            _ => honest(request, &new, "\"2\""),
        }
    });
    let (data, wanted) = (folder(), set(&file("a.bin", &new, &[server.url("/a.bin")])));
    get(&wanted, data.path()).0.expect("it comes");
    assert_eq!(server.requests().len(), 2);

    // A careless one sends the rest of the new file, with its new tag.
    let server = Server::new({
        let (old, new) = (old.clone(), new.clone());
        move |request| match request.index {
            0 => honest(request, &old, "\"1\"").cut(9_000),
            1 => {
                let mut careless = request.clone();
                careless.headers.remove("if-range");
                honest(&careless, &new, "\"2\"")
            }
            _ => honest(request, &new, "\"2\""),
        }
    });
    let (data, wanted) = (folder(), set(&file("a.bin", &new, &[server.url("/a.bin")])));
    let (result, lines) = get(&wanted, data.path());
    result.expect("it comes");
    assert!(
        lines.iter().any(|it| it.contains("another file")),
        "{lines:#?}"
    );
    assert_eq!(server.requests()[2].start(), None);

    // A lying one sends the rest under the old tag; the hash tells, and it is fetched once more from the start.
    let server = Server::new({
        let new = new.clone();
        move |request| match request.index {
            0 => honest(request, &old, "\"1\"").cut(9_000),
            _ => honest(request, &new, "\"1\""),
        }
    });
    let (data, wanted) = (folder(), set(&file("a.bin", &new, &[server.url("/a.bin")])));
    get(&wanted, data.path()).0.expect("it comes");
    assert_eq!(server.requests().len(), 3);
    assert_eq!(left(data.path()), ["a.bin"]);
}

#[test]
fn a_wrong_part_of_the_file_is_not_taken_for_the_right_one() {
    let body = bytes(20_000);
    type Answer = fn(&[u8]) -> Reply;
    let answers: [(&str, Answer); 4] = [
        ("another start", |body| {
            Reply::new(206)
                .header("ETag", "\"1\"")
                .header("Content-Range", "bytes 8000-19999/20000")
                .body(&body[8_000..])
        }),
        ("no range", |body| {
            Reply::new(206).header("ETag", "\"1\"").body(&body[9_000..])
        }),
        ("no sense", |body| {
            Reply::new(206)
                .header("Content-Range", "bytes 9000-99999999/5")
                .body(&body[9_000..])
        }),
        ("none left", |_| {
            Reply::new(416)
                .header("Content-Range", "bytes */4000")
                .body(b"")
        }),
    ];
    for (name, answer) in answers {
        let server = Server::new({
            let body = body.clone();
            move |request| match request.index {
                0 => honest(request, &body, "\"1\"").cut(9_000),
                1 => answer(&body),
                _ => honest(request, &body, "\"1\""),
            }
        });
        let (data, set) = (
            folder(),
            set(&file("a.bin", &body, &[server.url("/a.bin")])),
        );
        get(&set, data.path())
            .0
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(server.requests()[2].start(), None, "{name}: it starts over");
    }
    // A part where nobody asked for one.
    let server = Server::new({
        let body = body.clone();
        move |_| {
            Reply::new(206)
                .header("Content-Range", "bytes 0-19999/20000")
                .body(&body)
        }
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    assert!(matches!(
        get(&set, data.path()).0,
        Err(Error::Protocol { .. })
    ));
}

#[test]
fn a_lie_about_the_length_is_found_out() {
    let body = bytes(20_000);
    let wanted = |server: &Server| set(&file("a.bin", &body, &[server.url("/a.bin")]));
    // It announces another size than the catalogue has: not even begun.
    for announced in [19_999, 20_001, u64::MAX] {
        let server = Server::new({
            let body = body.clone();
            move |_| Reply {
                body: body.clone(),
                ..Reply::new(200).header("Content-Length", announced)
            }
        });
        let data = folder();
        match get(&wanted(&server), data.path()).0 {
            Err(Error::WrongSize {
                found, expected, ..
            }) => assert_eq!((found, expected), (announced, 20_000)),
            other => panic!("{other:?}"),
        }
        assert_eq!((server.requests().len(), left(data.path()).len()), (1, 0));
    }
    // It announces nothing and does not stop.
    let server = Server::new(|_| Reply {
        body: bytes(1_000_000),
        ..Reply::new(200)
    });
    let data = folder();
    match get(&wanted(&server), data.path()).0 {
        Err(Error::TooLarge { limit, .. }) => assert_eq!(limit, 20_000),
        other => panic!("{other:?}"),
    }
    assert!(left(data.path()).is_empty());
    // It announces nothing and stops too early, always at the same place.
    let server = Server::new({
        let body = body.clone();
        move |_| Reply {
            body: body[..15_000].to_vec(),
            ..Reply::new(200)
        }
    });
    let data = folder();
    assert!(matches!(
        get(&wanted(&server), data.path()).0,
        Err(Error::Connection { .. })
    ));
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_wrong_hash_keeps_nothing_and_says_both() {
    let body = bytes(20_000);
    let mut flipped = body.clone();
    flipped[12_345] ^= 4;
    let server = Server::new({
        let flipped = flipped.clone();
        move |request| honest(request, &flipped, "\"1\"")
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    let error = get(&set, data.path()).0.expect_err("it is wrong");
    assert!(error.is_bad_data());
    let text = error.to_string();
    for part in [
        &Sha256::of(&body).to_string(),
        &Sha256::of(&flipped).to_string(),
        "nothing was kept",
        "--from",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(left(data.path()).is_empty());
    assert!(matches!(status(data.path(), &set), Status::Missing { .. }));
}

#[test]
fn the_next_address_is_tried_when_one_does_not_do() {
    let body = bytes(5_000);
    let server = Server::new({
        let body = body.clone();
        move |request| match request.path.as_str() {
            "/gone" => Reply::new(404).body(b"no"),
            "/wrong" => Reply::new(200).body(&vec![0; 5_000]),
            "/busy" if request.index < 4 => Reply::new(503).body(b"later"),
            _ => honest(request, &body, "\"1\""),
        }
    });
    let urls = ["/gone", "/wrong", "/busy"].map(|it| server.url(it));
    let (data, set) = (folder(), set(&file("a.bin", &body, &urls)));
    get(&set, data.path()).0.expect("it comes");
    let paths: Vec<_> = server.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(paths, ["/gone", "/wrong", "/busy", "/busy", "/busy"]);
}

#[test]
fn redirects_are_followed_with_care() {
    let body = bytes(5_000);
    let other = Server::new({
        let body = body.clone();
        move |request| honest(request, &body, "\"1\"")
    });
    let there = other.url("/a.bin");
    let server = Server::new({
        let body = body.clone();
        move |request| {
            let to = |location: &str| Reply::new(302).header("Location", location).body(b"");
            match request.path.as_str() {
                "/loop" => to("/loop"),
                "/relative" => to("x/../a.bin"),
                "/other" => Reply::new(307).header("Location", &there).body(b""),
                "/plain" => to("http://example.org/a.bin"),
                "/inside" => to("http://10.0.0.1/a.bin"),
                "/file" => to("file:///etc/passwd"),
                "/nowhere" => Reply::new(301).body(b""),
                _ => honest(request, &body, "\"1\""),
            }
        }
    });
    let get = |path: &str| {
        let (data, set) = (folder(), set(&file("a.bin", &body, &[server.url(path)])));
        let once = Options {
            retries: 0,
            ..options()
        };
        get_from(&set, data.path(), &Source::Upstream, &once).0
    };
    get("/relative").expect("it comes");
    get("/other").expect("it comes from the other host");
    assert_eq!(other.requests().len(), 1);
    match get("/loop") {
        Err(Error::Redirects { limit, .. }) => assert_eq!(limit, 5),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        server
            .requests()
            .iter()
            .filter(|it| it.path == "/loop")
            .count(),
        6
    );
    for path in ["/plain", "/inside", "/file"] {
        assert!(matches!(get(path), Err(Error::Redirect { .. })), "{path}");
    }
    assert!(matches!(get("/nowhere"), Err(Error::Protocol { .. })));
}

#[test]
fn who_is_silent_or_slow_is_left() {
    let body = bytes(5_000);
    let wanted = |server: &Server| set(&file("a.bin", &body, &[server.url("/a.bin")]));
    let twice = Options {
        retries: 1,
        ..options()
    };
    let silent = Server::new({
        let body = body.clone();
        move |request| Reply {
            wait: Some(Duration::from_secs(20)),
            ..honest(request, &body, "\"1\"")
        }
    });
    let (data, started) = (folder(), std::time::Instant::now());
    assert!(matches!(
        get_from(&wanted(&silent), data.path(), &Source::Upstream, &twice).0,
        Err(Error::Connection { .. })
    ));
    // A byte now and then keeps the connection open, but is too little.
    let slow = Server::new({
        let body = body.clone();
        move |request| Reply {
            pause: Some(Duration::from_millis(20)),
            ..honest(request, &body, "\"1\"")
        }
    });
    match get_from(&wanted(&slow), data.path(), &Source::Upstream, &twice).0 {
        Err(Error::Slow { slowest, .. }) => assert_eq!(slowest, 1024),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_encoding_that_was_not_asked_for_is_refused() {
    let body = bytes(5_000);
    let server = Server::new({
        let body = body.clone();
        move |request| honest(request, &body, "\"1\"").header("Content-Encoding", "gzip")
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    assert!(matches!(
        get(&set, data.path()).0,
        Err(Error::Protocol { .. })
    ));
    assert!(
        server
            .requests()
            .iter()
            .all(|it| it.headers["accept-encoding"] == "identity")
    );
}

#[test]
fn plain_http_to_others_is_refused_before_anything_is_sent() {
    let (data, set) = (
        folder(),
        set(&file(
            "a.bin",
            b"x",
            &["http://example.org/a.bin".to_owned()],
        )),
    );
    let error = get(&set, data.path()).0.expect_err("it is refused");
    assert!(error.is_usage(), "{error}");
    assert!(error.to_string().contains("only https is asked"), "{error}");
}

#[test]
fn two_fetches_of_one_set_do_not_interleave() {
    let body = bytes(5_000);
    let (asked, was_asked) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let (asked, may_go) = (Mutex::new(asked), Mutex::new(may_go));
    let server = Server::new({
        let body = body.clone();
        move |request| {
            asked
                .lock()
                .expect("one request")
                .send(())
                .expect("the test waits");
            may_go
                .lock()
                .expect("one request")
                .recv()
                .expect("the test tells");
            honest(request, &body, "\"1\"")
        }
    });
    let (data, set) = (
        folder(),
        set(&file("a.bin", &body, &[server.url("/a.bin")])),
    );
    let patient = Options {
        silence: Duration::from_secs(20),
        ..options()
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get_from(&set, data.path(), &Source::Upstream, &patient).0);
        was_asked.recv().expect("the first fetch asks");
        match get(&set, data.path()).0 {
            Err(Error::Busy { set, holder }) => {
                assert_eq!(
                    (set.as_str(), holder),
                    ("tiny", Some(std::process::id().to_string()))
                );
            }
            other => panic!("{other:?}"),
        }
        go.send(()).expect("the server waits");
        first.join().expect("no panic").expect("it comes");
    });
    assert_eq!(
        get(&set, data.path()).0.expect("it is there")[0].1,
        Outcome::Present(Proof::Bytes)
    );
}

// Archives and mirrors.

fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let members: Vec<_> = members
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
        .collect();
    let mut bytes = Cursor::new(Vec::new());
    archive::write_zip(&mut bytes, &members).expect("written");
    bytes.into_inner()
}

/// A 1-bit-like image of 16×16, under one of the encoder's settings.
fn png(compression: image::codecs::png::CompressionType) -> Vec<u8> {
    use image::ImageEncoder;
    let pixels: Vec<u8> = bytes(256)
        .iter()
        .map(|it| if it % 2 == 0 { 0 } else { 255 })
        .collect();
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new_with_quality(
        &mut bytes,
        compression,
        image::codecs::png::FilterType::NoFilter,
    )
    .write_image(&pixels, 16, 16, image::ColorType::L8.into())
    .expect("it fits");
    bytes
}

/// The archive as the catalogue knows it, the same packed by somebody else with more in it, and the set.
fn packed(urls: &[String], extra: &str) -> (Vec<u8>, Vec<u8>, DataSet) {
    use image::codecs::png::CompressionType::{Best, Uncompressed};
    let known = zip(&[("a/1.png", &png(Best)), ("a/labels.txt", b"1 x\n")]);
    let upstream = zip(&[
        ("README", b"hello"),
        ("a/labels.txt", b"1 x\n"),
        ("a/1.png", &png(Uncompressed)),
    ]);
    let folder = folder();
    let path = folder.path().join("a.zip");
    fs::write(&path, &known).expect("written");
    let forms = ["a/{n}.png", "a/labels.txt"].map(|it| it.parse().expect("a template"));
    let digest = nearfar_catalogue::content::digest_members(&path, &forms, 0).expect("a digest");
    let text = format!(
        "{}\n{extra}\n[files.content]\ndigest = \"{digest}\"\nchecked = \"mirror\"\nmembers = [\"a/{{n}}.png\", \"a/labels.txt\"]\nmax_bytes = 100000\n",
        file("a.zip", &known, urls)
    );
    (known, upstream, set(&text))
}

#[test]
fn an_archive_that_upstream_packs_otherwise_is_accepted_by_its_content() {
    let (_, upstream, _) = packed(&[], "");
    let server = Server::new(move |request| honest(request, &upstream, "\"1\""));
    let (known, upstream, set) = packed(&[server.url("/a.zip")], "");
    assert_ne!(known, upstream);
    let data = folder();
    let (result, lines) = get(&set, data.path());
    assert_eq!(
        result.expect("it comes"),
        [("a.zip".to_owned(), Outcome::Fetched(Proof::Content))]
    );
    assert_eq!(
        lines.last().map(String::as_str),
        Some("tiny/a.zip: verified by its content")
    );
    assert_eq!(
        verify(data.path(), &set).expect("right").files,
        [("a.zip".to_owned(), Proof::Content)]
    );
    assert_eq!(
        fs::read(data.path().join("tiny/a.zip")).expect("the file"),
        upstream
    );

    // What differs in content is not.
    for (what, wrong) in [
        (
            "a text",
            zip(&[
                ("a/labels.txt", b"1 y\n"),
                ("a/1.png", &png(image::codecs::png::CompressionType::Best)),
            ]),
        ),
        ("a member", zip(&[("a/labels.txt", b"1 x\n")])),
        ("everything", b"PK but no archive".to_vec()),
        ("a page of HTML", b"<html>sign in first</html>".to_vec()),
        (
            "a name",
            zip(&[("a/labels.txt", b"1 x\n"), ("../1.png", b"")]),
        ),
    ] {
        let server = Server::new(move |request| honest(request, &wrong, "\"1\""));
        let (.., set) = packed(&[server.url("/a.zip")], "");
        let data = folder();
        let error = get(&set, data.path()).0.expect_err(what);
        assert!(error.is_bad_data(), "{what}: {error}");
        assert!(left(data.path()).is_empty(), "{what}");
    }
}

#[test]
fn when_nothing_is_left_the_archive_is_complete() {
    let (_, upstream, _) = packed(&[], "");
    let server = Server::new({
        let upstream = upstream.clone();
        move |request| honest(request, &upstream, "\"1\"")
    });
    let url = server.url("/a.zip");
    let (.., set) = packed(std::slice::from_ref(&url), "");
    let data = folder();
    fs::create_dir(data.path().join("tiny")).expect("a folder");
    fs::write(data.path().join("tiny/a.zip.part"), &upstream).expect("written");
    fs::write(
        data.path().join("tiny/a.zip.part.from"),
        format!("address = \"{url}\"\netag = '\"1\"'"),
    )
    .expect("written");
    get(&set, data.path()).0.expect("it is here");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(server.requests()[0].start(), Some(upstream.len()));
}

#[test]
fn single_files_of_upstream_become_an_archive() {
    let (one, two) = (b"1,2\n".to_vec(), b"3,4".to_vec());
    let server = Server::new({
        let one = one.clone();
        move |request| match request.path.as_str() {
            "/one" => honest(request, &one, "\"1\""),
            _ => honest(request, b"3,4\r\n\n", "\"2\""),
        }
    });
    let known = zip(&[("d/one", &one), ("d/two", &two)]);
    let folder_of_known = folder();
    let path = folder_of_known.path().join("a.zip");
    fs::write(&path, &known).expect("written");
    let digest = nearfar_catalogue::content::digest_members(&path, &[], 0).expect("a digest");
    let piece = |name: &str, body: &[u8], more: &str| {
        let (url, bytes, sha256) = (
            server.url(&format!("/{name}")),
            body.len(),
            Sha256::of(body),
        );
        format!(
            "[[files.pack]]\nmember = \"d/{name}\"\nurl = \"{url}\"\nbytes = {bytes}\nsha256 = \"{sha256}\"\n{more}\n"
        )
    };
    // Another packer made the known archive, so its bytes say nothing.
    let text = format!(
        "{}[files.content]\ndigest = \"{digest}\"\nchecked = \"mirror\"\nmax_bytes = 1000\n{}{}",
        file("a.zip", b"other bytes", &[]),
        piece("one", &one, ""),
        piece("two", &two, "trim_end = true"),
    );
    let (data, wanted) = (folder(), set(&text));
    assert_eq!(
        get(&wanted, data.path()).0.expect("it comes")[0].1,
        Outcome::Fetched(Proof::Content)
    );
    assert_eq!(left(data.path()), ["a.zip"]);
    let packed = data.path().join("tiny/a.zip");
    assert_eq!(
        archive::member(&packed, &archive::Limits::default(), "d/two").expect("a member"),
        two
    );

    // A piece that is wrong is named.
    let text = text.replace(&Sha256::of(&one).to_string(), &Sha256::of(b"?").to_string());
    let data = folder();
    match get(&set(&text), data.path()).0 {
        Err(Error::WrongHash { file, found, .. }) => {
            assert_eq!((file.as_str(), found), ("tiny/d/one", Sha256::of(&one)))
        }
        other => panic!("{other:?}"),
    }
    assert!(left(data.path()).is_empty());
}

#[test]
fn a_mirror_in_a_folder_is_copied_and_verified() {
    let (known, upstream, _) = packed(&[], "");
    let mirror = folder();
    let source = Source::Folder(mirror.path().to_owned());
    let data = folder();
    let (.., wanted) = packed(&[], "");

    // Without the set in it.
    match get_from(&wanted, data.path(), &source, &options()).0 {
        Err(Error::NotInMirror { file, .. }) => assert_eq!(file, "tiny/a.zip"),
        other => panic!("{other:?}"),
    }
    // By name, packed as known and otherwise.
    fs::create_dir(mirror.path().join("tiny")).expect("a folder");
    for (archive, proof) in [(&known, Proof::Bytes), (&upstream, Proof::Content)] {
        let data = folder();
        fs::write(mirror.path().join("tiny/a.zip"), archive).expect("written");
        let (result, _) = get_from(&wanted, data.path(), &source, &options());
        assert_eq!(result.expect("it comes")[0].1, Outcome::Fetched(proof));
        assert_eq!(
            &fs::read(data.path().join("tiny/a.zip")).expect("the file"),
            archive
        );
        assert_eq!(left(data.path()), ["a.zip"]);
    }
    // Damaged.
    let mut damaged = known.clone();
    damaged[50] ^= 1; // Among the bytes of the first member.
    fs::write(mirror.path().join("tiny/a.zip"), &damaged).expect("written");
    let error = get_from(&wanted, data.path(), &source, &options())
        .0
        .expect_err("it is wrong");
    assert!(error.is_bad_data(), "{error}");
    assert!(left(data.path()).is_empty());
    // Far too large.
    fs::write(mirror.path().join("tiny/a.zip"), vec![0; 200_000]).expect("written");
    let error = get_from(&wanted, data.path(), &source, &options())
        .0
        .expect_err("it is too large");
    assert!(
        matches!(error, Error::TooLarge { limit: 100_000, .. }),
        "{error}"
    );
    // In another place, which the index knows.
    let index =
        "[[dataset]]\nname = \"tiny\"\n[[dataset.files]]\npath = \"else/where/a.zip\"\nbytes = 1\n";
    fs::write(mirror.path().join("INDEX.toml"), index).expect("written");
    fs::create_dir_all(mirror.path().join("else/where")).expect("a folder");
    fs::write(mirror.path().join("else/where/a.zip"), &known).expect("written");
    get_from(&wanted, data.path(), &source, &options())
        .0
        .expect("it comes");
    // No mirror at all.
    let nowhere = Source::Folder(mirror.path().join("no"));
    let data = folder();
    assert!(matches!(
        get_from(&wanted, data.path(), &nowhere, &options()).0,
        Err(Error::NoMirror { .. })
    ));
}

#[test]
fn a_mirror_at_an_address_is_a_mirror_too() {
    let (known, ..) = packed(&[], "");
    for index in [true, false] {
        let size = known.len();
        let server = Server::new({
            let known = known.clone();
            move |request| match request.path.as_str() {
                "/sets/INDEX.toml" if index => {
                    let path = "a%20folder/a.zip".replace("%20", " ");
                    let text = format!(
                        "[[dataset]]\nname = \"tiny\"\n[[dataset.files]]\npath = \"{path}\"\nbytes = {size}\n"
                    );
                    Reply::new(200).body(text.as_bytes())
                }
                "/sets/a%20folder/a.zip" | "/sets/tiny/a.zip" => honest(request, &known, "\"1\""),
                _ => Reply::new(404).body(b"no"),
            }
        });
        let (.., wanted) = packed(&[], "");
        let data = folder();
        let source: Source = server.url("/sets/").parse().expect("an address");
        let (result, _) = get_from(&wanted, data.path(), &source, &options());
        assert_eq!(
            result.expect("it comes")[0].1,
            Outcome::Fetched(Proof::Bytes),
            "with an index: {index}"
        );
    }
}

#[test]
fn an_optional_file_may_be_missing_but_not_wrong() {
    let server = Server::new(|request| match request.path.as_str() {
        "/wrong" => Reply::new(200).body(b"wrong"),
        _ => Reply::new(404).body(b"no"),
    });
    let optional = |urls: &[String]| {
        set(&format!(
            "{}optional = true\n",
            file("extra.txt", b"extra", urls)
        ))
    };
    for urls in [vec![], vec![server.url("/gone")]] {
        let data = folder();
        let (result, lines) = get(&optional(&urls), data.path());
        assert!(matches!(
            result.expect("it may be missing")[0].1,
            Outcome::Skipped(_)
        ));
        assert!(
            lines
                .last()
                .expect("a line")
                .starts_with("tiny/extra.txt: left out, "),
            "{lines:?}"
        );
        assert_eq!(status(data.path(), &optional(&urls)), Status::Present);
    }
    let data = folder();
    let result = get(&optional(&[server.url("/wrong")]), data.path()).0;
    assert!(matches!(result, Err(Error::WrongHash { .. })), "{result:?}");
    // A file that is needed and that upstream does not have says where to look.
    let error = get(&set(&file("a.bin", b"x", &[])), data.path())
        .0
        .expect_err("nothing there");
    assert!(
        error.is_usage() && error.to_string().contains("`--from`"),
        "{error}"
    );
}
