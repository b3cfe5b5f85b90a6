//! Round trips between two threads over two `rtrb` rings, which is what lanes are made of: the
//! limit for anything that goes to another core and back.

use std::hint::spin_loop;
use std::time::Instant;

use rtrb::RingBuffer;

/// Sends so many numbers, 0 and on, one after the other, to a thread that sends each back with the
/// time at which it had it; both spin. `record` is given the time at which the number was sent, and
/// what came back.
pub fn round_trips(messages: u64, mut record: impl FnMut(Instant, (u64, Instant))) {
    let (mut to, mut asked) = RingBuffer::<u64>::new(16);
    let (mut answer, mut back) = RingBuffer::<(u64, Instant)>::new(16);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while !asked.is_abandoned() {
                if let Ok(message) = asked.pop() {
                    answer.push((message, Instant::now())).expect("one message at a time fits");
                }
                spin_loop();
            }
        });
        for message in 0..messages {
            let sent = Instant::now();
            to.push(message).expect("one message at a time fits");
            let reply = loop {
                if let Ok(reply) = back.pop() {
                    break reply;
                }
                spin_loop();
            };
            record(sent, reply);
        }
        drop(to);
    });
}
