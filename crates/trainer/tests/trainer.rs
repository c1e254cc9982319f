//! One batch: what is applied, what is refused, and what stays as it was.

mod fakes;

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use candle_core::{DType, Device, Result, Tensor, Var};
use fakes::{ROWS, batch, bits, constant, loss_of, trainer};
use nearfar_core::{
    Batch, Comparison, Encoded, Encoder, Evaluated, Fraction, Input, Loss, Mode, NonNegative,
    Parameter, Part, Positive, Rng, Stateful, Supervision, Terms,
};
use nearfar_trainer::{Error, Group, OptimizerConfig, Options, Outcome, Schedule, Trainer, optim};

/// A matrix without anything random, and a matrix that nothing depends on.
struct Plain {
    used: Var,
    idle: Vec<Var>,
}

impl Plain {
    fn new(idle: bool) -> Self {
        let matrix = |x: f32| Var::new(&[[x, 0.5], [-0.25, x]], &Device::Cpu).expect("small");
        Self {
            used: matrix(1.0),
            idle: if idle {
                vec![matrix(2.0), matrix(3.0)]
            } else {
                Vec::new()
            },
        }
    }
}

impl Encoder for Plain {
    fn encode(&self, input: &Input, _: Mode<'_>) -> Result<Encoded> {
        let embedding = input.dense("plain")?.matmul(self.used.as_tensor())?;
        let extra = BTreeMap::from([("raw".to_string(), input.dense("plain")?.clone())]);
        Ok(Encoded { embedding, extra })
    }

    fn width(&self) -> usize {
        2
    }

    fn parameters(&self) -> Vec<Parameter> {
        let idle = ["idle.a", "idle.b"].into_iter().zip(&self.idle);
        let idle = idle.map(|(name, var)| Parameter {
            name: name.into(),
            var: var.clone(),
            trained: true,
        });
        idle.chain([Parameter {
            name: "used".into(),
            var: self.used.clone(),
            trained: true,
        }])
        .collect()
    }
}

/// The first parameter of the loss.
fn loss_numbers(trainer: &Trainer) -> Vec<f32> {
    let centers = &trainer.loss().parameters()[0].var;
    let numbers = centers.flatten_all().expect("small");
    numbers.to_vec1().expect("f32")
}

/// The mean square of the rows, times a factor; of the difference of two sides where there are two.
#[derive(Debug)]
struct Square(f64);

impl Stateful for Square {}

