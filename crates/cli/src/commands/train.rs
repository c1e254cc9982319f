//! `nearfar train`: a run file to a trained model and its report.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::Device;
use nearfar_core::Finite;
use nearfar_datasets::Data;
use nearfar_eval::Score;
use nearfar_trainer::{
    Best, Better, Checkpoints, Ended, Enough, Loaded, MetricsLog, Run, RunLock, SaveEvery, Signals,
    fit, on_large_stack,
};
use serde_json::json;

use crate::args::{self, Global};
use crate::assemble::Start;
use crate::exit::{Error, boxed};
use crate::out::Out;
use crate::progress::Progress;
use crate::results::{self, Results};
use crate::run_dir::RunDir;
use crate::run_file::RunFile;
use crate::scoring::Scorer;
use crate::tensorboard::TensorBoard;
use crate::{assemble, device, evaluation};

/// The name of the observer that ends a run whose score is good enough.
const ENOUGH: &str = "enough";

pub(crate) fn run(args: &args::Train, global: &Global, out: &Out) -> Result<(), Error> {
    let (run, text) = RunFile::read(&args.run, &args.set)?;
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => PathBuf::from("runs").join(args.run.file_stem().unwrap_or_default()),
    };
    let job = |run: RunFile, text: String, folder: PathBuf| Job {
        run,
        text,
        dir: RunDir::new(folder),
        resume: args.resume,
        allow_frozen: args.allow_frozen,
        stop_after: args.stop_after,
    };
    if args.seeds > 1 {
        return over_seeds(args, &run, &folder, &job, global, out);
    }
    let job = job(run, text, folder);
    let results = job.work(global, out)?;
    let text = format!(
        "{}\n\nreport: {}",
        results.text(out),
        job.dir.report().display()
    );
    out.result(&text, json!({"type": "result", "run": job.dir.path(), "report": job.dir.report(), "results": results.json()}));
    Ok(())
}

/// The same run with several seeds: each in a folder of its own, and all in one table. With --resume, seeds that are done are only scored.
fn over_seeds(
    args: &args::Train,
    run: &RunFile,
    folder: &std::path::Path,
    job: &dyn Fn(RunFile, String, PathBuf) -> Job,
    global: &Global,
    out: &Out,
) -> Result<(), Error> {
    let mut all = Vec::new();
    for seed in run.seed.0..run.seed.0.saturating_add(args.seeds) {
        out.note(&format!("seed {seed}"));
        let mut changes = args.set.clone();
        changes.push(format!("seed={seed}"));
        let (run, text) = RunFile::read(&args.run, &changes)?;
        let job = job(run, text, folder.join(format!("seed-{seed}")));
        let results = job.work(global, out)?;
        out.note(&format!(
            "{}\nreport: {}\n",
            results.text(out),
            job.dir.report().display()
        ));
        all.push(results);
    }
    let rows = results::over_seeds(&all);
    let scores: Vec<String> = all.first().map_or(Vec::new(), |it| {
        it.scores.iter().map(ToString::to_string).collect()
    });
    let titles: Vec<String> = all.first().map_or(Vec::new(), |it| {
        it.scores.iter().map(|score| score.title()).collect()
    });
    let header: Vec<&str> = std::iter::once("")
        .chain(titles.iter().map(String::as_str))
        .collect();
    let mut blocks: Vec<String> = Vec::new();
    let mut at = 0;
    while at < rows.len() {
        let part = &rows[at].0;
        let lines: Vec<Vec<String>> = rows[at..]
            .iter()
            .take_while(|row| row.0 == *part)
            .map(|(_, method, intervals)| {
                let cell = |name: &String| {
                    intervals
                        .get(name)
                        .map_or("–".to_string(), |it| match it.half_width {
                            Some(half) => format!("{:.4} ± {half:.4}", it.mean),
                            None => format!("{:.4}", it.mean),
                        })
                };
                std::iter::once(format!("  {method}"))
                    .chain(scores.iter().map(cell))
                    .collect()
            })
            .collect();
        at += lines.len();
        blocks.push(format!(
            "{}\n{}",
            out.bold(part),
            crate::out::table(&header, &lines)
        ));
    }
    let seconds: Vec<f64> = all.iter().filter_map(|it| it.seconds).collect();
    if let Some(time) = nearfar_eval::Interval::of(&seconds) {
        blocks.push(format!(
            "{} seeds, mean and 95 % interval; trained in {} each",
            args.seeds,
            results::duration(time.mean)
        ));
    }
    let objects: Vec<_> = rows
        .iter()
        .map(|(part, method, intervals)| {
            let values: std::collections::BTreeMap<_, _> = intervals
                .iter()
                .map(|(name, it)| {
                    (
                        name,
                        json!({"mean": it.mean, "half_width": it.half_width, "count": it.count}),
                    )
                })
                .collect();
            json!({"part": part, "method": method, "scores": values})
        })
        .collect();
    out.result(
        &blocks.join("\n\n"),
        json!({"type": "result", "run": folder, "seeds": args.seeds, "results": objects}),
    );
    Ok(())
}

