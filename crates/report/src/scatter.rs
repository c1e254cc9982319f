//! Embeddings in the plane as SVG.

use std::collections::BTreeMap;

use nearfar_eval::Scatter;
use serde_json::{Value, json};

use crate::escape::html;

/// The side of a picture, in its own units, and the margin around its points.
const SIDE: f64 = 480.0;
const MARGIN: f64 = 16.0;

/// How classes look: ten colors, then the same with other shapes.
#[derive(Debug)]
pub(crate) struct Looks {
    /// Place of each class, the most frequent first, and how many points it has.
    places: BTreeMap<u32, usize>,
    /// Classes in the order of places.
    pub(crate) order: Vec<u32>,
}

impl Looks {
    /// Of the classes of some scatters. Up to ten classes are in the order of their numbers, so that digits look the same in
    /// every report; more are in the order of their frequency.
    pub(crate) fn new<'a>(scatters: impl Iterator<Item = &'a Scatter>) -> Self {
        let mut counts = BTreeMap::<u32, usize>::new();
        for label in scatters.flat_map(|scatter| &scatter.labels) {
            *counts.entry(*label).or_default() += 1;
        }
        let mut order: Vec<u32> = counts.keys().copied().collect();
        if order.len() > 10 {
            order.sort_by_key(|label| (std::cmp::Reverse(counts[label]), *label));
        }
        Self {
            places: order
                .iter()
                .enumerate()
                .map(|(place, label)| (*label, place))
                .collect(),
            order,
        }
    }

    fn look(&self, label: Option<&u32>) -> (usize, usize) {
        let place = label
            .and_then(|label| self.places.get(label))
            .copied()
            .unwrap_or(0);
        (place % 10, place / 10 % SHAPES)
    }

    /// A mark of a class, for a legend.
    pub(crate) fn mark(&self, label: u32) -> String {
        let (color, shape) = self.look(Some(&label));
        let class = format!("f{color}");
        format!(
            r#"<svg viewBox="0 0 12 12" aria-hidden="true">{}</svg>"#,
            mark(&class, shape, 6.0, 6.0, 4.6)
        )
    }
}

/// Circle, square, triangle, diamond.
const SHAPES: usize = 4;

fn mark(class: &str, shape: usize, x: f64, y: f64, r: f64) -> String {
    match shape {
        0 => format!(r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="{r:.1}"/>"#),
        // Of about one area.
        1 => {
            let r = 0.89 * r;
            format!(
                r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}"/>"#,
                x - r,
                y - r,
                2.0 * r,
                2.0 * r
            )
        }
        2 => {
            let r = 1.5 * r;
            format!(
                r#"<path class="{class}" d="M{x:.1} {:.1}l{:.1} {:.1}h{:.1}z"/>"#,
                y - 0.95 * r,
                0.87 * r,
                1.5 * r,
                -1.74 * r
            )
        }
        _ => {
            let r = 1.25 * r;
            format!(
                r#"<path class="{class}" d="M{x:.1} {:.1}l{r:.1} {r:.1}l-{r:.1} {r:.1}l-{r:.1}-{r:.1}z"/>"#,
                y - r
            )
        }
    }
}

