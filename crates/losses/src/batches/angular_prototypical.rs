//! Softmax over scaled cosines with the means of classes.

use std::num::NonZeroUsize;

use candle_core::Result;
use nearfar_core::{Finite, Loss, Positive};
use serde::{Deserialize, Serialize};

use super::ge2e::{GE2EForm, Scaled};
use crate::family::BatchLoss;
use crate::{Compares, Join, Reads};

/// Wants each query more similar to the prototype of its class than to those of all other classes of the batch.
///
/// ```text
/// l = −log softmax(S)_own,   S_k = w cos(x, c_k) + b,   c_k = mean of the support of class k
/// ```
///
/// Support and queries are those of [`prototypical`](crate::Prototypical): with `support = s` the first `s` rows of each class are
/// its support and the others the queries; without it all other rows of a class are its support, and then the loss is
/// [`ge2e`](crate::GE2E) with its softmax. `w` and `b` are parameters of the loss, `scale` and `shift`; `w` is kept above 1e-6.
/// Reads classes; takes no miner.
///
/// Source: Chung et al., "In defence of metric learning for speaker recognition", Interspeech 2020,
/// <https://arxiv.org/abs/2003.11982>, section 2.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AngularPrototypical {
    /// How many rows of each class are its support; where it is left out, all others are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub support: Option<NonZeroUsize>,
    /// Where `w` starts.
    pub scale: Positive,
    /// Where `b` starts.
    pub shift: Finite,
}

impl Default for AngularPrototypical {
    /// The paper's values, and all other rows as support.
    fn default() -> Self {
        Self {
            support: None,
            scale: Positive::literal(10.0),
            shift: Finite::literal(-5.0),
        }
    }
}

impl BatchLoss for AngularPrototypical {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, join: Join) -> Result<Box<dyn Loss>> {
        let start = (self.scale.get(), self.shift.get());
        Scaled::boxed(name, self.support, GE2EForm::Softmax, start, join)
    }
}
