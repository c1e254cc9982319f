//! Values of other libraries: manifests, their tensors, and how ours are compared with them.
//!
//! A folder holds families; a family is `<name>.json`, its list of cases, with `<name>.safetensors`. Nothing here knows the
//! name of a family or of a case, so that files can be added or replaced.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why the golden values themselves cannot be read.
pub type Unreadable = String;

/// The folder that `NEARFAR_GOLDEN` names.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// None where the variable is not set.
    pub fn from_env() -> Option<Self> {
        let named = std::env::var_os("NEARFAR_GOLDEN").filter(|name| !name.is_empty())?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        Some(Self(root.join(named))) // An absolute path replaces the root.
    }

    /// All families, by name.
    ///
    /// # Errors
    /// With the file that cannot be read, or when there is none.
    pub fn families(&self) -> Result<Vec<Family>, Unreadable> {
        let folder = self.0.display();
        let entries = std::fs::read_dir(&self.0).map_err(|error| format!("{folder}: {error}"))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| format!("{folder}: {error}"))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(format!("{folder}: there is no manifest (*.json)"));
        }
        paths.iter().map(|path| Family::read(path)).collect()
    }
}

/// Cases of one kind, with their tensors.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// In the order of the manifest.
    pub cases: Vec<Case>,
    tensors: BTreeMap<String, Array>,
}

#[derive(Deserialize)]
struct Manifest {
    family: String,
    tensors: String,
    count: usize,
    cases: Vec<Case>,
}

impl Family {
    fn read(path: &Path) -> Result<Self, Unreadable> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|error| format!("{place}: {error}"))?;
        if manifest.count != manifest.cases.len() {
            let found = manifest.cases.len();
            return Err(format!(
                "{place}: `count` is {}, but there are {found} cases",
                manifest.count
            ));
        }
        let tensors = path.with_file_name(&manifest.tensors);
        let tensors =
            Array::read_all(&tensors).map_err(|error| format!("{}: {error}", tensors.display()))?;
        Ok(Self {
            name: manifest.family,
            cases: manifest.cases,
            tensors,
        })
    }

    /// A case with its tensors.
    pub fn given<'a>(&'a self, case: &'a Case) -> Given<'a> {
        Given {
            case,
            tensors: &self.tensors,
            read: RefCell::default(),
        }
    }
}

/// One call of a function of another library.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Its name.
    #[serde(rename = "case")]
    pub name: String,
    /// What was called.
    pub function: Function,
    /// Names of the tensors that went in.
    pub inputs: Vec<String>,
    /// Names of the tensors that came out.
    pub outputs: Vec<String>,
    /// What may differ, as a part of the largest entry of a tensor.
    pub rtol: f64,
    /// What may differ besides.
    pub atol: f64,
    #[serde(default)]
    rtol_of: BTreeMap<String, f64>,
    #[serde(default)]
    peer_fails: Option<Value>,
    #[serde(default)]
    informative: Vec<String>,
    #[serde(default)]
    sensitive: Value,
    #[serde(default)]
    true_infinity: Option<Value>,
}

impl Case {
    /// Whether the other library failed here, or the value is truly infinite, so that an error of ours is an answer.
    pub fn may_be_refused(&self) -> bool {
        self.peer_fails.is_some() || self.true_infinity.is_some()
    }

    /// Whether there is an input of this role.
    pub fn has_input(&self, role: &str) -> bool {
        self.inputs.iter().any(|name| role_of(name) == role)
    }

    /// Whether an output is there for the reader only. `peer.*` is the other library's value where it contradicts its own
    /// definition.
    fn is_informative(&self, role: &str) -> bool {
        role.starts_with("peer.") || self.informative.iter().any(|it| it == role)
    }

    /// Whether an output hangs on the last bits of the input, so that only a finite value is wanted.
    fn is_sensitive(&self, role: &str, rounded: bool) -> bool {
        if rounded && !self.sensitive.is_null() {
            return true; // Of rounded inputs the last bits are others, and no output can be trusted.
        }
        match &self.sensitive {
            Value::Object(roles) => roles.contains_key(role),
            Value::Array(roles) => roles.iter().any(|it| it == role),
            other => other.as_bool() == Some(true),
        }
    }
}

/// A function of another library, or one of the authors of the values, with its settings.
#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    #[serde(default)]
    peer: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    params: Map<String, Value>,
    /// What belongs to the call: `method`, `problem`, …
    #[serde(flatten)]
    call: Map<String, Value>,
}

