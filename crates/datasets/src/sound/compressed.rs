//! FLAC, MP3 and Ogg Vorbis.

use symphonia::core::{
    codecs::audio::AudioDecoderOptions,
    errors::Error as Reason,
    formats::{FormatOptions, TrackType, probe::Hint},
    io::{MediaSource, MediaSourceStream},
    meta::MetadataOptions,
};

use super::{Sound, believed, finished, wanted};
use crate::{Error, error::SoundFault};

/// The first `seconds`, mixed to one channel. Packets are decoded one after another and no further than that.
pub(super) fn decode(
    file: Box<dyn MediaSource>,
    label: &str,
    seconds: f64,
) -> Result<Sound, Error> {
    let damaged = |reason: Reason| match reason {
        Reason::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::Read {
                path: label.to_owned(),
                source,
            }
        }
        reason => Error::sound(
            label,
            SoundFault::Damaged {
                message: reason.to_string(),
            },
        ),
    };
    let stream = MediaSourceStream::new(file, Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(
            &Hint::new(), // The bytes say what it is.
            stream,
            FormatOptions::default(),
            MetadataOptions::default(),
        )
        .map_err(damaged)?;
    let unknown = || Error::sound(label, SoundFault::Unknown);
    let track = format.default_track(TrackType::Audio).ok_or_else(unknown)?;
    let parameters = track
        .codec_params
        .as_ref()
        .and_then(|it| it.audio())
        .ok_or_else(unknown)?;
    let mut decoder = symphonia::default::get_codecs()
        .make_audio_decoder(parameters, &AudioDecoderOptions::default())
        .map_err(damaged)?;
    let track = track.id;

    let mut rate = None;
    let mut mixed = Vec::new();
    let mut block: Vec<f32> = Vec::new();
    while let Some(packet) = format.next_packet().map_err(damaged)? {
        if packet.track_id != track {
            continue;
        }
        let buffer = decoder.decode(&packet).map_err(damaged)?;
        let (found, channels) = (buffer.spec().rate(), buffer.num_planes());
        believed(label, found, u16::try_from(channels).unwrap_or(u16::MAX))?;
        let rate = *rate.get_or_insert(found);
        if found != rate {
            return Err(damaged(Reason::Unsupported(
                "a rate that changes within the file",
            )));
        }
        buffer.copy_to_vec_interleaved(&mut block);
        mixed.extend(block.chunks_exact(channels).map(|frame| {
            let sum: f64 = frame.iter().map(|&it| f64::from(it)).sum();
            (sum / channels as f64) as f32
        }));
        let wanted = wanted(seconds, rate);
        if mixed.len() as u64 >= wanted {
            mixed.truncate(wanted as usize);
            break;
        }
    }
    finished(label, rate.unwrap_or(0), mixed)
}
