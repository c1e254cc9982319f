//! `nearfar eval`: the scores of a run that was trained.

use nearfar_eval::Score;
use serde_json::json;

use crate::args::{self, Global};
use crate::exit::Error;
use crate::out::Out;
use crate::run_dir::RunDir;
use crate::{device, evaluation, results, trained};

pub(crate) fn run(args: &args::Eval, global: &Global, out: &Out) -> Result<(), Error> {
    let dir = RunDir::new(&args.run);
    let (run, _) = dir.configuration()?;
    let mut data = trained::data(&dir, &run, global)?;
    let device = device::of(&global.device)?;
    let scores = match args.scores.as_slice() {
        [] => evaluation::names(&run, data.annotation())?,
        names => names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<Vec<Score>, _>>()?,
    };
    evaluation::check(&scores, data.annotation())?;
    for split in &args.split {
        data.part(split)?;
    }
    if !args.split.is_empty() {
        data.evaluation
            .retain(|part| args.split.iter().any(|split| split == part.name));
    }
    let (results, ..) = results::score(
        &dir,
        &run,
        &data,
        &args.checkpoint,
        &scores,
        None,
        &device,
        out,
    )?;
    if results.parts.is_empty() {
        return Err(Error::Data(format!(
            "{} has no part that is not trained on; hold some samples out in `data`",
            dir.path().display()
        )));
    }
    out.result(
        &results.text(out),
        json!({"type": "report", "run": dir.path(), "results": results.json()}),
    );
    Ok(())
}
