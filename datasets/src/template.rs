//! Names of members with fields in them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The form of a member's name, with `{fields}` where names differ: `recordings/{digit}_{speaker}_{index}.wav`.
///
/// A field stands for one or more characters other than `/`. It ends at the first place where the text that follows it
/// in the template is found, or, for the last field of a component, at the component's end. A name matches as a whole.
///
/// ```
/// use nearfar_catalogue::Template;
///
/// let template: Template = "{root}/{alphabet}/{character}/{number}_{drawer}.png".parse().unwrap();
/// let fields = template.fields("images_background/Greek/character03/0394_17.png").unwrap();
/// assert_eq!(fields["alphabet"], "Greek");
/// assert_eq!(fields["drawer"], "17");
/// assert_eq!(template.fields("images_background/README.txt"), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    /// Pieces of each component.
    components: Vec<Vec<Piece>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

impl Template {
    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a name has this form.
    pub fn matches(&self, name: &str) -> bool {
        self.fields(name).is_some()
    }

    /// The fields of a name of this form; `None` for another one.
    pub fn fields(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let mut fields = BTreeMap::new();
        let mut components = name.split('/');
        for pieces in &self.components {
            let mut rest = components.next()?;
            for (index, piece) in pieces.iter().enumerate() {
                match piece {
                    Piece::Text(text) => rest = rest.strip_prefix(text.as_str())?,
                    Piece::Field(field) => {
                        let end = match pieces.get(index + 1) {
                            None => rest.len(),
                            // The last piece of text has to be the end of the component, so it is looked for there.
                            Some(Piece::Text(next)) if index + 2 == pieces.len() => rest
                                .len()
                                .checked_sub(next.len())
                                .filter(|_| rest.ends_with(next.as_str()))?,
                            Some(Piece::Text(next)) => {
                                let first = rest.chars().next()?.len_utf8();
                                first + rest[first..].find(next.as_str())?
                            }
                            Some(Piece::Field(_)) => return None,
                        };
                        if end == 0 {
                            return None;
                        }
                        fields.insert(field.clone(), rest[..end].to_owned());
                        rest = &rest[end..];
                    }
                }
            }
            if !rest.is_empty() {
                return None;
            }
        }
        components.next().is_none().then_some(fields)
    }

    /// Names of the fields, in the order they occur.
    pub fn field_names(&self) -> impl Iterator<Item = &str> {
        self.components
            .iter()
            .flatten()
            .filter_map(|piece| match piece {
                Piece::Field(name) => Some(name.as_str()),
                Piece::Text(_) => None,
            })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Why a text is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotTemplate {
    /// A brace is not closed, not opened, or inside of another pair.
    #[error("`{0}`: a brace is not paired")]
    Brace(String),
    /// A field has no name.
    #[error("`{0}`: a field has no name")]
    Unnamed(String),
    /// A field occurs twice.
    #[error("`{template}`: the field `{field}` occurs twice")]
    Twice {
        /// The template.
        template: String,
        /// The field.
        field: String,
    },
    /// Two fields touch, so it is open where one ends.
    #[error("`{0}`: two fields need some text between them")]
    Touching(String),
}

impl FromStr for Template {
    type Err = NotTemplate;

    fn from_str(text: &str) -> Result<Self, NotTemplate> {
        let mut names = Vec::new();
        let mut components = Vec::new();
        for component in text.split('/') {
            let mut pieces = Vec::new();
            let mut rest = component;
            while !rest.is_empty() {
                let open = rest.find('{').unwrap_or(rest.len());
                let (plain, field) = rest.split_at(open);
                if plain.contains('}') {
                    return Err(NotTemplate::Brace(text.to_owned()));
                }
                if !plain.is_empty() {
                    pieces.push(Piece::Text(plain.to_owned()));
                }
                rest = field;
                if let Some(field) = field.strip_prefix('{') {
                    let (name, after) = field
                        .split_once('}')
                        .ok_or_else(|| NotTemplate::Brace(text.to_owned()))?;
                    if name.is_empty() {
                        return Err(NotTemplate::Unnamed(text.to_owned()));
                    }
                    if name.contains('{') {
                        return Err(NotTemplate::Brace(text.to_owned()));
                    }
                    if names.iter().any(|it| it == name) {
                        return Err(NotTemplate::Twice {
                            template: text.to_owned(),
                            field: name.to_owned(),
                        });
                    }
                    if matches!(pieces.last(), Some(Piece::Field(_))) {
                        return Err(NotTemplate::Touching(text.to_owned()));
                    }
                    names.push(name.to_owned());
                    pieces.push(Piece::Field(name.to_owned()));
                    rest = after;
                }
            }
            components.push(pieces);
        }
        Ok(Self {
            text: text.to_owned(),
            components,
        })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(template: &str, name: &str) -> Option<Vec<(String, String)>> {
        let template: Template = template.parse().expect("a template");
        template.fields(name).map(|it| it.into_iter().collect())
    }

    fn found(pairs: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        Some(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn fields_are_what_differs_between_names() {
        assert_eq!(
            fields(
                "{root}/recordings/{digit}_{speaker}_{index}.wav",
                "a-1/recordings/7_jackson_12.wav"
            ),
            found(&[
                ("digit", "7"),
                ("index", "12"),
                ("root", "a-1"),
                ("speaker", "jackson")
            ]),
        );
        assert_eq!(
            fields("s{person}/{shot}.pgm", "s40/10.pgm"),
            found(&[("person", "40"), ("shot", "10")])
        );
        assert_eq!(fields("plain.txt", "plain.txt"), found(&[]));
        assert_eq!(fields("{all}", "a.b.c"), found(&[("all", "a.b.c")]));
        // The last field may hold the text that ends it; the others end at its first place.
        assert_eq!(
            fields("{a}_{b}.x", "1_2_3.x.x"),
            found(&[("a", "1"), ("b", "2_3.x")])
        );
        assert_eq!(fields("{a}_{b}", "__x"), found(&[("a", "_"), ("b", "x")]));
    }

    #[test]
    fn other_names_do_not_match() {
        for name in [
            "s/1.pgm",
            "s1/.pgm",
            "s1/1.pgm/x",
            "x/s1/1.pgm",
            "s1",
            "s1/1.PGM",
            "s1/1.pgmx",
            "s1/.pgm",
            "",
        ] {
            assert_eq!(fields("s{person}/{shot}.pgm", name), None, "{name}");
        }
        assert_eq!(fields("{a}é{b}", "éé"), None);
    }

    #[test]
    fn a_template_that_is_open_to_two_readings_is_refused() {
        for text in ["{a", "a}", "{a{b}}", "{}", "{a}{b}", "{a}/{a}"] {
            assert!(text.parse::<Template>().is_err(), "{text}");
        }
    }
}
