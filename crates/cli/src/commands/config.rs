//! `nearfar config`: run files written, checked and shown; and every name that they know.

use std::path::Path;

use nearfar_datasets::Blame;
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::{self, Global, Template};
use crate::assemble::{self, Start};
use crate::device;
use crate::exit::Error;
use crate::out::Out;
use crate::run_dir::resolved;
use crate::run_file::RunFile;

pub(crate) fn run(args: &args::Config, global: &Global, out: &Out) -> Result<(), Error> {
    match args {
        args::Config::Init { template, output } => init(*template, output, out),
        args::Config::Check { run, set } => {
            let (checked, _) = RunFile::read(run, set)?;
            let losses: Vec<&str> = checked
                .entries()
                .iter()
                .map(|entry| entry.loss.config.name())
                .collect();
            let notes = weights(&checked, global)?;
            let text = format!(
                "{}: nothing is wrong with it; it trains {} on `data.{}`",
                run.display(),
                losses.join(" + "),
                checked.data.name()
            );
            out.result(
                &std::iter::once(&text)
                    .chain(&notes)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join("\n"),
                json!({"type": "result", "run": run, "losses": losses, "weights": notes}),
            );
            Ok(())
        }
        args::Config::Show { run, set } => {
            let text = resolved(&RunFile::read(run, set)?.0)?;
            out.result(text.trim_end(), json!({"type": "result", "toml": text}));
            Ok(())
        }
        args::Config::Reference => {
            let reference = reference()?;
            if out.json {
                out.object(reference);
            } else {
                crate::out::stdout(&text(&reference));
            }
            Ok(())
        }
    }
}

/// What is to be said of the weights that the towers of a run start with, which are compared with the models. That takes the data, whose shape
/// and vocabulary the models have; without them the weights cannot be looked at.
fn weights(run: &RunFile, global: &Global) -> Result<Vec<String>, Error> {
    if !run.is_pretrained() {
        return Ok(Vec::new());
    }
    let data = match assemble::data(run, &global.data, None) {
        Ok(data) => data,
        // Data that are not here are no mistake of the run file.
        Err(Error::Datasets(error)) if error.blame() == Blame::Environment => {
            return Ok(vec![format!(
                "its weights were not looked at, which takes the data: {error}"
            )]);
        }
        Err(error) => return Err(error),
    };
    let notes = std::cell::RefCell::new(Vec::new());
    let told = |note: &str| notes.borrow_mut().push(note.to_owned());
    let (shapes, inputs) = (data.shapes(), data.annotation().inputs());
    let device = device::of(&global.device)?;
    let start = Start::AsSaid {
        told: &told,
        data: &data,
    };
    assemble::towers(run, &shapes, inputs, start, &device)?;
    Ok(notes.into_inner())
}

fn init(template: Template, output: &Path, out: &Out) -> Result<(), Error> {
    use std::io::Write;

    let text = of(template);
    let write = || {
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(output)?
            .write_all(text.as_bytes())
    };
    write().map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Usage(format!(
            "{} is there already and is not overwritten; -o names another file",
            output.display()
        )),
        _ => Error::File {
            action: "write",
            path: output.to_path_buf(),
            source,
        },
    })?;
    out.result(
        &format!(
            "{}: its comments say what to fill in; then `nearfar train {}`",
            output.display(),
            output.display()
        ),
        json!({"type": "result", "run": output}),
    );
    Ok(())
}

/// A run file to start from.
pub(crate) fn of(template: Template) -> &'static str {
    match template {
        Template::Images => include_str!("../templates/images.toml"),
        Template::Sounds => include_str!("../templates/sounds.toml"),
        Template::Table => include_str!("../templates/table.toml"),
        Template::Pairs => include_str!("../templates/pairs.toml"),
        Template::Parsed => include_str!("../templates/parsed.toml"),
        Template::Targets => include_str!("../templates/targets.toml"),
        Template::Labels => include_str!("../templates/labels.toml"),
        Template::Domains => include_str!("../templates/domains.toml"),
        Template::Masks => include_str!("../templates/masks.toml"),
        Template::Views => include_str!("../templates/views.toml"),
        Template::Volumes => include_str!("../templates/volumes.toml"),
        Template::MultiView => include_str!("../templates/multi-view.toml"),
        Template::Points => include_str!("../templates/points.toml"),
        Template::TwoKinds => include_str!("../templates/two-kinds.toml"),
        Template::Digits => include_str!("../templates/digits.toml"),
    }
}

