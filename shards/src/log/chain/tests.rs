//! Whatever is done to a chain is found and named, and what was written reads as it was.

use proptest::prelude::*;

use super::*;

const DATABASE: u64 = 0x5eed;

fn schema() -> WrittenSchema {
    WrittenSchema::UNSTATED
}

/// A record that says that this pending send was delivered.
fn delivered(send_id: u64) -> Box<[u8]> {
    [&[9][..], &send_id.to_le_bytes()].concat().into()
}

/// A put of so many bytes.
fn put(bytes: usize) -> Box<[u8]> {
    [&[2, 1, 0, 7][..], &vec![1; bytes]].concat().into()
}

/// A chain that `a` took over, to be gone on with, and its entries.
fn begun() -> (Chain, Vec<Vec<u8>>) {
    let mut writer = Chain::at(ChainPlace::first(DATABASE));
    let entries = vec![writer.take_over("a", schema(), Epoch(0))];
    (writer, entries)
}

/// A little of everything.
fn chain() -> Vec<Vec<u8>> {
    let (mut writer, mut entries) = begun();
    entries.extend(writer.append(Epoch(3), Time(5), &[delivered(1), delivered(2)], ENTRY_BYTES_MIN));
    entries.extend(writer.append(Epoch(4), Time(6), &[], ENTRY_BYTES_MIN));
    entries.extend(writer.append(Epoch(5), Time(7), &[put(5000), delivered(3)], ENTRY_BYTES_MIN));
    entries.push(writer.take_over("b", schema(), Epoch(9)));
    let epoch = writer.place().epoch.next();
    entries.extend(writer.append(epoch, Time(8), &[delivered(4)], ENTRY_BYTES_MIN));
    entries.push(writer.still());
    let place = writer.place().clone();
    entries.push(writer.name_checkpoint(checkpoint(place)));
    entries.push(writer.resign());
    entries.push(writer.take_over("a", schema(), Epoch(0)));
    entries
}

/// A checkpoint of all up to a place.
fn checkpoint(place: ChainPlace) -> NamedCheckpoint {
    NamedCheckpoint { object: "one".into(), epoch: place.epoch, bytes: 7, hash: [3; 32], place }
}

fn read(entries: &[Vec<u8>]) -> Result<(ChainPlace, Vec<Followed>), ChainError> {
    let mut reader = Chain::at(ChainPlace::first(DATABASE));
    let followed = entries.iter().map(|entry| reader.follow(entry)).collect::<Result<_, _>>()?;
    Ok((reader.place().clone(), followed))
}

/// What comes of a chain in which these entries stand in place of its own.
fn refused(entries: &[Vec<u8>]) -> ChainError {
    read(entries).expect_err("the chain was changed")
}

#[test]
fn what_was_written_reads_as_it_was() {
    let entries = chain();
    let (place, followed) = read(&entries).expect("it is whole");
    let batch = |followed: &Followed| match followed {
        Followed::Epochs(gathered) => Some((gathered.epoch, gathered.time, gathered.records.clone())),
        _ => None,
    };
    let batches: Vec<_> = followed.iter().filter_map(batch).collect();
    let second = Epoch(9 + EPOCHS_APART + 1);
    assert_eq!(
        batches,
        [
            (Epoch(3), Time(5), vec![delivered(1), delivered(2)]),
            (Epoch(4), Time(6), vec![]),
            (Epoch(5), Time(7), vec![put(5000), delivered(3)]),
            (second, Time(8), vec![delivered(4)]),
        ]
    );
    assert_eq!(followed.iter().filter(|followed| **followed == Followed::Part).count(), 1);
    assert_eq!((place.term, place.owner.as_deref(), place.next), (3, Some("a"), entries.len() as u64));
    assert_eq!(place.epoch, Epoch(second.0 + EPOCHS_APART), "no epoch of a former owner is as late");
}

