//! The page: one file, with nothing from outside.

use std::collections::{BTreeMap, BTreeSet};

use nearfar_eval::{Item, Report, ScoreRow, ScoreTable};
use serde_json::{Value, json};

use crate::chart::{Axis, Kind, Plot, Series, thinned};
use crate::escape::{html, json as script_json, shortened};
use crate::scatter::{Looks, draw as draw_scatter, items_shown};
use crate::sprite::{Sprite, sprite};

/// The largest page, in bytes.
pub const LARGEST_PAGE: usize = 3_000_000;

/// How much of a report a page shows.
#[derive(Clone, Copy, Debug)]
struct Limits {
    points: usize,
    queries: usize,
    hits: usize,
    pictures: usize,
    curve: usize,
    text: usize,
    configuration: usize,
    entries: usize,
}

impl Limits {
    const FIRST: Self = Self {
        points: 2500,
        queries: 24,
        hits: 12,
        pictures: 1_500_000,
        curve: 2000,
        text: 240,
        configuration: 100_000,
        entries: 200,
    };

    fn halved(self) -> Self {
        Self {
            points: (self.points / 2).max(50),
            queries: (self.queries / 2).max(1),
            hits: (self.hits / 2).max(3),
            pictures: self.pictures / 2,
            curve: (self.curve / 2).max(50),
            text: (self.text / 2).max(20),
            configuration: self.configuration / 2,
            entries: (self.entries / 2).max(5),
        }
    }
}

/// A report as one HTML page that needs nothing else: no server, no network, no other file.
///
/// The page is at most about [`LARGEST_PAGE`] bytes: of large reports it shows a part, and says so. All text of the report
/// is shown as text, whatever is in it.
///
/// ```
/// use nearfar_eval::{Interval, Report, ScoreRow, ScoreTable};
///
/// let row = ScoreRow { name: "Recall@1".into(), higher_is_better: true, values: vec![Some(Interval::single(0.9))] };
/// let report = Report {
///     title: "digits <1>".into(),
///     scores: vec![ScoreTable { title: "Test".into(), columns: vec!["learned".into()], rows: vec![row] }],
///     ..Report::default()
/// };
/// let page = nearfar_report::html(&report);
/// assert!(page.contains("digits &lt;1&gt;") && page.contains("0.900"));
/// ```
pub fn page(report: &Report) -> String {
    let mut limits = Limits::FIRST;
    // Every halving makes the page about half as large; what is left after eight is small, whatever the report.
    for _ in 0..8 {
        let page = render(report, limits);
        if page.len() <= LARGEST_PAGE {
            return page;
        }
        limits = limits.halved();
    }
    render(report, limits)
}

/// A page while it is written.
struct Page<'a> {
    report: &'a Report,
    limits: Limits,
    sprite: Option<Sprite>,
    looks: Looks,
    body: String,
    /// Sections there are, for the head of the page.
    sections: Vec<(&'static str, &'static str)>,
    charts: Vec<Value>,
    scatters: Vec<Value>,
    /// What a reader should know of the page itself.
    notes: Vec<String>,
}

fn render(report: &Report, limits: Limits) -> String {
    let queries = &report.retrieved[..report.retrieved.len().min(limits.queries)];
    let of_queries = queries.iter().flat_map(|query| {
        let found = query.found.iter().take(limits.hits).map(|hit| hit.item);
        std::iter::once(query.query).chain(found)
    });
    let of_points = report
        .scatters
        .iter()
        .flat_map(|scatter| items_shown(scatter, limits.points));
    let mut wanted = Vec::new();
    let mut seen = BTreeSet::new();
    for item in of_queries.chain(of_points) {
        if (item as usize) < report.items.len() && seen.insert(item) {
            wanted.push(item);
        }
    }
    let mut page = Page {
        report,
        limits,
        sprite: sprite(&report.items, &wanted, limits.pictures),
        looks: Looks::new(report.scatters.iter()),
        body: String::new(),
        sections: Vec::new(),
        charts: Vec::new(),
        scatters: Vec::new(),
        notes: Vec::new(),
    };
    page.scores();
    page.curves();
    page.evaluation();
    page.map();
    page.gallery();
    page.setup();
    page.finish(&wanted)
}

