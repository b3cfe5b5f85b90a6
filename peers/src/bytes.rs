//! Rows as bytes, for stores that keep nothing else: ids and rows as postcard writes them.
//!
//! Within a transaction a row is read from the store once, when it is first asked for, and written
//! back once, if it was changed, after the workload has decided. So a store is never asked to undo
//! a refusal.

use freehold_shard::{Access, Addressees};
use freehold_workloads::{Refused, Rows, Workload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;

use crate::peer::{Fault, Settled};

/// A transaction of a store, or a snapshot that refuses to be written.
pub trait Bytes {
    /// Reads a value, if there is one.
    ///
    /// # Errors
    /// The store's own.
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault>;
    /// Writes a value.
    ///
    /// # Errors
    /// The store's own.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault>;
    /// Removes a value.
    ///
    /// # Errors
    /// The store's own.
    fn remove(&mut self, key: &[u8]) -> Result<(), Fault>;
}

/// What a snapshot says to those who write.
pub fn not_writable() -> Fault {
    "a transaction wrote that named rows only to be read".into()
}

/// A value as bytes, in place of what was in `to`.
pub fn encode(value: &impl Serialize, to: &mut Vec<u8>) -> Result<(), Fault> {
    to.clear();
    *to = postcard::to_extend(value, std::mem::take(to))?;
    Ok(())
}

/// A value from its bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    Ok(postcard::from_bytes(bytes)?)
}

/// Shows a row that a store keeps.
pub fn show<W: Workload>(
    key: &[u8],
    value: &[u8],
    see: &mut dyn FnMut(&W::Id, &W::Row),
) -> Result<(), Fault> {
    see(&decode(key)?, &decode(value)?);
    Ok(())
}

/// A row in use.
struct Used<W: Workload> {
    id: W::Id,
    row: Option<W::Row>,
    is_changed: bool,
}

/// What a thread needs for one transaction after the other; empty between them.
pub struct Desk<W: Workload> {
    used: SmallVec<[Used<W>; 8]>,
    key: Vec<u8>,
    value: Vec<u8>,
    to: Addressees<W::Id>,
}

impl<W: Workload> Default for Desk<W> {
    fn default() -> Self {
        Desk { used: SmallVec::new(), key: Vec::new(), value: Vec::new(), to: Addressees::new() }
    }
}

impl<W: Workload> Desk<W> {
    /// Whether the transaction names its rows only to read them.
    pub fn only_reads(&mut self, transaction: &W::Transaction) -> bool {
        self.to.clear();
        W::addressees(transaction, &mut self.to);
        self.to.iter().all(|(_, access)| access == Access::Read)
    }

    /// Runs a transaction within `bytes`, and writes back what it changed if it is to commit.
    pub fn run(&mut self, transaction: &W::Transaction, bytes: &mut impl Bytes) -> Result<Settled<W>, Fault> {
        let Desk { used, key, value, .. } = self;
        used.clear();
        let mut lent = Lent::<W, _> { bytes, used, key, fault: None };
        let settled = W::run(transaction, &mut lent);
        if let Some(fault) = lent.fault {
            return Err(fault);
        }
        if settled.is_ok() {
            for Used { id, row, .. } in used.iter().filter(|used| used.is_changed) {
                encode(id, key)?;
                match row {
                    Some(row) => {
                        encode(row, value)?;
                        bytes.set(key, value)?;
                    }
                    None => bytes.remove(key)?,
                }
            }
        }
        Ok(settled)
    }
}

/// The rows of one transaction.
struct Lent<'a, W: Workload, B> {
    bytes: &'a B,
    used: &'a mut SmallVec<[Used<W>; 8]>,
    key: &'a mut Vec<u8>,
    /// Why the store could not answer; what the workload made of it does not count.
    fault: Option<Fault>,
}

impl<W: Workload, B: Bytes> Lent<'_, W, B> {
    #[inline]
    fn used(&mut self, id: W::Id) -> Result<&mut Used<W>, Refused<W::Id>> {
        if let Some(place) = self.used.iter().position(|used| used.id == id) {
            return Ok(&mut self.used[place]);
        }
        let read = encode(&id, self.key).and_then(|()| match self.bytes.get(self.key, decode)? {
            None => Ok(None),
            Some(row) => row.map(Some),
        });
        match read {
            Ok(row) => {
                self.used.push(Used { id, row, is_changed: false });
                Ok(self.used.last_mut().expect("just pushed"))
            }
            Err(fault) => {
                self.fault = Some(fault);
                Err(Refused::Broken("the store failed"))
            }
        }
    }
}

impl<W: Workload, B: Bytes> Rows<W> for Lent<'_, W, B> {
    #[inline]
    fn get(&mut self, id: W::Id) -> Result<Option<&W::Row>, Refused<W::Id>> {
        Ok(self.used(id)?.row.as_ref())
    }

    #[inline]
    fn get_mut(&mut self, id: W::Id) -> Result<Option<&mut W::Row>, Refused<W::Id>> {
        let used = self.used(id)?;
        used.is_changed |= used.row.is_some();
        Ok(used.row.as_mut())
    }

    #[inline]
    fn insert(&mut self, id: W::Id, row: W::Row) -> Result<(), Refused<W::Id>> {
        if let Some(used) = self.used.iter_mut().find(|used| used.id == id) {
            (used.row, used.is_changed) = (Some(row), true);
        } else {
            self.used.push(Used { id, row: Some(row), is_changed: true });
        }
        Ok(())
    }

    #[inline]
    fn remove(&mut self, id: W::Id) -> Result<bool, Refused<W::Id>> {
        let used = self.used(id)?;
        let was = used.row.take().is_some();
        used.is_changed |= was;
        Ok(was)
    }
}
