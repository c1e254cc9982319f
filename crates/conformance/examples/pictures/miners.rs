//! Which triplets each miner takes of one batch of digits.

use std::collections::BTreeSet;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Candidates, Comparison, Distance, Embeddings, Purpose, Seed, Triplets};
use nearfar_metrics::Euclidean;
use nearfar_miners::MinerConfig;

use crate::handwriting::{Handwriting, define};
use crate::panels::Panels;
use crate::svg::{Plane, Svg, n};

/// A batch on the host, as a miner sees it.
struct Batch {
    /// Which digits.
    rows: Vec<usize>,
    labels: Vec<u32>,
    candidates: Candidates,
    all: Triplets,
}

impl Batch {
    fn new(handwriting: &Handwriting, rows: Vec<usize>) -> Result<Self> {
        let table = &handwriting.table;
        let labels: Vec<u32> = rows.iter().map(|&row| table.labels[row]).collect();
        let vectors: Vec<f64> = rows
            .iter()
            .flat_map(|&row| table.row(row).iter().map(|&it| f64::from(it)))
            .collect();
        let vectors = Tensor::from_vec(vectors, (rows.len(), table.dim), &Device::Cpu)?;
        let distances = Euclidean {}.matrix(&vectors, &vectors)?;
        let embeddings = Embeddings::labeled(vectors, labels.clone())?;
        let comparison = Comparison::within(&embeddings);
        Ok(Self {
            candidates: Candidates::new(&distances, &comparison, "pictures")?,
            all: Triplets::all(&comparison, "pictures")?,
            rows,
            labels,
        })
    }

    /// What a miner takes, as triplets.
    fn mined(&self, miner: &str) -> Triplets {
        let miner: MinerConfig = toml::from_str(miner).expect("a miner");
        let mut rng = Seed(7).rng(Purpose::Mining, 0);
        miner
            .build()
            .mine(&self.candidates, &mut rng)
            .into_triplets()
    }
}

