//! Runs that are stopped, killed and continued.
#![cfg(unix)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{SMALL, nearfar, run, weights};

/// How many runs are killed: more with `NEARFAR_KILLS`.
fn kills() -> u64 {
    std::env::var("NEARFAR_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10)
}

fn write(folder: &Path, run_file: &str) {
    std::fs::write(folder.join("run.toml"), run_file).expect("written");
}

fn train(folder: &Path, out: &str) -> Command {
    let mut command = nearfar(folder);
    command.args(["train", "run.toml", "--out", out]);
    command
}

fn signal(name: &str, pid: u32) {
    Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .expect("kill is there");
}

fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{} did not come",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_at_random_instants_a_run_ends_with_the_same_weights() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), SMALL);
    let begun = Instant::now();
    run(&mut train(folder.path(), "whole"), 0);
    let whole = begun.elapsed();
    let mut rng =
        nearfar_core::Seed(std::process::id().into()).rng(nearfar_core::Purpose::Evaluation, 0);
    eprintln!("seed {}", std::process::id());
    let mut left = kills();
    while left > 0 {
        let out = format!("killed-{left}");
        let mut killed = 0;
        // Each run is killed up to three times, then goes on to its end.
        loop {
            let mut command = train(folder.path(), &out);
            command
                .arg("--resume")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if killed == 3 || left == 0 {
                run(&mut command, 0);
                break;
            }
            let mut child = command.spawn().expect("starts");
            std::thread::sleep(whole.mul_f64(rng.uniform()));
            let ended = child.try_wait().expect("a child");
            child.kill().expect("killed");
            child.wait().expect("gone");
            if let Some(status) = ended {
                assert!(status.success(), "{out}, after {killed} kills: {status}");
                break;
            }
            killed += 1;
            left -= 1;
        }
        let run_folder = folder.path().join(&out);
        let whole_folder = folder.path().join("whole");
        assert_eq!(
            kept(&run_folder),
            kept(&whole_folder),
            "{out}, after {killed} kills"
        );
        assert_eq!(weights(&run_folder), weights(&whole_folder), "{out}");
        let lines = |name: &str| steps(&folder.path().join(name));
        assert_eq!(
            lines(&out),
            lines("whole"),
            "metrics.jsonl differs only in `clock`"
        );
    }
}

/// What the folder of checkpoints holds: names, and what `LATEST` and `best` say.
fn kept(run: &Path) -> (Vec<String>, String, String) {
    let folder = run.join("checkpoints");
    let entries = std::fs::read_dir(&folder).expect("a folder");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort();
    let pointer = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a pointer");
    (names, pointer("LATEST"), pointer("best"))
}

/// The lines of a log without their clocks.
fn steps(run: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a log");
    let strip = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        value.as_object_mut().expect("an object").remove("clock");
        value.to_string()
    };
    text.lines()
        .map(strip)
        .filter(|line| !line.contains("\"checkpoint\""))
        .collect()
}

#[test]
fn a_signal_finishes_the_step_saves_and_the_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &SMALL.replace("steps = 24", "steps = 400"));
    run(&mut train(folder.path(), "whole"), 0);
    for name in ["INT", "TERM"] {
        let out = format!("by-{name}");
        let child = train(folder.path(), &out)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        wait_for(&folder.path().join(&out).join("checkpoints/LATEST"));
        signal("USR1", child.id());
        std::thread::sleep(Duration::from_millis(20));
        signal(name, child.id());
        let output = child.wait_with_output();
        let output = output.expect("ends");
        assert_eq!(
            output.status.code(),
            Some(75),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(String::from_utf8_lossy(&output.stderr).contains("--resume goes on"));
        run(train(folder.path(), &out).arg("--resume"), 0);
        assert_eq!(
            weights(&folder.path().join(&out)),
            weights(&folder.path().join("whole"))
        );
    }
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    write(
        folder.path(),
        &SMALL.replace("steps = 24", "steps = 100000"),
    );
    let mut first = train(folder.path(), "one")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    wait_for(&folder.path().join("one/checkpoints/LATEST"));
    let output = train(folder.path(), "one")
        .arg("--resume")
        .output()
        .expect("ends");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    first.kill().expect("killed");
    first.wait().expect("gone");
    assert!(
        !output.status.success() && error.contains(&first.id().to_string()),
        "{error}"
    );
}

#[test]
fn settings_do_not_change_on_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), SMALL);
    run(train(folder.path(), "one").args(["--stop-after", "5"]), 75);
    let (_, error) = run(
        train(folder.path(), "one").args(["--resume", "--set", "loss.triplet_margin.margin=0.4"]),
        2,
    );
    assert!(error.contains("other settings"), "{error}");
    run(train(folder.path(), "one").arg("--resume"), 0);
}

