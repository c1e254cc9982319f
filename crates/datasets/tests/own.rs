//! Own data: folders, lists, tables, texts; and what `check` says of them.

#![allow(clippy::unwrap_used)] // A test that fails may panic.

use std::{
    fs,
    path::{Path, PathBuf},
};

use image::{GrayImage, Luma, Rgb, RgbImage};
use nearfar_core::Seed;
use nearfar_datasets::{
    Annotation, Blame, Checked, Data, DataConfig, Dataset, Error, Preparation, Shape, Value, check,
};
use tempfile::TempDir;

fn config(text: &str, folder: &TempDir) -> DataConfig {
    #[derive(serde::Deserialize)]
    struct Run {
        data: DataConfig,
    }
    let text = text.replace("DIR", folder.path().to_str().unwrap());
    let run: Run = toml::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    run.data
}

fn load(text: &str, folder: &TempDir) -> Result<Data, Error> {
    config(text, folder).load(Path::new("unused"), Seed(1))
}

fn load_error(text: &str, folder: &TempDir) -> String {
    let error = load(text, folder).err().expect("refused");
    error
        .to_string()
        .replace(folder.path().to_str().unwrap(), "DIR")
}

fn checked(text: &str, folder: &TempDir) -> (Checked, Vec<String>) {
    let checked = check(&config(text, folder), Path::new("unused"), Seed(1), 100);
    let lines = checked
        .problems
        .errors()
        .map(|error| {
            error
                .to_string()
                .replace(folder.path().to_str().unwrap(), "DIR")
        })
        .collect();
    (checked, lines)
}

/// Each line begins as it should, and there is no other.
fn assert_begin(lines: &[String], starts: &[&str]) {
    let fits = lines.len() == starts.len()
        && lines
            .iter()
            .zip(starts)
            .all(|(line, start)| line.starts_with(start));
    assert!(fits, "{lines:#?}");
}

fn image(folder: &TempDir, path: &str, width: u32, value: u8) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let gray = GrayImage::from_fn(width, 4, |x, y| Luma([value.wrapping_add((x + y) as u8)]));
    match path.extension().and_then(|it| it.to_str()) {
        Some("jpg" | "webp" | "bmp" | "ppm") => {
            let rgb = RgbImage::from_fn(width, 4, |_, _| Rgb([value, value, value]));
            rgb.save(path).unwrap();
        }
        _ => gray.save(path).unwrap(),
    }
}

fn pixels(dataset: &dyn Dataset, index: u32) -> Vec<f32> {
    match dataset.sample(index).unwrap().inputs.swap_remove(0) {
        Value::Image(image) => image.values,
        Value::Features(values) => values,
        Value::Tokens(tokens) | Value::Parsed { words: tokens, .. } => {
            tokens.iter().map(|&token| token as f32).collect()
        }
        Value::Frames(frames) => frames.values,
        Value::Sound(sound) => sound.samples,
        Value::Array(array) => array.values,
    }
}

#[test]
fn class_folders_are_read_in_every_kind_of_file() {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in ["a.png", "b.jpg", "c.webp", "d.bmp", "e.pgm", "deep/f.png"]
        .iter()
        .enumerate()
    {
        image(&folder, &format!("cat/{name}"), 6, 10 + number as u8);
        image(&folder, &format!("dog 2/{name}"), 9, 90 + number as u8);
    }
    fs::write(folder.path().join("cat/notes.txt"), "no image").unwrap();
    fs::write(folder.path().join("cat/.hidden.png"), "no image").unwrap();
    let data = load(
        "data.folder = { path = \"DIR\", size = 4, test = 0.5 }",
        &folder,
    )
    .unwrap();
    assert_eq!(*data.classes, ["cat", "dog 2"]);
    assert_eq!((data.train.len(), data.evaluation[0].dataset.len()), (6, 6));
    assert_eq!(
        data.shape(),
        Shape::Image {
            channels: 1,
            height: 4,
            width: 4
        }
    );
    for index in 0..6 {
        let label = data.train.labels()[index as usize];
        let mean = pixels(&*data.train, index).iter().sum::<f32>() / 16.0 * 255.0;
        let value = if label == 0 { 10.0 } else { 90.0 };
        assert!((mean - value - 5.0).abs() < 8.0, "{mean}");
        // The second time it comes from memory.
        assert_eq!(pixels(&*data.train, index), pixels(&*data.train, index));
        assert!(data.train.thumbnail(index).is_some());
    }
    let inverted = load(
        "data.folder = { path = \"DIR\", size = 4, test = 0.5, dark_ink = true, color = \"rgb\" }",
        &folder,
    )
    .unwrap();
    let (plain, inverted) = (pixels(&*data.train, 0), pixels(&*inverted.train, 0));
    assert_eq!(inverted.len(), 48);
    assert!((plain[0] + inverted[0] - 1.0).abs() < 1e-6);
}

