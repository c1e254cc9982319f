//! `nearfar demo`: a first result without anything to fetch.

use serde_json::json;

use crate::args::{self, Global, Template};
use crate::exit::Error;
use crate::out::Out;
use crate::run_dir::RunDir;
use crate::run_file::RunFile;

use super::train::Job;

const INTRODUCTION: &str = "\
An encoder learns to put 8×8 handwritten digits on a sphere so that equal digits lie near one another.
Two digits are kept from it altogether; at the end we see how well it tells those apart, too.";

const NEXT: &str = "\
Try next:
  open the report, and hover over the points
  nearfar config init images -o run.toml     a run file for your own folder of class folders
  cargo xtask fetch-data mnist               real data, and docs/recipes for what to do with them
  nearfar --help                             everything else";

pub(crate) fn run(args: &args::Demo, global: &Global, out: &Out) -> Result<(), Error> {
    let text = super::config::of(Template::Digits).to_string();
    let (run, text) = RunFile::parse("demo", &text, &[])?;
    let dir = RunDir::new(&args.out);
    if dir.checkpoints().is_dir() {
        replace(&dir, &run)?;
    }
    out.note(INTRODUCTION);
    out.note("");
    let job = Job {
        run,
        text,
        dir,
        resume: false,
        allow_frozen: false,
        stop_after: None,
    };
    let results = job.work(global, out)?;
    let text = format!(
        "{}\n\nreport: {}\n\n{NEXT}",
        results.text(out),
        job.dir.report().display()
    );
    out.result(&text, json!({"type": "result", "run": job.dir.path(), "report": job.dir.report(), "results": results.json()}));
    Ok(())
}

/// Removes an earlier demo; nothing else is ever removed.
fn replace(dir: &RunDir, run: &RunFile) -> Result<(), Error> {
    let (_, there) = dir.configuration()?;
    if there != RunDir::hash(run)? {
        return Err(Error::Usage(format!(
            "{} holds another run; --out names another folder for the demo",
            dir.path().display()
        )));
    }
    let _lock = nearfar_trainer::RunLock::acquire(dir.path())?;
    std::fs::remove_dir_all(dir.checkpoints()).map_err(|source| Error::File {
        action: "remove",
        path: dir.checkpoints(),
        source,
    })?;
    if dir.events().is_dir() {
        std::fs::remove_dir_all(dir.events()).map_err(|source| Error::File {
            action: "remove",
            path: dir.events(),
            source,
        })?;
    }
    Ok(())
}
