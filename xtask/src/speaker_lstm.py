"""Writes the weights of Resemblyzer's speaker encoder for `model.speaker_lstm`; run once.

    pip install resemblyzer
    python xtask/src/speaker_lstm.py speaker_lstm.safetensors [reference.safetensors]

With a second name also frames and embeddings of Resemblyzer's own, of sounds that are made here, for a comparison.
"""

import json
import pathlib
import struct
import sys
import types

import numpy
import scipy.ndimage

# Resemblyzer 0.1.4 asks for a module that scipy has put together with its parent.
sys.modules.setdefault("scipy.ndimage.morphology", types.SimpleNamespace(binary_dilation=scipy.ndimage.binary_dilation))

import resemblyzer
import torch
from resemblyzer import VoiceEncoder, audio


def write(path, tensors):
    header, place, data = {}, 0, []
    for name in sorted(tensors):
        values = numpy.ascontiguousarray(tensors[name], dtype="<f4")
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [place, place + values.nbytes]}
        place += values.nbytes
        data.append(values.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


stored = torch.load(pathlib.Path(resemblyzer.__file__).with_name("pretrained.pt"), map_location="cpu", weights_only=False)["model_state"]
stored = {name: values.double().numpy() for name, values in stored.items()}
weights = {"linear.weight": stored["linear.weight"], "linear.bias": stored["linear.bias"]}
for layer in range(3):
    for kind in ("weight_ih", "weight_hh"):
        weights[f"lstm.{kind}_l{layer}"] = stored[f"lstm.{kind}_l{layer}"]
    # torch adds two biases, which are one.
    weights[f"lstm.bias_l{layer}"] = stored[f"lstm.bias_ih_l{layer}"] + stored[f"lstm.bias_hh_l{layer}"]
write(sys.argv[1], weights)

if len(sys.argv) > 2:
    encoder = VoiceEncoder("cpu", verbose=False)
    reference = {}
    for index, seconds in enumerate((0.4, 1.6, 2.3, 4.1)):
        time = numpy.arange(int(seconds * 16000)) / 16000
        pitch = 120 + 40 * index
        voice = sum(numpy.sin(2 * numpy.pi * pitch * k * time) / k for k in range(1, 20)) * (1 + numpy.sin(2 * numpy.pi * 3 * time)) / 20
        slices, _ = encoder.compute_partial_slices(len(voice), 1.3, 0.75)
        padded = numpy.pad(voice, (0, max(0, slices[-1].stop - len(voice))))
        reference[f"frames.{index}"] = audio.wav_to_mel_spectrogram(padded)
        reference[f"embedding.{index}"] = encoder.embed_utterance(voice)
    write(sys.argv[2], reference)
