//! Several threads pay, and it comes to what one would have paid.

use tempfile::TempDir;

use crate::{SOME_BAD, bank, read};

/// Payments of one shard are made in the order they stand in, whoever pays: so what is refused is
/// the same, too, and what is left on each account.
#[test]
fn several_tellers_pay_as_one_does() {
    let directory = TempDir::new().unwrap();
    let payments = "--shards 4 --cross 0 --generate 20000 --accounts 300 --skew 0.9 --opening 50 --batch 64";
    let pay = |tellers: usize| {
        let arguments =
            format!("{payments} --tellers {tellers} --balances {tellers}.csv --audit-every 0.001");
        let ended = bank(directory.path(), &arguments, "").expect(0);
        assert_eq!(ended.number("payments"), 20_000, "{}", ended.said);
        assert_eq!(ended.number("done") + ended.number("refused"), 20_000, "{}", ended.said);
        ended.expect_exact_audits(ended.column("objects") as usize);
        // More than there are shards would have nothing to pay.
        let paid = ["one thread paid", "2 threads paid", "3 threads paid", "4 threads paid"];
        assert!(ended.said.contains(paid[tellers.min(4) - 1]), "{}", ended.said);
        (ended.number("refused"), read(&directory, &format!("{tellers}.csv")))
    };
    let one = pay(1);
    assert!(one.0 > 1000, "{} were refused", one.0);
    for tellers in [2, 3, 9] {
        assert_eq!(pay(tellers), one, "{tellers} tellers");
    }
}

/// An account that two tellers name is opened once, and counted once.
#[test]
fn tellers_share_accounts() {
    let directory = TempDir::new().unwrap();
    let arguments =
        "--shards 3 --cross 100 --generate 50000 --accounts 500 --batch 64 --tellers 3 --audit-every 0.001";
    let ended = bank(directory.path(), arguments, "").expect(0);
    assert_eq!(ended.number("done") + ended.number("refused"), 50_000, "{}", ended.said);
    assert!(ended.column("objects") <= 500 && ended.said.contains("they balance"), "{}", ended.said);
    ended.expect_exact_audits(ended.column("objects") as usize);
}

#[test]
fn tellers_tell_of_bad_lines_and_stop_at_them() {
    let directory = TempDir::new().unwrap();
    let arguments = "--shards 2 --tellers 2 --input - --balances balances.csv";
    let ended = bank(directory.path(), &format!("{arguments} --strict"), SOME_BAD).expect(3);
    assert!(ended.complained.ends_with("line 4: 2 fields, where the header has 4\n"), "{}", ended.complained);
    assert_eq!((ended.number("payments"), ended.number("bad lines")), (1, 1));
    assert_eq!(read(&directory, "balances.csv"), "account,balance\n1,995\n2,1005\n");
    let ended = bank(directory.path(), arguments, SOME_BAD).expect(0);
    assert_eq!((ended.number("payments"), ended.number("bad lines")), (3, 5), "{}", ended.complained);
}
