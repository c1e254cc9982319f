//! What a run or an evaluation has to show, as plain data: `cli` prints it, `nearfar-report` draws it.

use std::collections::BTreeMap;

use nearfar_core::{EmbeddingTable, Purpose, Seed};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::interval::Interval;
use crate::linear::plane;
use crate::neighbors::Neighbors;
use crate::verification::{PairDistances, Roc};

/// A report. Every part may be empty, and then is not shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// What it is about: the name of the run.
    pub title: String,
    /// A sentence below it.
    pub summary: String,
    /// Things worth knowing, in their order: data, model, loss, time.
    pub facts: Vec<(String, String)>,
    /// Scores beside those of baselines, in tables.
    pub scores: Vec<ScoreTable>,
    /// Curves over steps, in charts.
    pub curves: Vec<Chart>,
    /// Recall at several `k`.
    pub recall: Vec<RecallCurve>,
    /// Distances of pairs of one class and of two.
    pub distances: Vec<DistanceHistogram>,
    /// Errors of verification at all thresholds.
    pub roc: Vec<RocCurve>,
    /// Embeddings in the plane; those after one another are shown side by side.
    pub scatters: Vec<Scatter>,
    /// Queries, and what was found for them.
    pub retrieved: Vec<Retrieved>,
    /// The samples that scatters and retrieved queries refer to by their place here.
    pub items: Vec<Item>,
    /// Names of classes, where they have one.
    pub class_names: BTreeMap<u32, String>,
    /// What a reader should know: limits, warnings, what was sampled.
    pub notes: Vec<String>,
    /// The configuration as text.
    pub configuration: String,
    /// Versions, machine, threads.
    pub environment: Vec<(String, String)>,
}

/// A table of scores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScoreTable {
    /// What the scores are of: `Digits that were not seen in training`.
    pub title: String,
    /// What is compared: `raw pixels`, `linear baseline`, `learned`. The last is the one the report is about.
    pub columns: Vec<String>,
    /// The scores.
    pub rows: Vec<ScoreRow>,
}

/// A score of each column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreRow {
    /// Its title.
    pub name: String,
    /// Whether more is better.
    pub higher_is_better: bool,
    /// Its values; none where it does not exist.
    pub values: Vec<Option<Interval>>,
}

/// Curves that share axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// What is drawn.
    pub title: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// Values at steps. Values that are not finite leave a gap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// Steps, ascending.
    pub steps: Vec<f64>,
    /// The value at each.
    #[serde(with = "gaps")]
    pub values: Vec<f64>,
}

/// Recall at several `k`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecallCurve {
    /// Of what.
    pub name: String,
    /// Each `k`, ascending.
    pub k: Vec<usize>,
    /// The recall at it.
    pub recall: Vec<f64>,
}

/// How often distances of pairs fall into intervals of one width.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistanceHistogram {
    /// Of what.
    pub name: String,
    /// Lower end of the first interval.
    pub low: f64,
    /// Upper end of the last.
    pub high: f64,
    /// Pairs of one class in each interval.
    pub positive: Vec<u64>,
    /// Pairs of two classes in each interval.
    pub negative: Vec<u64>,
    /// Whether these are not all pairs.
    pub sampled: bool,
}

/// A curve of verification.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RocCurve {
    /// Of what.
    pub name: String,
    /// Shares of pairs of two classes that are accepted, ascending.
    pub far: Vec<f64>,
    /// Shares of pairs of one class that are accepted.
    pub tar: Vec<f64>,
    /// The area below.
    pub auc: f64,
    /// The rate at which both errors are equal.
    pub eer: f64,
}

/// Embeddings in the plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scatter {
    /// Of what: `Before training`.
    pub name: String,
    /// How the coordinates came about.
    pub how: String,
    /// Coordinates.
    pub x: Vec<f32>,
    /// Coordinates.
    pub y: Vec<f32>,
    /// Class of each point; empty where there are none.
    pub labels: Vec<u32>,
    /// Which of the report's items each point is; empty where there are none.
    pub items: Vec<u32>,
    /// How many rows there were before some were drawn for the picture.
    pub of: usize,
}

