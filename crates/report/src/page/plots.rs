//! The charts: how it went, and how good it is.

use std::collections::BTreeSet;

use super::{Page, grouped};
use crate::chart::{Axis, Kind, Plot, Series, thinned};
use crate::escape::shortened;
/// Colors of curves that are compared: the first is what the report is about.
const BASELINES_LAST: [usize; 10] = [0, 1, 2, 4, 3, 5, 6, 7, 8, 9];

impl Page<'_> {
    pub(super) fn curves(&mut self) {
        let mut cards = String::new();
        for chart in self.report.curves.iter().take(self.limits.entries.min(24)) {
            let series: Vec<Series> = chart
                .curves
                .iter()
                .take(10)
                .enumerate()
                .filter(|(_, curve)| !curve.steps.is_empty())
                .map(|(color, curve)| {
                    let points: Vec<(f64, f64)> = curve
                        .steps
                        .iter()
                        .copied()
                        .zip(curve.values.iter().copied())
                        .collect();
                    let kind = match points.len() {
                        0..=1 => Kind::Marked,
                        2..=40 => Kind::Marked,
                        41..=120 => Kind::Line,
                        _ => Kind::Smoothed,
                    };
                    let points = thinned(&points, self.limits.curve);
                    Series {
                        name: shortened(&curve.name, self.limits.text),
                        color,
                        points,
                        kind,
                    }
                })
                .collect();
            if series.is_empty() {
                continue;
            }
            let points = || series.iter().flat_map(|series| &series.points);
            let (x, y) = (
                spanned(points().map(|p| p.0)),
                Axis::around("", points().map(|p| p.1)),
            );
            let smooth = series.iter().any(|series| series.kind == Kind::Smoothed);
            let plot = Plot {
                id: self.next_id(),
                title: chart.title.clone(),
                x: Axis::between("step", x.0, x.1),
                y,
                series,
                chance: false,
                spot: None,
            };
            let how = if smooth {
                "each step, faint, and a running mean"
            } else {
                ""
            };
            cards += &self.card(&chart.title, how, &plot);
        }
        if !cards.is_empty() {
            let content = format!(r#"<div class="grid">{cards}</div>"#);
            self.section("training", "Training", "Training", "", &content);
        }
    }

    pub(super) fn evaluation(&mut self) {
        let mut cards = String::new();
        if !self.report.recall.is_empty() {
            cards += &self.recall();
        }
        for histogram in self
            .report
            .distances
            .iter()
            .take(self.limits.entries.min(12))
        {
            let bins = histogram.positive.len().min(histogram.negative.len());
            let wide = histogram.low < histogram.high; // Not if one is not a number.
            if bins == 0 || !wide {
                continue;
            }
            let width = (histogram.high - histogram.low) / bins as f64;
            let series = |name: &str, color, counts: &[u64]| {
                let total = counts.iter().sum::<u64>().max(1) as f64;
                let points = counts.iter().take(bins).enumerate().map(|(bin, &count)| {
                    (
                        histogram.low + (bin as f64 + 0.5) * width,
                        count as f64 / total,
                    )
                });
                Series {
                    name: name.into(),
                    color,
                    points: points.collect(),
                    kind: Kind::Steps,
                }
            };
            let series = vec![
                series("same class", 0, &histogram.positive),
                series("different classes", 1, &histogram.negative),
            ];
            let highest = series
                .iter()
                .flat_map(|series| &series.points)
                .map(|point| point.1)
                .fold(0.0, f64::max);
            let plot = Plot {
                id: self.next_id(),
                title: format!("Distances of pairs: {}", histogram.name),
                x: Axis::between("distance", histogram.low, histogram.high),
                y: Axis::around("", [0.0, highest].into_iter()),
                series,
                chance: false,
                spot: None,
            };
            let (positive, negative) = (
                histogram.positive.iter().sum::<u64>(),
                histogram.negative.iter().sum::<u64>(),
            );
            let how = format!(
                "{}: {} pairs of the same class, {} of different classes{}",
                histogram.name,
                grouped(positive),
                grouped(negative),
                if histogram.sampled { ", drawn" } else { "" }
            );
            cards += &self.card("Distances of pairs", &how, &plot);
        }
        if !self.report.roc.is_empty() {
            cards += &self.roc();
        }
        if !cards.is_empty() {
            let content = format!(r#"<div class="grid">{cards}</div>"#);
            let about = "Are things of one class nearer to one another than to others?";
            self.section("distances", "Distances", "Near and far", about, &content);
        }
    }

    pub(super) fn recall(&mut self) -> String {
        let curves = || self.report.recall.iter().take(10);
        let series: Vec<Series> = curves()
            .enumerate()
            .map(|(color, curve)| Series {
                name: shortened(&curve.name, self.limits.text),
                color: BASELINES_LAST[color],
                points: curve
                    .k
                    .iter()
                    .zip(&curve.recall)
                    .map(|(&k, &recall)| (k as f64, recall))
                    .collect(),
                kind: Kind::Marked,
            })
            .collect();
        let ks: BTreeSet<usize> = curves()
            .flat_map(|curve| curve.k.iter().copied())
            .filter(|k| *k > 0)
            .collect();
        let (low, high) = (
            ks.first().copied().unwrap_or(1) as f64,
            ks.last().copied().unwrap_or(2) as f64,
        );
        // Each k has its place on a logarithmic axis.
        let mut x = Axis::log("k", 0, 1);
        (x.low, x.high) = if low < high {
            (low, high)
        } else {
            (low / 2.0, low * 2.0)
        };
        let mut last = 0.0;
        x.ticks = ks
            .iter()
            .map(|&k| k as f64)
            .filter(|&k| {
                let room = (k / last).ln() / (x.high / x.low).ln() > 0.06;
                if room || last == 0.0 {
                    last = k;
                }
                room || last == k
            })
            .collect();
        let plot = Plot {
            id: self.next_id(),
            title: "Recall at k".into(),
            y: Axis::around(
                "",
                series
                    .iter()
                    .flat_map(|series| &series.points)
                    .map(|point| point.1),
            ),
            x,
            series,
            chance: false,
            spot: None,
        };
        let how = "share of queries with one of their class among the k nearest";
        self.card("Recall@k", how, &plot)
    }

    pub(super) fn roc(&mut self) -> String {
        let curves = || self.report.roc.iter().take(10);
        let smallest = curves()
            .map(|curve| curve.eer)
            .fold(f64::INFINITY, f64::min);
        let log = smallest < 0.1;
        let series: Vec<Series> = curves()
            .enumerate()
            .map(|(color, curve)| Series {
                name: format!(
                    "{}: AUC {:.4}",
                    shortened(&curve.name, self.limits.text),
                    curve.auc
                ),
                color: BASELINES_LAST[color],
                points: curve
                    .far
                    .iter()
                    .copied()
                    .zip(curve.tar.iter().copied())
                    .collect(),
                kind: Kind::Line,
            })
            .map(|mut series| {
                if log {
                    // What is left of the axis is where it begins.
                    let left = series.points.partition_point(|point| point.0 < 1e-4);
                    if let Some(last) = left.checked_sub(1) {
                        series.points[last].0 = 1e-4;
                        series.points.drain(..last);
                    }
                }
                series
            })
            .collect();
        let spot = match self.report.roc.first() {
            Some(curve) if curve.eer.is_finite() => Some((
                curve.eer,
                1.0 - curve.eer,
                format!("EER {:.1} %", 100.0 * curve.eer),
            )),
            _ => None,
        };
        let name = "false acceptance rate";
        let plot = Plot {
            id: self.next_id(),
            title: "Receiver operating characteristic".into(),
            x: if log {
                Axis::log(name, -4, 0)
            } else {
                Axis::between(name, 0.0, 1.0)
            },
            y: Axis::between("", 0.0, 1.0),
            series,
            chance: true,
            spot,
        };
        let mut card = self.card(
            "ROC",
            "share of pairs of the same class that are accepted",
            &plot,
        );
        if let [curve] = &self.report.roc[..] {
            card = card.replacen(
                "</svg></div>",
                &format!(
                    r#"</svg><ul class="key"><li>AUC {:.4}</li><li>EER {:.2} %</li></ul></div>"#,
                    curve.auc,
                    100.0 * curve.eer
                ),
                1,
            );
        }
        card
    }
}

/// The range of finite numbers, widened if they are all one.
fn spanned(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let low = finite.clone().fold(f64::INFINITY, f64::min);
    let high = finite.fold(f64::NEG_INFINITY, f64::max);
    match (low < high, low.is_finite()) {
        (true, _) => (low, high),
        (false, true) => (low - 0.5, low + 0.5),
        (false, false) => (0.0, 1.0),
    }
}
