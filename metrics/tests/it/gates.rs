//! The numbers of a gate.

use std::sync::{Mutex, PoisonError};

use freehold::{Gate, GateConfig, GateError, Runtime, Verifier};
use freehold_metrics::serve;

use super::{Counter, Message, Numbers, config, until};

/// Tests that hold the verifier up take this.
static GATE: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Good,
    /// The verifier refuses it.
    Bad,
    /// Its probe says that it would fail.
    Stale,
    /// The verifier panics at it.
    Broken,
    /// It verifies, and its object refuses it.
    Unfit,
}

/// By whom, and what kind of claim.
struct Claim(u64, Kind);

struct Toy;

impl Verifier<Counter> for Toy {
    type Claim = Claim;
    type Refusal = ();

    fn line(claim: &Claim) -> u64 {
        claim.0
    }

    fn probe(claim: &Claim) -> Option<Message> {
        (claim.1 == Kind::Stale).then_some(Message::Refuse(claim.0))
    }

    fn verify(&mut self, claims: &[&Claim]) -> Result<Vec<Message>, ()> {
        drop(GATE.lock().unwrap_or_else(PoisonError::into_inner));
        assert!(claims.iter().all(|claim| claim.1 != Kind::Broken), "on purpose");
        let message = |&&Claim(sender, kind): &&Claim| match kind {
            Kind::Bad => Err(()),
            Kind::Unfit => Ok(Message::Refuse(sender)),
            _ => Ok(Message::Add(sender)),
        };
        claims.iter().map(message).collect()
    }
}

fn gate(runtime: &Runtime<Counter>) -> Gate<Counter, Toy> {
    runtime.gate(GateConfig { claims_max: 4, ..GateConfig::default() }, || Toy).expect("it opens")
}

#[test]
fn claims_are_counted_by_what_came_of_them() {
    let runtime = Runtime::start(config(1)).expect("it starts on this machine");
    let server = serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    // So the number of the second is its own.
    let [_first, gate] = [gate(&runtime), gate(&runtime)];
    let numbers = |numbers: &Numbers| {
        let outcomes = ["passed", "refused", "stale", "panicked", "overloaded", "stopped"];
        let outcomes = outcomes
            .map(|it| numbers.sum("freehold_gate_claims_total", &format!("gate=\"1\",outcome=\"{it}\"")));
        let parts = [
            "freehold_gate_batches_total",
            "freehold_gate_batches_halved_total",
            "freehold_gate_claims_apart_total",
            "freehold_gate_claims_struck_total",
        ]
        .map(|name| numbers.sum(name, "gate=\"1\""));
        (outcomes, parts, numbers.sum("freehold_gate_waiting", "gate=\"1\""))
    };
    let ask = |sender, kind| gate.ask(Claim(sender, kind));
    assert_eq!(ask(1, Kind::Good).wait(), Ok(1));
    assert!(matches!(ask(2, Kind::Stale).wait(), Err(GateError::Probe(_))));
    assert!(matches!(ask(3, Kind::Unfit).wait(), Err(GateError::Message(_))));
    assert!(matches!(ask(4, Kind::Broken).wait(), Err(GateError::Panicked(_))));
    let held = GATE.lock().unwrap_or_else(PoisonError::into_inner);
    let first = ask(1, Kind::Good);
    // The worker has it; the next two are its next batch.
    until(server.addr(), "it is being verified", |page| numbers(page).1[0] == 4.0);
    let [bad, good, last] = [ask(5, Kind::Bad), ask(6, Kind::Good), ask(7, Kind::Good)];
    assert!(matches!(ask(8, Kind::Good).wait(), Err(GateError::Overloaded)));
    until(server.addr(), "four wait", |page| numbers(page).2 == 4.0);
    drop(held);
    assert_eq!((first.wait(), bad.wait()), (Ok(2), Err(GateError::Refused(()))));
    assert_eq!((good.wait(), last.wait()), (Ok(1), Ok(1)));
    // It is a suspect.
    assert_eq!(ask(5, Kind::Good).wait(), Ok(1));
    // Batches: four of one, three that fail together and are halved to one and two, and the last.
    let wanted = ([6.0, 1.0, 1.0, 1.0, 1.0, 0.0], [8.0, 1.0, 1.0, 1.0], 0.0);
    let page = until(server.addr(), "all are answered", |page| numbers(page).2 == 0.0);
    assert_eq!(numbers(&page), wanted);
    assert_eq!(page.sum("freehold_gate_claims_total", "gate=\"0\""), 0.0);
}