#[test]
fn folders_may_name_the_parts() {
    let folder = tempfile::tempdir().unwrap();
    for (part, class, value) in [
        ("train", "a", 1),
        ("train", "b", 50),
        ("val", "a", 100),
        ("test", "c", 150),
    ] {
        for number in 0..2 {
            image(
                &folder,
                &format!("{part}/{class}/{number}.png"),
                4,
                value + 20 * number,
            );
        }
    }
    let data = load("data.folder = { path = \"DIR\" }", &folder).unwrap();
    let parts: Vec<_> = data.evaluation.iter().map(|it| it.name).collect();
    assert_eq!(parts, ["validation", "test"]);
    assert_eq!((data.train_classes, data.classes.len()), (2, 3));
    assert_eq!(data.evaluation[1].dataset.labels(), [2, 2]);
    // The validation part has a class that is trained on.
    let (_, lines) = checked(
        "data.folder = { path = \"DIR\", hold_out = \"classes\" }",
        &folder,
    );
    assert_begin(
        &lines,
        &["DIR: class `a` is in the training part and in `validation`, which should share none"],
    );
}

#[test]
fn what_is_wrong_with_a_folder_is_all_listed() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..5 {
        image(&folder, &format!("cat/{number}.png"), 4, 10 * number);
        image(&folder, &format!("dog/{number}.png"), 4, 100 + 10 * number);
    }
    image(&folder, "dog/large.png", 5, 7);
    image(&folder, "lone/one.png", 4, 60);
    image(&folder, "loose.png", 4, 80);
    fs::copy(
        folder.path().join("cat/1.png"),
        folder.path().join("dog/copy.png"),
    )
    .unwrap();
    fs::write(folder.path().join("cat/broken.png"), b"\x89PNG\r\n\x1a\nno").unwrap();
    fs::write(folder.path().join("cat/moving.gif"), b"GIF89a").unwrap();
    fs::create_dir(folder.path().join("void")).unwrap();

    let text = "data.folder = { path = \"DIR\", test = 0 }";
    assert!(load(text, &folder).is_err());
    let (checked, mut lines) = checked(text, &folder);
    lines.sort();
    assert_begin(
        &lines,
        &[
            "DIR/cat/broken.png cannot be decoded as an image",
            "DIR/cat/moving.gif: images of this kind are not read; PNG, JPEG",
            "DIR/dog/copy.png: the pixels are those of DIR/cat/1.png, but the classes are `cat` and `dog`",
            "DIR/dog/large.png: the image is 5 by 4, others are 4 by 4; set `size`",
            "DIR/loose.png: the image lies in no class folder",
            "DIR/void: there are no images in this class folder",
            "data.folder, part `train`: class `lone` has one sample",
        ],
    );
    assert!(!checked.problems.can_be_trained_on());
    assert_eq!(checked.parts[0].samples, 14);

    let few = check(&config(text, &folder), Path::new(""), Seed(1), 2);
    assert_eq!((few.problems.errors().count(), few.problems.more()), (2, 5));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_read_and_told_of() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9\n"));
    for class in [odd, Path::new("tea")] {
        let class = folder.path().join(class);
        fs::create_dir(&class).unwrap();
        for number in 0..2 {
            let value = if class.ends_with("tea") { 10 } else { 90 };
            let image = GrayImage::from_pixel(3, 3, Luma([value + number]));
            image
                .save_with_format(class.join(format!("{number}.png")), image::ImageFormat::Png)
                .unwrap();
        }
    }
    let text = "data.folder = { path = \"DIR\", test = 0.5 }";
    let data = load(text, &folder).unwrap();
    assert_eq!(*data.classes, ["caf%E9%0A", "tea"]);
    let (checked, lines) = checked(text, &folder);
    assert_eq!(lines.len(), 2 + 4, "{lines:#?}"); // Two odd paths; and four classes of one sample in a part.
    assert!(lines[0].starts_with("DIR/caf%E9%0A/0.png: the name is not plain UTF-8"));
    assert!(checked.problems.can_be_trained_on());
}

