//! 1,797 handwritten digits that need no network.

use std::io::Read;

use flate2::read::GzDecoder;

/// Packed as scikit-learn packs it: gzip of 1,797 lines of 64 pixels and a label.
const PACKED: &[u8] = include_bytes!("../digits/digits.csv.gz");

/// The test part of "Optical Recognition of Handwritten Digits": 1,797 images of 8×8 pixels by 13 writers.
///
/// Source, license (CC BY 4.0) and citation are in `digits/SOURCE.md` of this package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits {
    /// 64 for each image, row by row from the top left; 0 (paper) to 16 (ink).
    pub pixels: Vec<u8>,
    /// The digit of each image, 0 to 9.
    pub labels: Vec<u8>,
}

impl Digits {
    /// Images.
    pub const COUNT: usize = 1797;
    /// Width of an image, and its height.
    pub const SIDE: usize = 8;
    /// The value of a pixel that is all ink.
    pub const INK: u8 = 16;

    /// The pixels of one image.
    ///
    /// # Panics
    /// There are not that many images.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = Self::SIDE * Self::SIDE;
        &self.pixels[index * size..(index + 1) * size]
    }
}

/// The 1,797 handwritten digits, in the order of the source.
///
/// ```
/// let digits = nearfar_catalogue::digits();
/// assert_eq!(digits.labels[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
/// assert_eq!(digits.image(0)[..8], [0, 0, 5, 13, 9, 1, 0, 0]);
/// ```
pub fn digits() -> Digits {
    let mut text = String::new();
    GzDecoder::new(PACKED)
        .read_to_string(&mut text)
        .expect("the packed digits are part of the crate, and tested");
    let mut digits = Digits {
        pixels: Vec::with_capacity(Digits::COUNT * Digits::SIDE * Digits::SIDE),
        labels: Vec::with_capacity(Digits::COUNT),
    };
    for line in text.lines() {
        let (pixels, label) = line
            .rsplit_once(',')
            .expect("a line has pixels and a label");
        digits.labels.push(number(label));
        digits.pixels.extend(pixels.split(',').map(number));
    }
    digits
}

fn number(text: &str) -> u8 {
    text.parse()
        .expect("the packed digits hold small numbers only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sha256;

    #[test]
    fn the_packed_bytes_are_those_of_scikit_learn_and_decode_to_what_they_did() {
        let packed = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22";
        assert_eq!(Sha256::of(PACKED).to_string(), packed);
        let digits = digits();
        assert_eq!(digits.labels.len(), Digits::COUNT);
        assert_eq!(digits.pixels.len(), Digits::COUNT * 64);
        assert!(digits.pixels.iter().all(|&it| it <= Digits::INK));
        // Images of each digit, as UCI's optdigits.names counts them for the test part.
        let counts: Vec<_> = (0..10)
            .map(|digit| digits.labels.iter().filter(|&&it| it == digit).count())
            .collect();
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert_eq!(Sha256::of(&digits.pixels).to_string(), PIXELS);
        assert_eq!(Sha256::of(&digits.labels).to_string(), LABELS);
    }

    // Computed from the same file by another program (Python).
    const PIXELS: &str = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3";
    const LABELS: &str = "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0";
}
