//! Trainable tensors by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use nearfar_core::{Error, Mode, Parameter, Purpose, Seed, position_of_name};

use crate::Init;

/// How many tensors one [`Params`] holds, and one file of weights may hold.
pub const MAX_TENSORS: usize = 10_000;
/// How long a name may be, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 256;
/// How many numbers one tensor may hold. A width with three zeros too many is told here, before memory is asked for.
pub const MAX_NUMBERS: usize = 1 << 29;

/// The tensors of one or several models: made by name, drawn from `(seed, name)`, kept in the order of their names.
///
/// What a tensor starts with is a function of the seed and its full name, so adding a layer does not change how the
/// others start, and two models with one seed and one set of names are equal. A `Params` is a handle: its clones, and
/// the places within it that [`at`](Self::at) gives, share the same tensors.
///
/// ```
/// use candle_core::{DType, Device};
/// use nearfar_core::Seed;
/// use nearfar_models::{Init, Params};
///
/// let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
/// let second = params.at("towers").at(1);
/// second.weight("scale", 3, Init::Constant(1.0))?;
/// assert_eq!(params.parameters()[0].name, "towers.1.scale");
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Params {
    shared: Arc<Shared>,
    /// Empty, or ends in a dot.
    prefix: String,
}

#[derive(Debug)]
struct Shared {
    seed: Seed,
    dtype: DType,
    device: Device,
    weights: Mutex<BTreeMap<String, Weight>>,
}

/// A tensor of a model. Clones are the same tensor.
#[derive(Clone, Debug)]
pub struct Weight {
    var: Var,
    /// Whether this is a running statistic, which is never trained.
    statistic: bool,
    frozen: Arc<AtomicBool>,
}

impl Weight {
    /// The tensor for one pass: joined to the graph where it is being trained, cut off in `Mode::Eval` or when frozen,
    /// so that nothing is kept for a backward pass that never comes.
    pub fn tensor(&self, mode: &Mode<'_>) -> Tensor {
        if mode.trains() && self.trained() {
            self.var.as_tensor().clone()
        } else {
            self.value()
        }
    }

    /// What it holds, cut off from the graph. It shares memory with the variable.
    pub fn value(&self) -> Tensor {
        self.var.as_detached_tensor()
    }

    /// The variable.
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Whether an optimizer changes it: no running statistic, and not frozen.
    pub fn trained(&self) -> bool {
        !self.statistic && !self.frozen()
    }

    /// Whether it is to stay as it is, a running statistic too.
    pub fn frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Its description for whoever trains or keeps it.
    pub(crate) fn parameter(&self, name: &str) -> Parameter {
        Parameter {
            name: name.to_owned(),
            var: self.var.clone(),
            trained: self.trained(),
        }
    }
}

