//! Links, nodes, and finding the leader.

use super::super::*;
use super::rig::*;
use crate::logic::ids::NodeId;
use crate::logic::kv::command::{Expect, KvError, LeaseId, Query};
use crate::messages::admin::{AdminReply, AdminRequest};
use crate::messages::client::{Answer, Consistency, RequestBody, ServerError};

fn missing() -> Result<Answer, ServerError> {
    refused(KvError::NoKey)
}

#[test]
fn a_call_waits_for_the_first_link() {
    let mut rig = Rig::new(ClerkOptions { stateless: true, ..Default::default() });
    rig.call(1, get(), None);
    rig.wait(ms(500));
    assert_eq!(rig.sent(), []);
    rig.up(2);
    assert_eq!(rig.sent1().0, 2);
}

#[test]
fn a_hint_is_followed_at_once_and_remembered() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let request = rig.sent1();
    assert_eq!(request.0, 1);
    rig.answer(&request, not_leader(Some(3)));
    let request = rig.sent1();
    assert_eq!(request.0, 3);
    rig.answer(&request, missing());
    rig.call(2, get(), None);
    assert_eq!(rig.sent1().0, 3);
}

/// The leader keeps such a question until the turn comes; all other calls would wait for it.
#[test]
fn a_question_for_a_turn_is_not_kept_while_it_looks_for_the_leader() {
    let mut rig = Rig::stateless();
    let lease = LeaseId { group: GROUP, index: 7 };
    let query = Query::Turn { lease, wait_ms: 10_000 };
    rig.call(1, Op::Read { query, consistency: Consistency::Linearizable, node: None }, None);
    let asked_to_wait = |request: &Sent| match request.1.body {
        RequestBody::Read { query: Query::Turn { wait_ms, .. }, .. } => wait_ms,
        ref other => panic!("{other:?} is no question for a turn"),
    };
    let request = rig.sent1();
    assert_eq!(asked_to_wait(&request), 10_000);
    rig.answer(&request, not_leader(Some(2)));
    let probe = rig.sent1();
    assert_eq!((probe.0, asked_to_wait(&probe)), (2, 0));
    rig.call(2, get(), None);
    assert_eq!(rig.sent(), []);
    rig.wait(ms(1000));
    assert_ne!(rig.next_sent().0, 2, "a probe that is not answered in time is given up like any other");
}

#[test]
fn nodes_that_name_each_other_are_asked_only_so_often() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let mut asked = 0;
    while rig.now < ms(2000) {
        for request in rig.sent() {
            asked += 1;
            let other = if request.0 == 1 { 2 } else { 1 };
            rig.answer(&request, not_leader(Some(other)));
        }
        if rig.out.send.is_empty() {
            rig.wait(ms(5));
        }
    }
    // Four in a row, then a pause; pauses grow towards half a second.
    assert!((15..80).contains(&asked), "asked {asked} times in 2 s");
    assert_eq!(rig.results(), []);
}

#[test]
fn only_one_call_looks_for_the_leader_and_all_follow() {
    let mut rig = Rig::stateless();
    (0..100).for_each(|id| rig.call(id, get(), None));
    let sent = rig.sent();
    assert_eq!(sent.len(), 100);
    for request in &sent {
        rig.answer(request, not_leader(Some(2)));
    }
    let probe = rig.sent1();
    assert_eq!(probe.0, 2);
    rig.wait(ms(300));
    assert_eq!(rig.sent(), []);
    rig.answer(&probe, missing());
    let rest = rig.sent();
    assert_eq!(rest.len(), 99);
    assert!(rest.iter().all(|(node, _)| *node == 2));
}

#[test]
fn without_a_hint_the_next_node_is_asked() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let first = rig.sent1();
    rig.answer(&first, not_leader(None));
    let second = rig.sent1();
    rig.answer(&second, not_leader(None));
    let third = rig.sent1();
    assert_eq!((first.0, second.0, third.0), (1, 2, 3));
}

#[test]
fn a_broken_link_sends_its_requests_elsewhere_after_a_pause() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    rig.call(2, get(), None);
    assert_eq!(rig.sent().len(), 2);
    rig.down(1);
    assert_eq!(rig.sent(), [], "there is a pause");
    rig.wait(ms(55));
    let probe = rig.sent1();
    assert_eq!(probe.0, 2);
    rig.answer(&probe, missing());
    assert_eq!(rig.sent1().0, 2);
}

#[test]
fn a_hanging_leader_is_left_and_its_late_answer_still_counts() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let first = rig.sent1();
    rig.wait(ms(1060));
    let second = rig.sent1();
    assert_eq!((first.0, second.0), (1, 2));
    // The others still believe in it, but a hint that names it is not followed.
    rig.answer(&second, not_leader(Some(1)));
    assert_eq!(rig.sent1().0, 3);
    rig.answer(&first, missing());
    assert_eq!(rig.result(), Err(ClerkError::NotFound));
}

