//! Pairs of texts.

use crate::helpers::{number, write};
use crate::support::{nearfar, run};

/// A teacher's scores of two answers to a question are learned from in pairs that are in one batch.
#[test]
fn answers_of_one_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "left,right,score\n".to_owned();
    for row in 0..60 {
        let (question, answer) = (row % 20, row / 20);
        csv += &format!("question {question},word {answer} {row},{}\n", number(row));
    }
    write(&folder.path().join("pairs.csv"), csv);
    let text = r#"
data.pairs = { path = "pairs.csv", score = "score" }
sampler.grouped_pairs = { size = 12 }
model.lstm = { width = 6, words = { dim = 8 }, normalize = false }
loss.margin_mse = {}
optimizer.adam = { learning_rate = 1e-3 }
train = { steps = 8 }
"#;
    write(&folder.path().join("run.toml"), text);
    let (_, notes) = run(nearfar(folder.path()).args(["train", "run.toml"]), 0);
    assert!(!notes.contains("no step had anything to learn"), "{notes}");
}