impl Function {
    /// The full name of the other library's function, or the name of the authors' own.
    pub fn path(&self) -> &str {
        self.peer.as_deref().or(self.name.as_deref()).unwrap_or("")
    }

    /// The last part of the full name, as in `TripletMarginLoss`.
    pub fn short(&self) -> &str {
        let path = self.path();
        if path.contains(' ') {
            return path; // Several functions at once.
        }
        path.rsplit('.').next().unwrap_or(path)
    }

    /// Its settings.
    pub fn params(&self) -> Settings {
        Settings::new(self.short(), self.params.clone())
    }

    /// Whether a setting is written down as null, which need not be its default.
    pub fn has_null(&self, key: &str) -> bool {
        self.params.get(key) == Some(&Value::Null)
    }

    /// What else belongs to the call.
    pub fn call(&self) -> Settings {
        let mut call = self.call.clone();
        for told in ["reference", "definition"] {
            call.remove(told); // For the reader.
        }
        Settings::new(self.short(), call)
    }
}

/// Why a case has no values of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The mapper does not know what to do with it.
    Unmapped(String),
    /// Our code answered with this error.
    Refused(String),
}

/// What the mapper gives.
pub type Mapped<T> = Result<T, Trouble>;

impl Trouble {
    /// The mapper does not know what to do with this.
    pub fn unmapped(what: impl Into<String>) -> Self {
        Self::Unmapped(what.into())
    }
}

macro_rules! refused {
    ($($error:ty),* $(,)?) => {$(
        impl From<$error> for Trouble {
            fn from(error: $error) -> Self {
                Self::Refused(error.to_string())
            }
        }
    )*};
}

refused!(
    candle_core::Error,
    nearfar_core::Error,
    nearfar_eval::Error,
    nearfar_trainer::Error,
);

/// Settings that must all be read: one that is left over is one that the mapper does not know.
#[derive(Clone, Debug)]
pub struct Settings {
    place: String,
    values: Map<String, Value>,
}

impl Settings {
    fn new(place: &str, values: Map<String, Value>) -> Self {
        Self {
            place: place.into(),
            values,
        }
    }

    fn wrong(&self, key: &str, value: &Value, wanted: &str) -> Trouble {
        Trouble::Unmapped(format!(
            "{}: `{key}` is {value}, {wanted} is wanted",
            self.place
        ))
    }

    /// A setting as it is; none where it is missing or null.
    pub fn value(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key).filter(|value| !value.is_null())
    }

    /// A number.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn number(&mut self, key: &str) -> Mapped<Option<f64>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, &value, "a number")),
        }
    }

    /// A number, or what it is by default.
    ///
    /// # Errors
    /// As [`number`](Self::number).
    pub fn number_or(&mut self, key: &str, default: f64) -> Mapped<f64> {
        Ok(self.number(key)?.unwrap_or(default))
    }

    /// A whole number of 0 or more.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn count(&mut self, key: &str) -> Mapped<Option<usize>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.wrong(key, &value, "a whole number")),
        }
    }

    /// Yes or no, or what it is by default.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn flag_or(&mut self, key: &str, default: bool) -> Mapped<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(key, &other, "true or false")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn text(&mut self, key: &str) -> Mapped<Option<String>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, &other, "a text")),
        }
    }

    /// A list of numbers.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn numbers(&mut self, key: &str) -> Mapped<Option<Vec<f64>>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let numbers = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect());
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.wrong(key, &value, "a list of numbers")),
        }
    }

    /// Settings within settings; none is empty.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn settings(&mut self, key: &str) -> Mapped<Self> {
        match self.value(key) {
            None => Ok(Self::new(&self.place, Map::new())),
            Some(Value::Object(values)) => Ok(Self::new(&self.place, values)),
            Some(other) => Err(self.wrong(key, &other, "settings")),
        }
    }

    /// Another object of the same library.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn object(&mut self, key: &str) -> Mapped<Option<Object>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => self.object_of(key, value).map(Some),
        }
    }

    /// A list of other objects.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] for anything else.
    pub fn objects(&mut self, key: &str) -> Mapped<Option<Vec<Object>>> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(list)) => {
                let objects = list.into_iter().map(|value| self.object_of(key, value));
                objects.collect::<Mapped<_>>().map(Some)
            }
            Some(other) => Err(self.wrong(key, &other, "a list of objects")),
        }
    }

    fn object_of(&self, key: &str, value: Value) -> Mapped<Object> {
        #[derive(Deserialize)]
        struct Written {
            name: String,
            #[serde(default)]
            params: Map<String, Value>,
        }
        let written: Written = serde_json::from_value(value.clone())
            .map_err(|_| self.wrong(key, &value, "an object with `name` and `params`"))?;
        Ok(Object {
            params: Settings::new(&format!("{}.{}", self.place, written.name), written.params),
            name: written.name,
        })
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] with the first setting that is.
    pub fn finish(self) -> Mapped<()> {
        match self.values.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((key, value)) => Err(Trouble::Unmapped(format!(
                "{}: `{key}` = {value} is not known to the mapper",
                self.place
            ))),
        }
    }
}

