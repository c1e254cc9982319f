//! Folders with names that are no text.

#![cfg(target_os = "linux")] // Other file systems refuse such names.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use nearfar_catalogue::{
    Proof, Status,
    fetch::{Outcome, Source},
    status, verify,
};
use proptest::prelude::*;

use crate::{file, folder, get_from, options, set};

/// One component of a path: any bytes but NUL and `/`, and not `.` or `..`.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|it| if it == 0 || it == b'/' { b'\n' } else { it });
    prop_oneof![
        4 => prop::collection::vec(byte.clone(), 1..20),
        1 => prop::collection::vec(byte, 255..=255),
        1 => Just(b" leading, trailing and \n new line ".to_vec()),
        1 => Just(b"...".to_vec()),
        1 => Just(b"-rf".to_vec()),
    ]
    .prop_filter("a name of its own", |it| it != b"." && it != b"..")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_mirror_and_a_folder_of_any_name_do(mirror in name(), data in name()) {
        let root = folder();
        // Each in a folder of its own, since the two names may be one.
        let mirror = root.path().join("from").join(OsStr::from_bytes(&mirror));
        let data = root.path().join("to").join(OsStr::from_bytes(&data));
        fs::create_dir_all(mirror.join("tiny")).expect("a folder");
        fs::write(mirror.join("tiny/a.bin"), b"hello").expect("written");
        let set = set(&file("a.bin", b"hello", &[]));
        // An absolute path is no address, whatever is in it.
        let source = Source::try_from(mirror.as_os_str()).expect("a folder");
        let (result, _) = get_from(&set, &data, &source, &options());
        prop_assert_eq!(&result.expect("it comes")[0].1, &Outcome::Fetched(Proof::Bytes));
        prop_assert_eq!(status(&data, &set), Status::Present);
        prop_assert!(verify(&data, &set).is_ok());
    }
}
