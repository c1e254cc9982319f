//! Own data: folders, lists, tables, texts; and what `check` says of them.

#![allow(clippy::unwrap_used)] // A test that fails may panic.

mod images;
mod tables;
mod texts;

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

const TABLE: &str = "id,kind,a,b,c,part\n\
                     1,x,1,5,3,train\n\
                     2,x,2,5,3,train\n\
                     3,y,3,5,?,train\n\
                     4,y,4,5,3,test\n\
                     5,x,5,6,3,test\n";
