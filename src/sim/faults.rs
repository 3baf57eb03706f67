//! What may go wrong in a simulation, by name.

use std::collections::BTreeSet;
use std::str::FromStr;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The process of a node, or of all, ends and is started again.
    Crash,
    /// A machine, or all of them, loses its power: what was not synced is lost, or not, or in part.
    Power,
    /// As `Power`, in the middle of a write.
    Torn,
    /// An actor panics.
    Panic,
    /// An actor does nothing for a while.
    Hang,
    /// A process stands still for a while.
    Freeze,
    /// Two sides cannot reach each other.
    Partition,
    /// One node cannot reach another, while that one can.
    OneWay,
    /// Everything between two nodes is slow.
    SlowLink,
    /// Raft packets are lost.
    Loss,
    /// Raft packets arrive twice.
    Duplicate,
    /// Raft packets overtake each other.
    Reorder,
    /// Connections break.
    Reset,
    /// A disk is slow.
    SlowDisk,
    /// A disk is full.
    FullDisk,
    /// A sync or a write fails.
    DiskError,
    /// A bit of a file flips while the node is down.
    BitFlip,
    /// A clock leaps forward.
    ClockLeap,
    /// Clocks run at different speeds.
    ClockRate,
    /// The leader hands its office over.
    Transfer,
}

/// All kinds, with the names that the command line knows them by.
const NAMES: &[(Fault, &str)] = &[
    (Fault::Crash, "crash"),
    (Fault::Power, "power"),
    (Fault::Torn, "torn"),
    (Fault::Panic, "panic"),
    (Fault::Hang, "hang"),
    (Fault::Freeze, "freeze"),
    (Fault::Partition, "partition"),
    (Fault::OneWay, "one-way"),
    (Fault::SlowLink, "slow-link"),
    (Fault::Loss, "loss"),
    (Fault::Duplicate, "duplicate"),
    (Fault::Reorder, "reorder"),
    (Fault::Reset, "reset"),
    (Fault::SlowDisk, "slow-disk"),
    (Fault::FullDisk, "full-disk"),
    (Fault::DiskError, "disk-error"),
    (Fault::BitFlip, "bit-flip"),
    (Fault::ClockLeap, "clock-leap"),
    (Fault::ClockRate, "clock-rate"),
    (Fault::Transfer, "transfer"),
];

impl Fault {
    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(fault, _)| *fault == self).map_or("", |(_, name)| name)
    }
}

/// Which kinds of faults a simulation draws from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Every seed draws some of all kinds: with fewer kinds each of them gets further.
    All,
    /// These.
    Only(BTreeSet<Fault>),
}

impl Faults {
    /// The kinds of one run.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Vec<Fault> {
        match self {
            Faults::All => {
                let share = random.f64();
                let all = NAMES.iter().map(|(fault, _)| *fault);
                all.filter(|_| random.f64() < share.max(0.15)).collect()
            }
            Faults::Only(kinds) => kinds.iter().copied().collect(),
        }
    }
}

impl FromStr for Faults {
    type Err = String;

    /// `all`, `none`, or names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Faults::All),
            "none" => return Ok(Faults::Only(BTreeSet::new())),
            _ => {}
        }
        let kind = |name: &str| {
            let known = NAMES.iter().find(|(_, other)| *other == name.trim());
            known.map(|(fault, _)| *fault).ok_or_else(|| {
                let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
                format!("{name:?} is no kind of fault; write all, none, or some of {}", names.join(", "))
            })
        };
        text.split(',').map(kind).collect::<Result<_, _>>().map(Faults::Only)
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Faults::All => f.write_str("all"),
            Faults::Only(kinds) if kinds.is_empty() => f.write_str("none"),
            Faults::Only(kinds) => {
                let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
        let every: Faults = names.join(",").parse().expect("all names");
        assert_eq!(every, Faults::Only(NAMES.iter().map(|(fault, _)| *fault).collect()));
        for text in ["all", "none", "crash,torn"] {
            assert_eq!(text.parse::<Faults>().expect("kinds").to_string(), text);
        }
        let wrong = "crash,flood".parse::<Faults>().expect_err("there is no flood");
        assert!(wrong.contains("\"flood\"") && wrong.contains("partition"), "{wrong}");
    }
}
