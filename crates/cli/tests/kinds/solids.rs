//! Volumes, sets of points, and things seen from several sides.

use std::path::Path;

use crate::helpers::{bars, number, problems, trained, write};
use crate::support::{nearfar, run};

/// An array as `numpy.save` writes it.
fn npy(path: &Path, kind: &str, shape: &str, data: &[u8]) {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(data);
    write(path, bytes);
}

#[test]
fn volumes() {
    let folder = tempfile::tempdir().expect("a folder");
    for index in 0..32 {
        let class = index % 4;
        // A slab at another height for each class.
        let voxel = |at: usize| {
            let filled = at / 144 / 3 == class && number(index * 1728 + at) < 0.9;
            u8::from(filled)
        };
        let voxels: Vec<u8> = (0..1728).map(voxel).collect();
        let path = folder.path().join(format!("volumes/c{class}/{index}.npy"));
        npy(&path, "|b1", "(12, 12, 12)", &voxels);
    }
    let small = [
        "train.steps=20",
        "sampler.classes_by_samples.classes=4",
        "sampler.classes_by_samples.samples=3",
        "model.voxnet.channels=4",
        "model.voxnet.hidden=16",
    ];
    let output = trained(folder.path(), "volumes", &small);
    for word in ["Recall@1", "raw voxels"] {
        assert!(output.contains(word), "{word} is missing in\n{output}");
    }
    let new = folder.path().join("volumes/c1");
    let embed = ["embed", "volumes/c1", "--run", "runs/run", "-o", "c1.npy"];
    let (embedded, _) = run(nearfar(folder.path()).args(embed), 0);
    assert!(
        embedded.contains("8 embeddings of 64 numbers"),
        "{embedded}"
    );

    npy(&new.join("1000.npy"), "|u1", "(12, 12)", &[0; 144]);
    npy(&new.join("1001.npy"), "|u1", "(2, 12, 12)", &[0; 288]);
    write(&new.join("1002.npy"), "PK");
    write(&new.join("1003.npz"), "PK");
    let problems = problems(folder.path(), "run.toml");
    for what in [
        "1000.npy: the array has the shape [12, 12]",
        "1001.npy: the volume has the shape [1, 2, 12, 12], the others [1, 12, 12, 12]",
        "1002.npy: it is not an npy file",
        "1003.npz: arrays of this kind are not read",
    ] {
        assert!(problems.contains(what), "{what} is missing in\n{problems}");
    }
}

#[test]
fn sets_of_points() {
    let folder = tempfile::tempdir().expect("a folder");
    for index in 0..32 {
        let class = index % 4;
        let count = 5 + index % 7;
        let points = (0..count * 2).flat_map(|at| {
            let value = number(index * 100 + at) * 0.2 + class as f64 * 0.5 - 0.75;
            (value as f32).to_le_bytes()
        });
        let path = folder.path().join(format!("points/c{class}/{index}.npy"));
        let data: Vec<u8> = points.collect();
        npy(&path, "<f4", &format!("({count}, 2)"), &data);
    }
    let small = [
        "train.steps=20",
        "data.points.most=8",
        "sampler.classes_by_samples.classes=4",
        "sampler.classes_by_samples.samples=3",
    ];
    let output = trained(folder.path(), "points", &small);
    assert!(output.contains("Recall@1"), "{output}");
    let wrong = folder.path().join("points/c1/1000.npy");
    npy(&wrong, "<f4", "(1, 3)", &[0; 12]);
    let problems = problems(folder.path(), "run.toml");
    assert!(
        problems.contains("1000.npy: a point has 3 numbers, those of others 2"),
        "{problems}"
    );
}

#[test]
fn several_views_of_things() {
    let folder = tempfile::tempdir().expect("a folder");
    for index in 0..32 {
        for view in 0..3 {
            let class = index % 4;
            let name = format!("things/c{class}/{index}/{view}.pgm");
            bars(folder.path(), &name, class, view == 0, index * 3 + view);
        }
    }
    let small = [
        "train.steps=20",
        "data.multi_view.size=12",
        "sampler.classes_by_samples.classes=4",
        "sampler.classes_by_samples.samples=3",
        "model.mvcnn.blocks=2",
        "model.mvcnn.channels=8",
        "model.mvcnn.hidden=16",
    ];
    let output = trained(folder.path(), "multi-view", &small);
    for word in ["Recall@1", "raw pixels"] {
        assert!(output.contains(word), "{word} is missing in\n{output}");
    }
    let embed = ["embed", "things/c1/1", "--run", "runs/run", "-o", "one.npy"];
    let (embedded, _) = run(nearfar(folder.path()).args(embed), 0);
    assert!(
        embedded.contains("1 embeddings of 64 numbers"),
        "{embedded}"
    );

    let lost = folder.path().join("things/c1/5/2.pgm");
    std::fs::remove_file(lost).expect("it is there");
    let problems = problems(folder.path(), "run.toml");
    assert!(
        problems.contains("things/c1/5: the folder has 2 views, and 3 of each thing are wanted"),
        "{problems}"
    );
}
