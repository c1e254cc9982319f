//! Archives made by hand to do harm.

use std::io::{Cursor, Write};

use flate2::{Compression, Crc, write::DeflateEncoder, write::GzEncoder};
use nearfar_catalogue::archive::{self, Error, Limits, NameFault};

type Members = Vec<(String, Vec<u8>)>;

fn zip_members(bytes: &[u8], limits: &Limits) -> Result<Members, Error> {
    let mut members = Vec::new();
    archive::read_zip_from(
        Cursor::new(bytes),
        "evil.zip",
        limits,
        |_| true,
        |name, bytes| {
            members.push((name.to_owned(), bytes));
            Ok::<(), Error>(())
        },
    )?;
    Ok(members)
}

fn tar_members(bytes: &[u8], limits: &Limits) -> Result<Members, Error> {
    let mut members = Vec::new();
    archive::read_tar_gz_from(
        Cursor::new(bytes),
        "evil.tar.gz",
        limits,
        |_| true,
        |name, bytes| {
            members.push((name.to_owned(), bytes));
            Ok::<(), Error>(())
        },
    )?;
    Ok(members)
}

/// An entry of a zip archive, with every field free to lie.
#[derive(Clone)]
struct Entry {
    name: Vec<u8>,
    /// Bytes as they lie in the file.
    stored: Vec<u8>,
    /// 0 stored, 8 deflated.
    method: u16,
    flags: u16,
    crc: u32,
    /// Unpacked size that is claimed.
    claimed: u32,
    /// Type and permissions of Unix.
    mode: u32,
}

impl Entry {
    fn new(name: impl AsRef<[u8]>, bytes: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(bytes);
        Self {
            name: name.as_ref().to_vec(),
            stored: bytes.to_vec(),
            method: 0,
            flags: 0x800, // Names are UTF-8.
            crc: crc.sum(),
            claimed: bytes.len() as u32,
            mode: 0o100_644,
        }
    }

    fn deflated(name: &str, bytes: &[u8]) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory");
        Self {
            stored: encoder.finish().expect("memory"),
            method: 8,
            ..Self::new(name, bytes)
        }
    }

    fn fields(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        fields.extend(20u16.to_le_bytes()); // Version needed.
        fields.extend(self.flags.to_le_bytes());
        fields.extend(self.method.to_le_bytes());
        fields.extend([0, 0, 0x21, 0]); // Time and date.
        fields.extend(self.crc.to_le_bytes());
        fields.extend((self.stored.len() as u32).to_le_bytes());
        fields.extend(self.claimed.to_le_bytes());
        fields.extend((self.name.len() as u16).to_le_bytes());
        fields.extend([0, 0]); // No extra field.
        fields
    }
}

fn zip(entries: &[Entry]) -> Vec<u8> {
    let mut file = Vec::new();
    let offsets: Vec<u32> = entries
        .iter()
        .map(|entry| {
            let offset = file.len() as u32;
            file.extend(b"PK\x03\x04");
            file.extend(entry.fields());
            file.extend(&entry.name);
            file.extend(&entry.stored);
            offset
        })
        .collect();
    directory(file, entries, &offsets)
}

/// Appends the central directory.
fn directory(mut file: Vec<u8>, entries: &[Entry], offsets: &[u32]) -> Vec<u8> {
    let start = file.len() as u32;
    for (entry, offset) in entries.iter().zip(offsets) {
        file.extend(b"PK\x01\x02");
        file.extend([20, 3]); // Made by version 2.0 on Unix.
        file.extend(entry.fields());
        file.extend([0; 6]); // No comment, disk 0, no internal attributes.
        file.extend((entry.mode << 16).to_le_bytes());
        file.extend(offset.to_le_bytes());
        file.extend(&entry.name);
    }
    let size = file.len() as u32 - start;
    file.extend(b"PK\x05\x06\0\0\0\0");
    let count = (entries.len() as u16).to_le_bytes();
    file.extend([count, count].concat());
    file.extend(size.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0, 0]);
    file
}