/// An object of the other library among the settings of a function.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its class.
    pub name: String,
    /// Its settings.
    pub params: Settings,
}

/// Numbers with a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Row-major.
    pub numbers: Numbers,
}

/// Real or whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Compared with a tolerance.
    Real(Vec<f64>),
    /// Compared exactly.
    Whole(Vec<i64>),
}

impl Array {
    /// Real numbers.
    pub fn real(shape: &[usize], values: Vec<f64>) -> Self {
        Self {
            shape: shape.to_vec(),
            numbers: Numbers::Real(values),
        }
    }

    /// One real number.
    pub fn scalar(value: f64) -> Self {
        Self::real(&[], vec![value])
    }

    /// Whole numbers.
    pub fn whole(shape: &[usize], values: Vec<i64>) -> Self {
        Self {
            shape: shape.to_vec(),
            numbers: Numbers::Whole(values),
        }
    }

    /// The numbers of a tensor.
    ///
    /// # Errors
    /// Those of candle.
    pub fn of(tensor: &Tensor) -> candle_core::Result<Self> {
        let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Self::real(tensor.dims(), values))
    }

    fn read_all(path: &Path) -> Result<BTreeMap<String, Self>, Unreadable> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
        let mut arrays = BTreeMap::new();
        for (name, view) in file.tensors() {
            let eights = view.data().chunks_exact(8).map(|chunk| {
                let mut eight = [0; 8];
                eight.copy_from_slice(chunk);
                eight
            });
            let numbers = match view.dtype() {
                Dtype::F64 => Numbers::Real(eights.map(f64::from_le_bytes).collect()),
                Dtype::I64 => Numbers::Whole(eights.map(i64::from_le_bytes).collect()),
                other => return Err(format!("`{name}` is {other:?}; F64 or I64 is wanted")),
            };
            let shape = view.shape().to_vec();
            arrays.insert(name, Self { shape, numbers });
        }
        Ok(arrays)
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Real(values) => values.len(),
            Numbers::Whole(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As real numbers.
    pub fn to_real(&self) -> Vec<f64> {
        match &self.numbers {
            Numbers::Real(values) => values.clone(),
            Numbers::Whole(values) => values.iter().map(|&value| value as f64).collect(),
        }
    }

    /// As a tensor on the CPU.
    ///
    /// # Errors
    /// Those of candle.
    pub fn tensor(&self, dtype: DType) -> candle_core::Result<Tensor> {
        Tensor::from_vec(self.to_real(), self.shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)
    }

    fn is_finite(&self) -> bool {
        match &self.numbers {
            Numbers::Real(values) => values.iter().all(|value| value.is_finite()),
            Numbers::Whole(_) => true,
        }
    }
}

