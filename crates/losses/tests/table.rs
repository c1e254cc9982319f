//! Every loss on every awkward batch, and the laws that hold for all of them.

mod fakes;

use candle_core::{DType, Device, Result, Tensor, Var};
use fakes::{Cosine, Given, RAW, join, losses, noise, stream, with_relation, with_vectors};
use nearfar_core::{
    Comparison, Embeddings, Error, Evaluated, Finite, Loss, NonNegative, Pairs, Reducer, Relation,
    SignedPairs, Supervision, Triplets, Tuples, Unit,
};
use nearfar_losses::{
    Contrastive, Family, Join, LossConfig, Mining, MultiSimilarity, NTXent, OverLists, OverPairs,
    OverTriplets, PairForm, Reads, Sum, TripletMargin,
};

fn awkward_batches() -> Vec<(&'static str, Embeddings)> {
    let labels = vec![0, 0, 1, 1, 2, 2, 0, 3];
    let plain = noise(8, 3, labels.clone(), 1);
    let scaled = |factor: f64| with_vectors(&plain, (&plain.vectors * factor).expect("a product"));
    let row = plain.vectors.narrow(0, 0, 1).expect("a row");
    let coinciding = row
        .broadcast_as((8, 3))
        .and_then(|it| it.contiguous())
        .expect("a row");
    let mut halves = plain.vectors.to_vec2::<f64>().expect("numbers");
    halves[1] = halves[0].clone();
    halves[3] = vec![0.0; 3];
    halves[4] = halves[5].iter().map(|x| -x).collect();
    let halves = Tensor::new(halves, &Device::Cpu).expect("numbers");
    vec![
        ("no row", noise(0, 3, vec![], 2)),
        ("one row", noise(1, 3, vec![0], 3)),
        ("two rows of one class", noise(2, 3, vec![0, 0], 3)),
        ("one class", noise(6, 3, vec![4; 6], 4)),
        ("all distinct", noise(6, 3, (0..6).collect(), 5)),
        ("coinciding rows", with_vectors(&plain, coinciding)),
        ("rows of zeros", scaled(0.0)),
        (
            "some coincide, some are zero or opposite",
            with_vectors(&plain, halves),
        ),
        ("huge rows", scaled(1e18)),
        ("tiny rows", scaled(1e-30)),
        ("one dimension", noise(8, 1, labels, 6)),
        ("plain", plain),
    ]
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|it| it.to_dtype(DType::F64));
    flat.and_then(|it| it.to_vec1()).expect("numbers")
}

#[test]
fn awkward_batches_give_nothing_or_finite_values_and_gradients() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for (name, rows) in awkward_batches() {
            let width = rows.vectors.dim(1)?;
            for (config, loss) in losses(width, dtype) {
                let vectors = Var::from_tensor(&rows.vectors.to_dtype(dtype)?)?;
                let rows = with_vectors(&rows, vectors.as_tensor().clone());
                let evaluated = with_relation(&config, &rows, |comparison| {
                    loss.evaluate(comparison, &mut stream())
                })?;
                assert!(!evaluated.parts.is_empty(), "parts are always listed");
                let Some(total) = evaluated.total()? else {
                    continue;
                };
                assert!(
                    numbers(&total)[0].is_finite(),
                    "{config:?} on {name}: {total}"
                );
                let gradients = total.backward()?;
                let gradient = gradients
                    .get(&vectors)
                    .unwrap_or_else(|| panic!("{config:?} depends on its rows on {name}"));
                let finite = numbers(gradient).iter().all(|x| x.is_finite());
                assert!(finite, "{config:?} on {name}: {gradient}");
                for parameter in loss.parameters() {
                    let gradient = gradients.get(&parameter.var).expect("it is trained");
                    let finite = numbers(gradient).iter().all(|x| x.is_finite());
                    assert!(finite, "{config:?} on {name}: {gradient}");
                }
            }
        }
    }
    Ok(())
}