/// An entry of a tar archive: the raw header is filled in after all checks of the writer.
fn tar(entries: &[(&[u8], tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        }
        header.set_cksum();
        builder.append(&header, *bytes).expect("memory");
    }
    builder
        .into_inner()
        .expect("memory")
        .finish()
        .expect("memory")
}

#[test]
fn plain_archives_are_read() -> Result<(), Error> {
    let limits = Limits::default();
    let file = zip(&[
        Entry {
            mode: 0o040_755,
            ..Entry::new("a/", b"")
        },
        Entry::new("a/b.txt", b"one"),
        Entry::deflated("c", b"two"),
    ]);
    let expected = vec![
        ("a/b.txt".to_owned(), b"one".to_vec()),
        ("c".to_owned(), b"two".to_vec()),
    ];
    assert_eq!(zip_members(&file, &limits)?, expected);
    assert_eq!(zip_members(&zip(&[]), &limits)?, []);
    let file = tar(&[
        (b"./", tar::EntryType::Directory, b""),
        (b"./a/b.txt", tar::EntryType::Regular, b"one"),
        (b"c", tar::EntryType::Regular, b"two"),
    ]);
    assert_eq!(tar_members(&file, &limits)?, expected);
    assert_eq!(tar_members(&tar(&[]), &limits)?, []);
    // Two names that differ in case are two members.
    assert_eq!(
        zip_members(
            &zip(&[Entry::new("A", b"1"), Entry::new("a", b"2")]),
            &limits
        )?
        .len(),
        2
    );
    Ok(())
}

#[test]
fn only_what_is_wanted_is_unpacked_and_the_first_error_of_the_visitor_ends_it() {
    let file = zip(&[
        Entry::new("a", b"1"),
        Entry {
            crc: 0,
            ..Entry::new("damaged", b"2")
        },
    ]);
    let mut names = Vec::new();
    let limits = Limits::default();
    archive::read_zip_from(
        Cursor::new(&file),
        "x",
        &limits,
        |name| name == "a",
        |name, _| {
            names.push(name.to_owned());
            Ok::<(), Error>(())
        },
    )
    .expect("the damaged one is not asked for");
    assert_eq!(names, ["a"]);
    let ended: Result<(), Error> = archive::read_zip_from(
        Cursor::new(&file),
        "x",
        &limits,
        |_| true,
        |name, _| {
            Err(Error::Missing {
                archive: "x".to_owned(),
                name: name.to_owned(),
            })
        },
    );
    assert!(matches!(ended, Err(Error::Missing { name, .. }) if name == "a"));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let limits = Limits::default();
    for (name, fault) in [
        (b"/etc/passwd".as_slice(), NameFault::Absolute),
        (b"//host/x", NameFault::Absolute),
        (b"C:/x", NameFault::Absolute),
        (b"C:x", NameFault::Absolute),
        (b"../x", NameFault::Climbs),
        (b"a/../../x", NameFault::Climbs),
        (b"a/..", NameFault::Climbs),
        (b"..\\x", NameFault::Backslash),
        (b"a\\b", NameFault::Backslash),
        (b"a\nb", NameFault::Control),
        (b"a\x1b[2Jb", NameFault::Control),
        (b"a\x7fb", NameFault::Control),
        (b".", NameFault::Empty),
    ] {
        let in_zip = zip_members(&zip(&[Entry::new(name, b"x")]), &limits);
        match in_zip {
            Err(Error::Name { fault: found, .. }) => {
                assert_eq!(found, fault, "{}", name.escape_ascii())
            }
            other => panic!("{}: {other:?}", name.escape_ascii()),
        }
        match tar_members(&tar(&[(name, tar::EntryType::Regular, b"x")]), &limits) {
            Err(Error::Name { fault: found, .. }) => {
                assert_eq!(found, fault, "{}", name.escape_ascii())
            }
            other => panic!("{}: {other:?}", name.escape_ascii()),
        }
    }
    // A NUL ends a name in tar; in zip it is one more letter, and refused.
    assert!(matches!(
        zip_members(&zip(&[Entry::new(b"a\0.txt", b"x")]), &limits),
        Err(Error::Name {
            fault: NameFault::Control,
            ..
        })
    ));
    // So are the names of folders.
    let folder = Entry {
        mode: 0o040_755,
        ..Entry::new("../up/", b"")
    };
    assert!(matches!(
        zip_members(&zip(&[folder]), &limits),
        Err(Error::Name {
            fault: NameFault::Climbs,
            ..
        })
    ));
    let folder = tar(&[(b"../up/", tar::EntryType::Directory, b"")]);
    assert!(matches!(
        tar_members(&folder, &limits),
        Err(Error::Name {
            fault: NameFault::Climbs,
            ..
        })
    ));
    // Bytes that are no text.
    let bytes = tar(&[(b"a\xff", tar::EntryType::Regular, b"x")]);
    assert!(matches!(
        tar_members(&bytes, &limits),
        Err(Error::Name {
            fault: NameFault::NotUtf8,
            ..
        })
    ));
    // What is printed does not reach the terminal as it is.
    let error = zip_members(&zip(&[Entry::new(b"a\x1b[2J", b"x")]), &limits)
        .expect_err("refused")
        .to_string();
    assert!(
        !error.contains('\x1b') && error.contains("a\\x1b[2J"),
        "{error}"
    );
}

