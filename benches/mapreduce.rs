//! MapReduce on one machine, beside what people would use instead. `cargo bench --bench mapreduce`
//!
//! `QUORATE_BENCH_MB` is the size of the input in MB (1000 by default); `QUORATE_BENCH_ONLY` runs the rows whose names
//! hold that text; `QUORATE_BENCH_DIR` is where files go (by default, the directory for temporary files). Every row is
//! a process of its own; its time, processor time and largest resident memory are the kernel's, which does not report
//! less memory than this program has itself when it starts the row. The last column is its time as a multiple of the
//! time of the first row of its kind, which is Quorate. All outputs are compared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use hashbrown::HashMap;
use quorate::mapreduce::generate::{Text, records};

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, path] = &args[..]
        && mode == "ceiling"
    {
        return ceiling(Path::new(path));
    }
    let megabytes: u64 =
        std::env::var("QUORATE_BENCH_MB").map_or(1000, |text| text.parse().expect("a size in MB"));
    let parent = std::env::var_os("QUORATE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("quorate-bench-").tempdir_in(parent)?;
    let bench = Bench {
        dir: dir.path().to_path_buf(),
        only: std::env::var("QUORATE_BENCH_ONLY").unwrap_or_default(),
        bytes: megabytes * 1_000_000,
        first: RefCell::default(),
    };
    println!("{megabytes} MB, {} processors", std::thread::available_parallelism()?);
    println!("{:<44} {:>8} {:>8} {:>8} {:>9} {:>6}", "", "s", "cpu s", "MB/s", "peak MiB", "times");
    bench.word_count()?;
    bench.sort()?;
    bench.memory()?;
    bench.small()
}

struct Bench {
    dir: PathBuf,
    only: String,
    bytes: u64,
    /// The kind of the rows that are run, and how long the first of them took.
    first: RefCell<Option<(String, f64)>>,
}

impl Bench {
    fn word_count(&self) -> io::Result<()> {
        let rows = [
            "word count: quorate",
            "word count: hash map per thread",
            "word count: mawk",
            "word count: tr | sort | uniq",
        ];
        if !rows.iter().any(|row| row.contains(&self.only)) {
            return Ok(());
        }
        let mut text = Text::new(1);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(self.dir.join("text"))?);
        text.write(self.bytes, &mut file)?;
        file.flush()?;
        let answer = text.counts();
        let quorate = env!("CARGO_BIN_EXE_quorate");
        let own = std::env::current_exe()?.display().to_string();
        let commands = [
            format!("{quorate} mr run wc --input text --output out >/dev/null && cat out/part* && rm -r out"),
            format!("{own} ceiling text"),
            "mawk -F '[^A-Za-z]+' '{ for (i = 1; i <= NF; i++) if ($i != \"\") n[$i]++ } \
             END { for (w in n) print w \"\\t\" n[w] }' text"
                .to_string(),
            "tr -cs A-Za-z '\\n' < text | LC_ALL=C sort | uniq -c | awk '{ print $2 \"\\t\" $1 }'"
                .to_string(),
        ];
        for (row, command) in rows.iter().zip(&commands) {
            if self.run(row, command, self.bytes)? {
                let found = fs::read_to_string(self.dir.join("found"))?;
                let found: BTreeMap<String, u64> = found
                    .lines()
                    .filter_map(|line| line.split_once('\t'))
                    .map(|(word, count)| (word.to_string(), count.parse().expect("a number")))
                    .collect();
                assert!(found == answer, "{row}: wrong counts");
            }
        }
        fs::remove_file(self.dir.join("text"))
    }

    fn sort(&self) -> io::Result<()> {
        let rows = ["sort: quorate", "sort: LC_ALL=C sort --parallel=2", "sort: the same with sync"];
        if !rows.iter().any(|row| row.contains(&self.only)) {
            return Ok(());
        }
        let mut file = BufWriter::with_capacity(1 << 20, File::create(self.dir.join("records"))?);
        records(1, self.bytes / 100, &mut file)?;
        file.flush()?;
        let quorate = env!("CARGO_BIN_EXE_quorate");
        let sorted = |command: &str, row: &str| -> io::Result<Option<u32>> {
            let _ = fs::remove_dir_all(self.dir.join("out"));
            fs::create_dir(self.dir.join("other"))?;
            let ran = self.run(row, command, self.bytes)?;
            let place = self.dir.join(if self.dir.join("out").exists() { "out" } else { "other" });
            let sum = checksum(&place);
            fs::remove_dir_all(self.dir.join("other"))?;
            Ok(if ran { Some(sum?) } else { None })
        };
        let sums = [
            sorted(&format!("{quorate} mr run sort --input records --output out >/dev/null"), rows[0])?,
            sorted("LC_ALL=C sort --parallel=2 records -o other/sorted", rows[1])?,
            sorted("LC_ALL=C sort --parallel=2 records -o other/sorted && sync other/sorted", rows[2])?,
        ];
        let sums: Vec<u32> = sums.into_iter().flatten().collect();
        assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "the outputs differ");
        fs::remove_file(self.dir.join("records"))
    }

    /// What grows with the input, and what does not: ten times as much text, and a key that has half of all values.
    fn memory(&self) -> io::Result<()> {
        let quorate = env!("CARGO_BIN_EXE_quorate");
        let rows = ["memory: word count of ten times as much", "memory: one key has half of all values"];
        if rows[0].contains(&self.only) {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(self.dir.join("text"))?);
            Text::new(1).write(10 * self.bytes, &mut file)?;
            file.flush()?;
            let command = format!("{quorate} mr run wc --input text --output out >/dev/null && rm -r out");
            self.run(rows[0], &command, 10 * self.bytes)?;
            fs::remove_file(self.dir.join("text"))?;
        }
        if rows[1].contains(&self.only) {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(self.dir.join("pairs"))?);
            let mut written = 0;
            for number in 0u64.. {
                if written >= self.bytes {
                    break;
                }
                let key = if number % 2 == 0 { 0 } else { number };
                let line = format!("key-{key}\tvalue {number} of this key\n");
                file.write_all(line.as_bytes())?;
                written += line.len() as u64;
            }
            file.flush()?;
            // The reducer is compiled in, and writes every pair as it is.
            let command = format!(
                "{quorate} mr stream --mapper cat --input pairs --output out >/dev/null && \
                 test $(cat out/part* | wc -c) = $(wc -c < pairs) && rm -r out"
            );
            self.run(rows[1], &command, self.bytes)?;
            fs::remove_file(self.dir.join("pairs"))?;
        }
        Ok(())
    }

    /// What a job costs beside its work.
    fn small(&self) -> io::Result<()> {
        fs::write(self.dir.join("small"), "a small file\n")?;
        let quorate = env!("CARGO_BIN_EXE_quorate");
        for row in ["one small file: quorate", "one small file: once more"] {
            let command = format!("{quorate} mr run wc --input small --output out >/dev/null && rm -r out");
            self.run(row, &command, 13)?;
        }
        Ok(())
    }

    /// Runs a row, with its standard output in the file `found`.
    #[allow(clippy::zombie_processes, reason = "wait4 waits for it")]
    fn run(&self, row: &str, command: &str, bytes: u64) -> io::Result<bool> {
        if !row.contains(&self.only) {
            return Ok(false);
        }
        let found = File::create(self.dir.join("found"))?;
        let start = Instant::now();
        let child = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.dir)
            .stdout(Stdio::from(found))
            .spawn()?;
        let process = i32::try_from(child.id()).expect("a process number");
        let mut status = 0;
        // SAFETY: all zeros is a valid value of these numbers; the pointers are to values that live through the call.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::wait4(process, &raw mut status, 0, &raw mut usage), process);
            usage
        };
        assert_eq!(status, 0, "{command}");
        let seconds = start.elapsed().as_secs_f64();
        let time = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        let kind = row.split(':').next().unwrap_or_default();
        let mut first = self.first.borrow_mut();
        let base = match &*first {
            Some((name, base)) if name == kind => *base,
            _ => first.insert((kind.to_string(), seconds)).1,
        };
        println!(
            "{row:<44} {seconds:>8.3} {:>8.2} {:>8.0} {:>9} {:>6.2}",
            time(usage.ru_utime) + time(usage.ru_stime),
            bytes as f64 / 1e6 / seconds,
            usage.ru_maxrss >> 10,
            seconds / base,
        );
        Ok(true)
    }
}

