use std::time::Duration;

use bytes::Bytes;

use super::entry::{Entry, HardState, Payload, SnapshotMeta};
use super::membership::Membership;
use super::message::{AppendOutcome, Envelope, Message};
use super::*;
use crate::logic::ids::{GroupId, Index, LogPosition, NodeId, Term};

const GROUP: GroupId = GroupId(1);

fn at(index: Index, term: Term) -> LogPosition {
    LogPosition { index, term }
}

fn entry(index: Index, term: Term) -> Entry {
    Entry { index, term, payload: Payload::Command(Bytes::from_static(b"command")) }
}

fn entries(terms: &[Term]) -> Vec<Entry> {
    terms.iter().zip(1..).map(|(term, index)| entry(index, *term)).collect()
}

fn voters(nodes: &[u64]) -> Membership {
    Membership::of_voters(nodes.iter().copied().map(NodeId))
}

fn meta(index: Index, term: Term) -> SnapshotMeta {
    SnapshotMeta { group: GROUP, last: at(index, term), membership: voters(&[1, 2, 3]) }
}

fn restored(term: Term, snapshot: Option<SnapshotMeta>, entries: Vec<Entry>) -> Restored {
    let hard_state = HardState { term, vote: None };
    Restored { hard_state, snapshot, entries, applied: 0, bootstrap: voters(&[1, 2, 3]), led: None }
}

fn start(restored: Restored) -> Result<Raft, StartError> {
    Raft::new(Config::new(GROUP, NodeId(1), 1), restored)
}

fn from(node: u64, term: Term, body: Message) -> Input {
    Input::Message(Envelope { group: GROUP, from: NodeId(node), to: NodeId(1), term, body })
}

/// Steps, takes the output, and reports what it asked for as durable.
fn drive(raft: &mut Raft, input: Input) -> Output {
    raft.step(input);
    let mut output = raft.ready();
    if let Some(persist) = &output.persist {
        raft.step(Input::Persisted { ticket: persist.ticket });
        let more = raft.ready();
        output.send.extend(more.send);
        output.committed.extend(more.committed);
    }
    output
}

/// Node 1 leads nodes 2 and 3 in the next term.
fn lead(raft: &mut Raft) {
    drive(raft, Input::Campaign);
    let term = raft.term() + 1;
    drive(raft, from(2, term, Message::VoteReply { pre: true, granted: true }));
    drive(raft, from(2, term, Message::VoteReply { pre: false, granted: true }));
    assert_eq!(raft.role(), Role::Leader);
}

#[test]
fn a_log_that_does_not_fit_the_snapshot_is_dropped_before_anything_is_appended() {
    let misfits = [(entries(&[1, 1, 1, 1, 1]), "another term"), (entries(&[1, 1]), "too short")];
    for (stored, why) in misfits {
        let mut raft = start(restored(3, Some(meta(4, 3)), stored)).expect(why);
        let persist = raft.ready().persist.expect(why);
        assert_eq!((persist.snapshot, persist.entries), (Some(meta(4, 3)), vec![]), "{why}");
        assert_eq!((raft.status().base, raft.status().last, raft.commit()), (at(4, 3), at(4, 3), 4), "{why}");
    }
}

#[test]
fn a_log_that_fits_the_snapshot_is_kept_with_its_tail() {
    let mut raft = start(restored(2, Some(meta(3, 1)), entries(&[1, 1, 1, 2, 2]))).expect("it fits");
    assert!(raft.ready().is_empty());
    assert_eq!((raft.status().base, raft.status().last, raft.commit()), (at(1, 1), at(5, 2), 3));
    let behind = entries(&[1, 1, 1, 2, 2]).split_off(3);
    let raft = start(restored(2, Some(meta(3, 1)), behind)).expect("it fits");
    assert_eq!((raft.status().base, raft.status().last, raft.commit()), (at(3, 1), at(5, 2), 3));
}

