//! Features with sets of labels, and losses that do not fit them.

use crate::helpers::{number, refused, trained, write};
use crate::support::{nearfar, run};

#[test]
fn sets_of_labels() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "a,b,c,tags\n".to_owned();
    for row in 0..80 {
        let (sea, snow) = (row % 2 == 0, row % 3 == 0);
        let tags = [(sea, "sea"), (snow, "snow"), (!sea && !snow, "city")];
        let tags: Vec<&str> = tags.iter().filter(|it| it.0).map(|it| it.1).collect();
        let value = |is: bool, at: usize| f64::from(u8::from(is)) + 0.3 * number(row + at);
        let (a, b, c) = (value(sea, 0), value(snow, 100), number(row + 200));
        csv += &format!("{a},{b},{c},{}\n", tags.join("; "));
    }
    csv += "0,0,0,fog\n";
    write(&folder.path().join("table.csv"), csv);
    let small = ["train.steps=40", "sampler.shuffled.size=24", "seed=3"];
    let output = trained(folder.path(), "labels", &small);
    assert!(
        output.contains("with sets of 4 labels") && output.contains(" labels\n"),
        "{output}"
    );
    for word in ["MAP", "Precision@10", "raw features"] {
        assert!(output.contains(word), "{word} is missing in\n{output}");
    }
    let error = refused(folder.path(), "evaluation.scores=[\"nmi\"]", 2);
    assert!(
        error.contains("`nmi` says nothing of data with sets of labels"),
        "{error}"
    );
}

#[test]
fn a_loss_that_does_not_fit_the_data_says_what_would() {
    let folder = tempfile::tempdir().expect("a folder");
    let with = |data: &str, loss: &str, code: i32| {
        let text = format!(
            "data.{data}\nsampler.shuffled = {{ size = 8 }}\nmodel.mlp = {{}}\nloss.{loss} = {{}}\n\
             optimizer.adam = {{}}\ntrain = {{ steps = 1 }}\n"
        );
        write(&folder.path().join("run.toml"), text);
        let told = run(nearfar(folder.path()).args(["train", "run.toml"]), code).1;
        assert!(
            !folder.path().join("runs").exists(),
            "nothing is made of a run that cannot be"
        );
        told
    };
    for (loss, remedy) in [
        ("rnc", "`target` in `data`"),
        ("ml2", "`labels` in `data`"),
        ("vicreg", "`views = 2`"),
        ("pixel_pair", "`data.masks` and `data.scenes`"),
        ("cosent", "`score` in `data.pairs`"),
    ] {
        let error = with("digits = {}", loss, 2);
        assert!(error.contains(remedy), "{error}");
    }
    let rows = (0..10).map(|row| format!("{},{row},{}\n", number(row), row % 3));
    let csv = rows.fold("a,b,c\n".to_owned(), |csv, row| csv + &row);
    write(&folder.path().join("t.csv"), csv);
    let error = with(
        "table = { path = \"t.csv\", target = \"c\", labels = \"b\" }",
        "rnc",
        3,
    );
    assert!(error.contains("has `target` and `labels`"), "{error}");
    let error = with(
        "table = { path = \"t.csv\", target = \"c\", hold_out = \"classes\" }",
        "rnc",
        3,
    );
    assert!(
        error.contains("is about classes, but with `target` the data have real targets"),
        "{error}"
    );
    let error = with(
        "table = { path = \"t.csv\", target = \"c\" }",
        "triplet_margin",
        2,
    );
    assert!(
        error.contains("learns from classes or listed pairs, but `data.table` has real targets"),
        "{error}"
    );
}