/// A query and what was found for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Retrieved {
    /// The query's item.
    pub query: u32,
    /// What was found, nearest first.
    pub found: Vec<Hit>,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Its item.
    pub item: u32,
    /// How far it is.
    #[serde(with = "gap")]
    pub distance: f64,
    /// Whether it is of the query's class.
    pub right: bool,
}

/// A sample: a picture, a text, or only a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Item {
    /// Its class.
    pub label: Option<u32>,
    /// Its name, or itself if it is a text.
    pub text: String,
    /// A small picture of it.
    pub picture: Option<Picture>,
}

/// A small picture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: u8,
    /// Rows of pixels of channels.
    #[serde(with = "hexadecimal")]
    pub pixels: Vec<u8>,
}

impl Picture {
    /// From values between 0 and 1, channel after channel as networks see them: `(channels, height, width)`.
    ///
    /// None unless there are 1 or 3 channels and as many values as the sizes say. Other values are cut off.
    pub fn from_planes(values: &[f32], channels: u8, height: u32, width: u32) -> Option<Self> {
        let area = height as usize * width as usize;
        let planes = usize::from(channels);
        if !matches!(channels, 1 | 3) || values.len() != area * planes {
            return None;
        }
        let pixel = |i: usize| {
            (values[i % planes * area + i / planes].clamp(0.0, 1.0) * 255.0).round() as u8
        };
        Some(Self {
            width,
            height,
            channels,
            pixels: (0..area * planes).map(pixel).collect(),
        })
    }

    /// Whether it has as many pixels as its sizes say.
    pub fn is_whole(&self) -> bool {
        let size = u64::from(self.width) * u64::from(self.height) * u64::from(self.channels);
        matches!(self.channels, 1 | 3) && size > 0 && self.pixels.len() as u64 == size
    }
}

impl DistanceHistogram {
    /// Counts distances in `bins` intervals of one width between the smallest and the largest. Distances that are not
    /// finite are left out.
    pub fn new(name: &str, pairs: &PairDistances, bins: usize) -> Self {
        let finite = |list: &[f64]| {
            list.iter()
                .copied()
                .filter(|d| d.is_finite())
                .collect::<Vec<_>>()
        };
        let (positive, negative) = (finite(&pairs.positive), finite(&pairs.negative));
        let all = || positive.iter().chain(&negative).copied();
        let (low, high) = (
            all().fold(f64::INFINITY, f64::min),
            all().fold(f64::NEG_INFINITY, f64::max),
        );
        let (low, high) = match (low < high, low.is_finite()) {
            (true, _) => (low, high),
            (false, true) => (low - 0.5, low + 0.5), // All are equal.
            (false, false) => (0.0, 1.0),            // There are none.
        };
        let count = |list: &[f64]| {
            let mut counts = vec![0; bins.max(1)];
            for distance in list {
                let share = (distance - low) / (high - low);
                let bin = (share * counts.len() as f64) as usize;
                counts[bin.min(bins.max(1) - 1)] += 1;
            }
            counts
        };
        Self {
            name: name.into(),
            low,
            high,
            positive: count(&positive),
            negative: count(&negative),
            sampled: pairs.sampled(),
        }
    }
}

impl RocCurve {
    /// With at most `points` of the curve's points, spread evenly along it; the ends are kept.
    pub fn new(name: &str, roc: &Roc, points: usize) -> Self {
        let last = roc.points.len() - 1;
        let kept = points.clamp(2, last.max(1) + 1);
        let mut curve = Self {
            name: name.into(),
            auc: roc.auc(),
            eer: roc.eer().rate,
            ..Self::default()
        };
        // Evenly by the length of the curve, |ΔFAR| + |ΔTAR|, of which it has 2: a good curve turns within few points.
        let place = |point: &crate::verification::RocPoint| point.far + 1.0 - point.frr;
        let mut next = 0.0;
        for (index, point) in roc.points.iter().enumerate() {
            if place(point) >= next || index == last {
                curve.far.push(point.far);
                curve.tar.push(1.0 - point.frr);
                next = place(point) + 2.0 / kept as f64;
            }
        }
        curve
    }
}

