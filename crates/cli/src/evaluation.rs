//! How good a model is on a part of the data, and how good the plain ways are.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Distance, EmbeddingTable, Input, Mode, Purpose, Seed, Similarity};
use nearfar_datasets::{Annotation, Data, Dataset, Roles, Value};
use nearfar_eval::{
    ByPairs, Evaluation, Exclude, Family, Measure, Score, Settings, Subject, draw, evaluate,
    linear_baseline, paired_distances, pixel_pairs,
};
use nearfar_trainer::Towers;

use crate::assemble::{self, Shared};
use crate::embedding::{self, Searched};
use crate::exit::Error;
use crate::run_file::RunFile;
use crate::scoring::{self, Scorer};

/// Rows that a linear baseline is fitted to at most; more change it little and cost much.
const BASELINE_ROWS: usize = 10_000;

/// Scores, and the embeddings they are of.
pub(crate) struct Scored {
    pub(crate) evaluation: Evaluation,
    pub(crate) tables: Vec<EmbeddingTable>,
}

/// The scores of a run: those of its run file, else the usual ones of its data.
pub(crate) fn names(run: &RunFile, annotation: Annotation) -> Result<Vec<Score>, Error> {
    let usual: &[&str] = match annotation {
        Annotation::Classes => &["recall_at_1", "r_precision", "map_at_r"],
        Annotation::Domains => &["recall_at_1", "mean_average_precision"],
        Annotation::Sets => &["recall_at_1", "precision_at_10", "mean_average_precision"],
        Annotation::Targets => &["spearman", "knn_error_5"],
        Annotation::Masks => &["auc", "eer"],
        Annotation::LabeledPairs => &["auc", "eer"],
        Annotation::ScoredPairs => &["pearson", "spearman", "mean_squared_error"],
    };
    let written = run.evaluation.scores.iter().map(String::as_str);
    let names: Vec<&str> = if run.evaluation.scores.is_empty() {
        usual.to_vec()
    } else {
        written.collect()
    };
    let mut scores = names
        .into_iter()
        .map(str::parse)
        .collect::<Result<Vec<Score>, _>>()?;
    if let Some(best) = &run.checkpoints.best {
        let best = best.parse()?;
        if !scores.contains(&best) {
            scores.push(best);
        }
    }
    Ok(scores)
}

/// What embeddings are compared by, owned; see [`Comparing::measure`].
pub(crate) struct Comparing(Option<Box<dyn Distance>>, Option<Box<dyn Similarity>>);

impl Comparing {
    pub(crate) fn of(run: &RunFile) -> Result<Self, Error> {
        let (distance, similarity) = assemble::measure(run)?;
        Ok(Self(distance, similarity))
    }

    pub(crate) fn measure(&self) -> Measure<'_> {
        match self {
            Self(Some(distance), _) => Measure::of(&**distance),
            Self(_, Some(similarity)) => Measure::of_similarity(&**similarity),
            Self(None, None) => Measure::COSINE, // A loss of class centers is one of cosines.
        }
    }
}