#[test]
fn setbacks_of_old_attempts_say_nothing() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let first = rig.sent1();
    rig.wait(ms(1060));
    let second = rig.sent1();
    rig.answer(&first, not_leader(Some(3)));
    assert_eq!(rig.sent(), []);
    rig.answer(&second, missing());
    assert_eq!(rig.result(), Err(ClerkError::NotFound));
}

#[test]
fn a_slow_answer_does_not_unseat_a_leader_that_answers_others() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let slow = rig.sent1();
    rig.wait(ms(500));
    rig.call(2, get(), None);
    let quick = rig.sent1();
    rig.answer(&quick, missing());
    rig.wait(ms(505));
    let again = rig.sent1();
    assert_eq!((slow.0, again.0), (1, 1));
}

#[test]
fn busy_is_retried_after_a_pause_and_within_the_deadline() {
    let mut rig = Rig::stateless();
    rig.call(1, put(Expect::Version(4)), Some(ms(300)));
    let mut tries = 0;
    while rig.now < ms(400) {
        for request in rig.sent() {
            tries += 1;
            rig.answer(&request, Err(ServerError::Busy { limit: "max_pending".into() }));
            assert_eq!(rig.sent(), []);
        }
        rig.wait(ms(5));
    }
    assert!((2..20).contains(&tries), "{tries}");
    let cause = "the server is at its limit of max_pending".into();
    assert_eq!(rig.result(), Err(ClerkError::Timeout { maybe: false, cause }));
}

#[test]
fn a_group_that_nobody_hosts_is_an_error() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    for node in [1, 2, 3] {
        let request = rig.sent1();
        assert_eq!(request.0, node);
        rig.answer(&request, Err(ServerError::NoSuchGroup));
    }
    let text = "no node that can be reached hosts g1".into();
    assert_eq!(rig.result(), Err(ClerkError::Unavailable(text)));
}

#[test]
fn deadlines_pass_with_the_truth_about_the_effect() {
    let timeout = |maybe, cause: &str| Err(ClerkError::Timeout { maybe, cause: cause.into() });
    let mut rig = Rig::new(ClerkOptions { stateless: true, ..Default::default() });
    rig.call(1, put(Expect::Any), Some(ms(100)));
    rig.down(1);
    rig.wait(ms(100));
    assert_eq!(rig.result(), timeout(false, "no node can be reached (host1:1: reset)"));
    let mut rig = Rig::stateless();
    rig.call(2, put(Expect::Any), Some(ms(100)));
    rig.wait(ms(100));
    assert_eq!(rig.result(), timeout(true, "n1 has not answered yet"));
    rig.call(3, get(), Some(ms(100)));
    rig.wait(ms(100));
    assert_eq!(rig.result(), timeout(false, "n1 has not answered yet"));
    rig.sent();
    rig.call(4, put(Expect::Any), Some(ms(100)));
    let request = rig.sent1();
    rig.down(2);
    rig.down(3);
    rig.answer(&request, not_leader(None));
    rig.wait(ms(5));
    rig.sent();
    rig.down(1);
    rig.wait(ms(95));
    assert!(matches!(rig.result(), Err(ClerkError::Timeout { maybe: false, .. })));
}

#[test]
fn too_many_calls_are_refused_at_once() {
    let mut rig = Rig::new(ClerkOptions { stateless: true, max_pending: 2, ..Default::default() });
    (1..=3).for_each(|id| rig.call(id, get(), None));
    assert_eq!(rig.results(), [(3, Err(ClerkError::Overloaded { limit: 2 }))]);
    rig.step(Input::Abandon(vec![CallId(1)]));
    rig.call(4, get(), None);
    assert_eq!(rig.results(), []);
    assert_eq!(rig.clerk.pending(), 2);
}

#[test]
fn nodes_are_learnt_from_a_welcome_and_dialled() {
    let mut rig = Rig::new(ClerkOptions::default());
    let endpoint = rig.endpoint(1);
    rig.step(Input::LinkUp { endpoint, welcome: welcome(1, &[1, 2, 3, 4]) });
    assert!(rig.dialled(4));
    let known: Vec<_> = rig.clerk.nodes().into_iter().map(|(node, _, up)| (node.0, up)).collect();
    assert_eq!(known, [(1, true), (2, false), (3, false), (4, false)]);
    // A node that was learnt and is gone from the list is forgotten; given addresses stay.
    rig.step(Input::LinkUp { endpoint: rig.endpoint(2), welcome: welcome(2, &[1, 2]) });
    let known: Vec<_> = rig.clerk.nodes().into_iter().map(|(node, ..)| node.0).collect();
    assert_eq!(known, [1, 2, 3]);
}

#[test]
fn one_link_to_a_node_is_enough() {
    let mut rig = Rig::new(ClerkOptions { stateless: true, ..Default::default() });
    rig.up(1);
    // Node 1 answers at the second address too.
    let second = rig.endpoint(2);
    rig.step(Input::LinkUp { endpoint: second, welcome: welcome(1, &[]) });
    assert_eq!(rig.out.close.drain(..).collect::<Vec<_>>(), [second]);
    rig.down(1);
    rig.step(Input::LinkUp { endpoint: second, welcome: welcome(1, &[]) });
    assert_eq!(rig.out.close, []);
    rig.call(1, get(), None);
    rig.wait(ms(60));
    assert_eq!(rig.sent1().0, 2);
}