/// A case with its tensors. Inputs must all be read: one that is left over is one that the mapper does not know.
#[derive(Debug)]
pub struct Given<'a> {
    /// The case.
    pub case: &'a Case,
    tensors: &'a BTreeMap<String, Array>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Given<'a> {
    /// The input of this role, which is the part of its name after the last `/`.
    pub fn find(&self, role: &str) -> Option<&'a Array> {
        let name = self.case.inputs.iter().find(|name| role_of(name) == role)?;
        self.read.borrow_mut().insert(name.clone());
        self.tensors.get(name)
    }

    /// The input of this role.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] where there is none.
    pub fn input(&self, role: &str) -> Mapped<&'a Array> {
        self.find(role)
            .ok_or_else(|| Trouble::unmapped(format!("there is no input `{role}`")))
    }

    /// The input of this role as a tensor.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] where there is none.
    pub fn tensor(&self, role: &str, dtype: DType) -> Mapped<Tensor> {
        Ok(self.input(role)?.tensor(dtype)?)
    }

    /// The input of this role as whole numbers of 0 or more.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] where there is none, or they are not.
    pub fn indices(&self, role: &str) -> Mapped<Vec<u32>> {
        let Numbers::Whole(values) = &self.input(role)?.numbers else {
            return Err(Trouble::unmapped(format!("`{role}` has no whole numbers")));
        };
        let indices = values.iter().map(|&value| u32::try_from(value));
        indices
            .collect::<Result<_, _>>()
            .map_err(|error| Trouble::unmapped(format!("`{role}`: {error}")))
    }

    /// Whether an output of this role is wanted.
    pub fn wants(&self, role: &str) -> bool {
        self.case.outputs.iter().any(|name| role_of(name) == role)
    }

    /// The roles of wanted outputs that begin so.
    pub fn outputs_that_begin(&self, prefix: &str) -> Vec<&'a str> {
        let roles = self.case.outputs.iter().map(|name| role_of(name));
        roles.filter(|role| role.starts_with(prefix)).collect()
    }

    /// What the other library gave for this role, for its shape alone.
    pub fn shape_of_output(&self, role: &str) -> Option<&'a [usize]> {
        let name = self
            .case
            .outputs
            .iter()
            .find(|name| role_of(name) == role)?;
        Some(&self.tensors.get(name)?.shape)
    }

    /// The first numbers of an output, where a walk starts that has no start among its inputs.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] where there is none.
    pub fn start_of_output(&self, role: &str, count: usize) -> Mapped<Vec<f64>> {
        let name = self.case.outputs.iter().find(|name| role_of(name) == role);
        let array = name.and_then(|name| self.tensors.get(name));
        let numbers = array.map(Array::to_real).unwrap_or_default();
        match numbers.get(..count) {
            Some(start) => Ok(start.to_vec()),
            None => Err(Trouble::unmapped(format!("where does `{role}` start?"))),
        }
    }

    /// Whether every input was read.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`] with the first that was not.
    pub fn finish(&self) -> Mapped<()> {
        let read = self.read.borrow();
        match self.case.inputs.iter().find(|name| !read.contains(*name)) {
            None => Ok(()),
            Some(name) => Err(Trouble::unmapped(format!("the input `{name}` is not read"))),
        }
    }

    /// The outputs that were left out although they are stored.
    pub fn left_out(&self, got: &Mapped<Outputs>) -> Vec<&'static str> {
        let left_out = got.iter().flat_map(|got| &got.left_out);
        left_out.copied().filter(|role| self.wants(role)).collect()
    }

    /// The outputs that were compared with the definition and not with what is stored.
    pub fn defined(&self, got: &Mapped<Outputs>) -> Vec<&'static str> {
        let defined = got.iter().flat_map(|got| got.defined.keys());
        defined.copied().filter(|role| self.wants(role)).collect()
    }

    /// What is wrong with what we got, or nothing.
    pub fn compare(&self, got: &Mapped<Outputs>, tolerance: Tolerance) -> Vec<String> {
        let case = self.case;
        let wanted = case.outputs.iter().map(|name| (role_of(name), name));
        let wanted: Vec<_> = wanted
            .filter(|(role, _)| !case.is_informative(role))
            .collect();
        let mine = match got {
            Ok(got) => got,
            Err(Trouble::Refused(_)) if case.may_be_refused() && wanted.is_empty() => {
                return Vec::new();
            }
            Err(Trouble::Refused(error)) => return vec![format!("refused: {error}")],
            Err(Trouble::Unmapped(what)) => return vec![format!("not mapped: {what}")],
        };
        let mut wrong = Vec::new();
        for (role, name) in wanted {
            let Some(want) = self.tensors.get(name) else {
                wrong.push(format!("{role}: the tensor `{name}` is not in the file"));
                continue;
            };
            if mine.left_out.contains(&role) {
                continue;
            }
            let Some(got) = mine.find(role) else {
                wrong.push(format!("{role}: the mapper gives no such output"));
                continue;
            };
            if case.is_sensitive(role, tolerance.rounded) {
                if !got.is_finite() {
                    wrong.push(format!("{role}: it is not finite"));
                }
                continue;
            }
            let rtol = case.rtol_of.get(role).copied().unwrap_or(0.0);
            let relative = tolerance.relative.max(rtol);
            let tolerance = Tolerance {
                relative,
                ..tolerance
            };
            let want = mine.defined.get(role).unwrap_or(want);
            let (mut got, mut want) = (got.clone(), want.clone());
            if let Some(rows) = ours_alone(&mut got, &mut want, &mine.by_definition, role)
                && rows != 0.0
            {
                wrong.push(format!("{role}: {rows:e} where our definition has 0"));
            }
            if let Some(difference) = difference(&got, &want, tolerance) {
                wrong.push(format!("{role}: {difference}"));
            }
        }
        if case.true_infinity.is_none() {
            for (role, array) in &mine.arrays {
                let stored = case.outputs.iter().any(|name| role_of(name) == role);
                if !stored && !array.is_finite() {
                    wrong.push(format!("{role}: it is not finite"));
                }
            }
        }
        wrong
    }
}

