//! No checkpoint that was published is lost, and none that was damaged is loaded.

mod fakes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use fakes::{FOLDER, bits, files, store};
use nearfar_core::{Purpose, Seed};
use nearfar_trainer::checkpoint::{
    Checkpoint, Checkpoints, DiskFs, FORMAT, Fs, Manifest, ManifestFile, MemoryFs, load, sha256,
};
use nearfar_trainer::{Counters, Error, Position};

/// A small one; its numbers say which.
fn checkpoint(step: u64, mark: f64) -> Checkpoint {
    let tensor = |numbers: &[f64]| Tensor::new(numbers, &Device::Cpu).expect("small");
    let single = |x: &Tensor| x.to_dtype(DType::F32).expect("small");
    let named = |name: &str, tensor: Tensor| BTreeMap::from([(name.to_string(), tensor)]);
    Checkpoint {
        seed: Seed(u64::MAX - 1),
        position: Position {
            epoch: 3,
            batch: 1 << 60,
            step,
        },
        counters: Counters {
            learned: step,
            updates: step,
            ..Counters::default()
        },
        model: named("weight", single(&tensor(&[step as f64, mark, 0.1]))),
        optimizer: named(
            "weight/steps",
            Tensor::new(&[i64::MAX - 1], &Device::Cpu).expect("small"),
        ),
        components: BTreeMap::from([
            ("loss".to_string(), BTreeMap::new()),
            (
                "observer.best".to_string(),
                named("score", tensor(&[0.1 + 0.2])),
            ),
        ]),
        gathered: 0,
        best: false,
    }
}

fn best(step: u64, mark: f64) -> Checkpoint {
    Checkpoint {
        best: true,
        ..checkpoint(step, mark)
    }
}

fn latest(store: &Checkpoints) -> Option<(u64, Checkpoint)> {
    let loaded = store.latest().expect("one can be used")?;
    Some((loaded.checkpoint.position.step, loaded.checkpoint))
}

/// The whole error in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn what_is_loaded_is_what_was_saved_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Checkpoints::open(folder.path().join("checkpoints"), "run", 2).expect("opens");
    assert!(store.latest().expect("an empty folder").is_none());
    let saved = checkpoint(12, f64::from(f32::MIN_POSITIVE));
    let at = store.save(&saved).expect("saved");
    assert!(at.path.ends_with("ckpt-00000012") && at.bytes > 1000);
    let loaded = store.latest().expect("whole").expect("saved");
    assert_eq!(
        loaded.to_string(),
        format!("going on from {}", at.path.display())
    );
    let loaded = loaded.checkpoint;
    assert_eq!(
        (loaded.seed, loaded.position, loaded.counters),
        (saved.seed, saved.position, saved.counters)
    );
    assert_eq!(bits(&loaded.model), bits(&saved.model));
    assert_eq!(bits(&loaded.optimizer), bits(&saved.optimizer));
    let names: Vec<&String> = loaded.components.keys().collect();
    assert_eq!(names, ["loss", "observer.best"]);
    let score = loaded.components["observer.best"]["score"]
        .to_vec1::<f64>()
        .expect("f64");
    assert_eq!(score, [0.1 + 0.2], "all 53 bits");
    let latest =
        std::fs::read_to_string(folder.path().join("checkpoints/LATEST")).expect("published");
    assert_eq!(latest, "ckpt-00000012\n");
}

#[test]
fn the_newest_and_the_best_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Checkpoints::open(folder.path(), "run", 2).expect("opens");
    assert!(store.best().expect("none yet").is_none());
    for step in 1..=6 {
        let saved = if step == 2 {
            best(step, 0.0)
        } else {
            checkpoint(step, 0.0)
        };
        store.save(&saved).expect("saved");
    }
    let names = store.names().expect("readable");
    assert_eq!(names, ["ckpt-00000002", "ckpt-00000005", "ckpt-00000006"]);
    assert_eq!(
        store
            .best()
            .expect("whole")
            .expect("marked")
            .checkpoint
            .position
            .step,
        2
    );
    store.save(&best(7, 0.0)).expect("saved");
    assert_eq!(
        store.names().expect("readable"),
        ["ckpt-00000006", "ckpt-00000007"]
    );
    let left: Vec<String> = DiskFs.read_dir(folder.path()).expect("readable");
    assert_eq!(
        left,
        ["LATEST", "best", "ckpt-00000006", "ckpt-00000007"],
        "no leftovers"
    );
}

