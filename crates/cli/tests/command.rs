//! What the command prints and with which code it ends.

mod support;

use nearfar_datasets::Dataset;
use support::{SMALL, nearfar, run};

#[test]
fn a_first_look_shows_the_commands_and_the_exit_codes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (help, _) = run(nearfar(folder.path()).arg("--help"), 0);
    for word in [
        "demo",
        "train",
        "eval",
        "embed",
        "search",
        "report",
        "data",
        "config",
        "doctor",
        "completions",
        "75",
        "NO_COLOR",
    ] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }
    run(nearfar(folder.path()).arg("trian"), 2);
    let (completions, _) = run(nearfar(folder.path()).args(["completions", "bash"]), 0);
    assert!(completions.contains("_nearfar"));
    let (doctor, _) = run(nearfar(folder.path()).arg("doctor"), 0);
    assert!(
        doctor.contains("device cpu       works") && doctor.contains("mnist"),
        "{doctor}"
    );
}

#[test]
fn a_mistake_in_a_run_file_is_shown_at_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.toml");
    std::fs::write(
        &file,
        SMALL.replace("margin = 0.2 }\nminer", "margn = 0.2 }\nminer"),
    )
    .expect("written");
    let (_, error) = run(
        nearfar(folder.path()).args(["config", "check", "run.toml"]),
        2,
    );
    assert!(
        error.contains("run.toml, line 6, column 25: unknown field `margn`"),
        "{error}"
    );
    assert!(
        error.contains("did you mean `margin`?") && error.contains("^^^^^"),
        "{error}"
    );
    assert!(
        !folder.path().join("runs").exists(),
        "nothing is made of a wrong run file"
    );

    std::fs::write(&file, SMALL.replace("map_at_r\" }", "map_at_k\" }")).expect("written");
    let (_, error) = run(nearfar(folder.path()).args(["train", "run.toml"]), 2);
    assert!(error.contains("map_at_k"), "{error}");

    std::fs::write(&file, SMALL).expect("written");
    let (_, error) = run(
        nearfar(folder.path()).args(["train", "run.toml", "--set", "train.stepps=3"]),
        2,
    );
    assert!(error.contains("unknown field `stepps`"), "{error}");
    let (shown, _) = run(
        nearfar(folder.path()).args([
            "config",
            "show",
            "run.toml",
            "--set",
            "loss.triplet_margin.margin=0.5",
        ]),
        0,
    );
    assert!(
        shown.contains("[loss.triplet_margin]\nmargin = 0.5"),
        "{shown}"
    );
    // What does not fit together is told before anything is made.
    let (_, error) = run(
        nearfar(folder.path()).args([
            "config",
            "check",
            "run.toml",
            "--set",
            "schedule={ one_cycle = { rise = 0.5 } }",
            "--set",
            "optimizer={ sgd = { learning_rate = 0.1 } }",
        ]),
        2,
    );
    assert!(
        error.contains("`schedule.one_cycle` moves the momentum, but `optimizer.sgd` has none"),
        "{error}"
    );
    let (object, _) = run(
        nearfar(folder.path()).args(["--json", "config", "check", "nowhere.toml"]),
        5,
    );
    let object: serde_json::Value = serde_json::from_str(object.trim()).expect("one JSON object");
    assert_eq!(
        (object["type"].as_str(), object["exit"].as_u64()),
        (Some("error"), Some(5))
    );
}

