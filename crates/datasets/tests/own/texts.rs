//! Texts and pairs of them, with a tokenizer and with parses.

use super::*;

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
