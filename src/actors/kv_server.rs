//! The KV server of a group: the desk at which clients' requests are taken in and answered. `reading` is what it does
//! about reads, `turns` about those who wait for a lock.

mod reading;
mod turns;

use std::collections::BTreeMap;
use std::time::Duration;

use actix::prelude::*;

use super::caller::{Caller, Incoming, Kind};
use super::clock::NodeClock;
use super::supervision::Port;
use crate::logic::desk::clock::LogClock;
use crate::logic::desk::pace::is_worth_a_round;
use crate::logic::desk::pending::{Fate, Pending};
use crate::logic::desk::turns::Turns;
use crate::logic::ids::{GroupId, LogPosition};
use crate::logic::kv::command::{Command, LogCommand, Outcome, Stamp};
use crate::logic::kv::{Limits, Places, Stats};
use crate::messages::client::{Answer, Request, RequestBody, ServerError};
use crate::messages::group::{
    Answers, Applied, Leadership, Proposal, Propose, Queries, ReadBarrier, Refusal, RoleChanged, Verdicts,
};
use crate::net::router::Ask;
use reading::ReadBatch;

/// How often the leader looks whether something in the store is due to expire.
const EXPIRY_TICK: Duration = Duration::from_millis(50);

/// What a KV server is given.
#[derive(Clone)]
pub struct KvServerSpec {
    /// The group.
    pub group: GroupId,
    /// What is refused at the door.
    pub limits: Limits,
    /// Most commands under way at once.
    pub max_pending_requests: usize,
    /// The same in bytes.
    pub max_pending_bytes: usize,
    /// Time since the node started.
    pub clock: NodeClock,
    /// The Raft peer.
    pub propose: Port<Propose>,
    /// The Raft peer.
    pub barrier: Port<ReadBarrier>,
    /// The applier.
    pub queries: Port<Queries>,
}

/// The KV server of a group. Everything it knows is about requests under way, so a new life starts empty.
pub struct KvServer {
    spec: KvServerSpec,
    leadership: Leadership,
    log_clock: LogClock,
    machine_ms: u64,
    next_deadline: Option<u64>,
    /// The passing of time is proposed, and neither refused nor followed by news of the machine.
    advancing: bool,
    stats: Stats,
    /// Who has a place in the queue of which lock.
    places: Places,
    pending: Pending<Caller>,
    proposals: Vec<Proposal>,
    proposed_bytes: usize,
    linearizable: ReadBatch,
    leased: ReadBatch,
    stale: ReadBatch,
    next_batch: u64,
    at_barrier: BTreeMap<u64, ReadBatch>,
    /// Those of a batch who are not answered yet.
    at_applier: BTreeMap<u64, std::vec::IntoIter<Caller>>,
    reading: usize,
    /// Of those, how many wait for a barrier that was asked for.
    confirming: usize,
    /// Who waits for the turn of a lease.
    turns: Turns<Caller>,
    flushing: bool,
}

impl KvServer {
    /// A server that has not heard of anything yet.
    pub fn new(spec: KvServerSpec) -> Self {
        let pending = Pending::new(spec.max_pending_requests, spec.max_pending_bytes);
        KvServer {
            spec,
            leadership: Leadership::default(),
            log_clock: LogClock::default(),
            machine_ms: 0,
            next_deadline: None,
            advancing: false,
            stats: Stats::default(),
            places: Places::default(),
            pending,
            proposals: Vec::new(),
            proposed_bytes: 0,
            linearizable: ReadBatch::default(),
            leased: ReadBatch::default(),
            stale: ReadBatch::default(),
            next_batch: 0,
            at_barrier: BTreeMap::new(),
            at_applier: BTreeMap::new(),
            reading: 0,
            confirming: 0,
            turns: Turns::default(),
            flushing: false,
        }
    }

