//! Sounds against what librosa, torchaudio and Whisper make of them.

use nearfar_datasets::{FrontEnd, LogMel, Sound, resample};
use serde::Deserialize;

/// Written by `fixtures/sounds.py`.
const FIXTURE: &str = include_str!("fixtures/sounds.json");

#[derive(Deserialize)]
struct Fixture {
    frames: Vec<FramesCase>,
    resampled: Vec<ResampledCase>,
}

#[derive(Deserialize)]
struct FramesCase {
    log_mel: LogMel,
    samples: usize,
    frames: usize,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct ResampledCase {
    from: u32,
    to: u32,
    samples: usize,
    values: Vec<f64>,
}

/// The sound of the script.
fn sound(count: usize) -> Vec<f32> {
    (0..count as i64)
        .map(|i| {
            let noise = ((3 * i * i + 7 * i) % 4001 - 2000) as f32 / 8192.0;
            let tone = ((37 * i) % 400 - 200) as f32 / 1024.0;
            noise + tone
        })
        .collect()
}

/// The largest difference, as a part of the largest number.
fn difference(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(0.0, |largest: f64, it| largest.max(it.abs()));
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0, |most: f64, (&found, expected)| {
        most.max((f64::from(found) - expected).abs() / largest)
    })
}

#[test]
fn frames_are_those_of_librosa_torchaudio_and_whisper() {
    let fixture: Fixture = serde_json::from_str(FIXTURE).expect("the fixture");
    assert!(fixture.frames.len() >= 6);
    for case in fixture.frames {
        let front_end = FrontEnd::new(&case.log_mel).expect("settings of the script");
        let rate = case.log_mel.rate;
        let frames = front_end.frames(&Sound {
            rate,
            samples: sound(case.samples),
        });
        let frames = frames.expect("finite samples");
        assert_eq!(
            (frames.count, frames.width),
            (case.frames, case.log_mel.mels),
            "{:?}",
            case.log_mel
        );
        let error = difference(&frames.values, &case.values);
        // Seven digits were written; Whisper counts in single precision.
        assert!(error < 1e-5, "{error}: {:?}", case.log_mel);
    }
}

#[test]
fn other_rates_are_those_of_torchaudio() {
    let fixture: Fixture = serde_json::from_str(FIXTURE).expect("the fixture");
    for case in fixture.resampled {
        let resampled = resample(&sound(case.samples), case.from, case.to);
        let error = difference(&resampled, &case.values);
        assert!(error < 1e-6, "{} to {}: {error}", case.from, case.to);
    }
}