/// One run: what is wanted and where it goes.
pub(crate) struct Job {
    pub(crate) run: RunFile,
    /// The run file as given, with changes made.
    pub(crate) text: String,
    pub(crate) dir: RunDir,
    pub(crate) resume: bool,
    pub(crate) allow_frozen: bool,
    pub(crate) stop_after: Option<u64>,
}

impl Job {
    /// Trains, scores and reports.
    pub(crate) fn work(&self, global: &Global, out: &Out) -> Result<Results, Error> {
        // Graphs are walked by recursion; a thread of its own has the stack for it.
        on_large_stack(|| self.work_here(global, out)).map_err(|source| Error::File {
            action: "start a thread for",
            path: self.dir.path().to_path_buf(),
            source,
        })?
    }

    fn work_here(&self, global: &Global, out: &Out) -> Result<Results, Error> {
        let run = &self.run;
        let device = device::of(&global.device)?;
        let hash = RunDir::hash(run)?;
        let data = assemble::data(run, &global.data, None)?;
        let scores = evaluation::names(run, data.annotation())?;
        evaluation::check(&scores, data.annotation())?;
        if let Some(split) = &run.evaluation.split {
            data.part(split)?;
        }
        self.refuse_what_is_there()?;
        // What does not fit is told before anything is written.
        let inputs = data.annotation().inputs();
        let goes_on = self.resume && self.dir.checkpoints().join("LATEST").exists();
        let told = |note: &str| out.note(note);
        let start = if goes_on {
            Start::Replaced
        } else {
            Start::AsSaid {
                told: &told,
                data: &data,
            }
        };
        let towers = assemble::towers(run, &data.shapes(), inputs, start, &device)?;
        let width = towers[0].width();
        let parameters: usize = towers
            .iter()
            .flat_map(|it| it.parameters())
            .filter(|it| it.trained)
            .map(|it| it.var.elem_count())
            .sum();
        let loss = assemble::loss(run, &data, &towers, &device)?;
        let steps = assemble::steps(run, &data)?;
        let trainer = assemble::trainer(run, towers, loss, Some(steps), self.allow_frozen)?;
        let batches = assemble::batches(run, &data, &device)?;

        self.dir.write_configuration(&self.text, run)?;
        let _lock = RunLock::acquire(self.dir.path())?;
        let checkpoints =
            Checkpoints::open(self.dir.checkpoints(), &hash, run.checkpoints.keep.get())?;
        let reader = serde_json::to_string(&data.preparation)
            .map_err(|error| Error::Data(error.to_string()))?;
        crate::run_dir::write(&self.dir.reader(), reader.as_bytes())?;

        let mut work = Run::new(trainer, Box::new(batches));
        work.signals = signals()?;

        let data = Arc::new(data);
        let resumed = if self.resume {
            checkpoints.latest()?
        } else {
            None
        };
        self.watch(&mut work, &data, &scores, resumed.as_ref(), &device, out)?;
        if let Some(loaded) = &resumed {
            for skipped in &loaded.skipped {
                out.warning(&format!("{skipped}; an earlier checkpoint is used"));
            }
            work.restore(&loaded.checkpoint)?;
            out.note(&format!(
                "goes on after step {} ({})",
                loaded.checkpoint.position.step,
                loaded.path.display()
            ));
        }
        out.note(&describe(run, &data, parameters, width, steps));

        let started = std::time::Instant::now();
        let mut save = |checkpoint: &nearfar_trainer::Checkpoint| {
            checkpoints.save(checkpoint).map(|_| ()).map_err(boxed)
        };
        let ended = fit(&mut work, run.until(), &mut save)?;
        let step = work.trainer.position().step;
        match ended {
            Ended::Stopped => {
                return Err(Error::Interrupted {
                    step,
                    resume: format!(
                        "the same command with --resume goes on ({})",
                        self.dir.path().display()
                    ),
                });
            }
            Ended::Enough(name) if name == ENOUGH => {
                let wanted = run.checkpoints.enough.map_or(0.0, Finite::get);
                let score = run.checkpoints.best.as_deref().unwrap_or_default();
                out.note(&format!("step {step}  {score} has come to {wanted}: done"));
            }
            Ended::Enough(_) => out.note(&format!(
                "step {step}  no better score for {} evaluations: done",
                run.checkpoints.patience.unwrap_or(0)
            )),
            Ended::Reached => {}
        }
        let seconds = started.elapsed().as_secs_f64();
        if work.trainer.counters().learned == 0 {
            out.warning("no step had anything to learn from; look at the sampler (are there several samples of a class in a batch?) and the miner");
        }
        drop(work); // Its observers hold files and the progress bar.

        results::write(
            &self.dir,
            run,
            &data,
            "best",
            &scores,
            Some(seconds),
            &device,
            out,
        )
    }

