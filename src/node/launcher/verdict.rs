//! What the end of a node process means.

use super::child::Ending;
use crate::logic::restart::RestartPolicy;
use crate::node::exit;

/// What to do about a node process that ended without having been told to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may work next time, within the restart policy.
    Restart,
    /// It would fail again; the text says what a person has to do.
    LeaveDown(String),
}

pub(super) fn verdict(ending: &Ending) -> Verdict {
    let said = ending.last_words.as_ref().map_or(String::new(), |words| format!("; it said: {words}"));
    match ending.code.map(u8::try_from) {
        Some(Ok(exit::USAGE)) => Verdict::LeaveDown(format!(
            "its configuration or data directory is refused, so it is left down and the others carry on; \
             correct what it names and run `quorate up` again{said}"
        )),
        Some(Ok(exit::DAMAGED)) => Verdict::LeaveDown(format!(
            "its data are damaged, so it is left down and the others carry on; keep a copy of its data directory \
             before you change anything{said}"
        )),
        _ => Verdict::Restart,
    }
}

pub(super) fn too_often(policy: &RestartPolicy) -> String {
    format!(
        "that was more than {} failures within {} s, so it is left down and the others carry on; \
         its lines above say why, and launcher.max_restarts sets the limit",
        policy.max_restarts,
        policy.window.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(code: Option<i32>) -> Ending {
        Ending { code, what: "ended".into(), last_words: Some("disk of sorrows".into()) }
    }

    #[test]
    fn only_refused_configurations_and_damaged_data_are_not_tried_again() {
        for code in [Some(0), Some(1), Some(3), Some(70), Some(101), Some(134), Some(-1), None] {
            assert_eq!(verdict(&ending(code)), Verdict::Restart, "{code:?}");
        }
        for code in [2, 65] {
            let Verdict::LeaveDown(advice) = verdict(&ending(Some(code))) else {
                panic!("{code} was restarted")
            };
            assert!(advice.ends_with("it said: disk of sorrows"), "{advice}");
        }
    }
}