#[test]
fn a_damaged_disk_is_refused() {
    let gap = vec![entry(5, 1)];
    let not_consecutive = vec![entry(1, 1), entry(3, 1)];
    let terms_go_back = entries(&[2, 1]);
    for (term, snapshot, stored) in [
        (1, Some(meta(3, 1)), gap.clone()),
        (1, None, gap),
        (1, None, not_consecutive),
        (2, None, terms_go_back),
        (1, None, entries(&[1, 2])),
        (5, Some(meta(2, 3)), entries(&[1, 1, 2]).split_off(2)),
        (u64::MAX, None, vec![]),
    ] {
        let what = format!("{stored:?}");
        assert!(matches!(start(restored(term, snapshot, stored)), Err(StartError::Restored(_))), "{what}");
    }
    let config = Config { heartbeat: Duration::ZERO, ..Config::new(GROUP, NodeId(1), 1) };
    assert!(matches!(Raft::new(config, restored(0, None, vec![])), Err(StartError::Config(_))));
}

#[test]
fn a_snapshot_of_a_term_that_the_disk_has_not_heard_of_brings_it_along() {
    let mut raft =
        start(restored(1, Some(meta(4, 3)), vec![])).expect("it was applied before it was durable");
    assert_eq!(raft.term(), 3);
    let persist = raft.ready().persist.expect("the term is to be noted");
    assert_eq!(persist.hard_state, Some(HardState { term: 3, vote: None }));
}

#[test]
fn a_state_machine_that_lived_on_is_not_told_twice() {
    let mut state = restored(1, None, entries(&[1, 1, 1]));
    state.applied = 2;
    let mut raft = start(state).expect("it fits");
    let body = Message::Append { prev: at(3, 1), entries: vec![entry(4, 1)], commit: 4, round: 0 };
    let output = drive(&mut raft, from(2, 1, body));
    assert_eq!(output.committed, [entry(3, 1), entry(4, 1)]);
}

#[test]
fn nonsense_is_ignored() {
    let mut raft = start(restored(2, None, entries(&[1, 1, 2]))).expect("it fits");
    drive(&mut raft, from(2, 2, Message::Append { prev: at(3, 2), entries: vec![], commit: 2, round: 7 }));
    let before = raft.status();
    let append = |prev, entries| Message::Append { prev, entries, commit: 2, round: 8 };
    let chunk = |meta| Message::SnapshotChunk { meta, number: 0, last: true, data: Bytes::new() };
    let nonsense = [
        from(1, 3, Message::TimeoutNow),
        from(2, 0, append(at(3, 2), vec![])),
        from(2, u64::MAX, append(at(3, 2), vec![])),
        from(2, 2, append(at(3, 2), vec![entry(5, 2)])),
        from(2, 2, append(at(3, 2), vec![entry(4, 1)])),
        from(2, 2, append(at(3, 2), vec![entry(4, 3)])),
        from(2, 2, append(at(0, 2), vec![])),
        from(2, 2, append(at(3, 0), vec![])),
        from(2, 2, append(at(0, 0), vec![entry(1, 0)])),
        from(2, 2, append(at(u64::MAX, 2), vec![entry(0, 2)])),
        from(3, 2, append(at(3, 2), vec![entry(4, 2)])),
        from(2, 2, chunk(meta(9, 3))),
        from(2, 2, chunk(meta(0, 0))),
        from(2, 2, chunk(meta(u64::MAX, 2))),
        from(2, 2, chunk(SnapshotMeta { group: GroupId(9), ..meta(9, 2) })),
        from(2, 2, chunk(SnapshotMeta { membership: Membership::default(), ..meta(9, 2) })),
        from(9, 2, Message::VoteReply { pre: false, granted: true }),
        from(9, 2, Message::AppendReply { outcome: AppendOutcome::Accepted { matched: 3 }, round: 0 }),
        from(3, 2, Message::TimeoutNow),
    ];
    for input in nonsense {
        let text = format!("{input:?}");
        assert!(drive(&mut raft, input).is_empty(), "{text}");
        assert_eq!(raft.status(), before, "{text}");
    }
    let misdirected = [(GroupId(2), NodeId(1)), (GROUP, NodeId(2))].map(|(group, to)| {
        Input::Message(Envelope { group, from: NodeId(2), to, term: 9, body: append(at(3, 2), vec![]) })
    });
    for input in misdirected {
        assert!(drive(&mut raft, input).is_empty());
        assert_eq!(raft.status(), before);
    }
}

