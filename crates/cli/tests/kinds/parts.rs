//! Vectors of parts and of hidden layers.

use crate::helpers::write;
use crate::support::{nearfar, run, weights};

/// Parts of the last map and hidden layers, and their losses' own centers.
#[test]
fn parts_and_hidden_layers() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.toml");
    let text = r#"
data.glyphs = { classes = 6, test_classes = 3, samples = 8, size = 16 }
sampler.classes_by_samples = { classes = 4, samples = 3 }
model.conv4 = { width = 8, channels = 8, blocks = 2, parts = 2, hidden_heads = true }
loss.cosface = {}
parts = {}
deep_supervision = { weight = 0.3, fades = 20 }
optimizer.adam = { learning_rate = 1e-3 }
train = { steps = 12 }
checkpoints = { every.steps = 5 }
"#;
    write(&file, text);
    run(nearfar(folder.path()).args(["train", "run.toml"]), 0);
    // Stopped and continued, with the counter of the fading weight.
    let once = weights(&folder.path().join("runs/run"));
    let parts = ["train", "run.toml", "--out", "runs/parts"];
    run(
        nearfar(folder.path())
            .args(parts)
            .args(["--stop-after", "7"]),
        75,
    );
    run(nearfar(folder.path()).args(parts).arg("--resume"), 0);
    assert_eq!(once, weights(&folder.path().join("runs/parts")));

    // Parts are searched side by side where that is asked for: two of eight numbers.
    let table = folder.path().join("test.npy");
    let embed = |out: &str| {
        let arguments = ["embed", "--run", out, "test", "--output", "test.npy"];
        run(nearfar(folder.path()).args(arguments), 0);
        nearfar_eval::read_embeddings(&table).expect("written").0
    };
    assert_eq!(embed("runs/run").dim, 8);
    let searched = format!("{text}evaluation = {{ parts = true }}\n");
    write(&file, &searched);
    let of_parts = ["train", "run.toml", "--out", "runs/searched"];
    run(nearfar(folder.path()).args(of_parts), 0);
    let rows = embed("runs/searched");
    assert_eq!(rows.dim, 16);
    for row in 0..rows.len() {
        let squared = |numbers: &[f32]| numbers.iter().map(|x| x * x).sum::<f32>();
        let (first, second) = rows.row(row).split_at(8);
        assert!((squared(first) - 0.5).abs() < 1e-5 && (squared(second) - 0.5).abs() < 1e-5);
    }
    let whole = searched
        .replace("parts = {}\n", "")
        .replace(", parts = 2", "");
    write(&file, whole);
    let (_, error) = run(
        nearfar(folder.path()).args(["train", "run.toml", "--out", "runs/whole"]),
        2,
    );
    assert!(
        error.contains("`evaluation.parts` wants vectors `part.0`"),
        "{error}"
    );

    write(&file, text.replace(", parts = 2, hidden_heads = true", ""));
    let (_, error) = run(
        nearfar(folder.path()).args(["train", "run.toml", "--out", "runs/no"]),
        2,
    );
    assert!(error.contains("`parts` wants vectors `part.0`"), "{error}");
    // Heads that nobody asks for would not be trained, which is told.
    let idle = text
        .replace("parts = {}\n", "")
        .replace("deep_supervision", "# deep_supervision");
    write(&file, idle);
    let (_, error) = run(
        nearfar(folder.path()).args(["train", "run.toml", "--out", "runs/idle"]),
        2,
    );
    assert!(
        error.contains("hidden.0.weight") || error.contains("hidden.0.bias"),
        "{error}"
    );
}