/// Scores of a part of the data under a model.
///
/// Rows are looked for among the other rows of their part. A k-NN accuracy is that of a classifier: it looks among the training rows,
/// where all classes of the part were trained on. So does a k-NN error.
#[allow(clippy::too_many_arguments)] // Each is a thing of its own, and this is called from two places.
pub(crate) fn of_part(
    towers: &Towers,
    scorer: Option<&Scorer>,
    run: &RunFile,
    data: &Data,
    part: &str,
    scores: &[Score],
    keep: usize,
    device: &Device,
) -> Result<Scored, Error> {
    let dataset = data.part(part)?;
    let searched = Searched::of(run);
    let tables = embedding::tables(towers, searched, dataset, device)?;
    let comparing = Comparing::of(run)?;
    let rows = scorer.map(|it| it.rows(towers, &tables, dataset, device));
    let rows = rows.transpose()?;
    let scored_by = scorer.zip(rows.as_deref());
    let within = |pairs: &[(u64, u64)]| match scored_by {
        Some((scorer, [rows, ..])) => Ok(scorer.scores(rows, rows, pairs)?),
        _ => Ok(Vec::new()),
    };
    let by_pairs = scorer.map(|it| ByPairs {
        score: &within,
        rerank: it.rerank,
    });
    let settings = Settings {
        measure: comparing.measure(),
        seed: run.seed,
        keep,
        pairs: pairs_of_a_kind(run),
        by_pairs,
        ..Settings::default()
    };
    let predict = |left: &EmbeddingTable, right: &EmbeddingTable| match scored_by {
        Some((scorer, [first, second])) => {
            let pairs: Vec<(u64, u64)> = (0..left.len() as u64).map(|it| (it, it)).collect();
            let scores = scorer.scores(first, second, &pairs)?;
            let scores = Tensor::from_vec(scores, pairs.len(), &Device::Cpu)?;
            Ok(assemble::estimates(run, scores)?.to_vec1()?)
        }
        _ => predicted(run, left, right),
    };
    let train = || Ok(embedding::tables(towers, searched, &data.train, device)?.swap_remove(0));
    if dataset.annotation() == Annotation::Masks {
        let map = |index: u32| of_pixels(towers, &**dataset, index, device);
        let evaluation = pixels_scored(&**dataset, scores, &settings, &map)?;
        return Ok(Scored { evaluation, tables });
    }
    let evaluation = scored(data, part, &tables, scores, &settings, &train, &predict)?;
    Ok(Scored { evaluation, tables })
}

/// How many pairs of each kind verification looks at, with a scorer and without it: the same ones.
fn pairs_of_a_kind(run: &RunFile) -> usize {
    let with_scorer = run.entries().iter().any(|entry| entry.scorer.is_some());
    match run.evaluation.pairs {
        Some(pairs) => pairs,
        None if with_scorer => scoring::PAIRS_OF_A_KIND,
        None => Settings::default().pairs,
    }
}

type Predict<'a> = &'a dyn Fn(&EmbeddingTable, &EmbeddingTable) -> Result<Vec<f64>, Error>;

fn scored(
    data: &Data,
    part: &str,
    tables: &[EmbeddingTable],
    scores: &[Score],
    settings: &Settings<'_>,
    train: &dyn Fn() -> Result<EmbeddingTable, Error>,
    predict: Predict<'_>,
) -> Result<Evaluation, Error> {
    let dataset = data.part(part)?;
    match dataset.annotation() {
        Annotation::Classes | Annotation::Domains => {
            let table = &tables[0];
            let closed = table
                .labels
                .iter()
                .all(|&label| (label as usize) < data.train_classes);
            let classifier =
                |score: &Score| matches!(score, Score::KnnAccuracy(_)) && closed && part != "train";
            let (against_train, within): (Vec<Score>, Vec<Score>) =
                scores.iter().copied().partition(classifier);
            let roles = data
                .evaluation
                .iter()
                .find(|it| it.name == part)
                .and_then(|it| it.roles.as_deref());
            let mut evaluation = match roles {
                None => evaluate(Subject::Within(table), &within, settings)?,
                Some(roles) => by_roles(table, roles, &within, settings)?,
            };
            if !against_train.is_empty() {
                let gallery = train()?;
                let subject = Subject::Between {
                    queries: table,
                    gallery: &gallery,
                    exclude: Exclude::Nothing,
                };
                let more = evaluate(
                    subject,
                    &against_train,
                    &Settings {
                        keep: 0,
                        by_pairs: None, // Rows of the other part are not there to be scored.
                        ..*settings
                    },
                )?;
                evaluation.scores.extend(more.scores);
                evaluation.undefined.extend(more.undefined);
            }
            Ok(evaluation)
        }
        Annotation::Sets => {
            let subject = Subject::Sets {
                table: &tables[0],
                sets: dataset.sets(),
            };
            Ok(evaluate(subject, scores, settings)?)
        }
        Annotation::Targets => {
            // Neighbors are looked for among the training rows.
            let gallery = match part {
                "train" => None,
                _ => Some(train()?),
            };
            let subject = Subject::Targets {
                table: &tables[0],
                targets: dataset.targets(),
                gallery: gallery.as_ref().map(|rows| (rows, data.train.targets())),
            };
            Ok(evaluate(subject, scores, settings)?)
        }
        // Pixels are scored on their own.
        Annotation::Masks => Ok(Evaluation::default()),
        Annotation::LabeledPairs => {
            let scores_of_pairs = predict(&tables[0], &tables[1])?;
            let same: Vec<bool> = dataset.labels().iter().map(|&label| label == 1).collect();
            Ok(evaluate(
                Subject::Pairs {
                    scores: &scores_of_pairs,
                    same: &same,
                },
                scores,
                settings,
            )?)
        }
        Annotation::ScoredPairs => {
            let predicted = predict(&tables[0], &tables[1])?;
            let given: Vec<f64> = dataset
                .targets()
                .iter()
                .map(|&target| f64::from(target))
                .collect();
            Ok(evaluate(
                Subject::Scored {
                    predicted: &predicted,
                    given: &given,
                },
                scores,
                settings,
            )?)
        }
    }
}

