//! Tables of numbers.

use super::*;

#[test]
fn tables_are_standardized_by_their_training_part() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.csv"), TABLE).unwrap();
    let text = "data.table = { path = \"DIR/t.csv\", label = \"kind\", skip = [\"id\"], split = \"part\", missing = \"?\" }";
    let data = load(text, &folder).unwrap();
    assert_eq!(data.shape(), Shape::Features { count: 3 });
    let deviation = (2.0f32 / 3.0).sqrt();
    let row = pixels(&*data.train, 0);
    assert!(
        (row[0] + 1.0 / deviation).abs() < 1e-6 && row[1..] == [0.0, 0.0],
        "{row:?}"
    );
    assert_eq!(pixels(&*data.train, 2)[2], 0.0); // What is missing is the mean.
    let row = pixels(&*data.evaluation[0].dataset, 1);
    assert!(
        (row[0] - 3.0 / deviation).abs() < 1e-6 && row[1] == 1.0,
        "{row:?}"
    );
    assert!(data.train.describe(2).ends_with("t.csv, row 4"));

    let (_, lines) = checked(text, &folder);
    assert_begin(
        &lines,
        &[
            "data.table, part `train`: class `y` has one sample",
            "data.table, part `test`: class `x` has one sample",
            "data.table, part `test`: class `y` has one sample",
            "data.table, part `train`: column `b` has one value only",
            "data.table, part `train`: column `c` has one value only",
        ],
    );

    // A run stores what was fitted and opens other files by it: columns by name, in any order.
    let stored = serde_json::to_string(&data.preparation).unwrap();
    let stored: Preparation = serde_json::from_str(&stored).unwrap();
    fs::write(folder.path().join("new.tsv"), "c\tb\ta\n?\t6\t5\n").unwrap();
    let new = stored.open(&folder.path().join("new.tsv")).unwrap();
    assert_eq!(pixels(&*new, 0), pixels(&*data.evaluation[0].dataset, 1));
    fs::write(folder.path().join("bad.csv"), "c,b\n1,2\n").unwrap();
    let error = stored.open(&folder.path().join("bad.csv")).err().unwrap();
    assert!(
        error.to_string().contains("there is no column `a`"),
        "{error}"
    );

    // As they are.
    let text = text.replace(" }", ", standardize = false }");
    let plain = load(&text, &folder).unwrap();
    assert_eq!(pixels(&*plain.train, 2), [3.0, 5.0, 3.0]);
}

#[test]
fn what_is_wrong_with_a_table_is_all_listed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "kind,a,b\nx,1,2\nx,one,nan\n,3,4\ny,5\ny,6,7\nx,2,3\ny,1,inf\n";
    fs::write(folder.path().join("t.csv"), text).unwrap();
    let text = "data.table = { path = \"DIR/t.csv\", label = \"kind\", test = 0 }";
    assert_eq!(
        load_error(text, &folder),
        "DIR/t.csv, row 5: there are 2 columns, not 3; look for a delimiter or a quote that is missing or too many"
    );
    let (checked, lines) = checked(text, &folder);
    assert_begin(
        &lines,
        &[
            "DIR/t.csv, row 5: there are 2 columns, not 3",
            "DIR/t.csv, row 3: `a` holds `one`, which is not a number",
            "DIR/t.csv, row 3: `b` holds `nan`; fill in a number",
            "DIR/t.csv, row 4: the label is empty",
            "DIR/t.csv, row 8: `b` holds `inf`",
            "data.table, part `train`: class `y` has one sample",
        ],
    );
    assert_eq!(checked.parts[0].samples, 3);
    fs::write(folder.path().join("u.csv"), "kind,a\nx,1\n").unwrap();
    let text = "data.table = { path = \"DIR/u.csv\", label = \"kin\" }";
    assert_eq!(
        load_error(text, &folder),
        "DIR/u.csv, row 1: there is no column `kin`; did you mean `kind`?"
    );
}

#[test]
fn compressed_tables_are_read_and_bombs_are_not() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let gz = |name: &str, bytes: &[u8]| {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        let mut writer = flate2::write::GzEncoder::new(file, flate2::Compression::best());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap();
    };
    gz("t.csv.gz", TABLE.replace('?', "3").as_bytes());
    let text =
        "data.table = { path = \"DIR/t.csv.gz\", label = \"kind\", skip = [\"part\"], test = 0.5 }";
    assert!(load(text, &folder).is_ok());
    gz("bomb.csv.gz", &vec![b'1'; 64 << 20]);
    let error = load_error("data.table = { path = \"DIR/bomb.csv.gz\" }", &folder);
    assert!(
        error.contains("bomb.csv.gz") && error.contains("100 times"),
        "{error}"
    );
}

#[test]
fn what_is_not_there_is_named_with_the_way_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let error = config("data.mnist = {}", &folder)
        .load(root, Seed(1))
        .err()
        .unwrap();
    assert_eq!(error.blame(), Blame::Environment);
    let message = error.to_string().replace(root.to_str().unwrap(), "data");
    assert!(
        message.starts_with("`mnist` is not in data/mnist: ")
            && message.contains("cargo xtask fetch-data mnist"),
        "{message}"
    );
    let listed = check(&config("data.mnist = {}", &folder), root, Seed(1), 10);
    assert_eq!(listed.problems.errors().count(), 1);

    for text in [
        "data.folder = { path = \"DIR/none\" }",
        "data.table = { path = \"DIR/none.csv\" }",
    ] {
        assert!(load_error(text, &folder).starts_with("cannot read DIR/none"));
    }
    assert!(load_error("data.folder = {}", &folder).contains("`data.folder.path` is not set"));
    let error = load_error("data.digits = { split = \"randon\" }", &folder);
    assert_eq!(error, "there is no split `randon`; did you mean `random`?");
}