    fn take_in(&mut self, Ask { request, reply }: Ask) {
        let Request { id, group, body } = request;
        let caller = |kind| Caller::new(reply, id, kind);
        if group != self.spec.group {
            return caller(Kind::Read).answer(Err(ServerError::NoSuchGroup));
        }
        match body {
            RequestBody::Write { stamp, command } => {
                let kind = if stamp.is_some() { Kind::Stamped } else { Kind::Stateless };
                self.take_write(caller(kind), stamp, command);
            }
            RequestBody::Read { query, consistency } => {
                self.take_read(caller(turns::kind(&query)), query, consistency)
            }
            RequestBody::Admin(_) | RequestBody::MapReduce(_) => {
                caller(Kind::Read).answer(Err(ServerError::Invalid("not for a group".into())));
            }
        }
    }

    fn take_write(&mut self, caller: Caller, stamp: Option<Stamp>, command: Command) {
        if !self.leadership.leads {
            return caller.answer(Err(self.not_leader()));
        }
        if matches!(command, Command::Advance) {
            return caller.answer(Err(ServerError::Invalid("only the leader lets time pass".into())));
        }
        // A claim that finds its place again, as after a lost answer, takes up no room: no quota is asked.
        let stats = if self.places.has_that_of(&command) { Stats::default() } else { self.stats };
        match self.spec.limits.admit(command, &stats) {
            Ok(command) => self.propose(caller, stamp, command),
            Err(error) => caller.answer(Err(ServerError::Refused(error))),
        }
    }

    fn propose(&mut self, caller: Caller, stamp: Option<Stamp>, command: Command) {
        let time_ms = self.log_clock.read(self.spec.clock.now());
        let encoded = LogCommand { time_ms, stamp, command }.encode();
        match self.pending.admit(caller, encoded.len()) {
            Ok(id) => {
                self.proposed_bytes += encoded.len();
                self.proposals.push(Proposal { id, command: encoded });
            }
            Err((caller, limit)) => self.turn_away(caller, Refusal::Busy(limit)),
        }
    }

    /// The command was not taken.
    fn turn_away(&mut self, caller: Caller, refusal: Refusal) {
        // What this server proposed itself is due all the same, so it is proposed again.
        self.advancing &= !caller.is_nobody();
        caller.answer(Err(self.error(refusal)));
    }

    /// Proposes that time passes when something in the store is due and no other command has said so.
    fn advance(&mut self) {
        let now = self.log_clock.read(self.spec.clock.now());
        let due = self.next_deadline.is_some_and(|due| due <= now);
        if !self.leadership.leads || !due || self.advancing {
            return;
        }
        self.advancing = true;
        self.propose(Caller::nobody(), None, Command::Advance);
    }

    fn not_leader(&self) -> ServerError {
        ServerError::NotLeader { leader: self.leadership.leader }
    }

    fn flush_later(&mut self, ctx: &mut Context<Self>) {
        if !self.flushing {
            self.flushing = true;
            // The other connections are read first, so that what has already arrived there goes along.
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.spawn(turn.map(|(), server, _| server.flush()));
        }
    }

    /// Passes on what waits, as far as it is worth a round.
    fn flush(&mut self) {
        self.flushing = false;
        self.pass_on_writes();
        self.pass_on_reads();
        let leased = std::mem::take(&mut self.leased);
        self.ask_barrier(leased, true);
        let stale = std::mem::take(&mut self.stale);
        self.ask_applier(stale, 0);
    }

    fn pass_on_writes(&mut self) {
        let waiting = self.proposals.len();
        if is_worth_a_round(waiting, self.proposed_bytes, self.pending.len() - waiting) {
            self.propose_all();
        }
    }

    fn propose_all(&mut self) {
        self.proposed_bytes = 0;
        if self.proposals.is_empty() {
            return;
        }
        let proposals = std::mem::take(&mut self.proposals);
        // The table numbers them one by one, and each is proposed.
        let (first, count) = (proposals[0].id, proposals.len() as u64);
        if self.spec.propose.tell(Propose(proposals)).is_err() {
            self.refuse((first..first + count).map(|id| (id, Refusal::NotLeader)));
        }
    }

