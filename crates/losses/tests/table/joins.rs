//! Losses joined to relations, miners, reducers and one another.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{
    Comparison, Embeddings, Finite, Loss, NonNegative, Pairs, Relation, SignedPairs, Supervision,
    Triplets, Tuples,
};
use nearfar_losses::{
    Contrastive, Family, Join, LossConfig, Mining, MultiSimilarity, NTXent, OverLists, OverPairs,
    OverTriplets, PairForm, Sum, TripletMargin,
};

use crate::fakes::{Cosine, Given, RAW, join, losses, noise, stream};
use crate::numbers;

/// Two rows of two classes 2 apart, and a third: numbers for paper.
fn on_a_line() -> Embeddings {
    let vectors = Tensor::new(&[[0f64], [1.0], [3.0]], &Device::Cpu).expect("small");
    Embeddings::labeled(vectors, vec![0, 0, 1]).expect("a label each")
}

fn total(loss: &impl Loss, comparison: &Comparison<'_>) -> Result<Option<f64>> {
    let total = loss.evaluate(comparison, &mut stream())?.total()?;
    Ok(total.map(|it| numbers(&it)[0]))
}

#[test]
fn the_paper_s_contrastive_loss_is_averaged_over_all_pairs() -> Result<()> {
    let contrastive = Contrastive {
        form: PairForm::SquaredHalf,
        negative_margin: Finite::literal(4.0),
        ..Contrastive::default()
    };
    let loss = OverPairs::new("contrastive", contrastive, Box::new(RAW));
    let rows = on_a_line();
    // Of six ordered pairs two are positive at 1, two negative at 3 and two at 2: (2 · ½ + 2 · ½ + 2 · 2) / 6.
    let value = total(&loss, &Comparison::within(&rows))?.expect("all are active");
    assert!((value - 1.0).abs() < 1e-15, "{value}");
    Ok(())
}

#[test]
fn listed_pairs_are_compared_alone_and_as_in_the_matrix() -> Result<()> {
    let rows = on_a_line();
    let pairs = SignedPairs {
        positive: Pairs::from_iter([(0, 1), (0, 1)]),
        negative: Pairs::from_iter([(1, 2)]),
    };
    let listed = Comparison {
        relation: Relation::Listed(&pairs),
        ..Comparison::within(&rows)
    };
    let contrastive = Contrastive {
        negative_margin: Finite::literal(2.5),
        ..Contrastive::default()
    };
    let mut loss = OverPairs::new("contrastive", contrastive, Box::new(RAW));
    assert_eq!(total(&loss, &listed)?, Some(1.0 + 0.5));
    loss.mining = Mining::by(Given(Tuples::Pairs(pairs.clone()))); // Through the matrix.
    assert_eq!(total(&loss, &listed)?, Some(1.0 + 0.5));
    loss.mining = Mining::default();
    let both = SignedPairs {
        positive: pairs.positive.clone(),
        negative: pairs.positive.clone(),
    };
    let both = Comparison {
        relation: Relation::Listed(&both),
        ..listed
    };
    let error = loss.evaluate(&both, &mut stream()).expect_err("both signs");
    assert!(
        error
            .to_string()
            .contains("rows 0 and 1 is listed as positive and as negative")
    );
    Ok(())
}

#[test]
fn two_sides_are_compared_without_a_row_and_itself() -> Result<()> {
    let rows = on_a_line();
    let copy = rows.clone(); // The same ids.
    let other = Embeddings {
        ids: vec![7, 8, 9],
        ..rows.clone()
    };
    let loss = OverPairs::new("contrastive", Contrastive::default(), Box::new(RAW));
    let count = |references: &Embeddings| -> Result<[usize; 2]> {
        let parts = loss
            .evaluate(&Comparison::between(&rows, references), &mut stream())?
            .parts;
        Ok([parts[0].terms, parts[1].terms])
    };
    assert_eq!(count(&copy)?, [2, 4]);
    assert_eq!(count(&other)?, [5, 4]); // Each with itself too.
    Ok(())
}