/// The parts that are there, on batches of one row, of one class, and of distinct classes.
#[test]
fn one_sided_batches_give_the_sides_that_the_contract_names() -> Result<()> {
    let present = |evaluated: Evaluated| -> Vec<&'static str> {
        let parts = evaluated.parts.into_iter();
        parts
            .filter(|it| it.value.is_some())
            .map(|it| it.name)
            .collect()
    };
    let contract: &[(&str, [&[&str]; 3])] = &[
        ("binomial_deviance", [&[], &["positive"], &["negative"]]),
        ("contrastive", [&[], &["positive"], &["negative"]]),
        ("intra_pair_variance", [&[], &["positive"], &["negative"]]),
        ("online_contrastive", [&[], &["positive"], &["negative"]]),
        ("snr_contrastive", [&[], &["positive"], &["negative"]]),
        ("tcm", [&[], &["positive"], &["negative"]]),
        ("triplet_margin", [&[], &[], &[]]),
        ("circle", [&[], &[], &[]]),
        ("fast_ap", [&[], &["list"], &[]]), // With one class it is 0.
        ("histogram", [&[], &[], &[]]),
        ("lifted", [&[], &[], &[]]),
        ("lifted_generalized", [&[], &[], &[]]),
        ("angular", [&[], &[], &[]]),
        ("batch_hard", [&[], &[], &[]]),
        ("centroid_triplet", [&[], &[], &[]]),
        ("dynamic_soft_margin", [&[], &[], &[]]),
        ("hierarchical_triplet", [&[], &[], &[]]),
        ("margin", [&[], &[], &[]]),
        ("margin_sample_mining", [&[], &[], &[]]),
        ("multi_tuple", [&[], &[], &[]]),
        ("quadruplet", [&[], &[], &[]]),
        ("quadruplet_hard", [&[], &[], &[]]),
        ("selectively_contrastive", [&[], &[], &[]]),
        ("triplet_ratio", [&[], &[], &[]]),
        (
            "correlated",
            [
                &[],
                &["first", "second", "across"],
                &["first", "second", "across"],
            ],
        ),
        ("semi_hard", [&[], &[], &[]]),
        ("multi_similarity", [&[], &["list"], &["list"]]),
        ("n_pair", [&[], &[], &[]]),
        ("nca", [&[], &["list"], &[]]), // Likewise.
        ("nt_xent", [&[], &[], &[]]),
        ("pnp", [&[], &["list"], &[]]), // Likewise.
        ("ranked_list", [&[], &["list"], &["list"]]),
        ("recall_at_k", [&[], &["list"], &[]]),
        ("smooth_ap", [&[], &["list"], &[]]), // With one class it is 0.
        ("supcon", [&[], &[], &[]]),
        ("surrogate_precision", [&[], &["list"], &[]]),
        ("tuplet_margin", [&[], &[], &[]]),
        ("instance", [&["class"], &["class"], &["class"]]),
        ("neculoiu", [&[], &["positive"], &["negative"]]),
        ("arcface", [&["class"]; 3]),
        ("angular_prototypical", [&[]; 3]),
        ("center", [&["class"]; 3]),
        ("contrastive_tension", [&[], &["positive"], &["negative"]]),
        ("facility_location", [&[]; 3]),
        ("ge2e", [&[]; 3]),
        ("global_orthogonal", [&[], &[], &["batch"]]),
        ("magnet", [&[], &[], &["cluster"]]),
        ("manifold", [&["intrinsic", "context"]; 3]),
        ("mean_variance", [&[]; 3]),
        ("prototypical", [&[]; 3]),
        ("triplet_center", [&["class"]; 3]),
        ("combined_margin", [&["class"]; 3]),
        ("cosface", [&["class"]; 3]),
        ("dynamic_arcface", [&["class"]; 3]),
        ("l_softmax", [&["class"]; 3]),
        ("normalized_softmax", [&["class"]; 3]),
        ("p2sgrad", [&["class"]; 3]),
        ("proxy_anchor", [&["positive", "negative"]; 3]),
        ("proxy_nca", [&["class"]; 3]),
        ("soft_triple", [&["class", "centers"]; 3]),
        ("sphereface", [&["class"]; 3]),
        ("subcenter_arcface", [&["class"]; 3]),
    ];
    let one_row = noise(1, 3, vec![0], 1);
    let one_class = noise(6, 3, vec![2; 6], 2);
    let mut distinct = noise(6, 3, (0..6).collect(), 3);
    distinct.vectors = (distinct.vectors * 0.1)?; // Within the margin, so that negatives are active.
    for (config, loss) in losses(3, DType::F64) {
        if !matches!(config.reads(), Reads::Classes | Reads::ClassesOrPairs) {
            continue;
        }
        let wanted = contract
            .iter()
            .find(|it| it.0 == config.name())
            .unwrap_or_else(|| panic!("{} has a row of the contract", config.name()));
        for (rows, wanted) in [&one_row, &one_class, &distinct].into_iter().zip(wanted.1) {
            let evaluated = loss.evaluate(&Comparison::within(rows), &mut stream())?;
            assert_eq!(present(evaluated), wanted, "{config:?}");
        }
    }
    Ok(())
}

