//! Archives and mirrors.

use std::{fs, io::Cursor};

use nearfar_catalogue::{
    DataSet, Proof, Sha256, Status, archive,
    fetch::{Error, Outcome, Source},
    status, verify,
};

use super::*;

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