    fn refuse(&mut self, refused: impl Iterator<Item = (u64, Refusal)>) {
        for (id, refusal) in refused {
            if let Some((callers, _)) = self.at_barrier.remove(&id) {
                self.confirming -= callers.len();
                self.refuse_reads(callers, refusal);
            } else if let Some(caller) = self.pending.refuse(id) {
                self.turn_away(caller, refusal);
            }
        }
    }

    fn error(&self, refusal: Refusal) -> ServerError {
        match refusal {
            Refusal::NotLeader => self.not_leader(),
            Refusal::Busy(limit) => ServerError::Busy { limit: limit.into() },
        }
    }

    fn take_verdicts(&mut self, verdicts: Verdicts) {
        for (id, position) in verdicts.accepted {
            if let Some(overwritten) = self.pending.place(id, position) {
                overwritten.answer(Err(ServerError::Unknown));
            }
        }
        self.refuse(verdicts.refused.into_iter());
        for (id, index) in verdicts.reads {
            if let Some(batch) = self.at_barrier.remove(&id) {
                self.confirming -= batch.0.len();
                self.ask_applier(batch, index);
            }
        }
        self.pass_on_reads();
    }

    fn settle(&mut self, outcomes: Vec<(LogPosition, Outcome)>) {
        for (position, outcome) in outcomes {
            match self.pending.apply(position) {
                Some(Fate::Applied(caller)) => caller.answer(to_result(outcome)),
                Some(Fate::Overwritten(caller)) => caller.answer(Err(self.not_leader())),
                None => {}
            }
        }
    }

    /// Whoever waits for an entry that can never be committed was surely not served.
    fn overtake(&mut self, committed: LogPosition) {
        for caller in self.pending.overtake(committed) {
            caller.answer(Err(self.not_leader()));
        }
    }
}

fn to_result(outcome: Outcome) -> Result<Answer, ServerError> {
    outcome.map(Answer::Kv).map_err(ServerError::Refused)
}

impl Actor for KvServer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(EXPIRY_TICK, |server, _| {
            server.end_waits();
            server.advance();
            server.propose_all();
            server.ask_barrier_for_all();
        });
    }
}

impl Handler<Incoming> for KvServer {
    type Result = ();

    fn handle(&mut self, mut incoming: Incoming, ctx: &mut Self::Context) {
        while let Some(ask) = incoming.take() {
            self.take_in(ask);
        }
        self.flush_later(ctx);
    }
}

impl Handler<Verdicts> for KvServer {
    type Result = ();

    fn handle(&mut self, verdicts: Verdicts, _: &mut Self::Context) {
        self.take_verdicts(verdicts);
    }
}

impl Handler<RoleChanged> for KvServer {
    type Result = ();

    fn handle(&mut self, RoleChanged(now): RoleChanged, _: &mut Self::Context) {
        let led = self.leadership.leads;
        self.leadership = now;
        self.advancing = false;
        self.propose_all();
        self.ask_barrier_for_all();
        if now.leads && !led {
            self.log_clock.start_leading(self.machine_ms, self.spec.clock.now());
        }
        if led && !now.leads {
            // A session's clerk retries without risk, so it learns at once. A stateless client waits until the
            // entry is applied or overwritten here: only then can it be told the truth.
            for caller in self.pending.give_up(|caller| caller.kind() == Kind::Stamped) {
                caller.answer(Err(ServerError::Unknown));
            }
            self.send_away();
        }
    }
}

impl Handler<Applied> for KvServer {
    type Result = ();

