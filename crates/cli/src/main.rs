//! The `nearfar` command: deep metric learning from files to a trained model, a report and search.
#![forbid(unsafe_code)]

// In reading order: what can be typed, the run file, objects from names, what is done, what is shown.
mod args;
mod run_file;
mod scoring;

mod assemble;
mod device;
mod run_dir;
mod trained;

mod commands;
mod embedding;
mod evaluation;
mod results;

mod environment;
mod exit;
mod out;
mod pages;
mod progress;
mod tensorboard;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde_json::json;

use crate::args::{Cli, Command};
use crate::exit::Error;
use crate::out::Out;

fn main() -> ExitCode {
    environment::settle();
    let cli = Cli::parse();
    let out = Out::new(&cli.global);
    match run(&cli, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let (message, causes) = error.chain();
            if out.json {
                out.object(json!({"type": "error", "kind": error.kind(), "message": message, "causes": causes, "exit": error.code()}));
            } else {
                out::stderr(&format!("error: {message}"));
                causes
                    .iter()
                    .for_each(|cause| out::stderr(&format!("  because: {cause}")));
            }
            ExitCode::from(error.code())
        }
    }
}

fn run(cli: &Cli, out: &Out) -> Result<(), Error> {
    let global = &cli.global;
    match &cli.command {
        Command::Demo(args) => commands::demo::run(args, global, out),
        Command::Train(args) => commands::train::run(args, global, out),
        Command::Eval(args) => commands::eval::run(args, global, out),
        Command::Embed(args) => commands::embed::run(args, global, out),
        Command::Search(args) => commands::search::run(args, global, out),
        Command::Report(args) => commands::report::run(args, global, out),
        Command::Export(args) => commands::export::run(args, out),
        Command::Data(args) => commands::data::run(args, global, out),
        Command::Config(args) => commands::config::run(args, global, out),
        Command::Doctor => commands::doctor::run(global, out),
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "nearfar",
                &mut std::io::stdout(),
            );
            Ok(())
        }
    }
}
