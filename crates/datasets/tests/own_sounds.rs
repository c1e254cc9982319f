//! Sounds of one's own: folders and lists, what is wrong with them, and batches of their frames.

#![allow(clippy::unwrap_used)] // A test that fails may panic.

use std::{f32::consts::TAU, fs, path::Path};

use candle_core::Device;
use nearfar_core::{Batches, Input, Seed};
use nearfar_datasets::{
    Checked, Data, DataConfig, Dataset, Error, Loader, Preparation, SamplerConfig, Shape,
    Transform, TransformConfig, Value, check,
};
use serde::Deserialize;

/// A WAV file of a sine: 16 bits, `channels` that are alike.
fn wav(path: impl AsRef<Path>, rate: u32, channels: u16, frequency: f32, seconds: f32) {
    let count = (rate as f32 * seconds) as u32;
    let bytes = count * 2 * u32::from(channels);
    let mut file = b"RIFF".to_vec();
    file.extend((36 + bytes).to_le_bytes());
    file.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend(channels.to_le_bytes());
    file.extend(rate.to_le_bytes());
    file.extend((rate * 2 * u32::from(channels)).to_le_bytes());
    file.extend((2 * channels).to_le_bytes());
    file.extend(b"\x10\0data");
    file.extend(bytes.to_le_bytes());
    for place in 0..count {
        let sample = (TAU * frequency * place as f32 / rate as f32).sin() * 16_000.0;
        (0..channels).for_each(|_| file.extend((sample as i16).to_le_bytes()));
    }
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
}

/// Two classes of four tones each, of other rates, channels and lengths.
fn tones(root: &Path) {
    for number in 0..4u16 {
        let length = 0.2 + 0.1 * f32::from(number);
        let low = 300.0 + 40.0 * f32::from(number);
        wav(
            root.join(format!("low/{number}.wav")),
            8_000,
            1,
            low,
            length,
        );
        wav(
            root.join(format!("high/{number}.wav")),
            44_100,
            2,
            4.0 * low,
            length,
        );
    }
}

