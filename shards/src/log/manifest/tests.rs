use super::*;

fn manifest() -> Manifest {
    let mut manifest = Manifest::new(7, PlacementKey(9), 1 << 20);
    manifest.begin_run(None, Epoch(0), 2, 5, WrittenSchema::UNSTATED);
    manifest
}

#[test]
fn what_is_written_is_read_and_a_flipped_bit_is_noticed() {
    let bytes = manifest().to_bytes();
    assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let found = Manifest::from_bytes(&flipped);
            assert!(found.is_err(), "byte {at}, bit {bit}");
            let version = u32::from_le_bytes(flipped[8..12].try_into().expect("four bytes"));
            if !(MANIFEST_VERSION_MIN..=MANIFEST_VERSION).contains(&version) {
                assert!(matches!(found, Err(NoManifest::Version { .. })), "{found:?}");
            }
        }
    }
    for length in 0..bytes.len() {
        assert_eq!(Manifest::from_bytes(&bytes[..length]), Err(NoManifest::Damaged));
    }
}

#[test]
fn what_version_1_wrote_is_read_and_the_versions_are_not_taken_for_each_other() {
    let logs = vec![LogBegin { log: 3, segment: 2, tail: Tail { sequence: 9, previous: 8 } }];
    let old = ManifestV1 {
        database: 7,
        placement_key: 9,
        segment_bytes: 1 << 20,
        next_log: 4,
        checkpoint: Some(CheckpointV1 {
            epoch: Epoch(5),
            time: Time(6),
            next_send: 1,
            parts: vec![PartV1 { log: 2, end: Tail::default(), bytes: 4096 }],
        }),
        runs: vec![RunV1 { after: Epoch(4), logs: logs.clone(), end: None }],
    };
    let body = postcard::to_allocvec(&old).expect("numbers can be written");
    let head = [1, body.len() as u32].map(u32::to_le_bytes).concat();
    let mut bytes = [&MAGIC[..], &head, &xxh3_128(&body).to_le_bytes(), &body].concat();
    let read = Manifest::from_bytes(&bytes).expect("it is one");
    assert_eq!(read.runs, [Run { start: 0, schema: 0, after: Epoch(4), logs, end: None }]);
    assert_eq!([read.schema(None), read.schema(Some(0))], [&WrittenSchema::UNSTATED; 2]);
    assert_eq!(read.checkpoint.as_ref().map(|checkpoint| checkpoint.parts[0].bytes), Some(4096));
    assert_eq!(Manifest::from_bytes(&read.to_bytes()), Ok(read.clone()));
    bytes[8] = 2;
    assert_eq!(Manifest::from_bytes(&bytes), Err(NoManifest::Damaged));
    let mut new = read.to_bytes();
    new[8] = 1;
    assert_eq!(Manifest::from_bytes(&new), Err(NoManifest::Damaged));
}

/// A manifest as `version` wrote it, with this shape for all three types; read, and the shapes
/// that are read.
fn before_4<S: Serialize + Into<Shape>>(version: u32, shape: impl Fn() -> S) -> Vec<Shape> {
    let logs = vec![LogBegin { log: 3, segment: 2, tail: Tail::default() }];
    let old = ManifestBefore4 {
        database: 7,
        placement_key: 9,
        segment_bytes: 1 << 20,
        next_log: 4,
        checkpoint: None,
        runs: vec![Run { start: 6, schema: 0, after: Epoch(4), logs: logs.clone(), end: None }],
        schemas: vec![WrittenSchemaBefore4 { version: 5, shapes: Some([shape(), shape(), shape()]) }],
        checkpoint_schema: 0,
        blamed: vec![Blamed { send_id: 8, lives: 1, fate: Fate::RunsAlone }],
    };
    let body = postcard::to_allocvec(&old).expect("numbers can be written");
    let head = [version, body.len() as u32].map(u32::to_le_bytes).concat();
    let mut bytes = [&MAGIC[..], &head, &checksum(&head, &body).to_le_bytes(), &body].concat();
    let read = Manifest::from_bytes(&bytes).expect("it is one");
    assert_eq!((read.runs[0].start, &read.runs[0].logs), (6, &logs));
    assert_eq!((&read.blamed, read.schema(Some(0)).version), (&old.blamed, 5));
    assert_eq!(Manifest::from_bytes(&read.to_bytes()), Ok(read.clone()));
    bytes[8] = MANIFEST_VERSION as u8;
    assert_eq!(Manifest::from_bytes(&bytes), Err(NoManifest::Damaged));
    read.schema(Some(0)).parts().map(|(_, shape)| shape.clone()).collect()
}

#[test]
fn what_versions_2_and_3_wrote_is_read_with_what_they_knew_of_widths() {
    let shape = |width| Shape { fingerprint: 5, is_whole: true, text: "u64".to_string(), width };
    let read = before_4(2, || ShapeV2 { fingerprint: 5, is_whole: true, text: "u64".to_string() });
    assert_eq!(read, vec![shape(None); 3]);
    for width in [None, Some(8)] {
        let read = before_4(3, || ShapeV3 { fingerprint: 5, is_whole: true, text: "u64".to_string(), width });
        assert_eq!(read, vec![shape(width.map(|bytes| Width { bytes, order: None })); 3]);
    }
}

