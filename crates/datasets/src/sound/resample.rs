//! From one rate to another.

/// Zero crossings of the sinc to either side.
const CROSSINGS: f64 = 64.0;
/// Part of the lower band that passes; the rest is where the filter falls off.
const ROLL_OFF: f64 = 0.947_593_716_739_959_6;
/// Shape of the Kaiser window: what it lets through beside is 140 dB below.
const BETA: f64 = 14.769_656_459_379_492;

/// Samples at the rate `to` of those at the rate `from`: band-limited interpolation by a sinc under a Kaiser window,
///
/// ```text
/// y[j] = s · Σ_i x[i] · h(s · (j · from / to − i)),   h(t) = sin(πt) / (πt) · I₀(β · √(1 − (t / w)²)) / I₀(β) for |t| < w,
/// ```
///
/// with `s = 0.9476 · min(1, to / from)`, `w = 64` zero crossings and `β = 14.77`. These are the settings that resampy and
/// torchaudio call `kaiser_best`: what is below 0.87 of the lower of both Nyquist frequencies passes, and what is above 1.02 of it is
/// gone before it can fold back. What lies before and behind the sound is silence. `⌈n · to / from⌉` samples come out of `n`; of equal rates, the
/// same.
///
/// Written here and not left to a crate, since a whole sound at rates with a plain ratio is the easy case, and WAV files need it
/// without further features: the places of the outputs repeat after `to / gcd(from, to)` samples, and each place has its weights
/// computed once. Source: J. O. Smith, "Digital Audio Resampling", 2002.
///
/// A rate of 0 gives nothing.
pub fn resample(samples: &[f32], from: u32, to: u32) -> Vec<f32> {
    if from == to {
        return samples.to_vec();
    }
    if from == 0 || to == 0 {
        return Vec::new();
    }
    let shared = gcd(from, to);
    let (from, to) = (u64::from(from / shared), u64::from(to / shared));
    let scale = ROLL_OFF * (to as f64 / from as f64).min(1.0);
    let reach = CROSSINGS / scale; // In samples of the input.
    let length = (samples.len() as u128 * u128::from(to)).div_ceil(u128::from(from)) as usize;
    let mut resampled = vec![0.0; length];
    let mut weights = Vec::with_capacity(2 * reach.ceil() as usize + 2);
    for phase in 0..to.min(length as u64) {
        // The outputs phase, phase + to, … lie equally far behind an input: the first of them behind `whole`.
        let (whole, part) = (phase * from / to, (phase * from % to) as f64 / to as f64);
        let first = (part - reach).ceil() as i64;
        weights.clear();
        weights.extend(
            (first..=(part + reach).floor() as i64)
                .map(|offset| scale * kernel(scale * (part - offset as f64))),
        );
        for (turn, output) in (0u64..).zip(
            resampled
                .iter_mut()
                .skip(phase as usize)
                .step_by(to as usize),
        ) {
            let start = (whole + turn * from) as i64 + first;
            *output = dot(samples, start, &weights);
        }
    }
    resampled
}

/// The sum of weights times samples from this place on; there is silence before and behind.
fn dot(samples: &[f32], start: i64, weights: &[f64]) -> f32 {
    let before = (-start).clamp(0, weights.len() as i64) as usize;
    let start = start.max(0) as usize;
    let samples = samples.get(start..).unwrap_or_default();
    let pairs = samples.iter().zip(&weights[before..]);
    pairs
        .map(|(&x, &weight)| f64::from(x) * weight)
        .sum::<f64>() as f32
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A sinc under a Kaiser window.
fn kernel(t: f64) -> f64 {
    let place = t / CROSSINGS;
    if place.abs() >= 1.0 {
        return 0.0;
    }
    let sinc = match t {
        0.0 => 1.0,
        t => (std::f64::consts::PI * t).sin() / (std::f64::consts::PI * t),
    };
    sinc * bessel(BETA * (1.0 - place * place).sqrt()) / bessel(BETA)
}

/// The modified Bessel function I₀, by its series.
fn bessel(x: f64) -> f64 {
    let square = x * x / 4.0;
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..100 {
        term *= square / f64::from(k * k);
        sum += term;
        if term < sum * f64::EPSILON {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    fn sine(rate: u32, frequency: f64, count: usize) -> Vec<f32> {
        let step = TAU * frequency / f64::from(rate);
        (0..count).map(|i| (step * i as f64).sin() as f32).collect()
    }

    /// The largest value in the middle, where the silence around is far.
    fn peak(samples: &[f32]) -> f32 {
        let edge = samples.len() / 4;
        let middle = &samples[edge..samples.len() - edge];
        middle.iter().fold(0.0, |peak, it| peak.max(it.abs()))
    }

    #[test]
    fn a_sine_keeps_its_frequency_phase_and_level() {
        for (from, to) in [
            (8_000, 16_000),
            (44_100, 16_000),
            (16_000, 44_100),
            (48_000, 16_000),
            (22_050, 8_000),
        ] {
            let resampled = resample(&sine(from, 1_000.0, from as usize / 4), from, to);
            let expected = sine(to, 1_000.0, resampled.len());
            assert_eq!(resampled.len(), (to as usize).div_ceil(4));
            let edge = resampled.len() / 4;
            for at in edge..resampled.len() - edge {
                let error = (resampled[at] - expected[at]).abs();
                assert!(error < 1e-5, "{from} to {to}: {error} at {at}");
            }
        }
    }

    #[test]
    fn what_would_fold_back_is_taken_away() {
        // 9 and 20 kHz would come back as 7 and 4.
        for frequency in [8_500.0, 9_000.0, 20_000.0] {
            let folded = peak(&resample(&sine(44_100, frequency, 22_050), 44_100, 16_000));
            assert!(folded < 1e-5, "{frequency}: {folded}"); // 100 dB below.
        }
        let passed = peak(&resample(&sine(44_100, 6_960.0, 22_050), 44_100, 16_000)); // 0.87 of 8,000.
        assert!((passed - 1.0).abs() < 1e-3, "{passed}");
    }

    #[test]
    fn equal_rates_and_nothing_are_left_alone() {
        let sound = sine(8_000, 100.0, 9);
        assert_eq!(resample(&sound, 8_000, 8_000), sound);
        assert!(resample(&[], 8_000, 16_000).is_empty());
        assert!(resample(&sound, 0, 8_000).is_empty());
        // Rates with no common part, and sounds that are shorter than the filter.
        assert_eq!(resample(&[0.5], 44_101, 16_000).len(), 1);
        assert_eq!(resample(&sound, 7_919, 16_001).len(), 19);
    }
}