#[test]
fn a_preset_fills_in_what_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.toml");
    let show = |loss: &str, code: i32| {
        std::fs::write(
            &file,
            SMALL.replace("loss.triplet_margin = { margin = 0.2 }", loss),
        )
        .expect("written");
        let (shown, error) = run(
            nearfar(folder.path()).args(["config", "show", "run.toml"]),
            code,
        );
        shown + &error
    };
    let shown = show("loss.triplet_margin = { preset = \"peer\" }", 0);
    assert!(
        shown.contains("[loss.triplet_margin]\nmargin = 0.05"),
        "{shown}"
    );
    assert!(
        shown.contains("[distance.euclidean]\nnormalize = true"),
        "{shown}"
    );
    assert!(!shown.contains("preset"), "all of it is shown: {shown}");
    // What is written wins.
    let shown = show(
        "loss.triplet_margin = { margin = 0.3, preset = \"paper\" }\ndistance.manhattan = {}",
        0,
    );
    assert!(
        shown.contains("margin = 0.3") && shown.contains("power = 2"),
        "{shown}"
    );
    assert!(
        shown.contains("[distance.manhattan]") && !shown.contains("euclidean"),
        "{shown}"
    );
    // A loss whose preset is a reducer, and one whose presets are the defaults.
    let shown = show("loss.center = { preset = \"paper\" }", 0);
    assert!(shown.contains("[reducer.sum]"), "{shown}");
    let shown = show("loss.binomial_deviance = { preset = \"paper\" }", 0);
    assert!(
        !shown.contains("reducer") && !shown.contains("distance"),
        "{shown}"
    );
    let error = show("loss.triplet_margin = { preset = \"papr\" }", 2);
    assert!(
        error.contains("line 6, column 34: unknown variant `papr`, expected `paper` or `peer`; did you mean `paper`?"),
        "{error}"
    );
    assert!(error.contains("^^^^^^"), "{error}");
    let error = show(
        "loss.triplet_margin = { preset = \"peer\", margn = 0.3 }",
        2,
    );
    assert!(
        error.contains("`preset`; did you mean `margin`?"),
        "{error}"
    );
}

#[test]
fn a_template_is_written_once_and_checks_out() {
    let folder = tempfile::tempdir().expect("a folder");
    run(nearfar(folder.path()).args(["config", "init", "images"]), 0);
    run(
        nearfar(folder.path()).args(["config", "check", "run.toml"]),
        0,
    );
    let (_, error) = run(nearfar(folder.path()).args(["config", "init", "table"]), 2);
    assert!(error.contains("not overwritten"), "{error}");
}

#[test]
fn data_that_are_missing_say_how_to_get_them() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("run.toml"),
        SMALL.replace(
            "data.glyphs = { classes = 6, test_classes = 3, samples = 8, size = 16 }",
            "data.mnist = {}",
        ),
    )
    .expect("written");
    let (_, error) = run(nearfar(folder.path()).args(["train", "run.toml"]), 3);
    assert!(error.contains("fetch-data mnist"), "{error}");
}

#[test]
fn problems_of_data_are_listed_with_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("table.csv"),
        "a,b,label\n1,2,x\n1,zwei,x\n3,4,y\n5,6,\n",
    )
    .expect("written");
    let (listed, error) = run(
        nearfar(folder.path()).args(["data", "check", "table.csv"]),
        3,
    );
    assert!(
        listed.contains("zwei") && listed.contains("row 3"),
        "{listed}"
    );
    assert!(error.contains("listed above"), "{error}");
    // Bytes that are not UTF-8, in the lines that are looked at to tell what a file is.
    for (name, text, row) in [
        (
            "second.csv",
            &b"text,label\ncaf\xe9,x\ntea,y\n"[..],
            "row 2",
        ),
        ("first.csv", b"a\xe9,label\n1,x\n2,y\n", "row 1"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
        let (listed, _) = run(nearfar(folder.path()).args(["data", "check", name]), 3);
        let wanted = format!("{name}, {row}: there are bytes that are not UTF-8");
        assert!(listed.contains(&wanted), "{listed}");
    }
    let (list, _) = run(nearfar(folder.path()).args(["data", "list"]), 0);
    assert!(list.contains("omniglot"), "{list}");
}