#[test]
fn a_step_that_is_saved_again_is_replaced() {
    let fs = MemoryFs::new();
    let kept = store(&fs, 1);
    kept.save(&checkpoint(3, 1.0)).expect("saved");
    let before = fs.operations();
    kept.save(&checkpoint(3, 1.0)).expect("saved");
    let same = fs.operations() - before;
    kept.save(&checkpoint(3, 2.0)).expect("saved");
    assert!(
        same < fs.operations() - before - same,
        "the same bytes are not written again"
    );
    let (_, loaded) = latest(&kept).expect("saved");
    assert_eq!(bits(&loaded.model), bits(&checkpoint(3, 2.0).model));
    assert_eq!(
        fs.read_dir(Path::new(FOLDER)).expect("readable"),
        ["LATEST", "ckpt-00000003"]
    );
}

#[test]
fn whatever_operation_fails_earlier_checkpoints_stay_and_the_path_is_named() {
    // ENOSPC, EIO, EDQUOT, EROFS, EACCES.
    for errno in [28, 5, 122, 30, 13] {
        for (what, second) in [
            ("another step", best(2, 0.0)),
            ("the same step", checkpoint(1, 9.0)),
        ] {
            let mut index = 0;
            let mut failures = 0;
            loop {
                let fs = MemoryFs::new();
                let kept = store(&fs, 1);
                kept.save(&best(1, 0.0)).expect("a healthy file system");
                let calls = fs.calls();
                fs.fail(index, errno);
                let outcome = kept.save(&second);
                let made = fs.calls() - calls;
                fs.heal();
                if let Err(error) = &outcome {
                    failures += 1;
                    let text = chain(error);
                    let os = std::io::Error::from_raw_os_error(errno).to_string();
                    assert!(text.contains(FOLDER) && text.contains(&os), "{text}");
                    assert!(matches!(error, Error::Io { .. }), "{text}");
                }
                let (step, loaded) = latest(&kept).expect("at least the first");
                assert!(
                    outcome.is_err() || step == second.position.step,
                    "{what}, call {index}"
                );
                let whole = [bits(&checkpoint(1, 0.0).model), bits(&second.model)];
                assert!(whole.contains(&bits(&loaded.model)), "{what}, call {index}");

                // The next start finds order, and the next save works.
                let kept = store(&fs, 1);
                let again = latest(&kept).expect("it is still there").1;
                assert!(whole.contains(&bits(&again.model)), "{what}, call {index}");
                kept.save(&second).expect("a healthy file system");
                assert_eq!(
                    bits(&latest(&kept).expect("saved").1.model),
                    bits(&second.model)
                );
                let names = fs.read_dir(Path::new(FOLDER)).expect("readable");
                assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
                if index > made {
                    break;
                }
                index += 1;
            }
            assert!(failures >= 20, "{what}: {failures} of {index} calls failed");
        }
    }
}

#[test]
fn a_full_disk_names_the_bytes() {
    let fs = MemoryFs::new();
    let kept = store(&fs, 1);
    let messages: Vec<String> = (0..30)
        .filter_map(|index| {
            fs.fail(index, 28);
            Some(chain(&kept.save(&checkpoint(index, 0.0)).err()?))
        })
        .collect();
    for file in [
        "model.safetensors",
        "optim.safetensors",
        "state.json",
        "MANIFEST.json",
        "LATEST",
    ] {
        let named = |text: &&String| {
            text.starts_with("cannot write ") && text.contains(" bytes to ") && text.contains(file)
        };
        assert!(
            messages.iter().any(|text| named(&text)),
            "{file}: {messages:#?}"
        );
    }
}

