//! The machine against a model that is too simple to be wrong: no index, no undo, nothing put off.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::arbitrary::log;
use super::*;

#[derive(Clone, Copy)]
enum Until {
    Forever,
    Time(u64),
    LeaseEnds(LeaseId),
}

#[derive(Clone)]
struct Entry {
    value: Vec<u8>,
    version: Version,
    until: Until,
}

struct OpenSession {
    ttl_ms: u64,
    window: usize,
    touched_ms: u64,
    acked_below: u64,
    replies: BTreeMap<u64, Outcome>,
}

#[derive(Default)]
struct Model {
    index: u64,
    now_ms: u64,
    keys: BTreeMap<Bytes, Entry>,
    leases: BTreeMap<LeaseId, (u64, u64)>,
    sessions: BTreeMap<SessionId, OpenSession>,
    /// Places in the queues of locks, in order: lock, owner, lease.
    claims: Vec<(Bytes, Bytes, LeaseId)>,
}

impl Model {
    fn apply(&mut self, command: LogCommand) -> Outcome {
        self.index += 1;
        self.now_ms = self.now_ms.max(command.time_ms);
        self.purge();
        let outcome = match command.stamp {
            None => self.execute(command.command),
            Some(stamp) => self.once(stamp, command.command),
        };
        self.purge();
        outcome
    }

    fn purge(&mut self) {
        let now = self.now_ms;
        self.sessions.retain(|_, session| session.touched_ms + session.ttl_ms > now);
        self.leases.retain(|_, (_, deadline)| *deadline > now);
        let leases = &self.leases;
        self.claims.retain(|(_, _, lease)| leases.contains_key(lease));
        self.keys.retain(|_, entry| match entry.until {
            Until::Forever => true,
            Until::Time(deadline) => deadline > now,
            Until::LeaseEnds(lease) => leases.contains_key(&lease),
        });
    }

    fn once(&mut self, stamp: Stamp, command: Command) -> Outcome {
        let session = self.sessions.get_mut(&stamp.session).ok_or(KvError::SessionExpired)?;
        session.touched_ms = self.now_ms;
        session.acked_below = session.acked_below.max(stamp.acked_below);
        session.replies.retain(|seq, _| *seq >= session.acked_below);
        if command == Command::KeepAlive {
            return Ok(Reply::Done);
        }
        if command == Command::CloseSession {
            self.sessions.remove(&stamp.session);
            return Ok(Reply::Done);
        }
        if stamp.seq < session.acked_below {
            return Err(KvError::Duplicate);
        }
        if let Some(reply) = session.replies.get(&stamp.seq) {
            return reply.clone();
        }
        if session.replies.len() == session.window {
            return Err(KvError::Limit {
                limit: "session_window".into(),
                what: "unacknowledged commands of the session".into(),
                max: session.window as u64,
                asked: session.window as u64 + 1,
            });
        }
        let outcome = self.execute(command);
        let session = self.sessions.get_mut(&stamp.session).expect("executing closes no session");
        session.replies.insert(stamp.seq, outcome.clone());
        outcome
    }

    fn execute(&mut self, command: Command) -> Outcome {
        match command {
            Command::Change(change) => self.change(&change).map(Reply::Changed),
            Command::Batch(changes) => {
                let before = self.keys.clone();
                let mut results = vec![];
                for (position, change) in changes.iter().enumerate() {
                    match self.change(change) {
                        Ok(changed) => results.push(changed),
                        Err(error) => {
                            self.keys = before;
                            return Err(KvError::Batch { position: position as u32, error: Box::new(error) });
                        }
                    }
                    self.purge();
                }
                Ok(Reply::Batch(results))
            }
            Command::OpenSession => self.open(60_000, 1024),
            Command::OpenSessionAs { ttl_ms, window } => self.open(ttl_ms, window.max(1)),
            Command::KeepAlive | Command::CloseSession => {
                Err(KvError::Malformed("a command about a session must be stamped with it".into()))
            }
            Command::GrantLease { ttl_ms } => {
                let lease = LeaseId { group: GROUP, index: self.index };
                self.leases.insert(lease, (ttl_ms, self.now_ms + ttl_ms));
                Ok(Reply::Lease { lease, ttl_ms })
            }
            Command::RenewLease { lease } => {
                let (ttl_ms, deadline) = self.leases.get_mut(&lease).ok_or(KvError::LeaseExpired)?;
                *deadline = self.now_ms + *ttl_ms;
                Ok(Reply::Lease { lease, ttl_ms: *ttl_ms })
            }
            Command::RevokeLease { lease } => {
                self.leases.remove(&lease).ok_or(KvError::LeaseExpired)?;
                Ok(Reply::Done)
            }
            Command::Advance => Ok(Reply::Done),
            Command::Claim { lock, owner, ttl_ms, queue } => self.claim(&lock, &owner, ttl_ms, queue),
        }
    }