/// The map of an image, and how many numbers a pixel has.
type Map = (Vec<f32>, usize);

/// Pixels of an image whose pairs are scored, and images that are looked at, at most.
const PIXELS: usize = 128;
const IMAGES: usize = 500;

/// Scores of pairs of pixels, each of one image.
fn pixels_scored(
    dataset: &dyn Dataset,
    scores: &[Score],
    settings: &Settings<'_>,
    map: &dyn Fn(u32) -> Result<Map, Error>,
) -> Result<Evaluation, Error> {
    let (mut of_pairs, mut same) = (Vec::new(), Vec::new());
    for index in draw(dataset.len(), IMAGES, settings.seed) {
        let index = index as u32;
        let Some(mask) = dataset.mask(index)? else {
            continue;
        };
        let (map, dim) = map(index)?;
        let mut rng = settings.seed.rng(Purpose::Evaluation, u64::from(index));
        let (scores, alike) = pixel_pairs(&map, dim, &mask.instances, PIXELS, &mut rng);
        of_pairs.extend(scores);
        same.extend(alike);
    }
    let subject = Subject::Pairs {
        scores: &of_pairs,
        same: &same,
    };
    Ok(evaluate(subject, scores, settings)?)
}

/// The embeddings of an image's pixels.
fn of_pixels(
    towers: &Towers,
    dataset: &dyn Dataset,
    index: u32,
    device: &Device,
) -> Result<Map, Error> {
    let sample = dataset.sample(index)?;
    let Some(Value::Image(image)) = sample.inputs.first() else {
        return Err(Error::Data(format!(
            "{} is no image, and has no pixels",
            dataset.describe(index)
        )));
    };
    let size = (1, image.channels, image.height, image.width);
    let input = Input::Dense(Tensor::from_slice(&image.values, size, device)?);
    let encoded = towers.encode(&[input], Mode::Eval)?.swap_remove(0);
    let Some(dense) = encoded.extra.get("dense") else {
        return Err(Error::Usage(
            "the model gives no embeddings of pixels; `model.dense_conv` does".into(),
        ));
    };
    let numbers = dense.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
    Ok((numbers, dense.dim(1)?))
}

/// Scores of pixels as they are, and of where they are.
fn plain_pixels(
    dataset: &dyn Dataset,
    scores: &[Score],
    settings: &Settings<'_>,
) -> Result<Vec<Baseline>, Error> {
    let image = |index: u32| -> Result<nearfar_datasets::Image, Error> {
        match dataset.sample(index)?.inputs.swap_remove(0) {
            Value::Image(image) => Ok(image),
            _ => Err(Error::Data(format!(
                "{} is no image",
                dataset.describe(index)
            ))),
        }
    };
    let colors = |index| {
        let image = image(index)?;
        Ok((image.values, image.channels))
    };
    let places = |index| {
        let image = image(index)?;
        let pixels = 0..image.height * image.width;
        let rows = pixels.clone().map(|it| (it / image.width) as f32);
        Ok((
            rows.chain(pixels.map(|it| (it % image.width) as f32))
                .collect(),
            2,
        ))
    };
    let baseline = |name: &str, map: &dyn Fn(u32) -> Result<Map, Error>| -> Result<_, Error> {
        Ok(Baseline {
            name: name.into(),
            evaluation: pixels_scored(dataset, scores, settings, map)?,
        })
    };
    Ok(vec![
        baseline("raw pixels", &colors)?,
        baseline("places of pixels", &places)?,
    ])
}