#[test]
fn opening_and_loading_on_a_failing_disk_are_errors_and_no_panic() {
    let fs = MemoryFs::new();
    store(&fs, 2).save(&best(1, 0.0)).expect("saved");
    for index in 0..30 {
        fs.fail(index, 5);
        let opened = Checkpoints::open_on(Box::new(fs.clone()), FOLDER, "run", 2);
        if let Ok(kept) = opened {
            fs.fail(index, 5);
            let _ = kept.latest();
            fs.fail(index, 5);
            let _ = kept.best();
        }
        fs.heal();
        assert_eq!(latest(&store(&fs, 2)).expect("untouched").0, 1);
    }
}

/// The run that goes on may be at its end and save nothing more, so the next start itself must set what is left to set.
#[test]
fn a_save_that_was_cut_off_after_it_had_its_name_is_finished_by_the_next_start() {
    let names = |fs: &MemoryFs| -> Vec<String> {
        let mut names = fs.read_dir(Path::new(FOLDER)).expect("readable");
        names.sort();
        names
    };
    let pointer = |fs: &MemoryFs, name: &str| {
        let bytes = fs.read(&Path::new(FOLDER).join(name), 64);
        String::from_utf8(bytes.expect("it is there")).expect("a name")
    };
    let started = || {
        let fs = MemoryFs::new();
        let kept = store(&fs, 1);
        kept.save(&best(1, 0.0)).expect("a healthy file system");
        (fs, kept)
    };
    let calls = {
        let (fs, kept) = started();
        let before = fs.calls();
        kept.save(&best(2, 0.0)).expect("a healthy file system");
        fs.calls() - before
    };
    let (mut before, mut after) = (0, 0);
    for index in 0..calls {
        let (fs, kept) = started();
        fs.fail(index, 5); // Nothing is done after this call but to clear up.
        let cut_off = kept.save(&best(2, 0.0)).is_err();
        fs.heal();
        drop(store(&fs, 1)); // The next start opens the folder, and saves nothing.
        let published = names(&fs).iter().any(|name| name == "ckpt-00000002");
        let wanted = if published {
            "ckpt-00000002"
        } else {
            "ckpt-00000001"
        };
        assert_eq!(names(&fs), ["LATEST", "best", wanted], "call {index}");
        for name in ["LATEST", "best"] {
            assert_eq!(
                pointer(&fs, name),
                format!("{wanted}\n"),
                "call {index}: {name}"
            );
        }
        match (cut_off, published) {
            (false, _) => {} // What failed was only asked for, such as whether it is there already.
            (true, true) => after += 1,
            (true, false) => before += 1,
        }
    }
    assert!(
        before > 5 && after > 5,
        "{before} before it had its name, {after} after"
    );
}

#[test]
fn a_power_cut_at_any_instant_loses_nothing_that_was_published() {
    let fs = MemoryFs::new();
    let mut acknowledged = vec![(0, None)];
    let kept = store(&fs, 1);
    let saves = [
        best(1, 0.0),
        checkpoint(2, 0.0),
        checkpoint(2, 5.0),
        best(3, 0.0),
        checkpoint(4, 0.0),
    ];
    for saved in &saves {
        kept.save(saved).expect("a healthy file system");
        acknowledged.push((fs.operations(), Some(saved.position.step)));
    }
    let wanted = |step: u64| -> Vec<_> {
        let of_step = saves.iter().filter(|saved| saved.position.step == step);
        of_step.map(|saved| bits(&saved.model)).collect()
    };

    let mut rng = Seed(1).rng(Purpose::Generation, 0);
    let mut lost = 0;
    for operations in 0..=fs.operations() {
        let promised = acknowledged
            .iter()
            .rev()
            .find(|(at, _)| *at <= operations)
            .expect("the first")
            .1;
        for subset in 0..32 {
            let cut = fs.power_cut(operations, &mut rng);
            lost += cut.lost;
            let place = format!("after {operations} operations, subset {subset}");
            // As the next start does.
            let opened = Checkpoints::open_on(Box::new(cut.disk.clone()), FOLDER, "run", 1);
            let found = opened.unwrap_or_else(|error| panic!("{place}: {}", chain(&error)));
            let loaded = found
                .latest()
                .unwrap_or_else(|error| panic!("{place}: {}", chain(&error)));
            let step = loaded
                .as_ref()
                .map(|loaded| loaded.checkpoint.position.step);
            assert!(
                step >= promised,
                "{place}: {promised:?} was published, {step:?} is found"
            );
            if let Some(loaded) = loaded {
                let step = loaded.checkpoint.position.step;
                assert!(
                    wanted(step).contains(&bits(&loaded.checkpoint.model)),
                    "{place}: step {step} is not what was saved"
                );
            }
            if promised >= Some(1) {
                let best = found
                    .best()
                    .unwrap_or_else(|error| panic!("{place}: {}", chain(&error)));
                assert!(best.is_some(), "{place}: the best is lost");
            }
            found.save(&checkpoint(9, 0.0)).expect("it goes on");
            assert_eq!(latest(&found).expect("saved").0, 9);
        }
    }
    assert!(lost > 1000, "the test cuts something: {lost}");
}