    fn holder(&self, lock: &Bytes) -> Option<LeaseId> {
        self.claims.iter().find(|(name, ..)| name == lock).map(|(_, _, lease)| *lease)
    }

    fn claim(&mut self, lock: &Bytes, owner: &Bytes, ttl_ms: u64, queue: bool) -> Outcome {
        let mut claims = self.claims.iter();
        if let Some((_, _, lease)) = claims.find(|(name, who, _)| name == lock && who == owner) {
            let (ttl_ms, deadline) = self.leases.get_mut(lease).expect("a claim whose lease lives");
            *deadline = self.now_ms + *ttl_ms;
            let (lease, ttl_ms) = (*lease, *ttl_ms);
            return Ok(Reply::Claim { lease, ttl_ms, held: self.holder(lock) == Some(lease) });
        }
        match self.holder(lock) {
            Some(holder) if !queue => return Err(KvError::LockHeld { token: holder.index }),
            _ => {}
        }
        let lease = LeaseId { group: GROUP, index: self.index };
        self.leases.insert(lease, (ttl_ms, self.now_ms + ttl_ms));
        self.claims.push((lock.clone(), owner.clone(), lease));
        Ok(Reply::Claim { lease, ttl_ms, held: self.holder(lock) == Some(lease) })
    }

    fn open(&mut self, ttl_ms: u64, window: u32) -> Outcome {
        let session = SessionId { group: GROUP, index: self.index };
        let open = OpenSession {
            ttl_ms,
            window: window as usize,
            touched_ms: self.now_ms,
            acked_below: 1,
            replies: BTreeMap::new(),
        };
        self.sessions.insert(session, open);
        Ok(Reply::Session { session, ttl_ms, window })
    }

    fn change(&mut self, change: &Change) -> Result<Changed, KvError> {
        let key = change.key().clone();
        let old = self.keys.get(&key).cloned();
        let version = old.as_ref().map_or(0, |entry| entry.version);
        let expect = match change {
            Change::Put { expect, .. }
            | Change::Append { expect, .. }
            | Change::Delete { expect, .. }
            | Change::Check { expect, .. } => expect,
            Change::Fence { lock, token } => {
                let holder = self.holder(lock).map(|lease| lease.index);
                let fenced = KvError::Fenced { holder };
                return if holder == Some(*token) { Ok(Changed::Held) } else { Err(fenced) };
            }
        };
        let wanted = match expect {
            Expect::Any => version,
            Expect::Absent => 0,
            Expect::Version(wanted) => *wanted,
        };
        if wanted != version {
            return Err(if version == 0 { KvError::NoKey } else { KvError::Version { actual: version } });
        }
        let entry = match change {
            Change::Put { value, lifetime, .. } => {
                let until = match lifetime {
                    Lifetime::Forever => Until::Forever,
                    Lifetime::Ttl(ttl_ms) => Until::Time(self.now_ms + ttl_ms),
                    Lifetime::Lease(lease) if self.leases.contains_key(lease) => Until::LeaseEnds(*lease),
                    Lifetime::Lease(_) => return Err(KvError::LeaseExpired),
                };
                Entry { value: value.to_vec(), version: version + 1, until }
            }
            Change::Append { value, .. } => {
                let mut entry = old.unwrap_or(Entry { value: vec![], version: 0, until: Until::Forever });
                entry.value.extend_from_slice(value);
                entry.version += 1;
                entry
            }
            Change::Delete { .. } => {
                let existed = self.keys.remove(&key).is_some();
                return Ok(Changed::Deleted { existed });
            }
            Change::Check { .. } | Change::Fence { .. } => return Ok(Changed::Held),
        };
        self.keys.insert(key, entry);
        Ok(Changed::Version(version + 1))
    }

