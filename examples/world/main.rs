//! A world of entities: they wander between regions, get hungry, and are fed by a web service.
//!
//! `world [ENTITIES [MEALS]]`: 200,000 live until they had 5,000 meals, and snapshots count them.
//!
//! Each entity lives by a timer. A region has its inhabitants as a collection, and a move is a
//! transaction over an entity and two regions. A meal is an action: an HTTP request, made on
//! threads that may block, to a service that is a part of this program. A tokio task watches each
//! region.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold::{
    AccessError, Action, ActionOf, Config, Embedding, Handle, Needs, Objects, Receive, Runtime, To,
};
use futures::StreamExt;

mod census;
mod service;
#[cfg(test)]
mod tests;

use census::census;
use service::{forage, serve};

type EntityNo = u64;
type RegionNo = u64;

/// Regions lie in a ring.
const REGIONS: RegionNo = 64;
/// A meal lasts for so many steps, and a bit.
const MEAL: u32 = 20;
/// An entity moves on every so many steps.
const STEPS_TO_MOVE: u64 = 4;
/// Threads that call the service, each over one connection.
const CALLERS: usize = 4;

freehold::actor! {
    actor World {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        // There is no log: the exchange has one.
        kinds {
            Entity(no: EntityNo),
            Region(no: RegionNo),
            // Too many for one state: a message changes some, and pays for those.
            Inhabitant(region: RegionNo, entity: EntityNo) in Region(region),
        }
        messages { Appear -> (), Step -> (), Move -> (), Forage -> (), Fed -> (), Ring -> u64, Hear -> () }
    }
}

#[derive(Clone, Debug, Default)]
struct Entity {
    region: RegionNo,
    steps: u64,
    energy: u32,
    meals: u64,
    heard: u64,
    is_foraging: bool,
}

/// What subscribers see of a region.
#[derive(Clone, Debug, Default)]
struct Region {
    population: u64,
    bells: u64,
}

/// An entity is where it is listed.
#[derive(Clone, Copy, Debug)]
struct Inhabitant;

/// How long a step takes: the context of the runtime.
#[derive(Clone, Copy)]
struct Pace(Duration);

/// An entity comes into the world, and sleeps until it hears a bell.
struct Appear(EntityNo);

/// An entity sends it to itself, as long as it lives.
struct Step(EntityNo);

struct Move {
    entity: EntityNo,
    from: RegionNo,
    to: RegionNo,
}

/// The action: asks the service for a meal.
struct Forage(EntityNo);

/// The outcome: how much energy there was, if the service has answered.
struct Fed(EntityNo, Option<u32>);

/// A bell rings, and all who are in the region hear it. Answered by how many they are.
struct Ring(RegionNo);

struct Hear(EntityNo);

impl ActionOf<World> for Forage {}

impl Receive<World> for Appear {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Entity>(self.0);
        to.write::<Region>(self.0 % REGIONS);
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<(), AccessError<Id>> {
        let (entity, region) = (self.0, self.0 % REGIONS);
        // They do not all get hungry at once, nor all move at once.
        let (energy, steps) = (1 + mix(entity) as u32 % MEAL, mix(entity) % STEPS_TO_MOVE);
        objects.put(entity, Entity { region, energy, steps, ..Entity::default() })?;
        objects.write_or_insert_with(region, Region::default)?.population += 1;
        objects.entries::<Inhabitant>(region)?.put((region, entity), Inhabitant)?;
        Ok(())
    }
}

impl Receive<World> for Step {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Entity>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<(), AccessError<Id>> {
        let Some(entity) = objects.write::<Entity>(self.0)? else { return Ok(()) };
        entity.steps += 1;
        entity.energy = entity.energy.saturating_sub(1);
        let is_hungry = entity.energy == 0 && !entity.is_foraging;
        let (from, steps) = (entity.region, entity.steps);
        if is_hungry {
            match objects.perform(Forage(self.0)) {
                Ok(_) => objects.write::<Entity>(self.0)?.expect("it is there").is_foraging = true,
                // The service is slow, and many wait for it: this one asks at its next step.
                Err(AccessError::NoRoom { .. }) => {}
                Err(failed) => return Err(failed),
            }
        }
        if steps.is_multiple_of(STEPS_TO_MOVE) {
            let to = (from + if mix(self.0 + steps).is_multiple_of(2) { 1 } else { REGIONS - 1 }) % REGIONS;
            // `publish` finds room later where `send` finds none now. The next step comes after
            // that: so a world that is too large for its machine is slow, and its queues are short.
            return objects.publish([Move { entity: self.0, from, to }.into()]);
        }
        next_step(objects, self.0)
    }
}

/// An entity has one step or move before it, and no more.
fn next_step(objects: &Objects<'_, World>, entity: EntityNo) -> Result<(), AccessError<Id>> {
    let Pace(pace) = *objects.context()?;
    objects.send_after(pace, Step(entity)).map(|_| ())
}

