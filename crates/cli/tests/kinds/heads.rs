//! What stands over a model.

use crate::helpers::{refused, write};
use crate::support::{nearfar, run, weights};

/// A run file of glyphs with a head over its model.
fn under(model: &str, head: &str) -> String {
    format!(
        "seed = 3\nmodel.{model}\nhead.{head}\ndata.glyphs = {{ classes = 8, test_classes = 4, samples = 6, size = 28 }}\n\
         sampler.classes_by_samples = {{ classes = 8, samples = 2 }}\nloss.contrastive = {{}}\n\
         optimizer.adam = {{ learning_rate = 1e-3 }}\ntrain = {{ steps = 4 }}\nevaluation.scores = [\"recall_at_1\", \"map_at_r\"]\n"
    )
}

const HEADS: [(&str, &str, usize); 4] = [
    (
        "conv4 = { width = 8, blocks = 2 }",
        "mahalanobis = { width = 5 }",
        5,
    ),
    (
        "conv4 = { width = 8, blocks = 2, parts = 3 }",
        "fusion = {}",
        32,
    ),
    (
        "ahmed = { maps = 6 }",
        "netvlad = { clusters = 4, width = 7 }",
        7,
    ),
    (
        "conv4 = { width = 8, blocks = 2 }",
        "projection = { hidden = [12], width = 6 }",
        6,
    ),
];

#[test]
fn a_head_gives_the_embeddings_and_a_stopped_run_goes_on_with_it() {
    for (model, head, width) in HEADS {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        write(&folder.join("run.toml"), under(model, head));
        let (output, notes) = run(nearfar(folder).args(["train", "run.toml"]), 0);
        let name = |text: &str| text.split(' ').next().expect("a name").to_owned();
        let both = format!("{} under {} with", name(model), name(head));
        assert!(notes.contains(&both), "{notes}");
        let (again, _) = run(nearfar(folder).args(["eval", "runs/run"]), 0);
        let scores = output
            .lines()
            .find(|line| line.contains("learned embedding"));
        assert!(again.contains(scores.expect("a line")), "{output}\n{again}");
        let embed = ["embed", "test", "--run", "runs/run", "-o", "gallery.npy"];
        let (told, _) = run(nearfar(folder).args(embed), 0);
        assert!(told.contains(&format!("of {width} numbers")), "{told}");

        let train = ["train", "run.toml", "--out", "parts"];
        let stop = ["--stop-after", "2"];
        run(nearfar(folder).args(train).args(stop), 75);
        run(nearfar(folder).args(train).arg("--resume"), 0);
        let whole = weights(&folder.join("runs/run"));
        assert_eq!(weights(&folder.join("parts")), whole, "{head}");

        let export = ["export", "runs/run", "-o", "out.safetensors"];
        run(nearfar(folder).args(export), 0);
        let bytes = std::fs::read(folder.join("out.safetensors")).expect("it was written");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let place = format!("{}.", name(head));
        assert!(
            tensors.names().iter().any(|it| it.starts_with(&place)),
            "{:?}",
            tensors.names()
        );
    }
}

#[test]
fn the_metric_stays_near_the_identity_as_far_as_the_run_file_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let text = under("conv4 = { width = 8, blocks = 2 }", "mahalanobis = {}");
    write(&folder.join("run.toml"), text.clone());
    let apart = |out: &str, weight: &str| -> f64 {
        let penalty =
            format!("head_regularizer={{ penalty.orthonormal = {{}}, weight = {weight} }}");
        let train = ["train", "run.toml", "--out", out, "--set", &penalty];
        let faster = ["--set", "optimizer.adam.learning_rate=1e-2"];
        run(nearfar(folder).args(train).args(faster), 0);
        let log = std::fs::read_to_string(folder.join(out).join("metrics.jsonl")).expect("a log");
        assert!(log.contains("\"head_regularizer\""), "{log}");
        let file = format!("{out}.safetensors");
        run(nearfar(folder).args(["export", out, "-o", &file]), 0);
        let bytes = std::fs::read(folder.join(file)).expect("it was written");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let map = tensors.tensor("mahalanobis.weight").expect("the map");
        assert_eq!(map.shape(), [8, 8]);
        let numbers = map.data().chunks_exact(4).enumerate();
        numbers
            .map(|(at, bytes)| {
                let number = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
                let unit = f32::from(u8::from(at / 8 == at % 8));
                f64::from(number - unit).powi(2)
            })
            .sum()
    };
    let (free, held) = (apart("free", "0.0"), apart("held", "10.0"));
    assert!(free > 0.0 && held < free, "{held} {free}");
    let message = refused(folder, "head.mahalanobis.width=9", 2);
    assert!(message.contains("up to 8 is possible"), "{message}");
    let other = text.replace(
        "head.mahalanobis = {}",
        "head_regularizer.penalty.orthonormal = {}",
    );
    write(&folder.join("run.toml"), other);
    let (_, message) = run(
        nearfar(folder).args(["train", "run.toml", "--out", "none"]),
        2,
    );
    assert!(message.contains("without a `head`"), "{message}");
}

#[test]
fn a_head_that_misses_what_it_reads_says_which_model_gives_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    for (head, wanted) in [
        (
            "netvlad = {}",
            "gives no `maps`; `model.conv4` with `maps = true`",
        ),
        ("fusion = {}", "no vectors `part.0`"),
    ] {
        write(&folder.join("run.toml"), under("linear = {}", head));
        let (_, message) = run(nearfar(folder).args(["train", "run.toml"]), 2);
        assert!(message.contains(wanted), "{message}");
    }
}
