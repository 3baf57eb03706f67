use super::*;
use crate::logic::ids::NodeId;
use crate::logic::raft::membership::Membership;
use crate::storage::SimDisk;

fn meta(index: u64) -> SnapshotMeta {
    let last = LogPosition { index, term: 3 };
    SnapshotMeta { group: GroupId(7), last, membership: Membership::of_voters([NodeId(1), NodeId(2)]) }
}

fn store(disk: &Arc<SimDisk>) -> SnapshotStore {
    SnapshotStore::open(Arc::clone(disk) as Arc<dyn Disk>, None).expect("a directory that opens")
}

fn written(store: &SnapshotStore, index: u64, chunks: &[&[u8]]) -> SnapshotMark {
    let mut writer = store.create(meta(index)).expect("room");
    for chunk in chunks {
        writer.push(chunk).expect("room");
    }
    writer.finish().expect("room")
}

const CHUNKS: [&[u8]; 3] = [b"first", &[7; 3000], b"last"];

#[test]
fn a_finished_snapshot_survives_a_power_loss() {
    for seed in 0..20 {
        let disk = Arc::new(SimDisk::new(seed));
        let mark = written(&store(&disk), 9, &CHUNKS);
        disk.power_loss();
        let reader = store(&disk).read(&mark).expect("a durable snapshot");
        assert_eq!(reader.chunk_count(), 3);
        for (number, chunk) in (0..).zip(CHUNKS) {
            assert_eq!(reader.chunk(number).expect("verified"), chunk);
        }
    }
}

#[test]
fn an_unfinished_snapshot_leaves_nothing() {
    let disk = Arc::new(SimDisk::new(1));
    let mut writer = store(&disk).create(meta(1)).expect("room");
    writer.push(b"data").expect("room");
    drop(writer);
    assert_eq!(disk.list().expect("a list"), Vec::<String>::new());
    std::mem::forget(store(&disk).create(meta(1)).expect("room"));
    store(&disk);
    assert_eq!(disk.list().expect("a list"), Vec::<String>::new(), "the next start cleans up after a crash");
}

#[test]
fn an_empty_state_has_one_chunk() {
    let disk = Arc::new(SimDisk::new(1));
    let mark = written(&store(&disk), 1, &[]);
    let reader = store(&disk).read(&mark).expect("complete");
    assert_eq!((reader.chunk_count(), reader.chunk(0).expect("verified").len()), (1, 0));
}

#[test]
fn a_snapshot_is_received_in_order_and_an_interrupted_one_anew() {
    let (from, to) = (Arc::new(SimDisk::new(1)), Arc::new(SimDisk::new(2)));
    let sent = written(&store(&from), 9, &CHUNKS);
    let reader = store(&from).read(&sent).expect("complete");
    let chunk = |number| reader.stored_chunk(number).expect("verified");
    let mut incoming = store(&to).receive(meta(9)).expect("room");
    incoming.store(0, &chunk(0), false).expect("good");
    incoming.store(2, &chunk(2), true).expect("early, ignored");
    incoming.store(0, &chunk(0), false).expect("late, ignored");
    incoming.store(1, &chunk(1), false).expect("good");
    assert_eq!((incoming.next(), incoming.is_complete()), (2, false));
    drop(incoming);
    let mut incoming = store(&to).receive(meta(9)).expect("room");
    assert_eq!(incoming.next(), 0, "another sender may cut the state into other chunks");
    incoming.store(0, &chunk(0), false).expect("good");
    incoming.store(1, &chunk(1), false).expect("good");
    incoming.store(2, &chunk(2), true).expect("good");
    let received = incoming.finish().expect("room");
    assert_eq!(received, sent, "same chunks, same digest");
    to.power_loss();
    assert_eq!(store(&to).read(&received).expect("durable").chunk(1).expect("verified"), CHUNKS[1]);
}

