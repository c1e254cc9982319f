//! How good a model is on a part of the data, and how good the plain ways are.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Distance, EmbeddingTable, Seed, Similarity};
use nearfar_datasets::{Annotation, Data, Roles};
use nearfar_eval::{
    Evaluation, Exclude, Family, Measure, Score, Settings, Subject, evaluate, linear_baseline,
    paired_distances,
};
use nearfar_trainer::Towers;

use crate::assemble::{self, Shared};
use crate::embedding;
use crate::exit::Error;
use crate::run_file::RunFile;

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
/// where all classes of the part were trained on.
pub(crate) fn of_part(
    towers: &Towers,
    run: &RunFile,
    data: &Data,
    part: &str,
    scores: &[Score],
    keep: usize,
    device: &Device,
) -> Result<Scored, Error> {
    let dataset = data.part(part)?;
    let tables = embedding::tables(towers, dataset, device)?;
    let comparing = Comparing::of(run)?;
    let settings = Settings {
        measure: comparing.measure(),
        seed: run.seed,
        keep,
        ..Settings::default()
    };
    let predict = |left: &EmbeddingTable, right: &EmbeddingTable| predicted(run, left, right);
    let train = || Ok(embedding::tables(towers, &data.train, device)?.swap_remove(0));
    let evaluation = scored(data, part, &tables, scores, &settings, &train, &predict)?;
    Ok(Scored { evaluation, tables })
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
        Annotation::Classes => {
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
                        ..*settings
                    },
                )?;
                evaluation.scores.extend(more.scores);
                evaluation.undefined.extend(more.undefined);
            }
            Ok(evaluation)
        }
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
    let raw = embedding::raw(dataset, None, words)?;
    let settings = Settings {
        seed: run.seed,
        ..Settings::default()
    };
    match data.annotation() {
        Annotation::Classes => {
            let fitted_to = embedding::raw(&data.train, Some(BASELINE_ROWS), words)?.swap_remove(0);
            let linear = linear_baseline(&fitted_to, width.min(fitted_to.dim))?;
            let whole = || Ok(embedding::raw(&data.train, None, words)?.swap_remove(0));
            let none: Predict<'_> = &|_, _| Ok(Vec::new());
            let name = match data.shape() {
                nearfar_datasets::Shape::Image { .. } => "raw pixels",
                nearfar_datasets::Shape::Features { .. } => "raw features",
                nearfar_datasets::Shape::Tokens { .. } => "bag of words",
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
        nearfar_datasets::Shape::Tokens { vocabulary, .. } => vocabulary,
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
        Annotation::Classes => score.family() != Family::Correlation,
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
