//! The digits of the catalogue, as what is embedded and as small drawings.

use nearfar_catalogue::Digits;
use nearfar_core::EmbeddingTable;
use nearfar_eval::LinearMap;

use crate::svg::Svg;

/// Digits with an embedding: principal components of their pixels, which no training went into.
pub(crate) struct Handwriting {
    pub(crate) digits: Digits,
    pub(crate) table: EmbeddingTable,
}

impl Handwriting {
    /// All digits in a number of dimensions, at length 1 where it is wanted.
    pub(crate) fn new(dim: usize, unit: bool) -> Self {
        let digits = nearfar_catalogue::digits();
        let count = Digits::COUNT;
        let pixels = EmbeddingTable {
            vectors: digits.pixels.iter().map(|&it| f32::from(it)).collect(),
            dim: Digits::SIDE * Digits::SIDE,
            labels: digits.labels.iter().map(|&it| u32::from(it)).collect(),
            ids: (0..count as u64).collect(),
        };
        let map = LinearMap::pca(&pixels, dim).expect("64 numbers of each");
        let mut table = map.apply(&pixels).expect("what it was fitted to");
        for row in table.vectors.chunks_mut(dim) {
            let length = row.iter().map(|it| it * it).sum::<f32>().sqrt();
            // Thousandths: the last digits of a sum may depend on the processor, and nobody sees them.
            let scale = if unit { length } else { 20.0 };
            row.iter_mut()
                .for_each(|it| *it = (*it / scale * 1000.0).round() / 1000.0);
        }
        Self { digits, table }
    }

    /// The first samples of some classes, by class; `skip` leaves out as many of each first.
    pub(crate) fn some(&self, classes: &[u32], samples: usize, skip: usize) -> Vec<usize> {
        let of = |class: u32| {
            let rows = (0..Digits::COUNT).filter(move |&row| self.table.labels[row] == class);
            rows.skip(skip).take(samples)
        };
        classes.iter().flat_map(|&class| of(class)).collect()
    }
}

/// Puts the drawings of some digits into a picture, to be used by `#d…`, 8 by 8 each.
pub(crate) fn define(svg: &mut Svg, digits: &Digits, which: impl Iterator<Item = usize>) {
    let mut which: Vec<usize> = which.collect();
    which.sort_unstable();
    which.dedup();
    svg.raw("<defs>");
    for index in which {
        let image = digits.image(index);
        let mut drawing = format!(r#"<symbol id="d{index}" viewBox="0 0 8 8">"#);
        for least in [4, 8, 12] {
            let mut path = String::new();
            for (y, row) in image.chunks(Digits::SIDE).enumerate() {
                let mut x = 0;
                while x < row.len() {
                    let run = row[x..].iter().take_while(|it| **it >= least).count();
                    if run > 0 {
                        path += &format!("M{x} {y}h{run}v1h-{run}z");
                    }
                    x += run.max(1);
                }
            }
            if !path.is_empty() {
                drawing += &format!(r#"<path class="ink" fill-opacity=".4" d="{path}"/>"#);
            }
        }
        svg.raw(&(drawing + "</symbol>"));
    }
    svg.raw("</defs>");
}