/// What stands over a panel, and the miner.
struct Panel(&'static str, &'static str, &'static str);

const MINERS: [Panel; 16] = [
    Panel("random", "1 per anchor", "random = {}"),
    Panel("triplet_margin", "violating 0.2", "triplet_margin = {}"),
    Panel("semi_hard", "margin 0.2", "semi_hard = {}"),
    Panel("batch_hard", "", "batch_hard = {}"),
    Panel("batch_easy_hard", "easy, semi_hard", "batch_easy_hard = {}"),
    Panel("moderate_positive", "", "moderate_positive = {}"),
    Panel("soft_hard", "", "soft_hard = {}"),
    Panel("n_hard", "ranks 1 × 3–5", "n_hard = { negatives = [3, 5] }"),
    Panel("multi_similarity", "pairs, 0.1", "multi_similarity = {}"),
    Panel("pair_margin", "pairs, 0.2, 0.8", "pair_margin = {}"),
    Panel("hdc", "pairs, hardest half", "hdc = {}"),
    Panel("uniform_histogram", "pairs", "uniform_histogram = {}"),
    Panel("distance_weighted", "", "distance_weighted = {}"),
    Panel("angular", "20°", "angular = {}"),
    Panel("hard_cluster", "", "hard_cluster = {}"),
    Panel("rho_switch", "probability 0.2", "rho_switch = {}"),
];

/// The batch over the plane of the two distances.
pub(crate) fn plane_of_distances() -> Result<String> {
    let handwriting = Handwriting::new(16, true);
    let batch = Batch::new(&handwriting, handwriting.some(&[1, 3, 5, 8, 9], 4, 0))?;
    let table = Panels {
        count: MINERS.len(),
        down: 226.0,
    };
    let mut svg = Svg::new(
        "Which triplets each miner takes of one batch, over the plane of their two distances",
        66.0 + table.height() + 22.0,
    );
    let point = |plane: &Plane, (a, p, other): (u32, u32, u32)| {
        let x = plane.x(batch.candidates.distance(a, p));
        let y = plane.y(batch.candidates.distance(a, other));
        format!("M{} {}h0", n(x), n(y))
    };
    // All of them once, in the corner; each panel uses it.
    let corner = Plane {
        corner: (0.0, 0.0),
        side: Panels::SIDE,
    };
    let dots: String = batch.all.iter().map(|it| point(&corner, it)).collect();
    svg.raw(&format!(
        r#"<defs><path id="all" class="dots rest" d="{dots}"/></defs>"#
    ));
    let key = |svg: &mut Svg, x: f64, class: &str, text: &str| {
        svg.raw(&format!(
            r#"<path class="dots {class}" d="M{} 26h0"/>"#,
            n(x)
        ));
        svg.text(x + 9.0, 30.0, "soft", text);
    };
    key(&mut svg, 28.0, "rest", "a triplet of the batch");
    key(&mut svg, 190.0, "taken", "one that the miner takes");
    key(
        &mut svg,
        364.0,
        "odd",
        "one whose “negative” is of the anchor's own class",
    );
    for (index, Panel(name, settings, miner)) in MINERS.iter().enumerate() {
        let plane = table.plane(index);
        let (left, top) = plane.corner;
        svg.rect("card", plane.corner, (plane.side, plane.side));
        plane.frame(&mut svg, (true, true));
        svg.raw(&format!(
            r##"<use href="#all" x="{}" y="{}"/>"##,
            n(left),
            n(top)
        ));
        let mined: BTreeSet<(u32, u32, u32)> = batch.mined(miner).iter().collect();
        let same = |&&(a, _, other): &&(u32, u32, u32)| {
            batch.labels[a as usize] == batch.labels[other as usize]
        };
        let taken: String = mined
            .iter()
            .filter(|it| !same(it))
            .map(|&it| point(&plane, it))
            .collect();
        let odd: String = mined
            .iter()
            .filter(same)
            .map(|&it| point(&plane, it))
            .collect();
        svg.raw(&format!(r#"<path class="dots taken" d="{taken}"/>"#));
        if !odd.is_empty() {
            svg.raw(&format!(r#"<path class="dots odd" d="{odd}"/>"#));
        }
        let count = format!("{} of {}", mined.len(), batch.all.len());
        let told = (*name, *settings, &*count);
        table.labels(&mut svg, index, told, ("positive", "negative"));
    }
    Ok(svg.finish())
}

const OF_ONE_ANCHOR: [Panel; 8] = [
    Panel("batch_hard", "farthest +, nearest −", "batch_hard = {}"),
    Panel("semi_hard", "margin 0.15", "semi_hard = { margin = 0.15 }"),
    Panel(
        "batch_easy_hard",
        "nearest +, nearest − behind it",
        "batch_easy_hard = {}",
    ),
    Panel(
        "moderate_positive",
        "nearest −, farthest + before it",
        "moderate_positive = {}",
    ),
    Panel("multi_similarity", "epsilon 0.1", "multi_similarity = {}"),
    Panel(
        "n_hard",
        "farthest +, 2nd to 4th −",
        "n_hard = { negatives = [2, 4] }",
    ),
    Panel("soft_hard", "drawn", "soft_hard = {}"),
    Panel("random", "3 drawn", "random = { per_anchor = 3 }"),
];

/// What miners take for one anchor, in the plane.
pub(crate) fn one_anchor() -> Result<String> {
    let anchor = 2; // A 1 with positives far and near, and negatives among them.
    const COLUMNS: usize = 4;
    const SIDE: (f64, f64) = (196.0, 176.0);
    const ACROSS: f64 = 210.0;
    const DOWN: f64 = 224.0;
    const TILE: f64 = 20.0;
    let handwriting = Handwriting::new(2, false);
    let batch = Batch::new(&handwriting, handwriting.some(&[1, 2, 5, 7], 5, 8))?;
    let rows = OF_ONE_ANCHOR.len() / COLUMNS;
    let mut svg = Svg::new(
        "Which positives and negatives miners take for one anchor",
        60.0 + rows as f64 * DOWN,
    );
    define(&mut svg, &handwriting.digits, batch.rows.iter().copied());
    // The map to a panel: one scale for both coordinates.
    let place = |row: usize| {
        let at = handwriting.table.row(batch.rows[row]);
        (f64::from(at[0]), f64::from(at[1]))
    };
    let bounds = |of: fn((f64, f64)) -> f64| {
        let values = (0..batch.rows.len()).map(|row| of(place(row)));
        let low = values.clone().fold(f64::INFINITY, f64::min);
        (low, values.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((x0, x1), (y0, y1)) = (bounds(|it| it.0), bounds(|it| it.1));
    let inner = (SIDE.0 - TILE - 10.0, SIDE.1 - TILE - 10.0);
    let scale = (inner.0 / (x1 - x0)).min(inner.1 / (y1 - y0));
    let at = |row: usize| {
        let (x, y) = place(row);
        (
            SIDE.0 / 2.0 + (x - (x0 + x1) / 2.0) * scale,
            SIDE.1 / 2.0 - (y - (y0 + y1) / 2.0) * scale,
        )
    };
    let tile = |row: usize| {
        let (x, y) = at(row);
        format!(
            r##"<use href="#d{}" x="{}" y="{}" width="{TILE}" height="{TILE}"/>"##,
            batch.rows[row],
            n(x - TILE / 2.0),
            n(y - TILE / 2.0)
        )
    };
    let all: String = (0..batch.rows.len()).map(tile).collect();
    svg.raw(&format!(
        r#"<defs><g id="faint" opacity=".35">{all}</g></defs>"#
    ));
    svg.circle("ring", (32.0, 26.0), 7.0);
    svg.text(46.0, 30.0, "soft", "anchor");
    svg.line("to-near", &[(112.0, 26.0), (140.0, 26.0)]);
    svg.text(147.0, 30.0, "soft", "a positive that is taken");
    svg.line("to-far", &[(312.0, 26.0), (340.0, 26.0)]);
    svg.text(347.0, 30.0, "soft", "a negative that is taken");
    svg.text(510.0, 30.0, "soft", "faint: not taken");
    for (index, Panel(name, settings, miner)) in OF_ONE_ANCHOR.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let (left, top) = (24.0 + column as f64 * ACROSS, 82.0 + row as f64 * DOWN);
        svg.text(left, top - 22.0, "title mono", name);
        svg.text(left, top - 7.0, "soft small", settings);
        svg.raw(&format!(
            r#"<g transform="translate({} {})">"#,
            n(left),
            n(top)
        ));
        svg.rect("card", (0.0, 0.0), SIDE);
        svg.rect("line", (0.0, 0.0), SIDE);
        svg.raw(r##"<use href="#faint"/>"##);
        let mined = batch.mined(miner);
        let of = |rows: &[u32]| -> BTreeSet<usize> {
            let pairs = mined.anchors().iter().zip(rows);
            pairs
                .filter(|(it, _)| **it as usize == anchor)
                .map(|(_, row)| *row as usize)
                .collect()
        };
        let (positives, negatives) = (of(mined.positives()), of(mined.negatives()));
        for (rows, class) in [(&negatives, "to-far"), (&positives, "to-near")] {
            for &row in rows {
                svg.line(class, &[at(anchor), at(row)]);
            }
        }
        for row in positives.iter().chain(&negatives).chain([&anchor]) {
            svg.circle("card", at(*row), TILE / 2.0);
            svg.raw(&tile(*row));
        }
        svg.circle("ring", at(anchor), TILE / 2.0 + 2.0);
        svg.raw("</g>");
    }
    Ok(svg.finish())
}
