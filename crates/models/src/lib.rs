//! Encoders that can be trained: layers, backbones and towers on candle.
