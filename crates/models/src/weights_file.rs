//! Weights as safetensors.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::Error;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::params::listed;
use crate::{MAX_NAME_BYTES, MAX_TENSORS, Params, Weight};

/// A header of [`MAX_TENSORS`] names of full length, with their shapes and places, is shorter.
const MAX_HEADER_BYTES: u64 = 8 << 20;

/// How a file of weights and a model differ. Names are in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// In the model and not in the file.
    pub missing: Vec<String>,
    /// In the file and not in the model.
    pub unexpected: Vec<String>,
    /// In both, with different shapes: name, shape in the model, shape in the file.
    pub misshapen: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut clauses = Vec::new();
        if !self.missing.is_empty() {
            let names = self.missing.iter().map(String::as_str);
            clauses.push(format!("missing are {}", listed(names)));
        }
        if !self.unexpected.is_empty() {
            let names = self.unexpected.iter().map(String::as_str);
            clauses.push(format!("the model has no {}", listed(names)));
        }
        for (name, model, file) in self.misshapen.iter().take(10) {
            clauses.push(format!(
                "`{name}` has shape {file:?} where the model has {model:?}"
            ));
        }
        if self.misshapen.len() > 10 {
            clauses.push(format!(
                "{} more have another shape",
                self.misshapen.len() - 10
            ));
        }
        if clauses.is_empty() {
            clauses.push("the same tensors".to_owned());
        }
        f.write_str(&clauses.join("; "))
    }
}

impl Params {
    /// The tensors made here, statistics and frozen ones too, as a safetensors file. Equal tensors give equal bytes.
    /// Names are written from here on: what `params.at("towers").at(0)` writes, any other place can read.
    ///
    /// # Errors
    /// Those of the device.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let tensors = self
            .named()
            .into_iter()
            .map(|(name, weight)| Ok((name, weight.value().to_device(&Device::Cpu)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(safetensors::serialize(tensors, None)?)
    }

    /// Writes [`to_safetensors`](Self::to_safetensors) beside `path` and renames it, so that `path` is never half a file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = self.to_safetensors()?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".partial");
        std::fs::write(&beside, bytes)
            .and_then(|()| std::fs::rename(&beside, path))
            .map_err(|error| {
                // What is half written is of no use to anybody; the first error is the one to tell.
                std::fs::remove_file(&beside).ok();
                about("write", path, &error)
            })
    }

    /// Reads a file of exactly these tensors: all of them, in these shapes, and no others. Either all are read or none.
    /// Types `f32`, `f64`, `f16` and `bf16` are read, and become that of the parameters.
    ///
    /// # Errors
    /// [`Error::Input`] that lists what is missing, unexpected or of another shape; or when the file is damaged, has
    /// more than [`MAX_TENSORS`] tensors, names of more than [`MAX_NAME_BYTES`], other types, or numbers that are not
    /// finite.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.load_safetensors(&read(path)?, &path.display().to_string())
    }

