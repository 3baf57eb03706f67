//! One random history: lives of a log, each ended by a crash, on one simulated disk.

use std::sync::Arc;

use quorate::logic::ids::{GroupId, NodeId};
use quorate::storage::{Disk, Log, LogOptions, OpenError, Rules, SimDisk, StorageError};

use super::Model;

/// What happened, over many histories.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub appends: u64,
    pub batches: u64,
    pub power_losses: u64,
    pub process_crashes: u64,
    pub refused: u64,
    pub torn: u64,
    pub released: u64,
    pub relocated: u64,
    pub no_room_at_open: u64,
}

impl Totals {
    pub fn add(&mut self, more: Totals) {
        self.appends += more.appends;
        self.batches += more.batches;
        self.power_losses += more.power_losses;
        self.process_crashes += more.process_crashes;
        self.refused += more.refused;
        self.torn += more.torn;
        self.released += more.released;
        self.relocated += more.relocated;
        self.no_room_at_open += more.no_room_at_open;
    }
}

struct World {
    rng: fastrand::Rng,
    disk: Arc<SimDisk>,
    options: LogOptions,
    groups: u32,
    /// What was acknowledged.
    model: Model,
    totals: Totals,
}

/// Runs the history of a seed.
pub fn run(seed: u64, rules: Rules) -> Result<Totals, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let options = LogOptions {
        segment_bytes: rng.u64(2..9) * 2048,
        block: 512,
        keep_segments: rng.usize(1..4),
        spares: rng.usize(1..3),
        relocate_bytes: rng.u64(500..4000),
        rules,
        ..LogOptions::new(NodeId(1))
    };
    let disk = Arc::new(SimDisk::new(rng.u64(..)));
    let groups = rng.u32(1..6);
    let mut world = World { rng, disk, options, groups, model: Model::default(), totals: Totals::default() };
    let mut under_way = None;
    for _ in 0..world.rng.u32(2..7) {
        let mut log = world.open(under_way.take())?;
        under_way = world.live(&mut log)?;
        drop(log);
        world.crash();
    }
    world.open(under_way)?;
    Ok(world.totals)
}

impl World {
    /// Opens until it succeeds, and compares. `under_way` is what the last call would have led to.
    fn open(&mut self, under_way: Option<Model>) -> Result<Log, String> {
        loop {
            let stopping = self.rng.u8(0..4) == 0;
            if stopping {
                if self.rng.bool() {
                    self.disk.stop_after(self.rng.u64(0..40));
                } else {
                    self.disk.stop_at_directory_sync(self.rng.u32(0..2));
                }
            }
            let opened = Log::open(Arc::clone(&self.disk) as Arc<dyn Disk>, self.options.clone());
            match opened {
                Ok((log, recovered)) => {
                    self.totals.torn += recovered.notes.len() as u64;
                    let recovered = Model::of(recovered.groups);
                    if recovered != self.model && under_way.as_ref() != Some(&recovered) {
                        return Err(format!(
                            "recovered {recovered:?}, acknowledged {:?}, under way {under_way:?}",
                            self.model
                        ));
                    }
                    self.model = recovered;
                    self.disk.process_crash();
                    return Ok(log);
                }
                Err(OpenError::Io { .. }) if stopping => self.crash(),
                Err(OpenError::Full { .. }) => {
                    self.totals.no_room_at_open += 1;
                    self.disk.process_crash();
                    self.disk.limit_space(u64::MAX);
                }
                Err(error) => return Err(format!("does not open: {error}")),
            }
        }
    }

    fn crash(&mut self) {
        if self.rng.u8(0..3) > 0 {
            self.disk.power_loss();
            self.totals.power_losses += 1;
        } else {
            self.disk.process_crash();
            self.totals.process_crashes += 1;
        }
    }

    /// Appends until a fault, or long enough. Returns what the failed call would have led to.
    fn live(&mut self, log: &mut Log) -> Result<Option<Model>, String> {
        self.plan_fault();
        for _ in 0..self.rng.u32(1..120) {
            let mut next = self.model.clone();
            let mut batches = Vec::new();
            for _ in 0..self.rng.u8(1..5) {
                let group = GroupId(self.rng.u32(0..self.groups));
                let batch = next.random_batch(group, &mut self.rng);
                next.apply(&batch);
                batches.push(batch);
            }
            match log.append(&batches) {
                Ok(()) => {
                    self.totals.appends += 1;
                    self.totals.batches += batches.len() as u64;
                    self.model = next;
                }
                Err(StorageError::Full { .. }) => self.totals.refused += 1,
                Err(error) if error.is_fatal() => return Ok(Some(next)),
                Err(error) => return Err(format!("append: {error}")),
            }
            if self.rng.u8(0..40) == 0 {
                self.check_reload(log)?;
            }
            let before = log.statistics();
            if log.maintain().is_err() {
                return Ok(None);
            }
            let after = log.statistics();
            self.totals.released += after.released - before.released;
            self.totals.relocated += after.relocated - before.relocated;
        }
        Ok(None)
    }

    fn plan_fault(&mut self) {
        match self.rng.u8(0..9) {
            0 | 1 => self.disk.stop_after(self.rng.u64(0..300)),
            2 => self.disk.fail_sync_in(self.rng.u32(0..100)),
            3 => self.disk.fail_write_in(self.rng.u32(0..100)),
            4 => self.disk.stop_at_directory_sync(self.rng.u32(0..10)),
            5 => self.disk.limit_space(self.rng.u64(0..40_000)),
            _ => self.disk.limit_space(u64::MAX),
        }
    }

    fn check_reload(&mut self, log: &Log) -> Result<(), String> {
        let group = GroupId(self.rng.u32(0..self.groups));
        match log.reload(group) {
            Ok(found) if found == self.model.0.get(&group).cloned().unwrap_or_default() => Ok(()),
            Ok(found) => {
                Err(format!("reloaded {found:?} of {group}, acknowledged {:?}", self.model.0.get(&group)))
            }
            Err(StorageError::Failed { .. }) => Ok(()),
            Err(error) => Err(format!("reload: {error}")),
        }
    }
}