#[test]
fn lists_of_images_have_boxes_and_roles() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..4 {
        image(&folder, &format!("images/{number}.png"), 8, 40 * number);
    }
    let text = "path,label,split,is_query,is_gallery,x_1,y_1,x_2,y_2\n\
                0.png,5,train,,,,,,\n\
                1.png,5,train,,,2,1,4,3\n\
                2.png,7,validation,True,False,,,,\n\
                3.png,7,validation,False,True,2,0,9,4\n";
    fs::write(folder.path().join("list.csv"), text).unwrap();
    let text = "data.images_csv = { path = \"DIR/list.csv\", folder = \"DIR/images\", size = 2 }";
    let data = load(text, &folder).unwrap();
    // Of the whole image, and of the box from (2, 1) to (4, 3): the pixel at (x, y) is 40 + x + y.
    assert_eq!(
        pixels(&*data.train, 1),
        [43., 44., 44., 45.].map(|x| x / 255.0)
    );
    let part = &data.evaluation[0];
    assert_eq!(part.name, "validation");
    let roles = part.roles.as_ref().unwrap();
    assert!(roles[0].query && !roles[0].gallery && roles[1].gallery);
    let error = part.dataset.sample(1).unwrap_err().to_string();
    assert!(
        error.ends_with("3.png: the box from (2, 0) to (9, 4) does not lie in the image of 8 by 4"),
        "{error}"
    );
    let error = load_error("data.images_csv = { path = \"DIR/list.csv\" }", &folder);
    assert!(
        error.starts_with("DIR/list.csv, row 2: `0.png` is not there"),
        "{error}"
    );
}

const TABLE: &str = "id,kind,a,b,c,part\n\
                     1,x,1,5,3,train\n\
                     2,x,2,5,3,train\n\
                     3,y,3,5,?,train\n\
                     4,y,4,5,3,test\n\
                     5,x,5,6,3,test\n";

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
fn texts_can_be_read_by_a_published_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    // Words between blanks; all others are number 0.
    write(
        "tokenizer.json",
        r#"{ "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": { "type": "Lowercase" },
             "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
             "model": { "type": "WordLevel", "unk_token": "?", "vocab": { "?": 0, "a": 1, "cat": 2, "wolf": 3, "b-c": 7 } } }"#,
    );
    write(
        "t.csv",
        "text,label,split\nA cat b-c a,pet,train\na wolf,wild,train\nthe cat,wild,test\n",
    );
    let text = "data.texts = { path = \"DIR/t.csv\", split = \"split\", tokenizer = \"DIR/tokenizer.json\", length = 3 }";
    let data = load(text, &folder).unwrap();
    let shape = Shape::Tokens {
        vocabulary: 8,
        length: 3,
    };
    assert_eq!(data.shape(), shape);
    assert_eq!(pixels(&*data.train, 0), [1., 2., 7.]);
    assert_eq!(pixels(&*data.evaluation[0].dataset, 0), [0., 2.]);

    // What a run stores needs the file no more, for the same data and for new ones.
    let stored = serde_json::to_string(&data.preparation).unwrap();
    fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let preparation: Preparation = serde_json::from_str(&stored).unwrap();
    assert_eq!(preparation, data.preparation);
    let again = config(text, &folder)
        .load_prepared(Path::new("unused"), Seed(1), &preparation)
        .unwrap();
    assert_eq!(pixels(&*again.train, 0), [1., 2., 7.]);
    write("new.txt", "Wolf b-c\n");
    let new = preparation.open(&folder.path().join("new.txt")).unwrap();
    assert_eq!(pixels(&*new, 0), [3., 7.]);

    let error = load_error(text, &folder);
    assert!(
        error.starts_with("cannot read DIR/tokenizer.json"),
        "{error}"
    );
    let error = load_error(&text.replace("length = 3", "most_words = 3"), &folder);
    assert!(error.contains("its own vocabulary"), "{error}");
    write("tokenizer.json", "{}");
    let error = load_error(text, &folder);
    assert!(
        error.starts_with("the tokenizer DIR/tokenizer.json: is no"),
        "{error}"
    );
    // Features do not fit a run that has read texts.
    write("f.csv", "x,label\n1,a\n2,b\n3,a\n4,b\n");
    let table = config("data.table = { path = \"DIR/f.csv\" }", &folder);
    assert!(
        table
            .load_prepared(Path::new("unused"), Seed(1), &preparation)
            .is_err()
    );
}