    fn handle(&mut self, applied: Applied, ctx: &mut Self::Context) {
        self.settle(applied.outcomes);
        for caller in self.pending.skip_to(applied.upto.index) {
            caller.answer(Err(ServerError::Unknown));
        }
        self.overtake(applied.upto);
        self.machine_ms = applied.time_ms;
        self.log_clock.observe(applied.time_ms, self.spec.clock.now());
        self.pass_on_writes();
        self.next_deadline = applied.next_deadline;
        self.advancing = false;
        self.stats = applied.stats;
        self.places = applied.places;
        self.call_up(applied.granted);
        // More is due than one entry removes.
        if self.next_deadline.is_some_and(|due| due <= self.machine_ms) {
            self.advance();
            self.flush_later(ctx);
        }
    }
}

impl Handler<Answers> for KvServer {
    type Result = ();

    fn handle(&mut self, answers: Answers, _: &mut Self::Context) {
        let Some(mut callers) = self.at_applier.remove(&answers.id) else {
            return;
        };
        for outcome in answers.outcomes {
            let caller = callers.next().expect("there is one answer to each question");
            self.answer_read(caller, outcome);
            self.reading -= 1;
        }
        if callers.len() > 0 {
            self.at_applier.insert(answers.id, callers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::ids::Index;
    use crate::logic::kv::command::{Change, Expect, KvError, Lifetime, Reply};
    use crate::net::Ref;

    /// Plays the Raft peer and the applier: notes what it is told.
    #[derive(Default)]
    struct Others {
        proposed: Vec<u64>,
    }

    impl Actor for Others {
        type Context = Context<Self>;
    }

    impl Handler<Propose> for Others {
        type Result = ();
        fn handle(&mut self, Propose(proposals): Propose, _: &mut Self::Context) {
            self.proposed.extend(proposals.iter().map(|proposal| proposal.id));
        }
    }

    impl Handler<ReadBarrier> for Others {
        type Result = ();
        fn handle(&mut self, _: ReadBarrier, _: &mut Self::Context) {}
    }

    impl Handler<Queries> for Others {
        type Result = ();
        fn handle(&mut self, _: Queries, _: &mut Self::Context) {}
    }

    /// What was proposed since it was last asked.
    #[derive(Message)]
    #[rtype(result = "Vec<u64>")]
    struct Proposed;

    impl Handler<Proposed> for Others {
        type Result = MessageResult<Proposed>;
        fn handle(&mut self, _: Proposed, _: &mut Self::Context) -> Self::Result {
            MessageResult(std::mem::take(&mut self.proposed))
        }
    }

    fn server(others: &Addr<Others>) -> KvServer {
        KvServer::new(KvServerSpec {
            group: GroupId(1),
            limits: Limits::default(),
            max_pending_requests: 10,
            max_pending_bytes: 1 << 20,
            clock: NodeClock::start(),
            propose: others.clone().recipient().into(),
            barrier: others.clone().recipient().into(),
            queries: others.clone().recipient().into(),
        })
    }

    fn leads() -> RoleChanged {
        RoleChanged(Leadership { leads: true, term: 1, leader: None })
    }

    fn applied(index: Index, next_deadline: Option<u64>) -> Applied {
        let upto = LogPosition { index, term: 1 };
        let (outcomes, granted) = (Vec::new(), Vec::new());
        let (stats, places) = (Stats::default(), Places::default());
        Applied { outcomes, upto, time_ms: 5, next_deadline, stats, granted, places }
    }

    fn refused(id: u64) -> Verdicts {
        Verdicts { refused: vec![(id, Refusal::Busy("leadership transfer under way"))], ..Default::default() }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), test);
    }

    #[test]
    fn the_passing_of_time_that_was_refused_is_proposed_again() {
        run(async {
            let others = Others::default().start();
            let server = server(&others).start();
            let wait = || tokio::time::sleep(3 * EXPIRY_TICK);
            server.send(leads()).await.expect("it runs");
            server.send(applied(1, Some(5))).await.expect("it runs");
            wait().await;
            let first = others.send(Proposed).await.expect("it runs");
            assert_eq!(first.len(), 1, "asked for once while it is under way");
            server.send(refused(first[0])).await.expect("it runs");
            wait().await;
            assert_eq!(
                others.send(Proposed).await.expect("it runs").len(),
                1,
                "and again when it was refused"
            );
            server.send(applied(2, None)).await.expect("it runs");
            wait().await;
            assert!(others.send(Proposed).await.expect("it runs").is_empty(), "nothing is due any more");
        });
    }

    #[test]
    fn a_backlog_of_what_is_due_does_not_wait_for_the_next_tick() {
        run(async {
            let others = Others::default().start();
            let server = server(&others).start();
            server.send(leads()).await.expect("it runs");
            tokio::time::sleep(EXPIRY_TICK / 2).await;
            // The time of the machine is 5.
            for index in 1..4 {
                server.send(applied(index, Some(5))).await.expect("it runs");
                tokio::task::yield_now().await;
                let proposed = others.send(Proposed).await.expect("it runs");
                assert_eq!(proposed.len(), 1, "entry {index}");
                let accepted = vec![(proposed[0], LogPosition { index: index + 1, term: 1 })];
                server.send(Verdicts { accepted, ..Default::default() }).await.expect("it runs");
            }
            server.send(applied(4, Some(6))).await.expect("it runs");
            tokio::task::yield_now().await;
            assert!(others.send(Proposed).await.expect("it runs").is_empty(), "not before its time");
        });
    }

    #[test]
    fn an_entry_lost_from_this_log_may_live_on_elsewhere() {
        let (heard, answers) = std::sync::mpsc::channel();
        run(async move {
            let others = Others::default().start();
            let mut server = server(&others);
            let reply = Ref::local(move |responses: Vec<crate::messages::client::Response>| {
                responses.into_iter().for_each(|response| drop(heard.send(response.result)));
                Ok(())
            });
            for (id, term) in [(1, 2), (2, 5)] {
                let caller = Caller::new(reply.clone(), id, Kind::Stateless);
                let proposal = server.pending.admit(caller, 1).ok().expect("there is room");
                let accepted = vec![(proposal, LogPosition { index: 100, term })];
                server.take_verdicts(Verdicts { accepted, ..Default::default() });
            }
        });
        assert_eq!(answers.try_recv(), Ok(Err(ServerError::Unknown)));
    }

    #[test]
    fn a_committed_entry_of_a_later_term_settles_what_waits_behind_it() {
        let (heard, answers) = std::sync::mpsc::channel();
        run(async move {
            let others = Others::default().start();
            let mut server = server(&others);
            let reply = Ref::local(move |responses: Vec<crate::messages::client::Response>| {
                responses.into_iter().for_each(|response| drop(heard.send((response.id, response.result))));
                Ok(())
            });
            for (id, index, term) in [(1, 100, 2), (2, 101, 3)] {
                let caller = Caller::new(reply.clone(), id, Kind::Stateless);
                let proposal = server.pending.admit(caller, 1).ok().expect("there is room");
                let accepted = vec![(proposal, LogPosition { index, term })];
                server.take_verdicts(Verdicts { accepted, ..Default::default() });
            }
            server.overtake(LogPosition { index: 50, term: 2 });
            assert_eq!(server.pending.len(), 2, "an entry of this term may stand behind");
            server.overtake(LogPosition { index: 50, term: 3 });
            assert_eq!(server.pending.len(), 1, "an entry of its own term may stand behind the other");
            server.overtake(LogPosition { index: 51, term: 4 });
            assert!(server.pending.is_empty());
        });
        let not_leader = || Err(ServerError::NotLeader { leader: None });
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [(1, not_leader()), (2, not_leader())]);
    }

