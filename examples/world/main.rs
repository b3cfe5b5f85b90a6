//! A world of entities: they wander between regions, get hungry, and are fed by a web service.
//!
//! `world [ENTITIES [MEALS]]`: 200,000 live until they had 5,000 meals, and snapshots count them.
//!
//! Each entity lives by a timer. A region has its inhabitants as a collection, and a move is a
//! transaction over an entity and two regions. A meal is an action: an HTTP request, made on
//! threads that may block, to a service in this program. A tokio task watches each region.

use std::future::ready;
use std::time::Duration;

use freehold::{
    AccessError, Action, ActionOf, Config, Embedding, Handle, Needs, Objects, Receive, Runtime, Tally, To,
};
use futures::StreamExt;
use reqwest::Client;

#[cfg(test)]
mod tests;

type EntityNo = u64;
type RegionNo = u64;

/// Regions lie in a ring.
const REGIONS: RegionNo = 64;
/// A meal lasts for so many steps, and a bit.
const MEAL: u32 = 20;
/// An entity moves on every so many steps.
const STEPS_TO_MOVE: u64 = 4;

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

/// An entity comes into the world, and sleeps until it hears a bell.
struct Appear(EntityNo);

/// An entity sends it to itself, as long as it lives.
struct Step(EntityNo);

/// An entity goes from one region to another.
struct Move(EntityNo, RegionNo, RegionNo);

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
        to.write::<Entity>(self.0).write::<Region>(self.0 % REGIONS);
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
            return objects.publish([Move(self.0, from, to).into()]);
        }
        next_step(objects, self.0)
    }
}

/// An entity has one step or move before it, and no more.
fn next_step(objects: &Objects<'_, World>, entity: EntityNo) -> Result<(), AccessError<Id>> {
    let pace: Duration = *objects.context()?;
    objects.send_after(pace, Step(entity)).map(|_| ())
}

impl Receive<World> for Move {
    fn addressees(&self, to: &mut To<'_, World>) {
        to.write::<Entity>(self.0).write::<Region>(self.1).write::<Region>(self.2);
    }

    // If it runs where neither region lives.
    fn needs(&self, to: &mut Needs<World>) {
        to.entry_of::<Inhabitant>((self.1, self.0));
        to.entry_of::<Inhabitant>((self.2, self.0));
    }

    fn receive(&self, objects: &mut Objects<'_, World>) -> Result<(), AccessError<Id>> {
        let Move(entity, from, to) = *self;
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
        let pace: Duration = *objects.context()?;
        objects.send_after(pace * (mix(self.0) % 1000) as u32 / 1000, Step(self.0)).map(|_| ())
    }
}

/// A number that looks random, of another: `receive` may run again, and is to do the same then.
fn mix(number: u64) -> u64 {
    (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

/// Adds an object to the census.
fn count(census: &mut Tally, id: Id, state: &State) {
    match (id, state) {
        (Id::Entity(no), State::Entity(entity)) => {
            census.add("entities", 1).add("is at", mix(no << 8 | entity.region));
            census.add("hungry", entity.energy == 0).add("meals", entity.meals).add("heard", entity.heard)
        }
        (Id::Region(_), State::Region(region)) => census.add("population", region.population),
        (Id::Inhabitant((region, no)), State::Inhabitant(_)) => {
            census.add("inhabitants", 1).add("is listed at", mix(no << 8 | region))
        }
        (id, _) => panic!("{id:?} has a state of another kind"),
    };
}

/// Everybody is in one place, whoever moves meanwhile.
fn judge(census: &Tally) -> String {
    let of = |name| census.get(name);
    assert_eq!((of("population"), of("inhabitants")), (of("entities"), of("entities")), "all are somewhere");
    assert_eq!(of("is at"), of("is listed at"), "an entity is where it is listed");
    let (entities, hungry, meals, heard) = (of("entities"), of("hungry"), of("meals"), of("heard"));
    format!("{entities} entities, {hungry} hungry, {meals} meals, {heard} bells heard")
}

/// Asks the service for a meal. The thread waits for it.
fn forage(tokio: &tokio::runtime::Handle, client: &Client, service: &str, action: Action<World>) {
    let Message::Forage(Forage(no)) = *action.message() else { unreachable!("it is the only action") };
    let request = client.get(format!("{service}/forage/{no}"));
    let meal = tokio.block_on(async { request.send().await?.text().await });
    action.done(Fed(no, meal.ok().and_then(|meal| meal.parse().ok())));
}

/// Sees the latest of a region until the world ends: how many states there were, and the last.
async fn subscribe(world: Handle<World>, region: RegionNo) -> (u64, Region) {
    let watch = world.watch::<Region>(region).expect("there are fewer watches than `watches_max`");
    let see = |(seen, _), state: Result<Option<Region>, _>| {
        ready((seen + 1, state.expect("it is a region").unwrap_or_default()))
    };
    watch.fold((0, Region::default()), see).await
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let entities = arguments.next().map_or(Ok(200_000), |entities| entities.parse::<u64>())?;
    let meals = arguments.next().map_or(Ok(5000), |meals| meals.parse::<i128>())?;
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = tokio.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let service = format!("http://{}", listener.local_addr()?);
    let (client, caller) = (Client::new(), tokio.handle().clone());
    let meal = axum::routing::get(async || MEAL.to_string());
    tokio.spawn(async { axum::serve(listener, axum::Router::new().route("/forage/{no}", meal)).await });

    let embedding = Embedding::new()
        // How long a step takes: there are 10,000 a second, however many entities there are.
        .context(Duration::from_micros(100 * entities.max(1000)))
        .on_failed(|failure| eprintln!("{failure:?}"))
        // So many threads call the service, and wait for its answer.
        .perform_on_threads(4, move |action| forage(&caller, &client, &service, action));
    let runtime = Runtime::<World>::start_with(Config::default(), embedding)?;
    let world = runtime.handle();
    let subscribers: Vec<_> =
        (0..REGIONS).map(|region| tokio.spawn(subscribe(world.clone(), region))).collect();

    world.call_all((0..entities).map(Appear)).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
    world.call_all((0..REGIONS).map(Ring)).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
    for round in 0.. {
        let census = world.snapshot().wait()?.tally(count).wait()?;
        println!("{}", judge(&census));
        if census.get("meals") >= meals {
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
    assert_eq!(population, entities, "nobody is lost");
    println!("{REGIONS} subscribers saw {states} states, and in the last of them {population} entities");
    Ok(())
}