impl Loss for Square {
    fn evaluate(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Evaluated> {
        let (one, other) = (comparison.anchors, comparison.references);
        let rows = if one.ids == other.ids {
            one.vectors.clone()
        } else {
            (&one.vectors - &other.vectors)?
        };
        let value = Some((rows.sqr()?.mean_all()? * self.0)?);
        Ok(Evaluated {
            parts: vec![Part {
                name: "square",
                value,
                terms: one.len(),
                active: one.len(),
            }],
        })
    }

    fn terms(&self, _: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        Ok(Vec::new())
    }
}

fn plain(
    towers: Vec<Box<dyn Encoder>>,
    loss: f64,
    options: Options,
) -> std::result::Result<Trainer, Error> {
    let sgd = OptimizerConfig::from(optim::Sgd::default())
        .build()
        .expect("fits");
    Trainer::new(towers, Box::new(Square(loss)), sgd, constant(0.5), options)
}

fn one(idle: bool, options: Options) -> Trainer {
    plain(vec![Box::new(Plain::new(idle))], 1.0, options).expect("fits")
}

fn weights(trainer: &Trainer) -> BTreeMap<String, Vec<u64>> {
    bits(&trainer.model().expect("small"))
}

fn numbers(trainer: &Trainer, name: &str) -> Vec<f32> {
    trainer.model().expect("small")[name]
        .flatten_all()
        .expect("small")
        .to_vec1()
        .expect("f32")
}

fn two_sides() -> Batch {
    let side = |from: usize| batch(&ROWS[from..from + 3], from as u64);
    let (one, other) = (side(0), side(3));
    Batch {
        inputs: vec![one.inputs[0].clone(), other.inputs[0].clone()],
        supervision: Supervision::Classes(vec![vec![0, 0, 1], vec![1, 2, 2]]),
        ids: vec![one.ids[0].clone(), other.ids[0].clone()],
    }
}

#[test]
fn a_step_on_paper() {
    // One row (1, 1) under [[1, 0.5], [-0.25, 1]] is (0.75, 1.5): the loss is (0.5625 + 2.25) / 2.
    let mut trainer = one(false, Options::default());
    let outcome = trainer.step(&batch(&[([1.0, 1.0], 0)], 0)).expect("finite");
    let Outcome::Learned {
        loss,
        parts,
        gradient_norm,
        learning_rate,
        updated,
    } = outcome
    else {
        panic!("there is something to learn")
    };
    assert!((loss - 1.40625).abs() < 1e-6 && learning_rate == 0.5 && updated);
    assert_eq!(
        (
            parts[0].name,
            parts[0].terms,
            parts[0].value.map(|it| it as f32)
        ),
        ("square", 1, Some(1.40625))
    );
    // The gradient is (0.75, 1.5) in both rows of the matrix.
    assert!((gradient_norm - 5.625f64.sqrt()).abs() < 1e-6);
    assert_eq!(numbers(&trainer, "used"), [0.625, -0.25, -0.625, 0.25]);
    assert_eq!(
        (trainer.position().step, trainer.counters().updates),
        (1, 1)
    );
}

/// The rate stays; the momentum is what the schedule says of each step.
#[derive(Debug)]
struct Momenta(Option<[f64; 3]>);

impl Schedule for Momenta {
    fn at(&self, _: u64) -> f64 {
        0.1
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        Some(self.0?[step as usize])
    }
}

#[test]
fn the_momentum_of_the_schedule_is_that_of_the_step() {
    let after = |own: f64, said: Option<[f64; 3]>| {
        let sgd = optim::Sgd {
            momentum: Fraction::new(own).expect("below 1"),
            ..Default::default()
        };
        let sgd = OptimizerConfig::from(sgd).build().expect("fits");
        let towers: Vec<Box<dyn Encoder>> = vec![Box::new(Plain::new(false))];
        let options = Options::default();
        let mut trainer = Trainer::new(
            towers,
            Box::new(Square(1.0)),
            sgd,
            Box::new(Momenta(said)),
            options,
        )
        .expect("fits");
        for step in 0..3 {
            trainer
                .step(&batch(&[([1.0, 1.0], 0)], step))
                .expect("finite");
        }
        weights(&trainer)
    };
    let own = after(0.5, None);
    assert_eq!(own, after(0.9, Some([0.5; 3])));
    // The first step has no velocity yet; each of the others counts.
    assert_eq!(own, after(0.9, Some([0.9, 0.5, 0.5])));
    assert_ne!(own, after(0.9, Some([0.5, 0.9, 0.5])));
    assert_ne!(own, after(0.9, Some([0.5, 0.5, 0.9])));
    assert_ne!(own, after(0.9, None));
}

#[test]
fn all_frozen_parameters_are_named_at_the_first_step_that_learns() {
    let mut trainer = one(true, Options::default());
    let before = weights(&trainer);
    let error = trainer.step(&batch(&ROWS, 0)).expect_err("two are idle");
    assert!(
        matches!(&error, Error::Frozen { names } if names == &["idle.a", "idle.b"]),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("2 trained parameters are without a gradient"),
        "{error}"
    );
    assert_eq!(weights(&trainer), before);

    let allowed = Options {
        allow_frozen: vec!["idle.*".into()],
        ..Options::default()
    };
    let mut trainer = one(true, allowed);
    for _ in 0..2 {
        trainer.step(&batch(&ROWS, 0)).expect("they may be idle");
    }
    assert_eq!(weights(&trainer)["idle.a"], before["idle.a"]);
    let typo = Options {
        allow_frozen: vec!["ilde.*".into()],
        ..Options::default()
    };
    let error = plain(vec![Box::new(Plain::new(true))], 1.0, typo)
        .err()
        .expect("names nothing")
        .to_string();
    assert!(
        error.contains("`ilde.*` names no trained parameter; there are idle.a, idle.b, used"),
        "{error}"
    );
}

#[test]
fn nothing_to_learn_changes_nothing_and_is_counted() {
    let mut trainer = trainer(&optim::Adam::default().into(), None, Options::default());
    let same_class = [ROWS[0], ROWS[1]];
    let before = trainer.model().expect("small");
    let outcome = trainer.step(&batch(&same_class, 0)).expect("fine");
    assert_eq!(outcome, Outcome::NothingToLearn);
    let after = trainer.model().expect("small");
    assert_eq!(bits(&before)["weight"], bits(&after)["weight"]);
    let counters = trainer.counters();
    assert_eq!(
        (
            counters.nothing_to_learn,
            counters.learned,
            counters.updates
        ),
        (1, 0, 0)
    );
    assert!(
        !counters.towers_passed,
        "the gate waits for a step that learns"
    );
    trainer.step(&batch(&ROWS, 0)).expect("fine");
    let counters = trainer.counters();
    assert_eq!(
        (
            counters.nothing_to_learn,
            counters.learned,
            trainer.position().step
        ),
        (1, 1, 2)
    );
    // The loss has a part that is never there, so that its centers could not be asked yet.
    assert!(counters.towers_passed && !counters.loss_passed);
}

#[test]
fn a_step_that_is_not_finite_leaves_everything_as_it_was() {
    let mut poisoned = ROWS;
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        poisoned[3].0[1] = value;
        for optimizer in OptimizerConfig::all() {
            let accumulate = NonZeroU64::new(2).expect("not zero");
            let mut one = trainer(
                &optimizer,
                None,
                Options {
                    accumulate,
                    ..Options::default()
                },
            );
            let mut other = trainer(
                &optimizer,
                None,
                Options {
                    accumulate,
                    ..Options::default()
                },
            );
            for step in 0..4 {
                if step == 1 {
                    let error = one.step(&batch(&poisoned, 0)).expect_err("poison");
                    assert!(error.is_non_finite(), "{error}");
                    assert!(
                        error
                            .to_string()
                            .starts_with("an embedding is not finite at step 2"),
                        "{error}"
                    );
                    let finite = one.model().expect("small").values().all(|tensor| {
                        tensor
                            .flatten_all()
                            .and_then(|it| it.to_vec1::<f32>())
                            .expect("f32")
                            .iter()
                            .all(|x| x.is_finite())
                    });
                    assert!(finite, "weights and running statistics");
                    assert_eq!(weights(&one), weights(&other));
                    assert_eq!(one.counters().not_finite, 1);
                    // The other run leaves the step out, so that both draw the same numbers from here on.
                    other.step(&batch(&[ROWS[0]], 0)).expect("nothing to learn");
                    continue;
                }
                one.step(&batch(&ROWS, 0)).expect("finite");
                other.step(&batch(&ROWS, 0)).expect("finite");
            }
            assert!(one.counters().updates == 1 && other.counters().updates == 1);
        }
    }
}

