//! Entries that have a second order, and its places, are changed past `objects.indexed`: in each
//! way there is.
use freehold::{AccessError, Indexed, Objects, Receive, To};

freehold::actor! {
    actor Host {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds {
            Tenant(tenant: u64),
            Session(tenant: u64, user: u64) in Tenant(tenant) by Expiry,
            Expiry(tenant: u64, ends: u64, user: u64) in Tenant(tenant),
        }
        messages { Login -> () }
    }
}

#[derive(Clone)]
struct Tenant;
#[derive(Clone)]
struct Session {
    ends: u64,
}
#[derive(Clone, Default)]
struct Expiry;

impl Indexed<Host> for Session {
    type Index = Expiry;

    fn place_of((tenant, user): (u64, u64), session: &Session) -> Option<(u64, u64, u64)> {
        Some((tenant, session.ends, user))
    }

    fn key_at((tenant, _, user): (u64, u64, u64)) -> (u64, u64) {
        (tenant, user)
    }
}

struct Login;

impl Receive<Host> for Login {
    fn addressees(&self, to: &mut To<'_, Host>) {
        to.write::<Tenant>(7);
    }

    fn receive(&self, _objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
        Ok(())
    }
}

pub fn sessions(objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
    let mut sessions = objects.entries::<Session>(7)?;
    sessions.put((7, 8), Session { ends: 9 })?;
    sessions.take((7, 8))?;
    sessions.write((7, 8))?;
    sessions.retain(..(7, 9), 9, |_, _| true)?;
    sessions.clear()?;
    if let Some(mut session) = sessions.walk(..).next()? {
        session.write()?;
        session.take()?;
    }
    Ok(())
}

pub fn places(objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
    let mut places = objects.entries::<Expiry>(7)?;
    places.put((7, 9, 8), Expiry)?;
    places.take((7, 9, 8))?;
    places.write((7, 9, 8))?;
    places.retain(..(7, 9, 9), 9, |_, _| true)?;
    places.clear()?;
    if let Some(mut place) = places.walk(..).next()? {
        place.write()?;
        place.take()?;
    }
    Ok(())
}
