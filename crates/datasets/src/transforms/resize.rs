//! Images of one size.

use nearfar_core::Rng;
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{
    Error, Image, Value,
    pixels::{Filter, Size, resize_values},
};

/// Makes images of one size. (`size` of a data set does the same before anything else, on bytes.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resize {
    /// The new size.
    pub size: Size,
    /// How.
    pub filter: Filter,
}

impl Default for Resize {
    fn default() -> Self {
        Self {
            size: Size::square(28),
            filter: Filter::Box,
        }
    }
}

impl Transform for Resize {
    fn apply(&self, value: Value, _: &mut Rng) -> Result<Value, Error> {
        let image = image(value, "resize")?;
        let size = self.size.check("resize.size")?;
        let old = [image.height, image.width];
        if old == [size.height, size.width] {
            return Ok(Value::Image(image));
        }
        let values = image
            .values
            .chunks_exact((image.height * image.width).max(1))
            .flat_map(|plane| resize_values(plane, old, [size.height, size.width], self.filter))
            .collect();
        Ok(Value::Image(Image {
            channels: image.channels,
            height: size.height,
            width: size.width,
            values,
        }))
    }
}
