//! `nearfar doctor`: what this machine offers and what is missing.

use std::path::Path;

use nearfar_catalogue::{Catalogue, Status};
use serde_json::json;

use crate::args::Global;
use crate::device;
use crate::exit::Error;
use crate::out::Out;

pub(crate) fn run(global: &Global, out: &Out) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = std::env::var("RAYON_NUM_THREADS")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|&threads| threads > 0)
        .unwrap_or(cores);
    let instructions = instructions();
    let memory = memory_mib();
    let devices: Vec<(&str, String)> = ["cpu", "cuda", "metal"]
        .into_iter()
        .map(|name| match device::of(name) {
            Ok(_) => (name, "works".to_string()),
            Err(error) => (name, error.to_string()),
        })
        .collect();
    let sets: Vec<(String, String)> = Catalogue::builtin()
        .iter()
        .filter(|set| !set.files.is_empty())
        .map(|set| (set.name.clone(), status(&global.data, set)))
        .collect();

    let mut rows = vec![
        vec![
            "nearfar".to_string(),
            format!("{} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH),
        ],
        vec![
            "processor".into(),
            format!(
                "{cores} cores, {}",
                if instructions.is_empty() {
                    "no SIMD that is known".into()
                } else {
                    instructions.join(", ")
                }
            ),
        ],
        vec![
            "threads".into(),
            format!("{threads} (RAYON_NUM_THREADS sets it; results do not depend on it)"),
        ],
    ];
    if let Some((total, free)) = memory {
        rows.push(vec![
            "memory".into(),
            format!("{total} MiB, {free} MiB free"),
        ]);
    }
    rows.extend(
        devices
            .iter()
            .map(|(name, state)| vec![format!("device {name}"), state.clone()]),
    );
    rows.push(vec![
        "data".into(),
        format!(
            "{}{}",
            global.data.display(),
            if global.data.is_dir() {
                ""
            } else {
                " (not there yet; `cargo xtask fetch-data` makes it)"
            }
        ),
    ]);
    rows.extend(
        sets.iter()
            .map(|(name, state)| vec![format!("  {name}"), state.clone()]),
    );
    let text = rows
        .iter()
        .map(|row| format!("{:<16} {}", row[0], row[1]))
        .collect::<Vec<_>>()
        .join("\n");
    let object = json!({
        "type": "result", "version": env!("CARGO_PKG_VERSION"), "cores": cores, "threads": threads, "instructions": instructions,
        "memory_mib": memory.map(|(total, free)| json!({"total": total, "free": free})),
        "devices": devices.iter().map(|(name, state)| json!({"name": name, "state": state})).collect::<Vec<_>>(),
        "data": global.data, "data_sets": sets.iter().map(|(name, state)| json!({"name": name, "state": state})).collect::<Vec<_>>(),
    });
    out.result(&text, object);
    Ok(())
}

fn status(folder: &Path, set: &nearfar_catalogue::DataSet) -> String {
    match nearfar_catalogue::status(folder, set) {
        Status::Present => "there".into(),
        Status::Missing { .. } => format!("not there: cargo xtask fetch-data {}", set.name),
        Status::Damaged { faults } => {
            format!("{}: cargo xtask fetch-data {}", faults.join("; "), set.name)
        }
    }
}

/// The instruction sets that the kernels choose from.
fn instructions() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let mut found = Vec::new();
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
        {
            found.push("AVX2");
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            found.push("AVX-512");
        }
        found
    }
    #[cfg(target_arch = "aarch64")]
    {
        vec!["NEON"]
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Vec::new()
    }
}

/// Total and free memory, where the system says.
fn memory_mib() -> Option<(u64, u64)> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let of = |key: &str| -> Option<u64> {
        let line = info.lines().find_map(|line| line.strip_prefix(key))?;
        Some(
            line.trim_start_matches(':')
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()?
                / 1024,
        )
    };
    Some((of("MemTotal")?, of("MemAvailable")?))
}