impl Receive<World> for Move {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Entity>(self.entity);
        to.write::<Region>(self.from);
        to.write::<Region>(self.to);
    }

    // If it runs where neither region lives.
    fn needs(&self, to: &mut Needs<World>) {
        to.entry_of::<Inhabitant>((self.from, self.entity));
        to.entry_of::<Inhabitant>((self.to, self.entity));
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<(), AccessError<Id>> {
        let Move { entity, from, to } = *self;
        let Some(moving) = objects.write::<Entity>(entity)? else { return Ok(()) };
        moving.region = to;
        objects.entries::<Inhabitant>(from)?.take((from, entity))?;
        objects.entries::<Inhabitant>(to)?.put((to, entity), Inhabitant)?;
        objects.write_or_insert_with(from, Region::default)?.population -= 1;
        objects.write_or_insert_with(to, Region::default)?.population += 1;
        next_step(objects, entity)
    }
}

impl Receive<World> for Fed {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Entity>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<(), AccessError<Id>> {
        let Some(entity) = objects.write::<Entity>(self.0)? else { return Ok(()) };
        // Without a meal it forages again at its next step.
        entity.is_foraging = false;
        entity.energy += self.1.unwrap_or(0);
        entity.meals += u64::from(self.1.is_some());
        Ok(())
    }
}

impl Receive<World> for Ring {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Region>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<u64, AccessError<Id>> {
        let Some(region) = objects.write::<Region>(self.0)? else { return Ok(0) };
        region.bells += 1;
        let inhabitants = objects.entries::<Inhabitant>(self.0)?;
        let hear: Vec<Message> = inhabitants.range(..).map(|((_, entity), _)| Hear(entity).into()).collect();
        let heard_by = hear.len() as u64;
        // As many as there is room for at once, and the others in later turns.
        objects.publish(hear)?;
        Ok(heard_by)
    }
}

impl Receive<World> for Hear {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Entity>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<(), AccessError<Id>> {
        let Some(entity) = objects.write::<Entity>(self.0)? else { return Ok(()) };
        entity.heard += 1;
        if entity.heard > 1 {
            return Ok(());
        }
        // It wakes up, and takes its first step soon.
        let Pace(pace) = *objects.context()?;
        objects.send_after(pace * (mix(self.0) % 1000) as u32 / 1000, Step(self.0)).map(|_| ())
    }
}

/// A number that looks random, of another: `receive` may run again, and is to do the same then.
fn mix(number: u64) -> u64 {
    (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// Sees the latest of a region until the world ends: how many states there were, and the last.
async fn subscribe(world: Handle<World>, region: RegionNo) -> (u64, Region) {
    let mut seen = (0, Region::default());
    let mut watch = world.watch::<Region>(region).expect("there are fewer watches than `watches_max`");
    while let Some(state) = watch.next().await {
        seen = (seen.0 + 1, state.expect("it is a region").unwrap_or_default());
    }
    seen
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let entities = arguments.next().map_or(Ok(200_000), |entities| entities.parse::<u64>())?;
    let meals = arguments.next().map_or(Ok(5000), |meals| meals.parse::<u64>())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let service = listener.local_addr()?;
    std::thread::spawn(move || serve(&listener));

    let calls = Mutex::new(Vec::new());
    let failed = Arc::new(AtomicU64::new(0));
    let failures = failed.clone();
    let embedding = Embedding::new()
        // 10,000 steps a second, however many they are.
        .context(Pace(Duration::from_micros(100 * entities.max(1000))))
        .on_failed(move |_| {
            failures.fetch_add(1, Ordering::Relaxed);
        })
        .perform_on_threads(CALLERS, move |action: Action<World>| {
            let Message::Forage(Forage(no)) = *action.message() else {
                unreachable!("it is the only action")
            };
            let mut connection = calls.lock().expect("no caller panics").pop().flatten();
            let meal = forage(service, &mut connection, no);
            calls.lock().expect("no caller panics").push(connection);
            action.done(Fed(no, meal));
        });
    let runtime = Runtime::<World>::start_with(Config::default(), embedding)?;
    let world = runtime.handle();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let subscribers: Vec<_> =
        (0..REGIONS).map(|region| tokio.spawn(subscribe(world.clone(), region))).collect();

    world.call_all((0..entities).map(Appear)).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
    world.call_all((0..REGIONS).map(Ring)).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
    for round in 0.. {
        let census = census(&world.snapshot().wait()?)?;
        println!("{census}");
        if census.meals >= meals {
            break;
        }
        world.call(Ring(round % REGIONS)).wait()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{}", runtime.shutdown());
    // The watches have ended with the world. Each has seen its region's last state.
    let (mut states, mut population) = (0, 0);
    for subscriber in subscribers {
        let (seen, last) = tokio.block_on(subscriber)?;
        (states, population) = (states + seen, population + last.population);
    }
    assert_eq!((population, failed.load(Ordering::Relaxed)), (entities, 0), "nobody is lost");
    println!("{REGIONS} subscribers saw {states} states, and in the last of them {population} entities");
    Ok(())
}
