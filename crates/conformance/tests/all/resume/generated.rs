//! Generated samples of the kind that a model reads.

use nearfar_core::{Parse, Purpose};
use nearfar_datasets::{Annotation, Dataset, Error, Frames, Glyphs, Sample, Seen, Solids, Value};
use nearfar_models::{InputShape, ModelConfig};

use super::{CLASSES, SAMPLES, SEED};

/// Generated samples of a kind that a model reads.
pub(super) struct Generated {
    kind: Kind,
    labels: Vec<u32>,
    targets: Vec<f32>,
}

enum Kind {
    Features,
    Tokens,
    Parsed,
    Frames,
    Glyphs(Glyphs, usize),
    Solids(Solids, InputShape),
}

/// Images of this side.
fn glyphs(side: usize) -> Kind {
    let glyphs = Glyphs::new(CLASSES, SAMPLES, side, SEED);
    Kind::Glyphs(glyphs.expect("a few"), side)
}

fn solids(seen: Seen, shape: InputShape) -> Kind {
    let solids = Solids::new(CLASSES, SAMPLES, seen, SEED);
    Kind::Solids(solids.expect("a few"), shape)
}

const FEATURES: usize = 8;

const VOCABULARY: usize = 20;

impl Generated {
    pub(super) fn new(model: &ModelConfig, scored: bool) -> Self {
        let kind = match model {
            ModelConfig::Conv4(_)
            | ModelConfig::Convnext(_)
            | ModelConfig::DenseConv(_)
            | ModelConfig::MnistTwin(_)
            | ModelConfig::Resnet(_)
            | ModelConfig::Unet(_)
            | ModelConfig::Vit(_) => glyphs(16),
            ModelConfig::Ahmed(_) => glyphs(28),
            ModelConfig::Voxnet(_) => {
                let shape = InputShape::Volume {
                    channels: 1,
                    depth: 11,
                    height: 11,
                    width: 11,
                };
                solids(Seen::Volumes { size: 11 }, shape)
            }
            ModelConfig::Mvcnn(_) => {
                let (views, size) = (3, 8);
                let shape = InputShape::Views {
                    views,
                    channels: 1,
                    height: size,
                    width: size,
                };
                solids(Seen::Views { views, size }, shape)
            }
            ModelConfig::DeepSets(_) => {
                let shape = InputShape::Frames { features: 3 };
                solids(Seen::Points { most: 9 }, shape)
            }
            ModelConfig::Koch(_) => glyphs(65),
            ModelConfig::Bert(_) | ModelConfig::CharBilstm(_) | ModelConfig::Lstm(_) => {
                Kind::Tokens
            }
            ModelConfig::DependencyLstm(_) => Kind::Parsed,
            ModelConfig::SpeakerLstm(_) | ModelConfig::Tristounet(_) => Kind::Frames,
            _ => Kind::Features,
        };
        let labels: Vec<u32> = (0..CLASSES * SAMPLES)
            .map(|it| (it / SAMPLES) as u32)
            .collect();
        let targets = match scored {
            true => (0..labels.len()).map(|it| 1.0 + (it % 5) as f32).collect(),
            false => Vec::new(),
        };
        Self {
            kind,
            labels,
            targets,
        }
    }

    pub(super) fn shape(&self) -> InputShape {
        match self.kind {
            Kind::Solids(_, ref shape) => shape.clone(),
            Kind::Features => InputShape::Features(FEATURES),
            Kind::Tokens => InputShape::Tokens {
                vocabulary: VOCABULARY,
            },
            Kind::Parsed => InputShape::Parsed {
                vocabulary: VOCABULARY,
            },
            Kind::Frames => InputShape::Frames { features: FEATURES },
            Kind::Glyphs(_, side) => InputShape::Image {
                channels: 1,
                height: side,
                width: side,
            },
        }
    }

    pub(super) fn value(&self, index: u32) -> Result<Value, Error> {
        let class = self.labels[index as usize];
        let mut rng = SEED.rng(Purpose::Generation, u64::from(index));
        Ok(match &self.kind {
            Kind::Glyphs(glyphs, _) => glyphs.sample(index)?.inputs.remove(0),
            Kind::Solids(solids, _) => solids.sample(index)?.inputs.remove(0),
            Kind::Features => {
                let mut center = SEED.rng(Purpose::Generation, 1000 + u64::from(class));
                let numbers = (0..FEATURES).map(|_| 2.0 * center.normal() + rng.normal());
                Value::Features(numbers.map(|it| it as f32).collect())
            }
            Kind::Frames => {
                let mut center = SEED.rng(Purpose::Generation, 1000 + u64::from(class));
                let count = 2 + rng.below(5);
                let means: Vec<f64> = (0..FEATURES).map(|_| 2.0 * center.normal()).collect();
                let numbers = (0..count).flat_map(|_| &means).map(|it| it + rng.normal());
                Value::Frames(Frames {
                    count,
                    width: FEATURES,
                    values: numbers.map(|it| it as f32).collect(),
                })
            }
            Kind::Tokens | Kind::Parsed => {
                let length = 2 + rng.below(5);
                let words = (0..length).map(|_| 2 + (3 * class as usize + rng.below(4)) % 18);
                let words: Vec<u32> = words.map(|it| it as u32).collect();
                if matches!(self.kind, Kind::Tokens) {
                    return Ok(Value::Tokens(words));
                }
                // Each word hangs on one in front of it; the second is the root's subject.
                let head = |word: usize| (word > 0).then(|| rng.below(word) as u32);
                let heads = (0..length).map(head).collect();
                let basic: Vec<bool> = (0..length).map(|word| word == 1).collect();
                let parse = Parse::new(heads, &basic).expect("a tree");
                Value::Parsed { words, parse }
            }
        })
    }
}

impl Dataset for Generated {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let mut inputs = vec![self.value(index)?];
        if !self.targets.is_empty() {
            inputs.push(self.value((7 * index + 3) % self.labels.len() as u32)?);
        }
        Ok(Sample { inputs })
    }

    fn annotation(&self) -> Annotation {
        match self.targets.is_empty() {
            true => Annotation::Classes,
            false => Annotation::ScoredPairs,
        }
    }

    fn targets(&self) -> &[f32] {
        &self.targets
    }
}
