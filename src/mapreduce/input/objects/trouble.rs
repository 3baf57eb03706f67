//! What can go wrong with a store, and what it means for a job.

use std::error::Error as _;
use std::io;

use object_store::Error;

use super::background::PATIENCE;
use crate::logic::mapreduce::failure::{Cause, TaskFailure};

/// Of what a server says, so many characters are shown: some answer with whole pages.
const SHOWN: usize = 400;
/// Where clients without credentials ask who the machine is, in every cloud.
const MACHINE_IDENTITY: &str = "://169.254.169.254/";

/// Why a request brought nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The store said so.
    Store(Error),
    /// It said nothing in time.
    Silence,
    /// It sent less than it announced.
    Short,
    /// The object is another than at the first request.
    Replaced,
    /// Nothing is below the prefix or matches the pattern.
    Nothing,
    /// A key cannot be used.
    Key(String),
    /// Nobody wants it any more.
    Cancelled,
    /// The store's client has a bug.
    Panicked,
    /// There is no thread to ask from.
    NoThread(io::Error),
}

impl Trouble {
    /// The failure of a task that wanted to do something with an object, such as `"read s3://bucket/key"`.
    pub(super) fn failure(&self, url: &str, deed: &str) -> TaskFailure {
        TaskFailure::new(self.cause(), self.text(url, deed))
    }

    /// Another attempt helps where it depends on the network, the server or this machine.
    fn cause(&self) -> Cause {
        match self {
            Self::Cancelled => Cause::Cancelled,
            Self::Replaced | Self::Nothing | Self::Key(_) => Cause::Hopeless,
            Self::Store(
                Error::NotFound { .. }
                | Error::Precondition { .. }
                | Error::PermissionDenied { .. }
                | Error::Unauthenticated { .. }
                | Error::InvalidPath { .. }
                | Error::NotSupported { .. }
                | Error::NotImplemented { .. },
            ) => Cause::Hopeless,
            Self::Store(_) | Self::Silence | Self::Short | Self::Panicked | Self::NoThread(_) => {
                Cause::Machine
            }
        }
    }

    /// What happened, for people.
    pub(super) fn text(&self, url: &str, deed: &str) -> String {
        let cannot = format!("cannot {deed}");
        match self {
            Self::Store(Error::NotFound { .. }) => format!("{cannot}: there is no such object"),
            Self::Store(Error::Precondition { .. }) | Self::Replaced => format!(
                "{cannot}: the object was replaced while it was read; run the job again when it stays as it is"
            ),
            Self::Store(error @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. })) => format!(
                "{cannot}: the store does not allow it; look at the credentials in the environment ({}): {}",
                variables(url),
                short(error)
            ),
            Self::Store(error) => {
                let said = short(error);
                let hint = if said.contains(MACHINE_IDENTITY) {
                    format!(
                        "; there are no credentials in the environment ({}), and the machine has none",
                        variables(url)
                    )
                } else {
                    String::new()
                };
                format!("{cannot}: {said}{hint}")
            }
            Self::Silence => format!("{cannot}: the store gave no answer for {} s", PATIENCE.as_secs()),
            Self::Short => format!("{cannot}: the store sent less than it announced"),
            Self::Nothing => format!("there is no object {url}, nor one below it or matching it"),
            Self::Key(text) => text.clone(),
            Self::Cancelled => TaskFailure::cancelled().message,
            Self::Panicked => format!("{cannot}: the client of the store panicked"),
            Self::NoThread(error) => format!("{cannot}: cannot start a thread: {error}"),
        }
    }
}

/// The variables that hold the credentials of a store.
fn variables(url: &str) -> &'static str {
    match url.split(':').next().unwrap_or_default() {
        "gs" => "GOOGLE_SERVICE_ACCOUNT, GOOGLE_APPLICATION_CREDENTIALS",
        "az" | "abfs" | "abfss" => "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY",
        _ => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
    }
}

/// The beginning of an error, on one line, and what is at the bottom of it.
pub(super) fn short(error: &Error) -> String {
    let text = error.to_string();
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(SHOWN) {
        words.truncate(end);
        words.push_str("...");
    }
    let mut cause = error.source();
    while let Some(below) = cause.and_then(|cause| cause.source()) {
        cause = Some(below);
    }
    match cause.map(ToString::to_string) {
        // Clients of HTTP keep to themselves that a connection was refused.
        Some(cause) if cause.len() <= SHOWN && !text.contains(&cause) => format!("{words}: {cause}"),
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_attempt_may_mend_is_told_from_what_it_cannot() {
        let source = || "why".into();
        let path = || "k".to_string();
        let cause = |error| Trouble::Store(error).failure("s3://b/k", "read s3://b/k").cause;
        assert_eq!(cause(Error::NotFound { path: path(), source: source() }), Cause::Hopeless);
        assert_eq!(cause(Error::PermissionDenied { path: path(), source: source() }), Cause::Hopeless);
        assert_eq!(cause(Error::Precondition { path: path(), source: source() }), Cause::Hopeless);
        assert_eq!(cause(Error::Generic { store: "S3", source: source() }), Cause::Machine);
        assert_eq!(Trouble::Silence.failure("s3://b/k", "read s3://b/k").cause, Cause::Machine);
        assert_eq!(Trouble::Cancelled.failure("s3://b/k", "read s3://b/k"), TaskFailure::cancelled());
    }

    #[test]
    fn missing_credentials_and_what_is_at_the_bottom_are_told() {
        let at_the_bottom = io::Error::other(io::Error::other(io::Error::other("Connection refused")));
        let text =
            |source| Trouble::Store(Error::Generic { store: "S3", source }).text("gs://b/k", "read gs://b/k");
        let said = text(Box::new(NoWords(at_the_bottom)));
        assert_eq!(said, "cannot read gs://b/k: Generic S3 error: no words: Connection refused");
        let said = text("GET http://169.254.169.254/token: 403".into());
        assert!(said.contains("no credentials in the environment (GOOGLE_SERVICE_ACCOUNT"), "{said}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no words")]
    struct NoWords(#[source] io::Error);

    #[test]
    fn a_page_of_a_server_is_cut() {
        let source = format!("<html>\n{}", "é".repeat(5000)).into();
        let text = Trouble::Store(Error::Generic { store: "S3", source }).text("s3://b/k", "read s3://b/k");
        assert!(
            text.starts_with("cannot read s3://b/k: Generic S3 error: <html> éé") && text.len() < 1000,
            "{text}"
        );
    }
}
