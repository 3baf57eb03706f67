//! What the peer says of itself.

use actix::prelude::*;

use super::RaftPeer;
use crate::logic::raft::{self, Role};
use crate::messages::admin::GroupStatus;
use crate::messages::group::{ObservePeer, PeerStatus};

impl RaftPeer {
    fn status(&self) -> PeerStatus {
        let status = self.core.status();
        PeerStatus {
            status: GroupStatus {
                group: self.spec.group,
                role: role_name(&status).to_owned(),
                leader: status.leader,
                term: status.hard_state.term,
                last: status.last.index,
                commit: status.commit,
                applied: 0,
                snapshot: status.snapshot.map_or(0, |last| last.index),
                keys: 0,
                bytes: 0,
                sessions: 0,
                time_ms: 0,
                hash: String::new(),
                peers: status.peers.iter().map(|peer| (peer.node, peer.matched)).collect(),
            },
            membership: status.membership,
        }
    }
}

fn role_name(status: &raft::Status) -> &'static str {
    match status.role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::PreCandidate => "pre-candidate",
        Role::Follower if status.membership.learners.contains(&status.id) => "learner",
        Role::Follower => "follower",
    }
}

impl Handler<ObservePeer> for RaftPeer {
    type Result = PeerStatus;

    fn handle(&mut self, _: ObservePeer, _: &mut Self::Context) -> PeerStatus {
        self.status()
    }
}