/// Files of a store with two checkpoints, of which the newer is to be damaged.
fn two() -> (MemoryFs, Checkpoints, Vec<(PathBuf, Vec<u8>)>) {
    let fs = MemoryFs::new();
    let kept = store(&fs, 2);
    kept.save(&checkpoint(1, 0.0)).expect("saved");
    kept.save(&checkpoint(2, 0.0)).expect("saved");
    let folder = Path::new(FOLDER).join("ckpt-00000002");
    let files = files(&fs, "ckpt-00000002");
    let files = files
        .into_iter()
        .map(|(name, bytes)| (folder.join(name), bytes))
        .collect();
    (fs, kept, files)
}

fn falls_back(kept: &Checkpoints, what: &str) {
    let loaded = kept
        .latest()
        .expect("the first is whole")
        .expect("there are two");
    assert_eq!(loaded.checkpoint.position.step, 1, "{what} was not noticed");
    assert_eq!(loaded.skipped.len(), 1);
    let text = loaded.to_string();
    assert!(
        text.starts_with("going on from") && text.contains("ckpt-00000002"),
        "{text}"
    );
}

#[test]
fn a_file_that_was_cut_anywhere_is_noticed() {
    let (fs, kept, files) = two();
    assert_eq!(files.len(), 5);
    for (path, bytes) in &files {
        for length in 0..bytes.len() {
            fs.tamper(path, |it| it.truncate(length)).expect("there");
            falls_back(&kept, &format!("{} cut to {length}", path.display()));
            fs.tamper(path, |it| it.clone_from(bytes)).expect("there");
        }
        fs.tamper(path, |it| it.push(b'\n')).expect("there");
        falls_back(&kept, &format!("{} with another byte", path.display()));
        fs.tamper(path, |it| it.clone_from(bytes)).expect("there");
        fs.remove_file(path).expect("there");
        falls_back(&kept, &format!("{} removed", path.display()));
        fs.write(path, bytes).expect("put back");
    }
    assert_eq!(latest(&kept).expect("all is put back").0, 2);
}

#[test]
fn any_flipped_bit_is_noticed() {
    let (fs, kept, files) = two();
    let mut rng = Seed(2).rng(Purpose::Generation, 0);
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    for _ in 0..10_000 {
        let mut place = rng.below(total);
        let (path, bytes) = files
            .iter()
            .find(|(_, bytes)| {
                let here = place < bytes.len();
                place -= if here { 0 } else { bytes.len() };
                here
            })
            .expect("within one of them");
        let bit = rng.below(8);
        fs.tamper(path, |it| it[place] ^= 1 << bit).expect("there");
        falls_back(
            &kept,
            &format!("{} bit {bit} of byte {place}", path.display()),
        );
        fs.tamper(path, |it| it.clone_from(bytes)).expect("there");
    }
    assert_eq!(latest(&kept).expect("all is put back").0, 2);
}

