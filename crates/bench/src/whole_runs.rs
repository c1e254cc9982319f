//! `bench train`: a whole run on both sides, from files to the same Recall@1, data loading and evaluation included.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::table::{machine, median};
use crate::{Error, peers};

/// Train the Omniglot recipe on both sides until the same Recall@1.
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// The program that is measured, as built for release.
    #[arg(long, value_name = "FILE")]
    nearfar: PathBuf,
    /// Folder of the fetched data sets, with Omniglot in it.
    #[arg(
        long,
        value_name = "DIR",
        env = "NEARFAR_DATASETS",
        default_value = "data"
    )]
    data: PathBuf,
    /// The Recall@1 at which a side has arrived.
    #[arg(long, default_value_t = 0.7)]
    recall: f64,
    /// Steps between two evaluations.
    #[arg(long, default_value_t = 100)]
    every: u32,
    /// Steps after which a side has not arrived.
    #[arg(long, default_value_t = 2000)]
    steps: u32,
    /// How many seeds, from 1.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

/// How a side came to its score.
#[derive(Debug, Deserialize)]
struct Arrival {
    step: u64,
    recall_at_1: f64,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: f64,
    /// Of all threads; known on Linux.
    cpu: Option<f64>,
}

/// A run of one side.
#[derive(Debug)]
struct Outcome {
    arrival: Arrival,
    cost: Cost,
    /// The part of its wall time for which steps waited for batches; the peer does not tell.
    waited: Option<f64>,
}

