//! Starting other programs.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::Error;

/// The cargo that started this.
pub(crate) fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Runs a program in a folder, with what it prints going where ours does.
pub(crate) fn run<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a str>,
    folder: &Path,
) -> Result<(), Error> {
    let status = command(program, arguments, folder).status();
    let status = status.map_err(|source| Error::Start {
        program: program.to_owned(),
        source,
    })?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Program {
            program: program.to_owned(),
            code: status.code(),
        })
    }
}

/// Runs a program in a folder, and gives what it prints.
pub(crate) fn output<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a str>,
    folder: &Path,
) -> Result<Vec<u8>, Error> {
    let output = command(program, arguments, folder)
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|source| Error::Start {
        program: program.to_owned(),
        source,
    })?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(Error::Program {
            program: program.to_owned(),
            code: output.status.code(),
        })
    }
}

fn command<'a>(
    program: &str,
    arguments: impl IntoIterator<Item = &'a str>,
    folder: &Path,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder);
    // What cargo says of xtask is not for others: ring's build script runs again where it differs, and all that use ring compile again.
    let of_xtask = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in of_xtask {
        command.env_remove(name);
    }
    command
}