#[test]
fn a_loss_or_gradient_that_overflows_is_named() {
    let huge = |factor: f64| {
        plain(
            vec![Box::new(Plain::new(false))],
            factor,
            Options::default(),
        )
        .expect("fits")
    };
    let mut trainer = huge(f64::from(f32::MAX));
    let before = weights(&trainer);
    let error = trainer
        .step(&batch(&ROWS, 0))
        .expect_err("overflow")
        .to_string();
    assert!(
        error.starts_with("the loss is not finite at step 1"),
        "{error}"
    );
    assert_eq!(weights(&trainer), before);

    // The value is finite, its slope is not.
    let mut trainer = huge(1e37);
    let rows = [([1e2, 0.0], 0), ([-1e-3, 0.0], 1)];
    let small = Plain {
        used: Var::new(&[[1e-2f32, 0.0], [0.0, 1e-2]], &Device::Cpu).expect("small"),
        idle: Vec::new(),
    };
    let mut steep = plain(vec![Box::new(small)], 1e37, Options::default()).expect("fits");
    let before = weights(&steep);
    let error = steep
        .step(&batch(&rows, 0))
        .expect_err("overflow")
        .to_string();
    assert!(
        error.starts_with("the gradient of used is not finite at step 1"),
        "{error}"
    );
    assert_eq!(weights(&steep), before);
    assert!(
        trainer.step(&batch(&[([1e-3, 1e-3], 0)], 0)).is_ok(),
        "large but finite"
    );
}

#[test]
fn gathering_batches_equals_one_large_batch() {
    let accumulate = NonZeroU64::new(3).expect("not zero");
    let clip_norm = Some(Positive::literal(0.7));
    let mut gathered = one(
        false,
        Options {
            accumulate,
            clip_norm,
            ..Options::default()
        },
    );
    let mut whole = one(
        false,
        Options {
            clip_norm,
            ..Options::default()
        },
    );
    let before = weights(&gathered);
    for (part, rows) in ROWS[..6].chunks(2).enumerate() {
        assert_eq!(weights(&gathered), before, "nothing moves before the third");
        let outcome = gathered.step(&batch(rows, 0)).expect("finite");
        assert!(matches!(outcome, Outcome::Learned { updated, .. } if updated == (part == 2)));
    }
    let outcome = whole.step(&batch(&ROWS[..6], 0)).expect("finite");
    assert!(
        matches!(outcome, Outcome::Learned { gradient_norm, .. } if gradient_norm > 0.7),
        "it is clipped"
    );
    for (one, other) in numbers(&gathered, "used")
        .iter()
        .zip(numbers(&whole, "used"))
    {
        assert!((one - other).abs() < 1e-6, "{one} {other}"); // Sums in another order.
    }
    assert_eq!(
        (gathered.counters().updates, gathered.counters().learned),
        (1, 3)
    );
}