impl Scatter {
    /// Rows of a table in the plane: see [`plane`](crate::plane). Of more than `limit` rows, `limit` are drawn; the plane is
    /// that of all. `item` says which of the report's items a row is.
    ///
    /// # Errors
    /// When there are no rows, or a value is not finite.
    pub fn new(
        name: &str,
        table: &EmbeddingTable,
        limit: usize,
        seed: Seed,
        item: impl Fn(usize) -> Option<u32>,
    ) -> Result<Self> {
        let plane = plane(table)?;
        let rows = draw(table.len(), limit, seed);
        let items: Vec<Option<u32>> = rows.iter().map(|&row| item(row)).collect();
        Ok(Self {
            name: name.into(),
            how: plane.how,
            x: rows.iter().map(|&row| plane.x[row]).collect(),
            y: rows.iter().map(|&row| plane.y[row]).collect(),
            labels: rows
                .iter()
                .filter_map(|&row| table.labels.get(row).copied())
                .collect(),
            items: items.into_iter().collect::<Option<_>>().unwrap_or_default(),
            of: table.len(),
        })
    }
}

/// At most `limit` of the numbers `0..count`, drawn, ascending. The same for the same seed, so that two scatters show the
/// same rows.
pub fn draw(count: usize, limit: usize, seed: Seed) -> Vec<usize> {
    if count <= limit {
        return (0..count).collect();
    }
    let mut rng = seed.rng(Purpose::Evaluation, DRAWN);
    let mut drawn: Vec<usize> = rng.permutation(count)[..limit]
        .iter()
        .map(|&row| row as usize)
        .collect();
    drawn.sort_unstable();
    drawn
}

/// The position of the random numbers that draw rows for a picture.
const DRAWN: u64 = u64::MAX - 1;

impl Retrieved {
    /// What was found for `count` queries: half of them queries whose nearest neighbor is of another class, as far as there
    /// are, because those are the ones to learn from. Queries are drawn. `query` and `row` say which of the report's items
    /// a query and a row of the gallery are.
    pub fn choose(
        neighbors: &Neighbors,
        count: usize,
        top: usize,
        seed: Seed,
        query: impl Fn(usize) -> u32,
        row: impl Fn(usize) -> u32,
    ) -> Vec<Self> {
        let mut order: Vec<usize> = (0..neighbors.queries())
            .filter(|&q| neighbors.found[q] > 0)
            .collect();
        seed.rng(Purpose::Evaluation, DRAWN).shuffle(&mut order);
        let first_is_right = |q: &usize| neighbors.right(*q).first().copied().unwrap_or(true);
        let (right, wrong): (Vec<usize>, Vec<usize>) = order.into_iter().partition(first_is_right);
        let from_wrong = wrong
            .len()
            .min((count / 2).max(count.saturating_sub(right.len())));
        let chosen = right
            .iter()
            .take(count - from_wrong.min(count))
            .chain(wrong.iter().take(from_wrong));
        chosen
            .map(|&q| {
                let (indices, distances) = neighbors.of(q);
                let right = neighbors.right(q);
                let found = indices.iter().zip(distances).enumerate().take(top);
                Self {
                    query: query(q),
                    found: found
                        .map(|(place, (&index, &distance))| Hit {
                            item: row(index as usize),
                            distance,
                            right: right.get(place).copied().unwrap_or(true),
                        })
                        .collect(),
                }
            })
            .collect()
    }
}

/// Numbers that are not finite have no JSON: they are `null`, and read as NaN.
mod gaps {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        let values = values
            .iter()
            .map(|value| value.is_finite().then_some(*value));
        values.collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(from)?;
        Ok(values
            .into_iter()
            .map(|value| value.unwrap_or(f64::NAN))
            .collect())
    }
}

