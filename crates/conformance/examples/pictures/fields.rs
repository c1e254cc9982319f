//! What each loss does to a triplet, over the plane of its two distances.

use candle_core::Result;

use crate::contour::Grid;
use crate::panels::Panels;
use crate::pull::Asked;
use crate::svg::{FARTHEST, Plane, Svg, arrow, n};

/// Shares of the strongest pull from which on a place has one shade more.
const LEVELS: [f64; 5] = [0.02, 0.2, 0.4, 0.6, 0.8];

/// Places a side at which a loss is asked for the shades.
const FINE: usize = 64;

/// Arrows a side.
const ARROWS: usize = 9;

/// One panel: what stands over it, and the loss.
struct Panel {
    title: &'static str,
    settings: &'static str,
    loss: &'static str,
    miner: Option<&'static str>,
}

const fn panel(title: &'static str, settings: &'static str, loss: &'static str) -> Panel {
    Panel {
        title,
        settings,
        loss,
        miner: None,
    }
}

const PAIRS_AND_TRIPLETS: [Panel; 12] = [
    panel("contrastive", "linear", "contrastive = {}"),
    panel(
        "contrastive",
        "squared_half",
        "contrastive = { form = 'squared_half' }",
    ),
    panel("margin", "beta 1.2, margin 0.2", "margin = {}"),
    panel(
        "binomial_deviance",
        "alpha 2, base 0.5",
        "binomial_deviance = {}",
    ),
    panel("triplet_margin", "margin 0.2", "triplet_margin = {}"),
    Panel {
        title: "triplet_margin",
        settings: "miner semi_hard",
        loss: "triplet_margin = {}",
        miner: Some("semi_hard = {}"),
    },
    panel(
        "triplet_margin",
        "power 2",
        "triplet_margin = { power = 2 }",
    ),
    panel(
        "triplet_margin",
        "smooth, margin 0",
        "triplet_margin = { smooth = true, margin = 0.0 }",
    ),
    panel("triplet_ratio", "", "triplet_ratio = {}"),
    panel("angular", "40°, form batch", "angular = {}"),
    panel(
        "selectively_contrastive",
        "temperature 0.1",
        "selectively_contrastive = {}",
    ),
    panel("tcm", "0.9, 0.5", "tcm = {}"),
];

const LISTS: [Panel; 12] = [
    panel(
        "multi_similarity",
        "alpha 2, beta 50",
        "multi_similarity = {}",
    ),
    panel("circle", "margin 0.4, scale 80", "circle = {}"),
    panel("nt_xent", "temperature 0.07", "nt_xent = {}"),
    panel(
        "nt_xent",
        "temperature 0.5",
        "nt_xent = { temperature = 0.5 }",
    ),
    panel("n_pair", "", "n_pair = {}"),
    panel(
        "tuplet_margin",
        "margin 0.1, scale 64",
        "tuplet_margin = {}",
    ),
    panel("lifted", "margins 0, 1", "lifted = {}"),
    panel(
        "lifted_generalized",
        "margins 0, 1",
        "lifted_generalized = {}",
    ),
    panel("ranked_list", "margin 0.4", "ranked_list = {}"),
    panel("nca", "scale 1", "nca = {}"),
    panel("smooth_ap", "temperature 0.01", "smooth_ap = {}"),
    panel(
        "smooth_ap",
        "temperature 0.1",
        "smooth_ap = { temperature = 0.1 }",
    ),
];

const CENTERS: [Panel; 8] = [
    panel(
        "normalized_softmax",
        "temperature 0.05",
        "normalized_softmax = {}",
    ),
    panel("cosface", "0.35, scale 64", "cosface = {}"),
    panel("arcface", "0.5 rad, scale 64", "arcface = {}"),
    panel("sphereface", "margin 4, scale 1", "sphereface = {}"),
    panel("proxy_nca", "scale 1", "proxy_nca = {}"),
    panel("proxy_anchor", "margin 0.1, alpha 32", "proxy_anchor = {}"),
    panel("p2sgrad", "", "p2sgrad = {}"),
    panel(
        "triplet_center",
        "margin 0.2",
        "triplet_center = { margin = 0.2 }",
    ),
];

