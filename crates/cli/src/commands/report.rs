//! `nearfar report`: the page of a run, written again.

use serde_json::json;

use crate::args::{self, Global};
use crate::exit::Error;
use crate::out::Out;
use crate::run_dir::RunDir;
use crate::{device, evaluation, pages, results, trained};

pub(crate) fn run(args: &args::Report, global: &Global, out: &Out) -> Result<(), Error> {
    let dir = RunDir::new(&args.run);
    let (run, _) = dir.configuration()?;
    let data = trained::data(&dir, &run, global)?;
    let device = device::of(&global.device)?;
    let scores = evaluation::names(&run, data.annotation())?;
    let (results, parts, loaded, towers) = results::score(
        &dir,
        &run,
        &data,
        &args.checkpoint,
        &scores,
        None,
        &device,
        out,
    )?;
    let page = pages::report(
        &dir, &run, &data, &results, &parts, &loaded, &towers, &device,
    )?;
    let path = args.output.clone().unwrap_or_else(|| dir.report());
    nearfar_report::write_html(&path, &page)?;
    out.result(
        &format!("report: {}", path.display()),
        json!({"type": "result", "report": path}),
    );
    Ok(())
}