/// The part of a tensor's name after the last `/`.
fn role_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// What may differ: `|got − want| ≤ absolute + relative · max |want|`, over all entries of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// As a part of the largest entry.
    pub relative: f64,
    /// Besides.
    pub absolute: f64,
    /// Whether the inputs were rounded to f32.
    pub rounded: bool,
}

/// Sets the rows of an output that are 0 by our definition to 0 on both sides, and says the largest that ours was.
fn ours_alone(
    got: &mut Array,
    want: &mut Array,
    rows: &BTreeMap<&'static str, Vec<bool>>,
    role: &str,
) -> Option<f64> {
    let rows = rows.get(role)?;
    let (Numbers::Real(got), Numbers::Real(want)) = (&mut got.numbers, &mut want.numbers) else {
        return None;
    };
    let width = got.len() / rows.len().max(1);
    let mut largest = 0f64;
    for (row, _) in rows.iter().enumerate().filter(|(_, zero)| **zero) {
        let places = row * width..(row + 1) * width;
        for ours in got.get_mut(places.clone()).into_iter().flatten() {
            largest = largest.max(ours.abs());
            *ours = 0.0;
        }
        for theirs in want.get_mut(places).into_iter().flatten() {
            *theirs = 0.0;
        }
    }
    Some(largest)
}

/// How the two differ beyond the tolerance, if they do.
fn difference(got: &Array, want: &Array, tolerance: Tolerance) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("shape {:?}, want {:?}", got.shape, want.shape));
    }
    if let (Numbers::Whole(got), Numbers::Whole(want)) = (&got.numbers, &want.numbers) {
        let place = got.iter().zip(want).position(|(got, want)| got != want)?;
        return Some(format!("{} at {place}, want {}", got[place], want[place]));
    }
    let (got, want) = (got.to_real(), want.to_real());
    let largest = want
        .iter()
        .fold(0f64, |largest, value| largest.max(value.abs()));
    let allowed = tolerance.absolute + tolerance.relative * largest;
    let error = |place: usize| (got[place] - want[place]).abs();
    let worst = (0..got.len()).max_by(|&a, &b| error(a).total_cmp(&error(b)))?; // NaN is the largest.
    if error(worst) <= allowed {
        return None;
    }
    Some(format!(
        "{:e} at {worst}, want {:e}; they differ by {:.1e}, {allowed:.1e} is allowed",
        got[worst],
        want[worst],
        error(worst)
    ))
}

/// Our values, by role.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    arrays: Vec<(String, Array)>,
    left_out: Vec<&'static str>,
    by_definition: BTreeMap<&'static str, Vec<bool>>,
    defined: BTreeMap<&'static str, Array>,
}

impl Outputs {
    /// Adds one.
    pub fn put(&mut self, role: impl Into<String>, array: Array) {
        self.arrays.push((role.into(), array));
    }

    /// Adds the numbers of a tensor.
    ///
    /// # Errors
    /// Those of candle.
    pub fn put_tensor(&mut self, role: impl Into<String>, tensor: &Tensor) -> Mapped<()> {
        self.put(role, Array::of(tensor)?);
        Ok(())
    }

    /// Says of an output that there is nothing of ours to compare with it. It is counted beside the cases.
    pub fn leave_out(&mut self, role: &'static str) {
        self.left_out.push(role);
    }

    /// Says which rows of an output are 0 by our definition and something else by the peer's. They are not compared, the
    /// others are.
    pub fn zero_by_definition(&mut self, role: &'static str, rows: Vec<bool>) {
        if rows.contains(&true) {
            self.by_definition.insert(role, rows);
        }
    }

    /// Says what an output is by definition where the other library is wrong without a mark: then that is wanted of ours. It is
    /// counted beside the cases.
    pub fn define(&mut self, role: &'static str, array: Array) {
        self.defined.insert(role, array);
    }

    /// Whether some rows are by our definition alone.
    pub fn is_by_definition(&self) -> bool {
        !self.by_definition.is_empty()
    }

