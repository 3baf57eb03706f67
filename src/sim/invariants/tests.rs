//! Every rule can be broken, and says so: what is shown here never happens in a run.

use bytes::Bytes;

use super::*;
use crate::logic::ids::{Index, LogPosition, Term};
use crate::logic::kv::StateHash;
use crate::logic::kv::command::LeaseId;
use crate::logic::raft::entry::{Entry, HardState, Payload};
use crate::logic::raft::membership::Membership;
use crate::logic::raft::message::{Envelope, Message};
use crate::logic::raft::{Output, Persist, Restored, Role, RoleChange};
use crate::node::client::Versioned;
use crate::sim::history::{Ask, Told};

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// A group of three, and all rules.
struct Court {
    book: Book,
    rules: Vec<Box<dyn Invariant>>,
    order: u64,
}

impl Court {
    fn new() -> Court {
        let mut court = Court { book: Book::new(3), rules: all(), order: 0 };
        for node in [A, B, C] {
            court.must_allow(node, &Seen::PeerStarts { life: 1, restored: &restored(0, &[]) });
        }
        court
    }

    /// The rules that this breaks.
    fn see(&mut self, node: NodeId, seen: &Seen<'_>) -> Vec<String> {
        self.book.note(node, seen);
        let moment = Moment { at: Duration::ZERO, node, seen, book: &self.book };
        let broken = broken(&mut self.rules, |rule| rule.replica(&moment));
        if let Seen::Output { output, .. } = seen {
            self.book.note_committed(&output.committed);
        }
        broken
    }

    fn must_allow(&mut self, node: NodeId, seen: &Seen<'_>) {
        assert_eq!(self.see(node, seen), [] as [&str; 0]);
    }

    fn output(&mut self, node: NodeId, commit: Index, output: &Output) -> Vec<String> {
        self.see(node, &Seen::Output { commit, output })
    }

    /// Appends entries of these terms from `first` on, durably.
    fn append(&mut self, node: NodeId, ticket: u64, first: Index, terms: &[Term]) {
        assert_eq!(self.output(node, 0, &appends(ticket, first, terms)), [] as [&str; 0]);
        self.must_allow(node, &Seen::Durable { ticket });
    }

    fn end(&mut self) -> Vec<String> {
        broken(&mut self.rules, |rule| rule.end())
    }

    fn call(&mut self, client: u32, at: [u64; 2], ask: Ask, told: Told) -> Vec<String> {
        let (before, after) = (self.order, self.order + 1);
        self.order += 2;
        let [begun, ended] = at.map(Duration::from_millis);
        let call = Call { client, begun, ended, before, after, ask, told: Ok(told) };
        broken(&mut self.rules, |rule| rule.call(&call))
    }
}

fn broken(
    rules: &mut [Box<dyn Invariant>],
    mut check: impl FnMut(&mut dyn Invariant) -> Result<(), String>,
) -> Vec<String> {
    let fails = |rule: &mut Box<dyn Invariant>| check(&mut **rule).is_err().then(|| rule.name().to_owned());
    rules.iter_mut().filter_map(fails).collect()
}

fn entries(first: Index, terms: &[Term]) -> Vec<Entry> {
    (first..).zip(terms).map(|(index, term)| Entry { index, term: *term, payload: Payload::Noop }).collect()
}

fn restored(term: Term, terms: &[Term]) -> Restored {
    Restored {
        hard_state: HardState { term, vote: None },
        snapshot: None,
        entries: entries(1, terms),
        applied: 0,
        bootstrap: Membership::of_voters([A, B, C]),
        led: None,
    }
}

fn appends(ticket: u64, first: Index, terms: &[Term]) -> Output {
    let persist = Persist { ticket, snapshot: None, hard_state: None, entries: entries(first, terms) };
    Output { persist: Some(persist), ..Output::default() }
}

fn leads(term: Term) -> Output {
    let role = RoleChange { role: Role::Leader, term, leader: None };
    Output { role: Some(role), ..Output::default() }
}

fn commits(first: Index, terms: &[Term]) -> Output {
    Output { committed: entries(first, terms), ..Output::default() }
}

fn vote(from: NodeId, to: NodeId, term: Term) -> Output {
    let body = Message::VoteReply { pre: false, granted: true };
    let group = crate::logic::ids::GroupId(1);
    Output { send: vec![Envelope { group, from, to, term, body }], ..Output::default() }
}

#[test]
fn two_leaders_in_a_term() {
    let mut court = Court::new();
    assert!(court.output(A, 0, &leads(2)).is_empty());
    assert!(court.output(B, 0, &leads(3)).is_empty());
    assert_eq!(court.output(B, 0, &leads(2)), ["election safety"]);
}

#[test]
fn two_votes_in_a_term() {
    let mut court = Court::new();
    assert!(court.output(C, 0, &vote(C, A, 2)).is_empty());
    assert!(court.output(C, 0, &vote(C, A, 2)).is_empty(), "the same again");
    assert_eq!(court.output(C, 0, &vote(C, B, 2)), ["one vote in a term"]);
}

