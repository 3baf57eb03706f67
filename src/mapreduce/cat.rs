//! The lines of inputs, as mappers get them.

use std::ops::Range;

use super::input::expand;
use super::records::Records;
use super::task::Control;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::Limits;
use crate::logic::mapreduce::split::{Compression, Split};

/// Hands out the lines of inputs, one after the other, without their ends. With `bytes`, only those that begin in this
/// range of bytes; then there must be one input file, and if that is compressed, bytes are counted as unpacked.
///
/// # Errors
/// What `line` returns; what is wrong with the inputs, as `explain` puts it.
pub fn cat<E>(
    inputs: &[String],
    bytes: Option<Range<u64>>,
    explain: impl Fn(String) -> E,
    mut line: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let files = expand(inputs).map_err(&explain)?;
    if bytes.is_some() && files.len() != 1 {
        return Err(explain(format!(
            "a range of bytes is of one file, and the input is {} files",
            files.len()
        )));
    }
    let bytes = bytes.unwrap_or(0..u64::MAX);
    let control = Control::default();
    for file in files {
        let compression = Compression::of(&file.path);
        let (offset, end) = match compression {
            Compression::Plain => (bytes.start, bytes.end.min(file.length)),
            _ => (0, file.length),
        };
        if offset >= end {
            continue;
        }
        let split = Split { file: file.path, offset, length: end - offset, compression };
        let failed = |failure: TaskFailure| explain(failure.message);
        let mut records = Records::open(&split, *Limits::RECORD_BYTES.end(), &control).map_err(failed)?;
        while let Some((at, text)) = records.next().map_err(failed)? {
            if at >= bytes.end {
                break;
            }
            if at >= bytes.start {
                line(text)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(inputs: &[String], bytes: Option<Range<u64>>) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        cat(
            inputs,
            bytes,
            |text| text,
            |line| {
                found.push(String::from_utf8_lossy(line).into_owned());
                Ok(())
            },
        )?;
        Ok(found)
    }

    #[test]
    fn lines_belong_to_the_bytes_in_which_they_begin_packed_or_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = b"one\ntwo\nthree";
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_string();
        std::fs::write(path("a.txt"), text).expect("written");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text).expect("memory does not fail");
        std::fs::write(path("b.gz"), packed.finish().expect("memory does not fail")).expect("written");
        std::fs::write(path("c.txt"), "").expect("written");
        for name in ["a.txt", "b.gz"] {
            let input = [path(name)];
            for (bytes, expected) in [
                (0..13, &["one", "two", "three"][..]),
                (0..4, &["one"]),
                (1..5, &["two"]),
                (5..8, &[]),
                (8..9, &["three"]),
                (9..99, &[]),
                (50..99, &[]),
            ] {
                assert_eq!(
                    lines(&input, Some(bytes.clone())).expect("readable"),
                    expected,
                    "{name} {bytes:?}"
                );
            }
        }
        let all = [path("a.txt"), path("*.gz"), path("c.txt")];
        assert_eq!(lines(&all, None).expect("readable").len(), 6);
        let problem = lines(&all, Some(0..5)).expect_err("three files");
        assert_eq!(problem, "a range of bytes is of one file, and the input is 3 files");
        assert!(lines(&[path("d")], None).expect_err("nothing").starts_with("there is no input"));
    }
}