    /// [`load`](Self::load) from bytes; `place` is named in messages.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_safetensors(&self, bytes: &[u8], place: &str) -> Result<()> {
        let (fitting, differences) = self.compare(bytes, place, &own_names)?;
        if !differences.is_empty() {
            Err(Error::Input(format!(
                "{place} is of another model: {differences}"
            )))?;
        }
        take(fitting)
    }

    /// A file that others wrote, ready to be taken over: `renamed` gives the place here of a tensor of the file, or none where it is
    /// not looked at. What is `anew` here may be missing, and then stays as it is.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), but for differences; and when two tensors would have one name.
    pub(crate) fn compared(
        &self,
        path: &Path,
        renamed: &dyn Fn(&str) -> Option<Place>,
        anew: &dyn Fn(&str) -> bool,
    ) -> Result<Compared> {
        let place = path.display().to_string();
        let (fitting, mut differences) = self.compare(&read(path)?, &place, renamed)?;
        let (stay, missing) = differences.missing.into_iter().partition(|it| anew(it));
        differences.missing = missing;
        Ok(Compared {
            place,
            fitting,
            differences,
            stay,
        })
    }

    /// Reads those tensors of a file that the model has too, for a start from other weights, and gives the differences.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), but for names that are missing or unexpected; and when no tensor fits at all.
    pub fn load_matching(&self, path: impl AsRef<Path>) -> Result<Differences> {
        let path = path.as_ref();
        let place = path.display().to_string();
        let bytes = read(path)?;
        let (fitting, differences) = self.compare(&bytes, &place, &own_names)?;
        if fitting.is_empty() || !differences.misshapen.is_empty() {
            Err(Error::Input(format!(
                "{place} is of another model: {differences}"
            )))?;
        }
        take(fitting)?;
        Ok(differences)
    }

    /// The tensors made here, by their names from here.
    fn named(&self) -> BTreeMap<String, Weight> {
        let prefix = self.prefix().len();
        self.here()
            .into_iter()
            .map(|(name, weight)| (name[prefix..].to_owned(), weight))
            .collect()
    }

    /// Everything that fits, ready to be taken over, and all that does not.
    fn compare(
        &self,
        bytes: &[u8],
        place: &str,
        renamed: &dyn Fn(&str) -> Option<Place>,
    ) -> Result<(Vec<(Weight, Tensor)>, Differences)> {
        let refused = |what: String| Error::Input(format!("{place}: {what}"));
        let header = bytes.get(..8).map_or(0, |bytes| {
            u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken"))
        });
        if header > MAX_HEADER_BYTES {
            Err(refused(format!(
                "its header of {header} bytes is longer than {MAX_HEADER_BYTES}; is it a safetensors file?"
            )))?;
        }
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| refused(format!("it is damaged or no safetensors file ({error})")))?;
        if file.len() > MAX_TENSORS {
            Err(refused(format!(
                "it has {} tensors; {MAX_TENSORS} is the limit",
                file.len()
            )))?;
        }
        let mut views: BTreeMap<String, BTreeMap<usize, _>> = BTreeMap::new();
        for (name, view) in file.tensors() {
            if name.len() > MAX_NAME_BYTES {
                Err(refused(format!(
                    "the name `{name}` is longer than {MAX_NAME_BYTES} bytes"
                )))?;
            }
            let Some(Place { name: here, part }) = renamed(&name) else {
                continue;
            };
            let parts = views.entry(here.clone()).or_default();
            if let Some((other, _)) = parts.insert(part, (name.clone(), view)) {
                Err(refused(format!("`{other}` and `{name}` are both `{here}`")))?;
            }
        }
        let mut model = self.named();
        let mut fitting = Vec::new();
        let mut differences = Differences::default();
        for (name, parts) in views {
            let (in_file, parts): (Vec<_>, Vec<_>) = parts.into_values().unzip();
            let Some(weight) = model.remove(&name) else {
                differences.unexpected.extend(in_file);
                continue;
            };
            let wanted = weight.var().dims();
            let shape = stacked(&parts);
            if shape.as_deref() != Some(wanted) {
                let shape = shape.unwrap_or_else(|| parts[0].shape().to_vec());
                differences.misshapen.push((name, wanted.to_vec(), shape));
                continue;
            }
            let mut values = Vec::with_capacity(parts.len());
            for view in &parts {
                if !matches!(
                    view.dtype(),
                    Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16
                ) {
                    Err(refused(format!(
                        "`{name}` is {:?}; f32, f64, f16 and bf16 are read",
                        view.dtype()
                    )))?;
                }
                values.push(view.load(&Device::Cpu)?.to_dtype(self.dtype())?);
            }
            let values = match &values[..] {
                [one] => one.clone(),
                several => Tensor::cat(several, 0)?,
            };
            let doubles = values
                .flatten_all()?
                .to_dtype(DType::F64)?
                .to_vec1::<f64>()?;
            if let Some(at) = doubles.iter().position(|value| !value.is_finite()) {
                Err(refused(format!(
                    "`{name}` holds {} at position {at}; weights must be finite",
                    doubles[at]
                )))?;
            }
            fitting.push((weight, values.to_device(self.device())?));
        }
        differences.missing = model.into_keys().collect();
        Ok((fitting, differences))
    }
}

/// A file of weights beside a model.
pub(crate) struct Compared {
    place: String,
    fitting: Vec<(Weight, Tensor)>,
    differences: Differences,
    /// What is not in the file and need not be.
    pub(crate) stay: Vec<String>,
}

impl Compared {
    /// Tensors that are not there or have another shape, where they are few beside those that fit, and those are all that differs.
    pub(crate) fn exceptions(&self) -> Vec<&str> {
        let misshapen = self.differences.misshapen.iter().map(|(name, ..)| name);
        let names = self.differences.missing.iter().chain(misshapen);
        let names: Vec<&str> = names.map(String::as_str).collect();
        let few = names.len() <= 8 && names.len() < self.fitting.len();
        match few && self.differences.unexpected.is_empty() {
            true => names,
            false => Vec::new(),
        }
    }

