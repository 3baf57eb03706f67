//! The URL of an object or of many, taken apart.

use object_store::path::Path;

/// A store and a key in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In small letters.
    pub(super) scheme: String,
    /// The bucket, the container, or the host; may be empty.
    pub(super) bucket: String,
    /// The key, a prefix of keys, or a pattern; without the slash behind the bucket.
    pub(super) key: String,
}

impl Place {
    /// Takes a URL apart.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| format!("{url} is no URL: it has no scheme"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let scheme = scheme.to_ascii_lowercase();
        if bucket.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(format!(
                "an input {scheme}://... holds a password, which would be shown and stored with the job; leave it out, \
                 and give credentials in the environment"
            ));
        }
        let place = Self { scheme, bucket: bucket.to_string(), key: key.to_string() };
        if place.is_web() && rest.contains('?') {
            // It may be a signature, and so a secret.
            let scheme = place.scheme;
            return Err(format!(
                "an input {scheme}://... has a query (?...); only plain addresses can be read"
            ));
        }
        if !place.is_web() && bucket.contains(crate::mapreduce::input::WILDCARDS) {
            return Err(format!("the input {url} has a pattern in its bucket; it may stand in the key only"));
        }
        if place.scheme == "file" && !place.bucket.is_empty() {
            return Err(format!("the input {url} names a host; a file of this machine is file:///path"));
        }
        Ok(place)
    }

    /// The URL of the store.
    pub(super) fn root(&self) -> String {
        format!("{}://{}", self.scheme, self.bucket)
    }

    /// The URL of an object in the same store.
    pub(super) fn url(&self, path: &Path) -> String {
        let root = self.root();
        if self.is_web() {
            format!("{root}/{}", path.as_ref().replace('%', "%25"))
        } else {
            format!("{root}/{path}")
        }
    }

    /// The key as the store knows it.
    pub(super) fn path(&self) -> Result<Path, String> {
        // Keys stand in URLs as they are, as all tools have it; only web addresses are encoded.
        let path = if self.is_web() { Path::from_url_path(&self.key) } else { Path::parse(&self.key) };
        path.map_err(|error| format!("the input {}/{} is wrong: {error}", self.root(), self.key))
    }

    pub(super) fn is_web(&self) -> bool {
        matches!(self.scheme.as_str(), "http" | "https")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart_and_put_together_again() {
        for (url, bucket, path) in [
            ("s3://b/a key/50%/x.txt", "b", "a key/50%/x.txt"),
            ("gs://b/x", "b", "x"),
            ("file:///tmp/x#1.gz", "", "tmp/x#1.gz"),
            (
                "abfss://container@account.dfs.core.windows.net/x",
                "container@account.dfs.core.windows.net",
                "x",
            ),
            ("https://host:8080/100%25/x", "host:8080", "100%/x"),
        ] {
            let place = Place::parse(url).expect(url);
            let found = place.path().expect(url);
            assert_eq!((place.bucket.as_str(), found.as_ref()), (bucket, path), "{url}");
            assert_eq!(place.url(&found), url);
        }
        assert_eq!(Place::parse("https://h/a%20b").expect("a URL").path().expect("a path").as_ref(), "a b");
        assert_eq!(Place::parse("S3://bucket").expect("a URL").path().expect("a path").as_ref(), "");
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for url in ["https://me:secret@host/x", "s3://key:secret@bucket/x", "https://host/x?sig=secret"] {
            let problem = Place::parse(url).expect_err(url);
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert!(Place::parse("s3://b*/x").expect_err("a pattern").contains("in its bucket"));
        assert!(Place::parse("file://tmp/x").expect_err("a host").contains("file:///path"));
        let twice = Place::parse("s3://b/a//x").expect("a URL").path();
        assert!(twice.expect_err("an empty part").contains("the input s3://b/a//x is wrong"));
    }
}
