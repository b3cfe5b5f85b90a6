//! A second order.

use freehold::testing::Bench;
use freehold::{AccessError, Indexed, Objects, Receive, To};

use super::{Deserialize, Serialize};

freehold::actor! {
    pub actor Host {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds {
            Tenant(tenant: u64),
            Session(tenant: u64, user: u64) in Tenant(tenant) by Expiry,
            // What the order is by, and then what tells two sessions apart.
            Expiry(tenant: u64, ends: u64, user: u64) in Tenant(tenant),
        }
        messages { Login -> (), Expire -> usize }
    }
}

impl Indexed<Host> for Session {
    type Index = Expiry;

    fn place_of((tenant, user): (u64, u64), session: &Session) -> Option<(u64, u64, u64)> {
        Some((tenant, session.ends, user))
    }

    fn key_at((tenant, _, user): (u64, u64, u64)) -> (u64, u64) {
        (tenant, user)
    }
}

impl Receive<Host> for Expire {
    fn addressees(&self, to: &mut To<'_, Host>) {
        to.write::<Tenant>(self.tenant);
    }

    fn receive(&self, objects: &mut Objects<'_, Host>) -> Result<usize, AccessError<Id>> {
        let (mut sessions, mut ended) = (objects.indexed::<Session>(self.tenant)?, 0);
        let over = (self.tenant, 0, 0)..(self.tenant, self.now, 0);
        while sessions.take_first_by(over.clone())?.is_some() {
            ended += 1;
        }
        Ok(ended)
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Tenant;
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    ends: u64,
}
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Expiry;

pub struct Login {
    tenant: u64,
    user: u64,
    ends: u64,
}

pub struct Expire {
    tenant: u64,
    now: u64,
}

impl Receive<Host> for Login {
    fn addressees(&self, to: &mut To<'_, Host>) {
        to.write::<Tenant>(self.tenant);
    }

    fn receive(&self, objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
        let mut sessions = objects.indexed::<Session>(self.tenant)?;
        sessions.put((self.tenant, self.user), Session { ends: self.ends }).map(drop)
    }
}

#[test]
fn sessions_end_in_the_order_of_their_ends() {
    let mut bench = Bench::<Host>::shards(2);
    // The second of the user 1 replaces the first.
    for (user, ends) in [(1, 5), (2, 7), (3, 9), (1, 9)] {
        assert_eq!(bench.call(Login { tenant: 7, user, ends }), Ok(()));
    }
    assert_eq!(bench.call(Expire { tenant: 7, now: 9 }), Ok(1));
    assert!(bench.read::<Session>((7, 2)).is_none() && bench.read::<Session>((7, 1)).is_some());
    assert_eq!(bench.call(Expire { tenant: 7, now: 10 }), Ok(2));
    assert_eq!(bench.objects().count(), 0);
}