#[test]
fn each_run_and_the_checkpoint_have_the_schema_of_their_records() {
    let schema = |version| WrittenSchema { version, shapes: None };
    let left = |sequence| {
        let logs = vec![(0, Tail { sequence, previous: sequence as u32 }); 2];
        Some(RunEnd { cut: Epoch(1), logs })
    };
    let mut manifest = Manifest::new(7, PlacementKey(9), 1 << 20);
    manifest.begin_run(None, Epoch(0), 2, 5, schema(1));
    manifest.begin_run(left(3), Epoch(3), 2, 6, schema(2));
    manifest.begin_run(left(1), Epoch(4), 2, 7, schema(2));
    let versions = |manifest: &Manifest| {
        (0..manifest.runs.len()).map(|run| manifest.schema(Some(run)).version).collect::<Vec<_>>()
    };
    assert_eq!(versions(&manifest), [1, 2, 2]);
    assert_eq!(manifest.schemas, [schema(1), schema(2)]);
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest.clone()));
    // A run that left nothing takes its schema along.
    manifest.begin_run(left(0), Epoch(5), 2, 8, schema(3));
    assert_eq!(versions(&manifest), [1, 2, 3]);
    let checkpoint = CheckpointParts { epoch: Epoch(6), time: Time(0), next_send: 0, parts: Vec::new() };
    let logs = manifest.runs[2].logs.clone();
    manifest.switch(checkpoint, logs);
    assert_eq!((manifest.schema(None), versions(&manifest)), (&schema(3), vec![3]));
    assert_eq!(manifest.schemas, [schema(3)]);
    manifest.begin_run(left(4), Epoch(7), 2, 9, schema(4));
    assert_eq!((manifest.schema(None), versions(&manifest)), (&schema(3), vec![3, 4]));
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest.clone()));
    manifest.checkpoint_schema = 2;
    assert_eq!(Manifest::from_bytes(&manifest.encode()), Err(NoManifest::Damaged));
}

#[test]
fn what_cannot_be_is_no_manifest() {
    let mut fewer_ends = manifest();
    fewer_ends.runs[0].end = Some(RunEnd { cut: Epoch(1), logs: vec![(0, Tail::default())] });
    let mut no_logs = manifest();
    no_logs.runs[0].logs.clear();
    let mut before_all = manifest();
    let checkpoint = CheckpointParts { epoch: Epoch(0), time: Time(0), next_send: 0, parts: Vec::new() };
    before_all.checkpoint = Some(checkpoint);
    let mut no_schema = manifest();
    no_schema.runs[0].schema = 1;
    let no_segments = Manifest { segment_bytes: 0, ..manifest() };
    for manifest in [fewer_ends, no_logs, before_all, no_schema, no_segments] {
        assert_eq!(Manifest::from_bytes(&manifest.encode()), Err(NoManifest::Damaged), "{manifest:?}");
        // And nobody writes one.
        let written = std::panic::catch_unwind(|| manifest.to_bytes());
        assert!(written.is_err(), "{manifest:?}");
    }
}

#[test]
fn who_is_under_way_in_a_crash_loses_a_life_and_who_has_run_is_forgotten() {
    let mut manifest = manifest();
    let blame = |manifest: &mut Manifest, under_way: &[u64], owed: &[u64]| {
        let aside =
            manifest.blame(under_way.iter().copied().map(SendId), |send_id| owed.contains(&send_id.0), 3);
        aside.iter().map(|blamed| blamed.send_id).collect::<Vec<_>>()
    };
    let all = [1, 2, 3, 4];
    assert_eq!(blame(&mut manifest, &[2, 3, 9], &all), [0; 0]);
    assert_eq!(manifest.blamed.iter().map(|blamed| blamed.send_id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(blame(&mut manifest, &[3], &all), [0; 0]);
    assert_eq!(blame(&mut manifest, &[3], &[3, 4]), [3]);
    let aside = Blamed { send_id: 3, lives: 3, fate: Fate::SetAside };
    assert_eq!(manifest.blamed, [aside], "what has run is forgotten");
    assert_eq!(Manifest::from_bytes(&manifest.to_bytes()), Ok(manifest.clone()));
    assert_eq!(blame(&mut manifest, &[3], &[3, 4]), [0; 0]);
    assert_eq!(manifest.blamed(SendId(3)), Some(aside), "and what is set aside loses none");
    manifest.decide(SendId(3), Some(Fate::Dropped));
    manifest.decide(SendId(4), Some(Fate::SetAside));
    manifest.decide(SendId(4), None);
    assert_eq!(manifest.blamed, [Blamed { fate: Fate::Dropped, ..aside }]);
    assert_eq!(blame(&mut manifest, &[], &[4]), [0; 0]);
    assert_eq!(manifest.blamed, []);
}

#[test]
fn a_run_that_left_nothing_is_forgotten_and_no_log_number_is_used_again() {
    let mut manifest = manifest();
    let nothing = RunEnd { cut: Epoch(0), logs: vec![(0, Tail::default()); 2] };
    manifest.begin_run(Some(nothing), Epoch(3), 1, 6, WrittenSchema::UNSTATED);
    assert_eq!(manifest.runs.len(), 1);
    assert_eq!(manifest.runs[0].logs[0].log, 2);
    let something = RunEnd { cut: Epoch(5), logs: vec![(0, Tail { sequence: 1, previous: 8 })] };
    manifest.begin_run(Some(something.clone()), Epoch(6), 2, 7, WrittenSchema::UNSTATED);
    assert_eq!(manifest.runs.len(), 2);
    assert_eq!(manifest.runs[0].end, Some(something));
    assert_eq!(manifest.runs[1].logs.iter().map(|log| log.log).collect::<Vec<_>>(), [3, 4]);
}