#[test]
fn a_swap_takes_the_nearer_of_anchor_and_positive() -> Result<()> {
    let rows = on_a_line();
    let loss = |swap: bool| {
        let margin = NonNegative::literal(10.0);
        let triplet = TripletMargin {
            margin,
            swap,
            ..TripletMargin::default()
        };
        OverTriplets::new("triplet_margin", triplet, Box::new(RAW))
    };
    // (0, 1, 2): 1 − 3 + 10, and (1, 0, 2): 1 − 2 + 10; with a swap the first has 2 too.
    assert_eq!(total(&loss(false), &Comparison::within(&rows))?, Some(8.5));
    assert_eq!(total(&loss(true), &Comparison::within(&rows))?, Some(9.0));
    // Against other rows the positive's own distances count.
    let documents = Tensor::new(&[[1f64], [2.0]], &Device::Cpu)?;
    let documents = Embeddings::new(documents, vec![0, 1], vec![8, 9])?;
    let queries = Embeddings::new(Tensor::new(&[[0f64]], &Device::Cpu)?, vec![0], vec![7])?;
    let between = Comparison::between(&queries, &documents);
    assert_eq!(total(&loss(true), &between)?, Some(1.0 - 1.0 + 10.0));
    Ok(())
}

#[test]
fn pairs_that_a_miner_repeats_count_as_often_where_the_loss_counts_pairs() -> Result<()> {
    let rows = noise(4, 3, vec![0, 0, 1, 1], 12);
    let once = SignedPairs {
        positive: Pairs::from_iter([(0, 1), (2, 3)]),
        negative: Pairs::from_iter([(0, 2), (2, 0)]),
    };
    let twice = SignedPairs {
        positive: Pairs::from_iter([(0, 1), (0, 1), (2, 3)]),
        negative: once.negative.clone(),
    };
    let terms = |pairs: SignedPairs| -> Result<(usize, usize)> {
        let mut list = OverLists::new("nt_xent", NTXent::default(), Box::new(Cosine));
        list.mining = Mining::by(Given(Tuples::Pairs(pairs.clone())));
        let mut all = OverLists::new(
            "multi_similarity",
            MultiSimilarity::default(),
            Box::new(Cosine),
        );
        all.mining = Mining::by(Given(Tuples::Pairs(pairs)));
        let within = Comparison::within(&rows);
        Ok((
            list.evaluate(&within, &mut stream())?.parts[0].terms,
            all.evaluate(&within, &mut stream())?.parts[0].terms,
        ))
    };
    assert_eq!(terms(once)?, (2, 4));
    assert_eq!(terms(twice)?, (3, 4));
    assert_eq!(terms(SignedPairs::default())?, (0, 0));
    Ok(())
}

#[test]
fn a_sum_adds_its_losses_by_weight_and_names_what_they_own() -> Result<()> {
    let all = LossConfig::all();
    let build = |name: &str, place: usize| {
        let config = all.iter().find(|it| it.name() == name).expect("known");
        config.build(Join {
            place: Sum::place(place),
            ..join(config, 3, DType::F64)
        })
    };
    let rows = noise(6, 3, vec![0, 0, 1, 1, 2, 2], 13);
    let within = Comparison::within(&rows);
    let mut sum = Sum::default();
    sum.push(NonNegative::literal(1.0), build("nt_xent", 0)?);
    sum.push(NonNegative::literal(0.25), build("arcface", 1)?);
    sum.push(NonNegative::literal(2.0), build("contrastive", 2)?);
    let parts = sum.evaluate(&within, &mut stream())?.parts;
    let names: Vec<&str> = parts.iter().map(|it| it.name).collect();
    assert_eq!(names, ["list", "class", "positive", "negative"]);
    let alone = |name: &str, place: usize| -> Result<f64> {
        let total = build(name, place)?
            .evaluate(&within, &mut stream())?
            .total()?;
        Ok(numbers(&total.expect("a plain batch"))[0])
    };
    let wanted =
        alone("nt_xent", 0)? + 0.25 * alone("arcface", 1)? + 2.0 * alone("contrastive", 2)?;
    let value = total(&sum, &within)?.expect("a plain batch");
    assert!((value - wanted).abs() < 1e-12 * wanted, "{value} {wanted}");
    let names: Vec<String> = sum.parameters().into_iter().map(|it| it.name).collect();
    assert_eq!(names, ["losses.1/centers"]);
    // A loss with nothing to learn adds nothing, and the sum of none is nothing to learn.
    let lone = noise(1, 3, vec![0], 14);
    let evaluated = sum.evaluate(&Comparison::within(&lone), &mut stream())?;
    let present: Vec<bool> = evaluated
        .parts
        .iter()
        .map(|it| it.value.is_some())
        .collect();
    assert_eq!(present, [false, true, false, false]);
    assert!(total(&Sum::default(), &within)?.is_none());
    Ok(())
}