/// One entry of the reference: a name, what its source says of it, and its defaults.
fn entry(name: &str, doc: &str, settings: &impl Serialize) -> Result<Value, Error> {
    let defaults = toml::to_string(settings)
        .map_err(|error| Error::Usage(format!("`{name}` cannot be written out: {error}")))?;
    let summary = doc.split("\n\n").next().unwrap_or("").replace('\n', " ");
    Ok(json!({"name": name, "summary": summary, "doc": doc, "defaults_toml": defaults}))
}

macro_rules! entries {
    ($all:expr) => {
        $all.iter()
            .map(|it| entry(it.name(), &it.doc(), it))
            .collect::<Result<Vec<_>, Error>>()?
    };
}

/// The losses, with what each reads and what its presets change.
fn losses() -> Result<Vec<Value>, Error> {
    let entry = |loss: &nearfar_losses::LossConfig| {
        let presets = match loss.presets() {
            same if same.is_empty() => {
                "The presets `paper` and `peer` are the defaults.".to_owned()
            }
            lines => {
                format!("Presets, where they differ from the defaults:\n\n```toml\n{lines}\n```")
            }
        };
        let doc = format!("{}\n\n{presets}", loss.doc());
        let mut entry = entry(loss.name(), &doc, loss)?;
        entry["reads"] = json!(loss.reads().name());
        Ok(entry)
    };
    nearfar_losses::LossConfig::all()
        .iter()
        .map(entry)
        .collect()
}

/// Every name that a run file knows, by table.
fn reference() -> Result<Value, Error> {
    Ok(json!({
        "losses": losses()?,
        "distances": entries!(nearfar_metrics::DistanceConfig::all()),
        "similarities": entries!(nearfar_metrics::SimilarityConfig::all()),
        "miners": entries!(nearfar_miners::MinerConfig::all()),
        "scorers": entries!(nearfar_models::ScorerConfig::all()),
        "heads": entries!(nearfar_models::HeadConfig::all()),
        "models": entries!(nearfar_models::ModelConfig::all()),
        "data": entries!(nearfar_datasets::DataConfig::all()),
        "samplers": entries!(nearfar_datasets::SamplerConfig::all()),
        "augmentation": entries!(nearfar_datasets::TransformConfig::all()),
        "optimizers": entries!(nearfar_trainer::OptimizerConfig::all()),
        "schedules": entries!(nearfar_trainer::ScheduleConfig::all()),
    }))
}

fn text(reference: &Value) -> String {
    let mut lines = Vec::new();
    for (table, entries) in reference.as_object().into_iter().flatten() {
        lines.push(table.to_uppercase());
        for it in entries.as_array().into_iter().flatten() {
            lines.push(format!(
                "  {:<24} {}",
                it["name"].as_str().unwrap_or(""),
                it["summary"].as_str().unwrap_or("")
            ));
        }
        lines.push(String::new());
    }
    lines.join("\n").trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_good_run_file() {
        use clap::ValueEnum;
        for &template in Template::value_variants() {
            RunFile::parse("template.toml", of(template), &[])
                .unwrap_or_else(|error| panic!("{template:?}: {error}"));
        }
    }

    #[test]
    fn every_recipe_is_a_good_run_file() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes");
        let Ok(files) = std::fs::read_dir(&recipes) else {
            return;
        }; // The package alone has none.
        for file in files {
            let path = file.expect("an entry").path();
            if path.extension().is_some_and(|it| it == "toml") {
                RunFile::read(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}