#[test]
fn texts_with_parses_have_the_words_and_heads_of_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let word = |id: u32, form: &str, head: u32, relation: &str| {
        format!("{id}\t{form}\t_\t_\t_\t_\t{head}\t{relation}\t_\t_\n")
    };
    let sentence = |name: &str, words: &[String]| format!("{name}\n{}\n", words.concat());
    let cats = [
        word(1, "Cats", 2, "nsubj"),
        word(2, "don't", 0, "root"),
        word(3, "sleep", 2, "xcomp"),
    ];
    let dogs = [
        word(1, "Dogs", 2, "nsubj:pass"),
        word(2, "sleep", 0, "root"),
    ];
    let parses = sentence("# sent_id = c", &cats) + &sentence("# text = Dogs sleep", &dogs);
    write("s.conllu", &parses);
    write(
        "t.csv",
        "text,label,split\nc,cat,train\nDogs sleep,dog,train\nc,cat,test\n",
    );
    let text = "data.texts = { path = \"DIR/t.csv\", split = \"split\", length = 2, parses = { path = \"DIR/s.conllu\" } }";
    let data = load(text, &folder).unwrap();
    let shape = Shape::Parsed {
        vocabulary: 5,
        length: 2,
    };
    assert_eq!(data.shape(), shape);
    // By how often they occur, and then by their bytes.
    let Preparation::Parsed { vocabulary, .. } = &data.preparation else {
        panic!("parsed")
    };
    assert_eq!(
        vocabulary.words(),
        ["<unk>", "sleep", "cats", "dogs", "don't"]
    );
    let parse = |dataset: &dyn Dataset, index: u32| match dataset
        .sample(index)
        .unwrap()
        .inputs
        .swap_remove(0)
    {
        Value::Parsed { words, parse } => (words, parse),
        other => panic!("{other:?}"),
    };
    let (words, tree) = parse(&*data.train, 0);
    assert_eq!((words, tree.heads()), (vec![2, 4], &[Some(1), None][..]));
    assert_eq!(tree.basic(), [true, true]);
    assert_eq!(
        data.train.describe(1).split_once(" (").unwrap().0,
        "Dogs sleep"
    );

    // A run stores what it was trained with, and opens new sentences by it.
    let stored = serde_json::to_string(&data.preparation).unwrap();
    let stored: Preparation = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored, data.preparation);
    let new = stored.open(&folder.path().join("s.conllu")).unwrap();
    assert_eq!((new.len(), parse(&*new, 0)), (2, parse(&*data.train, 0)));
    let plain = config(
        "data.texts = { path = \"DIR/t.csv\", split = \"split\" }",
        &folder,
    );
    let error = plain.load_prepared(Path::new("unused"), Seed(1), &stored);
    let error = error.err().unwrap().to_string();
    assert!(
        error.contains("`c` has no parse; give the data `parses`"),
        "{error}"
    );

    let error = load_error(
        &text.replace("length = 2", "unit = \"characters\""),
        &folder,
    );
    assert!(
        error.contains("leave out `unit` and `tokenizer`"),
        "{error}"
    );
    let error = load_error(&text.replace("{ path = \"DIR/s.conllu\" }", "{}"), &folder);
    assert!(
        error.contains("`path` of the `parses` is not set"),
        "{error}"
    );
    let error = load_error(&text.replace("s.conllu", "t.csv"), &folder);
    assert!(
        error.starts_with("DIR/t.csv, row 1: there are 1 columns, not the 10 of CoNLL-U"),
        "{error}"
    );
    write("empty.conllu", "\n");
    let error = stored
        .open(&folder.path().join("empty.conllu"))
        .err()
        .unwrap();
    assert!(error.to_string().ends_with("there are no texts"), "{error}");
}