    /// Whoever watches the run: progress, the log, evaluations, checkpoints.
    fn watch(
        &self,
        work: &mut Run,
        data: &Arc<Data>,
        scores: &[Score],
        resumed: Option<&Loaded>,
        device: &Device,
        out: &Out,
    ) -> Result<(), Error> {
        let run = &self.run;
        let log = match resumed {
            Some(loaded) => {
                MetricsLog::resume(self.dir.metrics(), loaded.checkpoint.position.step)?
            }
            None => MetricsLog::create(self.dir.metrics())?,
        };
        let watchers = &mut work.observers;
        watchers.push(("progress".into(), Box::new(Progress::new(out, run.until()))));
        watchers.push(("log".into(), Box::new(log)));
        watchers.push((
            "tensorboard".into(),
            Box::new(TensorBoard::new(
                &self.dir.events(),
                resumed.map(|loaded| loaded.checkpoint.position.step),
            )?),
        ));
        if let Some(name) = &run.checkpoints.best {
            let score: Score = name.parse()?;
            let better = if score.higher_is_better() {
                Better::Higher
            } else {
                Better::Lower
            };
            let mut best = Best::new(name, better).of_split(split_of(run, data));
            if let Some(patience) = run.checkpoints.patience {
                best = best.with_patience(patience);
            }
            watchers.push(("best".into(), Box::new(best)));
            if let Some(wanted) = run.checkpoints.enough {
                let enough = Enough::new(name, better, wanted.get());
                let enough = enough.of_split(split_of(run, data));
                watchers.push((ENOUGH.into(), Box::new(enough)));
            }
        }
        if let Some(last) = self.stop_after {
            let stop = work.signals.stop.clone();
            let watch = nearfar_trainer::Watch::new(move |trainer, _| {
                if trainer.position().step >= last {
                    stop.store(true, Ordering::Relaxed);
                }
                Ok(nearfar_trainer::Answer::GoOn)
            });
            watchers.push(("stop".into(), Box::new(watch)));
        }
        if let Some(every) = run.checkpoints.every {
            watchers.push(("checkpoints".into(), Box::new(SaveEvery(every))));
        }
        if let Some(every) = run.evaluation.every {
            let (run, data, scores, device, split) = (
                run.clone(),
                data.clone(),
                scores.to_vec(),
                device.clone(),
                split_of(run, data),
            );
            let name = split.clone();
            work.evaluations.push(nearfar_trainer::Evaluation {
                split,
                every,
                scores: Box::new(move |trainer| {
                    let scorer = Scorer::of_trainer(&run, trainer, data.shape(), &device);
                    let scored = evaluation::of_part(
                        trainer.towers(),
                        scorer.map_err(boxed)?.as_ref(),
                        &run,
                        &data,
                        &name,
                        &scores,
                        0,
                        &device,
                    )
                    .map_err(boxed)?;
                    Ok(scored.evaluation.scores)
                }),
            });
        }
        Ok(())
    }

