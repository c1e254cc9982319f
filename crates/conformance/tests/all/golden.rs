//! Values and gradients of other libraries.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nearfar_conformance::golden::{Family, Folder, Given, Mapped, Outputs, Trouble};
use nearfar_conformance::mapper::{Claim, MAPPERS, Mapper, Pass};

/// Every case of a claimed function, in each of its ways; one line for each family.
#[test]
fn golden_values_of_claimed_functions_are_ours() {
    let Some(folder) = Folder::from_env() else {
        say("skipped: golden values (NEARFAR_GOLDEN is not set)");
        return;
    };
    let families = folder
        .families()
        .expect("NEARFAR_GOLDEN names a folder of golden values");
    let mut wrong = Vec::new();
    for family in &families {
        let found = check(family);
        say(&found.line(family));
        wrong.extend(found.wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// On standard error itself, which the test harness does not keep back. A line of its own, although the harness may have begun
/// one with the name of this test.
fn say(line: &str) {
    let line = format!("\n{line}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("standard error can be written");
}

#[derive(Default)]
struct Found {
    claimed: usize,
    passing: usize,
    passes: usize,
    not_yet: BTreeMap<String, usize>,
    left_out: BTreeMap<&'static str, usize>,
    defined: BTreeMap<&'static str, usize>,
    by_definition: usize,
    wrong: Vec<String>,
}

fn check(family: &Family) -> Found {
    let mut found = Found::default();
    for case in &family.cases {
        let function = &case.function;
        let claim = MAPPERS.iter().find_map(|mapper| match mapper.claims(case) {
            Claim::No => None,
            Claim::Ours => Some(Ok(*mapper)),
            Claim::NotWith(what) => Some(Err(format!("{} ({what})", function.short()))),
        });
        let mapper = match claim {
            Some(Ok(mapper)) => mapper,
            other => {
                let name = match other {
                    Some(Err(name)) => name,
                    _ => function.short().to_owned(),
                };
                *found.not_yet.entry(name).or_default() += 1;
                continue;
            }
        };
        found.claimed += 1;
        found.passes = found.passes.max(mapper.passes().len());
        let before = found.wrong.len();
        for &pass in mapper.passes() {
            let given = family.given(case);
            let got = run(mapper, &given, pass);
            for what in given.compare(&got, mapper.tolerance(case, pass)) {
                found
                    .wrong
                    .push(format!("{}: {} ({pass:?}): {what}", family.name, case.name));
            }
            if pass == Pass::Plain {
                let by_definition = got.as_ref().is_ok_and(Outputs::is_by_definition);
                found.by_definition += usize::from(by_definition);
                for role in given.defined(&got) {
                    *found.defined.entry(role).or_default() += 1;
                }
            }
            for role in given.left_out(&got) {
                *found.left_out.entry(role).or_default() += 1;
            }
        }
        found.passing += usize::from(found.wrong.len() == before);
    }
    found
}

fn run(mapper: &dyn Mapper, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
    let got = catch_unwind(AssertUnwindSafe(|| mapper.run(given, pass)));
    got.unwrap_or_else(|_| Err(Trouble::unmapped("it panicked")))
}

impl Found {
    fn line(&self, family: &Family) -> String {
        let times = match self.passes {
            2 => "checked twice",
            _ => "checked",
        };
        let mut line = format!(
            "golden: {}: {} of {} cases claimed",
            family.name,
            self.claimed,
            family.cases.len()
        );
        if self.claimed > 0 {
            line += &format!(", {} {times} and passing", self.passing);
        }
        let mut not_yet: Vec<_> = self.not_yet.iter().collect();
        not_yet.sort_by(|(a, m), (b, n)| n.cmp(m).then(a.cmp(b)));
        if !not_yet.is_empty() {
            let names = not_yet
                .iter()
                .map(|(name, count)| format!("{name} {count}"));
            line += &format!("; not yet: {}", names.collect::<Vec<_>>().join(", "));
        }
        for (what, roles) in [
            ("outputs without ours", &self.left_out),
            (
                "outputs by definition where the peer is wrong",
                &self.defined,
            ),
        ] {
            if !roles.is_empty() {
                let names = roles.iter().map(|(role, count)| format!("{role} {count}"));
                line += &format!("; {what}: {}", names.collect::<Vec<_>>().join(", "));
            }
        }
        if self.by_definition > 0 {
            line += &format!(
                "; with rows of zeros by our definition: {}",
                self.by_definition
            );
        }
        line
    }
}
