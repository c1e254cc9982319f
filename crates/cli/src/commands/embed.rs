//! `nearfar embed`: files to embeddings.

use std::path::Path;

use nearfar_core::EmbeddingTable;
use nearfar_eval::{Origin, write_embeddings};
use serde_json::json;

use crate::args::{self, Global};
use crate::assemble::Shared;
use crate::device;
use crate::embedding::{self, Searched};
use crate::exit::Error;
use crate::out::Out;
use crate::run_dir::RunDir;
use crate::trained::{self, Trained};

pub(crate) fn run(args: &args::Embed, global: &Global, out: &Out) -> Result<(), Error> {
    let device = device::of(&global.device)?;
    let trained =
        Trained::load(&args.run.run, &args.run.checkpoint, &device)?.of_tower(args.tower)?;
    let (dataset, split) = input(&args.input, &trained, &args.run.run, global)?;
    let tables = embedding::tables(
        &trained.towers,
        Searched::of(&trained.run),
        &dataset,
        &device,
    )?;
    let mut written = Vec::new();
    for (side, table) in tables.iter().enumerate() {
        let path = match tables.len() {
            1 => args.output.clone(),
            _ => of_side(&args.output, side),
        };
        let origin = Origin {
            model: Some(trained.model.clone()),
            data: Some(args.input.clone()),
            split: split.clone(),
            normalized: Some(has_unit_rows(table)),
        };
        write_embeddings(&path, table, &origin)?;
        written.push(path);
    }
    let names: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let (rows, dim) = tables
        .first()
        .map_or((0, 0), |table| (table.len(), table.dim));
    out.result(
        &format!("{rows} embeddings of {dim} numbers: {}", names.join(", ")),
        json!({"type": "result", "rows": rows, "dim": dim, "files": written}),
    );
    Ok(())
}

/// What a word on the command line means: a path that is there, else a part of the run's data.
pub(crate) fn input(
    word: &str,
    trained: &Trained,
    folder: &Path,
    global: &Global,
) -> Result<(Shared, Option<String>), Error> {
    let path = Path::new(word);
    if path.exists() {
        if trained.towers.len() > 1 {
            let kinds: Vec<String> = (0..trained.towers.len())
                .map(|tower| {
                    let kind = trained.preparation.of_input(tower).kind();
                    format!("`--tower {tower}` for {kind}")
                })
                .collect();
            return Err(Error::Usage(format!(
                "the run has {} towers; say which of them reads {word}: {}",
                kinds.len(),
                kinds.join(", ")
            )));
        }
        return Ok((trained.preparation.open(path)?, None));
    }
    if !["train", "validation", "test", "unseen"].contains(&word) {
        return Err(Error::Data(format!(
            "{word} is not there; give a folder, an image, a CSV, TSV, JSON lines, CoNLL-U or text file, or a part of the run's data, such as `test`"
        )));
    }
    if let Some(tower) = trained.tower {
        return Err(Error::Usage(format!(
            "`--tower {tower}` is for new files; `{word}` is a part of the run's data, which goes through all towers: leave it out"
        )));
    }
    let data = trained::data(&RunDir::new(folder), &trained.run, global)?;
    Ok((data.part(word)?.clone(), Some(word.to_string())))
}

/// `OUT.left.npy` and `OUT.right.npy` of pairs.
fn of_side(path: &Path, side: usize) -> std::path::PathBuf {
    let side = ["left", "right"]
        .get(side)
        .map_or_else(|| side.to_string(), ToString::to_string);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path
        .extension()
        .map(|it| format!(".{}", it.to_string_lossy()))
        .unwrap_or_default();
    path.with_file_name(format!("{stem}.{side}{extension}"))
}

/// Whether all rows have length 1, as far as f32 can say.
fn has_unit_rows(table: &EmbeddingTable) -> bool {
    (0..table.len()).all(|row| {
        let squared: f64 = table.row(row).iter().map(|x| f64::from(*x).powi(2)).sum();
        (squared - 1.0).abs() < 1e-4
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_go_to_two_files() {
        assert_eq!(of_side(Path::new("a/b.npy"), 0), Path::new("a/b.left.npy"));
        assert_eq!(of_side(Path::new("b"), 1), Path::new("b.right"));
    }
}
