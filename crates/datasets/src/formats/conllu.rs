//! Parsed sentences in CoNLL-U.

use std::{collections::BTreeMap, sync::Arc};

use nearfar_core::Parse;

use crate::{
    Error,
    error::{ConlluFault, Fault, Sink},
};

/// A sentence with its parse.
#[derive(Debug, PartialEq)]
pub(crate) struct Sentence {
    /// As `# text` has it, or its words with spaces between them.
    pub(crate) text: String,
    /// Its words in lower case.
    pub(crate) words: Vec<String>,
    pub(crate) parse: Parse,
    /// Where it begins, counted from 1.
    pub(crate) line: u64,
}

/// The sentences of a file, with the names that others call them by.
pub(crate) struct Sentences {
    pub(crate) path: Arc<str>,
    pub(crate) all: Vec<Arc<Sentence>>,
    ids: BTreeMap<String, usize>,
    texts: BTreeMap<String, usize>,
}

/// What a line says of a word.
struct Word {
    form: String,
    head: u32,
    relation: String,
    line: u64,
}

impl Sentences {
    /// Reads a file of the format <https://universaldependencies.org/format.html>: ten columns with tabs between them, of which the
    /// word, its head and its relation are looked at, and a blank line after each sentence.
    ///
    /// Of words that are written as one (`3-4`) the parts are read, and words that were left out (`5.1`) are not. Of comments
    /// `sent_id` and `text` are looked at. A word is of the basic part if it depends on a root by one of the relations `basic`; of
    /// `nsubj:pass` the relation is `nsubj`. What is wrong with a sentence goes to the sink, and the sentence is left out.
    pub(crate) fn read(
        path: &str,
        bytes: &[u8],
        basic: &[String],
        sink: &mut dyn Sink,
    ) -> Result<Self, Error> {
        let mut sentences = Self {
            path: path.into(),
            all: Vec::new(),
            ids: BTreeMap::new(),
            texts: BTreeMap::new(),
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut block = Block::default();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            let Ok(line) = std::str::from_utf8(line) else {
                block.fault(number, Fault::NotUtf8);
                block.last = block.last.saturating_add(1);
                continue;
            };
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.trim().is_empty() {
                sentences.take(std::mem::take(&mut block), basic, sink)?;
            } else if let Err(fault) = block.line(number, line) {
                block.fault(number, fault);
            }
        }
        sentences.take(block, basic, sink)?;
        Ok(sentences)
    }

    /// The sentence of this `sent_id`; or the first one with this text, where there is no such id.
    pub(crate) fn find(&self, name: &str) -> Option<&Arc<Sentence>> {
        let found = self.ids.get(name).or_else(|| self.texts.get(name));
        found.map(|&index| &self.all[index])
    }

    fn take(
        &mut self,
        mut block: Block,
        basic: &[String],
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let Some(line) = block.begins else {
            return Ok(()); // Several blank lines.
        };
        if block.faults.is_empty() {
            match block.parse(basic) {
                Ok(parse) => {
                    let id = block.id.take();
                    if let Some(id) = id.as_ref().filter(|it| self.ids.contains_key(*it)) {
                        let id = id.clone();
                        block.fault(line, Fault::Conllu(ConlluFault::Twice { id }));
                    } else {
                        self.push(id, block.sentence(parse, line));
                    }
                }
                Err((line, fault)) => block.fault(line, Fault::Conllu(fault)),
            }
        }
        for (line, fault) in block.faults {
            sink.take(Error::bad(&*self.path, line, fault))?;
        }
        Ok(())
    }

    fn push(&mut self, id: Option<String>, sentence: Sentence) {
        let index = self.all.len();
        if let Some(id) = id {
            self.ids.insert(id, index);
        }
        self.texts.entry(sentence.text.clone()).or_insert(index);
        self.all.push(Arc::new(sentence));
    }
}

/// The lines of one sentence.
#[derive(Default)]
struct Block {
    begins: Option<u64>,
    id: Option<String>,
    text: Option<String>,
    words: Vec<Word>,
    /// The number of the last word.
    last: u32,
    faults: Vec<(u64, Fault)>,
}

impl Block {
    fn fault(&mut self, line: u64, fault: Fault) {
        self.begins.get_or_insert(line);
        self.faults.push((line, fault));
    }

