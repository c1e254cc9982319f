//! Every file of every data set, where a mirror of them is at hand.

use std::path::PathBuf;

use nearfar_catalogue::{Catalogue, Proof, Status, archive, content, status, verify};

/// The mirror, or a line that says that it is missing. A relative path starts at the workspace root.
fn mirror() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("NEARFAR_DATASETS") else {
        eprintln!("skipped: the files of the data sets (NEARFAR_DATASETS is not set)");
        return None;
    };
    Some(
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder),
    )
}

#[test]
fn every_set_in_the_mirror_is_the_one_in_the_catalogue() {
    let Some(mirror) = mirror() else { return };
    for set in Catalogue::builtin().iter() {
        assert_eq!(status(&mirror, set), Status::Present, "{}", set.name);
        let verified = verify(&mirror, set).unwrap_or_else(|error| panic!("{}: {error}", set.name));
        assert_eq!(
            verified.files.len(),
            set.files.len(),
            "{}: with its optional files",
            set.name
        );
        assert!(
            verified
                .files
                .iter()
                .all(|(_, proof)| *proof == Proof::Bytes),
            "{}",
            set.name
        );
    }
}

#[test]
fn digests_of_content_are_those_of_the_mirror_too() -> Result<(), nearfar_catalogue::Error> {
    let Some(mirror) = mirror() else {
        return Ok(());
    };
    for set in Catalogue::builtin().iter() {
        for file in &set.files {
            if let Some(content) = &file.content {
                let path = set.path(&mirror, file);
                assert_eq!(
                    content::digest(&path, content)?,
                    content.digest,
                    "{}",
                    path.display()
                );
            }
        }
    }
    Ok(())
}

#[test]
fn packed_pieces_are_members_of_the_mirror() -> Result<(), nearfar_catalogue::Error> {
    let Some(mirror) = mirror() else {
        return Ok(());
    };
    for set in Catalogue::builtin().iter() {
        for file in &set.files {
            for piece in &file.pack {
                let bytes = archive::member(
                    &set.path(&mirror, file),
                    &archive::Limits::default(),
                    &piece.member,
                )?;
                assert_eq!(bytes.len() as u64, piece.bytes, "{}", piece.member);
                assert_eq!(
                    nearfar_catalogue::Sha256::of(&bytes),
                    piece.sha256,
                    "{}",
                    piece.member
                );
            }
        }
    }
    Ok(())
}
