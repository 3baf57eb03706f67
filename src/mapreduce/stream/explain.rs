//! What a user is told when a command fails: where, how, its last words, and how to repeat it by hand.

use std::fmt::Write;

use super::command::Command;
use super::process::Broken;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::Function;
use crate::logic::mapreduce::split::{Compression, Split, is_url};
use crate::mapreduce::records::lines_of;

pub(super) fn failure(command: &Command<'_>, broken: Broken) -> TaskFailure {
    let (how, tail) = match broken {
        Broken::Otherwise(failure) => return failure,
        Broken::NotStarted(error) => return TaskFailure::machine(format!("cannot start sh: {error}")),
        Broken::LongLine(longest) => (
            format!("wrote a line longer than {longest} bytes; if that is no mistake, raise --max-record"),
            String::new(),
        ),
        Broken::Ended { how, tail } => (how, tail),
    };
    let mut text = format!("the {} `{}` {how}", command.role, command.line);
    if let Some(split) = command.split {
        let (from, to) = (split.offset, split.offset + split.length);
        let _ = write!(text, "\n  input: {}, bytes {from} to {to}", split.file);
    }
    match tail.as_str() {
        "" => text.push_str("\n  it wrote nothing to standard error"),
        tail => {
            text.push_str("\n  the end of its standard error:");
            for line in tail.lines() {
                let _ = write!(text, "\n    {line}");
            }
        }
    }
    if let Some(again) = reproduction(command) {
        let _ = write!(text, "\n  to see it again: {again}");
    }
    TaskFailure::function(text)
}

/// A line for a shell that does what the command had to do.
fn reproduction(command: &Command<'_>) -> Option<String> {
    match command.split {
        Some(split) => Some(format!("{} | {}", cut_out(split), run(command.line, command))),
        None if command.role == "reducer" => whole_job(command),
        None => None,
    }
}

/// The job by hand, with the inputs as they were given and one reducer for all keys.
fn whole_job(command: &Command<'_>) -> Option<String> {
    let job = &command.setup.job;
    let Function::Command { line: mapper } = &job.mapper else { return None };
    let sort = format!(
        "LC_ALL=C sort -s -t {} -k1,{}",
        quote(&char::from(job.fields.separator).to_string()),
        job.fields.key_fields
    );
    let inputs = if job.inputs.iter().any(|input| is_url(input)) {
        let words: Vec<String> = job.inputs.iter().map(|input| quote(input)).collect();
        format!("quorate mr cat {}", words.join(" "))
    } else {
        // Globs stay unquoted, so that the shell finds the same files.
        format!("cat {}", job.inputs.join(" "))
    };
    let reducer = run(command.line, command);
    Some(format!("{inputs} | sh -c {} | {sort} | {reducer}", quote(mapper)))
}

fn cut_out(split: &Split) -> String {
    let file = quote(&split.file);
    if is_url(&split.file) {
        let bytes = match split.compression {
            Compression::Plain => format!(" --bytes {}-{}", split.offset, split.offset + split.length),
            _ => String::new(),
        };
        return format!("quorate mr cat {file}{bytes}");
    }
    match split.compression {
        Compression::Gzip => format!("gzip -dc {file}"),
        Compression::Zstd => format!("zstd -dc {file}"),
        Compression::Plain => match lines_of(split) {
            Ok(lines) => format!("tail -c +{} {file} | head -c {}", lines.start + 1, lines.end - lines.start),
            Err(_) => format!("cat {file}"),
        },
    }
}

fn run(line: &str, command: &Command<'_>) -> String {
    let file = command.split.map(|split| format!("mapreduce_map_input_file={} ", quote(&split.file)));
    let own = command.setup.job.environment.iter().map(|(name, value)| format!("{name}={} ", quote(value)));
    let variables: String = file.into_iter().chain(own).collect();
    format!("{variables}sh -c {}", quote(line))
}

/// A word that a shell takes as it is.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for word in ["", "plain.txt", "two words", "it's", "$HOME `x` \"y\" \\", "a\nb\t"] {
            let out = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", quote(word)))
                .output()
                .expect("sh runs");
            assert_eq!(String::from_utf8_lossy(&out.stdout), word);
        }
    }
}
