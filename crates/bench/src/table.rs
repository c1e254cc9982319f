//! The figures as text and as JSON.

use serde_json::{Value, json};

use crate::peers::{Figures, Side};

/// The middle of some numbers.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The middle of the ratios of the rounds, peer ÷ ours: above 1 we are faster.
fn ratio(peer: &[f64], ours: &[f64]) -> f64 {
    median(
        &peer
            .iter()
            .zip(ours)
            .map(|(peer, ours)| peer / ours)
            .collect::<Vec<_>>(),
    )
}

/// A table in Markdown.
pub(crate) fn text(
    figures: &[Figures],
    (threads, device): (usize, &str),
    versions: Option<&Value>,
) -> String {
    let peer = versions.map_or(
        "no peers here (--setup-peers DIR makes them)".to_string(),
        |versions| {
            let name = |key: &str| format!("{key} {}", versions[key].as_str().unwrap_or("?"));
            format!("{}, {}", name("torch"), name("pytorch-metric-learning"))
        },
    );
    let mut lines = vec![
        format!("{}; {device}; {threads} thread{}; {peer}", machine(), if threads == 1 { "" } else { "s" }),
        String::new(),
        "| case | ours, CPU ms | peer, CPU ms | ratio | ours, wall ms | peer, wall ms | ratio | ours, peak MB | peer, peak MB | ratio | load |".into(),
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|".into(),
    ];
    for it in figures {
        let number = |value: f64| {
            if value >= 100.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.2}")
            }
        };
        let pair = |of: fn(&Side) -> &Vec<f64>| match &it.peer {
            None => format!("{} | – | –", number(median(of(&it.ours)))),
            Some(peer) => format!(
                "{} | {} | **{:.2}**",
                number(median(of(&it.ours))),
                number(median(of(peer))),
                ratio(of(peer), of(&it.ours))
            ),
        };
        let memory = match (it.ours.peak_mb, it.peer.as_ref().map(|peer| peer.peak_mb)) {
            (Some(ours), Some(Some(peer))) => {
                format!("{ours:.1} | {peer:.1} | {:.1}", peer / ours.max(0.1))
            }
            (Some(ours), _) => format!("{ours:.1} | – | –"),
            _ => "– | – | –".into(),
        };
        let load = it.load.map_or("–".into(), |load| format!("{load:.2}"));
        lines.push(format!(
            "| {} | {} | {} | {memory} | {load} |",
            it.name,
            pair(|side| &side.cpu_ms),
            pair(|side| &side.wall_ms)
        ));
    }
    lines.push(String::new());
    lines.push("Medians over the rounds, both sides alive and taking turns; ratios are peer ÷ ours, the median of the rounds' ratios. Peak: growth by the first step.".into());
    lines.join("\n")
}

/// The same for machines, round by round, with the cases that were not measured and why.
pub(crate) fn json(
    figures: &[Figures],
    failed: &[(&str, String)],
    (threads, device): (usize, &str),
    versions: Option<&Value>,
) -> Value {
    let side = |side: &Side| json!({"cpu_ms": side.cpu_ms, "wall_ms": side.wall_ms, "peak_mb": side.peak_mb, "value": side.value});
    let cases: Vec<Value> = figures
        .iter()
        .map(|it| {
            json!({
                "case": it.name,
                "ours": side(&it.ours),
                "peer": it.peer.as_ref().map(side),
                "cpu_ratio": it.peer.as_ref().map(|peer| ratio(&peer.cpu_ms, &it.ours.cpu_ms)),
                "wall_ratio": it.peer.as_ref().map(|peer| ratio(&peer.wall_ms, &it.ours.wall_ms)),
                "load_per_core": it.load,
            })
        })
        .collect();
    let failed: Vec<Value> = failed
        .iter()
        .map(|(name, reason)| json!({"case": name, "reason": reason}))
        .collect();
    json!({"machine": machine(), "device": device, "threads": threads, "peers": versions, "cases": cases, "failed": failed})
}

/// The processor and how many cores of it there are.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or(std::env::consts::ARCH, |line| {
            line.trim_start_matches(['\t', ' ', ':'])
        });
    let wide = if info.contains("avx512f") {
        ", AVX-512"
    } else if info.contains("avx2") {
        ", AVX2"
    } else {
        ""
    };
    format!(
        "{model}{wide}, {} cores",
        std::thread::available_parallelism().map_or(1, usize::from)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(ratio(&[2.0, 9.0, 4.0], &[1.0, 3.0, 1.0]), 3.0);
    }
}
