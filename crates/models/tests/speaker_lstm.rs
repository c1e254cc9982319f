//! The speaker encoder against Resemblyzer's own, where `NEARFAR_SPEAKER` names a folder with `speaker_lstm.safetensors` and
//! `reference.safetensors` as `xtask/src/speaker_lstm.py` writes them.

use std::path::Path;

use candle_core::{DType, Device, Result};
use nearfar_core::{Encoder, Input, Mode, Seed};
use nearfar_models::{InputShape, Params, SpeakerLstm};

#[test]
fn embeddings_are_those_of_resemblyzer() -> Result<()> {
    let Ok(folder) = std::env::var("NEARFAR_SPEAKER") else {
        eprintln!("skipped: Resemblyzer's weights (NEARFAR_SPEAKER is not set)");
        return Ok(());
    };
    let folder = Path::new(&folder);
    let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
    let tower = SpeakerLstm::default().build(&InputShape::Frames { features: 40 }, &params)?;
    params.load(folder.join("speaker_lstm.safetensors"))?;
    let reference =
        candle_core::safetensors::load(folder.join("reference.safetensors"), &Device::Cpu)?;
    let mut compared = 0;
    while let Some(frames) = reference.get(&format!("frames.{compared}")) {
        let values = frames.unsqueeze(0)?;
        let lengths = vec![frames.dim(0)? as u32];
        let found = tower.encode(&Input::Sequence { values, lengths }, Mode::Eval)?;
        let expected = &reference[&format!("embedding.{compared}")];
        let apart = (found.embedding.squeeze(0)? - expected)?.abs()?.max_all()?;
        let apart = apart.to_scalar::<f32>()?;
        eprintln!("sound {compared}: the largest difference is {apart:e}");
        assert!(apart < 1e-5, "{apart}"); // Both count in f32, over 160 steps.
        compared += 1;
    }
    assert!(compared >= 4, "{compared} embeddings were compared");
    Ok(())
}
