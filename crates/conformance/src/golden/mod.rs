//! Values of other libraries: manifests, their tensors, and how ours are compared with them.
//!
//! A folder holds families; a family is `<name>.json`, its list of cases, with `<name>.safetensors`. Nothing here knows the
//! name of a family or of a case, so that files can be added or replaced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

mod array;
mod compare;
mod given;
mod outputs;
mod settings;

pub use array::{Array, Numbers};
pub use compare::Tolerance;
pub use given::Given;
pub use outputs::Outputs;
pub use settings::{Mapped, Object, Settings, Trouble};

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

/// The part of a tensor's name after the last `/`.
fn role_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}
