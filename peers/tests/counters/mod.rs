//! A workload for the tests: counters that come and go, each transaction over one of them.

use std::ops::AddAssign;

use freehold_shard::Addressees;
use freehold_workloads::{Client, NoRow, Refused, Rows, Workload};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// As many counters as this may be; the first half of them is there in the beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters(pub u32);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Step {
    /// Adds to a counter, which begins at nothing if it is not there.
    Add(u32, i64),
    /// Takes a counter away.
    Take(u32),
    /// Reads a counter.
    Look(u32),
    /// Is always refused.
    Refuse(u32),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum(i64);

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

const OPENING: i64 = 1_000;

impl Workload for Counters {
    type Id = u32;
    type Row = i64;
    type Transaction = Step;
    /// How much all counters together grew.
    type Reply = i64;
    type Tally = Sum;
    type Audit = Sum;

    /// Short, so that there are many laps.
    const STREAM: usize = 100;
    const RENEWS: bool = true;

    fn is_of_single_rows(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "counters"
    }

    fn load(&self, put: &mut dyn FnMut(u32, i64)) {
        (0..self.0 / 2).for_each(|id| put(id, OPENING));
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Step>, NoRow> {
        let one = |_| {
            let id = client.draw_here(|random| random.random_range(0..self.0))?;
            Ok(match client.random.random_range(0..10) {
                0 => Step::Take(id),
                1 | 2 => Step::Look(id),
                3 => Step::Refuse(id),
                _ => Step::Add(id, 1),
            })
        };
        (0..Self::STREAM).map(one).collect()
    }

    fn renew(step: &mut Step, lap: u64) {
        if let Step::Add(_, amount) = step {
            *amount = 1 + lap as i64 % 7;
        }
    }

    fn addressees(step: &Step, to: &mut Addressees<u32>) {
        match *step {
            Step::Look(id) => to.read(id),
            Step::Add(id, _) | Step::Take(id) | Step::Refuse(id) => to.write(id),
        }
    }

    fn run(step: &Step, rows: &mut impl Rows<Self>) -> Result<i64, Refused<u32>> {
        match *step {
            Step::Add(id, amount) => {
                if let Some(row) = rows.get_mut(id)? {
                    *row += amount;
                } else {
                    rows.insert(id, amount)?;
                }
                Ok(amount)
            }
            Step::Take(id) => {
                let had = rows.get(id)?.copied();
                assert_eq!(rows.remove(id)?, had.is_some(), "what was read can be taken");
                Ok(-had.unwrap_or(0))
            }
            Step::Look(id) => {
                rows.get(id)?;
                Ok(0)
            }
            Step::Refuse(id) => {
                rows.get(id)?;
                Err(Refused::Aborted("as told"))
            }
        }
    }

    fn tally(tally: &mut Sum, _: &Step, reply: &i64) {
        tally.0 += reply;
    }

    fn audit(&self, audit: &mut Sum, id: &u32, row: &i64) {
        assert!(*id < self.0, "a row nobody made");
        audit.0 += row;
    }

    fn verdict(&self, acknowledged: &Sum, found: &Sum) -> Result<(), String> {
        let wanted = OPENING * i64::from(self.0 / 2) + acknowledged.0;
        if found.0 == wanted {
            Ok(())
        } else {
            Err(format!("{} in all counters, and should be {wanted}", found.0))
        }
    }
}