    fn contents(&self) -> Vec<(Bytes, Vec<u8>, Version)> {
        self.keys.iter().map(|(key, entry)| (key.clone(), entry.value.clone(), entry.version)).collect()
    }
}

/// The holder of each lock, and how many wait.
fn holders(model: &Model) -> Vec<(Option<LeaseId>, u64)> {
    let waiting = |lock: &Bytes| model.claims.iter().filter(|(name, ..)| name == lock).count() as u64;
    let locks = super::arbitrary::LOCKS.iter().map(|lock| bytes(lock));
    locks.map(|lock| (model.holder(&lock), waiting(&lock).saturating_sub(1))).collect()
}

fn holders_of(machine: &Machine) -> Vec<(Option<LeaseId>, u64)> {
    let ask = |lock: &&str| match machine.query(&Query::Lock { lock: bytes(lock) }) {
        Ok(Reply::Lock { holder, waiting }) => (holder.map(|holder| holder.lease), waiting),
        other => panic!("asking for a lock came to {other:?}"),
    };
    super::arbitrary::LOCKS.iter().map(ask).collect()
}

fn contents(machine: &Machine) -> Vec<(Bytes, Vec<u8>, Version)> {
    let all = Query::Range { start: Bytes::new(), end: None, max_keys: 0, max_bytes: 0, keys_only: false };
    match machine.query(&all) {
        Ok(Reply::Pairs { pairs, cursor: None }) => {
            pairs.into_iter().map(|pair| (pair.key, pair.value.to_vec(), pair.version)).collect()
        }
        other => panic!("the whole of a small store, but got {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_answers_as_the_model_does(log in log(90)) {
        let mut machine = Machine::new(GROUP);
        let mut model = Model::default();
        for (index, command) in (1..).zip(log) {
            let outcome = machine.apply(index, &command.encode());
            prop_assert_eq!(&outcome, &model.apply(command.clone()), "entry {}: {:?}", index, command);
            prop_assert_eq!(contents(&machine), model.contents(), "after entry {}: {:?}", index, command);
            prop_assert_eq!(holders_of(&machine), holders(&model), "after entry {}: {:?}", index, command);
        }
        prop_assert_eq!(machine.stats().time_ms, model.now_ms);
    }

    #[test]
    fn a_replica_restored_at_any_points_stays_equal(
        log in log(90),
        restores in proptest::collection::btree_set(1..90u64, 0..6),
        chunk_bytes in 16..400usize,
    ) {
        let mut steady = Machine::new(GROUP);
        let mut moved = Machine::new(GROUP);
        for (index, command) in (1..).zip(log) {
            let encoded = command.encode();
            prop_assert_eq!(steady.apply(index, &encoded), moved.apply(index, &encoded));
            prop_assert_eq!(steady.granted(), moved.granted());
            if restores.contains(&index) {
                moved = restored(&moved, chunk_bytes);
            }
            prop_assert_eq!(steady.hash(), moved.hash(), "after entry {}: {:?}", index, command);
            prop_assert_eq!(steady.stats(), moved.stats());
        }
    }

    #[test]
    fn different_states_have_different_hashes(log in log(40)) {
        let mut machine = Machine::new(GROUP);
        for (index, command) in (1..).zip(log) {
            machine.apply_command(index, command).ok();
        }
        let index = machine.applied() + 1;
        let mut other = restored(&machine, 1 << 20);
        machine.apply_command(index, LogCommand { time_ms: 0, stamp: None, command: Command::Advance }).unwrap();
        let command = Command::Change(put("a", "something that no random command puts"));
        other.apply_command(index, LogCommand { time_ms: 0, stamp: None, command }).unwrap();
        prop_assert_ne!(machine.hash(), other.hash());
    }
}
