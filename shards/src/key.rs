//! Texts as ids, of 16 bytes each.
//!
//! An id is copied with every message, and compared at every access. So it is small and has no heap
//! memory, and a `String` cannot be one. A [`Key`] is what stands for a text:
//!
//! ```text
//! text of up to 15 bytes    its bytes, then zeros        the last byte: its length, 0 to 15
//! longer                    15 bytes of its SHA-256      the last byte: 255
//! ```
//!
//! A short text is its key, so two of them never share one. Two longer texts may. Chance makes no
//! such pair: among a trillion texts there is one in 2^41 databases. An attacker needs 2^60 hashes
//! to find two texts that share a key, and 2^120 to find one for another's text. Still nobody
//! should read an object of another text. So an object that is [`Named`] says its whole text, and
//! `Objects::read_named` and its siblings compare it and refuse ([`OtherName`]).
//!
//! The other way is to intern: a table that gives each text a number. It was not taken. The table
//! is one more object to lock and to log for every new text, and to ask for every old one; a key is
//! computed where the text is, by anyone, with no message.
//!
//! [`OtherName`]: crate::AccessError::OtherName

use std::fmt::{self, Debug};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::object::ObjectId;

/// The bytes of a key that stand for the text.
const TEXT_BYTES: usize = 15;
/// In the last byte: the others are a hash.
const HASHED: u8 = 255;

/// Stands for a text as an id: 16 bytes, made of any text and free to copy.
///
/// ```
/// use freehold_shard::Key;
///
/// let user = Key::new("user:42");
/// assert_eq!(user, "user:42".into());
/// assert_eq!(user.text(), Some("user:42"));
///
/// // A longer text cannot be read back from its key: keep it in the object.
/// let page = Key::new("https://example.com/a/page");
/// assert_eq!(page.text(), None);
/// assert_ne!(page, Key::new("https://example.com/another"));
/// ```
///
/// Texts of up to 15 bytes are kept as they are; of longer ones a key has 120 bits of a hash. See
/// [`Named`] for objects that must not be taken for another's in any case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key([u8; TEXT_BYTES + 1]);

impl Key {
    /// The key of this text, on every machine and in every version.
    pub fn new(text: &str) -> Key {
        let mut key = [0; TEXT_BYTES + 1];
        if text.len() <= TEXT_BYTES {
            key[..text.len()].copy_from_slice(text.as_bytes());
            key[TEXT_BYTES] = text.len() as u8;
        } else {
            key[..TEXT_BYTES].copy_from_slice(&Sha256::digest(text)[..TEXT_BYTES]);
            key[TEXT_BYTES] = HASHED;
        }
        Key(key)
    }

    /// The text, if the key has it: if it is of up to 15 bytes.
    pub fn text(&self) -> Option<&str> {
        let text = self.0[..TEXT_BYTES].get(..usize::from(self.0[TEXT_BYTES]))?;
        std::str::from_utf8(text).ok()
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Key {
        Key::new(text)
    }
}

impl From<&String> for Key {
    fn from(text: &String) -> Key {
        Key::new(text)
    }
}

impl ObjectId for Key {}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => {
                f.write_str("#")?;
                self.0[..TEXT_BYTES].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "Key({text:?})"),
            None => write!(f, "Key({self})"),
        }
    }
}

/// An object that says the text it is kept under, as a whole.
///
/// `Objects::read_named`, `write_named` and `write_named_or_insert_with` compare it with the text
/// they are given. So they never take an object for that of another text, whatever the two texts'
/// keys. The methods that are given a `Key` compare keys only.
///
/// ```
/// use freehold_shard::Named;
///
/// struct User { name: String, visits: u64 }
///
/// impl Named for User {
///     fn name(&self) -> &str {
///         &self.name
///     }
/// }
/// ```
pub trait Named {
    /// The text whose [`Key`] is the object's key.
    fn name(&self) -> &str;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_text_that_fits_is_its_key() {
        for text in ["", "a", "user:42", "\0", "\0\0", "ü", "fifteen bytes..", "ünf\u{7f}zehn bytes"] {
            assert!(text.len() <= 15, "{text}");
            assert_eq!(Key::new(text).text(), Some(text));
            assert_eq!(Key::new(text).to_string(), text);
        }
        assert_eq!(format!("{:?}", Key::new("user:42")), "Key(\"user:42\")");
    }

    /// Computed by `sha256sum`. They may never change: objects would be lost.
    #[test]
    fn a_longer_text_is_hashed() {
        let text = "sixteen bytes...";
        assert_eq!(text.len(), 16);
        let key = Key::new(text);
        assert_eq!(key.text(), None);
        assert_eq!(key.to_string(), "#0f1442166d84cb72f5a6f29b63c4e8");
        let page = Key::new("https://example.com/a/page");
        assert_eq!(format!("{page:?}"), "Key(#3ad1bed5e76dd69e394e00bf5bb61b)");
    }

    /// Among them texts that begin alike, end in zeros, or look like a hash.
    #[test]
    fn other_texts_have_other_keys() {
        let zeros = (0..40).map(|zeros| "\0".repeat(zeros));
        let numbers =
            (0..10_000).flat_map(|at| [format!("user:{at}"), format!("a longer name of user {at}")]);
        let texts: HashSet<String> = zeros.chain(numbers).collect();
        let keys: HashSet<Key> = texts.iter().map(Key::from).collect();
        assert_eq!(keys.len(), texts.len());
    }

    #[test]
    fn any_sixteen_bytes_are_read_and_say_no_text_that_is_not_theirs() {
        for last in [0, 1, 15, 16, 254, 255] {
            for fill in [0, b'a', 0xff] {
                let mut bytes = [fill; 16];
                bytes[15] = last;
                let written = postcard::to_allocvec(&bytes).expect("an array can be written");
                let key: Key = postcard::from_bytes(&written).expect("any bytes are a key");
                assert_eq!(postcard::to_allocvec(&key).expect("a key can be written"), bytes);
                if let Some(text) = key.text() {
                    assert_eq!(text.len(), usize::from(last));
                }
                assert_eq!(key.text().is_some(), last <= 15 && (fill != 0xff || last == 0), "{key:?}");
            }
        }
    }
}
