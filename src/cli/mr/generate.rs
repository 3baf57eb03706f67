//! mr generate: input for trying things out, from a seed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::output::Output;
use crate::cli::text::{parse_size, size_text};
use crate::mapreduce::generate::{Text, records};
use crate::node::exit::{self, Failure};

/// Bytes of one generated record.
const RECORD: u64 = 100;

/// Write input for trying things out: text with a known number of each word, or records to sort.
///
/// The same seed gives the same bytes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate mr generate text --size 1G --to text.txt --answer words.tsv
  quorate mr generate records --size 1G --to records.txt")]
pub(super) struct Args {
    /// text: lines of words as frequent as in a language. records: lines of 100 bytes that begin with ten random ones
    kind: Kind,
    /// How much, about
    #[arg(long, value_name = "SIZE", default_value = "100M", value_parser = parse_size)]
    size: u64,
    /// Where it comes from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The file to write; one that exists is replaced
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Write how often each word occurs: what `mr run wc` must find
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,
    /// Output for programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Text,
    Records,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        if self.answer.is_some() && self.kind != Kind::Text {
            return Err(Failure::usage("only text has an answer; leave out --answer"));
        }
        let mut answer = None;
        let written = write_file(&self.to, |file| match self.kind {
            Kind::Records => {
                let count = self.size.div_ceil(RECORD);
                records(self.seed, count, file).map(|()| count * RECORD)
            }
            Kind::Text => {
                let mut text = Text::new(self.seed);
                let written = text.write(self.size, file)?;
                answer = Some(text.counts());
                Ok(written)
            }
        })?;
        if let (Some(path), Some(counts)) = (&self.answer, answer) {
            write_file(path, |file| {
                counts.iter().try_for_each(|(word, count)| writeln!(file, "{word}\t{count}"))?;
                Ok(0)
            })?;
        }
        let mut out = Output::new(self.json);
        let to = self.to.display();
        out.either(
            format_args!("{to}: {}", size_text(written)),
            &json!({"file": to.to_string(), "bytes": written}),
        )?;
        out.flush()?;
        Ok(exit::OK)
    }
}

fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<u64>,
) -> Result<u64, Failure> {
    let written = File::create(path).and_then(|file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let written = write(&mut file)?;
        file.flush()?;
        Ok(written)
    });
    written
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot write {}: {error}", path.display())))
}