#[test]
fn logs_that_agree_on_an_entry_but_not_before_it() {
    let mut court = Court::new();
    court.append(A, 1, 1, &[1, 2]);
    court.append(B, 1, 1, &[1]);
    court.append(C, 1, 1, &[2]);
    assert!(court.output(B, 0, &appends(2, 2, &[2])).is_empty());
    assert_eq!(court.output(C, 0, &appends(2, 2, &[2])), ["log matching"]);
}

#[test]
fn a_leader_that_lacks_a_committed_entry() {
    let mut court = Court::new();
    court.append(A, 1, 1, &[1]);
    court.append(B, 1, 1, &[1]);
    assert!(court.output(A, 1, &commits(1, &[1])).is_empty());
    assert!(court.output(B, 0, &leads(2)).is_empty());
    assert_eq!(court.output(C, 0, &leads(3)), ["leader completeness"]);
}

#[test]
fn two_entries_committed_or_applied_at_one_index() {
    let mut court = Court::new();
    court.append(A, 1, 1, &[1]);
    court.append(B, 1, 1, &[1]);
    assert!(court.output(A, 1, &commits(1, &[1])).is_empty());
    assert_eq!(court.output(C, 1, &commits(1, &[2])), ["state machine safety"]);
    let applied = |term| Seen::Applied { position: LogPosition { index: 1, term }, hash: hash(1) };
    court.must_allow(A, &applied(1));
    assert_eq!(court.see(B, &applied(2)), ["state machine safety"]);
}

#[test]
fn what_was_durable_is_missing_after_a_restart() {
    let mut court = Court::new();
    court.append(A, 1, 1, &[1, 1]);
    assert!(court.output(A, 0, &appends(2, 3, &[1])).is_empty(), "not durable yet: it may be there or not");
    let start = |court: &mut Court, term, terms: &[Term]| {
        court.see(A, &Seen::PeerStarts { life: 2, restored: &restored(term, terms) })
    };
    assert!(start(&mut court, 0, &[1, 1, 1]).is_empty());
    assert_eq!(start(&mut court, 0, &[1, 1]), ["durability"]);
    assert_eq!(start(&mut court, 0, &[1, 2]), ["durability"]);
    assert_eq!(start(&mut court, 1, &[1, 2]), ["durability"], "with a term that it never was told");
}

#[test]
fn an_entry_committed_on_a_minority_of_disks() {
    let mut court = Court::new();
    court.append(A, 1, 1, &[1]);
    assert!(court.output(B, 0, &appends(1, 1, &[1])).is_empty());
    assert_eq!(court.output(A, 1, &commits(1, &[1])), ["durability"], "B has it in memory only");
}

#[test]
fn indexes_that_go_back_or_leap() {
    let mut court = Court::new();
    assert!(court.output(A, 5, &Output::default()).is_empty());
    assert_eq!(court.output(A, 4, &Output::default()), ["monotonic commit and apply"]);
    let applied = |index| Seen::Applied { position: LogPosition { index, term: 1 }, hash: hash(index as u8) };
    court.must_allow(A, &applied(1));
    assert_eq!(court.see(A, &applied(3)), ["monotonic commit and apply"]);
}

fn hash(byte: u8) -> StateHash {
    StateHash::from_bytes([byte; 16])
}

#[test]
fn replicas_that_went_apart() {
    let mut court = Court::new();
    let applied = |byte| Seen::Applied { position: LogPosition { index: 1, term: 1 }, hash: hash(byte) };
    court.must_allow(A, &applied(1));
    assert_eq!(court.see(B, &applied(2)), ["equal states"]);
}

fn read(value: &'static str) -> Told {
    Told::Value(Some(Versioned { value: Bytes::from_static(value.as_bytes()), version: 1 }))
}

#[test]
fn appends_that_are_lost_repeated_or_out_of_order() {
    let log = Bytes::from_static(b"log");
    let mut court = Court::new();
    for token in ["1.1;", "1.2;"] {
        let ask = Ask::Append(log.clone(), Bytes::from_static(token.as_bytes()));
        assert!(court.call(1, [0, 0], ask, Told::Version(1)).is_empty());
    }
    let mut get = |value| court.call(2, [0, 0], Ask::Get(log.clone()), read(value));
    assert!(get("1.1;2.7;1.2;").is_empty());
    for bad in ["1.1;", "1.1;1.2;1.1;", "1.2;1.1;", "1.1;1.2;nonsense;"] {
        assert_eq!(get(bad), ["exactly once"], "{bad}");
    }
}

#[test]
fn a_key_that_two_hold() {
    let mut court = Court::new();
    let lease = |index| LeaseId { group: crate::logic::ids::GroupId(1), index };
    let take = |lease| Ask::Take(Bytes::from_static(b"lock"), Bytes::new(), lease);
    for index in 1..4 {
        assert!(
            court.call(index as u32, [0, 5], Ask::Grant(1050), Told::Lease(lease(index), 1050)).is_empty()
        );
    }
    assert!(court.call(1, [5, 10], take(lease(1)), Told::Version(1)).is_empty());
    assert!(court.call(3, [1900, 1950], take(lease(3)), Told::Version(1)).is_empty());
    assert!(court.end().is_empty(), "the first lease has ended");
    assert!(court.call(2, [900, 950], take(lease(2)), Told::Version(1)).is_empty());
    assert_eq!(court.end(), ["lease exclusion"]);
}