/// "Side": the missing half of multi-similarity adds nothing, and the other is still averaged over all rows.
#[test]
fn a_side_of_multi_similarity_is_averaged_over_all_rows() -> Result<()> {
    let loss = OverLists::new(
        "multi_similarity",
        MultiSimilarity::default(),
        Box::new(Cosine),
    );
    let rows = noise(3, 2, vec![0, 0, 1], 7);
    let all = loss.evaluate(&Comparison::within(&rows), &mut stream())?;
    assert_eq!(all.parts[0].terms, 3);
    let lone = noise(3, 2, vec![0, 0, 0], 7);
    let one = loss.evaluate(&Comparison::within(&lone), &mut stream())?;
    assert!(numbers(&one.total()?.expect("the positive side"))[0] > 0.0);
    Ok(())
}

#[test]
fn the_order_of_the_rows_does_not_matter() -> Result<()> {
    let order = [5u32, 2, 7, 0, 3, 6, 1, 4];
    let rows = noise(8, 4, vec![0, 0, 1, 1, 2, 2, 0, 3], 8);
    let index = Tensor::new(&order, &Device::Cpu)?;
    let labels = order.iter().map(|&row| rows.labels[row as usize]).collect();
    let permuted = Embeddings::labeled(rows.vectors.index_select(&index, 0)?, labels)?;
    for (config, loss) in losses(4, DType::F64) {
        if !matches!(config.reads(), Reads::Classes | Reads::ClassesOrPairs)
            || config.name() == "n_pair"
        {
            continue; // Its pairs are listed by row; or it takes the first of each class.
        }
        let value = |rows: &Embeddings| -> Result<f64> {
            let evaluated = with_relation(&config, rows, |it| loss.evaluate(it, &mut stream()))?;
            Ok(numbers(&evaluated.total()?.expect("a plain batch"))[0])
        };
        let (one, other) = (value(&rows)?, value(&permuted)?);
        assert!(
            (one - other).abs() < 1e-12 * one.abs(),
            "{config:?}: {one} {other}"
        );
    }
    Ok(())
}