    fn puts(count: u64) -> Incoming {
        let reply = Ref::local(|_: Vec<crate::messages::client::Response>| Ok(()));
        let put = |id| {
            let key = bytes::Bytes::from_static(b"k");
            let (value, expect, lifetime) = (key.clone(), Expect::Any, Lifetime::Forever);
            let command = Command::Change(Change::Put { key, value, expect, lifetime });
            let body = RequestBody::Write { stamp: None, command };
            Ask { request: Request { id, group: GroupId(1), body }, reply: reply.clone() }
        };
        Incoming((0..count).map(put).collect())
    }

    /// How many were proposed since it was last asked, once everybody has had their turn. No time passes.
    async fn proposed(others: &Addr<Others>) -> usize {
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        others.send(Proposed).await.expect("it runs").len()
    }

    #[test]
    fn a_few_wait_until_those_under_way_are_back() {
        run(async {
            let others = Others::default().start();
            let server = server(&others).start();
            server.send(leads()).await.expect("it runs");
            server.send(puts(2)).await.expect("it runs");
            assert_eq!(proposed(&others).await, 2, "nothing is under way");
            server.send(puts(1)).await.expect("it runs");
            assert_eq!(proposed(&others).await, 0, "one against two");
            let position = |index| LogPosition { index, term: 1 };
            let accepted = vec![(1, position(1)), (2, position(2))];
            server.send(Verdicts { accepted, ..Default::default() }).await.expect("it runs");
            let outcomes = vec![(position(1), Ok(Reply::Done)), (position(2), Ok(Reply::Done))];
            server.send(Applied { outcomes, ..applied(2, None) }).await.expect("it runs");
            assert_eq!(proposed(&others).await, 1, "the two are back");
            server.send(puts(1)).await.expect("it runs");
            assert_eq!(proposed(&others).await, 1, "one against one");
        });
    }