impl Train {
    /// Runs both sides in turns, and prints a table.
    #[allow(clippy::print_stdout)] // The figures are what it is for.
    pub(crate) fn run(
        &self,
        python: Option<&Path>,
        threads: usize,
        out: &Path,
    ) -> Result<(), Error> {
        let recipe =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes/omniglot_twin.toml");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for seed in 1..=self.seeds {
            eprintln!("seed {seed}: nearfar …");
            ours.push(self.ours(&recipe, threads, seed)?);
            if let Some(python) = python {
                eprintln!("seed {seed}: the peer …");
                theirs.push(self.theirs(python, threads, seed)?);
            }
        }
        let sides = [
            ("nearfar", &ours),
            ("PyTorch + pytorch-metric-learning", &theirs),
        ];
        println!(
            "{}; {threads} thread{}\n",
            machine(),
            if threads == 1 { "" } else { "s" }
        );
        println!(
            "| | seed | steps | Recall@1 | wall s | CPU s | waited for batches |\n|---|---:|---:|---:|---:|---:|---:|"
        );
        for (name, outcomes) in sides {
            for (seed, it) in outcomes.iter().enumerate() {
                let cpu = it.cost.cpu.map_or("–".into(), |cpu| format!("{cpu:.1}"));
                let waited = it
                    .waited
                    .map_or("–".into(), |part| format!("{:.1} %", 100.0 * part));
                println!(
                    "| {name} | {} | {} | {:.3} | {:.1} | {cpu} | {waited} |",
                    seed + 1,
                    it.arrival.step,
                    it.arrival.recall_at_1,
                    it.cost.wall
                );
            }
        }
        let ratio = |of: &dyn Fn(&Outcome) -> Option<f64>| -> Option<f64> {
            let pairs = ours.iter().zip(&theirs);
            let ratios: Option<Vec<f64>> = pairs
                .map(|(one, other)| Some(of(other)? / of(one)?))
                .collect();
            ratios.filter(|it| !it.is_empty()).map(|it| median(&it))
        };
        let (wall, cpu) = (ratio(&|it| Some(it.cost.wall)), ratio(&|it| it.cost.cpu));
        let told = |ratio: Option<f64>| ratio.map_or("–".into(), |it| format!("{it:.2}"));
        println!(
            "\nPeer ÷ ours, the median over seeds: wall time {}, CPU time {}. Whole processes, from archives to Recall@1 {} on \
             the 659 characters never seen, scored after every {} steps; ours scores raw pixels and LDA too, and writes a report.",
            told(wall),
            told(cpu),
            self.recall,
            self.every
        );
        let side = |outcomes: &[Outcome]| -> Vec<Value> {
            let outcome = |it: &Outcome| json!({"step": it.arrival.step, "recall_at_1": it.arrival.recall_at_1, "wall_s": it.cost.wall, "cpu_s": it.cost.cpu, "waited": it.waited});
            outcomes.iter().map(outcome).collect()
        };
        let object = json!({"machine": machine(), "threads": threads, "ours": side(&ours), "peer": side(&theirs), "wall_ratio": wall, "cpu_ratio": cpu});
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(out, serde_json::to_string_pretty(&object)?)?;
        println!("written: {}", out.display());
        Ok(())
    }

    fn ours(&self, recipe: &Path, threads: usize, seed: u64) -> Result<Outcome, Error> {
        let folder = tempfile::tempdir()?;
        let run = folder.path().join("run");
        let mut command = Command::new(&self.nearfar);
        command
            .args(["train", "--quiet", "--data"])
            .arg(&self.data)
            .arg(recipe)
            .arg("--out")
            .arg(&run)
            .env("RAYON_NUM_THREADS", threads.to_string());
        for change in [
            format!("seed={seed}"),
            format!("train.steps={}", self.steps),
            format!("evaluation.every.steps={}", self.every),
            "evaluation.scores=[\"recall_at_1\"]".into(),
            format!(
                "checkpoints={{ best = \"recall_at_1\", enough = {:?} }}",
                self.recall
            ),
        ] {
            command.args(["--set", &change]);
        }
        let (cost, _) = whole(&mut command)?;
        let log = std::fs::read_to_string(run.join("metrics.jsonl"))?;
        let (mut arrival, mut waited) = (None, 0.0);
        for line in log.lines() {
            let line: Value = serde_json::from_str(line)?;
            waited += line["clock"]["waited"].as_f64().unwrap_or(0.0);
            if let Some(recall) = line["scores"]["recall_at_1"].as_f64() {
                let step = line["step"].as_u64().unwrap_or(0);
                arrival = Some(Arrival {
                    step,
                    recall_at_1: recall,
                });
            }
        }
        let arrival = arrival.ok_or("no evaluation was made: --every is more than --steps")?;
        self.arrived(arrival, cost, Some(waited / cost.wall))
    }

    fn theirs(&self, python: &Path, threads: usize, seed: u64) -> Result<Outcome, Error> {
        let mut command = Command::new(python);
        command
            .arg(peers::folder().join("omniglot_twin.py"))
            .arg(&self.data)
            .args([threads.to_string(), seed.to_string()])
            .args([self.steps.to_string(), self.every.to_string()])
            .arg(self.recall.to_string());
        let (cost, printed) = whole(&mut command)?;
        self.arrived(serde_json::from_str(&printed)?, cost, None)
    }

    fn arrived(&self, arrival: Arrival, cost: Cost, waited: Option<f64>) -> Result<Outcome, Error> {
        if arrival.recall_at_1 < self.recall {
            let Arrival { step, recall_at_1 } = arrival;
            return Err(format!("a side is at Recall@1 {recall_at_1} after {step} steps; raise --steps or lower --recall").into());
        }
        Ok(Outcome {
            arrival,
            cost,
            waited,
        })
    }
}

/// Runs a program to its end: what it took, and what it printed.
fn whole(command: &mut Command) -> Result<(Cost, String), Error> {
    let start = Instant::now();
    let child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    // What a process took can be read until somebody has waited for it.
    let cpu = loop {
        match stat(child.id()) {
            Some((b'Z', seconds)) => break Some(seconds),
            Some(_) => std::thread::sleep(Duration::from_millis(20)),
            None => break None,
        }
    };
    let output = child.wait_with_output()?;
    let wall = start.elapsed().as_secs_f64();
    if !output.status.success() {
        return Err(format!("{command:?} ended with {}", output.status).into());
    }
    Ok((Cost { wall, cpu }, String::from_utf8(output.stdout)?))
}

/// The state of a process, and the seconds that its threads have computed.
fn stat(process: u32) -> Option<(u8, f64)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before them may hold anything but a last `)`.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
    let state = *fields.first()?.as_bytes().first()?;
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((
        state,
        ticks / rustix::param::clock_ticks_per_second() as f64,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_program_took_and_printed_is_known() {
        let mut sum = Command::new("sh");
        sum.args([
            "-c",
            "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo $i",
        ]);
        let (cost, printed) = whole(&mut sum).expect("a shell");
        assert_eq!(printed, "200000\n");
        let cpu = cost.cpu.expect("Linux tells");
        assert!(cpu > 0.0 && cpu <= cost.wall + 0.05, "{cost:?}");
        assert!(whole(Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
