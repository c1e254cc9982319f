//! Each kind of data from its template to a report, and what is said where a loss does not fit the data.

mod support;

use std::path::Path;

use support::{nearfar, run};

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

/// A gray image as PGM.
fn image(path: &Path, side: usize, gray: impl Fn(usize, usize) -> u8) {
    let mut bytes = format!("P5\n{side} {side}\n255\n").into_bytes();
    for y in 0..side {
        bytes.extend((0..side).map(|x| gray(y, x)));
    }
    write(path, bytes);
}

/// Numbers that look random and are always the same.
fn number(index: usize) -> f64 {
    let bits = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 24) as f64
}

/// A run of a template, with changes that make it small; gives the lines of its last output.
fn trained(folder: &Path, template: &str, changes: &[&str]) -> String {
    run(nearfar(folder).args(["config", "init", template]), 0);
    let (checked, _) = run(nearfar(folder).args(["data", "check", "run.toml"]), 0);
    assert!(checked.contains("train: "), "{checked}");
    let mut command = nearfar(folder);
    command.args(["train", "run.toml"]);
    for change in changes {
        command.args(["--set", change]);
    }
    let (output, notes) = run(&mut command, 0);
    assert!(folder.join("runs/run/report.html").is_file());
    let (again, _) = run(nearfar(folder).args(["eval", "runs/run"]), 0);
    for line in again.lines() {
        assert!(output.contains(line), "{line}\nis not in\n{output}");
    }
    format!("{checked}\n{notes}\n{output}")
}

/// What the check of the data says, which it ends with the exit code of bad data.
fn problems(folder: &Path, data: &str) -> String {
    run(nearfar(folder).args(["data", "check", data]), 3).0
}

/// What a run with a change is refused with.
fn refused(folder: &Path, change: &str, code: i32) -> String {
    let train = ["train", "run.toml", "--out", "runs/other", "--set", change];
    run(nearfar(folder).args(train), code).1
}

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

/// Images of four classes: bars at four places, dark or light.
fn bars(folder: &Path, name: &str, class: usize, light: bool, index: usize) {
    image(&folder.join(name), 12, |y, x| {
        let bar = (3 * class..3 * class + 3).contains(&y);
        let noise = (60.0 * number(index * 144 + 12 * y + x)) as u8;
        match bar == light {
            true => 255 - noise,
            false => noise,
        }
    });
}

#[test]
fn two_domains() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "path,label,domain\n".to_owned();
    for index in 0..64 {
        let (class, light) = (index % 4, index % 8 < 4);
        let domain = if light { "photo" } else { "sketch" };
        let name = format!("{domain}/{class}/{index}.pgm");
        bars(folder.path(), &name, class, light, index);
        csv += &format!("{name},c{class},{domain}\n");
    }
    write(&folder.path().join("list.csv"), &csv);
    let small = [
        "train.steps=30",
        "data.images_csv.size=12",
        "data.images_csv.test=0.25",
        "sampler.two_domains.classes=4",
        "sampler.two_domains.samples=2",
        "towers.0.model.conv4.blocks=2",
        "towers.1.model.conv4.blocks=2",
        "towers.0.model.conv4.channels=8",
        "towers.1.model.conv4.channels=8",
    ];
    let output = trained(folder.path(), "domains", &small);
    assert!(output.contains("of 4 classes in two domains"), "{output}");
    assert!(
        output.contains("Recall@1") && output.contains("raw pixels"),
        "{output}"
    );

    let error = refused(folder.path(), "sampler={shuffled={}}", 3);
    assert!(
        error.contains("`sampler.shuffled` does not look at domains"),
        "{error}"
    );
    write(
        &folder.path().join("list.csv"),
        csv.replace("c2,photo", "c2,scan"),
    );
    let problems = problems(folder.path(), "run.toml");
    assert!(
        problems.contains("two domains are wanted in the column `domain`, but there are 3"),
        "{problems}"
    );
}

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
    let once = support::weights(&folder.path().join("runs/run"));
    let parts = ["train", "run.toml", "--out", "runs/parts"];
    run(
        nearfar(folder.path())
            .args(parts)
            .args(["--stop-after", "7"]),
        75,
    );
    run(nearfar(folder.path()).args(parts).arg("--resume"), 0);
    assert_eq!(once, support::weights(&folder.path().join("runs/parts")));

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

#[test]
fn two_kinds() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "caption,path\n".to_owned();
    for index in 0..48 {
        let (class, light) = (index % 4, index % 8 < 4);
        let name = format!("images/{index}.pgm");
        bars(folder.path(), &name, class, light, index);
        let words = ["top", "high", "low", "bottom"];
        let shade = if light { "light" } else { "dark" };
        csv += &format!("a {shade} bar {} number {index},{name}\n", words[class]);
    }
    write(&folder.path().join("list.csv"), &csv);
    let small = [
        "train.steps=20",
        "data.two_kinds.second.image={column=\"path\",size=12,color=\"gray\"}",
        "sampler.two_domains.classes=12",
        "towers.0.model.lstm.width=8",
        "towers.1.model.conv4={width=8,blocks=2,channels=8}",
    ];
    let output = trained(folder.path(), "two-kinds", &small);
    assert!(output.contains("Recall@1"), "{output}");

    let embed = ["embed", "images", "--run", "runs/run", "-o", "images.npy"];
    let (_, error) = run(nearfar(folder.path()).args(embed), 2);
    assert!(
        error.contains("`--tower 0` for texts, `--tower 1` for images"),
        "{error}"
    );
    let mut command = nearfar(folder.path());
    let (embedded, _) = run(command.args(embed).args(["--tower", "1"]), 0);
    assert!(
        embedded.contains("48 embeddings of 8 numbers"),
        "{embedded}"
    );
    let search = ["search", "a dark bar low", "--gallery", "images.npy"];
    let mut command = nearfar(folder.path());
    command
        .args(search)
        .args(["--run", "runs/run", "--tower", "0"]);
    let (found, _) = run(&mut command, 0);
    assert!(found.contains("a dark bar low"), "{found}");
    let mut command = nearfar(folder.path());
    let (_, error) = run(command.args(embed).args(["--tower", "2"]), 2);
    assert!(
        error.contains("`--tower 2` is not one of the run's"),
        "{error}"
    );

    let one = "model={conv4={}}";
    let error = refused(folder.path(), one, 2);
    assert!(error.contains("`[[towers]]`"), "{error}");
    csv += "words without a picture,images/none.pgm\n,images/1.pgm\n";
    write(&folder.path().join("list.csv"), csv);
    let problems = problems(folder.path(), "run.toml");
    for what in ["row 50: ", "images/none.pgm", "row 51: ", "`caption`"] {
        assert!(problems.contains(what), "{what} is missing in\n{problems}");
    }
}
