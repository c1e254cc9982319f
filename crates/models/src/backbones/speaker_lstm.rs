//! A recurrent network that tells speakers apart.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Finite, Fraction, Input, Mode};
use nearfar_kernels::{l2_normalize, relu};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{Linear, Lstm, LstmSettings};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// The speaker encoder of generalized end-to-end training, with the names and sizes of Resemblyzer's: its weights can be loaded.
///
/// ```text
/// frames ─▶ windows of 160, every 77 ─▶ LSTM of 3 layers ─▶ last state ─▶ dense, ReLU ─▶ unit length ─▶ mean of the windows ─▶ unit length
/// ```
///
/// Reads sequences of frames, each up to its true length; padding changes nothing. A sequence that is shorter than a window, and the
/// last window, are filled up with frames of zeros; of several windows the last one is left out if less than `coverage` of it is sound.
/// Frames of zeros are silence where frames are powers, which is what the published weights read: librosa's mel spectrogram of 40 bands
/// at 16 kHz, of 400 samples every 160, without a logarithm, of sounds that are at least at -30 dB of full scale.
///
/// Names: `lstm.weight_ih_l0`, `lstm.weight_hh_l0`, `lstm.bias_l0`, … `_l2`; `linear.weight`, `linear.bias`. They are Resemblyzer's but for
/// the bias, of which torch has two that are added; `xtask/src/speaker_lstm.py` writes a file of them.
///
/// Source: Wan, Wang, Papir, Lopez Moreno, "Generalized end-to-end loss for speaker verification", ICASSP 2018,
/// <https://arxiv.org/abs/1710.10467>; Jemine's Resemblyzer 0.1.4, where windows and the ReLU are from. There the sound is filled up with
/// silence, of which one or two frames behind its end still hear something; here frames are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeakerLstm {
    /// Numbers in an embedding.
    pub width: usize,
    /// Numbers in a state.
    pub hidden: usize,
    /// Layers on top of one another.
    pub layers: usize,
    /// Frames of a window.
    pub window: usize,
    /// Frames from one window to the next, `window` at most.
    pub step: usize,
    /// Part of the last of several windows that must be sound.
    pub coverage: Fraction,
    /// What the bias of the forget gate starts at.
    pub forget_bias: Finite,
}

impl Default for SpeakerLstm {
    fn default() -> Self {
        Self {
            width: 256,
            hidden: 256,
            layers: 3,
            window: 160,
            step: 77,
            coverage: Fraction::literal(0.75),
            forget_bias: Finite::literal(1.0),
        }
    }
}

#[derive(Debug)]
struct Network {
    lstm: Lstm,
    linear: Linear,
    window: usize,
    step: usize,
    coverage: f64,
}