#[test]
fn a_long_name_of_the_gnu_kind_is_held_to_the_same_rules() {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let long = format!("{}../x", "a/".repeat(60));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.as_old_mut().name[..4].copy_from_slice(b"././");
    header.set_size(long.len() as u64 + 1);
    header.set_cksum();
    builder
        .append(&header, format!("{long}\0").as_bytes())
        .expect("memory");
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..1].copy_from_slice(b"x");
    header.set_size(1);
    header.set_cksum();
    builder.append(&header, b"x".as_slice()).expect("memory");
    let bytes = builder
        .into_inner()
        .expect("memory")
        .finish()
        .expect("memory");
    assert!(matches!(
        tar_members(&bytes, &Limits::default()),
        Err(Error::Name {
            fault: NameFault::Climbs,
            ..
        })
    ));
}

#[test]
fn what_is_no_file_is_refused() {
    let limits = Limits::default();
    for (mode, what) in [
        (0o120_777, "a symbolic link"),
        (0o020_644, "a device"),
        (0o060_644, "a device"),
        (0o010_644, "a named pipe"),
        (0o140_644, "a socket"),
    ] {
        match zip_members(
            &zip(&[Entry {
                mode,
                ..Entry::new("x", b"/etc/passwd")
            }]),
            &limits,
        ) {
            Err(Error::Kind { kind, .. }) => assert_eq!(kind, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    for (kind, what) in [
        (tar::EntryType::Symlink, "a symbolic link"),
        (tar::EntryType::Link, "a hard link"),
        (tar::EntryType::Char, "a device"),
        (tar::EntryType::Block, "a device"),
        (tar::EntryType::Fifo, "a named pipe"),
        (tar::EntryType::new(b'Z'), "of an unknown kind"),
    ] {
        match tar_members(&tar(&[(b"x", kind, b"")]), &limits) {
            Err(Error::Kind { kind, .. }) => assert_eq!(kind, what),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_name_that_occurs_twice_is_refused() {
    let limits = Limits::default();
    // The same bytes, and two spellings of one path.
    for (one, two) in [("a", "a"), ("a/b", "./a//b")] {
        let bytes = zip(&[Entry::new(one, b"1"), Entry::new(two, b"2")]);
        assert!(
            matches!(zip_members(&bytes, &limits), Err(Error::Duplicate { .. })),
            "{one} {two}"
        );
        let bytes = tar(&[
            (one.as_bytes(), tar::EntryType::Regular, b"1"),
            (two.as_bytes(), tar::EntryType::Regular, b"2"),
        ]);
        assert!(
            matches!(tar_members(&bytes, &limits), Err(Error::Duplicate { .. })),
            "{one} {two}"
        );
    }
}

#[test]
fn members_that_share_their_bytes_are_refused() {
    // Many names for one member: the directory points to one place again and again.
    let one = Entry::new("0", b"0123456789");
    let mut file = b"PK\x03\x04".to_vec();
    file.extend(one.fields());
    file.extend(&one.name);
    file.extend(&one.stored);
    let entries: Vec<_> = (0..10)
        .map(|it| Entry {
            name: it.to_string().into_bytes(),
            ..one.clone()
        })
        .collect();
    let bytes = directory(file, &entries, &[0; 10]);
    assert!(matches!(
        zip_members(&bytes, &Limits::default()),
        Err(Error::Overlap { .. } | Error::Malformed { .. })
    ));
}

#[test]
fn bombs_are_left_while_they_are_small() {
    let zeros = vec![0; 20 << 20];
    let small = Limits {
        member_bytes: 4 << 20,
        ..Limits::default()
    };
    let narrow = Limits {
        total_bytes: 3 << 20,
        ratio: 1_000_000,
        ..Limits::default()
    };
    let halves: Vec<_> = (0..4)
        .map(|it| Entry::deflated(&it.to_string(), &zeros[..1 << 20]))
        .collect();
    // 1,000 times the size of the archive.
    assert!(matches!(
        zip_members(&zip(&[Entry::deflated("x", &zeros)]), &Limits::default()),
        Err(Error::Ratio { .. })
    ));
    assert!(matches!(
        zip_members(&zip(&halves), &narrow),
        Err(Error::TotalBytes { .. })
    ));
    let loose = Limits {
        ratio: 1_000_000,
        ..small
    };
    assert!(matches!(
        zip_members(&zip(&[Entry::deflated("x", &zeros)]), &loose),
        Err(Error::MemberBytes { .. })
    ));
    // A claim that is a lie changes nothing.
    for claimed in [0, 1, u32::MAX - 1] {
        let liar = Entry {
            claimed,
            ..Entry::deflated("x", &zeros)
        };
        assert!(zip_members(&zip(&[liar]), &Limits::default()).is_err());
    }
    let bomb = tar(&[(b"x", tar::EntryType::Regular, &zeros)]);
    assert!(matches!(
        tar_members(&bomb, &Limits::default()),
        Err(Error::Ratio { .. })
    ));
    assert!(matches!(
        tar_members(&bomb, &loose),
        Err(Error::MemberBytes { .. })
    ));
    // Not asked for, it still has to be walked over; that ends too.
    let skipped: Result<(), Error> = archive::read_tar_gz_from(
        Cursor::new(&tar(&[
            (b"x", tar::EntryType::Regular, &zeros),
            (b"y", tar::EntryType::Regular, &zeros),
        ])),
        "x",
        &Limits::default(),
        |_| false,
        |_, _| Ok(()),
    );
    assert!(matches!(skipped, Err(Error::Read { .. })), "{skipped:?}");
    // A gzip file.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&zeros).expect("memory");
    let bytes = encoder.finish().expect("memory");
    let size = bytes.len() as u64;
    let unpacked = archive::gunzip_from(bytes.as_slice(), size, "x", &Limits::default());
    assert!(matches!(unpacked, Err(Error::Ratio { .. })));
    assert!(archive::gunzip_from(bytes.as_slice(), size, "x", &loose).is_err());
    assert_eq!(
        archive::gunzip_from(
            bytes.as_slice(),
            size,
            "x",
            &Limits {
                ratio: 2_000,
                ..Limits::default()
            }
        )
        .map(|it| it.len())
        .ok(),
        Some(20 << 20)
    );
    // Many entries.
    let few = Limits {
        entries: 3,
        ..Limits::default()
    };
    let many: Vec<_> = (0..4).map(|it| Entry::new(it.to_string(), b"")).collect();
    assert!(matches!(
        zip_members(&zip(&many), &few),
        Err(Error::Entries { limit: 3, .. })
    ));
    let many: [(&[u8], _, &[u8]); 4] =
        [b"a", b"b", b"c", b"d"].map(|it| (it.as_slice(), tar::EntryType::Regular, b"".as_slice()));
    assert!(matches!(
        tar_members(&tar(&many), &few),
        Err(Error::Entries { limit: 3, .. })
    ));
}

#[test]
fn repetitive_small_texts_are_no_bombs() {
    let text = vec![b'x'; 1 << 20];
    assert_eq!(
        zip_members(&zip(&[Entry::deflated("x", &text)]), &Limits::default())
            .map(|it| it.len())
            .ok(),
        Some(1)
    );
}

#[test]
fn what_needs_a_password_or_another_method_is_refused() {
    let limits = Limits::default();
    let locked = Entry {
        flags: 0x801,
        ..Entry::new("x", b"0123456789abcdef")
    };
    assert!(matches!(
        zip_members(&zip(&[locked]), &limits),
        Err(Error::Encrypted { .. } | Error::Malformed { .. })
    ));
    let strange = Entry {
        method: 99,
        ..Entry::new("x", b"x")
    };
    assert!(zip_members(&zip(&[strange]), &limits).is_err());
}

#[test]
fn damage_anywhere_is_an_error_or_the_same_members_and_never_others() {
    let limits = Limits::default();
    let entries = [
        Entry::new("a", b"one two three"),
        Entry::deflated("b", b"four four four four four"),
    ];
    let whole = zip(&entries);
    let right = zip_members(&whole, &limits).expect("right");
    for at in 0..whole.len() {
        assert!(zip_members(&whole[..at], &limits).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(members) = zip_members(&damaged, &limits) {
                // Names are not under the checksum, and an entry may be lost with the count of them; bytes are.
                for (_, bytes) in members {
                    assert!(
                        right.iter().any(|(_, it)| *it == bytes),
                        "bit {bit} of byte {at}"
                    );
                }
            }
        }
    }
    let whole = tar(&[
        (b"a", tar::EntryType::Regular, b"one"),
        (b"b", tar::EntryType::Regular, b"two"),
    ]);
    let right = tar_members(&whole, &limits).expect("right");
    for at in 0..whole.len() {
        assert!(tar_members(&whole[..at], &limits).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            if let Ok(members) = tar_members(&damaged, &limits) {
                assert_eq!(
                    members, right,
                    "bit {bit} of byte {at}: gzip has a checksum over all"
                );
            }
        }
    }
}

#[test]
fn what_is_no_archive_is_said_to_be_none() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("x");
    let read = || {
        archive::read(
            &path,
            &Limits::default(),
            |_| true,
            |_, _| Ok::<(), Error>(()),
        )
    };
    assert!(matches!(read(), Err(Error::Open { .. })));
    for bytes in [
        b"".as_slice(),
        b"P",
        b"<html>",
        b"PK",
        b"PK\x03\x04",
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    ] {
        std::fs::write(&path, bytes)?;
        assert!(read().is_err(), "{}", bytes.escape_ascii());
    }
    std::fs::write(&path, zip(&[Entry::new("a", b"1")]))?;
    read()?;
    assert_eq!(archive::member(&path, &Limits::default(), "a")?, b"1");
    assert!(matches!(
        archive::member(&path, &Limits::default(), "b"),
        Err(Error::Missing { .. })
    ));
    std::fs::write(&path, tar(&[(b"a", tar::EntryType::Regular, b"1")]))?;
    assert_eq!(archive::member(&path, &Limits::default(), "a")?, b"1");
    Ok(())
}