/// Draws the points that `kept` lists; gives the element, what the script needs, and how many points there are.
///
/// Both axes have one scale, because distances are what the picture is about. Points that are not finite are left out.
pub(crate) fn draw(
    id: &str,
    scatter: &Scatter,
    looks: &Looks,
    limit: usize,
) -> (String, Value, usize) {
    let all = scatter.x.len().min(scatter.y.len());
    let finite: Vec<usize> = (0..all)
        .filter(|&i| scatter.x[i].is_finite() && scatter.y[i].is_finite())
        .collect();
    // Evenly over the list, the same for lists of one length.
    let shown: Vec<usize> = if finite.len() <= limit {
        finite
    } else {
        (0..limit)
            .map(|i| finite[i * finite.len() / limit])
            .collect()
    };
    let range = |values: &[f32]| {
        let values = || shown.iter().map(|&i| f64::from(values[i]));
        (
            values().fold(f64::INFINITY, f64::min),
            values().fold(f64::NEG_INFINITY, f64::max),
        )
    };
    let ((x_low, x_high), (y_low, y_high)) = (range(&scatter.x), range(&scatter.y));
    let extent = (x_high - x_low).max(y_high - y_low);
    let scale = if extent > 0.0 {
        (SIDE - 2.0 * MARGIN) / extent
    } else {
        0.0
    };
    let place = |value: f32, low: f64, high: f64| {
        (f64::from(value) - (low + high) / 2.0) * scale + SIDE / 2.0
    };
    let radius = match shown.len() {
        0..=300 => 4.6,
        301..=1000 => 3.8,
        1001..=2500 => 3.0,
        _ => 2.4,
    };
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    let (mut xs, mut ys) = (Vec::new(), Vec::new());
    let (mut labels, mut items) = (Vec::<u32>::new(), Vec::<u32>::new());
    let mut svg = format!(
        r#"<svg class="scatter" id="{id}" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{}"><rect class="frame" x="0" y="0" width="{SIDE}" height="{SIDE}" rx="8"/>"#,
        html(&format!(
            "{}: {} points in the plane",
            scatter.name,
            shown.len()
        ))
    );
    for &i in &shown {
        let (x, y) = (
            place(scatter.x[i], x_low, x_high),
            SIDE - place(scatter.y[i], y_low, y_high),
        );
        let label = scatter.labels.get(i);
        let (color, shape) = looks.look(label);
        let class = match label {
            Some(label) => format!("pt f{color} k{label}"),
            None => format!("pt f{color}"),
        };
        svg += &mark(&class, shape, x, y, radius);
        xs.push(tenth(x));
        ys.push(tenth(y));
        labels.extend(label);
        items.extend(scatter.items.get(i));
    }
    svg += "</svg>";
    let data = json!({"id": id, "x": xs, "y": ys, "labels": labels, "items": items});
    (svg, data, shown.len())
}

/// The items that are shown when `limit` points are.
pub(crate) fn items_shown(scatter: &Scatter, limit: usize) -> Vec<u32> {
    let all = scatter.items.len();
    let kept = all.min(limit);
    (0..kept).map(|i| scatter.items[i * all / kept]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scatter(points: &[(f32, f32)], labels: &[u32]) -> Scatter {
        Scatter {
            x: points.iter().map(|point| point.0).collect(),
            y: points.iter().map(|point| point.1).collect(),
            labels: labels.to_vec(),
            ..Scatter::default()
        }
    }

    #[test]
    fn axes_have_one_scale_and_up_is_up() {
        let wide = scatter(&[(0.0, 0.0), (10.0, 1.0)], &[3, 4]);
        let (_, data, count) = draw("s", &wide, &Looks::new([&wide].into_iter()), 100);
        assert_eq!(count, 2);
        assert_eq!(data["x"], json!([16.0, 464.0]));
        assert_eq!(data["y"], json!([262.4, 217.6]));
    }

    #[test]
    fn awkward_points_are_drawn_or_left_out() {
        let odd = scatter(
            &[(f32::NAN, 0.0), (1.0, 1.0), (1.0, f32::INFINITY)],
            &[0, 0, 0],
        );
        let looks = Looks::new([&odd].into_iter());
        let (svg, _, count) = draw("s", &odd, &looks, 100);
        assert_eq!((count, svg.matches("class=\"pt").count()), (1, 1));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let empty = scatter(&[], &[]);
        assert_eq!(draw("s", &empty, &looks, 100).2, 0);
        let many = scatter(&(0..1000).map(|i| (i as f32, 0.0)).collect::<Vec<_>>(), &[]);
        assert_eq!(draw("s", &many, &looks, 64).2, 64);
    }

    #[test]
    fn many_classes_differ_in_shape() {
        let labels: Vec<u32> = (0..40).collect();
        let points: Vec<(f32, f32)> = (0..40).map(|i| (i as f32, 0.0)).collect();
        let many = scatter(&points, &labels);
        let looks = Looks::new([&many].into_iter());
        let mut marks: Vec<String> = labels.iter().map(|label| looks.mark(*label)).collect();
        marks.sort();
        marks.dedup();
        assert_eq!(marks.len(), 40);
    }
}