#[test]
fn each_bit_that_flips_is_found() {
    let entries = chain();
    for (at, entry) in entries.iter().enumerate() {
        for bit in 0..entry.len() * 8 {
            // All of the short ones, and of the long one the ends.
            if entry.len() > 1000 && (200 * 8..(entry.len() - 20) * 8).contains(&bit) && bit % 97 != 0 {
                continue;
            }
            let mut flipped = entry.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut changed = entries.clone();
            changed[at] = flipped;
            let error = refused(&changed);
            let number = at as u64;
            assert!(
                matches!(error, ChainError::Damaged { number: found, .. } if found == number),
                "bit {bit} of entry {at}: {error}"
            );
        }
    }
}

#[test]
fn an_entry_that_is_cut_or_grown_is_found() {
    let entry = &chain()[1];
    for bytes in 0..entry.len() {
        assert!(read_entry(&entry[..bytes]).is_err(), "{bytes}");
    }
    let grown = [&entry[..], &[0]].concat();
    let (bytes, said) = (grown.len(), entry.len());
    assert_eq!(read_entry(&grown), Err(EntryError::Length { bytes, said }));
    let of_version = |version: u32| {
        let mut entry = entry.clone();
        entry[4..8].copy_from_slice(&version.to_le_bytes());
        let crc = checksum(&entry);
        entry[12..FRAME].copy_from_slice(&crc.to_le_bytes());
        entry
    };
    let newer = CHAIN_VERSION + 1;
    assert_eq!(read_entry(&of_version(newer)), Err(EntryError::Version { found: newer }));
    // What was written before takeovers took room reads as it did.
    assert_eq!(read_entry(&of_version(1)), read_entry(entry));
}

#[test]
fn what_is_missing_repeated_or_moved_is_named() {
    let entries = chain();
    for at in 1..entries.len() - 1 {
        let mut gap = entries.clone();
        gap.remove(at);
        let (expected, found) = (at as u64, at as u64 + 1);
        assert_eq!(refused(&gap), ChainError::Gap { expected, found });
        let mut again = entries.clone();
        again.insert(at + 1, entries[at].clone());
        assert_eq!(refused(&again), ChainError::Again { expected: found, found: expected });
        let mut swapped = entries.clone();
        swapped.swap(at, at + 1);
        assert_eq!(refused(&swapped), ChainError::Gap { expected, found });
    }
}

// Two owners that both believe went on from one entry. Whichever comes first, the other's second
// does not follow it.
#[test]
fn a_fork_is_named() {
    let (writer, entries) = begun();
    let (mut one, mut other) = (writer.clone(), writer);
    let first = one.append(Epoch(1), Time(1), &[delivered(1)], ENTRY_BYTES_MIN);
    other.append(Epoch(1), Time(1), &[delivered(2)], ENTRY_BYTES_MIN);
    let second = other.append(Epoch(2), Time(1), &[delivered(3)], ENTRY_BYTES_MIN);
    assert_eq!(refused(&[entries, first, second].concat()), ChainError::Fork { number: 2 });
}

#[test]
fn an_owner_that_was_replaced_does_not_go_on() {
    let (writer, mut entries) = begun();
    let mut former = writer.clone();
    let mut later = writer;
    entries.push(later.take_over("b", schema(), Epoch(0)));
    // It has the right number and the right hash, and the wrong term.
    let stale = Head {
        database: DATABASE,
        term: 1,
        number: 2,
        previous: later.place().previous,
        epoch: Epoch(EPOCHS_APART + 9),
        time: Time(0),
        body: Body::Epochs { part: 0, parts: 1 },
    };
    let stale_entry = write_entry(&stale, &[]);
    let refusal = ChainError::Term { number: 2, found: 1, expected: 2 };
    assert_eq!(refused(&[entries.clone(), vec![stale_entry]].concat()), refusal);
    let takeover = Body::Takeover { node: "c".to_string(), schema: Box::new(schema()) };
    let skips = write_entry(&Head { term: 4, body: takeover, ..stale.clone() }, &[]);
    let refusal = ChainError::Term { number: 2, found: 4, expected: 3 };
    assert_eq!(refused(&[entries.clone(), vec![skips]].concat()), refusal);
    let early = write_entry(&Head { term: 2, epoch: Epoch(5), ..stale.clone() }, &[]);
    let refusal = ChainError::NotLater { number: 2, found: Epoch(5), before: Epoch(EPOCHS_APART) };
    assert_eq!(refused(&[entries.clone(), vec![early]].concat()), refusal);
    entries.push(later.resign());
    let resigned = Head { term: 2, number: 3, previous: later.place().previous, ..stale };
    let refusal = ChainError::Resigned { number: 3, term: 2 };
    assert_eq!(refused(&[entries, vec![write_entry(&resigned, &[])]].concat()), refusal);
    former.append(Epoch(1), Time(0), &[], ENTRY_BYTES_MIN);
}

