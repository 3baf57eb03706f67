//! Input for tests and measurements, from a seed: text with a known number of each word, and records to sort.

use std::collections::BTreeMap;
use std::io::{self, Write};

use fastrand::Rng;

/// Different words.
const VOCABULARY: usize = 30_000;
/// Entries of the table that words are drawn from: frequent words have many.
const TABLE: usize = 1 << 16;
const SYLLABLES: [&str; 40] = [
    "a", "be", "con", "de", "er", "fa", "gi", "ho", "in", "ja", "ka", "lo", "mi", "no", "or", "pa", "qui",
    "ra", "si", "ta", "un", "ve", "wa", "xi", "yo", "za", "the", "ing", "ter", "ment", "al", "es", "ro",
    "li", "st", "an", "en", "ar", "is", "ou",
];
/// The words that are frequent in English stand first, as they do there.
const FREQUENT: [&str; 12] = ["the", "of", "and", "to", "a", "in", "that", "he", "was", "it", "his", "is"];
const LINE: usize = 72;

/// Text that looks like a language: few words are frequent and many are rare (Zipf's law), sentences begin with a
/// capital and end with a mark, lines are about 72 bytes long.
pub struct Text {
    random: Rng,
    words: Vec<String>,
    capitalized: Vec<String>,
    table: Vec<u16>,
    /// How often each word was written, as it is and with a capital.
    counts: Vec<[u64; 2]>,
}

impl Text {
    /// The text of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let words = vocabulary(&mut random);
        let capitalized = words.iter().map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect();
        let counts = vec![[0; 2]; words.len()];
        Self { random, capitalized, table: zipf(words.len()), words, counts }
    }

    /// Writes at least `bytes` bytes, up to the end of a line.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&mut self, bytes: u64, to: &mut dyn Write) -> io::Result<u64> {
        let mut written = 0;
        let mut line = Vec::with_capacity(2 * LINE);
        let mut first = true;
        while written < bytes {
            line.clear();
            while line.len() < LINE {
                let word = usize::from(self.table[self.random.usize(..TABLE)]);
                self.counts[word][usize::from(first)] += 1;
                let text = if first { &self.capitalized[word] } else { &self.words[word] };
                line.extend_from_slice(text.as_bytes());
                first = false;
                let mark: &[u8] = match self.random.u8(..) {
                    0..=11 => b", ",
                    12..=29 => b". ",
                    30..=32 => b"! ",
                    33 => b" - ",
                    _ => b" ",
                };
                first |= matches!(mark[0], b'.' | b'!');
                line.extend_from_slice(mark);
            }
            line.pop();
            line.push(b'\n');
            to.write_all(&line)?;
            written += line.len() as u64;
        }
        Ok(written)
    }

    /// How often each word was written so far.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (number, [plain, capital]) in self.counts.iter().enumerate() {
            for (word, count) in [(&self.words[number], plain), (&self.capitalized[number], capital)] {
                if *count > 0 {
                    *counts.entry(word.clone()).or_default() += count;
                }
            }
        }
        counts
    }
}

fn vocabulary(random: &mut Rng) -> Vec<String> {
    let mut known: std::collections::BTreeSet<String> = FREQUENT.iter().map(ToString::to_string).collect();
    let mut words: Vec<String> = FREQUENT.iter().map(ToString::to_string).collect();
    while words.len() < VOCABULARY {
        // Frequent words are short.
        let syllables = 1 + random.usize(0..2 + words.len() / 10_000) + usize::from(words.len() > 200);
        let word: String = (0..syllables).map(|_| SYLLABLES[random.usize(..SYLLABLES.len())]).collect();
        if known.insert(word.clone()) {
            words.push(word);
        }
    }
    words
}

/// A table in which word n stands about 1/(n + 2) times as often as all together, and every word can occur.
fn zipf(words: usize) -> Vec<u16> {
    let weight = |n: usize| 1.0 / (n as f64 + 2.0);
    let total: f64 = (0..words).map(weight).sum();
    let spare = TABLE - words;
    let mut table: Vec<u16> =
        (0..words).map(|word| u16::try_from(word).expect("a small vocabulary")).collect();
    let (mut sum, mut next) = (0.0, 0);
    for word in 0..words {
        sum += weight(word);
        let end = (sum / total * spare as f64) as usize;
        table.extend(std::iter::repeat_n(word as u16, end - next));
        next = end;
    }
    table.resize(TABLE, 0);
    table
}

/// Writes `count` lines of 100 bytes with their ends: ten random printable bytes to sort by, the number of the
/// line, and filling.
///
/// # Errors
/// What the writer says.
pub fn records(seed: u64, count: u64, to: &mut dyn Write) -> io::Result<()> {
    let mut random = Rng::with_seed(seed);
    let mut line = [b' '; 100];
    line[99] = b'\n';
    for byte in &mut line[26..99] {
        *byte = random.u8(b'A'..=b'Z');
    }
    for number in 0..count {
        for byte in &mut line[..10] {
            *byte = random.u8(b' '..=b'~');
        }
        let mut rest = number;
        for digit in line[12..24].iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        to.write_all(&line)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_answer_is_that_of_counting() {
        let mut text = Text::new(7);
        let mut bytes = Vec::new();
        let written = text.write(200_000, &mut bytes).expect("memory does not fail");
        assert_eq!(written, bytes.len() as u64);
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let string = String::from_utf8(bytes.clone()).expect("ASCII");
        for word in string.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            *counted.entry(word.to_string()).or_default() += 1;
        }
        assert_eq!(text.counts(), counted);
        assert!(counted.len() > 5000 && counted["the"] > 500, "{} words", counted.len());

        let mut again = Vec::new();
        Text::new(7).write(200_000, &mut again).expect("memory does not fail");
        assert_eq!(again, bytes, "a seed is a text");
    }

    #[test]
    fn records_have_100_bytes_each() {
        let mut bytes = Vec::new();
        records(3, 1000, &mut bytes).expect("memory does not fail");
        assert_eq!(bytes.len(), 100_000);
        assert!(bytes.chunks(100).all(|line| line[99] == b'\n' && !line[..99].contains(&b'\n')));
        assert_eq!(&bytes[99_912..99_924], b"000000000999");
    }
}
