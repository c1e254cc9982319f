//! Images with masks.

use crate::helpers::{image, problems, refused, trained};

#[test]
fn masks() {
    let folder = tempfile::tempdir().expect("a folder");
    for index in 0..12 {
        let split = 4 + index % 8;
        let name = format!("{index}.pgm");
        let scenes = folder.path().join("scenes");
        image(&scenes.join("images").join(&name), 16, |y, x| {
            match x < split {
                true => [40, 200][y % 2],
                false => [40, 200][x % 2],
            }
        });
        image(&scenes.join("masks").join(&name), 16, |y, x| {
            match (y, x < split) {
                (0, _) => 0,
                (_, true) => 7,
                (_, false) => 200,
            }
        });
    }
    let small = [
        "train.steps=20",
        "data.masks.size=16",
        "data.masks.color=gray",
        "model.dense_conv.channels=8",
        "model.dense_conv.layers=2",
        "sampler.shuffled.size=4",
    ];
    let output = trained(folder.path(), "masks", &small);
    assert!(
        output.contains("with masks") && output.contains("places of pixels"),
        "{output}"
    );

    let error = refused(folder.path(), "augmentation=[{flip={}}]", 2);
    assert!(
        error.contains("has `flip`") && error.contains("the masks"),
        "{error}"
    );
    std::fs::remove_file(folder.path().join("scenes/masks/3.pgm")).expect("it is there");
    let problems = problems(folder.path(), "scenes");
    assert!(
        problems.contains("3.pgm: there is no mask of this name in scenes/masks"),
        "{problems}"
    );
}
