//! A recurrent network along the dependencies of words.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Error, Finite, Fraction, Input, Mode, Parse};
use serde::{Deserialize, Serialize};

use super::Words;
use crate::input_shape::size;
use crate::layers::{self, Embedding, LstmSettings, dropout};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{Init, InputShape, Params, Weight};

/// The dependency-aware LSTM: word vectors and an LSTM that comes to each word from the word it depends on.
///
/// ```text
/// h(w), c(w) = LSTM(word vector of w, h(head of w), c(head of w))     from h = c = 0 at a root
///
/// basic     the mean of h over the ends of the basic part: subject and object of the root, or the root where it has none
/// support   the mean of h over the ends of all else: modifiers on which nothing depends; 0 where there are none
/// embedding = basic + η · support                                     η is learned
/// ```
///
/// Reads parsed sentences; with `heads = "chain"` tokens without a parse, each after its predecessor. The one basic end then
/// is the last word and nothing supports it: the network is `lstm` with its defaults, bit for bit, and has no η. Padding changes
/// nothing. Embeddings are not normalized unless it is asked for, as for MaLSTM, with whose loss (`malstm`) it is meant to be used.
///
/// A state depends on the words above it alone, so the states of a sentence are those of the fast LSTM over the paths from its roots
/// to its ends. What is above several ends is computed once for each: about twice the words of a usual sentence. With `layers` a
/// layer reads the states of the one below, word by word.
///
/// Names: `words.weight`, `lstm.weight_ih_l0`, `lstm.weight_hh_l0`, `lstm.bias_l0`, as in `lstm`; `support` is η.
///
/// Source: after Zhu, Yao, Ni, Wei, Lu, "Dependency-based Siamese long short-term memory network for learning sentence
/// representations", PLoS ONE 13 (2018), e0193919, <https://doi.org/10.1371/journal.pone.0193919>: a sentence is a basic part and η
/// times a supporting part, which a parse tells apart. How states go from word to word and become the two parts is our choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DependencyLstm {
    /// Numbers in an embedding, and in a state.
    pub width: usize,
    /// The vectors of words.
    pub words: Words,
    /// Which word comes before a word: `"parsed"` the one it depends on, or `"chain"` the one in front of it.
    pub heads: WordHeads,
    /// What η starts at. A chain has none.
    pub support: Finite,
    /// Layers on top of one another.
    pub layers: usize,
    /// Probability with which each number that a layer reads is dropped in training, less than 1; along each path by itself.
    pub dropout: Fraction,
    /// What the bias of the forget gate starts at; large, so that the beginning of a path is not lost.
    pub forget_bias: Finite,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

/// Which word comes before a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordHeads {
    /// The one it depends on.
    Parsed,
    /// The one in front of it.
    Chain,
}

impl Default for DependencyLstm {
    /// The paper's η of 0.1; all else as for `lstm`.
    fn default() -> Self {
        Self {
            width: 50,
            words: Words::default(),
            heads: WordHeads::Parsed,
            support: Finite::literal(0.1),
            layers: 1,
            dropout: Fraction::literal(0.0),
            forget_bias: Finite::literal(2.5),
            normalize: false,
        }
    }
}

#[derive(Debug)]
struct Network {
    words: Embedding,
    lstm: layers::Lstm,
    dropout: Fraction,
    /// η, where sentences have a supporting part.
    support: Option<Weight>,
}

impl DependencyLstm {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data without parses, but for a chain, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let width = size("dependency_lstm", "width", self.width)?;
        let dim = size("dependency_lstm", "words.dim", self.words.dim)?;
        let vocabulary = match (input, self.heads) {
            (&InputShape::Parsed { vocabulary }, _)
            | (&InputShape::Tokens { vocabulary }, WordHeads::Chain) => vocabulary,
            (InputShape::Tokens { .. }, WordHeads::Parsed) => Err(Error::Settings(format!(
                "`dependency_lstm` reads parsed sentences, but the data are {input} without parses; give the data `parses`, or \
                 set `heads = \"chain\"`"
            )))?,
            _ => return Err(input.refused("dependency_lstm", "parsed sentences")),
        };
        let settings = LstmSettings {
            hidden: width,
            layers: self.layers,
            bidirectional: false,
            dropout: layers::dropout_rate("dependency_lstm", self.dropout)?,
            forget_bias: self.forget_bias,
        };
        let deviation = self.words.deviation;
        let network = Network {
            words: Embedding::new(&params.at("words"), vocabulary, dim, deviation)?,
            lstm: layers::Lstm::new(&params.at("lstm"), dim, &settings)?,
            dropout: self.dropout,
            support: match self.heads {
                WordHeads::Parsed => {
                    Some(params.weight("support", 1, Init::Constant(self.support.get()))?)
                }
                WordHeads::Chain => None,
            },
        };
        let head = Head {
            pooling: Pooling::Flatten, // A sentence has one vector already.
            projection: None,
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "dependency_lstm",
            input.clone(),
            Box::new(network),
            head,
            width,
            params,
        ))
    }
}

