//! A task that holds its shard up: so that what a test sends is all there before the shard looks.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use freehold::{Actor, Runtime, ShardIndex, glommio};

/// For the tasks: one clone each.
#[derive(Clone)]
pub struct Hold {
    begin: Sender<()>,
    is_let_go: Arc<Mutex<Receiver<()>>>,
}

/// For the test: the tasks hold their shards until it is dropped.
pub struct Held {
    begun: Receiver<()>,
    _let_go: Sender<()>,
}

/// Holds up a shard of a runtime, by a task, until what is returned is dropped.
pub fn hold_up<A: Actor>(runtime: &Runtime<A>, shard: ShardIndex) -> Held {
    let (hold, held) = hold();
    drop(runtime.on_each_shard(move |local| {
        let hold = hold.clone();
        async move {
            // Its first step is the job's that starts it, and that job would count as one.
            glommio::executor().yield_task_queue_now().await;
            if local.shard() == shard {
                hold.here();
            }
        }
    }));
    held.wait_for(1);
    held
}

/// Both ends, for a task that does something else beside.
pub fn hold() -> (Hold, Held) {
    let (begin, begun) = mpsc::channel();
    let (let_go, is_let_go) = mpsc::channel();
    (Hold { begin, is_let_go: Arc::new(Mutex::new(is_let_go)) }, Held { begun, _let_go: let_go })
}

impl Hold {
    /// Holds up the shard that this runs on. Its thread waits, on purpose.
    pub fn here(&self) {
        self.begin.send(()).expect("the test waits for it");
        let ended = self.is_let_go.lock().expect("nobody panics with it").recv();
        assert!(ended.is_err(), "nothing is sent, it is dropped");
    }
}

impl Held {
    /// Waits until so many shards are held up.
    pub fn wait_for(&self, shards: usize) {
        (0..shards).for_each(|_| self.begun.recv().expect("each begins"));
    }
}