#[test]
fn a_damaged_chunk_is_refused_and_wanted_again() {
    let (from, to) = (Arc::new(SimDisk::new(1)), Arc::new(SimDisk::new(2)));
    let sent = written(&store(&from), 9, &CHUNKS);
    let good = store(&from).read(&sent).and_then(|reader| reader.stored_chunk(0)).expect("verified");
    let mut incoming = store(&to).receive(meta(9)).expect("room");
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 1;
        assert!(matches!(incoming.store(0, &bad, false), Err(StorageError::BadChunk(_))), "byte {at}");
    }
    assert!(matches!(incoming.store(0, &good[..5], false), Err(StorageError::BadChunk(_))));
    assert_eq!(incoming.next(), 0);
    incoming.store(0, &good, false).expect("good");
}

#[test]
fn every_flipped_bit_is_noticed() {
    let disk = Arc::new(SimDisk::new(1));
    let mark = written(&store(&disk), 9, &[b"one", b"two"]);
    let all = |store: &SnapshotStore| -> Result<(), StorageError> {
        let reader = store.read(&mark)?;
        (0..reader.chunk_count()).try_for_each(|number| reader.chunk(number).map(|_| ()))
    };
    all(&store(&disk)).expect("undamaged");
    for offset in 0..disk.size(&mark.name).expect("a file") {
        for bit in 0..8 {
            disk.flip_bit(&mark.name, offset, bit);
            let result = all(&store(&disk));
            assert!(
                matches!(result, Err(StorageError::Damaged { .. })),
                "byte {offset} bit {bit}: {result:?}"
            );
            disk.flip_bit(&mark.name, offset, bit);
        }
    }
}

#[test]
fn two_snapshots_are_kept_and_newer_ones_left_alone() {
    let disk = Arc::new(SimDisk::new(1));
    let store = store(&disk);
    let marks: Vec<SnapshotMark> = (1..=5).map(|index| written(&store, index, &[b"x"])).collect();
    store.retain(&marks[3..4]).expect("deleted");
    let names = disk.list().expect("a list");
    assert_eq!(names, [&marks[2].name, &marks[3].name, &marks[4].name].map(String::clone));
    assert!(matches!(store.read(&marks[0]), Err(StorageError::Gone { .. })));
}

#[test]
fn a_full_disk_refuses_a_snapshot_and_takes_the_rest_away() {
    let disk = Arc::new(SimDisk::new(1));
    disk.limit_space(200);
    let mut writer = store(&disk).create(meta(1)).expect("room for the header");
    assert!(matches!(writer.push(&[0; 500]), Err(StorageError::Full { .. })));
    drop(writer);
    assert_eq!(disk.list().expect("a list"), Vec::<String>::new());
}

#[test]
fn a_chunk_may_be_as_long_as_the_longest_value() {
    let (from, to) = (Arc::new(SimDisk::new(1)), Arc::new(SimDisk::new(2)));
    let long = vec![7; (8 << 20) + 100];
    let sent = written(&store(&from), 9, &[b"one", &long]);
    let reader = store(&from).read(&sent).expect("complete");
    assert_eq!(reader.chunk(1).expect("verified"), long);
    let mut incoming = store(&to).receive(meta(9)).expect("room");
    for number in 0..2 {
        incoming.store(number, &reader.stored_chunk(number).expect("verified"), number == 1).expect("good");
    }
    assert_eq!(incoming.finish().expect("room"), sent);
}

#[test]
fn what_was_not_received_to_its_end_takes_no_room() {
    let (from, to) = (Arc::new(SimDisk::new(1)), Arc::new(SimDisk::new(2)));
    let sent = written(&store(&from), 9, &CHUNKS);
    let reader = store(&from).read(&sent).expect("complete");
    to.limit_space(1000);
    let mut incoming = store(&to).receive(meta(9)).expect("room for the header");
    incoming.store(0, &reader.stored_chunk(0).expect("verified"), false).expect("room");
    let full = incoming.store(1, &reader.stored_chunk(1).expect("verified"), false);
    assert!(matches!(full, Err(StorageError::Full { .. })));
    drop(incoming);
    assert_eq!((to.files(), to.used_bytes()), (vec![], 0));
    to.limit_space(10);
    assert!(matches!(store(&to).receive(meta(9)), Err(StorageError::Full { .. })));
    assert_eq!(to.files(), []);

    to.unlimit_space();
    std::mem::forget(store(&to).receive(meta(9)).expect("room"));
    store(&to);
    assert_eq!(to.files(), [], "the next start cleans up after a crash");
}
