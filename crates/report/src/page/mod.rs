//! The page: one file, with nothing from outside.

use std::collections::{BTreeMap, BTreeSet};

use nearfar_eval::{Item, Report};
use serde_json::{Value, json};

use crate::chart::Plot;
use crate::escape::{html, json as script_json, shortened};
use crate::scatter::{Looks, items_shown};
use crate::sprite::{Sprite, sprite};

mod items;
mod plots;
mod scores;

use scores::figure;

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

const STYLE: &str = include_str!("../style.css");
const DARK: &str = include_str!("../dark.css");
const SCRIPT: &str = include_str!("../script.js");

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
