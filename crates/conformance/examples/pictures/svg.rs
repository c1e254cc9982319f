//! What all pictures are drawn with: a page with colors for light and dark, text, arrows, and the plane of two distances.

use std::fmt::Write as _;

use crate::contour::{Grid, regions};

/// Width of every picture; the text column of a page is about as wide.
pub(crate) const WIDTH: f64 = 880.0;

/// Classes of colors. The picture has a background of its own, so that it can be read wherever it is shown.
const STYLE: &str = "\
svg{--paper:#fff;--card:#f7f8fa;--ink:#1d1f22;--soft:#5a606b;--line:#c9ced6;--grid:#e6e9ee;--shade:#6a51c7;--near:#0072b2;--far:#c8500a;--mark:#0a7d5a}\
@media(prefers-color-scheme:dark){svg{--paper:#0d1117;--card:#151a21;--ink:#e9edf2;--soft:#a3abb6;--line:#444c57;--grid:#272e37;--shade:#9b8cff;--near:#58b2f0;--far:#f5894a;--mark:#35c796}}\
text{font-family:ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue','DejaVu Sans',Arial,sans-serif;font-size:12px;fill:var(--ink)}\
.paper{fill:var(--paper)}.card{fill:var(--card)}.soft{fill:var(--soft)}.title{font-weight:600;font-size:13px}.head{font-weight:600;font-size:15px}.small{font-size:11px}\
.mono{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace}\
.near{fill:var(--near)}.far{fill:var(--far)}.mark{fill:var(--mark)}.end{text-anchor:end}.middle{text-anchor:middle}\
.line{fill:none;stroke:var(--line);stroke-width:1}.grid{fill:none;stroke:var(--grid);stroke-width:1}.dash{fill:none;stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}\
.arrow{fill:none;stroke:var(--ink);stroke-width:1.25;stroke-linejoin:round}.still{fill:none;stroke:var(--soft);stroke-width:1.8;stroke-linecap:round;opacity:.55}\
.mark-line{fill:none;stroke:var(--mark);stroke-width:1.2}.shade{fill:var(--shade);fill-opacity:.16}\
.to-near{fill:none;stroke:var(--near);stroke-width:2}.from-far{fill:none;stroke:var(--far);stroke-width:2}.to-far{fill:none;stroke:var(--far);stroke-width:2;stroke-dasharray:5 3}\
.dots{fill:none;stroke-linecap:round}.rest{stroke:var(--soft);stroke-width:2.2;opacity:.42}.taken{stroke:var(--far);stroke-width:3.6}.odd{stroke:var(--near);stroke-width:3.6}\
.ring{fill:none;stroke:var(--ink);stroke-width:1.6}.ink{fill:var(--ink)}.tile{fill:var(--paper);stroke:var(--line)}";

/// A picture that is being drawn.
pub(crate) struct Svg {
    height: f64,
    title: String,
    body: String,
}