/// Queries against the gallery, as the data say who is which; none is found by those of its own sequence.
fn by_roles(
    table: &EmbeddingTable,
    roles: &[Roles],
    scores: &[Score],
    settings: &Settings<'_>,
) -> Result<Evaluation, Error> {
    let rows = |wanted: fn(&Roles) -> bool| -> Vec<usize> {
        (0..roles.len())
            .filter(|&row| wanted(&roles[row]))
            .collect()
    };
    let (queries, gallery) = (rows(|it| it.query), rows(|it| it.gallery));
    let of = |kept: &[usize]| table.filter(|row| kept.binary_search(&row).is_ok());
    let excluded = |query: usize, row: usize| {
        let (query, row) = (queries[query], gallery[row]);
        query == row
            || (roles[query].sequence.is_some() && roles[query].sequence == roles[row].sequence)
    };
    let (of_queries, of_gallery) = (of(&queries), of(&gallery));
    let subject = Subject::Between {
        queries: &of_queries,
        gallery: &of_gallery,
        exclude: Exclude::Where(&excluded),
    };
    Ok(evaluate(subject, scores, settings)?)
}

/// Scores of pairs, larger for what is more alike, on the scale that the loss learned.
fn predicted(
    run: &RunFile,
    left: &EmbeddingTable,
    right: &EmbeddingTable,
) -> Result<Vec<f64>, Error> {
    let tensor = |table: &EmbeddingTable| {
        Tensor::from_slice(&table.vectors, (table.len(), table.dim), &Device::Cpu)?
            .to_dtype(DType::F64)
    };
    Ok(assemble::pair_scores(run, &tensor(left)?, &tensor(right)?)?.to_vec1()?)
}

/// The same scores without a model.
pub(crate) struct Baseline {
    /// What it is: `raw pixels`, `LDA to 9 numbers`, `bag of words`.
    pub(crate) name: String,
    pub(crate) evaluation: Evaluation,
}

/// Plain ways to do what a model is for, fitted to the training data alone.
pub(crate) fn baselines(
    run: &RunFile,
    data: &Data,
    part: &str,
    scores: &[Score],
    width: usize,
) -> Result<Vec<Baseline>, Error> {
    let dataset: &Shared = data.part(part)?;
    let words = vocabulary(data);
    let settings = Settings {
        seed: run.seed,
        pairs: pairs_of_a_kind(run),
        ..Settings::default()
    };
    if data.annotation() == Annotation::Masks {
        return plain_pixels(&**dataset, scores, &settings);
    }
    if data.shapes().len() > 1 {
        // As they are, things of two kinds cannot be compared.
        return Ok(Vec::new());
    }
    let raw = embedding::raw(dataset, None, words)?;
    match data.annotation() {
        Annotation::Classes
        | Annotation::Domains
        | Annotation::Sets
        | Annotation::Targets
        | Annotation::Masks => {
            let fitted_to = embedding::raw(&data.train, Some(BASELINE_ROWS), words)?.swap_remove(0);
            let linear = linear_baseline(&fitted_to, width.min(fitted_to.dim))?;
            let whole = || Ok(embedding::raw(&data.train, None, words)?.swap_remove(0));
            let none: Predict<'_> = &|_, _| Ok(Vec::new());
            let name = match data.shape() {
                nearfar_datasets::Shape::Image { .. } => "raw pixels",
                nearfar_datasets::Shape::Volume { .. } => "raw voxels",
                nearfar_datasets::Shape::Views { .. } => "raw pixels",
                nearfar_datasets::Shape::Features { .. } => "raw features",
                nearfar_datasets::Shape::Frames { .. } => "frames in parts",
                nearfar_datasets::Shape::Tokens { .. } | nearfar_datasets::Shape::Parsed { .. } => {
                    "bag of words"
                }
            };
            let mapped = linear.apply(&raw[0])?;
            let linear_whole = || Ok(linear.apply(&whole()?)?);
            let of_raw = scored(data, part, &raw, scores, &settings, &whole, none)?;
            let of_linear = scored(
                data,
                part,
                std::slice::from_ref(&mapped),
                scores,
                &settings,
                &linear_whole,
                none,
            )?;
            Ok(vec![
                Baseline {
                    name: name.into(),
                    evaluation: of_raw,
                },
                Baseline {
                    name: format!("{} to {} numbers", linear.kind, linear.dim),
                    evaluation: of_linear,
                },
            ])
        }
        Annotation::LabeledPairs | Annotation::ScoredPairs => {
            // Cosine of the samples as they are, put on the scale of the scores by a line through the training pairs.
            let cosines = |tables: &[EmbeddingTable]| -> Result<Vec<f64>, Error> {
                let distances = paired_distances(&tables[0], &tables[1], Measure::COSINE)?;
                Ok(distances
                    .into_iter()
                    .map(|distance| 1.0 - distance)
                    .collect())
            };
            let (slope, shift) = match data.annotation() {
                Annotation::ScoredPairs => {
                    let given: Vec<f64> = data
                        .train
                        .targets()
                        .iter()
                        .map(|&target| f64::from(target))
                        .collect();
                    line(
                        &cosines(&embedding::raw(&data.train, None, words)?)?,
                        &given,
                    )
                }
                _ => (1.0, 0.0),
            };
            let predict: Predict<'_> = &|left, right| {
                let cosines = cosines(&[left.clone(), right.clone()])?;
                Ok(cosines
                    .into_iter()
                    .map(|cosine| slope * cosine + shift)
                    .collect())
            };
            let none = || Ok(EmbeddingTable::default());
            let evaluation = scored(data, part, &raw, scores, &settings, &none, predict)?;
            let name = if words > 0 {
                "bag of words, cosine"
            } else {
                "raw inputs, cosine"
            };
            Ok(vec![Baseline {
                name: name.into(),
                evaluation,
            }])
        }
    }
}