/// Where a loss is asked along an axis: not at the very ends, where directions are not defined. A shift, in steps, keeps the two
/// axes from meeting where both distances are equal, which rounding would decide.
fn places(shift: f64) -> Vec<f64> {
    let step = FARTHEST / (FINE - 1) as f64;
    (0..FINE)
        .map(|at| ((at as f64 + shift) * step).clamp(0.01, FARTHEST - 0.01))
        .collect()
}

/// The two slopes of a loss of one triplet.
fn slopes(asked: &Asked, positive: f64, negative: f64) -> Result<(f64, f64)> {
    let slopes = asked.slopes(&[positive], &[negative])?;
    Ok((slopes.positive[0], slopes.negative[0]))
}

/// The shades and arrows of a loss; the strongest pull of all.
fn field(svg: &mut Svg, plane: &Plane, asked: &Asked) -> Result<f64> {
    let (xs, ys) = (places(0.0), places(0.2));
    let mut values = Vec::with_capacity(FINE * FINE);
    for &negative in &ys {
        for &positive in &xs {
            let (near, far) = slopes(asked, positive, negative)?;
            values.push(near.hypot(far));
        }
    }
    let strongest = values.iter().copied().fold(0.0, f64::max);
    if strongest > 0.0 {
        values.iter_mut().for_each(|it| *it /= strongest);
    }
    let grid = Grid {
        xs: &xs,
        ys: &ys,
        values: &values,
    };
    plane.shades(svg, &grid, &LEVELS);
    let (mut arrows, mut still) = (String::new(), String::new());
    let step = FARTHEST / ARROWS as f64;
    for row in 0..ARROWS {
        for column in 0..ARROWS {
            // A hundredth off, so that no rounding decides where both distances are equal.
            let positive = (column as f64 + 0.5) * step;
            let negative = (row as f64 + 0.5) * step + 0.01;
            let (near, far) = slopes(asked, positive, negative)?;
            let share = near.hypot(far) / strongest.max(1e-9);
            let (x, y) = (plane.x(positive), plane.y(negative));
            if share < LEVELS[0] {
                still += &format!("M{} {}h0", n(x), n(y));
                continue;
            }
            // Where the triplet goes: against the slopes. Up in the plane is up in the picture.
            let length = (0.42 + 0.43 * share) * step * plane.side / FARTHEST;
            let (dx, dy) = (-near, far);
            let (dx, dy) = (dx / near.hypot(far) * length, dy / near.hypot(far) * length);
            arrows += &arrow((x - dx / 2.0, y - dy / 2.0), (dx, dy), 3.6);
        }
    }
    svg.raw(&format!(r#"<path class="still" d="{still}"/>"#));
    svg.raw(&format!(r#"<path class="arrow" d="{arrows}"/>"#));
    Ok(strongest)
}

/// Three digits at most.
fn rounded(value: f64) -> String {
    if value >= 9.95 {
        format!("{value:.0}")
    } else if value >= 0.0995 {
        n(value)
    } else {
        format!("{value:.2}")
    }
}

/// The key to shades, arrows and dots.
fn key(svg: &mut Svg, y: f64) {
    let mut x = 24.0;
    svg.text(x, y, "soft", "strength, as a share of max:");
    x += 180.0;
    for (index, name) in ["0", "2 %", "20 %", "40 %", "60 %", "80 %"]
        .iter()
        .enumerate()
    {
        let (corner, size) = ((x, y - 11.0), (18.0, 14.0));
        svg.rect("card", corner, size);
        for _ in 0..index {
            svg.rect("shade", corner, size);
        }
        svg.rect("line", corner, size);
        svg.text(x + 23.0, y, "soft small", name);
        x += if index == 0 { 42.0 } else { 57.0 };
    }
    let way = |svg: &mut Svg, from: (f64, f64), way: (f64, f64)| {
        let arrow = arrow(from, way, 3.6);
        svg.raw(&format!(r#"<path class="arrow" d="{arrow}"/>"#));
    };
    way(svg, (x + 14.0, y - 4.0), (-14.0, 0.0));
    svg.text(x + 20.0, y, "soft", "pulls at the positive");
    x += 158.0;
    way(svg, (x, y + 2.0), (0.0, -14.0));
    svg.text(x + 8.0, y, "soft", "pushes the negative");
}

/// A picture of panels.
fn panels(title: &str, others: (&str, &str), panels: &[Panel]) -> Result<String> {
    let table = Panels {
        count: panels.len(),
        down: 236.0,
    };
    let mut svg = Svg::new(title, 52.0 + table.height());
    key(&mut svg, 30.0);
    for (index, panel) in panels.iter().enumerate() {
        let plane = table.plane(index);
        svg.rect("card", plane.corner, (plane.side, plane.side));
        let strongest = field(&mut svg, &plane, &Asked::new(panel.loss, panel.miner))?;
        plane.frame(&mut svg, (true, true));
        let strongest = format!("max {}", rounded(strongest));
        let told = (panel.title, panel.settings, &*strongest);
        table.labels(&mut svg, index, told, others);
    }
    Ok(svg.finish())
}

/// The three pictures of families.
pub(crate) fn pairs_and_triplets() -> Result<String> {
    panels(
        "Losses of pairs and triplets: what each does to a triplet, by its two distances",
        ("positive", "negative"),
        &PAIRS_AND_TRIPLETS,
    )
}

pub(crate) fn lists() -> Result<String> {
    panels(
        "Losses of lists: what each does to an anchor's one positive and one negative, by their distances",
        ("positive", "negative"),
        &LISTS,
    )
}

pub(crate) fn centers() -> Result<String> {
    panels(
        "Losses of class centers: what each does to a row, by its distances to its own center and to another",
        ("own center", "other center"),
        &CENTERS,
    )
}

/// How to read the others: a triplet in space, and the same triplet in the plane of its two distances.
pub(crate) fn reading() -> Result<String> {
    let mut svg = Svg::new(
        "How to read the pictures of losses: a triplet in space, and as a point in the plane of its two distances",
        406.0,
    );
    // In space. A distance of 1 is as long as on the right.
    const UNIT: f64 = 140.0;
    const TRIPLET: (f64, f64) = (0.9, 1.0);
    svg.text(24.0, 32.0, "head", "A triplet …");
    let anchor = (196.0, 214.0);
    let at = |distance: f64, angle: f64| {
        let (sine, cosine) = angle.sin_cos();
        (
            anchor.0 + UNIT * distance * cosine,
            anchor.1 - UNIT * distance * sine,
        )
    };
    let (to_positive, to_negative) = (2.3, 0.62);
    let (positive, negative) = (at(TRIPLET.0, to_positive), at(TRIPLET.1, to_negative));
    svg.circle("line", anchor, UNIT * TRIPLET.0);
    svg.circle("dash", anchor, UNIT * (TRIPLET.0 + 0.2));
    svg.line("line", &[anchor, positive]);
    svg.line("line", &[anchor, negative]);
    for (from, to, class) in [
        (positive, at(TRIPLET.0 - 0.36, to_positive), "to-near"),
        (negative, at(TRIPLET.1 + 0.36, to_negative), "from-far"),
    ] {
        let way = (to.0 - from.0, to.1 - from.1);
        let arrow = arrow(from, way, 8.0);
        svg.raw(&format!(r#"<path class="{class}" d="{arrow}"/>"#));
    }
    svg.circle("ink", anchor, 6.0);
    svg.circle("near", positive, 6.0);
    svg.circle("far", negative, 6.0);
    svg.text(anchor.0, anchor.1 + 24.0, "middle title", "anchor");
    svg.text(
        positive.0 + 14.0,
        positive.1 + 2.0,
        "near title",
        "positive",
    );
    svg.text(positive.0 + 52.0, positive.1 + 34.0, "soft", "pull");
    svg.text(
        negative.0 - 14.0,
        negative.1 + 2.0,
        "far title end",
        "negative",
    );
    svg.text(negative.0 + 36.0, negative.1 - 4.0, "soft", "push");
    svg.text(anchor.0, 328.0, "soft middle small", "inside: hard");
    svg.text(anchor.0, 353.5, "soft middle small", "between: semi-hard");
    svg.text(
        anchor.0,
        386.0,
        "soft middle small",
        "outside, by more than the margin: easy",
    );
    // In the plane.
    svg.text(
        440.0,
        32.0,
        "head",
        "… is a point of this plane, and the loss moves it",
    );
    let plane = Plane {
        corner: (480.0, 58.0),
        side: 2.0 * UNIT,
    };
    svg.rect("card", plane.corner, (plane.side, plane.side));
    field(&mut svg, &plane, &Asked::new("triplet_margin = {}", None))?;
    plane.frame(&mut svg, (true, true));
    let (right, bottom) = (plane.corner.0 + plane.side, plane.corner.1 + plane.side);
    let middle = plane.corner.0 + plane.side / 2.0;
    svg.text(middle, bottom + 34.0, "middle", "distance to the positive");
    svg.raw(&format!(
        r#"<text class="middle" transform="translate({} {}) rotate(-90)">distance to the negative</text>"#,
        n(plane.corner.0 - 28.0),
        n(plane.corner.1 + plane.side / 2.0)
    ));
    svg.text(plane.x(0.55), plane.y(1.58), "title middle", "easy");
    svg.text(
        plane.x(0.55),
        plane.y(1.58) + 15.0,
        "soft small middle",
        "does not move",
    );
    let point = (plane.x(TRIPLET.0), plane.y(TRIPLET.1));
    svg.line("mark-line", &[(plane.x(0.98), plane.y(1.24)), point]);
    svg.circle("mark", point, 5.0);
    svg.text(
        plane.x(0.98) + 4.0,
        plane.y(1.24) - 5.0,
        "mark title end",
        "this triplet",
    );
    let note = |svg: &mut Svg, at: (f64, f64), y: f64, head: &str, text: &str| {
        let from = (plane.x(at.0), plane.y(at.1));
        svg.line("mark-line", &[from, (right + 12.0, y - 4.0)]);
        svg.circle("mark", from, 2.5);
        svg.text(right + 16.0, y, "title", head);
        svg.text(right + 16.0, y + 15.0, "soft small", text);
    };
    note(
        &mut svg,
        (1.86, 1.95),
        70.0,
        "semi-hard",
        "within the margin",
    );
    note(&mut svg, (1.86, 1.0), 202.0, "hard", "the wrong order");
    svg.text(right + 16.0, 112.0, "soft small", "dashed line: both");
    svg.text(right + 16.0, 126.0, "soft small", "distances equal");
    Ok(svg.finish())
}

/// Losses in the picture of several negatives.
const SEVERAL: [Panel; 12] = [
    panel("contrastive", "linear", "contrastive = {}"),
    panel("margin", "", "margin = {}"),
    panel("triplet_margin", "all triplets", "triplet_margin = {}"),
    Panel {
        title: "triplet_margin",
        settings: "miner semi_hard",
        loss: "triplet_margin = {}",
        miner: Some("semi_hard = {}"),
    },
    Panel {
        title: "triplet_margin",
        settings: "miner batch_hard",
        loss: "triplet_margin = {}",
        miner: Some("batch_hard = {}"),
    },
    panel("lifted", "", "lifted = {}"),
    panel("lifted_generalized", "", "lifted_generalized = {}"),
    panel("ranked_list", "", "ranked_list = {}"),
    panel("multi_similarity", "", "multi_similarity = {}"),
    panel("circle", "", "circle = {}"),
    panel("nt_xent", "temperature 0.07", "nt_xent = {}"),
    panel(
        "nt_xent",
        "temperature 0.5",
        "nt_xent = { temperature = 0.5 }",
    ),
];

/// Who is pulled and who is pushed of several.
pub(crate) fn several() -> Result<String> {
    // No two of them differ by a margin or lie at one: rounding would decide.
    const POSITIVE: [f64; 4] = [0.3, 0.52, 0.82, 1.11];
    const NEGATIVE: [f64; 8] = [0.41, 0.62, 0.73, 0.92, 1.03, 1.23, 1.34, 1.52];
    const COLUMNS: usize = 4;
    const ACROSS: f64 = 208.0;
    const DOWN: f64 = 186.0;
    const SIDE: (f64, f64) = (184.0, 118.0);
    let rows = SEVERAL.len().div_ceil(COLUMNS);
    let mut svg = Svg::new(
        "Which of an anchor's positives and negatives each loss moves, and how much",
        64.0 + rows as f64 * DOWN,
    );
    svg.rect("near", (24.0, 20.0), (12.0, 12.0));
    svg.text(42.0, 30.0, "soft", "pull at a positive");
    svg.rect("far", (170.0, 20.0), (12.0, 12.0));
    svg.text(188.0, 30.0, "soft", "push at a negative");
    svg.text(
        330.0,
        30.0,
        "soft",
        "dots: where the rows are; bars: how hard each is moved, as a share of the hardest",
    );
    for (index, panel) in SEVERAL.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let (left, top) = (36.0 + column as f64 * ACROSS, 84.0 + row as f64 * DOWN);
        let (middle, half) = (top + SIDE.1 / 2.0, SIDE.1 / 2.0 - 4.0);
        svg.rect("card", (left, top), SIDE);
        svg.text(left, top - 22.0, "title mono", panel.title);
        svg.text(left, top - 7.0, "soft small", panel.settings);
        let slopes = Asked::new(panel.loss, panel.miner).slopes(&POSITIVE, &NEGATIVE)?;
        let strongest = slopes
            .positive
            .iter()
            .chain(&slopes.negative)
            .fold(0f64, |most, slope| most.max(slope.abs()));
        let x = |distance: f64| left + SIDE.0 * distance / 1.7;
        for (distance, slope, class, up) in POSITIVE
            .iter()
            .zip(&slopes.positive)
            .map(|(d, s)| (d, *s, "near", -1.0))
            .chain(
                NEGATIVE
                    .iter()
                    .zip(&slopes.negative)
                    .map(|(d, s)| (d, -*s, "far", 1.0)),
            )
        {
            let height = half * slope / strongest.max(1e-9);
            let (from, to) = (middle - up * 2.0, middle - up * (2.0 + height));
            let (from, to) = (from.min(to), from.max(to));
            if to - from > 0.05 {
                svg.rect(class, (x(*distance) - 3.5, from), (7.0, to - from));
            }
            svg.circle(class, (x(*distance), middle), 2.0);
        }
        svg.line("line", &[(left, middle), (left + SIDE.0, middle)]);
        svg.rect("line", (left, top), SIDE);
        for tick in [0.0, 0.5, 1.0, 1.5] {
            svg.line(
                "line",
                &[(x(tick), top + SIDE.1), (x(tick), top + SIDE.1 + 3.0)],
            );
            svg.text(x(tick), top + SIDE.1 + 14.0, "soft small middle", &n(tick));
        }
        if row + 1 == rows {
            svg.text(
                left + SIDE.0 / 2.0,
                top + SIDE.1 + 29.0,
                "small middle",
                "distance to the anchor",
            );
        }
    }
    Ok(svg.finish())
}