    #[test]
    fn a_claim_that_finds_its_place_again_is_let_in_when_there_is_no_room_for_others() {
        let (heard, answers) = std::sync::mpsc::channel();
        run(async move {
            let others = Others::default().start();
            let server = server(&others).start();
            server.send(leads()).await.expect("it runs");
            let claim = |owner: &'static str| Command::Claim {
                lock: bytes::Bytes::from_static(b"l"),
                owner: bytes::Bytes::from_static(owner.as_bytes()),
                ttl_ms: 1000,
                queue: true,
            };
            let mut machine = crate::logic::kv::Machine::new(GroupId(1));
            machine
                .apply(1, &LogCommand { time_ms: 5, stamp: None, command: claim("ann") }.encode())
                .expect("room");
            let stats = Stats { leases: Limits::default().max_leases, ..machine.stats() };
            let full = Applied { stats, places: machine.places(), ..applied(1, None) };
            server.send(full).await.expect("it runs");
            let reply = Ref::local(move |responses: Vec<crate::messages::client::Response>| {
                responses.into_iter().for_each(|response| drop(heard.send((response.id, response.result))));
                Ok(())
            });
            let ask = |(id, owner)| {
                let body = RequestBody::Write { stamp: None, command: claim(owner) };
                Ask { request: Request { id, group: GroupId(1), body }, reply: reply.clone() }
            };
            let claims = [(1, "ann"), (2, "bob")].map(ask);
            server.send(Incoming(claims.into_iter().collect())).await.expect("it runs");
            assert_eq!(proposed(&others).await, 1);
        });
        let refused: Vec<_> =
            answers.try_iter().filter(|(id, _)| *id == 2).map(|(_, result)| result).collect();
        assert!(
            matches!(&refused[..], [Err(ServerError::Refused(KvError::Limit { limit, .. }))] if limit == "max_leases"),
            "{refused:?}"
        );
    }

    #[test]
    fn nobody_waits_longer_than_a_tick_for_a_round() {
        run(async {
            let others = Others::default().start();
            let server = server(&others).start();
            server.send(leads()).await.expect("it runs");
            server.send(puts(2)).await.expect("it runs");
            server.send(puts(1)).await.expect("it runs");
            server.send(puts(1)).await.expect("it runs");
            tokio::time::sleep(2 * EXPIRY_TICK).await;
            assert_eq!(proposed(&others).await, 4);
        });
    }
}