    /// Whether all fits.
    ///
    /// # Errors
    /// [`Error::Input`] with what does not, and behind it what can be done.
    pub(crate) fn check(&self, advice: &str) -> Result<()> {
        if !self.differences.is_empty() {
            Err(Error::Input(format!(
                "{} is of another model: {}{advice}",
                self.place, self.differences
            )))?;
        }
        Ok(())
    }

    /// Takes over what fits.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn take(self) -> Result<()> {
        take(self.fitting)
    }
}

/// Where a tensor of a file belongs.
#[derive(Debug, PartialEq)]
pub(crate) struct Place {
    /// The name here.
    pub(crate) name: String,
    /// Which part it is of a tensor that is in several parts in the file, one below the other: 0, 1, 2, …
    pub(crate) part: usize,
}

impl<S: Into<String>> From<S> for Place {
    /// All of a tensor.
    fn from(name: S) -> Self {
        Self {
            name: name.into(),
            part: 0,
        }
    }
}

/// The names of a file that was written here.
fn own_names(name: &str) -> Option<Place> {
    Some(name.into())
}

/// The shape of tensors below one another; none where they do not fit so.
fn stacked(parts: &[TensorView<'_>]) -> Option<Vec<usize>> {
    let (first, others) = parts.split_first()?;
    let mut shape = first.shape().to_vec();
    for part in others {
        match (&mut shape[..], part.shape()) {
            ([rows, rest @ ..], [more, like @ ..]) if rest == like => {
                *rows = rows.checked_add(*more)?
            }
            _ => return None,
        }
    }
    Some(shape)
}

fn take(fitting: Vec<(Weight, Tensor)>) -> Result<()> {
    fitting
        .into_iter()
        .try_for_each(|(weight, values)| weight.var().set(&values))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    // A pipe or a device has no end that could be trusted.
    let is_file = std::fs::metadata(path)
        .map_err(|error| about("read", path, &error))?
        .is_file();
    if !is_file {
        Err(Error::Input(format!("{} is not a file", path.display())))?;
    }
    std::fs::read(path).map_err(|error| about("read", path, &error))
}

fn about(what: &str, path: &Path, error: &io::Error) -> candle_core::Error {
    io::Error::new(
        error.kind(),
        format!("cannot {what} {}: {error}", path.display()),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Init;
    use nearfar_core::Seed;

    fn params(seed: u64) -> Params {
        let params = Params::new(Seed(seed), DType::F32, &Device::Cpu).expect("f32");
        for (name, shape) in [("a", [2, 3]), ("b", [1, 2])] {
            params
                .weight(name, &shape[..], Init::fan_in(3))
                .expect("new");
        }
        params.statistic("mean", 2, 0.0).expect("new");
        params
    }

    fn bytes(params: &Params) -> Vec<u8> {
        params.to_safetensors().expect("on the CPU")
    }

    fn file(tensors: Vec<(&str, Tensor)>) -> Vec<u8> {
        safetensors::serialize(tensors, None).expect("fits")
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() -> Result<()> {
        let folder = tempfile::tempdir().expect("a place for temporary files");
        let path = folder.path().join("model.safetensors");
        let (first, second) = (params(1), params(2));
        assert_ne!(bytes(&first), bytes(&second));
        first.save(&path)?;
        second.load(&path)?;
        assert_eq!(bytes(&first), bytes(&second));
        assert_eq!(
            std::fs::read_dir(folder.path())
                .expect("it is there")
                .count(),
            1
        );
        // The place within the parameters is not part of the file.
        let elsewhere = params(3).at("towers").at(0);
        elsewhere.weight("a", (2, 3), Init::Constant(0.0))?;
        elsewhere.weight("b", (1, 2), Init::Constant(0.0))?;
        elsewhere.statistic("mean", 2, 1.0)?;
        elsewhere.load(&path)?;
        assert_eq!(bytes(&elsewhere), bytes(&first));
        Ok(())
    }

    #[test]
    fn differences_are_listed_and_nothing_is_taken() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let other = file(vec![
            ("a", zeros(&[3, 2])?),
            ("c", zeros(&[1])?),
            ("mean", zeros(&[2])?),
        ]);
        let params = params(1);
        let before = bytes(&params);
        let error = params
            .load_safetensors(&other, "x.safetensors")
            .expect_err("differs");
        assert_eq!(
            error.to_string(),
            "x.safetensors is of another model: missing are `b`; the model has no `c`; \
             `a` has shape [3, 2] where the model has [2, 3]"
        );
        assert!(matches!(Error::of(&error), Some(Error::Input(_))));
        assert_eq!(bytes(&params), before);
        Ok(())
    }

    #[test]
    fn parts_stand_below_one_another() -> Result<()> {
        let folder = tempfile::tempdir().expect("a place for temporary files");
        let path = folder.path().join("x.safetensors");
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        params.weight("a", (3, 2), Init::Constant(0.0))?;
        let rows = |values: &[[f32; 2]]| {
            Tensor::from_vec(values.concat(), (values.len(), 2), &Device::Cpu)
        };
        let place = |name: &str| {
            let part = name.strip_prefix("a.")?.parse().ok()?;
            let name = "a".to_owned();
            Some(Place { name, part })
        };
        let load = |tensors: Vec<(&str, Tensor)>| {
            std::fs::write(&path, file(tensors)).expect("writable");
            let file = params.compared(&path, &place, &|_| false)?;
            file.check("")?;
            file.take()
        };
        let (first, second) = (rows(&[[1.0, 2.0]])?, rows(&[[3.0, 4.0], [5.0, 6.0]])?);
        load(vec![("a.1", second.clone()), ("a.0", first.clone())])?;
        let a = params.find("a").expect("made above").value();
        let expected = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
        assert_eq!(a.to_vec2::<f32>()?, expected);
        // One part alone, and parts that are not alike.
        let error = |tensors| load(tensors).expect_err("no fit").to_string();
        let alone = error(vec![("a.1", second)]);
        assert!(alone.ends_with("`a` has shape [2, 2] where the model has [3, 2]"));
        let wide = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let unlike = error(vec![("a.0", first), ("a.1", wide)]);
        assert!(unlike.ends_with("`a` has shape [1, 2] where the model has [3, 2]"));
        Ok(())
    }

    #[test]
    fn a_start_from_other_weights_takes_what_fits() -> Result<()> {
        let folder = tempfile::tempdir().expect("a place for temporary files");
        let path = folder.path().join("x.safetensors");
        let ones = Tensor::ones((2, 3), DType::BF16, &Device::Cpu)?;
        std::fs::write(&path, file(vec![("a", ones.clone()), ("c", ones)])).expect("writable");
        let params = params(1);
        let differences = params.load_matching(&path)?;
        assert_eq!(differences.missing, ["b", "mean"]);
        assert_eq!(differences.unexpected, ["c"]);
        let a = params
            .find("a")
            .expect("made above")
            .value()
            .to_vec2::<f32>()?;
        assert_eq!(a, [[1.0; 3]; 2]);
        Ok(())
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() -> Result<()> {
        let params = params(1);
        let error = |bytes: &[u8]| {
            params
                .load_safetensors(bytes, "x")
                .expect_err("cannot be read")
                .to_string()
        };
        let good = bytes(&params);
        assert!(error(&[]).contains("damaged"));
        assert!(error(&good[..good.len() - 1]).contains("damaged"));
        assert!(error(&[0xff; 64]).contains("header"));
        let typed = |tensor: Tensor| file(vec![("a", tensor)]);
        let ids = Tensor::zeros((2, 3), DType::U32, &Device::Cpu)?;
        assert!(error(&typed(ids)).contains("`a` is U32"));
        let nan = Tensor::full(f32::NAN, (2, 3), &Device::Cpu)?;
        assert!(error(&typed(nan)).contains("`a` holds NaN at position 0"));
        let large = Tensor::full(1e300f64, (2, 3), &Device::Cpu)?;
        assert!(
            error(&typed(large)).contains("`a` holds inf"),
            "too large for f32"
        );
        let named = "n".repeat(MAX_NAME_BYTES + 1);
        let tensor = Tensor::zeros(1, DType::F32, &Device::Cpu)?;
        assert!(error(&file(vec![(named.as_str(), tensor)])).contains("longer than 256 bytes"));
        let tiny = |at: usize| {
            (
                format!("{at}"),
                Tensor::zeros(1, DType::F32, &Device::Cpu).expect("tiny"),
            )
        };
        let many: Vec<_> = (0..=MAX_TENSORS).map(tiny).collect();
        let many = safetensors::serialize(many, None)?;
        assert!(error(&many).contains("it has 10001 tensors; 10000 is the limit"));
        assert!(
            params
                .load("no/such/file")
                .expect_err("none")
                .to_string()
                .contains("cannot read")
        );
        Ok(())
    }
}
