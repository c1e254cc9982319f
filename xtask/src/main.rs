//! The tasks of the repository: `cargo xtask fetch-data | docs | compare-losses | gpu-pack | ci | bench`.
//!
//! Exit codes: 0 ok, 1 failure, 2 usage, 3 bad data, 5 input or output; those of the programs it starts are passed on.

#![allow(clippy::print_stdout)] // What a task gives is printed here.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

mod built;
mod compare_losses;
mod docs;
mod error;
mod fetch_data;
mod gpu_pack;
mod pictures;
mod program;

use error::{Error, chain};

/// The tasks of the repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Get data sets, or list them
    FetchData(fetch_data::FetchData),
    /// Collect the reference in docs/reference from the code, and draw the pictures of docs/guide
    Docs {
        /// Write nothing, and fail if a file is not up to date
        #[arg(long)]
        check: bool,
    },
    /// Compare losses on Omniglot, all else being equal
    CompareLosses(compare_losses::CompareLosses),
    GpuPack(gpu_pack::GpuPack),
    /// Run what CI runs
    Ci {
        /// Run what takes long, too
        #[arg(long)]
        full: bool,
    },
    /// Measure, beside others where they are at hand
    Bench {
        /// Arguments of nearfar-bench
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let root = root();
    let result = match Arguments::parse().task {
        Task::FetchData(task) => task.run(&root),
        Task::CompareLosses(task) => task.run(&root),
        Task::GpuPack(task) => task.run(&root),
        Task::Docs { check } => built::programs(&root).and_then(|built| {
            docs::run(&root, &built.nearfar, check)?;
            pictures::run(&root, &built.pictures, check)
        }),
        Task::Ci { full } => program::run(
            "bash",
            [".ci/run"].into_iter().chain(full.then_some("--full")),
            &root,
        ),
        Task::Bench { arguments } => bench(&root, &arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Builds what is measured, and measures it.
fn bench(root: &Path, arguments: &[String]) -> Result<(), Error> {
    let cargo = ["run", "--release", "--package", "nearfar-bench", "--"];
    // Whole runs are those of the program that people use.
    let whole_runs = arguments.iter().any(|it| it == "train");
    let nearfar = whole_runs.then(|| built::release(root)).transpose()?;
    let nearfar = nearfar.iter().flat_map(|path| ["--nearfar", path.as_str()]);
    let arguments = arguments.iter().map(String::as_str);
    let arguments = cargo.into_iter().chain(arguments).chain(nearfar);
    program::run(&program::cargo(), arguments, root)
}

/// The root of the repository, whatever folder cargo was called in.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    package
        .as_deref()
        .and_then(Path::parent)
        .map_or_else(|| PathBuf::from("."), Path::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        let parsed =
            Arguments::try_parse_from(["xtask", "bench", "--quick", "-n", "3"]).expect("valid");
        assert!(
            matches!(parsed.task, Task::Bench { arguments } if arguments == ["--quick", "-n", "3"])
        );
        assert!(
            Arguments::try_parse_from(["xtask", "fetch-data", "mnist", "--from", "x", "--list"])
                .is_err()
        );
    }
}