#[test]
fn the_same_arguments_give_the_same_bits_and_terms_reduce_to_the_parts() -> Result<()> {
    let rows = noise(8, 4, vec![0, 0, 1, 1, 2, 2, 0, 3], 9);
    for (config, loss) in losses(4, DType::F32) {
        let rows = with_vectors(&rows, rows.vectors.to_dtype(DType::F32)?);
        let (first, second, terms) = with_relation(&config, &rows, |it| {
            Ok::<_, candle_core::Error>((
                loss.evaluate(it, &mut stream())?,
                loss.evaluate(it, &mut stream())?,
                loss.terms(it, &mut stream())?,
            ))
        })?;
        assert_eq!(terms.len(), first.parts.len());
        for ((one, other), terms) in first.parts.iter().zip(&second.parts).zip(&terms) {
            let (one, other) = (one.value.as_ref(), other.value.as_ref());
            assert_eq!(one.map(numbers), other.map(numbers), "{config:?}");
            let reduced = config.defaults().reducer.reduce(terms)?;
            assert_eq!(reduced.value.is_some(), one.is_some(), "{config:?}");
            if let (Some(plain), Some(fast)) = (&reduced.value, one) {
                let (plain, fast) = (numbers(plain)[0], numbers(fast)[0]);
                let off = (plain - fast).abs();
                assert!(off <= 1e-5 * plain.abs(), "{config:?}: {plain} and {fast}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_relation_that_a_loss_cannot_read_is_refused_by_name() -> Result<()> {
    let rows = noise(3, 4, vec![0, 0, 1], 10);
    let pairs = Pairs::from_iter([(0, 1)]);
    let targets = Relation::Targets {
        anchors: &[0.0; 3],
        references: &[0.0; 3],
    };
    let scored = Relation::Scored {
        pairs: &pairs,
        targets: &[1.0],
    };
    for (config, loss) in losses(4, DType::F64) {
        let wrong = match config.reads() {
            Reads::ScoredPairs => [Relation::SameClass, targets],
            Reads::Targets => [scored, Relation::SameClass],
            _ => [scored, targets],
        };
        for relation in wrong {
            let comparison = Comparison {
                relation,
                ..Comparison::within(&rows)
            };
            let error = loss
                .evaluate(&comparison, &mut stream())
                .expect_err("it cannot");
            let wanted = format!(
                "{} learns from {}, but",
                config.name(),
                config.reads().name()
            );
            assert!(error.to_string().starts_with(&wanted), "{error}");
            assert!(matches!(Error::of(&error), Some(Error::Input(_))));
        }
    }
    Ok(())
}

#[test]
fn labels_beyond_the_centers_are_refused_with_both_numbers() -> Result<()> {
    for (config, loss) in losses(4, DType::F64) {
        if config.family() != Family::Classes {
            continue;
        }
        let rows = noise(2, 4, vec![0, 9], 11);
        let error = loss
            .evaluate(&Comparison::within(&rows), &mut stream())
            .expect_err("9 of 9");
        let wanted = format!(
            "{}: row 1 has label 9, but there are 9 classes, from 0 to 8",
            config.name()
        );
        assert_eq!(error.to_string(), wanted);
        let wide = noise(2, 5, vec![0, 1], 11);
        let error = loss
            .evaluate(&Comparison::within(&wide), &mut stream())
            .expect_err("5 and 4");
        assert!(
            error
                .to_string()
                .contains("have 5 dimensions, rows of `centers` 4"),
            "{error}"
        );
    }
    Ok(())
}

#[test]
fn class_centers_start_by_name_and_seed() -> Result<()> {
    let all = LossConfig::all();
    let config = all.iter().find(|it| it.name() == "arcface").expect("known");
    let centers = |place: usize, seed: u64| -> Result<Vec<f64>> {
        let loss = config.build(Join {
            place: Sum::place(place),
            seed: nearfar_core::Seed(seed),
            ..join(config, 4, DType::F32)
        })?;
        let parameters = loss.parameters();
        assert_eq!(
            (parameters.len(), parameters[0].name.as_str()),
            (1, "centers")
        );
        assert_eq!(parameters[0].var.dims(), [9, 4]);
        Ok(numbers(&parameters[0].var))
    };
    assert_eq!(centers(0, 1)?, centers(0, 1)?);
    assert_ne!(centers(0, 1)?, centers(1, 1)?);
    assert_ne!(centers(0, 1)?, centers(0, 2)?);
    Ok(())
}

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

#[test]
fn every_reducer_takes_the_terms_of_every_loss() -> Result<()> {
    let rows = noise(8, 4, vec![0, 0, 1, 1, 2, 2, 0, 3], 17);
    let weights = vec![1.0; 9];
    for (config, loss) in losses(4, DType::F64) {
        let terms = with_relation(&config, &rows, |it| loss.terms(it, &mut stream()))?;
        for reducer in Reducer::all() {
            let reducer = match reducer {
                Reducer::ClassWeighted { .. } => Reducer::ClassWeighted {
                    weights: weights.clone(),
                },
                other => other,
            };
            for terms in &terms {
                let reduced = reducer.reduce(terms);
                let refused = match reducer {
                    Reducer::None {} => !terms.is_empty(),
                    // A coordinate is of no class.
                    Reducer::ClassWeighted { .. } => {
                        terms.unit == Unit::Anchor && terms.labels.is_empty() && !terms.is_empty()
                    }
                    Reducer::Divisor {} => {
                        terms.divisor.is_none() && terms.unit != Unit::Batch && !terms.is_empty()
                    }
                    _ => false,
                };
                assert_eq!(reduced.is_err(), refused, "{reducer:?} of {config:?}");
            }
        }
    }
    Ok(())
}

/// The value, and the gradients of the rows and of all parameters.
fn pulled(total: &Tensor, vectors: &Var, loss: &dyn Loss) -> Result<(f64, Vec<Vec<f64>>)> {
    let gradients = total.backward()?;
    let of = |tensor: &Tensor| gradients.get(tensor).map(numbers).unwrap_or_default();
    let mut found = vec![of(vectors)];
    found.extend(loss.parameters().iter().map(|it| of(&it.var)));
    Ok((numbers(total)[0], found))
}

/// Losses that may go by rows: all of pairs, triplets, lists and centers, with forms that are not the default.
fn by_row() -> Vec<LossConfig> {
    #[derive(serde::Deserialize)]
    struct Only {
        loss: LossConfig,
    }
    let all = LossConfig::all().into_iter().filter(|config| {
        let by_class = matches!(config.reads(), Reads::Classes | Reads::ClassesOrPairs);
        let plain = config.family() == Family::Batches;
        by_class && (!plain || ["angular", "instance"].contains(&config.name()))
    });
    let forms = [
        "nt_xent = { form = \"decoupled\" }",
        "smooth_ap = { include_self = true, temperature = 0.1 }",
        "pnp = { include_self = true, form = \"iu\", temperature = 0.1 }",
        "pnp = { form = \"ib\", temperature = 0.1 }",
        "pnp = { form = \"ds\", temperature = 0.1 }",
        "pnp = { form = \"dq\", temperature = 0.1 }",
        "recall_at_k = { rank_temperature = 0.1 }",
        "surrogate_precision = { rank_temperature = 0.1 }",
        "ranked_list = { detach = false }",
        "ranked_list = { compat = \"pml\" }",
        "lifted = { compat = \"pml\" }",
        "lifted_generalized = { compat = \"pml\" }",
        "instance = { compat = \"pml\" }",
        "proxy_nca = { exclude_target = true }",
        "normalized_softmax = { unit_rows = false }",
        "soft_triple = { centers = 3, regularizer = 0.0 }",
        "subcenter_arcface = { centers = 1 }",
    ];
    let forms = forms.map(|form| {
        let only: Only = toml::from_str(&format!("loss.{form}")).expect("settings");
        only.loss
    });
    all.chain(forms).collect()
}

/// The way without lists against the plain way in f64, for every loss of classes: values and gradients, on batches that it
/// takes in several blocks, and on awkward ones.
#[test]
fn rows_at_a_time_agree_with_the_lists() -> Result<()> {
    let labels = |n: u32, classes: u32| (0..n).map(|row| row * 7 % classes).collect();
    let mut batches = vec![
        ("eight of a class", noise(64, 16, labels(64, 8), 20)),
        ("over blocks", noise(131, 33, labels(131, 40), 21)),
        ("two classes", noise(60, 5, labels(60, 2), 22)),
        ("one of its class alone", noise(21, 8, labels(21, 20), 23)),
        ("one class", noise(50, 7, vec![3; 50], 24)),
        ("all distinct", noise(50, 7, (0..50).collect(), 25)),
        ("many rows of a class", noise(150, 6, labels(150, 2), 26)),
    ];
    // Two rows of zeros in different classes, and a negative that coincides with its anchor.
    let mut some = noise(40, 9, labels(40, 6), 27);
    let mut rows = some.vectors.to_vec2::<f64>()?;
    (rows[3], rows[4]) = (vec![0.0; 9], vec![0.0; 9]);
    rows[11] = rows[10].clone();
    some.vectors = Tensor::new(rows, &Device::Cpu)?;
    batches.push(("zeros, and rows that coincide", some));
    let mut huge = noise(40, 9, labels(40, 6), 28);
    huge.vectors = (huge.vectors * 1e4)?;
    batches.push(("long rows", huge));
    let (configs, mut wrong) = (by_row(), Vec::new());
    for (what, rows) in batches {
        let width = rows.vectors.dim(1)?;
        for config in &configs {
            let build = |dtype| config.build(join(config, width, dtype));
            let (fast, plain) = (build(DType::F32)?, build(DType::F64)?);
            let of_centers = !fast.parameters().is_empty();
            let mut rows = rows.clone();
            if of_centers || config.reads() == Reads::Classes {
                rows.labels.iter_mut().for_each(|label| *label %= 9); // There are nine.
            }
            let small = (&rows.vectors * 0.3)?.to_dtype(DType::F32)?;
            let (narrow, exact) = (
                Var::from_tensor(&small)?,
                Var::from_tensor(&small.to_dtype(DType::F64)?)?,
            );
            let evaluated = fast.evaluate(
                &Comparison::within(&with_vectors(&rows, narrow.as_tensor().clone())),
                &mut stream(),
            )?;
            let exact_rows = with_vectors(&rows, exact.as_tensor().clone());
            let terms = plain.terms(&Comparison::within(&exact_rows), &mut stream())?;
            let (mut total, reducer) = (None, config.defaults().reducer);
            assert_eq!(terms.len(), evaluated.parts.len(), "{config:?} on {what}");
            for (terms, part) in terms.iter().zip(&evaluated.parts) {
                let wanted = reducer.reduce(terms)?;
                assert_eq!(
                    (wanted.name, wanted.terms, wanted.value.is_some()),
                    (part.name, part.terms, part.value.is_some()),
                    "{config:?} on {what}"
                );
                let Some(value) = wanted.value else {
                    continue;
                };
                total = Some(match total {
                    None => value,
                    Some(sum) => (sum + value)?,
                });
            }
            let (Some(wanted), Some(found)) = (total, evaluated.total()?) else {
                continue; // Both have nothing to learn.
            };
            let (w, wanted) = pulled(&wanted, &exact, &*plain)?;
            let (f, found) = pulled(&found, &narrow, &*fast)?;
            if what == "long rows" {
                let finite = found.iter().flatten().all(|x| x.is_finite());
                assert!(f.is_finite() && finite, "{config:?} on {what}");
                continue; // Exponentials of such numbers have few digits in f32.
            }
            if (w - f).abs() > 2e-5 * w.abs().max(0.01) {
                wrong.push(format!("{config:?} on {what}: {f}, not {w}"));
            }
            for (wanted, found) in wanted.iter().zip(&found) {
                // Where nothing is wanted, the roundings of single terms are left.
                let scale = wanted.iter().fold(1e-3f64, |scale, x| scale.max(x.abs()));
                let mut all = wanted.iter().zip(found);
                if let Some((w, f)) = all.find(|(w, f)| (*w - *f).abs() > 1e-4 * scale) {
                    wrong.push(format!(
                        "{config:?} on {what}: a gradient {f}, not {w}, of {scale}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