mod gap {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

/// Bytes as text, two digits each.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)] as char);
        to.serialize_str(&bytes.iter().flat_map(digits).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let digit = |c: u8| (c as char).to_digit(16).map(|digit| digit as u8);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs
            .iter()
            .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        match (bytes.collect::<Option<Vec<u8>>>(), rest) {
            (Some(bytes), []) => Ok(bytes),
            _ => Err(D::Error::custom("pixels are pairs of hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Measure, Search, search_within};

    #[test]
    fn a_report_survives_json() {
        let report = Report {
            title: "a".into(),
            curves: vec![Chart {
                title: "loss".into(),
                curves: vec![Curve {
                    name: "loss".into(),
                    steps: vec![1.0, 2.0],
                    values: vec![0.5, f64::NAN],
                }],
            }],
            items: vec![Item {
                label: Some(3),
                picture: Picture::from_planes(&[0.0, 1.0, 0.5, 7.0], 1, 2, 2),
                ..Item::default()
            }],
            ..Report::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        assert!(
            text.contains("\"pixels\":\"00ff80ff\"") && text.contains("[0.5,null]"),
            "{text}"
        );
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.items, report.items);
        assert!(read.curves[0].curves[0].values[1].is_nan());
        assert!(serde_json::from_str::<Report>(&text.replace("00ff80ff", "0xff80ff")).is_err());
    }

    #[test]
    fn planes_become_pixels() {
        let picture = Picture::from_planes(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0], 3, 1, 2).unwrap();
        assert_eq!(picture.pixels, [255, 0, 0, 0, 0, 255]); // Red, then blue.
        assert!(picture.is_whole());
        assert_eq!(Picture::from_planes(&[1.0], 2, 1, 1), None);
        assert_eq!(Picture::from_planes(&[1.0], 1, 1, 2), None);
    }

    #[test]
    fn histograms_count_every_distance_once() {
        let pairs = PairDistances {
            positive: vec![0.0, 1.0, 1.0],
            negative: vec![4.0, f64::NAN],
            all_positive: 3,
            all_negative: 9,
        };
        let histogram = DistanceHistogram::new("test", &pairs, 4);
        assert_eq!(
            (histogram.low, histogram.high, histogram.sampled),
            (0.0, 4.0, true)
        );
        assert_eq!(histogram.positive, [1, 2, 0, 0]);
        assert_eq!(histogram.negative, [0, 0, 0, 1]);
        for list in [vec![], vec![2.0, 2.0]] {
            let histogram = DistanceHistogram::new(
                "",
                &PairDistances {
                    positive: list.clone(),
                    ..Default::default()
                },
                3,
            );
            assert_eq!(histogram.positive.iter().sum::<u64>(), list.len() as u64);
            assert!(histogram.low < histogram.high);
        }
    }

    #[test]
    fn curves_are_thinned_evenly_and_keep_their_ends() {
        let scores: Vec<f64> = (0..2000).map(|i| f64::from(i * 7919 % 2000)).collect();
        let same: Vec<bool> = (0..2000).map(|i| i % 3 == 0).collect();
        let curve = RocCurve::new("", &Roc::new(&scores, &same).unwrap(), 100);
        assert!((50..=102).contains(&curve.far.len()), "{}", curve.far.len());
        assert_eq!((curve.far[0], curve.tar[0]), (0.0, 0.0));
        assert_eq!(
            (curve.far.last(), curve.tar.last()),
            (Some(&1.0), Some(&1.0))
        );
    }

    #[test]
    fn half_of_the_queries_shown_are_wrong_ones() {
        let table = EmbeddingTable {
            vectors: (0..40).map(|i| i as f32 * 1.01f32.powi(i)).collect(),
            dim: 1,
            labels: (0..40).map(|i| if i < 20 { 0 } else { i }).collect(), // The second half finds others only.
            ids: (0..40).collect(),
        };
        let neighbors = search_within(&table, Measure::EUCLIDEAN, &Search::default()).unwrap();
        let shown = Retrieved::choose(&neighbors, 8, 5, Seed(1), |q| q as u32, |row| row as u32);
        assert_eq!(shown.len(), 8);
        assert_eq!(shown.iter().filter(|it| !it.found[0].right).count(), 4);
        assert!(shown.iter().all(|it| it.found.len() == 5));
        assert_eq!(
            Retrieved::choose(&neighbors, 100, 5, Seed(1), |q| q as u32, |r| r as u32).len(),
            40
        );
    }

    #[test]
    fn two_scatters_show_the_same_rows() {
        let table = EmbeddingTable {
            vectors: (0..300).map(|i| ((i * 37) % 101) as f32).collect(),
            dim: 3,
            labels: (0..100).collect(),
            ids: (0..100).collect(),
        };
        let scatter = Scatter::new("a", &table, 10, Seed(4), |row| Some(row as u32)).unwrap();
        assert_eq!((scatter.x.len(), scatter.of), (10, 100));
        assert_eq!(scatter.items, scatter.labels);
        assert_eq!(
            scatter.items,
            Scatter::new("b", &table, 10, Seed(4), |row| Some(row as u32))
                .unwrap()
                .items
        );
    }
}
