//! Two views of each sample.

use crate::helpers::{bars, trained, write};
use crate::support::{nearfar, run};

#[test]
fn two_views() {
    let folder = tempfile::tempdir().expect("a folder");
    for index in 0..48 {
        let class = index % 4;
        bars(
            folder.path(),
            &format!("images/{class}/{index}.pgm"),
            class,
            true,
            index,
        );
    }
    let small = [
        "train.steps=20",
        "data.folder.size=12",
        "sampler.shuffled.size=16",
        "model.conv4.blocks=2",
        "model.conv4.channels=8",
    ];
    let output = trained(folder.path(), "views", &small);
    assert!(output.contains("5-NN accuracy"), "{output}");
    let other = |changes: &[&str], code: i32| {
        let mut command = nearfar(folder.path());
        command.args(["train", "run.toml", "--out", "runs/other"]);
        for change in small.iter().chain(changes) {
            command.args(["--set", change]);
        }
        run(&mut command, code).1
    };
    let error = other(&["views=1"], 2);
    assert!(
        error.contains("`nt_xent` learns from two views of each row, but `data.folder` has classes; `views = 2`"),
        "{error}"
    );
    assert!(other(&["views=17"], 2).contains("`views` is 17; from 1 to 16 are possible"));
    // SimCLR with three views of each image; and a loss that can have two only.
    other(&["views=3"], 0);
    std::fs::remove_dir_all(folder.path().join("runs/other")).expect("it was made");
    let path = folder.path().join("run.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    write(&path, text.replace("[self_supervised]", ""));
    let error = other(&["views=3", "loss={multiple_negatives_ranking={}}"], 2);
    assert!(
        error.contains("and a third for a wrong answer, but `views` is 3"),
        "{error}"
    );
}
