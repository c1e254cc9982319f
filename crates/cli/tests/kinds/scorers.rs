//! What scores pairs.

use crate::helpers::{refused, write};
use crate::support::{nearfar, run};

/// A run file of glyphs whose pairs are scored.
fn of_pairs(model: &str, scorer: &str) -> String {
    format!(
        "seed = 3\ndata.glyphs = {{ classes = 8, test_classes = 4, samples = 6, size = 28 }}\n\
         sampler.classes_by_samples = {{ classes = 8, samples = 2 }}\nmodel.{model}\nscorer.{scorer}\n\
         loss.pair_cross_entropy = {{}}\noptimizer.adam = {{ learning_rate = 1e-3 }}\ntrain = {{ steps = 3 }}\n\
         evaluation = {{ split = \"test\", every.steps = 2, scores = [\"auc\", \"recall_at_1\", \"map_at_r\"], rerank = 5 }}\n"
    )
}

#[test]
fn scorers_of_pairs() {
    for (model, scorer, told) in [
        ("ahmed = {}", "cross_input = { hidden = 8 }", true),
        (
            "conv4 = { width = 8, blocks = 2 }",
            "weighted_l1 = {}",
            false,
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        write(&folder.join("run.toml"), of_pairs(model, scorer));
        let (output, _) = run(nearfar(folder).args(["train", "run.toml"]), 0);
        let lines = |of: &str| -> Vec<String> {
            let found = output.lines().filter(|line| line.contains(of));
            found.map(str::to_owned).collect()
        };
        let (embedding, scored) = (lines("learned embedding"), lines("learned scorer"));
        assert_eq!((embedding.len(), scored.len()), (1, 1), "{output}");
        assert_ne!(
            embedding[0].split_whitespace().nth(2),
            scored[0].split_whitespace().nth(2),
            "pairs are scored by the scorer: {output}"
        );
        let (again, _) = run(nearfar(folder).args(["eval", "runs/run"]), 0);
        assert!(again.contains(&scored[0]), "{again}");
        let embed = ["embed", "test", "--run", "runs/run", "-o", "gallery.npy"];
        run(nearfar(folder).args(embed), 0);
        let search = [
            "search",
            "test",
            "--gallery",
            "gallery.npy",
            "--run",
            "runs/run",
            "-k",
            "2",
        ];
        let (found, notes) = run(nearfar(folder).args(search), 0);
        assert!(found.contains("rank"), "{found}");
        assert_eq!(notes.contains("compares maps"), told, "{notes}");
    }
}

#[test]
fn what_a_scorer_cannot_be_joined_to_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    write(
        &folder.join("run.toml"),
        of_pairs("conv4 = { width = 8 }", "cross_input = {}"),
    );
    let told = |change: &str| refused(folder, change, 2);
    let message = told("train.steps=1");
    assert!(message.contains("the model gives none"), "{message}");
    let message = told("model.conv4.maps=true");
    assert!(
        message.contains("maps of 1 × 1 places are too small"),
        "{message}"
    );
    let message = told("distance.euclidean={}");
    assert!(
        message.contains("which `distance` does not know"),
        "{message}"
    );
    let message = told("evaluation.parts=true");
    assert!(message.contains("use one of them"), "{message}");
    write(
        &folder.join("run.toml"),
        of_pairs("conv4 = {}", "weighted_l1 = {}").replace("pair_cross_entropy", "contrastive"),
    );
    let message = told("train.steps=1");
    assert!(
        message.contains("does not learn from scores of pairs"),
        "{message}"
    );
    let plain = of_pairs("conv4 = {}", "weighted_l1 = {}").replace("scorer.weighted_l1 = {}\n", "");
    write(&folder.join("run.toml"), plain);
    let message = told("train.steps=1");
    assert!(
        message.contains("wants a scorer to order neighbors by"),
        "{message}"
    );
}
