//! Charts as SVG: axes with round numbers, lines, areas.

use serde_json::{Value, json};

use crate::escape::html;

/// The sizes of a chart in its own units, and where its plot is.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// A chart: axes and what is drawn between them.
#[derive(Debug)]
pub(crate) struct Plot {
    /// Of its element.
    pub(crate) id: String,
    /// What it shows, for those who do not see it.
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// A line of chance, from corner to corner.
    pub(crate) chance: bool,
    /// A point with a name.
    pub(crate) spot: Option<(f64, f64, String)>,
}

/// An axis.
#[derive(Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) log: bool,
    /// Numbers it shows.
    pub(crate) ticks: Vec<f64>,
}

/// What is drawn of one list of points.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// One of ten.
    pub(crate) color: usize,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Line,
    /// With a mark at each point.
    Marked,
    /// A line, and faintly the points it smooths.
    Smoothed,
    /// Steps with an area below, each point the middle of a step.
    Steps,
}

impl Axis {
    /// Round numbers around some values; a little more than they need.
    pub(crate) fn around(name: &str, values: impl Iterator<Item = f64> + Clone) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let low = finite.clone().fold(f64::INFINITY, f64::min);
        let high = finite.fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = match (low < high, low.is_finite()) {
            (true, _) => (low, high),
            (false, true) => (
                low - low.abs().max(1e-9) / 2.0,
                low + low.abs().max(1e-9) / 2.0,
            ),
            (false, false) => (0.0, 1.0),
        };
        // From zero, if it is near: the eye compares heights.
        let low = if low > 0.0 && low < 0.35 * high {
            0.0
        } else {
            low
        };
        let step = step(low, high, 5);
        let (low, high) = (
            (low / step + 1e-9).floor() * step,
            (high / step - 1e-9).ceil() * step,
        );
        Self::between(name, low, high)
    }

    /// From one number to another, with round ones between.
    pub(crate) fn between(name: &str, low: f64, high: f64) -> Self {
        let step = step(low, high, 5);
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        let count = (last - first).clamp(0.0, 20.0) as usize;
        Self {
            name: name.into(),
            low,
            high,
            log: false,
            ticks: (0..=count)
                .map(|i| (first + i as f64) * step + 0.0)
                .collect(),
        }
    }

    /// Powers of ten.
    pub(crate) fn log(name: &str, low_power: i32, high_power: i32) -> Self {
        Self {
            name: name.into(),
            low: 10f64.powi(low_power),
            high: 10f64.powi(high_power),
            log: true,
            ticks: (low_power..=high_power)
                .map(|power| 10f64.powi(power))
                .collect(),
        }
    }

    /// Where a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

/// 1, 2 or 5 times a power of ten, about a `count`-th of the way.
fn step(low: f64, high: f64, count: u32) -> f64 {
    let rough = (high - low) / f64::from(count);
    if !(rough > 0.0 && rough.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    let share = rough / power;
    let round = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|round| share <= round * 1.2)
        .unwrap_or(10.0);
    round * power
}

