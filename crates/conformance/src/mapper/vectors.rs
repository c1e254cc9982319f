//! `scipy.spatial.distance`.

use nearfar_core::Distance;
use nearfar_metrics::{
    BrayCurtis, Canberra, Chebyshev, Correlation, CosineDistance, Euclidean, Exponent, Mahalanobis,
    Manhattan, Minkowski, SquaredEuclidean,
};

use super::{Claim, Mapper, Pass};
use crate::golden::{Case, Given, Mapped, Outputs, Trouble};

const PREFIX: &str = "scipy.spatial.distance.";
const MATRIX: &str = "cdist";
const MAHALANOBIS: &str = "mahalanobis";
const MINKOWSKI: &str = "minkowski";

/// Distances of two vectors, and of the rows of two matrices.
pub(super) struct Vectors;

impl Mapper for Vectors {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        match function.path().strip_prefix(PREFIX) {
            Some(MAHALANOBIS | MINKOWSKI) => Claim::Ours,
            Some(MATRIX) => match function.params().text("metric") {
                Ok(Some(name)) if named(&name).is_none() => Claim::NotWith(name),
                _ => Claim::Ours,
            },
            Some(name) if named(name).is_some() => Claim::Ours,
            _ => Claim::No,
        }
    }

    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        function.call().finish()?;
        let mut params = function.params();
        let name = match function.short() {
            MATRIX => params.text("metric")?.unwrap_or_default(),
            name => name.to_owned(),
        };
        let p = params.number("p")?;
        params.finish()?;
        let distance: Box<dyn Distance> = match named(&name) {
            Some(distance) => distance,
            None if name == MAHALANOBIS => {
                let matrix = given.input("inverse_covariance")?;
                given.find("covariance"); // What it is the inverse of.
                let dim = matrix.shape.first().copied().unwrap_or(0);
                Box::new(Mahalanobis::from_matrix(dim, &matrix.to_real())?)
            }
            None if name == MINKOWSKI => Box::new(Minkowski {
                p: Exponent::new(p.unwrap_or(2.0))?,
                ..Minkowski::default()
            }),
            None => return Err(Trouble::unmapped(format!("the distance {name}"))),
        };
        let mut outputs = Outputs::default();
        if function.short() == MATRIX {
            let (x, y) = (
                given.tensor("X", pass.dtype())?,
                given.tensor("Y", pass.dtype())?,
            );
            outputs.put_tensor("matrix", &distance.matrix(&x, &y)?)?;
        } else {
            let row = |role: &str| -> Mapped<_> {
                Ok(given
                    .tensor(role, pass.dtype())?
                    .flatten_all()?
                    .unsqueeze(0)?)
            };
            outputs.put_tensor("distance", &distance.paired(&row("x")?, &row("y")?)?)?;
        }
        given.finish()?;
        Ok(outputs)
    }
}

fn named(name: &str) -> Option<Box<dyn Distance>> {
    Some(match name {
        "euclidean" => Box::new(Euclidean {}),
        "sqeuclidean" => Box::new(SquaredEuclidean {}),
        "cityblock" => Box::new(Manhattan {}),
        "chebyshev" => Box::new(Chebyshev {}),
        "cosine" => Box::new(CosineDistance {}),
        "correlation" => Box::new(Correlation {}),
        "canberra" => Box::new(Canberra {}),
        "braycurtis" => Box::new(BrayCurtis {}),
        _ => return None,
    })
}
