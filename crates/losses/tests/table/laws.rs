//! Every loss on every awkward batch, and the laws that hold for all of them.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Comparison, Embeddings, Error, Evaluated, Loss, Pairs, Reducer, Relation, Unit,
};
use nearfar_losses::{Family, Join, LossConfig, MultiSimilarity, OverLists, Reads, Sum};

use crate::fakes::{Cosine, join, losses, noise, stream, with_relation, with_vectors};
use crate::numbers;

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
        ("pair_cross_entropy", [&[], &["pair"], &[]]),
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
        ("classifier", [&["class"]; 3]),
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
    let ids = order.iter().map(|&row| rows.ids[row as usize]).collect();
    let permuted = Embeddings::new(rows.vectors.index_select(&index, 0)?, labels, ids)?;
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
