//! Mappers and reducers with types: what most programs that embed Quorate want.

use std::marker::PhantomData;

use super::function::{Emit, FunctionResult, Functions, Mapper, Record, Reducer, Values};

/// What can be a key or a value: it has a form as bytes. Keys are sorted by that form.
pub trait Field: Sized {
    /// Appends the bytes.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Reads them back. `None` if they are not of this type.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Field for String {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl Field for Vec<u8> {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Field for () {
    fn write(&self, _bytes: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

macro_rules! numbers_in_decimal {
    ($($number:ty),*) => {$(
        /// In decimal, so that output can be read. As a key, 10 comes before 9: use a wider form to sort by number.
        impl Field for $number {
            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(self.to_string().as_bytes());
            }

            fn read(bytes: &[u8]) -> Option<Self> {
                std::str::from_utf8(bytes).ok()?.parse().ok()
            }
        }
    )*};
}

numbers_in_decimal!(u32, u64, i32, i64, f64);

/// A job as one type: what it makes of a line, and what of all values of a key.
///
/// # Examples
///
/// The longest line that each word occurs in:
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicBool;
///
/// use quorate::logic::mapreduce::job::{Function, Job};
/// use quorate::mapreduce::function::{Functions, Record};
/// use quorate::mapreduce::local;
/// use quorate::mapreduce::typed::Application;
///
/// struct Longest;
///
/// impl Application for Longest {
///     type Key = String;
///     type Value = u64;
///     type Output = u64;
///
///     fn map(&mut self, record: &Record<'_>, emit: &mut dyn FnMut(String, u64)) {
///         let line = String::from_utf8_lossy(record.line);
///         line.split_whitespace().for_each(|word| emit(word.to_string(), line.len() as u64));
///     }
///
///     fn reduce(&mut self, _word: &String, lengths: &mut dyn Iterator<Item = u64>) -> Option<u64> {
///         lengths.max()
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut functions = Functions::builtin();
/// functions.application("longest", || Longest);
/// let options = local::LocalOptions { functions: Arc::new(functions), ..Default::default() };
///
/// let dir = tempfile::tempdir()?;
/// let (input, output) = (dir.path().join("in.txt"), dir.path().join("out"));
/// std::fs::write(&input, "a bee\na bird\n")?;
/// let longest = || Function::builtin("longest", vec![]);
/// let inputs = vec![input.display().to_string()];
/// let job = Job::new("longest", inputs, longest(), longest(), output.display().to_string());
///
/// local::run(job, &options, &AtomicBool::new(false), |_| ())?;
/// assert_eq!(std::fs::read_to_string(output.join("part-r-00000"))?, "a\t6\nbee\t5\nbird\t6\n");
/// # Ok(())
/// # }
/// ```
pub trait Application: Send {
    /// What values are grouped by.
    type Key: Field;
    /// What is grouped.
    type Value: Field;
    /// What is written behind a key.
    type Output: Field;

    /// Makes pairs of a line.
    fn map(&mut self, record: &Record<'_>, emit: &mut dyn FnMut(Self::Key, Self::Value));

    /// Makes a line of output of a key and its values, or none.
    fn reduce(
        &mut self,
        key: &Self::Key,
        values: &mut dyn Iterator<Item = Self::Value>,
    ) -> Option<Self::Output>;
}

impl Functions {
    /// Adds a mapper and a reducer of that name. `make` builds an application for a task.
    pub fn application<A: Application + 'static>(
        &mut self,
        name: &str,
        make: impl Fn() -> A + Clone + Send + Sync + 'static,
    ) {
        let make_too = make.clone();
        self.mapper(name, move |_: &[String]| Ok(Typed::new(make())));
        self.reducer(name, move |_: &[String]| Ok(Typed::new(make_too())));
    }
}

/// An application as a mapper or a reducer.
struct Typed<A> {
    application: A,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl<A> Typed<A> {
    fn new(application: A) -> Self {
        Self { application, key: Vec::new(), value: Vec::new() }
    }
}

impl<A: Application> Mapper for Typed<A> {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        let Self { application, key: key_bytes, value: value_bytes } = self;
        application.map(record, &mut |key, value| {
            key_bytes.clear();
            key.write(key_bytes);
            value_bytes.clear();
            value.write(value_bytes);
            out.emit(key_bytes, value_bytes);
        });
        Ok(())
    }
}

impl<A: Application> Reducer for Typed<A> {
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        let typed = A::Key::read(key).ok_or("the key is not of the type of the application")?;
        let mut values = TypedValues { values, broken: false, of: PhantomData };
        let output = self.application.reduce(&typed, &mut values);
        if values.broken {
            return Err("a value is not of the type of the application".into());
        }
        if let Some(output) = output {
            self.value.clear();
            output.write(&mut self.value);
            out.emit(key, &self.value);
        }
        Ok(())
    }
}

struct TypedValues<'a, V> {
    values: &'a mut dyn Values,
    broken: bool,
    of: PhantomData<V>,
}

impl<V: Field> Iterator for TypedValues<'_, V> {
    type Item = V;

    fn next(&mut self) -> Option<V> {
        let value = V::read(self.values.next()?);
        self.broken |= value.is_none();
        value
    }
}