#[test]
fn a_checkpoint_is_of_what_the_chain_has_before_it() {
    let (mut writer, mut entries) = begun();
    entries.extend(writer.append(Epoch(3), Time(5), &[delivered(1)], ENTRY_BYTES_MIN));
    let place = writer.place().clone();
    let named = checkpoint(place.clone());
    let names = |named: &NamedCheckpoint| {
        let ChainPlace { database, next, previous, term, epoch, time, .. } = place.clone();
        let body = Body::Checkpoint(Box::new(named.clone()));
        let head = Head { database, term, number: next, previous, epoch, time, body };
        read(&[&entries[..], &[write_entry(&head, &[])]].concat())
    };
    let (_, followed) = names(&named).expect("it is whole");
    assert_eq!(followed.last(), Some(&Followed::Checkpoint(Box::new(named.clone()))));
    let at = |place| NamedCheckpoint { place, ..named.clone() };
    for wrong in [
        NamedCheckpoint { epoch: Epoch(4), ..named.clone() },
        NamedCheckpoint { epoch: Epoch(2), ..named.clone() },
        at(ChainPlace { next: 3, ..named.place.clone() }),
        at(ChainPlace { term: 2, ..named.place.clone() }),
        at(ChainPlace { database: 9, ..named.place.clone() }),
    ] {
        let refusal = ChainError::Checkpoint { number: 2, epoch: wrong.epoch };
        assert_eq!(names(&wrong).expect_err("it is of something else"), refusal);
    }
    // A reader that has it goes on from its place, and it names no batch that is half there.
    let name = writer.name_checkpoint(named.clone());
    assert!(names_checkpoint(&name) && !names_checkpoint(&entries[1]) && !names_checkpoint(&[]));
    assert!(matches!(Chain::at(named.place.clone()).follow(&name), Ok(Followed::Checkpoint(_))));
    let mut inside = Chain::at(named.place);
    let parts = inside.clone().append(Epoch(4), Time(5), &[put(5000)], ENTRY_BYTES_MIN);
    assert_eq!(inside.follow(&parts[0]), Ok(Followed::Part));
    let early =
        Head { number: 3, previous: hash_entry(&parts[0]), ..read_entry(&name).expect("it is one").0 };
    let refusal = ChainError::Part { number: 3, part: 0, parts: 2, expected: 1 };
    assert_eq!(inside.follow(&write_entry(&early, &[])), Err(refusal));
}

#[test]
fn a_chain_begins_with_a_takeover_of_its_database() {
    let mut other = Chain::at(ChainPlace::first(9));
    let refusal = ChainError::OtherDatabase { number: 0, found: 9, expected: DATABASE };
    assert_eq!(refused(&[other.take_over("a", schema(), Epoch(0))]), refusal);
    let head = Head {
        database: DATABASE,
        term: 0,
        number: 0,
        previous: [0; 32],
        epoch: Epoch(1),
        time: Time(0),
        body: Body::Epochs { part: 0, parts: 1 },
    };
    assert_eq!(refused(&[write_entry(&head, &[])]), ChainError::NoOwner { number: 0, term: 0 });
}

