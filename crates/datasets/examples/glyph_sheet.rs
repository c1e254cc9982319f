//! Draws a sheet of invented characters, a row for each class: `glyph_sheet [CLASSES] [SAMPLES] [SEED] > sheet.pgm`.

use std::io::Write;

use nearfar_core::Seed;
use nearfar_datasets::{Dataset, Glyphs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|it| it.parse::<usize>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let (classes, samples, seed) = (next(10)?, next(12)?, next(0)?);
    let glyphs = Glyphs::new(classes, samples, 28, Seed(seed as u64))?;
    let side = 28;
    let mut sheet = vec![0; classes * side * samples * side];
    for index in 0..glyphs.len() {
        let picture = glyphs
            .thumbnail(index as u32)
            .expect("a glyph can be looked at");
        let (row, column) = (index / samples, index % samples);
        for (y, line) in picture.pixels.chunks(side).enumerate() {
            let start = (row * side + y) * samples * side + column * side;
            sheet[start..start + side].copy_from_slice(line);
        }
    }
    let mut out = std::io::stdout().lock();
    write!(out, "P5\n{} {}\n255\n", samples * side, classes * side)?;
    out.write_all(&sheet)?;
    Ok(())
}
