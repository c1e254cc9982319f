//! All models by name.

use candle_core::Result;
use nearfar_core::{Encoder, Error, doc_of};
use serde::{Deserialize, Serialize};

use crate::backbones::{
    Ahmed, Bert, CharBilstm, Conv4, Convnext, DeepSets, DenseConv, DependencyLstm, Koch, Linear,
    Lstm, Mlp, MnistTwin, Mvcnn, Resnet, SpeakerLstm, Tristounet, Unet, Vit, Voxnet,
};
use crate::{InputShape, Params};

/// From the list: the enum of a run file, every model with its defaults, and the way to build one.
macro_rules! models {
    ($($name:literal = $Model:ident, $about:literal;)*) => {
        /// A model by its name, with its settings: `model.conv4 = { width = 64 }` in a run file.
        ///
        /// ```
        /// use nearfar_models::{Conv4, ModelConfig};
        ///
        /// #[derive(serde::Deserialize)]
        /// struct Run {
        ///     model: ModelConfig,
        /// }
        /// let run: Run = toml::from_str("model.conv4 = { channels = 32 }").expect("good settings");
        /// assert_eq!(run.model, ModelConfig::Conv4(Conv4 { channels: 32, ..Conv4::default() }));
        /// assert_eq!(run.model.name(), "conv4");
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum ModelConfig {
            $(
                #[doc = concat!("`model.", $name, "`: ", $about, ".")]
                #[serde(rename = $name)]
                $Model($Model),
            )*
        }

        impl ModelConfig {
            /// Every model with its defaults, in the order of their names.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$Model($Model::default())),*]
            }

            /// As in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$Model(_) => $name,)*
                }
            }

            /// What it is, in half a sentence.
            pub fn about(&self) -> &'static str {
                match self {
                    $(Self::$Model(_) => $about,)*
                }
            }

            /// What its own file says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$Model(_) => {
                        // The file of a model has its name.
                        doc_of(include_str!(concat!("backbones/", $name, ".rs")), stringify!($Model))
                    })*
                }
            }

            /// The encoder for this input, with its parameters made in `params`, where no other model may be: several
            /// towers of one run get a place each, such as `params.at("towers").at(0)`.
            ///
            /// # Errors
            /// [`Error::Settings`] when the model cannot read such inputs, sizes are out of range, or the place is
            /// taken.
            pub fn build(&self, input: &InputShape, params: &Params) -> Result<Box<dyn Encoder>> {
                if let Some(taken) = params.parameters().first() {
                    Err(Error::Settings(format!(
                        "`{}` needs a place of its own, but there is a parameter `{}`; give each model one with \
                         `params.at(…)`",
                        self.name(),
                        taken.name
                    )))?;
                }
                Ok(match self {
                    $(Self::$Model(settings) => Box::new(settings.build(input, params)?),)*
                })
            }
        }
    };
}

models! {
    "ahmed" = Ahmed, "two convolutions whose maps are compared pair by pair, for images";
    "bert" = Bert, "a transformer over words, by default of the size of MiniLM, for sequences of tokens";
    "char_bilstm" = CharBilstm, "a deep LSTM over characters in both directions, for short texts";
    "conv4" = Conv4, "four blocks of convolution, batch normalization, ReLU and pooling, for images";
    "convnext" = Convnext, "ConvNeXt, for images; timm's names";
    "deep_sets" = DeepSets, "a function of sets, whatever their order, for vectors or tokens of which each sample has several";
    "dense_conv" = DenseConv, "convolutions that keep the resolution, for images with masks";
    "dependency_lstm" = DependencyLstm, "word vectors and an LSTM along the dependencies of words, for parsed sentences";
    "koch" = Koch, "four convolutions and a wide logistic layer, for characters of 105 × 105";
    "linear" = Linear, "one matrix, for vectors and for images as their pixels";
    "lstm" = Lstm, "word vectors and an LSTM, for sequences of tokens or frames";
    "mlp" = Mlp, "full layers with ReLU, for vectors and for images as their pixels";
    "mnist_twin" = MnistTwin, "two convolutions and two full layers, for small images";
    "mvcnn" = Mvcnn, "one network for several views of a thing, of which it keeps the largest numbers";
    "resnet" = Resnet, "ResNet-18, 34 or 50, for images and frames; torchvision's names";
    "speaker_lstm" = SpeakerLstm, "an LSTM over windows of frames that tells speakers apart; Resemblyzer's names";
    "tristounet" = Tristounet, "a bidirectional LSTM and two full layers, for frames of speech";
    "unet" = Unet, "convolutions down to small maps and up again, for images with masks";
    "vit" = Vit, "transformers over patches of images, DINOv2 among them";
    "voxnet" = Voxnet, "two convolutions in three dimensions and a full layer, for volumes";
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn names_are_in_order_and_settings_survive_writing() {
        let all = ModelConfig::all();
        assert!(all.windows(2).all(|pair| pair[0].name() < pair[1].name()));
        for model in all {
            let text = toml::to_string(&model).expect("settings can be written");
            assert!(text.starts_with(&format!("[{}]", model.name())), "{text}");
            assert!(
                model.doc().contains("Reads "),
                "its doc says what {model:?} reads"
            );
            assert_eq!(
                toml::from_str::<ModelConfig>(&text).expect("and read"),
                model
            );
        }
    }

    #[test]
    fn a_wrong_key_is_told_at_its_place() {
        let error = toml::from_str::<ModelConfig>("conv4 = { widht = 3 }").expect_err("mistyped");
        let error = error.to_string();
        assert!(
            error.contains("line 1, column 11") && error.contains("`widht`"),
            "{error}"
        );
        let error = toml::from_str::<ModelConfig>("conv5 = {}")
            .expect_err("unknown")
            .to_string();
        assert!(
            error.contains("unknown variant `conv5`") && error.contains("`conv4`"),
            "{error}"
        );
    }

    #[test]
    fn each_model_has_a_place_of_its_own() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let model = ModelConfig::Linear(Linear::default());
        let input = InputShape::Features(3);
        let towers = params.at("towers");
        let first = model.build(&input, &towers.at(0))?;
        let second = model.build(&input, &towers.at(1))?;
        assert_eq!(first.parameters()[0].name, "towers.0.map.weight");
        assert_eq!(second.parameters().len(), 1);
        assert!(
            model.build(&input, &params).is_err() && model.build(&input, &towers.at(0)).is_err()
        );
        Ok(())
    }
}
