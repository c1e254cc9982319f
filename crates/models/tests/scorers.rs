//! No silent freeze in scorers of pairs: every weight, and what is compared, gets a right gradient and moves.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{Embeddings, Mode, PairScorer, Pairs, Parameter, Purpose, Seed};
use nearfar_kernels::test_util::noise;
use nearfar_models::{CrossInput, MAPS, Params, ScorerConfig, Shown};

mod support;
use support::{check_differences, contracted, coordinates, stream};

const WIDTH: usize = 4;
const SIDES: [usize; 3] = [2, 5, 6];
const ROWS: usize = 4;

/// Each scorer of the list, small. A scorer that is added has to be added here.
fn small(scorer: &ScorerConfig) -> ScorerConfig {
    match scorer {
        ScorerConfig::CrossInput(_) => ScorerConfig::CrossInput(CrossInput {
            neighborhood: 3,
            filters: 4,
            hidden: 7,
        }),
        ScorerConfig::WeightedL1(_) => scorer.clone(),
    }
}

/// A scorer, and what it compares as variables.
struct Case {
    what: String,
    scorer: Box<dyn PairScorer>,
    reads_maps: bool,
    vectors: Var,
    maps: Var,
}

impl Case {
    fn all(dtype: DType) -> Result<Vec<Self>> {
        let case = |scorer: &ScorerConfig| {
            let params = Params::new(Seed(7), dtype, &Device::Cpu)?;
            let shown = Shown {
                width: WIDTH,
                maps: Some(SIDES),
            };
            let [channels, rows, columns] = SIDES;
            let scorer = small(scorer);
            Ok(Self {
                what: format!("{scorer:?}"),
                scorer: scorer.build(shown, &params.at("scorer"))?,
                reads_maps: scorer.reads_maps(),
                vectors: Var::from_tensor(&noise((ROWS, WIDTH), 1)?.to_dtype(dtype)?)?,
                maps: Var::from_tensor(
                    &noise((ROWS, channels, rows, columns), 2)?.to_dtype(dtype)?,
                )?,
            })
        };
        ScorerConfig::all().iter().map(case).collect()
    }

    fn rows(&self) -> Result<Embeddings> {
        let mut rows = Embeddings::labeled(self.vectors.as_tensor().clone(), vec![0; ROWS])?;
        rows.extra = BTreeMap::from([(MAPS.to_owned(), self.maps.as_tensor().clone())]);
        Ok(rows)
    }

    fn score(&self, pairs: &[(u32, u32)], mode: Mode<'_>) -> Result<Tensor> {
        let rows = self.rows()?;
        self.scorer.score(
            &rows,
            &rows,
            &pairs.iter().copied().collect::<Pairs>(),
            mode,
        )
    }

    /// Its tensors, and what it compares.
    fn parameters(&self) -> Vec<Parameter> {
        let (name, var) = if self.reads_maps {
            (MAPS, &self.maps)
        } else {
            ("vectors", &self.vectors)
        };
        let mut parameters = self.scorer.parameters();
        parameters.push(Parameter {
            name: name.into(),
            var: var.clone(),
            trained: true,
        });
        parameters
    }
}

/// One row is in several pairs, on either side.
const PAIRS: [(u32, u32); 5] = [(0, 1), (1, 0), (2, 1), (3, 0), (1, 3)];

#[test]
fn every_weight_gets_a_gradient_and_one_step_moves_it() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for case in Case::all(dtype)? {
            let score = case.score(&PAIRS, Mode::Train(&mut stream()))?;
            assert_eq!(score.dims(), [PAIRS.len()]);
            let gradients = contracted(&score)?.backward()?;
            for Parameter { name, var, .. } in case.parameters() {
                let gradient = gradients.get(&var);
                let gradient =
                    gradient.unwrap_or_else(|| panic!("{}: `{name}` is frozen", case.what));
                let largest = gradient
                    .abs()?
                    .max_all()?
                    .to_dtype(DType::F64)?
                    .to_scalar::<f64>()?;
                assert!(
                    largest > 0.0 && largest.is_finite(),
                    "{}: `{name}` {largest}",
                    case.what
                );
                // No row is idle: a half that never moves would not be seen. A unit behind a ReLU may be off for all pairs.
                let behind_relu = ["across", "hidden"].iter().any(|it| name.starts_with(it));
                if gradient.rank() > 1 && !behind_relu {
                    let rows = gradient
                        .flatten_from(1)?
                        .to_dtype(DType::F64)?
                        .to_vec2::<f64>()?;
                    let idle = rows.iter().position(|row| row.iter().all(|&x| x == 0.0));
                    assert_eq!(idle, None, "{}: a row of `{name}`", case.what);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for case in Case::all(DType::F64)? {
        let parameters = case.parameters();
        let places = coordinates(&parameters, 80, &mut Seed(9).rng(Purpose::Init, 0));
        let loss = || contracted(&case.score(&PAIRS, Mode::Train(&mut stream()))?);
        check_differences(&case.what, &loss, &parameters, &places, 1e-5)?;
    }
    Ok(())
}

#[test]
fn a_pair_does_not_depend_on_those_beside_it_and_evaluation_keeps_no_graph() -> Result<()> {
    for case in Case::all(DType::F32)? {
        let all = case.score(&PAIRS, Mode::Eval)?.to_vec1::<f32>()?;
        for (pair, score) in PAIRS.iter().zip(&all) {
            let alone = case.score(&[*pair], Mode::Eval)?.to_vec1::<f32>()?;
            assert!(
                (alone[0] - score).abs() < 1e-5,
                "{}: {alone:?} {score}",
                case.what
            );
        }
        for parameter in case.scorer.parameters() {
            let score = case.score(&PAIRS, Mode::Eval)?;
            let gradients = contracted(&score)?.backward()?;
            assert!(gradients.get(&parameter.var).is_none(), "{}", case.what);
        }
        assert_eq!(case.score(&[], Mode::Eval)?.dims(), [0]);
    }
    Ok(())
}

#[test]
fn weights_are_functions_of_seed_and_name() -> Result<()> {
    let numbers = |case: &Case| -> Result<Vec<(String, Vec<f32>)>> {
        let parameters = case.scorer.parameters().into_iter();
        parameters
            .map(|it| Ok((it.name, it.var.flatten_all()?.to_vec1()?)))
            .collect()
    };
    for (one, other) in Case::all(DType::F32)?.iter().zip(&Case::all(DType::F32)?) {
        assert_eq!(numbers(one)?, numbers(other)?);
    }
    Ok(())
}
