//! Both sides of a case as processes that live at the same time and take turns.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::losses::Shown;
use crate::{Error, cases};

/// Makes the environment from `requirements.txt`, unless it is there; gives its Python.
pub(crate) fn set_up(dir: &Path) -> Result<PathBuf, Error> {
    if let Ok(python) = found(dir) {
        return Ok(python);
    }
    eprintln!("making the peers' environment in {} …", dir.display());
    run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
    let requirements = folder().join("requirements.txt");
    run(Command::new(dir.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(requirements))?;
    found(dir)
}

/// The Python of an environment that can import the peers.
pub(crate) fn found(dir: &Path) -> Result<PathBuf, Error> {
    let python = dir.join("bin/python");
    versions(&python).map_err(|error| {
        format!(
            "{} has no peers ({error}); make it with --setup-peers {}",
            dir.display(),
            dir.display()
        )
    })?;
    Ok(python)
}

/// The peers' versions.
pub(crate) fn versions(python: &Path) -> Result<Value, Error> {
    let output = Command::new(python)
        .arg(script())
        .arg("--versions")
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err("its Python cannot import torch and pytorch_metric_learning".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What was measured of one case.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) ours: Side,
    pub(crate) peer: Option<Side>,
    /// Load of the machine before the case, per core.
    pub(crate) load: Option<f64>,
}

/// One side of one case.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// Milliseconds of CPU time and of wall time a repetition, round by round.
    pub(crate) cpu_ms: Vec<f64>,
    pub(crate) wall_ms: Vec<f64>,
    /// Growth of the peak by the first repetition.
    pub(crate) peak_mb: Option<f64>,
    /// Trained numbers of a network; the norms' statistics are none.
    pub(crate) parameters: Option<usize>,
    /// The loss.
    pub(crate) value: f64,
}

/// Measures one case, on so many threads and this device: a round here, a round there, and again with the order turned.
pub(crate) fn side_by_side(
    name: &str,
    python: Option<&Path>,
    place: (usize, &str),
    rounds: usize,
) -> Result<Figures, Error> {
    let load = load();
    let rows = cases::rows_file(name)?;
    let rows = rows.as_ref().map(tempfile::NamedTempFile::path);
    let mut ours = Process::start(
        Command::new(std::env::current_exe()?)
            .args(["serve", name])
            .args(rows)
            // As the command `nearfar` starts itself; each side as its users have it.
            .envs(nearfar_trainer::ENVIRONMENT),
        place,
    )?;
    // Where its tensors would fill the machine there is no other side.
    let expression = cases::peer_loss(name)?;
    let shown = cases::of_loss(name)?.map(|loss| match loss.shown {
        Shown::Classes | Shown::Memory => "classes",
        Shown::Views | Shown::SelfSupervised => "views",
    });
    let python = python.filter(|_| rows.is_none() || expression.is_some());
    let mut peer = python
        .map(|python| {
            Process::start(
                Command::new(python)
                    .arg(script())
                    .arg(name)
                    .arg(place.0.to_string())
                    .args(rows)
                    .args(expression)
                    .args(shown),
                place,
            )
        })
        .transpose()?;
    // As many repetitions as fill about half a second, so that the clock's grain does not show.
    let repetitions = |process: &mut Process| -> Result<usize, Error> {
        let first = process.round(1)?.wall_ms;
        Ok(((500.0 / first.max(0.01)) as usize).clamp(1, 500))
    };
    let of_ours = repetitions(&mut ours)?;
    let of_peer = peer.as_mut().map(repetitions).transpose()?.unwrap_or(1);
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                ours.record(of_ours)?;
            } else if let Some(peer) = &mut peer {
                peer.record(of_peer)?;
            }
        }
    }
    let ours = std::mem::take(&mut ours.side);
    let peer = peer.map(|mut peer| std::mem::take(&mut peer.side));
    if let (Some(loss), Some(peer)) = (cases::of_loss(name)?, &peer)
        && loss.differs.is_none()
        && (ours.value - peer.value).abs() > 1e-3 * peer.value.abs()
    {
        return Err(format!(
            "the loss is {} here and {} there; a comparison of times means nothing",
            ours.value, peer.value
        )
        .into());
    }
    // torch has two biases where an LSTM needs one, and one before a normalization; that much may differ.
    if let (Some(here), Some(there)) = (ours.parameters, peer.as_ref().and_then(|it| it.parameters))
        && here.abs_diff(there) > there / 100
    {
        return Err(format!(
            "the network has {here} parameters here and {there} there; a comparison of times means nothing"
        )
        .into());
    }
    Ok(Figures {
        name: name.into(),
        ours,
        peer,
        load,
    })
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    side: Side,
}

#[derive(Debug, Deserialize)]
struct Ready {
    peak_mb: Option<f64>,
    parameters: Option<usize>,
}

#[derive(Debug, Deserialize)]
struct Round {
    wall_ms: f64,
    cpu_ms: f64,
    value: f64,
}

impl Process {
    fn start(command: &mut Command, (threads, device): (usize, &str)) -> Result<Self, Error> {
        let mut child = command
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env(cases::DEVICE, device)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut process = Self {
            child,
            input,
            output,
            side: Side::default(),
        };
        let ready: Ready = process.answer()?;
        (process.side.peak_mb, process.side.parameters) = (ready.peak_mb, ready.parameters);
        Ok(process)
    }

    fn round(&mut self, repetitions: usize) -> Result<Round, Error> {
        writeln!(self.input, "{repetitions}")?;
        self.answer()
    }

    fn record(&mut self, repetitions: usize) -> Result<(), Error> {
        let round = self.round(repetitions)?;
        self.side.cpu_ms.push(round.cpu_ms);
        self.side.wall_ms.push(round.wall_ms);
        self.side.value = round.value;
        Ok(())
    }

    fn answer<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T, Error> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).map_err(|error| {
            format!("a side of the comparison ended or said {line:?} ({error})").into()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peers' scripts: of the sources this was built from, or where a program that was packed for another machine finds them.
pub(crate) fn folder() -> PathBuf {
    std::env::var_os("NEARFAR_BENCH_SCRIPTS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"),
        PathBuf::from,
    )
}

fn script() -> PathBuf {
    folder().join("peers.py")
}

fn run(command: &mut Command) -> Result<(), Error> {
    let status = command
        .status()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ended with {status}").into())
    }
}

/// The one-minute load per core.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let cores = std::thread::available_parallelism().ok()?.get() as f64;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / cores)
}
