//! Known bugs, to be switched on one at a time: a test suite is worth what it notices.
//!
//! Only with the cargo feature `mutants`, which nothing but `tests/mutants.rs` asks for; without it the macro `mutant!`
//! is `false`, and nothing of this remains in the program. The environment variable `QUORATE_MUTANT` names the bug.
//! It is read here, once, so that the cores still take nothing from outside while they run.

use std::sync::OnceLock;

/// Defines the bugs: a name, and in a sentence what is wrong.
macro_rules! mutants {
    ($($name:ident: $what:literal;)*) => {
        /// A known bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mutant {
            $(#[doc = $what] $name,)*
        }

        /// All of them, with their names and what is wrong.
        pub const ALL: &[(Mutant, &str, &str)] = &[$((Mutant::$name, stringify!($name), $what),)*];
    };
}

mutants! {
    // Elections.
    VotesTwice: "a voter gives its vote to everybody who asks in a term";
    VotesForOlderLog: "a vote goes to a longer log whose last term is older";
    VotesForShorterLog: "a vote goes to a shorter log of the same last term";
    VotesBeforeSync: "a vote leaves before it is durable";
    CampaignsBeforeSync: "a candidate asks for votes before its own is durable";
    ForgetsVotes: "the vote is not stored with the term";
    ForgetsTerm: "a new term without a vote is not stored";
    ElectsUnderALeader: "a follower that has just heard a leader helps to elect another";
    ForgetsLoyalty: "a restarted voter does not wait for the lease that it may have confirmed";
    HalfIsAMajority: "half of an even number of voters counts as a majority";
    OneMajorityOfTwo: "a joint configuration decides with the majority of the new voters alone";
    LearnersCount: "learners count as voters";
    NeverStepsDown: "a leader without contact to a quorum goes on";
    LeadsWithStuckDisk: "a leader whose disk is stuck stays in office";
    // Replication.
    CountsOldTerms: "entries of earlier terms are committed by counting replicas (paper, figure 8)";
    CountsItselfBeforeSync: "a leader counts its own entries before they are durable";
    AcknowledgesBeforeSync: "a follower acknowledges entries before they are durable";
    AcknowledgesForgottenTerm: "a follower acknowledges in a term that is not durable";
    AnswersNewTermUnseen: "an append of a new term is answered with success, and its entries are not stored";
    LateRefusalRaisesMatch: "a late refusal raises what the follower is known to have";
    IgnoresTermOfPrevious: "an append is taken in behind an entry of another term";
    TruncatesOnRepetition: "a repeated append cuts off what came after it";
    CommitsWhatItDidNotCheck: "a follower commits beyond the last entry that it compared with the leader";
    AppliesUncommitted: "entries are applied before they are committed";
    AppliesAgainAfterRestart: "a rebuilt replica applies again what the state machine already has";
    // Snapshots.
    SnapshotOfPresentTerm: "a snapshot bears the present term instead of that of its last entry";
    SnapshotKeepsTail: "a snapshot leaves a longer log in place without a look at its term";
    SnapshotAcknowledgedBeforeSync: "a snapshot is acknowledged before it is installed durably";
    CutIsNotRetried: "a log that was not durable up to the snapshot stays until the next one";
    NewerSnapshotOfTheDead: "a follower waits for the snapshot of a leader that has lost it";
    // Reads and leases.
    ReadsWithoutConfirmation: "a leader answers reads without asking whether it still leads";
    ReadsJoinOldRound: "a read is confirmed by a round that began before it came";
    ReadsBeforeOwnEntry: "a new leader answers reads before it has committed an entry of its term";
    LeaseTooLong: "a leader's lease lasts longer than its voters wait";
    LeaseByOldClock: "a lease is judged by a time taken before the read came";
    LeaseSurvivesTransfer: "a leader trusts its lease after it told a successor to campaign";
    // Membership.
    ChangesBeforeOwnEntry: "a leader changes the membership before it has committed an entry of its term";
    ChangesOverlap: "a second change of the membership begins before the first has ended";
    TruncatedMembershipStays: "a membership stays in force when its entry is truncated";
    // The store.
    RetriesAgain: "a repeated command of a session is carried out again";
    LateDuplicates: "a copy of a command whose reply was acknowledged is carried out again";
    RepliesPileUp: "replies that were acknowledged are kept for ever";
    SnapshotWithoutSessions: "sessions are not in the snapshot";
    SnapshotWithoutReplies: "the replies of sessions are not in the snapshot";
    DeadSessionsServe: "a session that has expired is accepted";
    BatchByHalves: "a batch that fails leaves the changes before the failure";
    DeleteLeavesTheKey: "a deleted key stays, without its value";
    PutIgnoresVersion: "a conditional put does not look at the version";
    HidesMissingKeys: "a get of a missing key finds an empty value";
    CursorIgnored: "the next page of a prefix begins at its beginning";
    LeasesNeverEnd: "keys outlive the lease that they hang on";
    RenewalsAreLost: "renewing a lease does not lengthen it";
    TimeFromLocalClock: "a new leader stamps its own clock into entries instead of going on with log time";
    AnswersForOthers: "a caller gets the outcome of another command that took the place of its own";
    // The clerk.
    NewNumberPerRetry: "each retry of a command gets a number of its own";
    RetriesWithoutSession: "an append without a session is repeated although it may have been carried out";
    AcknowledgesUnanswered: "the clerk acknowledges replies that it has not received";
    SureOfRefusals: "a refusal after a lost attempt is reported as if the command had surely not been carried out";
    RetriesInNewSession: "a command whose session was lost is repeated in a new one";
    WindowIgnored: "the clerk numbers more commands than the session's window holds";
    // The log on disk: the first aside, the switches of `storage::Rules`.
    NeverSyncs: "a write to the log is acknowledged without a sync";
    FramesFitAnywhere: "a frame verifies in any segment and at any place";
    ManyUnsyncedFrames: "several frames are unsynced at a time";
    HardStateOnlyOnce: "a segment does not begin with term and vote of every group";
    RelocatesParts: "a relocation carries a part of a group's log";
    DemandsTheBeginning: "replay refuses a log whose beginning was given up";
    NameBeforeHead: "a segment gets its name before its head is durable";
    ReusesBeforeSync: "a segment given up is overwritten before its new name is durable";
    NamesUnsyncedAtOpen: "names are not synced before the files are read";
    FilesUnsyncedAtOpen: "files are not synced before they are read";
    StalePagesAtOpen: "cached pages are believed when the files are read";
    RetriesFailedSync: "a failed sync is retried";
    // The actors.
    ServesStaleReads: "the KV server answers linearizable reads without the Raft peer";
    ServesLeaseReadsStale: "the KV server answers lease reads without the Raft peer";
}

/// Whether this bug is the one that is switched on.
///
/// # Panics
/// When `QUORATE_MUTANT` names no bug.
pub fn is_on(mutant: Mutant) -> bool {
    static CHOSEN: OnceLock<Option<Mutant>> = OnceLock::new();
    *CHOSEN.get_or_init(choose) == Some(mutant)
}

fn choose() -> Option<Mutant> {
    let name = std::env::var("QUORATE_MUTANT").ok().filter(|name| !name.is_empty())?;
    let found = ALL.iter().find(|(_, known, _)| *known == name);
    Some(found.unwrap_or_else(|| panic!("QUORATE_MUTANT={name} names no mutant")).0)
}
