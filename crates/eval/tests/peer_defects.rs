//! What other libraries mix up in scores, and how it is kept apart here. Numbers are those of our list of such defects, whose others
//! are in `nearfar-losses` and `nearfar-metrics`.

use nearfar_core::EmbeddingTable;
use nearfar_eval::{Measure, Score, Search, map_at_r, mean_average_precision, search_within};

/// 12. Libraries mean different numbers by MAP: of the first R divided by R, of all ranks divided by R, or of the first k divided by
///     how many were found there. Here each has a name of its own, and none is had from a list that is too short for it.
#[test]
fn d12_each_mean_average_precision_has_a_name_of_its_own() {
    // A query with two relevant rows, at the first and the fourth place.
    let table = EmbeddingTable {
        vectors: vec![0.0, 1.0, 2.0, 3.0, 4.0],
        dim: 1,
        labels: vec![0, 0, 1, 2, 0],
        ids: (0..5).collect(),
    };
    let all = Search {
        rank_all: true,
        ..Search::default()
    };
    let neighbors = search_within(&table, Measure::EUCLIDEAN, &all).expect("five rows");
    let first = |score: Vec<Option<f64>>| score[0].expect("it has relevant rows");
    let at_r = first(map_at_r(&neighbors).expect("enough neighbors").values);
    let over_all = first(
        mean_average_precision(&neighbors)
            .expect("all ranks")
            .values,
    );
    assert!((at_r - 0.5).abs() < 1e-12, "{at_r}"); // 1/2 (1/1)
    assert!((over_all - 0.75).abs() < 1e-12, "{over_all}"); // 1/2 (1/1 + 2/4)
    // Divided by how many were found among the first three it would be 1.
    let short = Search {
        k: 3,
        ..Search::default()
    };
    let short = search_within(&table, Measure::EUCLIDEAN, &short).expect("five rows");
    assert!(
        mean_average_precision(&short).is_err(),
        "not of three ranks"
    );
    let parse = |name: &str| name.parse::<Score>().expect("a score");
    assert_ne!(parse("map_at_r"), parse("mean_average_precision"));
}
