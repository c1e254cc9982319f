//! How the words of a sentence depend on one another.

use crate::Error;

/// The tree of dependencies of a sentence: of each word the one that it depends on, its head, and whether it is of the basic part.
///
/// The basic part says the main thing: who does what to whom. All else supports it. Who makes a parse decides which words are
/// basic; those that depend on none, the roots, always are.
///
/// Words are counted from 0. From each of them its heads lead to a root, so there is no cycle; a sentence may have several roots.
///
/// ```
/// use nearfar_core::Parse;
///
/// // A dog chases cats: `chases` is the root, `dog` and `cats` depend on it and `a` on `dog`.
/// let heads = vec![Some(1), Some(2), None, Some(2)];
/// let parse = Parse::new(heads, &[false, true, true, true])?;
/// assert_eq!(parse.path(0), [2, 1, 0]);
/// assert_eq!(parse.ends(true), [1, 3]);
/// assert_eq!(parse.ends(false), [0]);
///
/// let circle = Parse::new(vec![Some(1), Some(0), None], &[false; 3]);
/// assert_eq!(circle.unwrap_err().to_string(), "word 1 depends on itself, by way of its head");
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Parse {
    heads: Vec<Option<u32>>,
    basic: Vec<bool>,
}

impl Parse {
    /// The tree of these heads, none for a root.
    ///
    /// # Errors
    /// [`Error::Input`] for a head that is not there, and for a word that depends on itself; both count words from 1, as people do.
    pub fn new(heads: Vec<Option<u32>>, basic: &[bool]) -> Result<Self, Error> {
        let count = heads.len();
        if basic.len() != count {
            return Err(Error::Input(format!(
                "a sentence of {count} words says of {} whether they are basic; they must agree",
                basic.len()
            )));
        }
        for (word, head) in heads.iter().enumerate() {
            if let Some(head) = head.filter(|&head| head as usize >= count) {
                return Err(Error::Input(format!(
                    "word {} depends on word {}, and there are {count}",
                    word + 1,
                    u64::from(head) + 1
                )));
            }
        }
        // Each word is walked through once: a walk ends at a root, at a word that is known to lead to one, or at itself.
        let mut walked = vec![0; count]; // 0: not yet; else the walk that came by, counted from 1.
        for start in 0..count {
            let mut at = Some(start as u32);
            while let Some(word) = at.map(|it| it as usize) {
                if walked[word] == start + 1 {
                    return Err(Error::Input(format!(
                        "word {} depends on itself, by way of its head",
                        word + 1
                    )));
                }
                if walked[word] != 0 {
                    break;
                }
                walked[word] = start + 1;
                at = heads[word];
            }
        }
        let basic = heads.iter().zip(basic);
        let basic = basic.map(|(head, &basic)| basic || head.is_none());
        Ok(Self {
            basic: basic.collect(),
            heads,
        })
    }

    /// Each word depends on the one before it, and all are basic: the order of words in place of a parse.
    pub fn chain(words: usize) -> Self {
        Self {
            heads: (0..words as u32).map(|word| word.checked_sub(1)).collect(),
            basic: vec![true; words],
        }
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The head of each word, none for a root.
    pub fn heads(&self) -> &[Option<u32>] {
        &self.heads
    }

    /// Whether each word is of the basic part.
    pub fn basic(&self) -> &[bool] {
        &self.basic
    }

    /// The words from a root to this one, which is the last.
    pub fn path(&self, word: u32) -> Vec<u32> {
        let up = |&word: &u32| self.heads[word as usize];
        let mut path: Vec<u32> = std::iter::successors(Some(word), up).collect();
        path.reverse();
        path
    }

    /// The ends of a part in their order: its words on which no other of the part depends.
    pub fn ends(&self, basic: bool) -> Vec<u32> {
        let mut ends: Vec<bool> = self.basic.iter().map(|&it| it == basic).collect();
        for (head, &of) in self.heads.iter().zip(&self.basic) {
            if let Some(head) = head
                && of == basic
            {
                ends[*head as usize] = false;
            }
        }
        let words = 0..self.heads.len() as u32;
        words.filter(|&word| ends[word as usize]).collect()
    }

    /// The same of the first `words` words alone. What depends on a word that is cut off depends on the nearest one above it that
    /// is not, or becomes a root where there is none.
    pub fn cut(&self, words: usize) -> Self {
        let words = words.min(self.len());
        let kept = |&head: &u32| (head as usize) < words;
        let heads: Vec<Option<u32>> = (0..words)
            .map(|word| {
                let up = |&head: &u32| self.heads[head as usize];
                std::iter::successors(self.heads[word], up).find(kept)
            })
            .collect();
        let basic = heads.iter().zip(&self.basic);
        let basic = basic.map(|(head, &basic)| basic || head.is_none());
        Self {
            basic: basic.collect(),
            heads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A man who sings plays; with `man` as its subject: (words 0 to 4) a → man, man → plays, who → sings, sings → man.
    fn man() -> Parse {
        let heads = vec![Some(1), Some(4), Some(3), Some(1), None];
        Parse::new(heads, &[false, true, false, false, false]).expect("a tree")
    }

    #[test]
    fn paths_begin_at_the_root_and_parts_end_where_nothing_depends_on_them() {
        let parse = man();
        assert_eq!(parse.basic(), [false, true, false, false, true]);
        assert_eq!(parse.path(4), [4]);
        assert_eq!(parse.path(2), [4, 1, 3, 2]);
        assert_eq!((parse.ends(true), parse.ends(false)), (vec![1], vec![0, 2]));
        let chain = Parse::chain(3);
        assert_eq!(chain.path(2), [0, 1, 2]);
        assert_eq!((chain.ends(true), chain.ends(false)), (vec![2], vec![]));
        assert!(Parse::chain(0).is_empty());
    }

    #[test]
    fn what_is_cut_off_leaves_a_tree() {
        let cut = man().cut(4);
        assert_eq!(cut.heads(), [Some(1), None, Some(3), Some(1)]);
        assert_eq!(cut.basic(), [false, true, false, false]);
        // `who` hangs on `sings`, which hangs on `man`.
        assert_eq!(man().cut(3).heads(), [Some(1), None, Some(1)]);
        assert_eq!(man().cut(9), man());
        assert_eq!(Parse::chain(5).cut(2), Parse::chain(2));
        // Nothing above it is kept, so it stands alone.
        let heads = vec![Some(2), Some(0), None];
        let last = Parse::new(heads, &[false; 3]).expect("a tree").cut(2);
        assert_eq!(last.heads(), [None, Some(0)]);
        assert_eq!(last.basic(), [true, false]);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let told = |heads: &[Option<u32>]| {
            let parse = Parse::new(heads.to_vec(), &vec![false; heads.len()]);
            parse.expect_err("no tree").to_string()
        };
        assert_eq!(
            told(&[None, Some(2)]),
            "word 2 depends on word 3, and there are 2"
        );
        assert!(told(&[Some(0)]).starts_with("word 1 depends on itself"));
        // A way into a circle is none out of it.
        let circle = told(&[Some(1), Some(2), Some(3), Some(1), None]);
        assert!(circle.starts_with("word 2 depends on itself"), "{circle}");
        assert!(Parse::new(vec![None], &[]).is_err());
    }
}
