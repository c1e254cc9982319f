//! One cycle of the rate, and of the momentum against it.

use std::f64::consts::PI;

use super::settings::{Anneal, OneCycle};

/// A one-cycle schedule with all that it needs to know.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    anneal: Anneal,
    /// One after the other; the last one ends with the schedule.
    phases: Vec<Phase>,
}

#[derive(Clone, Copy, Debug)]
struct Phase {
    /// The step at which it is over, which need not be whole.
    end: f64,
    rate: (f64, f64),
    momentum: Option<(f64, f64)>,
}

impl Cycle {
    pub(super) fn new(settings: &OneCycle, peak: f64, total: u64) -> Self {
        let total = total as f64;
        let start = peak / settings.start.get();
        let lowest = start / settings.end.get();
        let rise = settings.rise.get() * total - 1.0;
        let momentum = settings.momentum.range();
        let (falls, rises) = (momentum.map(|(low, high)| (high, low)), momentum);
        let stays = momentum.map(|(_, high)| (high, high));
        let phase = |end, rate, momentum| Phase {
            end,
            rate,
            momentum,
        };
        let mut phases = vec![phase(rise, (start, peak), falls)];
        if settings.three_phases {
            phases.push(phase(2.0 * rise, (peak, start), rises));
            phases.push(phase(total - 1.0, (start, lowest), stays));
        } else {
            phases.push(phase(total - 1.0, (peak, lowest), rises));
        }
        Self {
            anneal: settings.anneal,
            phases,
        }
    }

    pub(super) fn rate(&self, step: u64) -> f64 {
        let (phase, part) = self.place(step);
        self.between(phase.rate, part)
    }

    pub(super) fn momentum(&self, step: u64) -> Option<f64> {
        let (phase, part) = self.place(step);
        phase.momentum.map(|range| self.between(range, part))
    }

    /// The phase of a step, and how much of it is over.
    fn place(&self, step: u64) -> (Phase, f64) {
        let last = self.phases[self.phases.len() - 1];
        let step = (step as f64).min(last.end); // After the end it stays there.
        let mut start = 0.0;
        for &phase in &self.phases {
            if step <= phase.end {
                let length = phase.end - start;
                // A phase of no length is over at once.
                let part = if length > 0.0 {
                    (step - start) / length
                } else {
                    1.0
                };
                return (phase, part);
            }
            start = phase.end;
        }
        (last, 1.0)
    }

    fn between(&self, (from, to): (f64, f64), part: f64) -> f64 {
        match self.anneal {
            Anneal::Linear => from + (to - from) * part,
            Anneal::Cosine => to + (from - to) * (1.0 + (PI * part).cos()) / 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::CycledMomentum;
    use nearfar_core::{Fraction, Positive};

    #[test]
    fn a_cycle_on_paper() {
        let settings = OneCycle {
            rise: Fraction::literal(0.5),
            start: Positive::literal(4.0),
            end: Positive::literal(2.0),
            anneal: Anneal::Linear,
            momentum: CycledMomentum::Cycle {
                low: Fraction::literal(0.5),
                high: Fraction::literal(0.75),
            },
            ..OneCycle::default()
        };
        // Up to step 2, down to step 5.
        let cycle = Cycle::new(&settings, 8.0, 6);
        let rates: Vec<f64> = (0..8).map(|step| cycle.rate(step)).collect();
        let wanted = [2.0, 5.0, 8.0, 17.0 / 3.0, 10.0 / 3.0, 1.0, 1.0, 1.0];
        let near = |(got, want): (&f64, &f64)| (got - want).abs() < 1e-12;
        assert!(rates.iter().zip(&wanted).all(near), "{rates:?}");
        assert_eq!(
            [0, 2, 5].map(|step| cycle.momentum(step)),
            [Some(0.75), Some(0.5), Some(0.75)]
        );
        // Up to step 2, down to where it started at step 4, below at step 5.
        let three = OneCycle {
            three_phases: true,
            ..settings
        };
        let cycle = Cycle::new(&three, 8.0, 6);
        let rates: Vec<f64> = (0..7).map(|step| cycle.rate(step)).collect();
        assert_eq!(rates, [2.0, 5.0, 8.0, 5.0, 2.0, 1.0, 1.0]);
        let own = OneCycle {
            momentum: CycledMomentum::Own,
            ..three
        };
        assert_eq!(Cycle::new(&own, 8.0, 6).momentum(2), None);
    }

    #[test]
    fn phases_of_no_length_are_over_at_once() {
        for (rise, total) in [(0.0, 5), (0.2, 5), (1.0, 5), (0.5, 1), (0.3, 2)] {
            for three_phases in [false, true] {
                let settings = OneCycle {
                    rise: Fraction::literal(rise),
                    three_phases,
                    ..OneCycle::default()
                };
                let cycle = Cycle::new(&settings, 1.0, total);
                let rates: Vec<f64> = (0..total + 2).map(|step| cycle.rate(step)).collect();
                let case = format!("{rise} of {total}, {three_phases}: {rates:?}");
                assert!(
                    rates.iter().all(|rate| (0.0..=1.0).contains(rate)),
                    "{case}"
                );
                // It never rises after its peak, and is at its lowest at the end and after it.
                let highest = rates.iter().copied().fold(0.0, f64::max);
                let peak = rates
                    .iter()
                    .position(|rate| *rate == highest)
                    .expect("some");
                assert!(
                    rates[peak..].windows(2).all(|pair| pair[1] <= pair[0]),
                    "{case}"
                );
                let lowest = 1.0 / 25.0 / 1e4;
                if rise < 1.0 && total > 1 {
                    let last = &rates[total as usize - 1..];
                    assert!(
                        last.iter().all(|rate| (rate - lowest).abs() < 1e-12),
                        "{case}"
                    );
                }
            }
        }
        // A rise of one step is over at the first: the peak is there, and not where it would have started.
        let at_once = OneCycle {
            rise: Fraction::literal(0.2),
            ..OneCycle::default()
        };
        assert_eq!(Cycle::new(&at_once, 1.0, 5).rate(0), 1.0);
    }
}
