//! The page as text.
#![allow(clippy::unwrap_used)] // A test that panics fails, which is what it is for.

use nearfar_eval::{Chart, Curve, Item, Picture, Report, Retrieved, Scatter};
use nearfar_report::{LARGEST_PAGE, html, write_html};

#[test]
fn an_empty_report_is_a_page() {
    let page = html(&Report::default());
    assert!(page.contains("<title>Embeddings</title>"));
    assert!(!page.contains("<section"), "what is empty is not shown");
}

#[test]
fn nothing_is_loaded_from_outside() {
    let page = html(&Report {
        title: "https://example.org/a.js".into(),
        ..Report::default()
    });
    assert!(page.contains("default-src 'none'"));
    for attribute in ["src=", "<link", "@import", "import(", "fetch("] {
        assert!(!page.contains(attribute), "{attribute}");
    }
    for (at, _) in page.match_indices("url(") {
        assert!(page[at..].starts_with("url(data:"));
    }
    for (at, _) in page.match_indices("href=") {
        assert!(page[at..].starts_with("href=\"#"));
    }
}

#[test]
fn large_reports_become_pages_of_bounded_size() {
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 11) as u8;
    let count = 20_000u32;
    let long = "word ".repeat(2000);
    let report = Report {
        title: long.clone(),
        configuration: "x = 1 # <&>\n".repeat(200_000),
        curves: (0..30)
            .map(|chart| Chart {
                title: format!("chart {chart}"),
                curves: (0..12)
                    .map(|_| Curve {
                        name: long.clone(),
                        steps: (0..50_000).map(f64::from).collect(),
                        values: (0..50_000).map(|i| f64::from(noise(i))).collect(),
                    })
                    .collect(),
            })
            .collect(),
        scatters: (0..4)
            .map(|_| Scatter {
                x: (0..count).map(|i| f32::from(noise(i))).collect(),
                y: (0..count).map(|i| f32::from(noise(i + 7))).collect(),
                labels: (0..count).collect(),
                items: (0..count).collect(),
                of: count as usize,
                ..Scatter::default()
            })
            .collect(),
        retrieved: (0..500)
            .map(|query| Retrieved {
                query,
                found: (0..100)
                    .map(|item| nearfar_eval::Hit {
                        item,
                        distance: 1.0,
                        right: true,
                    })
                    .collect(),
            })
            .collect(),
        items: (0..count)
            .map(|item| Item {
                label: Some(item),
                text: long.clone(),
                picture: Some(Picture {
                    width: 24,
                    height: 24,
                    channels: 1,
                    pixels: (0..576).map(|i| noise(i + item)).collect(),
                }),
            })
            .collect(),
        class_names: (0..count).map(|label| (label, long.clone())).collect(),
        notes: vec![long.clone(); 5000],
        environment: vec![(long.clone(), long.clone()); 5000],
        facts: vec![(long.clone(), long); 5000],
        ..Report::default()
    };
    let page = html(&report);
    assert!(page.len() <= LARGEST_PAGE, "{} bytes", page.len());
    assert!(page.contains("points."), "it says that it shows a part");
}

#[test]
fn numbers_that_are_not_finite_leave_gaps() {
    let odd = [
        f64::NAN,
        f64::INFINITY,
        1.0,
        f64::NEG_INFINITY,
        1e300,
        -1e-300,
    ];
    let curve = Curve {
        name: "odd".into(),
        steps: odd.to_vec(),
        values: odd.to_vec(),
    };
    let scatter = Scatter {
        x: vec![f32::NAN, f32::MAX, 1.0],
        y: vec![0.0, f32::MIN, f32::INFINITY],
        of: 3,
        ..Scatter::default()
    };
    let report = Report {
        curves: vec![Chart {
            title: "odd".into(),
            curves: vec![curve],
        }],
        scatters: vec![scatter],
        retrieved: vec![Retrieved {
            query: 99,
            found: vec![],
        }],
        ..Report::default()
    };
    let page = html(&report);
    let (body, _) = page.split_once("<script>").unwrap();
    assert!(!body.contains("NaN") && !body.contains("inf"), "{body}");
}

#[test]
fn writing_replaces_the_whole_file_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, "old").unwrap();
    write_html(
        &path,
        &Report {
            title: "new".into(),
            ..Report::default()
        },
    )
    .unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().contains("new"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = write_html(&folder.path().join("no/report.html"), &Report::default()).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "));
}