#[test]
fn groups_have_rates_of_their_own() {
    let group = |parameters: &str, rate: f64| Group {
        learning_rate: NonNegative::new(rate).expect("a rate"),
        ..Group::new(parameters)
    };
    let options = Options {
        groups: vec![group("loss.*", 0.0), group("*", 2.0)],
        ..Options::default()
    };
    let sgd: OptimizerConfig = optim::Sgd::default().into();
    let mut doubled = trainer(&sgd, None, options);
    let mut plain = trainer(&sgd, None, Options::default());
    assert_eq!(
        plain.trained().collect::<Vec<_>>(),
        ["bias", "loss.centers", "weight"]
    );
    let start = numbers(&plain, "weight");
    doubled.step(&batch(&ROWS, 0)).expect("finite");
    plain.step(&batch(&ROWS, 0)).expect("finite");
    for ((start, one), two) in start
        .iter()
        .zip(numbers(&plain, "weight"))
        .zip(numbers(&doubled, "weight"))
    {
        assert!(((two - start) - 2.0 * (one - start)).abs() < 1e-6);
    }
    assert_eq!(
        loss_numbers(&doubled),
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        "a rate of 0"
    );
    assert_ne!(
        loss_numbers(&plain),
        loss_numbers(&doubled),
        "the loss's own parameters are trained"
    );
}

#[test]
fn frozen_parameters_stay_until_their_step() {
    let frozen = |parameters: &str, unfreeze_after| Group {
        frozen: true,
        unfreeze_after,
        ..Group::new(parameters)
    };
    let sgd: OptimizerConfig = optim::Sgd::default().into();
    let options = |groups| Options {
        groups,
        ..Options::default()
    };
    let mut trainer = trainer(
        &sgd,
        None,
        options(vec![frozen("weight", Some(2)), frozen("loss.*", None)]),
    );
    let (start, centers) = (numbers(&trainer, "weight"), loss_numbers(&trainer));
    let bias = numbers(&trainer, "bias");
    for _ in 0..2 {
        trainer.step(&batch(&ROWS, 0)).expect("finite");
        assert_eq!(numbers(&trainer, "weight"), start);
    }
    assert_ne!(numbers(&trainer, "bias"), bias);
    trainer.step(&batch(&ROWS, 0)).expect("finite");
    assert_ne!(numbers(&trainer, "weight"), start);
    assert_eq!(loss_numbers(&trainer), centers);

    let refused = |groups| {
        let towers: Vec<Box<dyn Encoder>> = vec![Box::new(Plain::new(false))];
        let loss = Box::new(Square(1.0));
        let optimizer = sgd.build().expect("good settings");
        let trainer = Trainer::new(towers, loss, optimizer, constant(0.1), options(groups));
        trainer.err().expect("cannot be trained").to_string()
    };
    assert!(refused(vec![frozen("*", Some(3))]).contains("all parameters are frozen"));
    let open = Group {
        unfreeze_after: Some(3),
        ..Group::new("used")
    };
    assert!(refused(vec![open]).contains("write `frozen = true` beside it"));
    assert!(refused(vec![frozen("other", None)]).contains("names no trained parameter"));
}

/// A parameter that nothing depends on is told when it is to move, and not before.
#[test]
fn the_freeze_gate_waits_for_what_is_frozen() {
    let group = Group {
        frozen: true,
        unfreeze_after: Some(2),
        ..Group::new("idle.*")
    };
    let mut trainer = one(
        true,
        Options {
            groups: vec![group],
            ..Options::default()
        },
    );
    for _ in 0..2 {
        trainer
            .step(&batch(&ROWS, 0))
            .expect("nothing has to move yet");
    }
    let error = trainer.step(&batch(&ROWS, 0)).expect_err("it should move");
    assert!(
        matches!(&error, Error::Frozen { names } if *names == ["idle.a", "idle.b"]),
        "{error}"
    );
}

