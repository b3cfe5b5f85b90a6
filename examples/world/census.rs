//! Who is in the world, as of one instant.

use std::fmt;

use freehold::{Snapshot, SnapshotError};

use super::{EntityNo, Id, RegionNo, State, World, mix};

/// Counts of one instant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    pub(super) entities: u64,
    pub(super) meals: u64,
    pub(super) heard: u64,
    hungry: u64,
    population: u64,
    inhabitants: u64,
    /// Of where entities say they are, and of where they are listed: equal sums.
    places: [u64; 2],
}

/// A number for an entity in a region.
fn place(region: RegionNo, entity: EntityNo) -> u64 {
    mix(entity << 8 | region)
}

/// Adds an object.
pub(super) fn count(census: &mut Census, id: Id, state: &State) {
    match (id, state) {
        (Id::Entity(no), State::Entity(entity)) => {
            census.entities += 1;
            census.meals += entity.meals;
            census.heard += entity.heard;
            census.hungry += u64::from(entity.energy == 0);
            census.places[0] += place(entity.region, no);
        }
        (Id::Region(_), State::Region(region)) => census.population += region.population,
        (Id::Inhabitant((region, no)), State::Inhabitant(_)) => {
            census.inhabitants += 1;
            census.places[1] += place(region, no);
        }
        (id, _) => panic!("{id:?} has a state of another kind"),
    }
}

/// Everybody is in one place, whoever moves meanwhile.
pub(super) fn judge(census: &Census) {
    let Census { entities, population, inhabitants, places, .. } = *census;
    assert_eq!((population, inhabitants), (entities, entities), "an entity is in one region");
    assert_eq!(places[0], places[1], "an entity is where it is listed");
}

/// Counts and judges a snapshot, shard by shard between turns.
pub(super) fn census(snapshot: &Snapshot<World>) -> Result<Census, SnapshotError> {
    let merge = |one: Census, other: Census| Census {
        entities: one.entities + other.entities,
        meals: one.meals + other.meals,
        heard: one.heard + other.heard,
        hungry: one.hungry + other.hungry,
        population: one.population + other.population,
        inhabitants: one.inhabitants + other.inhabitants,
        places: [one.places[0] + other.places[0], one.places[1] + other.places[1]],
    };
    let census = snapshot.fold(Census::default, count, merge).wait()?;
    judge(&census);
    Ok(census)
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Census { entities, meals, heard, hungry, .. } = self;
        write!(f, "{entities} entities, {hungry} hungry, {meals} meals, {heard} bells heard")
    }
}