/// From files to search: a model is trained on a folder of images, the images are embedded, and each is found by itself.
#[test]
fn own_images_are_trained_on_embedded_and_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let glyphs =
        nearfar_datasets::Glyphs::new(4, 10, 16, nearfar_core::Seed(0)).expect("good sizes");
    for class in 0..4u32 {
        let place = folder.path().join(format!("images/class {class}"));
        std::fs::create_dir_all(&place).expect("made");
        for sample in 0..10u32 {
            let pixels = glyphs
                .thumbnail(class * 10 + sample)
                .expect("images")
                .pixels;
            image::GrayImage::from_raw(16, 16, pixels)
                .expect("as large")
                .save(place.join(format!("{sample}.png")))
                .expect("saved");
        }
    }
    let run_file = SMALL
        .replace(
            "data.glyphs = { classes = 6, test_classes = 3, samples = 8, size = 16 }",
            "data.folder = { path = \"images\" }",
        )
        .replace("steps = 24", "steps = 60");
    std::fs::write(folder.path().join("own.toml"), run_file).expect("written");
    run(nearfar(folder.path()).args(["data", "check", "images"]), 0);
    let (table, _) = run(nearfar(folder.path()).args(["train", "own.toml"]), 0);
    assert!(
        table.contains("learned embedding")
            && table.contains("raw pixels")
            && table.contains("report: runs/own/report.html"),
        "{table}"
    );
    let page =
        std::fs::read_to_string(folder.path().join("runs/own/report.html")).expect("written");
    assert!(page.contains("Recall@1"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "<link"] {
        assert!(
            !page.contains(outside),
            "{outside} in a page that should need nothing else"
        );
    }

    run(
        nearfar(folder.path()).args([
            "embed",
            "images",
            "--run",
            "runs/own",
            "-o",
            "gallery.safetensors",
        ]),
        0,
    );
    let query = "images/class 2/7.png";
    let (found, _) = run(
        nearfar(folder.path()).args([
            "--json",
            "search",
            query,
            "--run",
            "runs/own",
            "--gallery",
            "gallery.safetensors",
            "-k",
            "3",
        ]),
        0,
    );
    let found: serde_json::Value = serde_json::from_str(found.trim()).expect("one JSON object");
    assert!(
        found["neighbors"][0]["distance"]
            .as_f64()
            .expect("a number")
            < 1e-3,
        "{found}"
    );
    assert_eq!(found["neighbors"].as_array().map(Vec::len), Some(3));

    for output in ["gallery.npy", "gallery.csv"] {
        run(
            nearfar(folder.path()).args(["embed", "test", "--run", "runs/own", "-o", output]),
            0,
        );
    }
    let (found, _) = run(
        nearfar(folder.path()).args([
            "search",
            "gallery.npy",
            "--gallery",
            "gallery.csv",
            "-k",
            "1",
        ]),
        0,
    );
    assert!(found.contains("0.000000"), "{found}");

    let (scores, _) = run(
        nearfar(folder.path()).args(["eval", "runs/own", "--scores", "recall_at_2,eer"]),
        0,
    );
    assert!(scores.contains("Recall@2"), "{scores}");
    run(
        nearfar(folder.path()).args(["report", "runs/own", "-o", "again.html"]),
        0,
    );
    assert!(folder.path().join("again.html").is_file());
    let (_, error) = run(
        nearfar(folder.path()).args(["eval", "runs/own", "--checkpoint", "ckpt-99999999"]),
        2,
    );
    assert!(error.contains("best, last, ckpt-"), "{error}");
    let (_, error) = run(nearfar(folder.path()).args(["train", "own.toml"]), 2);
    assert!(
        error.contains("holds a run already") && error.contains("--resume"),
        "{error}"
    );
}

/// A reader who goes away is no error.
#[test]
fn closed_output_ends_quietly() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = nearfar(folder.path())
        .args(["config", "reference"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn scores_are_by_what_the_run_file_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let scored = |by: &str, code: i32| {
        let evaluation = format!(
            "evaluation = {{ split = \"test\", scores = [\"recall_at_1\", \"map_at_r\"]{by} }}\n"
        );
        let mut text: String = SMALL
            .lines()
            .filter(|line| {
                ["evaluation", "miner", "checkpoints"]
                    .iter()
                    .all(|it| !line.starts_with(it))
            })
            .map(|line| format!("{line}\n"))
            .collect();
        text = evaluation
            + &text
                .replace("loss.triplet_margin = { margin = 0.2 }", "loss.n_pair = {}")
                .replace("width = 8,", "width = 8, normalize = false,");
        std::fs::write(folder.path().join("run.toml"), text).expect("written");
        let out = format!("out-{}", by.len());
        let (shown, error) = run(
            nearfar(folder.path()).args(["train", "run.toml", "--out", &out]),
            code,
        );
        let learned = shown
            .lines()
            .find(|line| line.contains("learned embedding"));
        learned.map_or(error, str::to_owned)
    };
    let (own, cosine) = (scored("", 0), scored(", similarity.cosine = {}", 0));
    assert_eq!(
        own,
        scored(", similarity.dot = {}", 0),
        "n_pair compares by inner products"
    );
    let far = scored(", distance.manhattan = {}", 0);
    // The three order the rows differently, as their lengths are not alike.
    assert_ne!(own, cosine, "inner products and cosines");
    assert_ne!(own, far, "inner products and Manhattan distances");
    assert_ne!(cosine, far, "cosines and Manhattan distances");
    let both = scored(", distance.manhattan = {}, similarity.dot = {}", 2);
    assert!(
        both.contains("embeddings are compared by one of them"),
        "{both}"
    );
}