#[test]
fn a_leader_believes_no_answer_that_cannot_be() {
    let mut raft = start(restored(2, None, entries(&[1, 1, 2]))).expect("it fits");
    lead(&mut raft);
    let before = raft.status();
    let accepted =
        |matched, round| Message::AppendReply { outcome: AppendOutcome::Accepted { matched }, round };
    let reply = |last, next| Message::SnapshotReply { last, next, installed: true };
    for body in
        [accepted(5, 0), accepted(u64::MAX, 0), accepted(4, 99), reply(at(4, 3), 0), reply(at(9, 9), 1)]
    {
        let text = format!("{body:?}");
        assert!(drive(&mut raft, from(3, 3, body)).is_empty(), "{text}");
        assert_eq!(raft.status(), before, "{text}");
    }
    let stranger = drive(&mut raft, from(7, 3, accepted(4, 0)));
    assert!(stranger.is_empty());
    assert_eq!(raft.commit(), 0);
}

#[test]
fn a_newcomer_takes_no_snapshot_before_it_knows_its_group() {
    let mut raft = start(Restored::default()).expect("nothing is wrong with an empty disk");
    let joined = Entry { index: 3, term: 1, payload: Payload::Membership(voters(&[1, 2])) };
    let entries = vec![entry(1, 1), entry(2, 1), joined];
    drive(&mut raft, from(2, 1, Message::Append { prev: at(0, 0), entries, commit: 3, round: 0 }));
    assert_eq!(raft.snapshot_meta(0), None);
    assert_eq!(raft.snapshot_meta(2), None);
    assert!(drive(&mut raft, Input::SnapshotTaken { position: at(2, 1) }).is_empty());
    assert_eq!(raft.status().snapshot, None);
    assert_eq!(raft.snapshot_meta(3).map(|meta| meta.membership), Some(voters(&[1, 2])));
    assert_eq!(raft.snapshot_meta(4), None);
}

/// The log does not grow any more once it is at its limit, so no next snapshot would cut it.
#[test]
fn a_log_that_was_not_durable_when_the_snapshot_was_taken_is_cut_later() {
    let config = Config { keep_entries: 0, ..Config::new(GROUP, NodeId(1), 1) };
    let mut raft = Raft::new(config, restored(1, None, vec![])).expect("nothing is wrong");
    lead(&mut raft);
    let term = raft.term();
    for id in 1..=3 {
        raft.step(Input::Propose { id, command: Bytes::from_static(b"command") });
    }
    let ticket = raft.ready().persist.expect("three entries").ticket;
    let outcome = AppendOutcome::Accepted { matched: 4 };
    for node in [2, 3] {
        raft.step(from(node, term, Message::AppendReply { outcome, round: 0 }));
    }
    assert_eq!(raft.ready().committed.len(), 4);
    raft.step(Input::SnapshotTaken { position: at(4, term) });
    assert_eq!((raft.ready().compact, raft.status().base.index), (Some(at(1, term)), 1));
    raft.step(Input::Persisted { ticket });
    assert_eq!((raft.ready().compact, raft.status().base.index), (Some(at(4, term)), 4));
}

