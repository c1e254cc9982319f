//! Models that are written for Python, and what Python makes of them where `NEARFAR_PYTHON` names one with sentence-transformers.

mod support;

use std::path::Path;
use std::process::Command;

use support::{SMALL, TOKENIZER, nearfar, run};

const SENTENCES: [&str; 4] = [
    "a cat",
    "The wolf and a cat",
    "dog",
    "unknown words of a wolf",
];

const TEXTS: &str = r#"
data.texts = { path = "texts.csv", tokenizer = "tokenizer.json", length = 12 }
sampler.shuffled = { size = 8 }
model.bert = { WIDTHhidden = 8, layers = 2, heads = 2, intermediate = 12, positions = 16 }
loss.triplet_margin = { margin = 0.2 }
optimizer.adamw = { learning_rate = 1e-2 }
train = { steps = 5 }
"#;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("written");
}

/// What a Python program prints, or why it is not run.
fn python(folder: &Path, program: &str) -> Result<String, &'static str> {
    let Some(python) = std::env::var_os("NEARFAR_PYTHON") else {
        return Err("NEARFAR_PYTHON is not set");
    };
    let mut command = Command::new(python);
    let output = command.current_dir(folder).args(["-c", program]).output();
    let output = output.expect("NEARFAR_PYTHON can be started");
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains("ModuleNotFoundError") {
        return Err("NEARFAR_PYTHON has not what it needs");
    }
    assert!(output.status.success(), "{told}");
    Ok(String::from_utf8(output.stdout).expect("text"))
}

fn numbers(csv: &str) -> Vec<Vec<f64>> {
    let row = |line: &str| {
        let cells = line.split(',').map(|cell| cell.parse::<f64>().ok());
        cells.collect::<Option<Vec<f64>>>()
    };
    csv.lines().filter_map(row).collect()
}

#[test]
fn sentence_transformers_reads_text_models() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let mut csv = "text,label\n".to_owned();
    for row in 0..32 {
        let word = ["cat", "wolf", "dog", "the"][row % 4];
        csv += &format!("a {word} {},{word}\n", ["a", "the", "cat"][row % 3]);
    }
    write(at, "texts.csv", &csv);
    write(at, "tokenizer.json", TOKENIZER);
    write(at, "new.txt", &format!("{}\n", SENTENCES.join("\n")));
    let bent = "width = 5, head_activation = \"tanh\", ";
    for (out, width) in [("same", ""), ("other", "width = 5, "), ("bent", bent)] {
        write(at, "run.toml", &TEXTS.replace("WIDTH", width));
        run(nearfar(at).args(["train", "run.toml", "--out", out]), 0);
        let exported = format!("{out}-st");
        let (told, _) = run(nearfar(at).args(["export", out, "-o", &exported]), 0);
        assert!(told.contains("SentenceTransformer"), "{told}");
        let (_, error) = run(nearfar(at).args(["export", out, "-o", &exported]), 2);
        assert!(error.contains("is not overwritten"), "{error}");
        let own = embedded(at, out);
        assert_eq!(own.len(), SENTENCES.len());
        starts_with(at, &exported, width, &own);

        let again = format!("{out}-again");
        let program = format!(
            "from sentence_transformers import SentenceTransformer\n\
             model = SentenceTransformer({exported:?}, device='cpu')\n\
             model.save({again:?})\n\
             rows = model.encode({SENTENCES:?})\n\
             print('\\n'.join(','.join(str(x) for x in row) for row in rows.tolist()))"
        );
        let theirs = match python(at, &program) {
            Ok(printed) => numbers(&printed),
            Err(why) => {
                eprintln!("skipped: embeddings of sentence-transformers ({why})");
                continue;
            }
        };
        assert_eq!(theirs.len(), own.len());
        for (own, theirs) in own.iter().flatten().zip(theirs.iter().flatten()) {
            assert!((own - theirs).abs() < 1e-5, "{own} {theirs}");
        }
        starts_with(at, &again, width, &own);
    }
}

/// A run that starts with a folder of sentence-transformers, head and all, has the embeddings of those who wrote it.
fn starts_with(at: &Path, folder: &str, width: &str, written: &[Vec<f64>]) {
    let text = format!(
        "weights.folder = {folder:?}\n{}",
        TEXTS.replace("WIDTH", width).replace("1e-2", "1e-30")
    );
    write(at, "start.toml", &text);
    let (checked, _) = run(nearfar(at).args(["config", "check", "start.toml"]), 0);
    let told = format!("starts with the weights of {folder}");
    assert!(checked.ends_with(&format!("{told}\n")), "{checked}");
    let out = format!("start-{folder}");
    run(nearfar(at).args(["train", "start.toml", "--out", &out]), 0);
    let found = embedded(at, &out);
    assert_eq!(found.len(), written.len());
    for (found, written) in found.iter().flatten().zip(written.iter().flatten()) {
        assert!((found - written).abs() < 1e-6, "{found} {written}");
    }
}

/// What a run makes of the new sentences.
fn embedded(at: &Path, run_folder: &str) -> Vec<Vec<f64>> {
    let embed = ["embed", "new.txt", "--run", run_folder, "-o", "own.csv"];
    run(nearfar(at).args(embed), 0);
    let own = std::fs::read_to_string(at.join("own.csv")).expect("written");
    // The first two columns are the row's id and its class.
    let row = |line: &str| {
        let cells = line.split(',').skip(2);
        cells.map(|it| it.parse().expect("a number")).collect()
    };
    own.lines().skip(1).map(row).collect()
}

#[test]
fn pytorch_reads_all_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    write(at, "run.toml", SMALL);
    run(nearfar(at).args(["train", "run.toml", "--out", "a"]), 0);
    let export = ["export", "a", "-o", "a.safetensors"];
    let (told, _) = run(nearfar(at).args(export), 0);
    assert!(told.contains("PyTorch"), "{told}");
    run(nearfar(at).args(export), 2);

    // The names and shapes of a network that is written down in PyTorch, statistics and all.
    let program = "
from torch import nn
from safetensors.torch import load_file
block = lambda inputs: nn.ModuleDict({'conv': nn.Conv2d(inputs, 8, 3, bias=BIAS), 'norm': nn.BatchNorm2d(8)})
model = nn.ModuleDict({'blocks': nn.ModuleList([block(1), block(8)]), 'head': nn.Linear(128, 8)})
given = load_file('a.safetensors')
missing, unexpected = model.load_state_dict(given, strict=False)
missing = [it for it in missing if not it.endswith('num_batches_tracked')]
print(missing, unexpected, len(given))
";
    let written = std::fs::read(at.join("a.safetensors")).expect("written");
    let tensors = safetensors::SafeTensors::deserialize(&written).expect("whole");
    let biased = tensors.tensor("blocks.0.conv.bias").is_ok();
    let program = program.replace("BIAS", if biased { "True" } else { "False" });
    match python(at, &program) {
        Ok(printed) => assert_eq!(printed.trim(), format!("[] [] {}", tensors.len())),
        Err(why) => eprintln!("skipped: weights in PyTorch ({why})"),
    }
}