#[test]
fn nodes_of_another_cluster_are_left() {
    let mut rig = Rig::new(ClerkOptions { stateless: true, cluster: "other".into(), ..Default::default() });
    rig.up(1);
    assert_eq!(rig.out.close, [rig.endpoint(1)]);
    rig.call(1, get(), Some(ms(50)));
    rig.wait(ms(50));
    let Err(ClerkError::Timeout { cause, .. }) = rig.result() else { panic!("it timed out") };
    assert!(cause.contains("belongs to the cluster \"test\""), "{cause}");
}

#[test]
fn redials_pause_and_stay_bounded() {
    let mut rig = Rig::new(ClerkOptions::default());
    let endpoint = rig.endpoint(1);
    let mut out = Output::default();
    let mut dials = 0;
    rig.step(Input::LinkDown { endpoint, reason: "refused".into() });
    while rig.now < ms(10_000) {
        rig.now += ms(5);
        rig.clerk.step(rig.now, Input::Tick, &mut out);
        for (endpoint, _) in std::mem::take(&mut out.dial) {
            dials += 1;
            rig.clerk.step(rig.now, Input::LinkDown { endpoint, reason: "refused".into() }, &mut out);
        }
    }
    assert!((15..120).contains(&dials), "{dials} dials in 10 s");
}

#[test]
fn stale_reads_go_to_any_node_or_the_one_named() {
    let mut rig = Rig::stateless();
    let stale = |node: Option<u64>| Op::Read {
        query: Query::Get { key: key("k") },
        consistency: Consistency::Stale,
        node: node.map(NodeId),
    };
    (0..6).for_each(|id| rig.call(id, stale(None), None));
    let mut nodes: Vec<_> = rig.sent().into_iter().map(|(node, _)| node).collect();
    nodes.sort();
    assert_eq!(nodes, [1, 1, 2, 2, 3, 3]);
    rig.call(7, stale(Some(2)), None);
    assert_eq!(rig.sent1().0, 2);
    rig.call(8, stale(Some(7)), None);
    assert_eq!(rig.results(), [(8, Err(ClerkError::Invalid("the cluster has no node n7".into())))]);
}

#[test]
fn a_question_to_a_node_waits_for_it_and_for_no_other() {
    let mut rig = Rig::stateless();
    rig.down(2);
    let status = |node| Op::Admin { request: AdminRequest::Status, node: Some(NodeId(node)) };
    rig.call(1, status(2), Some(ms(200)));
    rig.call(2, status(2), None);
    rig.wait(ms(200));
    let cause = "n2 cannot be reached".into();
    assert_eq!(rig.results(), [(1, Err(ClerkError::Timeout { maybe: false, cause }))]);
    rig.up(2);
    let request = rig.sent1();
    assert_eq!(request.0, 2);
    rig.answer(&request, Ok(Answer::Admin(Box::new(AdminReply::Done))));
    assert!(rig.result().is_ok());
}

#[test]
fn orders_to_a_node_are_not_repeated() {
    let mut rig = Rig::stateless();
    let transfer = Op::Admin { request: AdminRequest::TransferLeader { to: None }, node: None };
    rig.call(1, transfer, None);
    let request = rig.sent1();
    rig.answer(&request, not_leader(Some(2)));
    assert_eq!(rig.sent1().0, 2);
    rig.down(2);
    assert_eq!(rig.result(), Err(ClerkError::Maybe));
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut rig = Rig::stateless();
    rig.call(1, get(), None);
    let (node, mut request) = rig.sent1();
    for id in [0, 1, u64::MAX, request.id + (1 << 16)] {
        let genuine = std::mem::replace(&mut request.id, id);
        rig.answer(&(node, request.clone()), missing());
        request.id = genuine;
    }
    assert_eq!(rig.results(), []);
    rig.answer(&(node, request.clone()), missing());
    rig.answer(&(node, request), missing());
    assert_eq!(rig.results().len(), 1);
}

#[test]
fn a_node_is_not_given_more_than_it_may_have_under_way() {
    let mut rig = Rig::new(ClerkOptions { stateless: true, max_in_flight: 3, ..Default::default() });
    rig.up(1);
    (0..10).for_each(|id| rig.call(id, get(), None));
    let mut answered = 0;
    while answered < 10 {
        let sent = rig.sent();
        assert!((1..=3).contains(&sent.len()), "{}", sent.len());
        answered += sent.len();
        sent.iter().for_each(|request| rig.answer(request, missing()));
    }
    assert_eq!(rig.results().len(), 10);
    (0..3).for_each(|id| rig.call(id, get(), Some(ms(50))));
    rig.wait(ms(50));
    assert_eq!((rig.sent().len(), rig.results().len()), (3, 3));
    rig.call(3, get(), None);
    assert_eq!(rig.sent().len(), 1, "what was given up makes room");
}