/// As one whose disk is full does.
#[test]
fn a_follower_that_cannot_store_a_snapshot_is_sent_it_again_after_a_pause() {
    let config = Config { keep_entries: 0, ..Config::new(GROUP, NodeId(1), 1) };
    let mut raft = Raft::new(config, restored(0, None, vec![])).expect("nothing is wrong");
    lead(&mut raft);
    let alive = |node, matched| {
        let outcome = AppendOutcome::Accepted { matched };
        from(node, 1, Message::AppendReply { outcome, round: 0 })
    };
    drive(&mut raft, alive(2, 1));
    let failed = || from(3, 1, Message::SnapshotReply { last: at(1, 1), next: 0, installed: false });
    let taken = Input::SnapshotTaken { position: at(1, 1) };
    assert_eq!(drive(&mut raft, taken).snapshot_wanted.len(), 1);
    assert_eq!(drive(&mut raft, failed()).snapshot_wanted.len(), 1, "it may have been restarted");
    for pause in [600, 1200] {
        assert!(drive(&mut raft, failed()).snapshot_wanted.is_empty());
        let mut waited = 0;
        let mut wanted = 0;
        while wanted == 0 {
            waited += 50;
            wanted =
                drive(&mut raft, Input::Tick { elapsed: Duration::from_millis(50) }).snapshot_wanted.len();
            drive(&mut raft, alive(3, 0));
        }
        assert_eq!((waited, wanted), (pause, 1));
    }
}

#[test]
fn a_leader_whose_snapshot_cannot_be_read_has_something_to_take_another_one_of() {
    let config = Config { keep_entries: 0, ..Config::new(GROUP, NodeId(1), 1) };
    let mut raft = Raft::new(config, restored(0, None, vec![])).expect("nothing is wrong");
    lead(&mut raft);
    let accepted = |matched| {
        let outcome = AppendOutcome::Accepted { matched };
        from(2, 1, Message::AppendReply { outcome, round: 0 })
    };
    drive(&mut raft, accepted(1));
    let wanted =
        |output: Output| output.snapshot_wanted.iter().map(|chunk| chunk.snapshot).collect::<Vec<_>>();
    assert_eq!(wanted(drive(&mut raft, Input::SnapshotTaken { position: at(1, 1) })), [at(1, 1)]);
    let unreadable = || Input::ChunkUnavailable { to: NodeId(3), snapshot: at(1, 1) };
    let persist = drive(&mut raft, unreadable()).persist.expect("an entry behind the snapshot");
    assert_eq!(persist.entries, [Entry { index: 2, term: 1, payload: Payload::Noop }]);
    assert_eq!(drive(&mut raft, unreadable()).persist, None, "one is enough");
    drive(&mut raft, accepted(2));
    drive(&mut raft, Input::SnapshotTaken { position: at(2, 1) });
    assert_eq!(wanted(drive(&mut raft, unreadable())), [at(2, 1)]);
}

/// It sent the newer one before its mark was durable, and has lost that in a crash.
#[test]
fn a_leader_may_send_an_older_snapshot_in_a_later_term() {
    let mut raft = start(restored(3, None, vec![])).expect("nothing is wrong");
    let chunk = |index, number| {
        let data = Bytes::from_static(b"chunk");
        Message::SnapshotChunk { meta: meta(index, 2), number, last: false, data }
    };
    assert_eq!(drive(&mut raft, from(2, 3, chunk(200, 0))).store_chunks.len(), 1);
    assert!(drive(&mut raft, from(2, 3, chunk(150, 0))).store_chunks.is_empty(), "it is late");
    let asked = drive(&mut raft, from(2, 4, chunk(150, 3))).send;
    let wanted = Message::SnapshotReply { last: at(150, 2), next: 0, installed: false };
    assert_eq!(asked.last().map(|envelope| &envelope.body), Some(&wanted));
    assert_eq!(drive(&mut raft, from(2, 4, chunk(150, 0))).store_chunks.len(), 1);
}

#[test]
fn a_broken_link_makes_the_leader_probe_from_the_match() {
    let mut raft = start(restored(0, None, vec![])).expect("it fits");
    lead(&mut raft);
    let accepted = AppendOutcome::Accepted { matched: 1 };
    drive(&mut raft, from(2, 1, Message::AppendReply { outcome: accepted, round: 0 }));
    drive(&mut raft, Input::Propose { id: 1, command: Bytes::from_static(b"lost") });
    assert_eq!(raft.status().peers[0].next, 3);
    let output = drive(&mut raft, Input::PeerUnreachable { node: NodeId(2) });
    assert_eq!(raft.status().peers[0].mode, PeerMode::Probe);
    let Message::Append { prev, entries, .. } = &output.send[0].body else { panic!("{output:?}") };
    assert_eq!((*prev, entries.len()), (at(1, 1), 1));
}

