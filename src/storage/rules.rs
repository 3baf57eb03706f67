//! The rules that make the log safe, as switches for tests.

/// Rules of the log, all in force. A test switches one off to show that the simulated disk then finds a violation:
/// rules that nobody would miss are not tested.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A frame verifies only in its own segment and at its own place in the sequence.
    pub tie_frames_to_their_place: bool,
    /// At most one frame is unsynced at any time.
    pub one_unsynced_frame: bool,
    /// Every segment begins with term and vote of every group.
    pub repeat_hard_state: bool,
    /// A relocation carries the whole log of a group.
    pub relocate_whole_logs: bool,
    /// Replay accepts that only the end of a group's log is left in the files, as long as a later record explains it.
    pub accept_missing_beginning: bool,
    /// Header and first frame of a segment are durable before the file gets the name of a segment.
    pub head_before_name: bool,
    /// A segment given up is overwritten only after its new name is durable.
    pub sync_name_before_reuse: bool,
    /// Names are synced before the files are read at a start.
    pub sync_names_at_open: bool,
    /// Files are synced before they are read at a start.
    pub sync_files_at_open: bool,
    /// Cached pages are dropped before the files are read at a start.
    pub evict_at_open: bool,
    /// A failed sync stops the log; it is never retried.
    pub stop_at_failed_sync: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            tie_frames_to_their_place: !mutant!(FramesFitAnywhere),
            one_unsynced_frame: !mutant!(ManyUnsyncedFrames),
            repeat_hard_state: !mutant!(HardStateOnlyOnce),
            relocate_whole_logs: !mutant!(RelocatesParts),
            accept_missing_beginning: !mutant!(DemandsTheBeginning),
            head_before_name: !mutant!(NameBeforeHead),
            sync_name_before_reuse: !mutant!(ReusesBeforeSync),
            sync_names_at_open: !mutant!(NamesUnsyncedAtOpen),
            sync_files_at_open: !mutant!(FilesUnsyncedAtOpen),
            evict_at_open: !mutant!(StalePagesAtOpen),
            stop_at_failed_sync: !mutant!(RetriesFailedSync),
        }
    }
}
