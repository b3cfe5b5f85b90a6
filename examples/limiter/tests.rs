//! The limiter under test: no runtime, no network, and a clock that the test moves.

use freehold::testing::Bench;

use super::*;

const RULES: Rules =
    Rules { burst: 3, every: Duration::from_secs(1), session: Duration::from_secs(60), sessions_max: 2 };

fn bench() -> (Bench<Limiter>, Key) {
    (Bench::shards(2).with_context(RULES), Key::new("acme"))
}

fn sessions(bench: &Bench<Limiter>) -> usize {
    bench.objects().filter(|(id, ..)| matches!(id, Id::Session(_))).count()
}

#[test]
fn a_burst_is_used_up_and_comes_again_with_time() {
    let (mut bench, tenant) = bench();
    assert_eq!(bench.call(Login((tenant, 1))), Ok(()));
    let used = [2, 1, 0].map(|_| bench.call(Use((tenant, 1))));
    assert_eq!(used, [Ok(2), Ok(1), Ok(0)]);
    let too_fast = |wait| Err(AskError::Aborted(Refused::TooFast(wait)));
    assert_eq!(bench.call(Use((tenant, 1))), too_fast(RULES.every));
    bench.pass(RULES.every / 4);
    assert_eq!(bench.call(Use((tenant, 1))), too_fast(RULES.every * 3 / 4));
    bench.pass(RULES.every * 3 / 4);
    assert_eq!(bench.call(Use((tenant, 1))), Ok(0));
    bench.pass(RULES.every * 10);
    assert_eq!(bench.call(Use((tenant, 1))), Ok(2), "a bucket is never more than full");
}

#[test]
fn sessions_share_a_bucket_and_have_a_bound() {
    let (mut bench, tenant) = bench();
    let logins = [1, 2, 3].map(|token| bench.call(Login((tenant, token))));
    assert_eq!(logins[2], Err(AskError::Aborted(Refused::TooManySessions(2))));
    assert_eq!(bench.timers(), 2, "what was refused has left no timer");
    assert_eq!(bench.call(Use((tenant, 1))), Ok(2));
    assert_eq!(bench.call(Use((tenant, 2))), Ok(1));
    assert_eq!(bench.call(Logout((tenant, 2))), Ok(()));
    assert_eq!(bench.call(Use((tenant, 2))), Err(AskError::Aborted(Refused::NoSession)));
    assert_eq!((sessions(&bench), bench.timers()), (1, 1), "the timer went with its session");
}

#[test]
fn a_session_ends_when_it_was_not_used_for_long() {
    let (mut bench, tenant) = bench();
    bench.call(Login((tenant, 1))).expect("there is room");
    for _ in 0..3 {
        bench.pass(RULES.session - Duration::from_nanos(1));
        assert!(bench.call(Use((tenant, 1))).is_ok());
        assert_eq!(bench.timers(), 1, "a use takes the timer before it back");
    }
    bench.pass(RULES.session);
    assert_eq!((sessions(&bench), bench.timers()), (0, 0));
    assert!(bench.take_failures().is_empty());
}

#[test]
fn errors_become_statuses() {
    let status = |failed| Failed(failed).into_response().status();
    assert_eq!(status(AskError::Aborted(Refused::NoSession)), StatusCode::UNAUTHORIZED);
    assert_eq!(status(AskError::TimedOut), StatusCode::SERVICE_UNAVAILABLE);
    let wait = Duration::from_millis(1500);
    let answer = Failed(AskError::Aborted(Refused::TooFast(wait))).into_response();
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.headers()[RETRY_AFTER], "2");
}