    fn line(&mut self, number: u64, line: &str) -> Result<(), Fault> {
        self.begins.get_or_insert(number);
        if self.words.is_empty()
            && let Some(comment) = line.strip_prefix('#')
        {
            let (key, value) = comment.split_once('=').unwrap_or((comment, ""));
            let value = Some(value.trim().to_owned()).filter(|it| !it.is_empty());
            match key.trim() {
                "sent_id" => self.id = value,
                "text" => self.text = value,
                _ => {}
            }
            return Ok(());
        }
        let cells: Vec<&str> = line.split('\t').collect();
        if cells.len() != 10 {
            self.last = self.last.saturating_add(1);
            let found = cells.len();
            return Err(Fault::Conllu(ConlluFault::Columns { found }));
        }
        let (id, form, head, relation) = (cells[0], cells[1].trim(), cells[6], cells[7]);
        let numbers = |text: &str, between: char| {
            let (first, second) = text.split_once(between)?;
            Some((first.parse::<u32>().ok()?, second.parse::<u32>().ok()?))
        };
        if numbers(id, '-').is_some() || numbers(id, '.').is_some() {
            return Ok(());
        }
        let bad = |fault: ConlluFault| Err(Fault::Conllu(fault));
        // A line that cannot be read counts, and so does one that is missing: those behind it are as they should be.
        let expected = self.last.saturating_add(1);
        self.last = id.parse().unwrap_or(expected);
        let mut word = Word {
            form: form.to_owned(),
            head: 0,
            relation: relation.to_owned(),
            line: number,
        };
        let result = if id.parse() != Ok(expected) {
            bad(ConlluFault::Id {
                found: id.to_owned(),
                expected,
            })
        } else if form.is_empty() {
            bad(ConlluFault::Form)
        } else {
            match head.parse() {
                Ok(head) => {
                    word.head = head;
                    Ok(())
                }
                Err(_) => bad(ConlluFault::Head {
                    text: head.to_owned(),
                }),
            }
        };
        self.words.push(word);
        result
    }

    /// The tree, or what is wrong with it and where.
    fn parse(&self, basic: &[String]) -> Result<Parse, (u64, ConlluFault)> {
        let count = self.words.len() as u32;
        if count == 0 {
            return Err((self.begins.unwrap_or(1), ConlluFault::NoWords));
        }
        if let Some(word) = self.words.iter().find(|it| it.head > count) {
            let head = word.head;
            return Err((word.line, ConlluFault::NoHead { head, words: count }));
        }
        let is_basic = |word: &Word| {
            let head = word.head.checked_sub(1);
            let of_root = head.is_some_and(|head| self.words[head as usize].head == 0);
            let general = word.relation.split(':').next().unwrap_or("");
            let named = |it: &String| *it == word.relation || it == general;
            of_root && basic.iter().any(named)
        };
        let heads = self.words.iter().map(|word| word.head.checked_sub(1));
        let basic: Vec<bool> = self.words.iter().map(is_basic).collect();
        Parse::new(heads.collect(), &basic).map_err(|error| {
            let message = error.to_string();
            (self.begins.unwrap_or(1), ConlluFault::NoTree { message })
        })
    }