#[test]
fn what_is_wrong_with_each_is_said_when_none_can_be_used() {
    let (fs, kept, files) = two();
    fs.tamper(&files[0].0, Vec::clear).expect("there");
    let model = Path::new(FOLDER).join("ckpt-00000001/model.safetensors");
    fs.tamper(&model, |it| it[20] ^= 1).expect("there");
    let error = kept.latest().expect_err("both are damaged");
    let text = error.to_string();
    assert!(
        matches!(error, Error::NoneUsable { ref reasons, .. } if reasons.len() == 2),
        "{text}"
    );
    assert!(
        text.contains("ckpt-00000001/model.safetensors: its SHA-256 is"),
        "{text}"
    );
    // A damaged pointer costs nothing: the newest is found without it.
    let (fs, kept, _) = two();
    fs.tamper(&Path::new(FOLDER).join("LATEST"), Vec::clear)
        .expect("there");
    assert_eq!(latest(&kept).expect("found").0, 2);
}

#[test]
fn a_checkpoint_of_another_configuration_is_refused_with_both_hashes() {
    let fs = MemoryFs::new();
    store(&fs, 2).save(&checkpoint(1, 0.0)).expect("saved");
    let other = Checkpoints::open_on(Box::new(fs), FOLDER, &sha256(b"other"), 2).expect("opens");
    let error = other.latest().expect_err("another run");
    assert!(matches!(error, Error::OtherRun { .. }));
    let text = error.to_string();
    assert!(
        text.contains("SHA-256 run") && text.contains(&sha256(b"other")),
        "{text}"
    );
}

#[test]
fn others_may_read_while_a_run_saves() {
    let fs = MemoryFs::new();
    store(&fs, 2).save(&best(1, 0.0)).expect("saved");
    let folder = Path::new(FOLDER);
    fs.create_dir(&folder.join(".tmp-1-ckpt-00000002"))
        .expect("a save is under way");
    let before = fs.operations();
    let newest = nearfar_trainer::checkpoint::latest(&fs, folder, None)
        .expect("whole")
        .expect("there");
    let marked = nearfar_trainer::checkpoint::best(&fs, folder, Some("run"))
        .expect("whole")
        .expect("there");
    assert_eq!(newest.manifest, marked.manifest);
    assert_eq!(newest.manifest.files["model.safetensors"].sha256.len(), 64);
    assert_eq!(fs.operations(), before, "nothing was changed");
}

#[test]
fn leftovers_of_a_killed_process_are_swept_at_the_next_start() {
    let fs = MemoryFs::new();
    store(&fs, 1).save(&checkpoint(1, 0.0)).expect("saved");
    let folder = Path::new(FOLDER);
    fs.create_dir(&folder.join(".tmp-1234-ckpt-00000002"))
        .expect("made");
    fs.write(
        &folder.join(".tmp-1234-ckpt-00000002/model.safetensors"),
        b"half",
    )
    .expect("written");
    fs.write(&folder.join(".tmp-1234-LATEST"), b"ckpt")
        .expect("written");
    // Killed between giving the old one up and publishing the new one of the same step.
    fs.rename(
        &folder.join("ckpt-00000001"),
        &folder.join(".old-ckpt-00000001"),
    )
    .expect("renamed");
    let kept = store(&fs, 1);
    assert_eq!(
        fs.read_dir(folder).expect("readable"),
        ["LATEST", "ckpt-00000001"]
    );
    assert_eq!(latest(&kept).expect("put back").0, 1);
}

