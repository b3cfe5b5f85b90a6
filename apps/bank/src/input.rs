//! Payments read from CSV as a stream: memory does not grow with the input.
//!
//! The first line names the columns; `from`, `to` and `amount` must be among them, in any order,
//! and further columns are ignored. Every other line is a payment; its numbers are whole, may be
//! quoted and may have spaces around them. Blank lines are skipped. A line that is no payment is
//! told with its number and why, and reading goes on behind it.
//!
//! Lines are split here and fields by `csv-core`, and not both by `csv`: there a quote that is
//! never closed swallows the rest of the input, and the position of a record is that of the blank
//! lines before it, or of the line before where lines end in CR LF.

use std::io::{self, BufRead, Read};

use csv_core::{ReadRecordResult, Reader};
use thiserror::Error;

/// The longest line, in bytes, its end included.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How much of a bad field is shown.
const SHOWN_CHARS_MAX: usize = 40;

/// A payment somebody wants made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Where it stands in its file; the header is on line 1.
    pub line: u64,
    pub from: u64,
    pub to: u64,
    pub amount: u64,
}

/// What may come instead of a payment.
#[derive(Debug, Error)]
pub enum InputError {
    /// A line is no payment. The next one may be.
    #[error("line {line}: {fault}")]
    BadLine { line: u64, fault: LineFault },
    /// Reading failed, or copying what was made. Nothing more will come.
    #[error("after line {line}: {source}")]
    Failed { line: u64, source: io::Error },
}

/// Why a line is no payment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineFault {
    #[error("{found} fields, where the header has {expected}")]
    Fields { found: usize, expected: usize },
    #[error("{column} is `{text}`, not a whole number from 0 to {}", u64::MAX)]
    Number { column: &'static str, text: String },
    #[error("a quote is not closed")]
    OpenQuote,
    #[error("longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
}

/// The first line does not name the columns.
#[derive(Debug, Error)]
pub enum HeaderError {
    #[error("the first line must name the columns from, to and amount; it is `{found}`, without `{missing}`")]
    Missing { missing: &'static str, found: String },
    #[error("the first line must name the columns from, to and amount; it cannot be read: {0}")]
    BadLine(LineFault),
    #[error("there is nothing to read, not even a first line with the columns from, to and amount")]
    Empty,
    #[error("cannot be read: {0}")]
    Failed(#[from] io::Error),
}

const COLUMNS: [&str; 3] = ["from", "to", "amount"];

/// Reads payments.
pub struct CsvPayments<R> {
    lines: Lines<R>,
    /// How many fields the header has.
    fields: usize,
    /// Which of them are those of [`COLUMNS`].
    places: [usize; 3],
    failed: bool,
}

impl<R: BufRead> CsvPayments<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// If it cannot be read or lacks a column.
    pub fn new(input: R) -> Result<Self, HeaderError> {
        let mut lines = Lines::new(input);
        if !lines.next()? {
            return Err(HeaderError::Empty);
        }
        let fields = lines.split().map_err(HeaderError::BadLine)?;
        let mut places = [0; 3];
        for (place, name) in places.iter_mut().zip(COLUMNS) {
            let found = (0..fields).find(|&field| lines.field(field) == name.as_bytes());
            *place = found.ok_or_else(|| HeaderError::Missing {
                missing: name,
                found: shown(lines.bytes.trim_ascii()),
            })?;
        }
        Ok(CsvPayments { lines, fields, places, failed: false })
    }

    fn numbers(&mut self) -> Result<[u64; 3], LineFault> {
        let found = self.lines.split()?;
        if found != self.fields {
            return Err(LineFault::Fields { found, expected: self.fields });
        }
        let mut numbers = [0; 3];
        for ((number, place), column) in numbers.iter_mut().zip(self.places).zip(COLUMNS) {
            let field = self.lines.field(place);
            let parsed = std::str::from_utf8(field).ok().and_then(|text| text.parse().ok());
            *number = parsed.ok_or_else(|| LineFault::Number { column, text: shown(field) })?;
        }
        Ok(numbers)
    }
}

impl<R: BufRead> Iterator for CsvPayments<R> {
    type Item = Result<Payment, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let more = self.lines.next();
        let line = self.lines.number;
        match more {
            Ok(false) => None,
            Ok(true) => Some(match self.numbers() {
                Ok([from, to, amount]) => Ok(Payment { line, from, to, amount }),
                Err(fault) => Err(InputError::BadLine { line, fault }),
            }),
            Err(source) => {
                self.failed = true;
                Some(Err(InputError::Failed { line, source }))
            }
        }
    }
}

/// The lines of an input, and the fields of the current one.
struct Lines<R> {
    input: R,
    /// Of the current line, from 1.
    number: u64,
    /// The current line; always ends in a line end unless it is too long.
    bytes: Vec<u8>,
    splitter: Reader,
    /// Its fields, one behind the other, and where each ends. As long as the longest line, so that
    /// they never overflow.
    fields: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Self {
        Lines {
            input,
            number: 0,
            bytes: Vec::new(),
            splitter: Reader::new(),
            fields: vec![0; LINE_BYTES_MAX + 1],
            ends: vec![0; LINE_BYTES_MAX + 1],
        }
    }

    /// Goes to the next line that is not blank; false if there is none.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            self.bytes.clear();
            let read = (&mut self.input).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.bytes)?;
            if read == 0 {
                return Ok(false);
            }
            self.number += 1;
            if self.bytes.last() != Some(&b'\n') {
                if read == LINE_BYTES_MAX {
                    self.input.skip_until(b'\n')?;
                    return Ok(true);
                }
                self.bytes.push(b'\n');
            }
            if !self.bytes.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// Splits the current line into fields and says how many they are.
    fn split(&mut self) -> Result<usize, LineFault> {
        if self.bytes.last() != Some(&b'\n') {
            return Err(LineFault::TooLong);
        }
        self.splitter.reset();
        let (result, _, _, ends) = self.splitter.read_record(&self.bytes, &mut self.fields, &mut self.ends);
        match result {
            ReadRecordResult::Record => Ok(ends),
            // The line end was taken for a part of a quoted field.
            _ => Err(LineFault::OpenQuote),
        }
    }

    /// A field of the current line, without the spaces around it.
    fn field(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.fields[start..self.ends[index]].trim_ascii()
    }
}

/// Bytes as they can be shown: not many, and without control characters, which could do things to a
/// terminal.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(printable).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