#[test]
fn the_timer_is_never_later_than_the_next_duty() {
    let mut raft = start(restored(0, None, vec![])).expect("it fits");
    let wait = raft.until_timer();
    assert!((Duration::from_millis(300)..Duration::from_millis(600)).contains(&wait));
    assert!(drive(&mut raft, Input::Tick { elapsed: wait - Duration::from_nanos(1) }).is_empty());
    assert!(!drive(&mut raft, Input::Tick { elapsed: Duration::from_nanos(1) }).is_empty());
    lead(&mut raft);
    assert_eq!(raft.until_timer(), Duration::from_millis(50));
}

#[test]
fn a_lease_is_not_judged_by_a_time_from_before_the_read() {
    let config = Config { lease: Some(Duration::from_millis(200)), ..Config::new(GROUP, NodeId(1), 1) };
    let mut raft = Raft::new(config, restored(0, None, vec![])).expect("it fits");
    lead(&mut raft);
    let echo = |round| Message::AppendReply { outcome: AppendOutcome::Accepted { matched: 1 }, round };
    drive(&mut raft, from(2, 1, echo(0)));
    drive(&mut raft, Input::Tick { elapsed: Duration::from_millis(50) });
    drive(&mut raft, from(2, 1, echo(1)));
    raft.step(Input::Read { id: 1, lease: true });
    raft.step(Input::Tick { elapsed: Duration::from_millis(1) });
    assert_eq!(raft.ready().reads, [(1, 1)]);
    // The process may have slept since the last tick, and another leader may have been elected meanwhile.
    let output = drive(&mut raft, Input::Read { id: 2, lease: true });
    assert_eq!((output.reads, output.send.len()), (vec![], 2), "it takes a round");
}

#[test]
fn loyalty_counts_from_the_tick_after_the_leader_was_heard() {
    let mut raft = start(restored(1, None, vec![])).expect("it fits");
    drive(&mut raft, from(2, 1, Message::Append { prev: at(0, 0), entries: vec![], commit: 0, round: 0 }));
    // The message may have come at the very end of these 299 ms.
    drive(&mut raft, Input::Tick { elapsed: Duration::from_millis(299) });
    drive(&mut raft, Input::Tick { elapsed: Duration::from_millis(299) });
    let ask = || from(3, 2, Message::RequestVote { last: at(9, 1), pre: true, transfer: false });
    let granted = |output: &Output| matches!(output.send[0].body, Message::VoteReply { granted: true, .. });
    assert!(!granted(&drive(&mut raft, ask())));
    raft.step(Input::Tick { elapsed: Duration::from_millis(1) });
    raft.ready();
    assert!(granted(&drive(&mut raft, ask())));
}

#[test]
fn a_log_that_was_not_cut_before_the_process_ended_is_cut_at_the_start() {
    let config = Config { keep_entries: 1, ..Config::new(GROUP, NodeId(1), 1) };
    let mut raft = Raft::new(config, restored(1, Some(meta(3, 1)), entries(&[1; 5]))).expect("it fits");
    assert_eq!((raft.ready().compact, raft.status().base), (Some(at(2, 1)), at(2, 1)));
}

