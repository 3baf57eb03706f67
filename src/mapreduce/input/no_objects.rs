//! Stands in for `objects` in a build without the feature `object-store`: whatever is asked, it says why not.

use std::io::{self, Read};

use super::unknown_scheme;
use crate::logic::mapreduce::split::InputFile;
use crate::mapreduce::task::Control;

pub(super) const MEMORY: usize = 0;

pub(super) fn expand(url: &str, _: &mut Vec<InputFile>) -> Result<(), String> {
    Err(refusal(url))
}

pub(super) fn open(url: &str, _: u64, _: u64, _: &Control) -> io::Result<Box<dyn Read + Send>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, refusal(url)))
}

pub(super) fn check(url: &str, _: &Control) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, refusal(url)))
}

fn refusal(url: &str) -> String {
    unknown_scheme(url).unwrap_or_else(|| {
        let (scheme, _) = url.split_once("://").unwrap_or((url, ""));
        format!(
            "the input {scheme}://... is in an object store, and this build of quorate reads files only; build it \
             with `--features object-store`, or copy the input to files"
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::mapreduce::input::expand;

    #[test]
    fn what_is_missing_is_said_and_what_can_be_done() {
        let problem = |input: &str| expand(&[input.to_string()]).expect_err(input);
        let text = problem("s3://bucket/key");
        assert!(text.contains("build it with `--features object-store`"), "{text}");
        assert!(problem("ftp://host/file").contains("there are no inputs ftp://"));
    }
}