#[test]
fn texts_and_pairs_come_from_any_kind_of_lines() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "t.jsonl",
        "{\"text\":\"a cat\",\"label\":\"pet\",\"split\":\"train\"}\n\
         {\"text\":\"a wolf\",\"label\":\"wild\",\"split\":\"train\"}\n\
         {\"text\":\"the cat, a lynx\",\"label\":\"wild\",\"split\":\"test\"}\n",
    );
    let data = load(
        "data.texts = { path = \"DIR/t.jsonl\", split = \"split\" }",
        &folder,
    )
    .unwrap();
    assert_eq!(
        data.shape(),
        Shape::Tokens {
            vocabulary: 4,
            length: 128
        }
    );
    assert_eq!(pixels(&*data.evaluation[0].dataset, 0), [0., 2., 1., 0.]);
    let Preparation::Texts { vocabulary, .. } = &data.preparation else {
        panic!("texts")
    };
    assert_eq!(vocabulary.words(), ["<unk>", "a", "cat", "wolf"]);
    write("new.txt", "A cat!\n\nwolf\n");
    let new = data
        .preparation
        .open(&folder.path().join("new.txt"))
        .unwrap();
    assert_eq!((new.len(), pixels(&*new, 0)), (2, vec![1., 2.]));
    assert_eq!(new.labels(), [0, 0]);

    write(
        "p.tsv",
        "l\tr\ts\na cat\ta \"dog\t0.5\na\tb\t1\nc\td\t0\ne\tf\t0.25\ng\th\t0.75\n",
    );
    let text = "data.pairs = { path = \"DIR/p.tsv\", left = \"l\", right = \"r\", score = \"s\", range = [0, 1] }";
    let pairs = load(text, &folder).unwrap();
    assert_eq!(pairs.annotation(), Annotation::ScoredPairs);
    assert_eq!(
        (pairs.train.len(), pairs.evaluation[0].dataset.len()),
        (4, 1)
    );
    assert_eq!(pairs.range, Some([0.0, 1.0]));
    assert_eq!(pairs.train.sample(0).unwrap().inputs.len(), 2);

    let text = "data.pairs = { path = \"DIR/p.tsv\", left = 0, right = 1 }";
    let error = load(text, &folder).err().unwrap();
    assert_eq!(error.blame(), Blame::Settings);
    assert!(error.to_string().contains("none of `score` and `label`"));

    write(
        "q.csv",
        "left,right,label\nx y,x z,yes\nx,,1\nx,y,perhaps\nz,w,no\n",
    );
    let (_, lines) = checked(
        "data.pairs = { path = \"DIR/q.csv\", label = \"label\", test = 0 }",
        &folder,
    );
    assert_begin(
        &lines,
        &[
            "DIR/q.csv, row 3: the text in `right` has no words",
            "DIR/q.csv, row 4: `label` holds `perhaps`",
        ],
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

#[test]
fn idx_files_that_lie_are_refused() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("mnist")).unwrap();
    // Right sizes, so that only the content can tell.
    for (name, size) in [
        ("train-images-idx3-ubyte.gz", 9_912_422),
        ("train-labels-idx1-ubyte.gz", 28_881),
        ("t10k-images-idx3-ubyte.gz", 1_648_877),
        ("t10k-labels-idx1-ubyte.gz", 4_542),
    ] {
        let claim = [0, 0, 8, 3, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 28, 0, 0, 0, 28];
        let pack = |filling: usize| {
            let stored = flate2::Compression::none();
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), stored);
            writer.write_all(&claim).unwrap();
            writer.write_all(&vec![1; filling]).unwrap();
            writer.finish().unwrap()
        };
        // What is stored grows by what is added, but for a few bytes a block.
        let mut filling = size - 100;
        let packed = loop {
            let packed = pack(filling);
            match packed.len() as isize - size as isize {
                0 => break packed,
                over => filling = filling.strict_add_signed(-over),
            }
        };
        fs::write(folder.path().join("mnist").join(name), packed).unwrap();
    }
    let error = config("data.mnist = {}", &folder)
        .load(folder.path(), Seed(1))
        .err()
        .unwrap();
    assert_eq!(error.blame(), Blame::Data);
    assert!(
        error
            .to_string()
            .contains("bytes follow the header, which claims 1683627179"),
        "{error}"
    );
}

#[test]
fn images_are_opened_by_what_a_run_stored() {
    let folder = tempfile::tempdir().unwrap();
    let digits = load("data.digits = {}", &folder).unwrap();
    let parts: Vec<_> = digits
        .evaluation
        .iter()
        .map(|it| (it.name, it.dataset.len()))
        .collect();
    assert_eq!((digits.train_classes, digits.classes.len()), (8, 10));
    assert_eq!(parts, [("test", 429), ("unseen", 354)]);
    assert_eq!(digits.train.len() + 429 + 354, 1797);

    image(&folder, "new/3/a.png", 16, 10);
    image(&folder, "new/b.png", 8, 10);
    let new = digits.preparation.open(&folder.path().join("new")).unwrap();
    assert_eq!(new.classes(), ["3", ""]);
    assert_eq!(pixels(&*new, 0).len(), 64);
    let one: PathBuf = folder.path().join("new/b.png");
    assert_eq!(digits.preparation.open(&one).unwrap().len(), 1);
    // Data of another kind are not for this model.
    fs::write(folder.path().join("t.csv"), TABLE.replace('?', "3")).unwrap();
    let table = config(
        "data.table = { path = \"DIR/t.csv\", label = \"kind\", skip = [\"part\"], test = 0.5 }",
        &folder,
    );
    let error = table.load_prepared(Path::new(""), Seed(1), &digits.preparation);
    assert!(
        error
            .err()
            .unwrap()
            .to_string()
            .contains("trained on images")
    );
}