    fn sentence(&self, parse: Parse, line: u64) -> Sentence {
        let forms: Vec<&str> = self.words.iter().map(|word| word.form.as_str()).collect();
        Sentence {
            text: self.text.clone().unwrap_or_else(|| forms.join(" ")),
            words: forms.into_iter().map(str::to_lowercase).collect(),
            parse,
            line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Problems;
    use proptest::prelude::*;

    const TEXT: &str = "\
# newdoc
# sent_id = s1
# text = Al perro no lo vi.
1-2\tAl\t_\t_\t_\t_\t_\t_\t_\t_
1\tA\ta\tADP\t_\t_\t3\tcase\t_\t_
2\tel\tel\tDET\t_\t_\t3\tdet\t_\t_
3\tperro\tperro\tNOUN\t_\t_\t6\tobj:dislocated\t_\t_
4\tno\tno\tADV\t_\t_\t6\tadvmod\t_\t_
5\tlo\tel\tPRON\t_\t_\t6\texpl\t_\t_
6\tvi\tver\tVERB\t_\t_\t0\troot\t_\tSpaceAfter=No
6.1\tyo\tyo\tPRON\t_\t_\t_\t_\t6:nsubj\t_
7\t.\t.\tPUNCT\t_\t_\t6\tpunct\t_\t_

1\tHola\thola\tINTJ\t_\t_\t0\troot\t_\t_
";

    fn basic() -> Vec<String> {
        vec!["nsubj".into(), "obj".into()]
    }

    fn read(text: &[u8]) -> (Sentences, Vec<String>) {
        let mut problems = Problems::new(100);
        let sentences = Sentences::read("a.conllu", text, &basic(), &mut problems);
        let messages = problems.errors().map(ToString::to_string).collect();
        (sentences.expect("problems are kept"), messages)
    }

    #[test]
    fn words_written_as_one_and_words_left_out_are_skipped() {
        for text in [TEXT.to_owned(), TEXT.replace('\n', "\r\n")] {
            let (sentences, messages) = read(text.as_bytes());
            assert_eq!(messages, [""; 0]);
            let [vi, hola] = &sentences.all[..] else {
                panic!("two sentences");
            };
            assert_eq!(vi.text, "Al perro no lo vi.");
            assert_eq!(vi.words, ["a", "el", "perro", "no", "lo", "vi", "."]);
            let heads = [2, 2, 5, 5, 5, 9, 5].map(|it| (it < 9).then_some(it));
            assert_eq!(vi.parse.heads(), heads);
            let marks = [2, 5].map(|word| vi.parse.basic()[word]);
            assert_eq!(marks, [true; 2]);
            assert_eq!(vi.parse.basic().iter().filter(|it| **it).count(), 2);
            assert_eq!((vi.line, hola.line), (1, 14));
            assert_eq!((hola.text.as_str(), &hola.words[0][..]), ("Hola", "hola"));
            assert_eq!(sentences.find("s1"), Some(vi));
            assert_eq!(sentences.find("Hola"), Some(hola));
            assert_eq!(sentences.find("s2"), None);
        }
    }

    #[test]
    fn a_bad_sentence_is_named_by_its_line_and_left_out() {
        let word = |id: &str, form: &str, head: &str| {
            format!("{id}\t{form}\t_\t_\t_\t_\t{head}\tdep\t_\t_\n")
        };
        let told = |lines: &[String]| {
            let text = format!("{TEXT}\n{}\n{}", lines.concat(), word("1", "b", "0"));
            let (sentences, messages) = read(text.as_bytes());
            assert_eq!(sentences.all.len(), 3, "the others are there");
            assert_eq!(messages.len(), 1, "{messages:?}");
            messages[0].clone()
        };
        let good = word("1", "a", "0");
        assert_eq!(
            told(&[good.clone(), word("2", "b", "7")]),
            "a.conllu, row 17: the head is word 7, and the sentence has 2; look for a line that is missing"
        );
        assert_eq!(
            told(&[good.clone(), word("2", "b", "3"), word("3", "c", "2")]),
            "a.conllu, row 16: word 2 depends on itself, by way of its head; heads must lead to a root, whose head is 0"
        );
        assert_eq!(
            told(&[good.clone(), word("2", "b", "_")]),
            "a.conllu, row 17: the head is `_`; the number of a word, or 0 for a root, is right"
        );
        assert_eq!(
            told(&[good.clone(), word("3", "b", "1")]),
            "a.conllu, row 17: the word's number is `3`, and 2 is next; words are counted from 1 in each sentence"
        );
        assert!(told(&[good.clone(), word("2", " ", "1")]).contains("row 17: there is no word"));
        assert_eq!(
            told(&["1 a 0\n".into()]),
            "a.conllu, row 16: there are 1 columns, not the 10 of CoNLL-U; they have tabs between them"
        );
        assert!(told(&["# text = x\n".into()]).contains("row 16: the sentence has no words"));
        assert!(
            told(&["# sent_id = s1\n".into(), good])
                .contains("row 16: `s1` is the `sent_id` of two")
        );
        let (sentences, messages) = read(b"1\t\xff\n\n");
        assert!(sentences.all.is_empty() && messages[0].contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cells in prop::collection::vec("[0-9a#=._\t\n-]{0,12}", 0..40),
        ) {
            let lines = cells.join("\t");
            for bytes in [&bytes[..], lines.as_bytes()] {
                let read = Sentences::read("a", bytes, &basic(), &mut Problems::new(3));
                for sentence in read.expect("problems are kept").all {
                    prop_assert_eq!(sentence.words.len(), sentence.parse.len());
                    prop_assert!(!sentence.words.is_empty());
                }
            }
        }

        /// Heads at random: what is read is a tree, and what is not is told.
        #[test]
        fn any_heads_are_a_tree_or_told(heads in prop::collection::vec(0u32..8, 1..7)) {
            let line = |(at, head): (usize, &u32)| format!("{}\tw\t_\t_\t_\t_\t{head}\tobj\t_\t_\n", at + 1);
            let text: String = heads.iter().enumerate().map(line).collect();
            let (sentences, messages) = read(text.as_bytes());
            prop_assert_eq!(sentences.all.len() + messages.len(), 1);
            for sentence in sentences.all {
                for word in 0..heads.len() as u32 {
                    prop_assert!(sentence.parse.path(word).len() <= heads.len());
                }
            }
        }
    }
}
