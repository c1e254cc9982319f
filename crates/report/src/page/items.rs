//! What is shown of single items: the map, and what queries find.

use super::{Page, grouped};
use crate::escape::{html, shortened};
use crate::scatter::draw as draw_scatter;

impl Page<'_> {
    pub(super) fn map(&mut self) {
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

    pub(super) fn legend(&self) -> String {
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
    pub(super) fn class(&self, label: u32) -> String {
        match self.report.class_names.get(&label) {
            Some(name) if !name.is_empty() => shortened(name, self.limits.text),
            _ => label.to_string(),
        }
    }

    /// An item's picture or text.
    pub(super) fn cell(&self, item: u32, mark: &str) -> String {
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

    pub(super) fn who(&self, item: u32) -> String {
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

    pub(super) fn gallery(&mut self) {
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
}
