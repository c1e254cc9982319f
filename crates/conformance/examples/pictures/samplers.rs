//! One batch of each sampler, of digits.

use candle_core::Result;
use nearfar_catalogue::Digits;
use nearfar_core::{Purpose, Seed};
use nearfar_datasets::{Annotation, Dataset, Error, Sample, SamplerConfig, Value};

use crate::handwriting::{Handwriting, define};
use crate::svg::{Svg, n};

/// The digits as data with classes, of two domains if `domains` is not empty.
struct Labeled {
    labels: Vec<u32>,
    names: Vec<String>,
    domains: Vec<u32>,
}

impl Dataset for Labeled {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn classes(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: u32) -> std::result::Result<Sample, Error> {
        Ok(Sample::of(Value::Features(vec![index as f32])))
    }

    fn annotation(&self) -> Annotation {
        match self.domains[..] {
            [] => Annotation::Classes,
            _ => Annotation::Domains,
        }
    }

    fn domains(&self) -> &[u32] {
        &self.domains
    }
}

/// Of each digit whether it is thin, 0, or bold, 1: whether it has at least as much ink as the middle one of its class.
fn thin_or_bold(digits: &Digits) -> Vec<u32> {
    let ink = |index: usize| digits.image(index).iter().map(|&it| u32::from(it)).sum();
    let ink: Vec<u32> = (0..Digits::COUNT).map(ink).collect();
    let middle = |label: u8| {
        let of_class = digits.labels.iter().zip(&ink);
        let mut of_class: Vec<u32> = of_class
            .filter_map(|(&it, &ink)| (it == label).then_some(ink))
            .collect();
        of_class.sort_unstable();
        of_class[of_class.len() / 2]
    };
    let middles: Vec<u32> = (0..10).map(middle).collect();
    let labels = digits.labels.iter().zip(&ink);
    labels
        .map(|(&label, &ink)| u32::from(ink >= middles[usize::from(label)]))
        .collect()
}

/// What stands below a batch.
enum Below {
    Nothing,
    /// For each group of so many, the same.
    Groups(&'static str),
    /// For each group, its own.
    EachGroup(&'static [&'static str]),
    /// For each of a group, its own.
    Each(&'static [&'static str]),
    /// For each pair, whether it is of one class.
    Signs,
}

struct Row {
    name: &'static str,
    says: &'static str,
    sampler: &'static str,
    group: usize,
    below: Below,
}

const fn row(
    name: &'static str,
    says: &'static str,
    sampler: &'static str,
    group: usize,
    below: Below,
) -> Row {
    Row {
        name,
        says,
        sampler,
        group,
        below,
    }
}

const BY_LABELS: [Row; 7] = [
    row(
        "shuffled",
        "any 16",
        "shuffled = { size = 16 }",
        16,
        Below::Nothing,
    ),
    row(
        "classes_by_samples",
        "4 classes × 4",
        "classes_by_samples = { classes = 4, samples = 4 }",
        4,
        Below::Groups("class"),
    ),
    row(
        "pairs",
        "8 pairs, half of them positive",
        "pairs = { size = 8 }",
        2,
        Below::Signs,
    ),
    row(
        "two_domains",
        "4 classes × 2, thin and bold",
        "two_domains = { classes = 4, samples = 2 }",
        8,
        Below::EachGroup(&["thin", "bold"]),
    ),
    row(
        "episode",
        "4 ways: 1 support, 3 queries",
        "episode = { ways = 4, support = 1, queries = 3 }",
        4,
        Below::Each(&["s", "q", "q", "q"]),
    ),
    row(
        "fixed_triplets",
        "anchor, positive, negative",
        "fixed_triplets = { size = 5 }",
        3,
        Below::Each(&["a", "p", "n"]),
    ),
    row(
        "hierarchical",
        "2 super-classes × 2 × 4",
        "hierarchical = { super_classes = 2, classes = 2, samples = 4, groups = { round = ['0', '6', '8', '9'], bent = ['2', '3', '5'], straight = ['1', '4', '7'] } }",
        8,
        Below::Groups("super-class"),
    ),
];

