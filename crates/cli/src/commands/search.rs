//! `nearfar search`: the nearest of an embedded gallery.

use std::path::Path;

use nearfar_core::EmbeddingTable;
use nearfar_eval::{Exclude, Measure, Search, read_embeddings, search};
use serde_json::json;

use crate::args::{self, Global};
use crate::device;
use crate::embedding::{self, Searched};
use crate::evaluation::Comparing;
use crate::exit::Error;
use crate::out::{Out, table};
use crate::scoring;
use crate::trained::Trained;

pub(crate) fn run(args: &args::Search, global: &Global, out: &Out) -> Result<(), Error> {
    if args.k == 0 {
        return Err(Error::Usage("-k 0: ask for at least one neighbor".into()));
    }
    let (gallery, origin) = read_embeddings(&args.gallery)?;
    let device = device::of(&global.device)?;
    let query = Path::new(&args.query);
    let trained = args
        .run
        .as_ref()
        .map(|run| Trained::load(run, &args.checkpoint, &device)?.of_tower(args.tower))
        .transpose()?;
    let comparing = trained
        .as_ref()
        .map(|trained| Comparing::of(&trained.run))
        .transpose()?;
    let (queries, names) = match &trained {
        None if is_embeddings(query) => {
            let (queries, _) = read_embeddings(query)?;
            let names = queries.ids.iter().map(|id| format!("id {id}")).collect();
            (queries, names)
        }
        None => {
            return Err(Error::Usage(format!(
                "{} is no file of embeddings; --run DIR names the run that embeds it",
                args.query
            )));
        }
        Some(trained) => embedded(
            &args.query,
            trained,
            args.run.as_deref().unwrap_or(Path::new(".")),
            global,
            &device,
        )?,
    };
    if let (Some(trained), Some(model)) = (&trained, &origin.model)
        && *model != trained.model
    {
        out.warning(&format!(
            "{} was embedded by other weights than those of the run's `{}` checkpoint; distances between the two mean little",
            args.gallery.display(),
            args.checkpoint
        ));
    }
    let measure = comparing
        .as_ref()
        .map_or(Measure::EUCLIDEAN, Comparing::measure);
    let scorer = trained.as_ref().and_then(|it| it.scorer.as_ref());
    if scorer.is_some_and(|it| !it.reads_embeddings_alone()) {
        out.warning(
            "the run's scorer compares maps, which are not in a file of embeddings: neighbors are in the order of the embeddings; `nearfar eval` \
             orders them by the scorer",
        );
    }
    let scorer = scorer.filter(|it| it.reads_embeddings_alone());
    let rerank = scorer.map_or(0, |it| it.rerank);
    let settings = Search {
        k: args.k.max(rerank),
        exclude: Exclude::Nothing,
        ..Search::default()
    };
    let mut neighbors = search(&queries, &gallery, measure, &settings)?;
    if let Some(scorer) = scorer.filter(|_| rerank > 0) {
        let (left, right) = (
            scoring::of_table(&queries, &device)?,
            scoring::of_table(&gallery, &device)?,
        );
        let score = |pairs: &[(u32, u32)]| {
            let pairs = pairs.iter().map(|&(a, b)| (u64::from(a), u64::from(b)));
            Ok(scorer.scores(&left, &right, &pairs.collect::<Vec<_>>())?)
        };
        neighbors = neighbors.reranked(rerank, &score)?;
    }
    neighbors = neighbors.truncated(args.k);
    if !neighbors.gallery_not_finite.is_empty() {
        out.warning(&format!(
            "{} rows of {} are not finite and come last",
            neighbors.gallery_not_finite.len(),
            args.gallery.display()
        ));
    }
    for (query, name) in names.iter().enumerate() {
        let (indices, distances) = neighbors.of(query);
        let found: Vec<(usize, f64)> = indices
            .iter()
            .map(|&index| index as usize)
            .zip(distances.iter().copied())
            .collect();
        let rows: Vec<Vec<String>> = found
            .iter()
            .enumerate()
            .map(|(rank, &(index, distance))| {
                let label = gallery
                    .labels
                    .get(index)
                    .map_or("–".to_string(), ToString::to_string);
                vec![
                    format!("  {}", rank + 1),
                    gallery.ids[index].to_string(),
                    label,
                    format!("{distance:.6}"),
                ]
            })
            .collect();
        let listed: Vec<_> = found
            .iter()
            .map(|&(index, distance)| json!({"id": gallery.ids[index], "label": gallery.labels.get(index), "distance": distance}))
            .collect();
        out.result(
            &format!(
                "{}\n{}",
                out.bold(name),
                table(&["  rank", "id", "label", "distance"], &rows)
            ),
            json!({"type": "result", "query": name, "neighbors": listed}),
        );
    }
    Ok(())
}

fn is_embeddings(path: &Path) -> bool {
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or("");
    path.is_file() && ["safetensors", "npy", "csv"].contains(&extension)
}

/// Queries through the run's model, with what each is called.
fn embedded(
    word: &str,
    trained: &Trained,
    folder: &Path,
    global: &Global,
    device: &candle_core::Device,
) -> Result<(EmbeddingTable, Vec<String>), Error> {
    let path = Path::new(word);
    let extension = path.extension().and_then(|it| it.to_str()).unwrap_or("");
    if path.is_file() && ["safetensors", "npy"].contains(&extension) {
        let (queries, _) = read_embeddings(path)?;
        let names = queries.ids.iter().map(|id| format!("id {id}")).collect();
        return Ok((queries, names));
    }
    let text = matches!(
        trained.preparation,
        nearfar_datasets::Preparation::Texts { .. }
            | nearfar_datasets::Preparation::Tokenized { .. }
    );
    if text && !path.exists() && !["train", "validation", "test", "unseen"].contains(&word) {
        let file = tempfile_with(word)?;
        let dataset = trained.preparation.open(&file.0)?;
        let queries = embedding::tables(
            &trained.towers,
            Searched::of(&trained.run),
            &dataset,
            device,
        )?
        .swap_remove(0);
        return Ok((queries, vec![word.to_string()]));
    }
    let (dataset, _) = super::embed::input(word, trained, folder, global)?;
    let queries = embedding::tables(
        &trained.towers,
        Searched::of(&trained.run),
        &dataset,
        device,
    )?
    .swap_remove(0);
    let names = (0..queries.len() as u32)
        .map(|row| dataset.describe(row))
        .collect();
    Ok((queries, names))
}

/// A text as a file with one line; removed when dropped.
fn tempfile_with(text: &str) -> Result<TextFile, Error> {
    let path = std::env::temp_dir().join(format!("nearfar-query-{}.txt", std::process::id()));
    let line = text.replace(['\n', '\r'], " ");
    std::fs::write(&path, format!("{line}\n")).map_err(|source| Error::File {
        action: "write",
        path: path.clone(),
        source,
    })?;
    Ok(TextFile(path))
}

struct TextFile(std::path::PathBuf);

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
