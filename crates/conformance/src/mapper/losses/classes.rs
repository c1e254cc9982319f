//! Losses with class weights.

use candle_core::{DType, Var};
use nearfar_core::{NonNegative, Positive, Reducer};
use nearfar_losses::{ArcFace, ClassificationLoss, Mining, OverClasses};

use super::{Member, Sides, added, chosen, fast, plainly};
use crate::golden::{Given, Mapped, Outputs, Settings, Trouble};
use crate::mapper::regularizers::Regularizer;
use crate::mapper::{Pass, reducers};

/// The peer's names of those that are ours.
pub(super) const NAMES: [&str; 1] = ["ArcFaceLoss"];

/// A loss with class weights, by its name and settings.
pub(super) fn run(
    given: &Given<'_>,
    mut params: Settings,
    sides: &Sides,
    pass: Pass,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let (classes, width) = (
        params.count("num_classes")?,
        params.count("embedding_size")?,
    );
    let weights = given.tensor("W", pass.dtype())?.t()?.contiguous()?;
    if let (Some(classes), Some(width)) = (classes, width)
        && weights.dims() != [classes, width]
    {
        return Err(Trouble::unmapped(
            "W is not of the size that the settings say",
        ));
    }
    let centers = Var::from_tensor(&weights)?;
    let scale = params.number_or("scale", 64.0)?;
    let margin = params.number_or("margin", 28.6)?;
    let regularizer = Regularizer::of_object(params.object("weight_regularizer")?)?;
    let factor = params.number_or("weight_reg_weight", 1.0)?;
    let loss = ArcFace {
        margin: NonNegative::new(margin.to_radians())?, // The peer's is in degrees.
        scale: Positive::new(scale)?,
    };
    let reducer = reducers::of_object(params.object("reducer")?, Reducer::Mean {})?;
    params.finish()?;
    let mining = chosen(given)?.map(Mining::by).unwrap_or_default();
    let loss = OverClasses {
        mining,
        reducer: reducer.clone(),
        ..OverClasses::new("arcface", loss, centers.clone())
    };
    if given.wants("logits") {
        // The peer's are those of a row whose class is not known, so they have no margin.
        let cosines = loss.cosines(sides.embeddings.as_tensor())?;
        let own = cosines.zeros_like()?.to_dtype(DType::U8)?;
        let logits = loss.loss.logits(&cosines, &own)?;
        outputs.put_tensor("logits", &logits)?;
    }
    let comparison = sides.comparison();
    let member = Member {
        weight: 1.0,
        loss: Box::new(loss),
        reducer,
        embeddings: None,
        by_class: false,
    };
    let plain = plainly(std::slice::from_ref(&member), &comparison, outputs)?;
    let total = match pass {
        Pass::Plain => plain,
        Pass::Fast => fast(vec![member], &comparison)?,
    };
    let regularizer = regularizer.map(|regularizer| regularizer.of_rows(centers.as_tensor()));
    let regularizer = regularizer.transpose()?.map(|value| value * factor);
    let total = added(total, regularizer.transpose()?)?;
    sides.put(total.as_ref(), Some(&centers), outputs)
}