impl Page<'_> {
    fn section(
        &mut self,
        id: &'static str,
        short: &'static str,
        title: &str,
        about: &str,
        content: &str,
    ) {
        self.sections.push((id, short));
        let about = if about.is_empty() {
            String::new()
        } else {
            format!(r#"<p class="about">{about}</p>"#)
        };
        self.body += &format!(r#"<section id="{id}"><h2>{title}</h2>{about}{content}</section>"#);
    }

    fn scores(&mut self) {
        let tables: Vec<String> = self
            .report
            .scores
            .iter()
            .filter(|table| !table.rows.is_empty())
            .take(self.limits.entries)
            .map(|table| score_table(table, self.limits))
            .collect();
        if tables.is_empty() {
            return;
        }
        let several = self
            .report
            .scores
            .iter()
            .flat_map(|table| &table.rows)
            .flat_map(|row| &row.values);
        let count = several
            .flatten()
            .map(|interval| interval.count)
            .max()
            .unwrap_or(1);
        let about = if count > 1 {
            format!(
                "Means of {count} runs with other seeds, with 95 % confidence intervals. The best of each row is bold."
            )
        } else {
            "The best of each row is bold.".into()
        };
        let content = format!(r#"<div class="tables">{}</div>"#, tables.concat());
        self.section("scores", "Scores", "Scores", &about, &content);
    }

    /// A chart in a card.
    fn card(&mut self, title: &str, how: &str, plot: &Plot) -> String {
        let (svg, data) = plot.draw();
        self.charts.push(data);
        let how = if how.is_empty() {
            String::new()
        } else {
            format!(r#"<p class="how">{}</p>"#, html(how))
        };
        format!(
            r#"<div class="card"><h3><bdi>{}</bdi></h3>{how}{svg}{}</div>"#,
            html(title),
            plot.key()
        )
    }

    fn next_id(&self) -> String {
        format!("chart-{}", self.charts.len())
    }

    fn curves(&mut self) {
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

    fn evaluation(&mut self) {
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

    fn recall(&mut self) -> String {
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

    fn roc(&mut self) -> String {
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

    fn map(&mut self) {
        let mut cards = String::new();
        for scatter in self.report.scatters.iter().take(self.limits.entries.min(6)) {
            if scatter.x.is_empty() {
                continue;
            }
            let id = format!("scatter-{}", self.scatters.len());
            let (svg, data, count) = draw_scatter(&id, scatter, &self.looks, self.limits.points);
            self.scatters.push(data);
            if count < scatter.of {
                self.notes.push(format!(
                    "“{}” shows {} of {} points.",
                    shortened(&scatter.name, self.limits.text),
                    grouped(count as u64),
                    grouped(scatter.of as u64)
                ));
            }
            cards += &format!(
                r#"<div class="card"><h3><bdi>{}</bdi></h3><p class="how">{}</p>{svg}</div>"#,
                html(&scatter.name),
                html(&scatter.how)
            );
        }
        if cards.is_empty() {
            return;
        }
        let legend = self.legend();
        let about = if self.looks.order.is_empty() {
            "Rest on a point to see what it is."
        } else {
            "Rest on a point to see what it is, on a class to see it alone; press a class to take it away."
        };
        let content = format!(r#"{legend}<div class="grid">{cards}</div>"#);
        self.section("map", "Map", "Map of the embedding", about, &content);
    }

    fn legend(&self) -> String {
        const SHOWN: usize = 24;
        let order = &self.looks.order;
        if order.is_empty() {
            return String::new();
        }
        let mut legend = String::from(r#"<div class="legend" role="group" aria-label="Classes">"#);
        for &label in order.iter().take(SHOWN) {
            legend += &format!(
                r#"<button type="button" data-class="{label}" aria-pressed="true">{}<span><bdi>{}</bdi></span></button>"#,
                self.looks.mark(label),
                html(&self.class(label))
            );
        }
        if order.len() > SHOWN {
            legend += &format!(
                r#"<span class="more">and {} more</span>"#,
                order.len() - SHOWN
            );
            legend += r#"<label><span class="offscreen">Find a class</span><input id="find-class" type="search" placeholder="Find a class" autocomplete="off"></label>"#;
        }
        legend + "</div>"
    }

    /// A class's name.
    fn class(&self, label: u32) -> String {
        match self.report.class_names.get(&label) {
            Some(name) if !name.is_empty() => shortened(name, self.limits.text),
            _ => label.to_string(),
        }
    }

    /// An item's picture or text.
    fn cell(&self, item: u32, mark: &str) -> String {
        let known = self.report.items.get(item as usize);
        let cell = self
            .sprite
            .as_ref()
            .and_then(|sprite| Some((sprite, sprite.cells.get(&item)?)));
        match (cell, known) {
            (Some((sprite, cell)), _) => format!(
                r#"<div class="cell"><i class="th" style="--x:{};--y:{}"></i>{mark}</div>"#,
                cell % sprite.columns,
                cell / sprite.columns
            ),
            (None, Some(item)) if !item.text.is_empty() => {
                format!(
                    r#"<div class="cell text" dir="auto">{}{mark}</div>"#,
                    html(&shortened(&item.text, self.limits.text))
                )
            }
            _ => format!(r#"<div class="cell text">{item}{mark}</div>"#),
        }
    }

    fn who(&self, item: u32) -> String {
        let label = self
            .report
            .items
            .get(item as usize)
            .and_then(|item| item.label);
        label.map_or(String::new(), |label| {
            let name = html(&self.class(label));
            format!(r#"<span class="who" title="{name}"><bdi>{name}</bdi></span>"#)
        })
    }

    fn gallery(&mut self) {
        let shown = &self.report.retrieved[..self.report.retrieved.len().min(self.limits.queries)];
        if shown.is_empty() {
            return;
        }
        let texts = self.sprite.is_none();
        let mut rows = String::new();
        for query in shown {
            let mut hits = String::new();
            for hit in query.found.iter().take(self.limits.hits) {
                let (class, mark, word) = if hit.right {
                    ("right", "✓", "right")
                } else {
                    ("wrong", "✗", "wrong")
                };
                let mark =
                    format!(r#"<span class="mark" aria-label="{word}" role="img">{mark}</span>"#);
                let far = if hit.distance.is_finite() {
                    format!("{:.3}", hit.distance)
                } else {
                    "–".into()
                };
                hits += &format!(
                    r#"<li class="{class}">{}{}<span class="far">{far}</span></li>"#,
                    self.cell(hit.item, &mark),
                    self.who(hit.item)
                );
            }
            rows += &format!(
                r#"<div class="card q"><div class="query">{}{}</div><ol class="hits">{hits}</ol></div>"#,
                self.cell(query.query, ""),
                self.who(query.query)
            );
        }
        if shown.len() < self.report.retrieved.len() {
            self.notes.push(format!(
                "{} of {} queries are shown.",
                shown.len(),
                self.report.retrieved.len()
            ));
        }
        let about = "Queries, with a blue border, and what was found nearest to them, with the distance. Half of them were chosen because their nearest neighbor is wrong, as far as there are such queries.";
        let content = format!(
            r#"<div class="queries{}">{rows}</div>"#,
            if texts { " text-items" } else { "" }
        );
        self.section("examples", "Examples", "What is found", about, &content);
    }

    fn setup(&mut self) {
        if let Some(sprite) = &self.sprite
            && sprite.left_out > 0
        {
            self.notes.push(format!(
                "{} of {} pictures are shown; the page would be too large with all of them.",
                grouped(sprite.cells.len() as u64),
                grouped((sprite.cells.len() + sprite.left_out) as u64)
            ));
        }
        let mut content = String::new();
        let notes: Vec<&String> = self
            .report
            .notes
            .iter()
            .take(self.limits.entries)
            .chain(&self.notes)
            .collect();
        if !notes.is_empty() {
            let notes = notes
                .iter()
                .map(|note| format!("<li>{}</li>", html(&shortened(note, 4 * self.limits.text))));
            content += &format!(
                r#"<ul class="notes">{}</ul><p></p>"#,
                notes.collect::<String>()
            );
        }
        if !self.report.configuration.is_empty() {
            let text = shortened(&self.report.configuration, self.limits.configuration);
            content += &format!(
                r#"<details id="configuration"><summary>Configuration</summary><pre>{}</pre></details>"#,
                html(&text)
            );
        }
        if !self.report.environment.is_empty() {
            content += &format!(
                r#"<details><summary>Environment</summary>{}</details>"#,
                pairs("pairs", &self.report.environment, self.limits)
            );
        }
        if !content.is_empty() {
            self.section("setup", "Setup", "Notes and setup", "", &content);
        }
    }

    fn hero(&self) -> String {
        let report = self.report;
        let mut hero = format!(
            r#"<div class="hero"><p class="kicker">Embedding report</p><h1><bdi>{}</bdi></h1>"#,
            html(&shortened(title(report), 2 * self.limits.text))
        );
        if !report.summary.is_empty() {
            hero += &format!(
                r#"<p class="lede">{}</p>"#,
                html(&shortened(&report.summary, 4 * self.limits.text))
            );
        }
        if !report.facts.is_empty() {
            let facts =
                report
                    .facts
                    .iter()
                    .take(self.limits.entries.min(12))
                    .map(|(name, value)| {
                        format!(
                            "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>",
                            html(&shortened(name, self.limits.text)),
                            html(&shortened(value, self.limits.text))
                        )
                    });
            hero += &format!(r#"<dl class="facts">{}</dl>"#, facts.collect::<String>());
        }
        if let Some(table) = report.scores.iter().find(|table| !table.rows.is_empty()) {
            let figures = table
                .rows
                .iter()
                .take(4)
                .filter_map(|row| figure(table, row, self.limits));
            hero += &format!(
                r#"<div class="figures">{}</div>"#,
                figures.collect::<String>()
            );
        }
        hero + "</div>"
    }

    fn finish(self, wanted: &[u32]) -> String {
        let hero = self.hero();
        let sprite = self.sprite.as_ref();
        let mut style = STYLE.replace("/*DARK*/", DARK);
        if let Some(sprite) = sprite {
            // Small pictures keep their pixels when they are shown larger.
            let rendering = if sprite.cell <= 32 {
                "pixelated"
            } else {
                "auto"
            };
            style += &format!(
                ":root{{--columns:{};--rows:{}}}.th{{background-image:url({});image-rendering:{rendering}}}",
                sprite.columns, sprite.rows, sprite.url
            );
        }
        let items: BTreeMap<String, Value> = wanted
            .iter()
            .filter_map(|&index| {
                let item: &Item = self.report.items.get(index as usize)?;
                let mut entry = serde_json::Map::new();
                if !item.text.is_empty() {
                    entry.insert("t".into(), shortened(&item.text, self.limits.text).into());
                }
                if let Some(label) = item.label {
                    entry.insert("l".into(), label.into());
                }
                if let Some(cell) = sprite.and_then(|sprite| sprite.cells.get(&index)) {
                    entry.insert("c".into(), (*cell).into());
                }
                Some((index.to_string(), entry.into()))
            })
            .collect();
        let labels: BTreeSet<u32> = self
            .looks
            .order
            .iter()
            .copied()
            .chain(
                wanted
                    .iter()
                    .filter_map(|&index| self.report.items.get(index as usize)?.label),
            )
            .collect();
        let classes: BTreeMap<String, String> = labels
            .iter()
            .filter(|label| self.report.class_names.contains_key(label))
            .map(|&label| (label.to_string(), self.class(label)))
            .collect();
        let data = json!({
            "charts": self.charts, "scatters": self.scatters, "items": items, "classes": classes,
            "shown": self.looks.order, "columns": sprite.map_or(1, |sprite| sprite.columns),
        });
        let links = self
            .sections
            .iter()
            .map(|(id, name)| format!(r##"<a href="#{id}">{name}</a>"##));
        format!(
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<meta name="generator" content="nearfar {version}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<div id="error" role="alert" hidden></div>
<div class="top"><div><span class="brand">nearfar</span><nav aria-label="Sections">{links}</nav><button id="theme" type="button" hidden>Theme</button></div></div>
<main>
{hero}
{body}
<footer>Made by nearfar {version}. This page is one file and loads nothing.</footer>
</main>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">{data}</script>
<script>
{SCRIPT}
</script>
</body>
</html>
"#,
            version = env!("CARGO_PKG_VERSION"),
            title = html(&shortened(title(self.report), 100)),
            links = links.collect::<String>(),
            body = self.body,
            data = script_json(&data),
        )
    }
}

const STYLE: &str = include_str!("style.css");
const DARK: &str = include_str!("dark.css");
const SCRIPT: &str = include_str!("script.js");

/// Colors of curves that are compared: the first is what the report is about.
const BASELINES_LAST: [usize; 10] = [0, 1, 2, 4, 3, 5, 6, 7, 8, 9];

fn title(report: &Report) -> &str {
    if report.title.is_empty() {
        "Embeddings"
    } else {
        &report.title
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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

fn pairs(class: &str, entries: &[(String, String)], limits: Limits) -> String {
    let entries = entries.iter().take(limits.entries).map(|(name, value)| {
        format!(
            "<dt>{}</dt><dd>{}</dd>",
            html(&shortened(name, limits.text)),
            html(&shortened(value, 4 * limits.text))
        )
    });
    format!(
        r#"<dl class="{class}">{}</dl>"#,
        entries.collect::<String>()
    )
}

/// A score with as many digits as say something.
fn score(value: f64) -> String {
    let size = value.abs();
    if size < 10.0 {
        format!("{value:.3}")
    } else if size < 1000.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4e}")
    }
}

fn score_table(table: &ScoreTable, limits: Limits) -> String {
    let columns = table.columns.len().min(12);
    let heads = table.columns[..columns].iter().map(|column| {
        format!(
            "<th scope=\"col\"><bdi>{}</bdi></th>",
            html(&shortened(column, limits.text))
        )
    });
    let mut rows = String::new();
    for row in table.rows.iter().take(limits.entries) {
        let value = |column: usize| {
            row.values
                .get(column)
                .copied()
                .flatten()
                .filter(|it| it.mean.is_finite())
        };
        let means = || (0..columns).filter_map(value).map(|interval| interval.mean);
        let best = if row.higher_is_better {
            means().fold(f64::NEG_INFINITY, f64::max)
        } else {
            means().fold(f64::INFINITY, f64::min)
        };
        let bars = means().all(|mean| (0.0..=1.0).contains(&mean));
        rows += &format!(
            "<tr><th scope=\"row\"><bdi>{}</bdi>{}</th>",
            html(&shortened(&row.name, limits.text)),
            if row.higher_is_better {
                ""
            } else {
                r#"<span class="lower">lower is better</span>"#
            }
        );
        for column in 0..columns {
            let Some(interval) = value(column) else {
                rows += "<td>–</td>";
                continue;
            };
            let class = if columns > 1 && score(interval.mean) == score(best) {
                r#" class="best""#
            } else {
                ""
            };
            let width = interval.half_width.filter(|width| width.is_finite());
            let plus = width.map_or(String::new(), |width| {
                format!(r#" <span class="pm">± {}</span>"#, score(width))
            });
            let bar = if bars {
                format!(
                    r#"<span class="bar"><i style="--v:{:.4}"></i></span>"#,
                    interval.mean
                )
            } else {
                String::new()
            };
            rows += &format!("<td{class}>{}{plus}{bar}</td>", score(interval.mean));
        }
        rows += "</tr>";
    }
    format!(
        r#"<div class="card scroll"><table><caption><bdi>{}</bdi></caption><thead><tr><th scope="col"></th>{}</tr></thead><tbody>{rows}</tbody></table></div>"#,
        html(&shortened(&table.title, limits.text)),
        heads.collect::<String>()
    )
}

/// A row of the first table, large: the last column, and the others to compare with.
fn figure(table: &ScoreTable, row: &ScoreRow, limits: Limits) -> Option<String> {
    let last = table.columns.len().checked_sub(1)?;
    let value = |column: usize| {
        row.values
            .get(column)
            .copied()
            .flatten()
            .filter(|it| it.mean.is_finite())
    };
    let own = value(last)?;
    let width = own.half_width.filter(|width| width.is_finite());
    let plus = width.map_or(String::new(), |width| {
        format!(" <small>± {}</small>", score(width))
    });
    let others = (0..last).filter_map(|column| {
        let name = html(&shortened(&table.columns[column], limits.text));
        Some(format!(
            "<li><bdi>{name}</bdi><span>{}</span></li>",
            score(value(column)?.mean)
        ))
    });
    Some(format!(
        r#"<div class="figure"><h3><bdi>{}</bdi></h3><div class="big">{}{plus}</div><ul>{}</ul></div>"#,
        html(&shortened(&row.name, limits.text)),
        score(own.mean),
        others.take(3).collect::<String>()
    ))
}
