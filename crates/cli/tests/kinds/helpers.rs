//! Made files, and runs of them.

use std::path::Path;

use crate::support::{nearfar, run};

pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

/// A gray image as PGM.
pub(crate) fn image(path: &Path, side: usize, gray: impl Fn(usize, usize) -> u8) {
    let mut bytes = format!("P5\n{side} {side}\n255\n").into_bytes();
    for y in 0..side {
        bytes.extend((0..side).map(|x| gray(y, x)));
    }
    write(path, bytes);
}

/// Numbers that look random and are always the same.
pub(crate) fn number(index: usize) -> f64 {
    let bits = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f64 / (1u64 << 24) as f64
}

/// A run of a template, with changes that make it small; gives the lines of its last output.
pub(crate) fn trained(folder: &Path, template: &str, changes: &[&str]) -> String {
    run(nearfar(folder).args(["config", "init", template]), 0);
    let (checked, _) = run(nearfar(folder).args(["data", "check", "run.toml"]), 0);
    assert!(checked.contains("train: "), "{checked}");
    let mut command = nearfar(folder);
    command.args(["train", "run.toml"]);
    for change in changes {
        command.args(["--set", change]);
    }
    let (output, notes) = run(&mut command, 0);
    assert!(folder.join("runs/run/report.html").is_file());
    let (again, _) = run(nearfar(folder).args(["eval", "runs/run"]), 0);
    for line in again.lines() {
        assert!(output.contains(line), "{line}\nis not in\n{output}");
    }
    format!("{checked}\n{notes}\n{output}")
}

/// What the check of the data says, which it ends with the exit code of bad data.
pub(crate) fn problems(folder: &Path, data: &str) -> String {
    run(nearfar(folder).args(["data", "check", data]), 3).0
}

/// What a run with a change is refused with.
pub(crate) fn refused(folder: &Path, change: &str, code: i32) -> String {
    let train = ["train", "run.toml", "--out", "runs/other", "--set", change];
    run(nearfar(folder).args(train), code).1
}

/// Images of four classes: bars at four places, dark or light.
pub(crate) fn bars(folder: &Path, name: &str, class: usize, light: bool, index: usize) {
    image(&folder.join(name), 12, |y, x| {
        let bar = (3 * class..3 * class + 3).contains(&y);
        let noise = (60.0 * number(index * 144 + 12 * y + x)) as u8;
        match bar == light {
            true => 255 - noise,
            false => noise,
        }
    });
}
