//! Handing leadership over (dissertation, section 3.10): bring the successor up to date, refuse proposals meanwhile,
//! tell it to campaign, and carry on if it does not take over in time.

use std::time::Duration;

use super::membership_change::is_voter;
use super::message::Message;
use super::output::Refusal;
use super::replica::{Raft, State};
use crate::logic::ids::NodeId;

/// A handover under way.
#[derive(Debug)]
pub(super) struct Handover {
    /// The request; `None`: the leader's own wish.
    id: Option<u64>,
    to: NodeId,
    /// When it is given up.
    pub deadline: Duration,
    /// The successor was told to campaign.
    told: bool,
}

impl Raft {
    pub(super) fn on_transfer(&mut self, id: u64, to: Option<NodeId>) {
        if let Err(refusal) = self.begin_handover(Some(id), to) {
            self.output.refused.push((id, refusal));
        }
    }

    fn begin_handover(&mut self, id: Option<u64>, to: Option<NodeId>) -> Result<(), Refusal> {
        let State::Leader(leading) = &self.state else {
            return Err(Refusal::NotLeader { leader: self.leader });
        };
        if leading.handover.is_some() {
            return Err(Refusal::Transferring);
        }
        let to = to.or_else(|| self.best_successor()).ok_or(Refusal::NoSuchSuccessor)?;
        if to == self.config.id || !is_voter(self.history.current(), to) {
            return Err(Refusal::NoSuchSuccessor);
        }
        let deadline = self.now.saturating_add(self.config.election_timeout.end);
        if let State::Leader(leading) = &mut self.state {
            leading.handover = Some(Handover { id, to, deadline, told: false });
        }
        Ok(())
    }

    /// A leader whose disk is stuck is of little use, and of none once its log fills the memory. It stays in office if
    /// there is no other voter, and asks again later if nobody takes over.
    pub(super) fn consider_resigning(&mut self) {
        if self.disk_is_stuck() && !mutant!(LeadsWithStuckDisk) {
            // There may be no successor, or a handover under way.
            let _ = self.begin_handover(None, None);
        }
    }

    /// Gives up a handover that takes too long.
    pub(super) fn expire_handover(&mut self) {
        let now = self.now;
        let State::Leader(leading) = &mut self.state else { return };
        if let Some(handover) = leading.handover.take_if(|handover| now >= handover.deadline) {
            self.output.refused.extend(handover.id.map(|id| (id, Refusal::TransferTimedOut)));
        }
    }

    /// The other voter with the most of the log; of equals, the one heard of last.
    pub(super) fn best_successor(&self) -> Option<NodeId> {
        let State::Leader(leading) = &self.state else { return None };
        let voters = leading.progress.iter().filter(|(node, _)| is_voter(self.history.current(), **node));
        voters.max_by_key(|(_, progress)| (progress.matched, progress.contact)).map(|(node, _)| *node)
    }

    pub(super) fn drive_handover(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(handover) = &mut leading.handover else { return };
        let to = handover.to;
        let is_ready = leading.progress.get(&to).is_some_and(|p| p.matched == self.log.last().index);
        if is_ready && !handover.told {
            handover.told = true;
            leading.lease_void = !mutant!(LeaseSurvivesTransfer);
            self.send(to, Message::TimeoutNow);
        }
    }
}
