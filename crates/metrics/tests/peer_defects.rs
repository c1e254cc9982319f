//! What other libraries do wrong with distances, and what is right here. Numbers are those of our list of such defects, whose
//! others are in `nearfar-losses` and `nearfar-eval`.

use candle_core::{Device, Result, Tensor, Var};
use nearfar_core::{Distance, Similarity};
use nearfar_metrics::{Dot, Snr};

/// 5. The peer's signal-to-noise distance of a constant row is infinite, and its gradient NaN.
#[test]
fn d05_a_constant_row_has_a_finite_signal_to_noise_distance() -> Result<()> {
    for constant in [0.0, 1.0, -7.5] {
        let rows = Var::new(
            &[[constant; 3], [0.9f64, 0.1, 0.2], [constant + 1.0; 3]],
            &Device::Cpu,
        )?;
        let distances = Snr {}.matrix(&rows, &rows)?;
        let gradients = distances.sum_all()?.backward()?;
        let gradient = gradients.get(&rows).expect("it depends on its rows");
        for tensor in [&distances, gradient] {
            let numbers = tensor.flatten_all()?.to_vec1::<f64>()?;
            assert!(numbers.iter().all(|it| it.is_finite()), "{numbers:?}");
        }
        let between_constants = distances.to_vec2::<f64>()?[0][2];
        assert_eq!(between_constants, 0.0);
    }
    Ok(())
}

/// 8. The peer's dot product divides rows by their length unless it is told not to.
#[test]
fn d08_a_dot_product_is_one_of_rows_as_they_are() -> Result<()> {
    let (x, y) = (
        Tensor::new(&[[3f64, 4.0]], &Device::Cpu)?,
        Tensor::new(&[[10f64, 0.0]], &Device::Cpu)?,
    );
    assert_eq!(Dot {}.matrix(&x, &y)?.to_vec2::<f64>()?, [[30.0]]);
    assert_eq!(Dot {}.paired(&x, &y)?.to_vec1::<f64>()?, [30.0]);
    Ok(())
}
