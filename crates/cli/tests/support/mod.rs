//! The program, and small runs for it.
#![allow(dead_code)] // Each test file uses some of it.

use std::path::Path;
use std::process::{Command, Output};

/// The program, with nothing of the surroundings that could change what it says.
pub(crate) fn nearfar(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearfar"));
    command
        .current_dir(folder)
        .env_remove("NEARFAR_DATASETS")
        .env("NO_COLOR", "1")
        .env("RAYON_NUM_THREADS", "2");
    command
}

/// Its output as text.
pub(crate) fn text(output: &Output) -> (String, String) {
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Runs it; it must end with this code.
pub(crate) fn run(command: &mut Command, code: i32) -> (String, String) {
    let output = command.output().expect("the program starts");
    let (stdout, stderr) = text(&output);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{command:?}\nstdout: {stdout}\nstderr: {stderr}"
    );
    (stdout, stderr)
}

/// A run that takes a second or two.
pub(crate) const SMALL: &str = r#"
seed = 3
data.glyphs = { classes = 6, test_classes = 3, samples = 8, size = 16 }
sampler.classes_by_samples = { classes = 4, samples = 3 }
model.conv4 = { width = 8, channels = 8, blocks = 2 }
loss.triplet_margin = { margin = 0.2 }
miner.semi_hard = { margin = 0.2 }
optimizer.adamw = { learning_rate = 1e-3 }
schedule.cosine = { warmup = 2 }
train = { steps = 24 }
evaluation = { every.steps = 10, scores = ["recall_at_1", "map_at_r"] }
checkpoints = { every.steps = 3, keep = 2, best = "map_at_r" }
"#;

/// A tokenizer of nine tokens, with the special ones of BERT.
pub(crate) const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "normalizer": { "type": "Lowercase" },
    "pre_tokenizer": { "type": "WhitespaceSplit" }, "decoder": null,
    "added_tokens": [
        { "id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
        { "id": 2, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
        { "id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
    ],
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                   { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": {
            "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] }, "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] }
        }
    },
    "model": { "type": "WordLevel", "unk_token": "[UNK]",
               "vocab": { "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4, "cat": 5, "wolf": 6, "dog": 7, "the": 8 } }
}"#;

/// SHA-256 of the newest checkpoint's weights, by the manifest.
pub(crate) fn weights(run: &Path) -> String {
    let newest =
        std::fs::read_to_string(run.join("checkpoints/LATEST")).expect("a checkpoint was saved");
    let manifest = run
        .join("checkpoints")
        .join(newest.trim())
        .join("MANIFEST.json");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(manifest).expect("whole")).expect("JSON");
    manifest["files"]["model.safetensors"]["sha256"]
        .as_str()
        .expect("the weights are listed")
        .to_string()
}

/// Five classes of eight sounds: tones with the overtones of their class, of several lengths.
pub(crate) fn sounds(folder: &Path) {
    for (class, number) in (0..5u32).flat_map(|class| (0..8u32).map(move |number| (class, number)))
    {
        let count = 1200 + 200 * number;
        let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
        file.extend(8000u32.to_le_bytes());
        file.extend(16_000u32.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend((2 * count).to_le_bytes());
        for at in 0..count {
            let angle = f64::from(at * (200 + 10 * number)) / 8000.0 * std::f64::consts::TAU;
            let wave = angle.sin() + (angle * f64::from(2 + class)).sin();
            file.extend(((wave * 8000.0) as i16).to_le_bytes());
        }
        let folder = folder.join(format!("sounds/c{class}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{number}.wav")), file).expect("written");
    }
}
