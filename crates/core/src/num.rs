//! Numbers that carry their bounds, so that a check is in one place and its message points at the number.

use serde::{Deserialize, Serialize};

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $holds:expr, $bound:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64", into = "f64")]
        pub struct $name(f64);

        impl $name {
            /// The number, if it is within the bounds.
            ///
            /// # Errors
            /// [`Error::Settings`](crate::Error::Settings) with the number and the bounds, for NaN and infinities too.
            pub fn new(value: f64) -> Result<Self, crate::Error> {
                let holds: fn(f64) -> bool = $holds;
                if value.is_finite() && holds(value) {
                    Ok(Self(value))
                } else {
                    Err(crate::Error::Settings(format!(concat!("{} must be ", $bound), value)))
                }
            }

            /// A number of the source code. For numbers that come from elsewhere there is [`new`](Self::new).
            ///
            /// # Panics
            /// If it is out of bounds; in a `const` that is an error of the compiler.
            pub const fn literal(value: f64) -> Self {
                let holds = match $bound.as_bytes()[0] {
                    b'0' => value >= 0.0,
                    b'g' => value > 0.0,
                    b'a' => true,
                    _ => value >= 0.0 && value <= 1.0,
                };
                assert!(holds && value.is_finite(), "the literal is out of bounds");
                Self(value)
            }

            /// The number.
            pub const fn get(self) -> f64 {
                self.0
            }
        }

        impl TryFrom<f64> for $name {
            type Error = crate::Error;
            fn try_from(value: f64) -> Result<Self, crate::Error> {
                Self::new(value)
            }
        }

        impl From<$name> for f64 {
            fn from(value: $name) -> f64 {
                value.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded!(
    /// Any number but NaN and the infinities.
    Finite,
    |_| true,
    "a finite number"
);
bounded!(
    /// A finite number of 0 or more.
    NonNegative,
    |value| value >= 0.0,
    "0 or greater"
);
bounded!(
    /// A finite number above 0.
    Positive,
    |value| value > 0.0,
    "greater than 0"
);
bounded!(
    /// A number from 0 to 1, both included.
    Fraction,
    |value| (0.0..=1.0).contains(&value),
    "between 0 and 1"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_messages_name_the_number() {
        assert!(
            NonNegative::new(0.0).is_ok()
                && Positive::new(0.0).is_err()
                && Fraction::new(1.0).is_ok()
        );
        assert!(NonNegative::new(f64::NAN).is_err() && Positive::new(f64::INFINITY).is_err());
        assert_eq!(
            Fraction::new(1.5).expect_err("above 1").to_string(),
            "1.5 must be between 0 and 1"
        );
        assert_eq!(Positive::literal(0.2).get(), 0.2);
        assert_eq!(NonNegative::literal(0.0).get(), 0.0);
        assert_eq!(Finite::literal(-0.8).get(), -0.8);
        assert!(Finite::new(f64::NEG_INFINITY).is_err() && Finite::new(f64::NAN).is_err());
    }

    #[test]
    fn a_bad_number_is_refused_where_it_is_written() {
        #[derive(Deserialize, Debug)]
        struct Settings {
            #[allow(dead_code)]
            margin: NonNegative,
        }
        let error = toml::from_str::<Settings>("margin = -1.0")
            .expect_err("negative")
            .to_string();
        assert!(
            error.contains("line 1, column 10") && error.contains("-1 must be 0 or greater"),
            "{error}"
        );
        assert!(
            toml::from_str::<Settings>("margin = 2").is_ok(),
            "a whole number is a number"
        );
    }
}
