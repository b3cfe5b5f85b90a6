//! Counts visits: an object for each page, a message for each visit.
use freehold::{AccessError, Actor, Addressees, Config, Objects, Runtime};
struct Visits;
impl Actor for Visits {
    type Id = u64; // a page
    type State = u64; // how often it was visited
    type Message = u64; // a visit to this page
    type Reply = u64; // how often it was visited, this time included
    type Error = AccessError<u64>;
    fn addressees(page: &u64, to: &mut Addressees<u64>) {
        to.write(*page);
    }
    fn receive(page: &u64, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let visits = objects.get(*page)?.unwrap_or(&0) + 1;
        objects.insert(*page, visits).map(|_| visits)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::<Visits>::start(Config::default())?;
    println!("visits to page 7: {}", runtime.handle().ask(7).wait()?);
    println!("{}", runtime.shutdown());
    Ok(())
}