impl SpeakerLstm {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`](nearfar_core::Error::Settings) for data that are no frames, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Frames { features } = input else {
            return Err(input.refused("speaker_lstm", "sequences of frames"));
        };
        let width = size("speaker_lstm", "width", self.width)?;
        let hidden = size("speaker_lstm", "hidden", self.hidden)?;
        let window = size("speaker_lstm", "window", self.window)?;
        let step = size("speaker_lstm", "step", self.step)?;
        if step > window {
            Err(nearfar_core::Error::Settings(format!(
                "speaker_lstm: `step` is {step} and `window` {window}; frames between windows would not be heard"
            )))?;
        }
        let settings = LstmSettings {
            hidden,
            layers: self.layers,
            bidirectional: false,
            dropout: Fraction::literal(0.0),
            forget_bias: self.forget_bias,
        };
        let network = Network {
            lstm: Lstm::new(&params.at("lstm"), features, &settings)?,
            linear: Linear::new(&params.at("linear"), hidden, width, true)?,
            window,
            step,
            coverage: self.coverage.get(),
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: None,
            normalize: true,
        };
        let (input, network) = (input.clone(), Box::new(network));
        Ok(Tower::new(
            "speaker_lstm",
            input,
            network,
            head,
            width,
            params,
        ))
    }
}

impl Network {
    /// Where the windows of a sequence of so many frames begin.
    fn starts(&self, frames: usize) -> Vec<usize> {
        let steps = (frames + self.step + 1).saturating_sub(self.window).max(1);
        let mut starts: Vec<usize> = (0..steps).step_by(self.step).collect();
        // Frame t is around sample t · hop, so that one less fits into the sound.
        let left = (frames as f64 - 1.0) - *starts.last().unwrap_or(&0) as f64;
        if starts.len() > 1 && left < self.coverage * self.window as f64 {
            starts.pop();
        }
        starts
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let (frames, lengths) = input.sequence("speaker_lstm")?;
        let (rows, places, width) = frames.dims3()?;
        let (mut indices, mut counts) = (Vec::new(), Vec::with_capacity(rows));
        let silence = (rows * places) as u32;
        for (row, &length) in lengths.iter().enumerate() {
            let length = length as usize;
            let starts = self.starts(length);
            counts.push(starts.len());
            indices.extend(starts.into_iter().flat_map(|start| {
                let at = move |place: usize| (row * places + place) as u32;
                (start..start + self.window)
                    .map(move |place| if place < length { at(place) } else { silence })
            }));
        }
        let windows = counts.iter().sum::<usize>();
        let zeros = Tensor::zeros((1, width), frames.dtype(), frames.device())?;
        let all = Tensor::cat(&[frames.reshape((rows * places, width))?, zeros], 0)?;
        let indices = Tensor::new(indices, frames.device())?;
        let cut = all.index_select(&indices, 0)?;
        let cut = cut.reshape((windows, self.window, width))?;
        let last = self
            .lstm
            .last(&cut, &vec![self.window as u32; windows], mode)?;
        let units = l2_normalize(&relu(&self.linear.forward(&last, mode)?)?)?; // (windows, d)
        // A row's mean is one row of a product.
        let mut shares = vec![0f64; rows * windows];
        let mut first = 0;
        for (row, &count) in counts.iter().enumerate() {
            shares[row * windows + first..][..count].fill(1.0 / count as f64);
            first += count;
        }
        let shares = Tensor::from_vec(shares, (rows, windows), &Device::Cpu)?
            .to_dtype(units.dtype())?
            .to_device(units.device())?;
        Ok(Features::Vectors(shares.matmul(&units)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use nearfar_core::{Encoder, Seed};
    use nearfar_kernels::test_util::noise;

    fn tower(settings: &SpeakerLstm, params: &Params) -> Result<Tower> {
        settings.build(&InputShape::Frames { features: 3 }, params)
    }

    #[test]
    fn windows_begin_where_those_of_resemblyzer_do() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let network = Network {
            lstm: Lstm::new(
                &params,
                1,
                &LstmSettings {
                    hidden: 1,
                    layers: 1,
                    bidirectional: false,
                    dropout: Fraction::literal(0.0),
                    forget_bias: Finite::literal(1.0),
                },
            )?,
            linear: Linear::new(&params.at("linear"), 1, 1, true)?,
            window: 160,
            step: 77,
            coverage: 0.75,
        };
        // `VoiceEncoder.compute_partial_slices(n, 1.3, 0.75)` for n = 160 · (frames − 1).
        for (frames, starts) in [
            (1, &[0][..]),
            (160, &[0]),
            (197, &[0]),
            (198, &[0, 77]),
            (237, &[0, 77]),
            (275, &[0, 77, 154]),
            (401, &[0, 77, 154, 231]),
        ] {
            assert_eq!(network.starts(frames), starts, "{frames}");
        }
        Ok(())
    }

    #[test]
    fn padding_changes_nothing_and_short_sounds_are_filled_up() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let settings = SpeakerLstm {
            width: 4,
            hidden: 3,
            window: 5,
            step: 2,
            ..SpeakerLstm::default()
        };
        let tower = tower(&settings, &params)?;
        let embed = |values: &Tensor, length: u32| -> Result<Tensor> {
            let (values, lengths) = (values.clone(), vec![length]);
            Ok(tower
                .encode(&Input::Sequence { values, lengths }, Mode::Eval)?
                .embedding)
        };
        let apart = |a: Tensor, b: Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f64>();
        let frames = noise((1, 12, 3), 1)?;
        for length in [1, 4, 5, 9] {
            let alone = embed(&frames.narrow(1, 0, length)?, length as u32)?;
            assert!(apart(alone, embed(&frames, length as u32)?)? < 1e-14);
        }
        let zeros = Tensor::zeros((1, 2, 3), DType::F64, &Device::Cpu)?;
        let filled = Tensor::cat(&[frames.narrow(1, 0, 3)?, zeros], 1)?;
        assert!(apart(embed(&filled, 5)?, embed(&frames, 3)?)? < 1e-14);
        let gap = SpeakerLstm {
            step: 6,
            ..settings
        };
        let shape = InputShape::Frames { features: 3 };
        let error = gap.build(&shape, &params.at("x")).expect_err("a gap");
        assert!(error.to_string().contains("`step` is 6"), "{error}");
        Ok(())
    }
}