fn vocabulary(data: &Data) -> usize {
    match data.shape() {
        nearfar_datasets::Shape::Tokens { vocabulary, .. }
        | nearfar_datasets::Shape::Parsed { vocabulary, .. } => vocabulary,
        _ => 0,
    }
}

/// The line of least squares through points: its slope and its value at 0.
fn line(x: &[f64], y: &[f64]) -> (f64, f64) {
    let count = x.len().max(1) as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / count, y.iter().sum::<f64>() / count);
    let spread: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let slope = if spread > 0.0 {
        x.iter()
            .zip(y)
            .map(|(x, y)| (x - mean_x) * (y - mean_y))
            .sum::<f64>()
            / spread
    } else {
        0.0
    };
    (slope, mean_y - slope * mean_x)
}

/// Whether a score says nothing of such data, and which ones do.
pub(crate) fn check(scores: &[Score], annotation: Annotation) -> Result<(), Error> {
    let fits = |score: &Score| match annotation {
        Annotation::Classes | Annotation::Domains => {
            !matches!(score.family(), Family::Correlation | Family::Regression)
        }
        Annotation::Sets => {
            score.family() == Family::Retrieval && !matches!(score, Score::KnnAccuracy(_))
        }
        Annotation::Targets => {
            matches!(score.family(), Family::Correlation | Family::Regression)
                && *score != Score::MeanSquaredError
        }
        Annotation::Masks => score.family() == Family::Verification,
        Annotation::LabeledPairs => score.family() == Family::Verification,
        Annotation::ScoredPairs => score.family() == Family::Correlation,
    };
    match scores.iter().find(|score| !fits(score)) {
        None => Ok(()),
        Some(score) => {
            let names: Vec<String> = Score::all()
                .into_iter()
                .filter(fits)
                .map(|score| format!("`{score}`"))
                .collect();
            Err(Error::Usage(format!(
                "the score `{score}` says nothing of data with {}; these do: {}",
                annotation.name(),
                names.join(", ")
            )))
        }
    }
}

/// A seed for what is drawn for pictures: the same in every report.
pub(crate) const PICTURES: Seed = Seed(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_through_its_points() {
        assert_eq!(line(&[0.0, 1.0, 2.0], &[1.0, 3.0, 5.0]), (2.0, 1.0));
        assert_eq!(line(&[1.0, 1.0], &[1.0, 3.0]), (0.0, 2.0));
    }
}