/// A miner that remembers: a loss shows its state under its name, and takes it back.
#[test]
fn what_a_miner_remembers_is_named_and_taken_back() -> Result<()> {
    use std::collections::BTreeMap;

    #[derive(Debug)]
    struct Remembering(f64);
    impl nearfar_core::Stateful for Remembering {
        fn state(&self) -> BTreeMap<String, Tensor> {
            let tensor = Tensor::new(&[self.0], &Device::Cpu).expect("small");
            [("scale".to_owned(), tensor)].into()
        }
        fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
            self.0 = state["scale"].to_vec1::<f64>()?[0];
            Ok(())
        }
        fn interval(&self) -> Option<nearfar_core::Span> {
            Some(nearfar_core::Span::Steps(self.0 as u64))
        }
    }
    impl nearfar_core::Miner for Remembering {
        fn mine(&self, _: &nearfar_core::Candidates, _: &mut nearfar_core::Rng) -> Tuples {
            Tuples::Triplets(Triplets::default())
        }
    }
    let of = |numbers: &[f64]| {
        let mut sum = Sum::default();
        for &number in numbers {
            let mut loss =
                OverTriplets::new("triplet_margin", TripletMargin::default(), Box::new(RAW));
            loss.mining = Mining::by(Remembering(number));
            sum.push(NonNegative::literal(1.0), Box::new(loss));
        }
        sum
    };
    use nearfar_core::Stateful;
    let (one, mut other) = (of(&[3.0, 5.0]), of(&[9.0, 9.0]));
    let state = one.state();
    let names: Vec<&String> = state.keys().collect();
    assert_eq!(names, ["losses.0/miner.scale", "losses.1/miner.scale"]);
    assert_eq!(one.interval(), Some(nearfar_core::Span::Steps(3)));
    other.restore(&state)?;
    assert_eq!(other.interval(), Some(nearfar_core::Span::Steps(3)));
    let message = of(&[1.0])
        .restore(&state)
        .expect_err("one loss")
        .to_string();
    assert!(message.contains("`losses.1/miner.scale`"), "{message}");
    Ok(())
}

#[test]
fn supervision_of_a_batch_reaches_the_losses_that_read_it() -> Result<()> {
    let sides = [noise(3, 4, vec![], 15), noise(3, 4, vec![], 16)];
    let scored = Supervision::Scored {
        pairs: Pairs::from_iter([(0, 0), (1, 1), (2, 2)]),
        targets: vec![1.0, 3.0, 5.0],
    };
    for (config, loss) in losses(4, DType::F64) {
        if config.family() == Family::Scores {
            let comparison = Comparison::of(&sides, &scored)?;
            let part = loss.evaluate(&comparison, &mut stream())?.parts[0].clone();
            assert_eq!(part.name, "score");
            assert!(part.terms == 3 || part.terms == 1, "{config:?}");
        }
    }
    Ok(())
}