/// A number as people write it: no more digits than tell it from its neighbors on an axis.
pub(crate) fn tick(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".into()
    } else if size >= 1e6 {
        let text = format!("{:.1}", value / 1e6);
        format!("{}M", text.strip_suffix(".0").unwrap_or(&text))
    } else if size >= 1e4 {
        let text = format!("{:.1}", value / 1e3);
        format!("{}k", text.strip_suffix(".0").unwrap_or(&text))
    } else if size < 1e-4 {
        format!("{value:e}")
    } else {
        let text = format!("{value:.4}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// At most `limit` points that keep the ups and downs: of each run of points, the lowest and the highest.
pub(crate) fn thinned(points: &[(f64, f64)], limit: usize) -> Vec<(f64, f64)> {
    if points.len() <= limit {
        return points.to_vec();
    }
    let run = points.len().div_ceil((limit / 2).max(1));
    points
        .chunks(run)
        .flat_map(|run| {
            let finite = || {
                run.iter()
                    .enumerate()
                    .filter(|(_, point)| point.1.is_finite())
            };
            let low = finite().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
            let high = finite().max_by(|a, b| a.1.1.total_cmp(&b.1.1));
            match (low, high) {
                (Some((i, low)), Some((j, high))) if i < j => vec![*low, *high],
                (Some((i, low)), Some((j, high))) if i > j => vec![*high, *low],
                (Some((_, low)), _) => vec![*low],
                _ => vec![run[0]], // A gap.
            }
        })
        .collect()
}

/// At each point the mean of about `window` points around it, of fewer near the ends, so that it leans little; gaps stay
/// gaps.
pub(crate) fn smoothed(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![(0.0, 0usize)];
    for (_, y) in points {
        let (sum, count) = sums[sums.len() - 1];
        sums.push(if y.is_finite() {
            (sum + y, count + 1)
        } else {
            (sum, count)
        });
    }
    points
        .iter()
        .enumerate()
        .map(|(i, &(x, y))| {
            let last = points.len() - 1;
            let reach = i
                .min(last - i)
                .clamp(window / 6, (window / 2).max(window / 6));
            let ((low, before), (high, with)) = (
                sums[i.saturating_sub(reach)],
                sums[(i + reach).min(last) + 1],
            );
            let mean = (high - low) / (with - before).max(1) as f64;
            (x, if y.is_finite() { mean } else { y })
        })
        .collect()
}

/// The window of a running mean over so many points.
fn window(points: usize) -> usize {
    (points / 20).max(5)
}

impl Plot {
    /// As an element, and what the script needs to say what is under the pointer.
    pub(crate) fn draw(&self) -> (String, Value) {
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = |value: f64| LEFT + self.x.share(value) * width;
        let y = |value: f64| TOP + (1.0 - self.y.share(value)) * height;
        let mut svg = format!(
            r#"<svg id="{}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            self.id,
            html(&self.title)
        );
        let bottom = TOP + height;
        for &value in &self.y.ticks {
            let at = y(value);
            svg += &format!(
                r#"<line class="grid-line" x1="{LEFT}" x2="{:.1}" y1="{at:.1}" y2="{at:.1}"/>"#,
                LEFT + width
            );
            svg += &format!(
                r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                at + 4.0,
                tick(value)
            );
        }
        svg += &format!(
            r#"<line class="axis" x1="{LEFT}" x2="{:.1}" y1="{bottom:.1}" y2="{bottom:.1}"/>"#,
            LEFT + width
        );
        for &value in &self.x.ticks {
            let at = x(value);
            svg += &format!(
                r#"<line class="axis" x1="{at:.1}" x2="{at:.1}" y1="{bottom:.1}" y2="{:.1}"/>"#,
                bottom + 4.0
            );
            svg += &format!(
                r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                bottom + 18.0,
                tick(value)
            );
        }
        svg += &format!(
            r#"<text class="name" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT + width,
            HEIGHT - 8.0,
            html(&self.x.name)
        );
        if self.chance {
            // On a logarithmic axis the line of chance bends.
            let points: Vec<(f64, f64)> = (0..=40)
                .map(|i| {
                    let share = f64::from(i) / 40.0;
                    let value = if self.x.log {
                        self.x.low * (self.x.high / self.x.low).powf(share)
                    } else {
                        share
                    };
                    (value, value)
                })
                .collect();
            svg += &format!(
                r#"<path class="chance" fill="none" d="{}"/>"#,
                path(&points, x, y)
            );
        }
        for series in &self.series {
            let color = series.color % 10;
            match series.kind {
                Kind::Line | Kind::Marked => {
                    svg += &format!(
                        r#"<path class="line s{color}" d="{}"/>"#,
                        path(&series.points, x, y)
                    );
                }
                Kind::Smoothed => {
                    svg += &format!(
                        r#"<path class="raw s{color}" d="{}"/>"#,
                        path(&thinned(&series.points, 600), x, y)
                    );
                    let smooth = smoothed(&series.points, window(series.points.len()));
                    svg += &format!(
                        r#"<path class="line s{color}" d="{}"/>"#,
                        path(&thinned(&smooth, 300), x, y)
                    );
                }
                Kind::Steps => {
                    svg += &format!(
                        r#"<path class="area s{color} f{color}" d="{}"/>"#,
                        steps(&series.points, x, y, bottom)
                    );
                }
            }
            // A single point has no line.
            if series.kind == Kind::Marked
                || (series.kind != Kind::Steps && series.points.len() == 1)
            {
                for point in series.points.iter().filter(|point| point.1.is_finite()) {
                    svg += &format!(
                        r#"<circle class="spot f{color}" cx="{:.1}" cy="{:.1}" r="4"/>"#,
                        x(point.0),
                        y(point.1)
                    );
                }
            }
        }
        if let Some((at, value, name)) = &self.spot {
            let (cx, cy) = (x(*at), y(*value));
            let (dx, anchor) = if cx > LEFT + 0.8 * width {
                (-10.0, "end")
            } else {
                (10.0, "start")
            };
            svg += &format!(r#"<circle class="spot ink" cx="{cx:.1}" cy="{cy:.1}" r="5"/>"#);
            svg += &format!(
                r#"<text x="{:.1}" y="{:.1}" text-anchor="{anchor}">{}</text>"#,
                cx + dx,
                cy + 18.0,
                html(name)
            );
        }
        svg += "</svg>";
        let axis = |axis: &Axis| json!([axis.low, axis.high, axis.log]);
        let series: Vec<Value> = self
            .series
            .iter()
            .map(|series| {
                let points = match series.kind {
                    Kind::Smoothed => {
                        thinned(&smoothed(&series.points, window(series.points.len())), 300)
                    }
                    _ => series.points.clone(),
                };
                let rounded = |value: f64| value.is_finite().then(|| significant(value));
                json!({
                    "name": series.name, "color": series.color % 10,
                    "x": points.iter().map(|point| significant(point.0)).collect::<Vec<_>>(),
                    "y": points.iter().map(|point| rounded(point.1)).collect::<Vec<_>>(),
                })
            })
            .collect();
        let data = json!({
            "id": self.id, "name": self.x.name, "plot": [LEFT, TOP, width, height],
            "x": axis(&self.x), "y": axis(&self.y), "series": series,
        });
        (svg, data)
    }

    /// The key to the colors, if there is more than one.
    pub(crate) fn key(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let entries = self.series.iter().map(|series| {
            format!(
                r#"<li><svg viewBox="0 0 12 12" aria-hidden="true"><circle class="f{}" cx="6" cy="6" r="5"/></svg><bdi>{}</bdi></li>"#,
                series.color % 10,
                html(&series.name)
            )
        });
        format!(r#"<ul class="key">{}</ul>"#, entries.collect::<String>())
    }
}

/// Six digits: more than a screen has, and shorter.
fn significant(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn path(points: &[(f64, f64)], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    for &(at, value) in points {
        if value.is_finite() && at.is_finite() {
            path += &format!("{pen}{:.1} {:.1}", x(at), y(value));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    path
}

/// Steps between the middles of neighbors, down to the bottom at both ends.
fn steps(
    points: &[(f64, f64)],
    x: impl Fn(f64) -> f64,
    y: impl Fn(f64) -> f64,
    bottom: f64,
) -> String {
    let Some((first, last)) = points.first().zip(points.last()) else {
        return String::new();
    };
    let width = (last.0 - first.0) / (points.len() as f64 - 1.0).max(1.0);
    let mut path = format!("M{:.1} {bottom:.1}", x(first.0 - width / 2.0));
    for (at, value) in points {
        path += &format!(
            "L{:.1} {:.1}H{:.1}",
            x(at - width / 2.0),
            y(*value),
            x(at + width / 2.0)
        );
    }
    path + &format!("V{bottom:.1}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        let axis = |values: &[f64]| Axis::around("", values.iter().copied());
        assert_eq!(
            axis(&[0.13, 0.97])
                .ticks
                .iter()
                .map(|x| tick(*x))
                .collect::<Vec<_>>(),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            axis(&[880.0, 1000.0]).ticks,
            [880.0, 900.0, 920.0, 940.0, 960.0, 980.0, 1000.0]
        );
        let same = axis(&[3.0, 3.0]);
        assert!(same.low < 3.0 && same.high > 3.0);
        let none = axis(&[f64::NAN]);
        assert_eq!((none.low, none.high), (0.0, 1.0));
        for values in [[1e-30, 2e-30], [-1e30, 1e30], [0.0, 0.0], [-5.0, -4.0]] {
            let axis = axis(&values);
            let slack = 1e-9 * values[1].abs();
            assert!(
                axis.low <= values[0] + slack
                    && axis.high >= values[1] - slack
                    && axis.ticks.len() < 22,
                "{axis:?}"
            );
        }
        assert_eq!(Axis::log("", -2, 0).ticks.len(), 3);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [12_000.0, 1.5e6, 0.25, 1e-6, -300.0, 0.1 + 0.2].map(tick);
        assert_eq!(texts, ["12k", "1.5M", "0.25", "1e-6", "-300", "0.3"]);
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 0.0)).collect();
        points[500].1 = 9.0;
        points[501].1 = -9.0;
        let thin = thinned(&points, 100);
        assert!(thin.len() <= 100);
        assert!(thin.contains(&(500.0, 9.0)) && thin.contains(&(501.0, -9.0)));
        assert!(thin.is_sorted_by(|a, b| a.0 < b.0));
        let line: Vec<(f64, f64)> = (0..50).map(|i| (f64::from(i), f64::from(i))).collect();
        assert_eq!(
            smoothed(&line, 10)[1..49],
            line[1..49],
            "a running mean does not lag"
        );
        assert_eq!(
            smoothed(&[(0.0, 2.0), (1.0, f64::NAN), (2.0, 2.0)], 5)[2],
            (2.0, 2.0)
        );
    }

    #[test]
    fn a_gap_is_a_gap() {
        let points = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, 4.0)];
        assert_eq!(path(&points, |x| x, |y| y), "M0.0 1.0M2.0 3.0L3.0 4.0");
        assert_eq!(steps(&[], |x| x, |y| y, 0.0), "");
    }
}
