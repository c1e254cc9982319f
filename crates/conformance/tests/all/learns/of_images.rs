//! Runs on images.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Encoder, Input, Mode, Purpose, Rng, Supervision};
use nearfar_datasets::{Dataset, Glyphs, Scenes, Value};
use nearfar_eval::{Measure, Roc, Score, Subject, pixel_pairs};
use nearfar_losses::{Beside, LossConfig};
use nearfar_models::{Conv4, DenseConv, InputShape, Params};

use super::plain::score;
use super::training::{Rows, at, batch, drawn, table, train};
use super::{Learned, SEED, WIDTH, loss_of};
use crate::joined::joined;

/// Scenes of striped shapes. Pixels of one shape should be nearer than those of two.
pub(super) fn of_masks(config: &LossConfig) -> Learned {
    const SIDE: usize = 20;
    const TRAIN: u32 = 400;
    const TEST: u32 = 20;
    let scenes = Scenes::new((TRAIN + TEST) as usize, 3, SIDE, SEED).expect("a few");
    let drawn_image = |index: u32| match scenes.sample(index).expect("drawn").inputs.remove(0) {
        Value::Image(image) => image.values,
        other => panic!("{other:?} is no image"),
    };
    let all = 0..TRAIN + TEST;
    let images: Rows = all.clone().map(drawn_image).collect();
    let masks: Vec<Vec<u32>> = all
        .map(|index| {
            scenes
                .mask(index)
                .expect("drawn")
                .expect("it has one")
                .instances
        })
        .collect();
    let image = |index: u32| images[index as usize].clone();
    let mask = |index: u32| masks[index as usize].clone();
    let input = |indices: &[u32]| {
        let values = indices.iter().flat_map(|&index| image(index)).collect();
        let size = (indices.len(), 1, SIDE, SIDE);
        Tensor::from_vec(values, size, &Device::Cpu).expect("images of one size")
    };
    let settings = DenseConv {
        width: 6,
        channels: 16,
        layers: 4,
        ..DenseConv::default()
    };
    let shape = InputShape::Image {
        channels: 1,
        height: SIDE,
        width: SIDE,
    };
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let tower = settings.build(&shape, &params).expect("it reads images");
    let auc = |map: &dyn Fn(u32) -> (Vec<f32>, usize)| {
        let (mut scores, mut same) = (Vec::new(), Vec::new());
        for index in TRAIN..TRAIN + TEST {
            let (map, dim) = map(index);
            let mut rng = SEED.rng(Purpose::Evaluation, u64::from(index));
            let (of_image, of_one) = pixel_pairs(&map, dim, &mask(index), 60, &mut rng);
            scores.extend(of_image);
            same.extend(of_one);
        }
        Roc::new(&scores, &same).expect("both kinds").auc()
    };
    let dense = |tower: &dyn Encoder, index: u32| {
        let input = Input::Dense(input(&[index]));
        let encoded = tower.encode(&input, Mode::Eval).expect("it reads images");
        let map = encoded.extra["dense"].flatten_all().expect("numbers");
        (map.to_vec1::<f32>().expect("numbers"), settings.width)
    };
    let place = |_: u32| {
        let rows = (0..SIDE * SIDE).map(|it| (it / SIDE) as f32);
        (
            rows.chain((0..SIDE * SIDE).map(|it| (it % SIDE) as f32))
                .collect(),
            2,
        )
    };
    let plain = [
        ("gray of pixels", auc(&|index| (image(index), 1))),
        ("place of pixels", auc(&place)),
        ("untrained encoder", auc(&|index| dense(&tower, index))),
    ];
    let plain = plain.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let trainer = train(vec![Box::new(tower)], loss_of(config), 1000, |rng| {
        let picked = drawn(6, TRAIN as usize, rng);
        let picked: Vec<u32> = picked.into_iter().map(|it| it as u32).collect();
        let masks = picked.iter().flat_map(|&index| mask(index)).collect();
        let masks = Tensor::from_vec(masks, (6, SIDE, SIDE), &Device::Cpu).expect("of one size");
        batch(vec![input(&picked)], Supervision::Masks(masks))
    });
    let tower = trainer.towers().get(0).expect("there is one");
    Learned {
        loss: config.name().into(),
        data: "masks of instances",
        score: "AUC of pixels of one instance",
        plain: plain.expect("there are three"),
        learned: auc(&|index| dense(tower, index)),
        margin: 0.04,
        seconds: 0.0,
    }
}