/// A checkpoint with all hashes right, and a file of somebody else's making.
fn forged(name: &str, bytes: &[u8]) -> Result<u64, Error> {
    let fs = MemoryFs::new();
    let kept = store(&fs, 1);
    kept.save(&checkpoint(1, 0.0)).expect("saved");
    let folder = Path::new(FOLDER).join("ckpt-00000001");
    let mut files: BTreeMap<String, Vec<u8>> = files(&fs, "ckpt-00000001");
    files.remove("MANIFEST.json");
    files.insert(name.into(), bytes.to_vec());
    fs.tamper(&folder.join(name), |it| *it = bytes.to_vec())
        .expect("there");
    let listed = files.iter().map(|(name, bytes)| {
        (
            name.clone(),
            ManifestFile {
                bytes: bytes.len() as u64,
                sha256: sha256(bytes),
            },
        )
    });
    let mut manifest = Manifest {
        format: FORMAT.into(),
        version: "0.0.0".into(),
        run: "run".into(),
        files: listed.collect(),
        sha256: String::new(),
    };
    let text = |manifest: &Manifest| serde_json::to_string_pretty(manifest).expect("plain") + "\n";
    manifest.sha256 = sha256(text(&manifest).as_bytes());
    let text = text(&manifest);
    fs.tamper(&folder.join("MANIFEST.json"), |it| *it = text.into_bytes())
        .expect("there");
    load(&fs, &folder).map(|(_, it)| it.position.step)
}

fn tensor_file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn files_made_to_harm_are_refused() {
    let weight = |dtype: &str, shape: &str, end: usize| {
        format!(r#"{{"weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    assert_eq!(
        forged(
            "model.safetensors",
            &tensor_file(&weight("F32", "[3]", 12), 12)
        )
        .expect("harmless"),
        1
    );
    let many: Vec<String> = (0..10_001)
        .map(|index| format!(r#""{index}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    let name = "n".repeat(513);
    let cases = [
        ("nothing", Vec::new()),
        ("a header beyond the end", u64::MAX.to_le_bytes().to_vec()),
        ("a header that is no JSON", tensor_file("{{{{", 0)),
        (
            "more data than there is",
            tensor_file(&weight("F32", "[1000000]", 4_000_000), 12),
        ),
        (
            "a size that overflows",
            tensor_file(&weight("F32", "[4294967296,4294967296,4294967296]", 12), 12),
        ),
        (
            "a shape that does not fit",
            tensor_file(&weight("F32", "[4]", 12), 12),
        ),
        (
            "nine dimensions",
            tensor_file(&weight("F32", "[3,1,1,1,1,1,1,1,1]", 12), 12),
        ),
        (
            "a type of no use",
            tensor_file(&weight("I8", "[12]", 12), 12),
        ),
        (
            "ten thousand tensors and one",
            tensor_file(&format!("{{{}}}", many.join(",")), 0),
        ),
        (
            "a name of 513 bytes",
            tensor_file(&weight("F32", "[3]", 12).replace("weight", &name), 12),
        ),
    ];
    for (what, bytes) in cases {
        let error = forged("model.safetensors", &bytes).expect_err(what);
        assert!(
            matches!(error, Error::Corrupt { .. })
                && error.to_string().contains("model.safetensors"),
            "{what}: {error}"
        );
    }
    for (what, text) in [
        ("no JSON", "{"),
        ("a negative step", r#"{"step":-1}"#),
        ("nothing", ""),
    ] {
        let error = forged("state.json", text.as_bytes()).expect_err(what);
        assert!(error.to_string().contains("state.json"), "{what}: {error}");
    }
    let stray = tensor_file(&weight("F32", "[3]", 12), 12);
    let error = forged("state.safetensors", &stray).expect_err("of no component");
    assert!(
        error
            .to_string()
            .contains("no component is listed for `weight`"),
        "{error}"
    );
}

#[test]
fn another_format_is_told_from_damage() {
    let fs = MemoryFs::new();
    let kept = store(&fs, 1);
    kept.save(&checkpoint(1, 0.0)).expect("saved");
    let manifest = Path::new(FOLDER).join("ckpt-00000001/MANIFEST.json");
    fs.tamper(&manifest, |it| {
        *it = br#"{"format":"nearfar-checkpoint/2","new":1}"#.to_vec()
    })
    .expect("there");
    let text = kept.latest().expect_err("unknown").to_string();
    assert!(
        text.contains(
            "its format is `nearfar-checkpoint/2`, this version reads `nearfar-checkpoint/1`"
        ),
        "{text}"
    );
}