/// A damaged checkpoint is told of, and the one before it is used.
#[test]
fn a_damaged_checkpoint_is_not_used() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), SMALL);
    run(&mut train(folder.path(), "whole"), 0);
    run(train(folder.path(), "one").args(["--stop-after", "8"]), 75);
    let checkpoints = folder.path().join("one/checkpoints");
    let newest = std::fs::read_to_string(checkpoints.join("LATEST")).expect("saved");
    let file = checkpoints.join(newest.trim()).join("model.safetensors");
    let mut bytes = std::fs::read(&file).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let (_, told) = run(train(folder.path(), "one").arg("--resume"), 0);
    assert!(
        told.contains("model.safetensors") && told.contains("an earlier checkpoint is used"),
        "{told}"
    );
    assert_eq!(
        weights(&folder.path().join("one")),
        weights(&folder.path().join("whole"))
    );
}

/// A run starts with the weights of another, its first block frozen for some steps; it goes on without them.
#[test]
fn weights_of_another_run_are_a_start() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("run.toml"), SMALL).expect("written");
    run(train(folder.path(), "first").args(["--set", "seed=9"]), 0);
    let newest = std::fs::read_to_string(folder.path().join("first/checkpoints/LATEST"));
    let newest = newest.expect("a checkpoint was saved");
    let from = format!("first/checkpoints/{}/model.safetensors", newest.trim());
    let from = folder.path().join(from);
    let given = folder.path().join("given.safetensors");
    std::fs::copy(&from, &given).expect("copied");

    let groups = "groups = [{ parameters = \"blocks.0.*\", frozen = true, unfreeze_after = 12 }]\n";
    let text = format!("{groups}weights.file = \"given.safetensors\"\n{SMALL}");
    std::fs::write(folder.path().join("run.toml"), text).expect("written");
    let check = |changes: &[&str], code| {
        let mut command = nearfar(folder.path());
        command.args(["config", "check", "run.toml"]);
        run(command.args(changes), code)
    };
    let (checked, _) = check(&[], 0);
    assert!(
        checked.contains("starts with the weights of given.safetensors"),
        "{checked}"
    );
    let (_, told) = run(&mut train(folder.path(), "straight"), 0);
    assert!(
        told.contains("starts with the weights of given.safetensors"),
        "{told}"
    );
    run(
        train(folder.path(), "stopped").args(["--stop-after", "8"]),
        75,
    );
    std::fs::remove_file(&given).expect("it was there");
    let (_, told) = run(train(folder.path(), "stopped").arg("--resume"), 0);
    assert!(!told.contains("starts with"), "{told}");
    let of = |name: &str| weights(&folder.path().join(name));
    assert_eq!(of("straight"), of("stopped"));
    assert_ne!(of("straight"), of("first"));

    // What is wrong is told before anything is written.
    let (_, error) = run(&mut train(folder.path(), "none"), 1);
    assert!(error.contains("cannot read given.safetensors"), "{error}");
    std::fs::copy(&from, &given).expect("copied");
    let wider = ["--set", "model.conv4.channels=9"];
    let (_, error) = run(train(folder.path(), "wider").args(wider), 3);
    assert!(
        error.contains("given.safetensors is of another model"),
        "{error}"
    );
    // The check of the run file says so too, and what would help where little is of another model.
    let (_, error) = check(&wider, 3);
    assert!(
        error.contains("given.safetensors is of another model") && !error.contains("except"),
        "{error}"
    );
    let other_head = ["--set", "model.conv4.width=5"];
    let (_, error) = check(&other_head, 3);
    assert!(
        error.contains("`head.weight` has shape [8, 128] where the model has [5, 128]")
            && error.contains(r#"write `except = ["head.bias", "head.weight"]` in `weights`"#),
        "{error}"
    );
    let excepted = [&other_head[..], &["--set", "weights.except=[\"head.*\"]"]].concat();
    let (checked, _) = check(&excepted, 0);
    assert!(
        checked.contains("but for `head.bias` and 1 more"),
        "{checked}"
    );
    let elsewhere = ["--set", "data={ folder = { path = 'none' } }"];
    let (checked, _) = check(&elsewhere, 0);
    assert!(
        checked.contains("its weights were not looked at, which takes the data"),
        "{checked}"
    );
    let (_, error) = run(
        train(folder.path(), "wider").args(["--set", "weights.folder=x"]),
        2,
    );
    assert!(error.contains("use one of them"), "{error}");
    assert!(!folder.path().join("none").exists() && !folder.path().join("wider").exists());
}
