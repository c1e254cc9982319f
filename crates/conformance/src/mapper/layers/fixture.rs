//! A layer with the weights of the peer, what it reads, and the gradients of both.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use nearfar_core::{Mode, Positive, Purpose, Seed};
use nearfar_models::Params;

use crate::golden::{Array, Given, Mapped, Outputs, Settings, Trouble};

/// A layer's parameters, and what it reads.
pub(super) struct Fixture {
    pub(super) params: Params,
    pub(super) input: Var,
    /// From our names to the peer's, where they differ; a parameter may be the sum of several of the peer's.
    pub(super) peer: fn(&str) -> Vec<String>,
}

impl Fixture {
    pub(super) fn new(given: &Given<'_>) -> Mapped<Self> {
        Ok(Self {
            params: parameters()?,
            input: Var::from_tensor(&given.tensor("input", DType::F64)?)?,
            peer: |name| vec![name.to_owned()],
        })
    }

    /// Gives every parameter what the peer had in it.
    pub(super) fn set_all(&self, given: &Given<'_>) -> Mapped<()> {
        for parameter in self.params.parameters() {
            let parts = (self.peer)(&parameter.name)
                .iter()
                .map(|name| given.tensor(name, DType::F64))
                .collect::<Mapped<Vec<_>>>()?;
            let values = Tensor::stack(&parts, 0)?.sum(0)?;
            self.params.set(&parameter.name, &values)?;
        }
        Ok(())
    }

    /// What a layer with the peer's weights gives in training, and the gradients.
    pub(super) fn layer(
        &self,
        given: &Given<'_>,
        outputs: &mut Outputs,
        forward: impl FnOnce(&Tensor, &mut Mode<'_>) -> candle_core::Result<Tensor>,
    ) -> Mapped<()> {
        self.set_all(given)?;
        let output = training(|mode| forward(&self.input, mode))?;
        self.backward(given, &output, outputs)
    }

    /// The output, and the gradients of `Σ output · cotangent`: of the input and of every parameter.
    pub(super) fn backward(
        &self,
        given: &Given<'_>,
        output: &Tensor,
        outputs: &mut Outputs,
    ) -> Mapped<()> {
        let gradients = self.gradients(given, &[("output", output)], outputs)?;
        self.put_gradients(&gradients, outputs)
    }

    /// Several outputs by their roles, and the gradients of the sum of each with its cotangent.
    pub(super) fn gradients(
        &self,
        given: &Given<'_>,
        parts: &[(&str, &Tensor)],
        outputs: &mut Outputs,
    ) -> Mapped<GradStore> {
        let mut total: Option<Tensor> = None;
        for (role, part) in parts {
            outputs.put_tensor(*role, part)?;
            let cotangent = match *role {
                "output" => "cotangent".to_owned(),
                role => format!("cotangent.{role}"),
            };
            let cotangent = given.tensor(&cotangent, DType::F64)?;
            let product = (*part * cotangent)?.sum_all()?;
            total = Some(match total {
                None => product,
                Some(sum) => (sum + product)?,
            });
        }
        let total = total.ok_or_else(|| Trouble::unmapped("a layer gives something"))?;
        let gradients = total.backward()?;
        if given.wants("grad_input") {
            outputs.put_tensor("grad_input", &gradient(&gradients, &self.input)?)?;
        }
        Ok(gradients)
    }

    pub(super) fn put_gradients(&self, gradients: &GradStore, outputs: &mut Outputs) -> Mapped<()> {
        for parameter in self.params.parameters() {
            if parameter.trained {
                let gradient = gradient(gradients, &parameter.var)?;
                for name in (self.peer)(&parameter.name) {
                    outputs.put_tensor(format!("grad_{name}"), &gradient)?;
                }
            }
        }
        Ok(())
    }

    /// What the running statistics have become.
    pub(super) fn statistics(&self, suffix: &str, outputs: &mut Outputs) -> Mapped<()> {
        for parameter in self.params.parameters() {
            for name in (self.peer)(&parameter.name) {
                if name.ends_with("running_mean") || name.ends_with("running_var") {
                    outputs.put_tensor(format!("{name}{suffix}"), &parameter.var)?;
                }
            }
        }
        Ok(())
    }
}

pub(super) fn parameters() -> Mapped<Params> {
    Ok(Params::new(Seed(0), DType::F64, &Device::Cpu)?)
}

pub(super) fn gradient(gradients: &GradStore, var: &Var) -> Mapped<Tensor> {
    match gradients.get(var) {
        Some(gradient) => Ok(gradient.clone()),
        None => Ok(var.zeros_like()?),
    }
}

/// Runs something in the mode of training.
pub(super) fn training<T>(run: impl FnOnce(&mut Mode<'_>) -> candle_core::Result<T>) -> Mapped<T> {
    let mut rng = Seed(0).rng(Purpose::Dropout, 0);
    Ok(run(&mut Mode::Train(&mut rng))?)
}

/// Two ways of ours to the same numbers.
pub(super) fn agree(what: &str, one: &Tensor, other: &Tensor) -> Mapped<()> {
    let apart = Array::of(&(one - other)?.abs()?.max_all()?)?.to_real()[0];
    // A NaN is not near.
    if apart < 1e-12 {
        return Ok(());
    }
    Err(Trouble::Refused(format!("{what}: apart by {apart}")))
}

pub(super) fn size(params: &mut Settings, key: &str) -> Mapped<usize> {
    let found = params.count(key)?;
    found.ok_or_else(|| Trouble::unmapped(format!("`{key}` is missing")))
}

/// A number for each dimension, or one for all; none where nothing is written.
pub(super) fn sizes<const N: usize>(
    params: &mut Settings,
    key: &str,
) -> Mapped<Option<[usize; N]>> {
    let Some(value) = params.value(key) else {
        return Ok(None);
    };
    let whole = |value: &serde_json::Value| value.as_u64().map(|number| number as usize);
    let numbers = match value.as_array() {
        Some(list) => list.iter().map(whole).collect::<Option<Vec<_>>>(),
        None => whole(&value).map(|number| vec![number; N]),
    };
    let numbers = numbers.and_then(|numbers| <[usize; N]>::try_from(numbers).ok());
    let wrong = || Trouble::unmapped(format!("`{key}` is {value}; {N} numbers are wanted"));
    numbers.map(Some).ok_or_else(wrong)
}

pub(super) fn positive(params: &mut Settings, key: &str, default: f64) -> Mapped<Positive> {
    Ok(Positive::new(params.number_or(key, default)?)?)
}