    fn find(&self, role: &str) -> Option<&Array> {
        self.arrays
            .iter()
            .find(|(it, _)| it == role)
            .map(|(_, array)| array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tolerance(relative: f64) -> Tolerance {
        Tolerance {
            relative,
            absolute: 0.0,
            rounded: false,
        }
    }

    #[test]
    fn arrays_are_compared_by_their_largest_entry_and_nan_is_never_equal() {
        let want = Array::real(&[2], vec![100.0, 1.0]);
        let near = Array::real(&[2], vec![100.0, 1.5]);
        assert_eq!(difference(&near, &want, tolerance(0.01)), None);
        assert!(difference(&near, &want, tolerance(0.001)).is_some());
        let nan = Array::real(&[2], vec![f64::NAN, 1.0]);
        assert!(difference(&nan, &want, tolerance(1.0)).is_some());
        assert!(difference(&Array::real(&[1], vec![100.0]), &want, tolerance(1.0)).is_some());
        let (one, two) = (Array::whole(&[1], vec![1]), Array::whole(&[1], vec![2]));
        assert!(
            difference(&one, &two, tolerance(1.0)).is_some(),
            "whole numbers are exact"
        );
    }

    #[test]
    fn rows_of_zeros_are_by_our_definition_and_do_not_hide_the_others() {
        let rows = BTreeMap::from([("grad", vec![false, true])]);
        let mut got = Array::real(&[2, 1], vec![1.0, 0.0]);
        let mut want = Array::real(&[2, 1], vec![1.1, 1e12]);
        assert_eq!(ours_alone(&mut got, &mut want, &rows, "grad"), Some(0.0));
        assert!(
            difference(&got, &want, tolerance(0.01)).is_some(),
            "1 is not 1.1"
        );
        assert_eq!(ours_alone(&mut got, &mut want, &rows, "loss"), None);
    }

    #[test]
    fn a_setting_that_nobody_reads_is_told() {
        let function: Function = serde_json::from_value(serde_json::json!({
            "peer": "a.b.Loss", "params": {"margin": 1, "swap": true, "other": null}, "method": "m"
        }))
        .expect("a function");
        assert_eq!((function.short(), function.path()), ("Loss", "a.b.Loss"));
        let mut params = function.params();
        assert_eq!(params.number_or("margin", 0.0), Ok(1.0));
        let left = params.clone().finish().expect_err("swap is left");
        assert_eq!(
            left,
            Trouble::unmapped("Loss: `swap` = true is not known to the mapper")
        );
        assert!(params.number("swap").is_err(), "it is no number");
        assert_eq!(params.finish(), Ok(()));
        assert_eq!(function.call().text("method"), Ok(Some("m".into())));
    }

    #[test]
    fn what_the_peer_cannot_do_may_be_refused_but_not_be_infinite() {
        let case = |fields: &str| -> Case {
            let rest =
                r#""case": "c", "function": {"peer": "f"}, "inputs": [], "rtol": 0, "atol": 0"#;
            serde_json::from_str(&format!("{{{rest}, {fields}}}")).expect("a case")
        };
        let tensors = BTreeMap::from([("c/loss".to_string(), Array::scalar(1.0))]);
        let given = |case: &Case, got: &Mapped<Outputs>| {
            let tensors = &tensors;
            let read = RefCell::default();
            Given {
                case,
                tensors,
                read,
            }
            .compare(got, tolerance(0.0))
            .len()
        };
        let refused = Err(Trouble::Refused("no".into()));
        let mut infinite = Outputs::default();
        infinite.put("loss", Array::scalar(f64::INFINITY));
        let infinite = Ok(infinite);
        let fails = case(r#""outputs": [], "peer_fails": {}"#);
        assert_eq!((given(&fails, &refused), given(&fails, &infinite)), (0, 1));
        let stored = case(r#""outputs": ["c/loss"], "peer_fails": {}"#);
        assert_eq!(
            (given(&stored, &refused), given(&stored, &infinite)),
            (1, 1)
        );
        let sensitive = case(r#""outputs": ["c/loss"], "sensitive": {"loss": 0.5}"#);
        assert_eq!(
            (given(&sensitive, &refused), given(&sensitive, &infinite)),
            (1, 1)
        );
        let informative = case(r#""outputs": ["c/loss"], "informative": ["loss"]"#);
        assert_eq!(given(&informative, &Ok(Outputs::default())), 0);
        assert_eq!(
            given(&informative, &refused),
            1,
            "nothing explains an error"
        );
    }
}