#[test]
fn a_batch_without_its_end_is_let_go_of_by_a_takeover() {
    let (mut writer, mut entries) = begun();
    let mut other = writer.clone();
    let parts = writer.append(Epoch(2), Time(0), &[put(5000)], ENTRY_BYTES_MIN);
    assert_eq!(parts.len(), 2);
    let mut reader = Chain::at(ChainPlace::first(DATABASE));
    reader.follow(&entries[0]).expect("it begins");
    assert_eq!(reader.follow(&parts[0]), Ok(Followed::Part));
    assert!(reader.is_inside());
    other = {
        let mut at = other.place().clone();
        (at.next, at.previous) = (2, hash_entry(&parts[0]));
        Chain::at(at)
    };
    entries.push(parts[0].clone());
    entries.push(other.take_over("b", schema(), Epoch(0)));
    entries.extend(other.append(Epoch(EPOCHS_APART + 1), Time(0), &[delivered(1)], ENTRY_BYTES_MIN));
    let (_, followed) = read(&entries).expect("it is whole");
    assert!(
        matches!(followed.last(), Some(Followed::Epochs(gathered)) if gathered.records == [delivered(1)])
    );
    // Without the takeover the next part has to be there.
    let refusal = ChainError::Part { number: 2, part: 0, parts: 1, expected: 1 };
    let mut goes_on = Chain::at({
        let mut at = reader.place().clone();
        at.epoch = Epoch(1);
        at
    });
    let skipping = goes_on.append(Epoch(2), Time(0), &[], ENTRY_BYTES_MIN);
    assert_eq!(reader.follow(&skipping[0]), Err(refusal));
}

#[test]
fn what_is_no_record_is_refused_by_its_place() {
    let (mut writer, mut entries) = begun();
    let epoch = [&[1][..], &7_u64.to_le_bytes()].concat().into_boxed_slice();
    entries.extend(writer.append(Epoch(1), Time(0), &[delivered(1), epoch], ENTRY_BYTES_MIN));
    assert_eq!(refused(&entries), ChainError::Record { number: 1, record: 1 });
    for piece in [&[1][..], &[5, 0, 0, 0, 9], &[0, 0, 0, 0]] {
        assert_eq!(BatchSoFar::default().take(piece, true), Err(0));
    }
}

// The story is of a standby that is started again: it goes on where it was, and the place that it
// kept is all that it needs.
#[test]
fn a_place_can_be_kept() {
    let entries = chain();
    for kept in 1..entries.len() {
        let mut reader = Chain::at(ChainPlace::first(DATABASE));
        entries[..kept].iter().for_each(|entry| drop(reader.follow(entry).expect("it is whole")));
        if reader.is_inside() {
            continue;
        }
        let bytes = postcard::to_allocvec(reader.place()).expect("it can be written");
        let place: ChainPlace = postcard::from_bytes(&bytes).expect("it can be read");
        let mut again = Chain::at(place);
        entries[kept..].iter().for_each(|entry| drop(again.follow(entry).expect("it goes on")));
    }
}

proptest! {
    #[test]
    fn any_batches_read_as_they_were(
        batches in prop::collection::vec(
            (prop::collection::vec(0_usize..6000, 0..4), 1_u64..5, 0_u64..9, 4096_usize..9000), 0..12
        ),
    ) {
        let (mut writer, mut entries) = begun();
        let mut written = Vec::new();
        for (sizes, after, time, entry_bytes_max) in batches {
            let records: Vec<_> = sizes.into_iter().map(put).collect();
            let epoch = Epoch(writer.place().epoch.0 + after);
            let of_batch = writer.append(epoch, Time(time), &records, entry_bytes_max);
            prop_assert!(of_batch.iter().all(|entry| entry.len() <= entry_bytes_max));
            entries.extend(of_batch);
            written.push((epoch, records));
        }
        let (place, followed) = read(&entries).expect("it is whole");
        prop_assert_eq!(&place, writer.place());
        let read: Vec<_> = followed
            .into_iter()
            .filter_map(|followed| match followed {
                Followed::Epochs(gathered) => Some((gathered.epoch, gathered.records)),
                _ => None,
            })
            .collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), begins in any::<bool>()) {
        let mut bytes = bytes;
        if begins && bytes.len() >= FRAME {
            // A frame that vouches for any head.
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(&MAGIC);
            bytes[4..8].copy_from_slice(&CHAIN_VERSION.to_le_bytes());
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            let crc = checksum(&bytes);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        let mut chain = Chain::at(ChainPlace::first(DATABASE));
        prop_assert!(chain.follow(&bytes).is_err());
        prop_assert_eq!(chain.place(), &ChainPlace::first(DATABASE));
    }
}

