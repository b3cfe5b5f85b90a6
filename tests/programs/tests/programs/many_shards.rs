//! `many_shards` makes its transfers with each number of shards. It counts them by callgrind only
//! where a user wants that.

use super::example;

#[test]
fn every_transfer_is_made_on_2_to_64_shards() {
    let output = example("many_shards").arg("--once").output().expect("it runs");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("every transfer was made"), "{said}{complained}");
}