/// A number with a tenth, and no more digits than it needs.
pub(crate) fn n(value: f64) -> String {
    let text = format!("{:.1}", value + 0.0);
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" {
        "0".into()
    } else {
        text.into()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Svg {
    /// An empty picture of a height. Its title is for those who do not see it.
    pub(crate) fn new(title: &str, height: f64) -> Self {
        Self {
            height,
            title: title.into(),
            body: String::new(),
        }
    }

    /// Elements as they are.
    pub(crate) fn raw(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// Text at a place, with classes.
    pub(crate) fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let class = if class.is_empty() {
            String::new()
        } else {
            format!(r#" class="{class}""#)
        };
        let (x, y) = (n(x), n(y));
        self.raw(&format!(
            r#"<text x="{x}" y="{y}"{class}>{}</text>"#,
            escaped(text)
        ));
    }

    /// A line through points.
    pub(crate) fn line(&mut self, class: &str, points: &[(f64, f64)]) {
        self.raw(&format!(
            r#"<path class="{class}" d="{}"/>"#,
            polyline(points)
        ));
    }

    pub(crate) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let (x, y, width, height) = (n(x), n(y), n(width), n(height));
        self.raw(&format!(
            r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
        ));
    }

    pub(crate) fn circle(&mut self, class: &str, (x, y): (f64, f64), radius: f64) {
        let (x, y, radius) = (n(x), n(y), n(radius));
        self.raw(&format!(
            r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"/>"#
        ));
    }

    /// The file.
    pub(crate) fn finish(self) -> String {
        let Self {
            height,
            title,
            body,
        } = self;
        let (width, height, title) = (n(WIDTH), n(height), escaped(&title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n{body}</svg>\n"
        )
    }
}

/// The path through points.
pub(crate) fn polyline(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, &(x, y)) in points.iter().enumerate() {
        let pen = if index == 0 { 'M' } else { 'L' };
        write!(path, "{pen}{} {}", n(x), n(y)).expect("a string");
    }
    path
}

/// The path of an arrow, with its head.
pub(crate) fn arrow((x, y): (f64, f64), (dx, dy): (f64, f64), head: f64) -> String {
    let length = dx.hypot(dy).max(1e-9);
    let (ux, uy) = (dx / length, dy / length);
    let (tip_x, tip_y) = (x + dx, y + dy);
    let side = |turn: f64| {
        (
            tip_x - head * (ux - turn * 0.55 * uy),
            tip_y - head * (uy + turn * 0.55 * ux),
        )
    };
    polyline(&[(x, y), (tip_x, tip_y)]) + &polyline(&[side(1.0), (tip_x, tip_y), side(-1.0)])
}

/// The plane of two distances in a picture: to the positive from left to right, to the negative from below up.
pub(crate) struct Plane {
    /// Left and top.
    pub(crate) corner: (f64, f64),
    /// Side.
    pub(crate) side: f64,
}

/// The largest distance of two rows of length 1.
pub(crate) const FARTHEST: f64 = 2.0;

impl Plane {
    pub(crate) fn x(&self, distance: f64) -> f64 {
        self.corner.0 + self.side * distance / FARTHEST
    }

    pub(crate) fn y(&self, distance: f64) -> f64 {
        self.corner.1 + self.side * (1.0 - distance / FARTHEST)
    }

    /// The frame with numbers, and the line on which both distances are equal.
    pub(crate) fn frame(&self, svg: &mut Svg, (numbers_below, numbers_left): (bool, bool)) {
        let (left, top) = self.corner;
        let (right, bottom) = (left + self.side, top + self.side);
        svg.line("dash", &[(left, bottom), (right, top)]);
        svg.rect("line", self.corner, (self.side, self.side));
        for tick in [0.0, 0.5, 1.0, 1.5, 2.0] {
            let (x, y) = (self.x(tick), self.y(tick));
            svg.line("line", &[(x, bottom), (x, bottom + 3.0)]);
            svg.line("line", &[(left - 3.0, y), (left, y)]);
            if tick.fract() == 0.0 && numbers_below {
                svg.text(x, bottom + 14.0, "soft small middle", &n(tick));
            }
            if tick.fract() == 0.0 && numbers_left {
                svg.text(left - 6.0, y + 4.0, "soft small end", &n(tick));
            }
        }
    }

    /// Where some values are at least so large, each level over the ones below it.
    pub(crate) fn shades(&self, svg: &mut Svg, grid: &Grid<'_>, levels: &[f64]) {
        for &level in levels {
            let mut path = String::new();
            for region in regions(grid, level) {
                let points: Vec<(f64, f64)> = region
                    .iter()
                    .map(|&(x, y)| (self.x(x), self.y(y)))
                    .collect();
                path += &polyline(&thinned(&points));
                path.push('Z');
            }
            if !path.is_empty() {
                svg.raw(&format!(r#"<path class="shade" d="{path}"/>"#));
            }
        }
    }
}

/// The corners of a closed line: points that lie within a sixth of a pixel of the line between their neighbors are left out.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let mut start = 0;
    while start < points.len() {
        kept.push(points[start]);
        let mut end = start + 1;
        // As far as one straight line goes.
        while end + 1 < points.len()
            && points[start + 1..=end]
                .iter()
                .all(|&point| off(point, points[start], points[end + 1]) < 0.17)
        {
            end += 1;
        }
        start = end;
    }
    kept
}

/// How far a point lies from a line.
fn off(point: (f64, f64), from: (f64, f64), to: (f64, f64)) -> f64 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (px, py) = (point.0 - from.0, point.1 - from.1);
    match dx.hypot(dy) {
        0.0 => px.hypot(py),
        length => (dx * py - dy * px).abs() / length,
    }
}
