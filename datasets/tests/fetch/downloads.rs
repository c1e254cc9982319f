//! Downloads that are cut, change on the way, lie, redirect or stall.

use std::{
    fs,
    sync::{Mutex, mpsc},
    time::Duration,
};

use nearfar_catalogue::{
    Proof, Sha256, Status,
    fetch::{Error, Options, Outcome, Source},
    status, verify,
};

use super::*;

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
