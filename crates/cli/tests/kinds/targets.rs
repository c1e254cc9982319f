//! Features with numbers to be predicted.

use crate::helpers::{number, problems, trained, write};
use crate::support::{nearfar, run};

#[test]
fn real_targets() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "a,b,c,age\n".to_owned();
    for row in 0..90 {
        let age = (60.0 * number(row)).floor();
        csv += &format!(
            "{},{},{},{age}\n",
            age / 30.0,
            number(row + 100),
            number(row + 200)
        );
    }
    write(&folder.path().join("table.csv"), &csv);
    let output = trained(
        folder.path(),
        "targets",
        &["train.steps=60", "sampler.shuffled.size=24"],
    );
    assert!(output.contains("train: 72 samples\n"), "{output}");
    assert!(output.contains("with real targets"), "{output}");
    for word in ["Spearman", "5-NN error", "raw features", "pca_whitening"] {
        assert!(output.contains(word), "{word} is missing in\n{output}");
    }
    let (embedded, _) = run(
        nearfar(folder.path()).args(["embed", "test", "--run", "runs/run", "-o", "test.csv"]),
        0,
    );
    assert!(
        embedded.contains("18 embeddings of 8 numbers"),
        "{embedded}"
    );

    csv += "1,2,3,inf\n1,2,3,old\n";
    write(&folder.path().join("table.csv"), csv);
    let problems = problems(folder.path(), "run.toml");
    assert!(
        problems.contains("row 92: the target in `age` is `inf`; give every row"),
        "{problems}"
    );
    assert!(
        problems.contains("row 93: `age` holds `old`, which is not a number"),
        "{problems}"
    );
}