    /// A folder with another run in it is not written into.
    fn refuse_what_is_there(&self) -> Result<(), Error> {
        let dir = self.dir.path();
        if self.dir.checkpoints().is_dir() && !self.resume {
            return Err(Error::Usage(format!(
                "{} holds a run already; --resume goes on with it, --out names another folder",
                dir.display()
            )));
        }
        if self.resume && self.dir.checkpoints().is_dir() {
            let (_, there) = self.dir.configuration()?;
            let wanted = RunDir::hash(&self.run)?;
            if there != wanted {
                return Err(Error::Usage(format!(
                    "{} holds a run with other settings (SHA-256 {} there, {} here); a run goes on with the settings it began with, --out names another folder",
                    dir.display(),
                    &there[..12],
                    &wanted[..12]
                )));
            }
        }
        Ok(())
    }
}

/// The part that is scored during training.
fn split_of(run: &RunFile, data: &Data) -> String {
    match &run.evaluation.split {
        Some(split) => split.clone(),
        None => data
            .evaluation
            .first()
            .map_or("train", |part| part.name)
            .to_string(),
    }
}

/// What is about to happen, in a line or two.
fn describe(run: &RunFile, data: &Data, parameters: usize, width: usize, steps: u64) -> String {
    let losses: Vec<&str> = run
        .entries()
        .iter()
        .map(|entry| entry.loss.config.name())
        .collect();
    let model = run.names_of_models().join(" and ");
    let parts: Vec<String> = data
        .evaluation
        .iter()
        .map(|part| format!("{} {}", part.dataset.len(), part.name))
        .collect();
    use nearfar_datasets::Annotation;
    let classes = match data.annotation() {
        Annotation::Classes => format!(" of {} classes", data.train_classes),
        Annotation::Domains => format!(" of {} classes in two domains", data.train_classes),
        Annotation::Sets => format!(" with sets of {} labels", data.train_classes),
        Annotation::Targets => " with real targets".into(),
        Annotation::Masks => " with masks".into(),
        Annotation::LabeledPairs | Annotation::ScoredPairs => String::new(),
    };
    format!(
        "{}: {} training samples{classes}{}{}\n{model} with {parameters} parameters to {width} dimensions; {}; {steps} steps",
        data.name,
        data.train.len(),
        if parts.is_empty() { "" } else { "; held out: " },
        parts.join(", "),
        losses.join(" + "),
    )
}

/// SIGINT and SIGTERM finish the step, save and end; a second one ends at once. SIGUSR1 saves and goes on.
fn signals() -> Result<Signals, Error> {
    let signals = Signals::default();
    let register = || -> std::io::Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, signals.stop.clone())?;
            signal_hook::flag::register(signal, signals.stop.clone())?;
        }
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, signals.save.clone())?;
        Ok(())
    };
    register().map_err(|error| Error::Usage(format!("cannot listen to signals: {error}")))?;
    signals.stop.store(false, Ordering::Relaxed);
    Ok(signals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::Span;

    #[test]
    fn a_span_is_what_a_run_file_says() {
        let (run, _) = RunFile::parse("digits.toml", include_str!("../templates/digits.toml"), &[])
            .expect("a good run file");
        assert_eq!(run.until(), Span::Steps(2000));
    }
}