fn config(text: &str) -> DataConfig {
    #[derive(Deserialize)]
    struct Run {
        data: DataConfig,
    }
    toml::from_str::<Run>(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .data
}

fn load(text: &str) -> Result<Data, Error> {
    config(text).load(Path::new("nowhere"), Seed(7))
}

fn frames(dataset: &dyn Dataset, index: u32) -> nearfar_datasets::Frames {
    match dataset.sample(index).unwrap().inputs.swap_remove(0) {
        Value::Frames(frames) => frames,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_of_sounds_becomes_frames_of_their_own_lengths() {
    let folder = tempfile::tempdir().unwrap();
    tones(folder.path());
    let path = folder.path().display();
    let settings = "log_mel = { rate = 8000, leveling = \"none\" }, test = 0.25";
    let data = load(&format!("data.sounds = {{ path = '{path}', {settings} }}")).unwrap();
    assert_eq!((data.train.len(), data.train_classes), (6, 2));
    assert_eq!(&*data.classes, ["high", "low"]);
    assert_eq!(data.shape(), Shape::Frames { features: 40 });
    // The loudest band is that of the tone, whatever the rate of its file.
    for index in 0..6 {
        let found = frames(&*data.train, index);
        let middle = &found.values[found.count / 2 * 40..][..40];
        let loudest = (0..40)
            .max_by(|&a, &b| middle[a].total_cmp(&middle[b]))
            .unwrap();
        let name = data.train.describe(index);
        let expected = if name.contains("low") { 5..13 } else { 20..32 };
        assert!(expected.contains(&loudest), "{name}: {loudest}");
        let seconds = 0.2 + 0.1 * name.chars().nth_back(4).unwrap().to_digit(10).unwrap() as f64;
        assert_eq!(
            found.count,
            1 + ((seconds * 8_000.0).round() as usize - 256) / 80,
            "{name}"
        );
        assert_eq!(
            frames(&*data.train, index),
            found,
            "what is kept is what was decoded"
        );
    }
    let thumbnail = data.train.thumbnail(0).unwrap();
    assert_eq!((thumbnail.channels, thumbnail.height), (1, 40));
    assert_eq!(thumbnail.pixels.len(), 40 * thumbnail.width);

    let short = load(&format!(
        "data.sounds = {{ path = '{path}', seconds = 0.15, {settings} }}"
    ))
    .unwrap();
    assert_eq!(frames(&*short.train, 0).count, 1 + (1_200 - 256) / 80);
    let error = load(&format!(
        "data.sounds = {{ path = '{path}', seconds = 7200 }}"
    ))
    .err()
    .unwrap();
    assert!(error.to_string().contains("up to 3600"), "{error}");
}

#[test]
fn new_sounds_are_prepared_as_a_run_stored_it() {
    let folder = tempfile::tempdir().unwrap();
    tones(folder.path());
    let path = folder.path().display();
    let data = load(&format!(
        "data.sounds = {{ path = '{path}', log_mel = {{ preset = 'whisper' }}, seconds = 0.3, test = 0.25 }}"
    ))
    .unwrap();
    let stored = serde_json::to_string(&data.preparation).unwrap();
    let preparation: Preparation = serde_json::from_str(&stored).unwrap();
    assert_eq!(preparation, data.preparation);
    let one = preparation.open(&folder.path().join("low/3.wav")).unwrap();
    assert_eq!(one.len(), 1);
    let found = frames(&*one, 0);
    assert_eq!((found.count, found.width), (30, 80)); // 0.3 of 0.5 s, every 10 ms.
    let all = preparation.open(folder.path()).unwrap();
    assert_eq!((all.len(), all.classes().len()), (8, 2));
    // With what a run stored, other settings of the data do not count.
    let other = config(&format!(
        "data.sounds = {{ path = '{path}', log_mel = {{ mels = 12 }}, test = 0.25 }}"
    ));
    let other = other
        .load_prepared(Path::new("nowhere"), Seed(7), &preparation)
        .unwrap();
    assert_eq!(other.shape(), Shape::Frames { features: 80 });
}

#[test]
fn a_list_names_its_column_of_labels() {
    let folder = tempfile::tempdir().unwrap();
    tones(folder.path());
    let list = folder.path().join("list.csv");
    let mut text = "path,speaker,digit,split\n".to_owned();
    for number in 0..4 {
        let split = if number == 3 { "test" } else { "train" };
        text += &format!(
            "low/{number}.wav,ann,{number},{split}\nhigh/{number}.wav,bob,{number},{split}\n"
        );
    }
    fs::write(&list, &text).unwrap();
    let load = |label: &str| {
        load(&format!(
            "data.sounds_csv = {{ path = '{}', label = '{label}' }}",
            list.display()
        ))
    };
    let data = load("speaker").unwrap();
    assert_eq!(&*data.classes, ["ann", "bob"]);
    assert_eq!((data.train.len(), data.part("test").unwrap().len()), (6, 2));
    assert_eq!(load("digit").unwrap().train_classes, 3);
    let error = load("speakers").err().unwrap().to_string();
    assert!(error.contains("did you mean `speaker`?"), "{error}");
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    tones(folder.path());
    let at = |name: &str| folder.path().join(name);
    fs::copy(at("low/0.wav"), at("high/copy.wav")).unwrap();
    let whole = fs::read(at("low/1.wav")).unwrap();
    fs::write(at("low/cut.wav"), &whole[..300]).unwrap();
    fs::write(at("low/empty.wav"), &whole[..44]).unwrap();
    fs::write(at("low/text.wav"), "no sound").unwrap();
    fs::write(at("low/a.flac"), "fLaC and no more").unwrap();
    fs::write(at("low/b.m4a"), "").unwrap();
    fs::write(at("lost.wav"), &whole).unwrap();
    let data = config(&format!(
        "data.sounds = {{ path = '{}', test = 0 }}",
        folder.path().display()
    ));
    let Checked { problems, .. } = check(&data, Path::new("nowhere"), Seed(7), 50);
    let place = folder.path().display().to_string();
    let mut messages: Vec<String> = problems
        .errors()
        .map(|it| it.to_string().replace(&place, "DIR"))
        .collect();
    messages.sort();
    let starts = [
        "DIR/lost.wav: the sound lies in no class folder",
        if cfg!(feature = "audio") {
            "DIR/low/a.flac: it cannot be decoded"
        } else {
            "DIR/low/a.flac: FLAC, MP3 and Ogg Vorbis are read by builds with the feature `audio`"
        },
        "DIR/low/b.m4a: sounds of this kind are not read; WAV, FLAC, MP3 and Ogg Vorbis are",
        "DIR/low/cut.wav: the header claims 2400 samples, the file has 128",
        "DIR/low/empty.wav: the header claims 2400 samples, the file has 0",
        "DIR/low/text.wav: not a sound of a known kind",
    ];
    let (duplicates, others): (Vec<String>, Vec<String>) = messages
        .into_iter()
        .partition(|it| it.contains("the frames are those of"));
    assert_eq!(others.len(), starts.len(), "{others:#?}");
    for (message, start) in others.iter().zip(starts) {
        assert!(message.starts_with(start), "{message}");
    }
    assert_eq!(duplicates.len(), 1, "{duplicates:?}");
    assert!(duplicates[0].contains("the classes are"), "{duplicates:?}");
}

/// Values and lengths.
type Batch = (Vec<f32>, Vec<u32>);

/// Batches of an epoch.
fn epoch(
    data: &Data,
    augmentation: &str,
    threads: usize,
    epoch: u64,
) -> Result<Vec<Batch>, String> {
    #[derive(Deserialize)]
    struct Run {
        augmentation: Vec<TransformConfig>,
        sampler: SamplerConfig,
    }
    let run: Run = toml::from_str(&format!(
        "augmentation = {augmentation}\nsampler.shuffled = {{ size = 3 }}"
    ))
    .unwrap();
    let boxed = |it| Box::new(it) as Box<dyn Transform>;
    let loader = Loader::new(
        data.train.clone(),
        run.sampler.build(&*data.train).unwrap(),
        Seed(7),
        Device::Cpu,
    )
    .augmentation(run.augmentation.into_iter().map(boxed).collect())
    .threads(threads);
    loader
        .epoch(epoch, 0)
        .map(|batch| {
            match batch
                .map_err(|error| error.to_string())?
                .inputs
                .swap_remove(0)
            {
                Input::Sequence { values, lengths } => {
                    Ok((values.flatten_all().unwrap().to_vec1().unwrap(), lengths))
                }
                other => panic!("sounds are sequences: {other:?}"),
            }
        })
        .collect()
}

#[test]
fn sounds_are_changed_before_frames_are_made_and_the_same_way_for_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    tones(folder.path());
    let text =
        "log_mel = { rate = 8000, leveling = 'none', log = { decibels = { floor = 1e-10 } } }";
    let data = load(&format!(
        "data.sounds = {{ path = '{}', {text}, test = 0.25 }}",
        folder.path().display()
    ))
    .unwrap();
    let plain = epoch(&data, "[]", 0, 0).unwrap();
    assert_eq!(plain.len(), 2);
    assert!(plain.iter().all(|(values, lengths)| {
        values.len() == lengths.len() * 40 * *lengths.iter().max().unwrap() as usize
    }));
    let both = "[{ gain = {} }, { white_noise = {} }, { time_mask = {} }, { frequency_mask = {} }]";
    let changed = epoch(&data, both, 0, 0).unwrap();
    assert_ne!(changed, plain);
    for threads in [1, 4] {
        assert_eq!(epoch(&data, both, threads, 0).unwrap(), changed);
    }
    assert_ne!(epoch(&data, both, 0, 1).unwrap(), changed, "another epoch");
    // In dB a gain moves all frames of a sound by the same number: it came before the logarithm.
    let louder = epoch(&data, "[{ gain = { decibels = 6.0 } }]", 0, 0).unwrap();
    let ((values, lengths), (before, _)) = (&louder[0], &plain[0]);
    let row = values.len() / lengths.len();
    for (index, length) in lengths.iter().enumerate() {
        let of_row = index * row..index * row + *length as usize * 40;
        // Quiet bands hear the rounding of samples.
        let moves = of_row
            .filter(|&at| before[at] > -40.0)
            .map(|at| values[at] - before[at]);
        let (least, most) = moves.fold((f32::MAX, f32::MIN), |(a, b), it| (it.min(a), it.max(b)));
        assert!(
            least != 0.0 && least >= -6.0 && most <= 6.0,
            "{least} {most}"
        );
        assert!(most - least < 1e-3, "{least} {most}");
    }
    // Nothing of no strength changes anything.
    let still = "[{ gain = { decibels = 0 } }, { white_noise = { probability = 0 } }, { time_mask = { masks = 0 } }]";
    assert_eq!(epoch(&data, still, 0, 0).unwrap(), plain);
    for (list, word) in [
        (
            "[{ time_mask = {} }, { gain = {} }]",
            "put it in front of what changes frames",
        ),
        (
            "[{ flip = {} }]",
            "`flip` changes images, but the data are frames of sounds",
        ),
        ("[{ word_swap = {} }]", "`word_swap` changes texts"),
    ] {
        let error = epoch(&data, list, 0, 0).expect_err(list);
        assert!(error.contains(word), "{error}");
    }
}

/// What soundfile wrote of half a second of a sine of 440 Hz, at 16 kHz.
#[cfg(feature = "audio")]
#[test]
fn compressed_sounds_are_the_sine_that_they_were() {
    for (name, tolerance) in [("sine.flac", 1e-4), ("sine.ogg", 0.05), ("sine.mp3", 0.05)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sine")).unwrap();
        fs::copy(&path, folder.path().join("sine/1.bin")).unwrap(); // The bytes count, not the name.
        fs::rename(
            folder.path().join("sine/1.bin"),
            folder.path().join("sine/1.wav"),
        )
        .unwrap();
        let data = load(&format!(
            "data.sounds = {{ path = '{}', test = 0 }}",
            folder.path().display()
        ))
        .unwrap();
        let (sound, _) = data.train.sound(0).unwrap().unwrap();
        assert_eq!(sound.rate, 16_000, "{name}");
        assert!(
            (8_000..8_000 + 2_400).contains(&sound.samples.len()),
            "{name}: {}",
            sound.samples.len()
        );
        // The part of the middle that a sine of 440 Hz explains, whatever its phase.
        let middle = &sound.samples[2_000..6_000];
        let against = |wave: fn(f64) -> f64| {
            let pairs = middle.iter().zip(0..);
            pairs
                .map(|(&x, i)| {
                    f64::from(x) * wave(f64::from(i) * 440.0 / 16_000.0 * std::f64::consts::TAU)
                })
                .sum::<f64>()
                / 2_000.0
        };
        let level = against(f64::sin).hypot(against(f64::cos));
        let power = middle.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 2_000.0;
        assert!((level - 0.5).abs() < tolerance, "{name}: {level}");
        assert!((power - level * level).abs() < tolerance, "{name}: {power}");
        // Cut anywhere, a file is read in part or refused.
        let bytes = fs::read(&path).unwrap();
        for part in 0..40 {
            fs::write(
                folder.path().join("sine/1.wav"),
                &bytes[..bytes.len() * part / 40],
            )
            .unwrap();
            let data = load(&format!(
                "data.sounds = {{ path = '{}', test = 0 }}",
                folder.path().display()
            ))
            .unwrap();
            if let Ok(Some((sound, _))) = data.train.sound(0) {
                assert!(!sound.samples.is_empty() && sound.samples.len() <= 10_400);
            }
        }
    }
}