/// Entries of a batch with this many bytes in each of its records.
fn long(records: &[usize]) -> Vec<Box<[u8]>> {
    records.iter().map(|bytes| put(*bytes)).collect()
}

proptest! {
    // However a batch is cut, and wherever a record ends.
    #[test]
    fn a_batch_in_parts_reads_as_it_was(
        records in proptest::collection::vec(prop_oneof![0_usize..60, 3000..9000_usize], 0..12),
        more in 0_usize..300,
    ) {
        let (mut writer, mut entries) = begun();
        let records = long(&records);
        let bytes: usize = records.iter().map(|record| LENGTH + record.len()).sum();
        let parts = writer.append(Epoch(2), Time(0), &records, ENTRY_BYTES_MIN + more);
        prop_assert_eq!(parts.len(), bytes.div_ceil(room(ENTRY_BYTES_MIN + more)).max(1));
        entries.extend(parts);
        let (_, followed) = read(&entries).expect("it is whole");
        let Some(Followed::Epochs(gathered)) = followed.last() else { panic!("{followed:?}") };
        prop_assert_eq!(&gathered.records, &records);
    }

    // A reader that is given something wrong reads the same place again, and goes on.
    #[test]
    fn a_part_that_is_refused_leaves_what_came_before(
        records in proptest::collection::vec(1_usize..3000, 4..12),
        wrong in proptest::collection::vec(any::<u8>(), 0..6000),
        is_last in any::<bool>(),
    ) {
        let records = long(&records);
        let all: Vec<u8> = records
            .iter()
            .flat_map(|record| [&(record.len() as u32).to_le_bytes()[..], record].concat())
            .collect();
        let (one, other) = all.split_at(all.len() / 2);
        let mut pieces = BatchSoFar::default();
        pieces.take(one, false).expect("all of it are records");
        // Behind the end of what was begun, so that it ends there, or in its place.
        let end = other.len().min(pieces.records.len() * 100);
        let wrong = [&other[..end], &[0; LENGTH], &wrong[..]].concat();
        if pieces.take(&wrong, is_last).is_err() {
            pieces.take(other, true).expect("all of it are records");
            prop_assert_eq!(&pieces.records, &records);
        }
    }
}

#[test]
fn a_record_that_is_longer_than_any_is_none() {
    let length = |bytes: usize| (bytes as u32).to_le_bytes();
    let mut pieces = BatchSoFar::default();
    assert_eq!(
        pieces.take(&[&length(9)[..], &delivered(1), &length(CHAINED_RECORD_MAX + 1)].concat(), false),
        Ok(())
    );
    assert_eq!(pieces.take(&[9], false), Err(1), "nobody waits for the end of it");
    let mut pieces = BatchSoFar::default();
    assert_eq!(pieces.take(&[&length(CHAINED_RECORD_MAX)[..], &[9]].concat(), false), Ok(()));
    assert_eq!(pieces.take(&[], true), Err(0), "its end is missing");
}

// any-epoch-leaves: a reader took at most 1 GiB, its writer asserted that, and nothing kept an
// epoch below it. It takes 4 GB of memory, so it is run by hand.
#[test]
#[ignore = "4 GB of memory"]
fn an_epoch_may_be_longer_than_a_gibibyte() {
    let (mut writer, mut entries) = begun();
    let records = long(&[(16 << 20) - 1000; 66]);
    entries.extend(writer.append(Epoch(2), Time(0), &records, 8 << 20));
    let mut reader = Chain::at(ChainPlace::first(DATABASE));
    let mut last = None;
    for entry in entries {
        last = Some(reader.follow(&entry).expect("it is whole"));
    }
    let Some(Followed::Epochs(gathered)) = last else { panic!("it ends with its last part") };
    assert!(
        gathered.records == records && records.iter().map(|record| record.len()).sum::<usize>() > 1 << 30
    );
}
