//! `nearfar-bench`: the same work here and in PyTorch with pytorch-metric-learning, side by side in one run.

mod cases;
mod clock;
mod losses;
mod peers;
mod table;
mod whole_runs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of nearfar beside its peers. `cargo bench -p nearfar-bench` measures the pieces.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Cases, or groups of them: `step`, `losses` (default: all).
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Makes the peers' Python environment in a folder from pinned versions (needs python3 and about 6 GB), then measures.
    #[arg(long, value_name = "DIR", global = true)]
    setup_peers: Option<PathBuf>,
    /// A folder that `--setup-peers` has made.
    #[arg(long, value_name = "DIR", env = "NEARFAR_PEERS", global = true)]
    peers: Option<PathBuf>,
    /// Threads of both sides.
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
    /// Where training steps run on both sides: `cpu`, or `cuda` where this was built for it.
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "cuda"], env = cases::DEVICE)]
    device: String,
    /// Rounds; both sides take turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the figures are written as JSON.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/bench/side_by_side.json",
        global = true
    )]
    json: PathBuf,
    /// List the cases and end.
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trains the Omniglot recipe on both sides until the same Recall@1.
    Train(whole_runs::Train),
    /// Our side of one case, driven through standard input: used by the program itself.
    #[command(hide = true)]
    Serve {
        /// Its name.
        case: String,
        /// The embeddings of a loss.
        rows: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        // As training runs.
        Some(Command::Serve { case, rows }) => nearfar_trainer::on_large_stack(|| {
            let served = cases::serve(case, rows.as_deref());
            served.map_err(|error| error.to_string())
        })
        .map_err(Error::from)
        .and_then(|served| Ok(served?)),
        Some(Command::Train(train)) => {
            python(&cli).and_then(|python| train.run(python.as_deref(), cli.threads, &cli.json))
        }
        None => measure(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Error = Box<dyn std::error::Error>;

/// The Python of the peers, where there are any.
fn python(cli: &Cli) -> Result<Option<PathBuf>, Error> {
    Ok(match (&cli.setup_peers, &cli.peers) {
        (Some(dir), _) => Some(peers::set_up(dir)?),
        (None, Some(dir)) => Some(peers::found(dir)?),
        (None, None) => None,
    })
}

#[allow(clippy::print_stdout)] // The figures are what it is for.
fn measure(cli: &Cli) -> Result<(), Error> {
    if cli.list {
        cases::all()
            .iter()
            .for_each(|(group, name)| println!("{group:<8} {name}"));
        return Ok(());
    }
    let all = cases::all();
    for wanted in &cli.cases {
        if !all
            .iter()
            .any(|(group, name)| group == wanted || name == wanted)
        {
            return Err(format!("there is no case `{wanted}`; `--list` shows them").into());
        }
    }
    let chosen = |group: &str, name: &str| {
        cli.cases.is_empty() || cli.cases.iter().any(|it| it == group || it == name)
    };
    if cli.device != "cpu"
        && let Some((_, name)) = all
            .iter()
            .find(|(group, name)| chosen(group, name) && *group != "step")
    {
        return Err(
            format!("`{name}` runs on the CPU alone; with --device, name cases of `step`").into(),
        );
    }
    let place = (cli.threads, cli.device.as_str());
    let peers = python(cli)?;
    let versions = peers.as_deref().map(peers::versions).transpose()?;
    // A case that fails is told at the end, beside the figures of the others.
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for (_, name) in all.iter().filter(|(group, name)| chosen(group, name)) {
        eprintln!("{name} …");
        match peers::side_by_side(name, peers.as_deref(), place, cli.rounds) {
            Ok(measured) => figures.push(measured),
            Err(error) => {
                eprintln!("{name}: {error}");
                failed.push((name.as_str(), error.to_string()));
            }
        }
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
    let lacking = || format!("not measured, for the reasons above: {}", names.join(", ")).into();
    if figures.is_empty() {
        return Err(lacking());
    }
    println!("{}", table::text(&figures, place, versions.as_ref()));
    if let Some(folder) = cli.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let json = table::json(&figures, &failed, place, versions.as_ref());
    std::fs::write(&cli.json, serde_json::to_string_pretty(&json)?)?;
    println!("written: {}", cli.json.display());
    if failed.is_empty() {
        return Ok(());
    }
    Err(lacking())
}
