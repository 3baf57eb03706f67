//! From an input to the objects that it names.

use std::sync::Arc;

use futures_util::TryStreamExt as _;
use glob::{MatchOptions, Pattern};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _};

use super::background::in_time;
use super::place::Place;
use super::trouble::Trouble;
use crate::logic::mapreduce::split::InputFile;
use crate::mapreduce::input::WILDCARDS;

/// As for files: a `*` does not go over a slash.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Finds the objects of a place, sorted by key; if there are more than `most`, one more than that.
pub(super) async fn search(
    store: Arc<dyn ObjectStore>,
    place: Place,
    most: usize,
) -> Result<Vec<InputFile>, Trouble> {
    let path = place.path().map_err(Trouble::Key)?;
    if !place.key.is_empty() && !place.key.ends_with('/') {
        match in_time(store.head(&path)).await {
            Ok(found) => return Ok(vec![input(&place, &found)]),
            Err(Trouble::Store(Error::NotFound { .. })) => {}
            Err(trouble) => return Err(trouble),
        }
    }
    let wanted = Wanted::of(&path).map_err(Trouble::Key)?;
    let mut listed = store.list(Some(&wanted.prefix));
    let mut found = Vec::new();
    loop {
        let object = match in_time(listed.try_next()).await {
            Ok(Some(object)) => object,
            Ok(None) => break,
            // Few web servers can list. That the object is not there is known from the question before.
            Err(Trouble::Store(_)) if place.is_web() && wanted.pattern.is_none() => {
                return Err(Trouble::Nothing);
            }
            Err(trouble) => return Err(trouble),
        };
        if wanted.fits(object.location.as_ref()) {
            found.push(input(&place, &object));
        }
        if found.len() > most {
            break;
        }
    }
    if found.is_empty() {
        return Err(Trouble::Nothing);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn input(place: &Place, object: &ObjectMeta) -> InputFile {
    InputFile { path: place.url(&object.location), length: object.size }
}

/// Which objects are meant.
struct Wanted {
    /// All of them are below it.
    prefix: Path,
    pattern: Option<Pattern>,
}

impl Wanted {
    fn of(path: &Path) -> Result<Self, String> {
        let key = path.as_ref();
        let Some(wildcard) = key.find(WILDCARDS) else {
            return Ok(Self { prefix: path.clone(), pattern: None });
        };
        let pattern = Pattern::new(key).map_err(|error| {
            format!("the input pattern {key:?} is wrong at character {}: {}", error.pos, error.msg)
        })?;
        let literal = key[..wildcard].rsplit_once('/').map_or("", |(literal, _)| literal);
        let prefix = Path::parse(literal).map_err(|error| format!("the input pattern {key:?}: {error}"))?;
        Ok(Self { prefix, pattern: Some(pattern) })
    }

    /// As for files, a pattern may match the key or something above it, which then stands for all below it.
    fn fits(&self, key: &str) -> bool {
        match &self.pattern {
            None => is_shown(&key[self.prefix.as_ref().len()..]),
            Some(pattern) => {
                let mut ends = key.match_indices('/').map(|(at, _)| at).chain([key.len()]);
                ends.any(|end| pattern.matches_with(&key[..end], OPTIONS) && is_shown(&key[end..]))
            }
        }
    }
}

/// Whether none of the names in what is below a prefix or a match begins with `.` or `_`.
fn is_shown(below: &str) -> bool {
    !below.split('/').any(|name| name.starts_with(['.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 8] =
        ["a.txt", "b.txt", "c.log", "d/deep/e.txt", "d/f", "d/.hidden", "d/_tmp/g.txt", "odd[1].txt"];

    fn find(pattern: &str) -> Vec<&'static str> {
        let wanted = Wanted::of(&Path::parse(pattern).expect("a path")).expect("a pattern");
        let below = KEYS.into_iter().filter(|key| key.starts_with(wanted.prefix.as_ref()));
        below.filter(|key| wanted.fits(key)).collect()
    }

    #[test]
    fn prefixes_and_patterns_find_what_they_find_among_files() {
        assert_eq!(find("*.txt"), ["a.txt", "b.txt", "odd[1].txt"]);
        assert_eq!(find("d"), ["d/deep/e.txt", "d/f"]);
        assert_eq!(
            find("d/*"),
            ["d/deep/e.txt", "d/f", "d/.hidden", "d/_tmp/g.txt"],
            "a pattern names what it names"
        );
        assert_eq!(find("**/e.txt"), ["d/deep/e.txt"]);
        assert_eq!(find("?.[lt]*"), ["a.txt", "b.txt", "c.log"]);
        assert_eq!(find(""), ["a.txt", "b.txt", "c.log", "d/deep/e.txt", "d/f", "odd[1].txt"]);
        assert!(
            Wanted::of(&Path::parse("a/[.txt").expect("a path")).is_err_and(|text| text.contains("is wrong"))
        );
    }

    #[test]
    fn no_more_is_listed_than_a_pattern_needs() {
        for (pattern, prefix) in [("a/b*/c", "a"), ("*", ""), ("a/b/c?", "a/b"), ("ab*", "")] {
            let wanted = Wanted::of(&Path::parse(pattern).expect("a path")).expect("a pattern");
            assert_eq!(wanted.prefix.as_ref(), prefix);
        }
    }
}