const BY_EMBEDDINGS: [Row; 8] = [
    row(
        "graph_sampler",
        "a class and its nearest",
        "graph_sampler = { classes = 4, samples = 4 }",
        4,
        Below::Groups("class"),
    ),
    row(
        "anchor_neighborhood",
        "2 classes, each with its nearest",
        "anchor_neighborhood = { anchors = 2, classes = 2, samples = 4 }",
        8,
        Below::Groups("neighborhood"),
    ),
    row(
        "hard_classes",
        "8 classes × 2, most confused",
        "hard_classes = { classes = 8, samples = 2 }",
        2,
        Below::Groups("class"),
    ),
    row(
        "greedy_coreset",
        "8 classes × 2, spread out",
        "greedy_coreset = { classes = 8, samples = 2 }",
        2,
        Below::Groups("class"),
    ),
    row(
        "magnet_clusters",
        "a cluster and its impostors",
        "magnet_clusters = { clusters = 4, samples = 4 }",
        4,
        Below::Groups("cluster"),
    ),
    row(
        "hard_negatives",
        "4 anchors, 2 negatives each",
        "hard_negatives = { anchors = 4, negatives = 2 }",
        4,
        Below::Each(&["a", "p", "n", "n"]),
    ),
    row(
        "loss_proportional",
        "classes and samples by loss",
        "loss_proportional = { classes = 4, samples = 4 }",
        4,
        Below::Groups("class"),
    ),
    row(
        "tuples_to_weights",
        "samples by violating triplets",
        "tuples_to_weights = { size = 16 }",
        16,
        Below::Nothing,
    ),
];

/// The picture.
pub(crate) fn batches() -> Result<String> {
    const TILE: f64 = 30.0;
    const LEFT: f64 = 258.0;
    const DOWN: f64 = 58.0;
    let handwriting = Handwriting::new(16, true);
    let table = &handwriting.table;
    let data = Labeled {
        labels: table.labels.clone(),
        names: (0..10).map(|digit| digit.to_string()).collect(),
        domains: Vec::new(),
    };
    let of_two_domains = Labeled {
        labels: data.labels.clone(),
        names: data.names.clone(),
        domains: thin_or_bold(&handwriting.digits),
    };
    let draw = |row: &Row, shown: bool| -> Result<Vec<usize>> {
        let config: SamplerConfig = toml::from_str(row.sampler).expect("a sampler");
        let data = match config {
            SamplerConfig::TwoDomains(_) => &of_two_domains,
            _ => &data,
        };
        let mut sampler = config.build(data).map_err(candle_core::Error::wrap)?;
        if shown {
            sampler.refresh(table, &mut Seed(7).rng(Purpose::Refresh, 0))?;
        }
        let mut rng = Seed(7).rng(Purpose::Sampling, 0);
        let epoch = sampler.epoch(data.labels(), &mut rng);
        Ok(epoch[0].iter().map(|&index| index as usize).collect())
    };
    let mut drawn = Vec::new();
    for (rows, shown) in [(&BY_LABELS[..], false), (&BY_EMBEDDINGS[..], true)] {
        for row in rows {
            drawn.push((row, draw(row, shown)?));
        }
    }
    let height = 2.0 * 40.0 + drawn.len() as f64 * DOWN + 12.0;
    let mut svg = Svg::new("One batch of each sampler, of handwritten digits", height);
    let all = drawn.iter().flat_map(|(_, batch)| batch.iter().copied());
    define(&mut svg, &handwriting.digits, all);
    let mut top = 14.0;
    for (index, (row, batch)) in drawn.iter().enumerate() {
        let head = match index {
            0 => Some("By labels alone"),
            _ if index == BY_LABELS.len() => Some("By the embedded training set"),
            _ => None,
        };
        if let Some(head) = head {
            svg.text(24.0, top + 18.0, "head", head);
            top += 36.0;
        }
        svg.text(24.0, top + 14.0, "title mono", row.name);
        svg.text(24.0, top + 30.0, "soft small", row.says);
        let gap = if row.group < 16 { 9.0 } else { 0.0 };
        let at =
            |place: usize| LEFT + place as f64 * (TILE + 3.0) + (place / row.group) as f64 * gap;
        for (place, digit) in batch.iter().enumerate() {
            svg.rect("tile", (at(place), top), (TILE, TILE));
            svg.raw(&format!(
                r##"<use href="#d{digit}" x="{}" y="{}" width="{}" height="{}"/>"##,
                n(at(place) + 2.0),
                n(top + 2.0),
                n(TILE - 4.0),
                n(TILE - 4.0)
            ));
        }
        let below = top + TILE + 12.0;
        for (group, members) in batch.chunks(row.group).enumerate() {
            let first = group * row.group;
            let middle = (at(first) + at(first + members.len() - 1) + TILE) / 2.0;
            let labels: Vec<u32> = members.iter().map(|&it| data.labels[it]).collect();
            match row.below {
                Below::Nothing => {}
                Below::Groups(name) => svg.text(middle, below, "soft small middle", name),
                Below::EachGroup(names) => {
                    svg.text(middle, below, "soft small middle", names[group]);
                }
                Below::Signs if labels[0] == labels[1] => {
                    svg.text(middle, below, "near small middle", "same");
                }
                Below::Signs => svg.text(middle, below, "far small middle", "different"),
                Below::Each(names) => {
                    for (place, name) in names.iter().enumerate().take(members.len()) {
                        let middle = at(first + place) + TILE / 2.0;
                        svg.text(middle, below, "soft small middle", name);
                    }
                }
            }
        }
        top += DOWN;
    }
    Ok(svg.finish())
}
