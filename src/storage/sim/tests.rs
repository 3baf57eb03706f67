use super::*;

/// A file whose name is durable and that holds `length` synced zeros.
fn prepared(seed: u64, length: usize) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create("f").expect("a new file");
    disk.write("f", 0, &vec![0; length]).expect("room");
    disk.sync("f").expect("healthy");
    disk.sync_dir().expect("healthy");
    disk
}

fn content(disk: &SimDisk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size("f").expect("exists")).expect("small")];
    disk.read("f", 0, &mut bytes).expect("long enough");
    bytes
}

#[test]
fn a_power_loss_keeps_any_subset_of_unsynced_pieces() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = prepared(seed, 3 * PIECE);
        disk.write("f", 0, &[1; 3 * PIECE]).expect("room");
        disk.power_loss();
        let bytes = content(&disk);
        assert!(
            bytes.chunks(PIECE).all(|piece| piece.iter().all(|byte| *byte == piece[0])),
            "pieces are whole"
        );
        seen.insert([bytes[0], bytes[PIECE], bytes[2 * PIECE]]);
    }
    assert_eq!(seen.len(), 8, "all subsets occur: {seen:?}");
}

#[test]
fn synced_data_survive_a_power_loss_and_unsynced_a_process_crash() {
    let disk = prepared(1, PIECE);
    disk.write_durable("f", 0, &[1; 100]).expect("healthy");
    disk.power_loss();
    assert_eq!(content(&disk)[..100], [1; 100]);
    disk.write("f", 0, &[2; 100]).expect("room");
    disk.process_crash();
    assert_eq!(content(&disk)[..100], [2; 100]);
}

#[test]
fn a_failed_sync_leaves_a_cache_that_shows_what_the_device_lacks() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = prepared(seed, 2 * PIECE);
        disk.fail_sync_in(0);
        disk.write_durable("f", 0, &[1; 2 * PIECE]).expect_err("ordered to fail");
        disk.sync("f").expect("the pages are clean, so there is nothing to do");
        assert_eq!(content(&disk), [1; 2 * PIECE]);
        disk.evict("f").expect("healthy");
        lost += u32::from(content(&disk) != [1; 2 * PIECE]);
    }
    assert!(lost > 20, "{lost} of 50");
}

#[test]
fn names_are_lost_unless_the_directory_is_synced() {
    let kept = |sync: bool| {
        (0..50).filter(move |seed| {
            let disk = prepared(*seed, PIECE);
            disk.rename("f", "g").expect("exists");
            if sync {
                disk.sync_dir().expect("healthy");
            }
            disk.power_loss();
            disk.list().expect("lists") == ["g"]
        })
    };
    assert_eq!(kept(true).count(), 50);
    assert!((10..40).contains(&kept(false).count()));
}

#[test]
fn it_stops_at_the_ordered_call_until_the_machine_restarts() {
    let disk = prepared(1, PIECE);
    disk.stop_after(1);
    assert_eq!(disk.size("f").expect("one more call"), PIECE as u64);
    disk.sync("f").expect_err("stopped");
    disk.list().expect_err("still stopped");
    disk.power_loss();
    disk.list().expect("restarted");
}

#[test]
fn the_same_seed_gives_the_same_faults_and_delays() {
    let run = || {
        let disk = prepared(42, 20 * PIECE);
        disk.set_latency(Duration::from_millis(10));
        disk.write_durable("f", 0, &[1; PIECE]).expect("healthy");
        disk.write("f", 0, &[2; 20 * PIECE]).expect("room");
        disk.power_loss();
        (content(&disk), disk.take_latency())
    };
    assert_eq!(run(), run());
    assert!(!run().1.is_zero());
}
