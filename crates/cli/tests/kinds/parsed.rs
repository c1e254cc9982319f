//! Pairs of parsed sentences.

use crate::helpers::{problems, refused, trained, write};
use crate::support::{nearfar, run};

const NOUNS: [&str; 6] = ["dog", "cat", "man", "woman", "bird", "child"];

/// Sentences of a subject and an object with an article each, as a parser writes them. Every fifth has no `sent_id`.
fn parses() -> String {
    let mut text = String::new();
    for (at, subject) in NOUNS.iter().enumerate() {
        for (to, object) in NOUNS.iter().enumerate() {
            let number = at * NOUNS.len() + to;
            if !number.is_multiple_of(5) {
                text += &format!("# sent_id = s{number}\n");
            }
            text += &format!("# text = The {subject} sees a {object}.\n");
            let words = [
                ("The", 2, "det"),
                (*subject, 3, "nsubj"),
                ("sees", 0, "root"),
                ("a", 5, "det"),
                (*object, 3, "obj"),
                (".", 3, "punct"),
            ];
            for (word, (form, head, relation)) in (1..).zip(words) {
                text += &format!("{word}\t{form}\t_\t_\t_\t_\t{head}\t{relation}\t_\t_\n");
            }
            text.push('\n');
        }
    }
    text
}

/// What a pair calls a sentence: by its `sent_id`, or by its text where it has none.
fn name(at: usize, to: usize) -> String {
    let number = at * NOUNS.len() + to;
    match number % 5 {
        0 => format!("The {} sees a {}.", NOUNS[at], NOUNS[to]),
        _ => format!("s{number}"),
    }
}

/// Pairs whose score is 1, 3 or 5: by how many of subject and object are the same. Words alone do not tell who sees whom.
fn pairs() -> String {
    let mut csv = "sentence1,sentence2,score\n".to_owned();
    for row in 0..120usize {
        let (at, to) = (row % 6, (row / 6 + row) % 6);
        let other = match row % 4 {
            0 => (at, to),
            1 => (at, (to + 2) % 6),
            2 => (to, at),
            _ => ((at + 1) % 6, to),
        };
        let same = usize::from(other.0 == at) + usize::from(other.1 == to);
        csv += &format!(
            "{},{},{}\n",
            name(at, to),
            name(other.0, other.1),
            1 + 2 * same
        );
    }
    csv
}

#[test]
fn parsed_pairs() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("pairs.csv"), pairs());
    write(&folder.path().join("sentences.conllu"), parses());
    let small = [
        "train.epochs=20",
        "sampler.shuffled.size=24",
        "model.dependency_lstm.width=16",
        "optimizer.adam.learning_rate=1e-2",
    ];
    let output = trained(folder.path(), "parsed", &small);
    for word in [
        "train: 96 samples",
        "dependency_lstm",
        "bag of words",
        "Pearson",
    ] {
        assert!(output.contains(word), "{word} is missing in\n{output}");
    }

    // New sentences are opened as they are in CoNLL-U, and without a parse are refused.
    let embed = |input: &str| {
        let arguments = ["embed", input, "--run", "runs/run", "-o", "new.csv"];
        let mut command = nearfar(folder.path());
        command.args(arguments);
        command
    };
    let (embedded, _) = run(&mut embed("sentences.conllu"), 0);
    assert!(
        embedded.contains("36 embeddings of 16 numbers"),
        "{embedded}"
    );
    write(&folder.path().join("new.txt"), "The dog sees a cat.\n");
    let (_, told) = run(&mut embed("new.txt"), 3);
    assert!(
        told.contains("new.txt, row 1: there are 1 columns, not the 10 of CoNLL-U"),
        "{told}"
    );

    // Without parses the model says what it wants; along a chain it wants none.
    let plain = refused(
        folder.path(),
        "data={ pairs = { path = 'pairs.csv', left = 'sentence1', right = 'sentence2', score = 'score' } }",
        2,
    );
    assert!(
        plain.contains("give the data `parses`, or set `heads = \"chain\"`"),
        "{plain}"
    );

    write(&folder.path().join("pairs.csv"), pairs() + "s1,nowhere,1\n");
    let broken = parses().replacen("2\tdog\t_\t_\t_\t_\t3", "2\tdog\t_\t_\t_\t_\t9", 1);
    write(&folder.path().join("sentences.conllu"), broken);
    let problems = problems(folder.path(), "run.toml");
    assert!(
        problems.contains("sentences.conllu, row 3: the head is word 9, and the sentence has 6"),
        "{problems}"
    );
    assert!(
        problems.contains("row 122: `sentence2` holds `nowhere`, which is neither"),
        "{problems}"
    );
}

/// Along a chain the model is `lstm`: a run of either ends with the same scores.
#[test]
fn a_chain_trains_as_the_lstm_does() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("pairs.csv"), pairs());
    write(&folder.path().join("sentences.conllu"), parses());
    let scores = |model: &str| {
        let text = format!(
            r#"
data.pairs = {{ path = "pairs.csv", left = "sentence1", right = "sentence2", score = "score", parses = {{ path = "sentences.conllu" }} }}
sampler.shuffled = {{ size = 24 }}
{model}
loss.malstm = {{ low = 1.0, high = 5.0 }}
optimizer.adam = {{ learning_rate = 1e-2 }}
train = {{ steps = 12 }}
evaluation = {{ split = "test", scores = ["pearson"] }}
"#
        );
        write(&folder.path().join("run.toml"), text);
        run(nearfar(folder.path()).args(["train", "run.toml"]), 0);
        let log = std::fs::read_to_string(folder.path().join("runs/run/metrics.jsonl"));
        std::fs::remove_dir_all(folder.path().join("runs")).expect("removed");
        let losses = log
            .expect("a log")
            .lines()
            .filter_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                Some(line["loss"].as_f64()?.to_bits())
            })
            .collect::<Vec<_>>();
        assert_eq!(losses.len(), 12);
        losses
    };
    let chain =
        scores("model.dependency_lstm = { width = 8, words = { dim = 6 }, heads = \"chain\" }");
    let lstm = scores("model.lstm = { width = 8, words = { dim = 6 } }");
    assert_eq!(chain, lstm);
    let parsed = scores("model.dependency_lstm = { width = 8, words = { dim = 6 } }");
    assert_ne!(parsed, lstm);
}
