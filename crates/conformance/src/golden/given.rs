//! A case with its tensors.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};

use super::compare::{difference, ours_alone};
use super::{Array, Case, Mapped, Numbers, Outputs, Tolerance, Trouble, role_of};

/// A case with its tensors. Inputs must all be read: one that is left over is one that the mapper does not know.
#[derive(Debug)]
pub struct Given<'a> {
    /// The case.
    pub case: &'a Case,
    pub(super) tensors: &'a BTreeMap<String, Array>,
    pub(super) read: RefCell<BTreeSet<String>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Tolerance = Tolerance {
        relative: 0.0,
        absolute: 0.0,
        rounded: false,
    };

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
            .compare(got, EXACT)
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
