//! The page in a real browser: what it shows after its script ran, and what it does.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test that panics fails; one that is skipped says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use nearfar_eval::{
    Chart, Curve, DistanceHistogram, Hit, Interval, Item, Picture, RecallCurve, Report, Retrieved,
    RocCurve, Scatter, ScoreRow, ScoreTable,
};

/// Chromium: what `NEARFAR_CHROMIUM` names, else what the path has.
fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("NEARFAR_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

/// What the page is after its scripts ran.
fn shown(browser: &Path, page: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, page).unwrap();
    let output = Command::new(browser)
        .args("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking".split(' '))
        .args("--disable-component-update --disable-sync --hide-scrollbars --window-size=1280,900 --timeout=60000".split(' '))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg("--dump-dom")
        .arg(format!("file://{}", path.display()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

const HOSTILE: &str =
    "</script><script>throw 'broken out'</script><img src=x onerror=\"throw 'broken out'\">'\"&";

fn report(points: usize) -> Report {
    let spiral = |turn: f32| -> (Vec<f32>, Vec<f32>) {
        (0..points)
            .map(|i| {
                let angle = i as f32 * 0.31 + turn;
                (i as f32 * angle.cos(), i as f32 * angle.sin())
            })
            .unzip()
    };
    let scatter = |name: &str, turn: f32| {
        let (x, y) = spiral(turn);
        Scatter {
            name: name.into(),
            how: HOSTILE.into(),
            x,
            y,
            labels: (0..points as u32).map(|i| i % 3).collect(),
            items: (0..points as u32).collect(),
            of: points,
        }
    };
    let interval = |mean| {
        Some(Interval {
            mean,
            half_width: Some(0.012),
            count: 3,
        })
    };
    Report {
        title: HOSTILE.into(),
        summary: "A summary.".into(),
        facts: vec![("Data".into(), HOSTILE.into())],
        scores: vec![ScoreTable {
            title: "Held-out classes".into(),
            columns: vec!["raw pixels".into(), "learned".into()],
            rows: vec![
                ScoreRow {
                    name: "Recall@1".into(),
                    higher_is_better: true,
                    values: vec![interval(0.613), interval(0.942)],
                },
                ScoreRow {
                    name: HOSTILE.into(),
                    higher_is_better: false,
                    values: vec![None, interval(0.021)],
                },
            ],
        }],
        curves: vec![Chart {
            title: "Loss".into(),
            curves: vec![Curve {
                name: HOSTILE.into(),
                steps: (0..500).map(f64::from).collect(),
                values: (0..500)
                    .map(|i| {
                        if i == 77 {
                            f64::NAN
                        } else {
                            1.0 / f64::from(i + 1)
                        }
                    })
                    .collect(),
            }],
        }],
        recall: vec![RecallCurve {
            name: "learned".into(),
            k: vec![1, 2, 4],
            recall: vec![0.9, 0.95, 1.0],
        }],
        distances: vec![DistanceHistogram {
            name: "learned".into(),
            low: 0.0,
            high: 2.0,
            positive: vec![6, 3, 1, 0],
            negative: vec![0, 2, 4, 4],
            sampled: true,
        }],
        roc: vec![RocCurve {
            name: "learned".into(),
            far: vec![0.0, 0.05, 1.0],
            tar: vec![0.0, 0.95, 1.0],
            auc: 0.97,
            eer: 0.05,
        }],
        scatters: vec![scatter("Before", 0.0), scatter("After", 1.0)],
        retrieved: vec![Retrieved {
            query: 0,
            found: vec![
                Hit {
                    item: 3,
                    distance: 0.125,
                    right: true,
                },
                Hit {
                    item: 1,
                    distance: f64::NAN,
                    right: false,
                },
            ],
        }],
        items: (0..points as u32)
            .map(|i| Item {
                label: Some(i % 3),
                text: format!("{HOSTILE} {i}"),
                picture: Some(Picture {
                    width: 9,
                    height: 9,
                    channels: 1,
                    pixels: vec![(i % 250) as u8; 81],
                }),
            })
            .collect(),
        class_names: [(0, HOSTILE.to_owned()), (1, "one".into())].into(),
        notes: vec![HOSTILE.into()],
        configuration: format!("# {HOSTILE}\nseed = 7\n"),
        environment: vec![("cpu".into(), HOSTILE.into())],
    }
}

/// Moves the pointer, presses a class and the theme, and writes down what happened.
const DRIVER: &str = r#"<script>
const outcome = {};
const one = (selector) => document.querySelector(selector);
const move = (svg, x, y) => {
  const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
  svg.dispatchEvent(new PointerEvent('pointermove', {
    bubbles: true, clientX: box.left + x / view.width * box.width, clientY: box.top + y / view.height * box.height,
  }));
};
const tip = () => (one('#tip').hidden ? 'hidden' : one('#tip').innerText);
const after = one('#scatter-1'), point = after.querySelector('.pt.k1');
move(after, Number(point.getAttribute('cx')), Number(point.getAttribute('cy')));
outcome.point = tip();
outcome.thumbnail = !!one('#tip .th') && getComputedStyle(one('#tip .th')).backgroundImage.slice(0, 20);
outcome.rings = [...document.querySelectorAll('.ring[visibility=visible]')].length;
after.dispatchEvent(new PointerEvent('pointerleave'));
outcome.left = tip();
move(one('#chart-0'), 400, 100);
outcome.curve = tip();
const entry = one('.legend button[data-class="1"]');
entry.click();
outcome.taken = [getComputedStyle(point).display, entry.getAttribute('aria-pressed')];
entry.click();
outcome.back = getComputedStyle(point).display;
const paper = () => getComputedStyle(document.body).backgroundColor;
const first = paper();
one('#theme').click();
outcome.theme = first !== paper();
outcome.wide = document.documentElement.scrollWidth <= innerWidth;
outcome.requests = performance.getEntriesByType('resource').map((entry) => entry.name.slice(0, 40)).filter((name) => !name.startsWith('data:'));
outcome.markup = [...document.querySelectorAll('img, iframe, link, object, embed, [onerror]')].length;
outcome.table = [...document.querySelectorAll('#scores td')].map((cell) => cell.innerText.trim());
outcome.title = document.title;
const pre = document.createElement('pre');
pre.id = 'outcome';
pre.textContent = JSON.stringify(outcome);
document.body.append(pre);
</script></body>"#;

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = chromium() else {
        println!("skipped: the page in a browser (chromium is not installed)");
        return;
    };
    let page = nearfar_report::html(&report(300));
    let dom = shown(&browser, &page.replacen("</body>", DRIVER, 1));

    assert!(
        dom.contains(r#"data-ready="yes""#) && dom.contains(r#"data-points="600""#),
        "{}",
        &dom[..2000]
    );
    assert_eq!(dom.matches("class=\"pt ").count(), 600);
    assert!(
        dom.contains(r#"<div id="error" role="alert" hidden"#),
        "the page says that it is broken"
    );

    let (_, rest) = dom
        .split_once(r#"<pre id="outcome">"#)
        .expect("the driver did not finish");
    let (text, _) = rest.split_once("</pre>").unwrap();
    let text = text
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    let outcome: serde_json::Value = serde_json::from_str(&text).unwrap();
    // The class of a point that has a name, and the text of its item, as they were given.
    assert_eq!(outcome["point"], format!("one\n{HOSTILE} 1"));
    assert_eq!(outcome["thumbnail"], "url(\"data:image/png;");
    assert_eq!(
        outcome["rings"], 2,
        "the same item is marked in both pictures"
    );
    assert_eq!(outcome["left"], "hidden");
    assert!(
        outcome["curve"].as_str().unwrap().starts_with("step "),
        "{outcome}"
    );
    assert_eq!(outcome["taken"], serde_json::json!(["none", "false"]));
    assert_eq!(outcome["back"], "inline");
    assert_eq!(outcome["theme"], true);
    assert_eq!(outcome["wide"], true, "nothing is wider than the window");
    assert_eq!(
        outcome["requests"],
        serde_json::json!([]),
        "nothing is loaded"
    );
    assert_eq!(outcome["markup"], 0, "text of the data stayed text");
    assert_eq!(
        outcome["table"],
        serde_json::json!(["0.613 ± 0.012", "0.942 ± 0.012", "–", "0.021 ± 0.012"])
    );
    assert_eq!(outcome["title"], HOSTILE);
}
