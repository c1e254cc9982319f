//! Two domains, and two kinds of inputs.

use crate::helpers::{bars, problems, refused, trained, write};
use crate::support::{nearfar, run};

#[test]
fn two_domains() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "path,label,domain\n".to_owned();
    for index in 0..64 {
        let (class, light) = (index % 4, index % 8 < 4);
        let domain = if light { "photo" } else { "sketch" };
        let name = format!("{domain}/{class}/{index}.pgm");
        bars(folder.path(), &name, class, light, index);
        csv += &format!("{name},c{class},{domain}\n");
    }
    write(&folder.path().join("list.csv"), &csv);
    let small = [
        "train.steps=30",
        "data.images_csv.size=12",
        "data.images_csv.test=0.25",
        "sampler.two_domains.classes=4",
        "sampler.two_domains.samples=2",
        "towers.0.model.conv4.blocks=2",
        "towers.1.model.conv4.blocks=2",
        "towers.0.model.conv4.channels=8",
        "towers.1.model.conv4.channels=8",
    ];
    let output = trained(folder.path(), "domains", &small);
    assert!(output.contains("of 4 classes in two domains"), "{output}");
    assert!(
        output.contains("Recall@1") && output.contains("raw pixels"),
        "{output}"
    );

    // Each tower has a head of its own, and the groups leave all but these as it is.
    let heads = [
        "towers.0.head={projection={hidden=[],width=6}}",
        "towers.1.head={projection={hidden=[5],width=6}}",
        "groups=[{parameters='towers.*.projection.*'},{parameters='*',frozen=true}]",
    ];
    let mut command = nearfar(folder.path());
    command.args(["train", "run.toml", "--out", "runs/heads"]);
    for change in small.iter().chain(&heads) {
        command.args(["--set", change]);
    }
    let (_, notes) = run(&mut command, 0);
    assert!(
        notes.contains("conv4 under projection and conv4 under projection"),
        "{notes}"
    );

    let error = refused(folder.path(), "head={projection={}}", 2);
    assert!(error.contains("into the entry of its tower"), "{error}");
    let error = refused(folder.path(), "sampler={shuffled={}}", 3);
    assert!(
        error.contains("`sampler.shuffled` does not look at domains"),
        "{error}"
    );
    write(
        &folder.path().join("list.csv"),
        csv.replace("c2,photo", "c2,scan"),
    );
    let problems = problems(folder.path(), "run.toml");
    assert!(
        problems.contains("two domains are wanted in the column `domain`, but there are 3"),
        "{problems}"
    );
}

#[test]
fn two_kinds() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut csv = "caption,path\n".to_owned();
    for index in 0..48 {
        let (class, light) = (index % 4, index % 8 < 4);
        let name = format!("images/{index}.pgm");
        bars(folder.path(), &name, class, light, index);
        let words = ["top", "high", "low", "bottom"];
        let shade = if light { "light" } else { "dark" };
        csv += &format!("a {shade} bar {} number {index},{name}\n", words[class]);
    }
    write(&folder.path().join("list.csv"), &csv);
    let small = [
        "train.steps=20",
        "data.two_kinds.second.image={column=\"path\",size=12,color=\"gray\"}",
        "sampler.two_domains.classes=12",
        "towers.0.model.lstm.width=8",
        "towers.1.model.conv4={width=8,blocks=2,channels=8}",
    ];
    let output = trained(folder.path(), "two-kinds", &small);
    assert!(output.contains("Recall@1"), "{output}");

    let embed = ["embed", "images", "--run", "runs/run", "-o", "images.npy"];
    let (_, error) = run(nearfar(folder.path()).args(embed), 2);
    assert!(
        error.contains("`--tower 0` for texts, `--tower 1` for images"),
        "{error}"
    );
    let mut command = nearfar(folder.path());
    let (embedded, _) = run(command.args(embed).args(["--tower", "1"]), 0);
    assert!(
        embedded.contains("48 embeddings of 8 numbers"),
        "{embedded}"
    );
    let search = ["search", "a dark bar low", "--gallery", "images.npy"];
    let mut command = nearfar(folder.path());
    command
        .args(search)
        .args(["--run", "runs/run", "--tower", "0"]);
    let (found, _) = run(&mut command, 0);
    assert!(found.contains("a dark bar low"), "{found}");
    let mut command = nearfar(folder.path());
    let (_, error) = run(command.args(embed).args(["--tower", "2"]), 2);
    assert!(
        error.contains("`--tower 2` is not one of the run's"),
        "{error}"
    );

    let one = "model={conv4={}}";
    let error = refused(folder.path(), one, 2);
    assert!(error.contains("`[[towers]]`"), "{error}");
    csv += "words without a picture,images/none.pgm\n,images/1.pgm\n";
    write(&folder.path().join("list.csv"), csv);
    let problems = problems(folder.path(), "run.toml");
    for what in ["row 50: ", "images/none.pgm", "row 51: ", "`caption`"] {
        assert!(problems.contains(what), "{what} is missing in\n{problems}");
    }
}