impl Network {
    /// The states of the LSTM at the ends of these sequences, `(b, t) → (b, h)`.
    fn ends(&self, ids: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Tensor> {
        let x = dropout(&self.words.forward(ids, mode)?, self.dropout, mode)?;
        self.lstm.last(&x, lengths, mode)
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let Some(support) = &self.support else {
            let (ids, lengths) = input.sequence("dependency_lstm")?;
            return Ok(Features::Vectors(self.ends(ids, lengths, mode)?));
        };
        let (ids, parses) = input.parsed("dependency_lstm")?;
        let (rows, words) = ids.dims2()?;
        let paths = Paths::of(parses, words);
        let places = Tensor::from_vec(
            paths.places,
            paths.lengths.len() * paths.longest,
            ids.device(),
        )?;
        let ids = ids.flatten_all()?.index_select(&places, 0)?;
        let ids = ids.reshape((paths.lengths.len(), paths.longest))?;
        let states = self.ends(&ids, &paths.lengths, mode)?;
        let shares = Tensor::from_vec(
            paths.shares,
            (2 * rows, paths.lengths.len()),
            &Device::Cpu, // Not every device has numbers of this type.
        )?;
        let shares = shares
            .to_dtype(states.dtype())?
            .to_device(states.device())?;
        let parts = shares.matmul(&states)?; // (2b, h)
        let (basic, support_part) = (parts.narrow(0, 0, rows)?, parts.narrow(0, rows, rows)?);
        let support = support_part.broadcast_mul(&support.tensor(mode))?;
        Ok(Features::Vectors((basic + support)?))
    }
}

/// The words from roots to ends, of all sentences of a batch one below the other.
struct Paths {
    /// Of each path where its words are in `(b, t)`, counted row by row; `longest` for each, of which its length counts.
    places: Vec<u32>,
    lengths: Vec<u32>,
    longest: usize,
    /// `(2b, paths)`: what each path counts in the basic part of each sentence, and below in its supporting part.
    shares: Vec<f64>,
}

impl Paths {
    /// Of sentences whose rows have `words` places.
    fn of(parses: &[Parse], words: usize) -> Self {
        let (mut paths, mut owners) = (Vec::new(), Vec::new());
        for (row, parse) in parses.iter().enumerate() {
            for (part, basic) in [true, false].into_iter().enumerate() {
                let ends = parse.ends(basic);
                let share = 1.0 / ends.len() as f64;
                for end in ends {
                    paths.push((row, parse.path(end)));
                    owners.push((part * parses.len() + row, share));
                }
            }
        }
        let longest = paths.iter().map(|(_, path)| path.len()).max().unwrap_or(0);
        let mut places = Vec::with_capacity(paths.len() * longest);
        for (at, (row, path)) in paths.iter().enumerate() {
            let first = (row * words) as u32;
            places.extend(path.iter().map(|word| first + word));
            places.resize((at + 1) * longest, first); // Not read.
        }
        let mut shares = vec![0.0; 2 * parses.len() * paths.len()];
        for (path, &(part, share)) in owners.iter().enumerate() {
            shares[part * paths.len() + path] = share;
        }
        Self {
            places,
            lengths: paths.iter().map(|(_, path)| path.len() as u32).collect(),
            longest,
            shares,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lstm;
    use candle_core::DType;
    use nearfar_core::{Encoder, Purpose, Seed};

    const PARSED: InputShape = InputShape::Parsed { vocabulary: 9 };

    fn params() -> Params {
        Params::new(Seed(1), DType::F32, &Device::Cpu).expect("f32")
    }

    /// The same sentences as plain sequences and parsed.
    fn sentences(ids: &[[u32; 4]], parses: &[Parse]) -> Result<[Input; 2]> {
        let values = Tensor::from_vec(ids.concat(), (ids.len(), 4), &Device::Cpu)?;
        let lengths: Vec<u32> = parses.iter().map(|it| it.len() as u32).collect();
        Ok([
            Input::Sequence {
                values: values.clone(),
                lengths: lengths.clone(),
            },
            Input::Parsed {
                values,
                lengths,
                parses: parses.to_vec(),
            },
        ])
    }

    /// `likes` with `dog` and `cats`, and `a` that depends on `dog`: a dog likes cats.
    fn dog() -> Parse {
        let heads = vec![Some(1), Some(2), None, Some(2)];
        Parse::new(heads, &[false, true, true, true]).expect("a tree")
    }

    /// An embedding, and the gradients of a function of it, by the names of parameters.
    type Learned = (Vec<Vec<f32>>, Vec<(String, Vec<f32>)>);

    fn learned(tower: &Tower, input: &Input) -> Result<Learned> {
        let mut rng = Seed(3).rng(Purpose::Dropout, 0);
        let embedding = tower.encode(input, Mode::Train(&mut rng))?.embedding;
        let gradients = embedding.sqr()?.sum_all()?.backward()?;
        let of_each = |it: nearfar_core::Parameter| -> Result<_> {
            let gradient = gradients.get(&it.var).expect("all are used");
            Ok((it.name, gradient.flatten_all()?.to_vec1()?))
        };
        let gradients = tower.parameters().into_iter().map(of_each);
        Ok((embedding.to_vec2()?, gradients.collect::<Result<_>>()?))
    }

    #[test]
    fn a_chain_is_the_malstm_bit_for_bit() -> Result<()> {
        let tokens = InputShape::Tokens { vocabulary: 9 };
        let dropout = Fraction::literal(0.25);
        let malstm = Lstm {
            layers: 2,
            dropout,
            ..Lstm::default()
        };
        let malstm = malstm.build(&tokens, &params())?;
        let settings = DependencyLstm {
            layers: 2,
            dropout,
            heads: WordHeads::Chain,
            ..DependencyLstm::default()
        };
        let chains = [Parse::chain(4), Parse::chain(2), Parse::chain(1)];
        let ids = [[1, 2, 3, 4], [5, 6, 7, 7], [8, 0, 0, 0]];
        let [plain, parsed] = sentences(&ids, &chains)?;
        let expected = learned(&malstm, &plain)?;
        for (shape, input) in [(tokens, &plain), (PARSED, &parsed)] {
            let tower = settings.build(&shape, &params())?;
            assert_eq!(learned(&tower, input)?, expected);
        }
        // So is a parse in which each word depends on the one before it, whatever η is.
        let settings = DependencyLstm {
            heads: WordHeads::Parsed,
            support: Finite::literal(3.0),
            ..settings
        };
        let (embedding, mut gradients) = learned(&settings.build(&PARSED, &params())?, &parsed)?;
        let of_support = gradients.iter().position(|it| it.0 == "support");
        let (_, support) = gradients.remove(of_support.expect("it has one"));
        assert_eq!(support, [0.0]);
        assert_eq!((embedding, gradients), expected);
        Ok(())
    }

    #[test]
    fn a_sentence_is_the_ends_of_its_paths() -> Result<()> {
        let tower = DependencyLstm::default().build(&PARSED, &params())?;
        let [_, parsed] = sentences(&[[1, 2, 3, 4]], &[dog()])?;
        let embedding = tower.encode(&parsed, Mode::Eval)?.embedding;
        // The same LSTM along: likes dog, likes cats; likes dog a.
        let lstm = Lstm::default().build(&InputShape::Tokens { vocabulary: 9 }, &params())?;
        let chains = [Parse::chain(2), Parse::chain(2), Parse::chain(3)];
        let [paths, _] = sentences(&[[3, 2, 0, 0], [3, 4, 0, 0], [3, 2, 1, 0]], &chains)?;
        let ends = lstm.encode(&paths, Mode::Eval)?.embedding;
        let basic = ((ends.get(0)? + ends.get(1)?)? * 0.5)?;
        let expected = (basic + (ends.get(2)? * 0.1)?)?;
        let apart = (embedding.get(0)? - expected)?.abs()?.max_all()?;
        assert!(apart.to_scalar::<f32>()? < 1e-6, "{apart}");
        Ok(())
    }

    #[test]
    fn paths_are_padded_and_shared_among_ends() {
        let paths = Paths::of(&[dog(), Parse::chain(1)], 4);
        assert_eq!(paths.lengths, [2, 2, 3, 1]);
        assert_eq!(paths.places, [2, 1, 0, 2, 3, 0, 2, 1, 0, 4, 4, 4]);
        let expected = [
            [0.5, 0.5, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
            [0.0, 0.0, 1.0, 0.0],
            [0.0; 4],
        ];
        assert_eq!(paths.shares, expected.concat());
    }

    #[test]
    fn data_without_parses_are_told_what_helps() {
        let tokens = InputShape::Tokens { vocabulary: 9 };
        let error = DependencyLstm::default().build(&tokens, &params());
        let error = error.expect_err("no parses").to_string();
        assert!(error.contains("set `heads = \"chain\"`"), "{error}");
    }
}