#[test]
fn two_sides_of_one_tower_are_one_pass_and_two_towers_are_two() {
    let mut shared = one(false, Options::default());
    let sides = shared.embed(&two_sides()).expect("fits");
    assert_eq!(sides.len(), 2);
    let alone = shared.embed(&batch(&ROWS[3..6], 3)).expect("fits");
    assert_eq!(
        sides[1].vectors.to_vec2::<f32>().expect("f32"),
        alone[0].vectors.to_vec2::<f32>().expect("f32")
    );
    assert_eq!(
        sides[1].extra["raw"].to_vec2::<f32>().expect("f32")[0],
        ROWS[3].0
    );
    assert_eq!(
        (&sides[1].labels[..], &sides[1].ids[..]),
        (&[1, 2, 2][..], &[3, 4, 5][..])
    );
    assert!(loss_of(&shared.step(&two_sides()).expect("finite")) > 0.0);

    let towers: Vec<Box<dyn Encoder>> =
        vec![Box::new(Plain::new(false)), Box::new(Plain::new(false))];
    let mut pair = plain(towers, 1.0, Options::default()).expect("fits");
    assert_eq!(
        pair.trained().collect::<Vec<_>>(),
        ["towers.0.used", "towers.1.used"]
    );
    pair.step(&two_sides()).expect("finite");
    assert_ne!(
        numbers(&pair, "towers.0.used"),
        numbers(&pair, "towers.1.used"),
        "each has its own gradient"
    );
    let error = pair
        .step(&batch(&ROWS, 0))
        .expect_err("one input")
        .to_string();
    assert!(
        error.contains("a batch has 1 inputs for 2 towers"),
        "{error}"
    );
}

#[test]
fn sides_of_two_shapes_are_encoded_one_after_the_other() {
    /// Sums its features, however many.
    struct Sum(Var);
    impl Encoder for Sum {
        fn encode(&self, input: &Input, _: Mode<'_>) -> Result<Encoded> {
            Ok(input
                .dense("sum")?
                .sum_keepdim(1)?
                .broadcast_mul(self.0.as_tensor())?
                .into())
        }
        fn width(&self) -> usize {
            1
        }
        fn parameters(&self) -> Vec<Parameter> {
            vec![Parameter {
                name: "factor".into(),
                var: self.0.clone(),
                trained: true,
            }]
        }
    }
    let sum = Sum(Var::new(&[2f32], &Device::Cpu).expect("small"));
    let trainer = plain(vec![Box::new(sum)], 1.0, Options::default()).expect("fits");
    let mut uneven = two_sides();
    uneven.inputs[1] = Input::Dense(Tensor::ones((3, 5), DType::F32, &Device::Cpu).expect("small"));
    let sides = trainer.embed(&uneven).expect("fits");
    assert_eq!(
        sides[1].vectors.to_vec2::<f32>().expect("f32"),
        [[10.0], [10.0], [10.0]]
    );
}

#[test]
fn settings_that_do_not_fit_are_refused() {
    let refused = |towers: Vec<Box<dyn Encoder>>, options: Options| {
        plain(towers, 1.0, options)
            .err()
            .expect("refused")
            .to_string()
    };
    assert!(refused(Vec::new(), Options::default()).contains("no tower"));
    let both = Options {
        clip_norm: Some(Positive::literal(1.0)),
        clip_value: Some(Positive::literal(1.0)),
        ..Options::default()
    };
    assert!(
        refused(vec![Box::new(Plain::new(false))], both).contains("`clip_norm` and `clip_value`")
    );
    /// Two names that are one.
    struct Twice(Plain);
    impl Encoder for Twice {
        fn encode(&self, input: &Input, mode: Mode<'_>) -> Result<Encoded> {
            self.0.encode(input, mode)
        }
        fn width(&self) -> usize {
            2
        }
        fn parameters(&self) -> Vec<Parameter> {
            self.0
                .parameters()
                .into_iter()
                .chain(self.0.parameters())
                .collect()
        }
    }
    assert!(
        refused(vec![Box::new(Twice(Plain::new(false)))], Options::default())
            .contains("two parameters have the name `used`")
    );
}

#[test]
fn losses_and_models_are_what_they_were_after_an_evaluation() {
    let mut trainer = trainer(&optim::Adam::default().into(), None, Options::default());
    trainer.step(&batch(&ROWS, 0)).expect("finite");
    let before = weights(&trainer);
    let one = trainer.embed(&batch(&ROWS, 0)).expect("fits");
    let other = trainer.embed(&batch(&ROWS, 0)).expect("fits");
    assert_eq!(
        one[0].vectors.to_vec2::<f32>().expect("f32"),
        other[0].vectors.to_vec2::<f32>().expect("f32"),
        "nothing is random"
    );
    assert_eq!(weights(&trainer), before, "running statistics rest");
}
