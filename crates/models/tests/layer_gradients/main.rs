//! The layers of larger networks against finite differences, in f64, for each parameter and the input; and no silent freeze
//! in any of them.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Mode, NonNegative, Seed};
use nearfar_models::Params;
use nearfar_models::layers::Embedding;

mod cases;
#[path = "../support/mod.rs"]
mod support;

use cases::{Case, activations, all, blocks, convolutions, norms, pools, sequences};
use support::{contracted, stream};

#[test]
fn convolutions_have_right_gradients() -> Result<()> {
    convolutions(DType::F64)?.iter().try_for_each(Case::check)
}

#[test]
fn norms_have_right_gradients() -> Result<()> {
    norms(DType::F64)?.iter().try_for_each(Case::check)
}

#[test]
fn activations_have_right_gradients() -> Result<()> {
    activations(DType::F64)?.iter().try_for_each(Case::check)
}

#[test]
fn pools_have_right_gradients() -> Result<()> {
    pools(DType::F64)?.iter().try_for_each(Case::check)
}

#[test]
fn sequences_have_right_gradients() -> Result<()> {
    sequences(DType::F64)?.iter().try_for_each(Case::check)
}

#[test]
fn blocks_have_right_gradients() -> Result<()> {
    blocks(DType::F64)?.iter().try_for_each(Case::check)
}

#[test]
fn padding_of_an_embedding_is_not_trained() -> Result<()> {
    let params = Params::new(Seed(3), DType::F64, &Device::Cpu)?;
    let layer = Embedding::new(&params, 4, 3, NonNegative::literal(1.0))?.with_padding(2)?;
    let ids = Tensor::new(&[[1u32, 2, 2], [0, 1, 3]], &Device::Cpu)?;
    let gradients =
        contracted(&layer.forward(&ids, &mut Mode::Train(&mut stream()))?)?.backward()?;
    let weight = params.find("weight").expect("made above");
    let gradient = gradients.get(weight.var()).expect("some are trained");
    let sizes = gradient.abs()?.max(1)?.to_vec1::<f64>()?;
    assert_eq!(
        sizes.iter().map(|&size| size > 0.0).collect::<Vec<_>>(),
        [true, true, false, true]
    );
    Ok(())
}

/// Every tensor of every layer gets a gradient, and no row of one is idle: a half that never moves would not be seen.
#[test]
fn no_part_of_a_layer_is_frozen_in_silence() -> Result<()> {
    let mut tensors = 0;
    for case in all(DType::F64)? {
        let y = (case.forward)(&case.input, &mut Mode::Train(&mut stream()))?;
        let gradients = contracted(&y)?.backward()?;
        for parameter in case.params.parameters().iter().filter(|it| it.trained) {
            let name = &parameter.name;
            let gradient = gradients.get(&parameter.var);
            let gradient = gradient.unwrap_or_else(|| panic!("{}: `{name}` is frozen", case.what));
            // A vector is one row: what is added to all keys alike, attention does not see.
            let rows = match gradient.rank() {
                1 => gradient.unsqueeze(0)?,
                _ => gradient.flatten_from(1)?,
            };
            let rows = rows.to_vec2::<f64>()?;
            let idle = rows.iter().position(|row| row.iter().all(|&x| x == 0.0));
            assert_eq!(
                idle, None,
                "{}: a row of `{name}` has no gradient",
                case.what
            );
            tensors += 1;
        }
    }
    assert!(tensors > 100, "{tensors} tensors were looked at");
    Ok(())
}

#[test]
fn f32_agrees_with_f64_and_evaluation_keeps_no_graph() -> Result<()> {
    for (single, double) in all(DType::F32)?.into_iter().zip(all(DType::F64)?) {
        let run = |case: &Case, mode: &mut Mode<'_>| -> Result<Tensor> {
            let y = (case.forward)(&case.input, mode)?;
            assert!(
                mode.trains() || !y.track_op(),
                "{} keeps a graph",
                case.what
            );
            y.to_dtype(DType::F64)
        };
        // In training first, as that is what changes statistics.
        for trains in [true, false] {
            let (mut one, mut other) = (stream(), stream());
            let [mut one, mut other] = match trains {
                true => [Mode::Train(&mut one), Mode::Train(&mut other)],
                false => [Mode::Eval, Mode::Eval],
            };
            let (y, wanted) = (run(&single, &mut one)?, run(&double, &mut other)?);
            let largest = |x: &Tensor| x.abs()?.max_all()?.to_scalar::<f64>();
            let apart = largest(&(y - &wanted)?)?;
            assert!(
                apart < 1e-5 * largest(&wanted)?.max(1.0),
                "{}: {apart}",
                single.what
            );
        }
    }
    Ok(())
}