impl Params {
    /// No tensors yet. `dtype` is that of all of them, `f32` or, for tests and comparisons, `f64`.
    ///
    /// # Errors
    /// [`Error::Settings`] for any other type.
    pub fn new(seed: Seed, dtype: DType, device: &Device) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::F64) {
            Err(Error::Settings(format!(
                "parameters cannot be {}; they are f32 or f64",
                dtype.as_str()
            )))?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                seed,
                dtype,
                device: device.clone(),
                weights: Mutex::default(),
            }),
            prefix: String::new(),
        })
    }

    /// The place `part` within this one: names made there begin with `part.`, after what they begin with here.
    #[must_use]
    pub fn at(&self, part: impl Display) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            prefix: format!("{}{part}.", self.prefix),
        }
    }

    /// What all names made here begin with: empty, or ending in a dot.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What tensors start by, besides their names.
    pub fn seed(&self) -> Seed {
        self.shared.seed
    }

    /// The type of all tensors.
    pub fn dtype(&self) -> DType {
        self.shared.dtype
    }

    /// Where the tensors lie.
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// A new trainable tensor, drawn as `init` says from the stream of the seed and the full name.
    ///
    /// # Errors
    /// [`Error::Settings`] when the name is taken or too long, or there are too many tensors, or too many numbers in it.
    pub fn weight(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Weight> {
        self.create(name, &shape.into(), init, false)
    }

    /// A new running statistic: kept and saved, never trained. It starts with `value` everywhere.
    ///
    /// # Errors
    /// Those of [`weight`](Self::weight).
    pub fn statistic(&self, name: &str, shape: impl Into<Shape>, value: f64) -> Result<Weight> {
        self.create(name, &shape.into(), Init::Constant(value), true)
    }

    fn create(&self, name: &str, shape: &Shape, init: Init, statistic: bool) -> Result<Weight> {
        let name = format!("{}{name}", self.prefix);
        if name.len() > MAX_NAME_BYTES {
            Err(Error::Settings(format!(
                "the name of parameter `{name}` is longer than {MAX_NAME_BYTES} bytes"
            )))?;
        }
        let count = shape.dims().iter().try_fold(1usize, |count, &dim| {
            count.checked_mul(dim).filter(|&count| count <= MAX_NUMBERS)
        });
        let Some(count) = count else {
            Err(Error::Settings(format!(
                "parameter `{name}` of shape {:?} would hold more than {MAX_NUMBERS} numbers; choose smaller sizes",
                shape.dims()
            )))?
        };
        {
            let weights = self.weights();
            if weights.contains_key(&name) {
                Err(Error::Settings(format!(
                    "there is a parameter `{name}` already; give each model a place of its own with `params.at(…)`"
                )))?;
            }
            if weights.len() >= MAX_TENSORS {
                Err(Error::Settings(format!(
                    "parameter `{name}` would be number {}; {MAX_TENSORS} is the limit",
                    weights.len() + 1
                )))?;
            }
        }
        let mut rng = self.shared.seed.rng(Purpose::Init, position_of_name(&name));
        let tensor = match self.shared.dtype {
            DType::F64 => Tensor::from_vec(init.draw(count, &mut rng, |x| x), shape, &Device::Cpu)?,
            _ => Tensor::from_vec(
                init.draw(count, &mut rng, |x| x as f32),
                shape,
                &Device::Cpu,
            )?,
        };
        let weight = Weight {
            var: Var::from_tensor(&tensor.to_device(&self.shared.device)?)?,
            statistic,
            frozen: Arc::default(),
        };
        self.weights().insert(name, weight.clone());
        Ok(weight)
    }

    /// The tensor of this name here, if there is one.
    pub fn find(&self, name: &str) -> Option<Weight> {
        self.weights()
            .get(&format!("{}{name}", self.prefix))
            .cloned()
    }

    /// Replaces what the tensor of this name holds, from any type and device.
    ///
    /// # Errors
    /// [`Error::Settings`] when there is none, [`Error::Shape`] when the shapes differ.
    pub fn set(&self, name: &str, values: &Tensor) -> Result<()> {
        let full = format!("{}{name}", self.prefix);
        let Some(weight) = self.find(name) else {
            Err(Error::Settings(format!("there is no parameter `{full}`")))?
        };
        if weight.var.dims() != values.dims() {
            Err(Error::Shape(format!(
                "parameter `{full}` has shape {:?}, the new values {:?}; they must agree",
                weight.var.dims(),
                values.dims()
            )))?;
        }
        let values = values.to_device(self.device())?.to_dtype(self.dtype())?;
        // A copy, as a variable cannot be set to what shares its memory.
        weight.var.set(&values.copy()?)
    }

    /// The tensors made here, in the order of their full names.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.here()
            .iter()
            .map(|(name, weight)| weight.parameter(name))
            .collect()
    }

    /// The same as [`Weight`]s.
    pub(crate) fn here(&self) -> Vec<(String, Weight)> {
        self.weights()
            .range(self.prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&self.prefix))
            .map(|(name, weight)| (name.clone(), weight.clone()))
            .collect()
    }

    /// Stops the training of all tensors at `part` of this place, and gives their number: `blocks.1` is all of that
    /// block and not of `blocks.10`, a full name is one tensor, an empty part is everything here.
    ///
    /// Running statistics still follow the data: give their layer [`Statistics::Frozen`](crate::layers::Statistics) to
    /// stop them too, or freeze them by name through the [`Encoder`](nearfar_core::Encoder). Freeze before an optimizer asks for
    /// the parameters.
    ///
    /// # Errors
    /// [`Error::Settings`] when nothing is there; the message has the names that there are.
    pub fn freeze(&self, part: &str) -> Result<usize> {
        self.mark(part, true)
    }

    /// The reverse of [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// Those of [`freeze`](Self::freeze).
    pub fn thaw(&self, part: &str) -> Result<usize> {
        self.mark(part, false)
    }

    fn mark(&self, part: &str, frozen: bool) -> Result<usize> {
        let mut all = self.here();
        all.retain(|(_, weight)| !weight.statistic);
        let full = format!("{}{part}", self.prefix);
        let full = full.trim_end_matches('.');
        let within = |name: &str| match name.strip_prefix(full) {
            Some(rest) => full.is_empty() || rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        let named: Vec<_> = all.iter().filter(|(name, _)| within(name)).collect();
        if named.is_empty() {
            Err(Error::Settings(format!(
                "there is no trainable parameter at `{full}`; there are {}",
                listed(all.iter().map(|(name, _)| name.as_str()))
            )))?;
        }
        for (_, weight) in &named {
            weight.freeze(frozen);
        }
        Ok(named.len())
    }

    pub(crate) fn weights(&self) -> MutexGuard<'_, BTreeMap<String, Weight>> {
        // A thread that panicked cannot have left the map half changed.
        self.shared
            .weights
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The first names, and how many more there are.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    let shown: Vec<_> = names
        .iter()
        .take(10)
        .map(|name| format!("`{name}`"))
        .collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count > 10 => format!("{} and {} more", shown.join(", "), count - 10),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(seed: u64) -> Params {
        Params::new(Seed(seed), DType::F32, &Device::Cpu).expect("f32")
    }

    fn values(weight: &Weight) -> Vec<f32> {
        weight
            .value()
            .flatten_all()
            .expect("small")
            .to_vec1()
            .expect("f32")
    }

    #[test]
    fn a_tensor_starts_as_its_seed_and_name_say() -> Result<()> {
        let init = Init::fan_in(9);
        let alone = params(7).weight("b", (3, 3), init)?;
        let shared = params(7);
        shared.weight("a", 5, init)?;
        assert_eq!(values(&alone), values(&shared.weight("b", (3, 3), init)?));
        assert_ne!(
            values(&alone),
            values(&shared.at("b").weight("b", (3, 3), init)?)
        );
        assert_ne!(
            values(&alone),
            values(&params(8).weight("b", (3, 3), init)?)
        );
        let twin = Params::new(Seed(7), DType::F64, &Device::Cpu)?.weight("b", (3, 3), init)?;
        let twin = twin
            .value()
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        assert_eq!(values(&alone), twin);
        Ok(())
    }

    #[test]
    fn places_prefix_names_and_see_their_own() -> Result<()> {
        let params = params(7);
        for name in ["b.w", "a.w", "ab"] {
            params.weight(name, 1, Init::Constant(0.0))?;
        }
        params.at("a").statistic("mean", 1, 0.0)?;
        let names = |params: &Params| -> Vec<String> {
            params.parameters().into_iter().map(|it| it.name).collect()
        };
        assert_eq!(names(&params), ["a.mean", "a.w", "ab", "b.w"]);
        assert_eq!(names(&params.at("a")), ["a.mean", "a.w"]);
        assert_eq!(params.at("towers").at(0).prefix(), "towers.0.");
        assert!(!params.parameters()[0].trained && params.parameters()[1].trained);
        Ok(())
    }

    #[test]
    fn frozen_tensors_leave_the_graph() -> Result<()> {
        let params = params(7);
        let weight = params.weight("a.w", 1, Init::Constant(2.0))?;
        params.statistic("a.mean", 1, 0.0)?;
        let mut rng = Seed(0).rng(Purpose::Dropout, 0);
        let mode = Mode::Train(&mut rng);
        assert!(weight.tensor(&mode).is_variable() && !weight.tensor(&Mode::Eval).is_variable());
        assert_eq!(params.freeze("a")?, 1);
        assert!(!weight.tensor(&mode).is_variable() && !params.parameters()[1].trained);
        assert_eq!(params.at("a").thaw("w")?, 1);
        assert!(weight.tensor(&mode).is_variable());
        assert!(
            !params.parameters()[0].trained,
            "a statistic is never trained"
        );
        let error = params.freeze("c").expect_err("there is none").to_string();
        assert_eq!(
            error,
            "there is no trainable parameter at `c`; there are `a.w`"
        );
        params.weight("a.w2", 1, Init::Constant(2.0))?;
        assert_eq!(
            (
                params.freeze("a.w")?,
                params.freeze("")?,
                params.thaw("a.")?
            ),
            (1, 2, 2)
        );
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_told() -> Result<()> {
        let params = params(7);
        let zero = Init::Constant(0.0);
        params.weight("a", 2, zero)?;
        let error = |result: Result<Weight>| result.expect_err("not possible").to_string();
        assert!(error(params.weight("a", 2, zero)).starts_with("there is a parameter `a` already"));
        assert!(error(params.weight(&"a".repeat(257), 2, zero)).contains("longer than 256 bytes"));
        assert!(error(params.weight("b", (usize::MAX, 2), zero)).contains("more than 536870912"));
        assert!(Params::new(Seed(7), DType::F16, &Device::Cpu).is_err());
        params.set("a", &Tensor::new(&[1f64, 2.0], &Device::Cpu)?)?;
        assert_eq!(values(&params.find("a").expect("made above")), [1.0, 2.0]);
        assert!(
            params
                .set("a", &Tensor::new(&[1f32], &Device::Cpu)?)
                .is_err()
        );
        assert!(
            params
                .set("b", &Tensor::new(&[1f32], &Device::Cpu)?)
                .is_err()
        );
        Ok(())
    }
}
