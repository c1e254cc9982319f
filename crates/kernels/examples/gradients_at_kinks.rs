//! What pulls on two embeddings that coincide: with plain candle operations NaN, with these nothing.

use candle_core::{D, Device, Result, Tensor, Var};
use nearfar_kernels::{euclidean, hinge};

fn main() -> Result<()> {
    // An anchor, a positive that coincides with it, and a negative.
    let rows = Var::new(&[[1f32, 2.0], [1.0, 2.0], [1.5, 2.0]], &Device::Cpu)?;

    let plain = |x: &Tensor| {
        (x.unsqueeze(1)?.broadcast_sub(&x.unsqueeze(0)?))?
            .sqr()?
            .sum(D::Minus1)?
            .sqrt()
    };
    let ours = |x: &Tensor| euclidean(x, x);
    for (name, distances) in [("candle", plain(&rows)?), ("nearfar", ours(&rows)?)] {
        // The triplet margin loss: the positive should be nearer than the negative, by 1.
        let anchor = distances.get(0)?;
        let loss = hinge(&((anchor.get(1)? - anchor.get(2)?)? + 1.0)?)?;
        let gradients = loss.backward()?;
        let gradient = gradients.get(&rows).expect("the loss depends on the rows");
        let (loss, gradient) = (loss.to_scalar::<f32>()?, gradient.to_vec2::<f32>()?);
        let line = format!("{name}: loss {loss}, gradients {gradient:?}\n");
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes())?;
    }
    Ok(())
}