/// The checksum of all files of a directory, in the order of their names.
fn checksum(path: &Path) -> io::Result<u32> {
    let mut files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
    }
    Ok(hasher.finalize())
}

/// The same work without a framework: a part of the file and a hash map for each thread.
fn ceiling(path: &Path) -> io::Result<()> {
    let threads = std::thread::available_parallelism()?.get() as u64;
    let length = fs::metadata(path)?.len();
    let counts = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || count(path, length * n / threads, length * (n + 1) / threads)))
            .collect();
        let mut counts: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for part in parts {
            for (word, count) in part.join().expect("no panic")? {
                *counts.entry(word).or_default() += count;
            }
        }
        io::Result::Ok(counts)
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    for (word, count) in counts {
        out.write_all(&word)?;
        writeln!(out, "\t{count}")?;
    }
    out.flush()
}

/// Counts the words of the lines that begin in a part of a file.
fn count(path: &Path, start: u64, end: u64) -> io::Result<HashMap<Vec<u8>, u64>> {
    let mut file = File::open(path)?;
    let mut at = start.saturating_sub(1);
    file.seek(SeekFrom::Start(at))?;
    let mut counts: HashMap<Vec<u8>, u64> = HashMap::new();
    let mut buffer = vec![0; 1 << 20];
    let mut kept = 0;
    let mut skipping = start > 0;
    loop {
        let read = file.read(&mut buffer[kept..])?;
        let filled = kept + read;
        // Up to the last line end; a line is far shorter than the buffer.
        let whole =
            if read == 0 { filled } else { memchr::memrchr(b'\n', &buffer[..filled]).map_or(0, |at| at + 1) };
        let mut from = 0;
        if skipping {
            from = memchr::memchr(b'\n', &buffer[..whole]).map_or(whole, |at| at + 1);
            skipping = from == whole && read > 0;
        }
        let mut upto = whole;
        if at + whole as u64 >= end {
            let last = usize::try_from(end.saturating_sub(at + 1)).expect("within the buffer").max(from);
            upto = memchr::memchr(b'\n', &buffer[last..whole]).map_or(whole, |at| last + at + 1);
        }
        for word in
            buffer[from..upto].split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty())
        {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_vec(), 1)),
            }
        }
        at += whole as u64;
        if at >= end || read == 0 {
            return Ok(counts);
        }
        buffer.copy_within(whole..filled, 0);
        kept = filled - whole;
    }
}