/// Invented characters, of which the loss sees parts or a hidden layer beside the whole. What is scored are the vectors beside.
pub(super) fn of_beside(config: &LossConfig, name: &'static str) -> Learned {
    const SIDE: usize = 16;
    const CLASSES: usize = 40;
    const SAMPLES: usize = 8;
    let glyphs = Glyphs::new(CLASSES, SAMPLES, SIDE, SEED).expect("a few");
    let image = |index: u32| match glyphs.sample(index).expect("drawn").inputs.remove(0) {
        Value::Image(image) => image.values,
        other => panic!("{other:?} is no image"),
    };
    let trained = (CLASSES * 3 / 4 * SAMPLES) as u32;
    let images: Rows = (0..glyphs.len() as u32).map(image).collect();
    let input = |indices: &[usize]| {
        let values = at(&images, indices).concat();
        let size = (indices.len(), 1, SIDE, SIDE);
        Tensor::from_vec(values, size, &Device::Cpu).expect("images of one size")
    };
    let settings = Conv4 {
        width: WIDTH * 2,
        channels: 12,
        blocks: 2,
        parts: 2,
        hidden_heads: true,
        ..Conv4::default()
    };
    let shape = InputShape::Image {
        channels: 1,
        height: SIDE,
        width: SIDE,
    };
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let tower = settings.build(&shape, &params).expect("it reads images");
    let held: Vec<usize> = (trained as usize..images.len()).collect();
    let labels = at(glyphs.labels(), &held);
    let map = |tower: &dyn Encoder| {
        let encoded = tower.encode(&Input::Dense(input(&held)), Mode::Eval);
        let vectors = encoded.expect("it reads images").extra[name].to_vec2::<f32>();
        let table = table(&vectors.expect("a matrix"), &labels);
        score(Subject::Within(&table), Score::MapAtR, Measure::EUCLIDEAN)
    };
    let plain = ("untrained encoder", map(&tower));
    let semi_hard = nearfar_miners::MinerConfig::all();
    let semi_hard = semi_hard.iter().find(|it| it.name() == "semi_hard");
    let loss = || joined(config, semi_hard, (CLASSES, WIDTH), DType::F32);
    let parts = Beside::parts(loss(), vec![loss(), loss()]);
    let both = Beside::hidden_layers(Box::new(parts), vec![loss()], None);
    let trainer = train(vec![Box::new(tower)], Box::new(both), 150, |rng| {
        let classes = drawn(10, CLASSES * 3 / 4, rng);
        let of = |class: usize, rng: &mut Rng| -> Vec<usize> {
            let drawn = drawn(4, SAMPLES, rng);
            drawn.into_iter().map(|it| class * SAMPLES + it).collect()
        };
        let picked: Vec<usize> = classes.into_iter().flat_map(|it| of(it, rng)).collect();
        let labels = at(glyphs.labels(), &picked);
        batch(vec![input(&picked)], Supervision::Classes(vec![labels]))
    });
    Learned {
        loss: format!(
            "{}, {}",
            config.name(),
            ["parts", "deep_supervision"][usize::from(name == "hidden.0")]
        ),
        data: "classes, seen by parts and layers",
        score: "MAP@R of unseen classes",
        plain,
        learned: map(trainer.towers().get(0).expect("there is one")),
        margin: 0.1,
        seconds: 0.0,
    }
}