/// Its applier may be slow, or its snapshots may fail while its log does not.
#[test]
fn a_follower_whose_log_is_full_of_committed_entries_takes_no_more_until_it_is_cut() {
    let config = Config {
        max_log_bytes: 150,
        max_uncommitted_bytes: 50,
        keep_bytes: 0,
        ..Config::new(GROUP, NodeId(1), 1)
    };
    let mut raft = Raft::new(config, restored(1, None, entries(&[1; 5]))).expect("it fits");
    let mut answer = |index, commit| {
        let prev = at(index - 1, if index > 6 { 2 } else { 1 });
        let append = Message::Append { prev, entries: vec![entry(index, 2)], commit, round: 0 };
        let output = drive(&mut raft, from(2, 2, append));
        let Message::AppendReply { outcome, .. } = output.send[0].body else { panic!("{output:?}") };
        (outcome, raft.status().last.index, raft.commit())
    };
    let accepted = |matched| AppendOutcome::Accepted { matched };
    assert_eq!(answer(6, 0), (accepted(6), 6, 0), "without a new leader's entry nothing would be committed");
    assert_eq!(answer(7, 6), (accepted(7), 7, 6));
    assert_eq!(answer(8, 7), (accepted(7), 7, 7));
    assert_eq!(answer(9, 8), (accepted(7), 7, 7), "it does not ask for what it has no room for");
    drive(&mut raft, Input::SnapshotTaken { position: at(7, 2) });
    let append = Message::Append { prev: at(9, 2), entries: vec![], commit: 9, round: 0 };
    let output = drive(&mut raft, from(2, 2, append));
    let outcome = AppendOutcome::Rejected { prev: 9, hint: at(7, 2) };
    assert_eq!(output.send[0].body, Message::AppendReply { outcome, round: 0 });
}

fn with_lease(restored: Restored) -> Raft {
    let config = Config { lease: Some(Duration::from_millis(200)), ..Config::new(GROUP, NodeId(1), 1) };
    Raft::new(config, restored).expect("it fits")
}

fn campaigns(output: &Output) -> bool {
    output.send.iter().any(|envelope| matches!(envelope.body, Message::RequestVote { .. }))
}

/// Its timeout had passed, but the heartbeat, which may have come just now, was taken in before it was told the time.
#[test]
fn a_follower_on_which_a_lease_may_rest_does_not_stand_itself() {
    let mut raft = with_lease(restored(1, None, vec![]));
    let heartbeat = Message::Append { prev: at(0, 0), entries: vec![], commit: 0, round: 1 };
    drive(&mut raft, from(2, 1, heartbeat));
    for elapsed in [600, 299] {
        let output = drive(&mut raft, Input::Tick { elapsed: Duration::from_millis(elapsed) });
        assert!(!campaigns(&output) && !campaigns(&drive(&mut raft, Input::Campaign)), "{elapsed}");
    }
    raft.step(Input::Tick { elapsed: Duration::from_millis(1) });
    assert!(campaigns(&drive(&mut raft, Input::Campaign)));
}

/// A vote for itself does not tell: another one may have won that term.
#[test]
fn where_leases_are_in_use_only_who_led_stands_at_once_after_a_restart() {
    for (led, expected) in [(Some(2), true), (Some(1), false), (None, false)] {
        let hard_state = HardState { term: 2, vote: Some(NodeId(1)) };
        let mut raft = with_lease(Restored { hard_state, led, ..restored(2, None, entries(&[1, 2])) });
        assert_eq!(campaigns(&drive(&mut raft, Input::Campaign)), expected, "{led:?}");
    }
}

/// Its sender may lead in the present term, too, and have launched a round of the same number since.
#[test]
fn a_round_of_an_earlier_term_is_not_echoed() {
    let mut raft = start(restored(3, None, vec![])).expect("it fits");
    let late = Message::Append { prev: at(5, 2), entries: vec![], commit: 0, round: 7 };
    let output = drive(&mut raft, from(2, 2, late));
    assert_eq!(output.send[0].term, 3);
    assert!(matches!(output.send[0].body, Message::AppendReply { round: 0, .. }), "{output:?}");
}

