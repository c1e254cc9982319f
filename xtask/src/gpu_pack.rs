//! Programs for a machine with an NVIDIA GPU and without Rust, built on one that may have no GPU.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, built, program};

/// Build the CUDA programs and pack them for a machine with a GPU
#[derive(Debug, clap::Args)]
pub(crate) struct GpuPack {
    /// Where the toolkit and what is compiled are kept (about 5 GB)
    #[arg(long, value_name = "DIR", default_value = "target-cuda")]
    work: PathBuf,
    /// The archive; a relative path starts at the root of the repository
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target-cuda/nearfar-gpu.tar.gz"
    )]
    out: PathBuf,
    /// What GPUs it is for: 90 is H100 and H200 alone, 80 all since A100, which then compile at the first use
    #[arg(long, value_name = "NUMBER", default_value_t = 80)]
    compute_capability: u32,
}

/// The toolkit.
const TOOLKIT: &str = include_str!("cuda_toolkit.sh");
/// What is started on the other machine.
const RUN: &str = include_str!("gpu_run.sh");

impl GpuPack {
    pub(crate) fn run(&self, root: &Path) -> Result<(), Error> {
        let work = root.join(&self.work);
        create(&work)?;
        let toolkit = work.join("cuda");
        let script = work.join("cuda_toolkit.sh");
        write(&script, TOOLKIT)?;
        println!("The toolkit: {}", toolkit.display());
        let arguments = [text(&script)?, text(&toolkit)?, cudarc(root)?];
        program::run("bash", arguments.iter().map(String::as_str), root)?;

        println!("The programs, in {}: several minutes", work.display());
        let built = self.build(root, &work)?;
        let pack = work.join("nearfar-gpu");
        if pack.exists() {
            std::fs::remove_dir_all(&pack).map_err(|source| Error::Io {
                action: "empty",
                path: pack.display().to_string(),
                source,
            })?;
        }
        create(&pack)?;
        for (from, name) in [
            (built::path(&built, "nearfar", "bin")?, "nearfar"),
            (
                built::path(&built, "nearfar-bench", "bin")?,
                "nearfar-bench",
            ),
            (built::path(&built, "trainable", "test")?, "models"),
        ] {
            let to = pack.join(name);
            copy(Path::new(&from), &to)?;
            program::run("strip", [text(&to)?.as_str()], root)?;
        }
        let run = pack.join("run.sh");
        write(&run, RUN)?;
        program::run("chmod", ["+x", &text(&run)?], root)?;
        let peers = root.join("crates/bench/peers");
        create(&pack.join("peers"))?;
        for script in ["peers.py", "omniglot_twin.py"] {
            copy(&peers.join(script), &pack.join("peers").join(script))?;
        }
        let recipe = "omniglot_twin.toml";
        copy(&root.join("docs/recipes").join(recipe), &pack.join(recipe))?;

        let out = root.join(&self.out);
        let (out, folder) = (text(&out)?, text(&work)?);
        let arguments = ["-czf", &out, "-C", &folder, "nearfar-gpu"];
        program::run("tar", arguments, root)?;
        println!("{out}: unpack it on the other machine, and start nearfar-gpu/run.sh");
        Ok(())
    }

    /// What cargo says of a build with CUDA. Programs and test are built at once: apart they ask for other features of what they share, and
    /// all of it would be compiled twice.
    fn build(&self, root: &Path, work: &Path) -> Result<Vec<u8>, Error> {
        let toolkit = text(&work.join("cuda"))?;
        let (target, capability) = (
            text(&work.join("gpu"))?,
            self.compute_capability.to_string(),
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let set = |name: &str, value: &str| format!("{name}={value}");
        let environment = [
            set("CUDA_HOME", &toolkit),
            set("CUDA_PATH", &toolkit),
            set("CUDARC_CUDA_VERSION", "13000"),
            set("CUDA_COMPUTE_CAP", &capability),
            set("NVCC", &format!("{toolkit}/bin/nvcc-lean")),
            set("PATH", &format!("{toolkit}/bin:{path}")),
            set("CARGO_TARGET_DIR", &target),
        ];
        let cargo = program::cargo();
        let mut arguments: Vec<&str> = environment.iter().map(String::as_str).collect();
        arguments.push(&cargo);
        arguments.extend([
            "build",
            "--bin",
            "nearfar",
            "--bin",
            "nearfar-bench",
            "--test",
            "trainable",
            "--release",
            "--locked",
            "--workspace",
            "--features",
            "nearfar/cuda,nearfar/cudnn",
            "--message-format",
            "json-render-diagnostics",
        ]);
        program::output("env", arguments, root)
    }
}

/// Where the sources of cudarc are, which declare what a program is linked to.
fn cudarc(root: &Path) -> Result<String, Error> {
    let arguments = [
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--all-features",
    ];
    let metadata = program::output(&program::cargo(), arguments, root)?;
    let metadata: Value = serde_json::from_slice(&metadata).map_err(|source| Error::Reading {
        path: "`cargo metadata`".to_owned(),
        source,
    })?;
    folder_of(&metadata, "cudarc").ok_or(Error::NoPackage { name: "cudarc" })
}

fn folder_of(metadata: &Value, name: &str) -> Option<String> {
    let packages = metadata["packages"].as_array()?;
    let package = packages.iter().find(|it| it["name"] == name)?;
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some(manifest.parent()?.to_string_lossy().into_owned())
}

fn text(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io {
        action: "use",
        path: path.display().to_string(),
        source,
    };
    let absolute = std::path::absolute(path).map_err(io)?;
    Ok(absolute.to_string_lossy().into_owned())
}

fn create(folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Io {
        action: "create",
        path: folder.display().to_string(),
        source,
    })
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Io {
        action: "write",
        path: path.display().to_string(),
        source,
    })
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|source| Error::Io {
            action: "copy",
            path: from.display().to_string(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_folder_of_a_package_is_that_of_its_manifest() {
        let metadata = json!({"packages": [
            {"name": "candle-core", "manifest_path": "/src/candle-core/Cargo.toml"},
            {"name": "cudarc", "manifest_path": "/src/cudarc-0.19/Cargo.toml"},
        ]});
        let found = folder_of(&metadata, "cudarc");
        assert_eq!(found.as_deref(), Some("/src/cudarc-0.19"));
        assert_eq!(folder_of(&metadata, "nccl"), None);
    }
}
