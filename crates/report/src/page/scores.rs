//! The tables of scores.

use nearfar_eval::{ScoreRow, ScoreTable};

use super::{Limits, Page};
use crate::escape::{html, shortened};

impl Page<'_> {
    pub(super) fn scores(&mut self) {
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
}

/// A score with as many digits as say something.
pub(super) fn score(value: f64) -> String {
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
pub(super) fn figure(table: &ScoreTable, row: &ScoreRow, limits: Limits) -> Option<String> {
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