/// Without a term on its disk it would not know after a restart that a lease may rest on it.
#[test]
fn a_round_is_not_echoed_in_a_term_that_is_not_durable() {
    let mut raft = with_lease(restored(0, None, vec![]));
    let append = |round| Message::Append { prev: at(5, 1), entries: vec![], commit: 0, round };
    let echo = |output: &Output| match output.send[..] {
        [Envelope { body: Message::AppendReply { round, .. }, .. }] => round,
        _ => panic!("{output:?}"),
    };
    assert_eq!(echo(&drive(&mut raft, from(2, 1, append(1)))), 0);
    assert_eq!(echo(&drive(&mut raft, from(2, 1, append(2)))), 2);
}

/// Numbers as a broken or hostile peer might send them.
fn number(rng: &mut fastrand::Rng) -> u64 {
    const EXTREMES: [u64; 6] = [0, 1 << 32, (1 << 62) - 1, 1 << 62, u64::MAX - 1, u64::MAX];
    if rng.u8(0..8) == 0 { EXTREMES[rng.usize(0..EXTREMES.len())] } else { rng.u64(0..8) }
}

fn any_entries(rng: &mut fastrand::Rng, prev: LogPosition) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for offset in 0..rng.u64(0..4) {
        let index = if rng.u8(0..9) == 0 { number(rng) } else { prev.index.wrapping_add(1 + offset) };
        let term = if rng.u8(0..9) == 0 { number(rng) } else { prev.term.max(1) };
        let payload = match rng.u8(0..3) {
            0 => Payload::Noop,
            1 => Payload::Command(Bytes::from_static(b"x")),
            _ => Payload::Membership(any_membership(rng)),
        };
        entries.push(Entry { index, term, payload });
    }
    entries
}

fn any_membership(rng: &mut fastrand::Rng) -> Membership {
    let mut set = || (0..rng.u64(0..4)).map(|_| NodeId(rng.u64(0..5))).collect();
    Membership { voters: set(), outgoing: set(), learners: set() }
}

fn any_message(rng: &mut fastrand::Rng) -> Message {
    let mut position = || at(number(rng), number(rng));
    let (prev, last) = (position(), position());
    match rng.u8(0..8) {
        0 => Message::RequestVote { last, pre: rng.bool(), transfer: rng.bool() },
        1 => Message::VoteReply { pre: rng.bool(), granted: rng.bool() },
        2 | 3 => {
            let entries = any_entries(rng, prev);
            Message::Append { prev, entries, commit: number(rng), round: number(rng) }
        }
        4 => {
            let outcome = if rng.bool() {
                AppendOutcome::Accepted { matched: number(rng) }
            } else {
                AppendOutcome::Rejected { prev: number(rng), hint: last }
            };
            Message::AppendReply { outcome, round: number(rng) }
        }
        5 => {
            let meta = SnapshotMeta { group: GROUP, last, membership: any_membership(rng) };
            let number = u32::try_from(number(rng)).unwrap_or(u32::MAX);
            Message::SnapshotChunk { meta, number, last: rng.bool(), data: Bytes::new() }
        }
        6 => {
            let next = u32::try_from(number(rng)).unwrap_or(u32::MAX);
            Message::SnapshotReply { last, next, installed: rng.bool() }
        }
        _ => Message::TimeoutNow,
    }
}

#[test]
fn nothing_from_outside_makes_a_replica_panic() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut raft = start(restored(2, None, entries(&[1, 1, 2]))).expect("it fits");
        for _ in 0..300 {
            let term = if rng.u8(0..4) == 0 { number(&mut rng) } else { raft.term() };
            let input = match rng.u8(0..12) {
                0 => Input::Tick { elapsed: Duration::from_millis(rng.u64(0..700)) },
                1 => Input::Propose { id: 1, command: Bytes::new() },
                2 => Input::Read { id: 1, lease: rng.bool() },
                3 => Input::TransferLeader { id: 1, to: rng.bool().then_some(NodeId(2)) },
                _ => {
                    let body = any_message(&mut rng);
                    from(rng.u64(0..5), term, body)
                }
            };
            let output = drive(&mut raft, input);
            for chunk in output.store_chunks {
                raft.step(Input::ChunkStored { transfer: chunk.transfer, number: chunk.number });
            }
        }
    }
}
