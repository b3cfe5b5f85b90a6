//! A table of redb in memory, which is not made durable.

use std::time::Duration;

use ::redb::backends::InMemoryBackend;
use ::redb::{Builder, Database, Durability, ReadableDatabase, TableDefinition};

use crate::{Ordered, Place, RANGE, Swap, Value, dropped, value};

const ENTRIES: TableDefinition<'_, Place, Value> = TableDefinition::new("entries");

pub struct InMemory {
    database: Database,
    /// Pairs of a transaction.
    together: usize,
}

impl InMemory {
    pub fn new(together: usize) -> Self {
        let database = Builder::new().create_with_backend(InMemoryBackend::new()).expect("there is room");
        InMemory { database, together }
    }

    fn write(&self, change: impl FnOnce(&mut ::redb::Table<'_, Place, Value>)) {
        let mut writing = self.database.begin_write().expect("nobody else writes");
        writing.set_durability(Durability::None).expect("there is no savepoint");
        change(&mut writing.open_table(ENTRIES).expect("it has one type"));
        writing.commit().expect("there is room");
    }
}

impl Ordered for InMemory {
    fn fill(&mut self, places: &[Place]) {
        for some in places.chunks(1000) {
            self.write(|table| {
                some.iter()
                    .for_each(|place| drop(table.insert(place, value(*place)).expect("there is room")));
            });
        }
    }

    fn swap(&mut self, swaps: &[Swap]) -> u64 {
        let mut sum = 0;
        for some in swaps.chunks(self.together) {
            self.write(|table| {
                for (old, new) in some {
                    sum += table.remove(old).expect("it can be read").expect("it is there").value().1;
                    table.insert(new, value(*new)).expect("there is room");
                }
            });
        }
        sum
    }

    fn ranges(&mut self, from: &[Place]) -> u64 {
        let mut sum = 0;
        for some in from.chunks(self.together) {
            let reading = self.database.begin_read().expect("it is open");
            let table = reading.open_table(ENTRIES).expect("it has one type");
            for from in some {
                let range = table.range(*from..).expect("it can be read").take(RANGE);
                sum += range.map(|entry| entry.expect("it can be read").1.value().1).sum::<u64>();
            }
        }
        sum
    }

    fn empty(self: Box<Self>) -> Vec<Duration> {
        dropped(self)
    }
}
