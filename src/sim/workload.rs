//! What clients do in a simulation: each asks, waits, thinks, asks again, and writes down what it was told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::cluster::{Cluster, SimClient};
use super::history::{Ask, Call, LOCK, Told};
use super::watch::Watch;
use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Expect, Lifetime};
use crate::logic::verify::{self, Model};
use crate::messages::client::Consistency;
use crate::node::client::{Client, Lease};

/// How long a client waits for an answer.
const DEADLINE: Duration = Duration::from_secs(20);

/// What clients may do.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Longest that a client thinks between two calls.
    pub think: Duration,
    /// Whether it takes keys under leases.
    pub leases: bool,
    /// Whether it reads from the leader's lease now and then.
    pub lease_reads: bool,
    /// Bytes added to the values that it puts, so that snapshots come sooner.
    pub padding: usize,
}

/// All calls of all clients. Clones are the same one.
#[derive(Clone)]
pub struct Recorder(Rc<Records>);

struct Records {
    watch: Watch,
    /// Counts beginnings and ends of calls.
    events: Cell<u64>,
    calls: RefCell<Vec<Call>>,
    over: Cell<bool>,
}

impl Recorder {
    /// No calls yet.
    pub fn new(watch: &Watch) -> Recorder {
        let (events, calls, over) = (Cell::new(0), RefCell::default(), Cell::new(false));
        Recorder(Rc::new(Records { watch: watch.clone(), events, calls, over }))
    }

    /// Makes a call, and writes it down.
    pub async fn call(
        &self,
        client: u32,
        ask: Ask,
        call: impl Future<Output = Result<Told, ClerkError>>,
    ) -> Result<Told, ClerkError> {
        let (begun, before) = (self.0.watch.now(), self.event());
        let told = call.await;
        let (ended, after) = (self.0.watch.now(), self.event());
        let call = Call { client, begun, ended, before, after, ask, told: told.clone() };
        self.0.watch.call(&call);
        self.0.calls.borrow_mut().push(call);
        told
    }

    /// No more calls are to begin.
    pub fn end(&self) {
        self.0.over.set(true);
    }

    /// How many calls there were, and how many of them ended well.
    pub fn counts(&self) -> (u64, u64) {
        let calls = self.0.calls.borrow();
        let good = |call: &&Call| call.told.is_ok();
        (calls.len() as u64, calls.iter().filter(good).count() as u64)
    }

    /// Whether the answers of all calls are linearizable: that is, whether they can be those of one store that does
    /// one thing at a time.
    ///
    /// # Errors
    /// A sentence, when they are not, or when that could not be decided.
    pub fn judge(&self) -> Result<(), String> {
        let operations: Vec<_> = self.0.calls.borrow().iter().filter_map(Call::operation).collect();
        let report = verify::check(Model::Versioned, operations.clone(), verify::DEFAULT_BUDGET)?;
        if let Some(violation) = report.violations.first() {
            let concerned = violation.operations.iter().take(4).filter_map(|number| {
                let place = usize::try_from(*number).ok()?.checked_sub(1)?;
                operations.get(place).map(|operation| format!("; {operation}"))
            });
            return Err(format!("{}{}", violation.why, concerned.collect::<String>()));
        }
        match report.undecided.first() {
            Some(keys) => Err(format!("the judge could not decide about {keys:?}")),
            None => Ok(()),
        }
    }

    fn event(&self) -> u64 {
        self.0.events.replace(self.0.events.get() + 1)
    }
}

/// One client.
pub struct Customer {
    number: u32,
    client: SimClient,
    recorder: Recorder,
    manners: Manners,
    random: fastrand::Rng,
    /// Numbers its values.
    count: u64,
    /// Versions that it has seen, for conditional puts.
    seen: [u64; 3],
}

impl Customer {
    /// A client of the cluster.
    ///
    /// # Errors
    /// As [`Cluster::client`].
    pub async fn new(
        cluster: &Cluster,
        number: u32,
        recorder: Recorder,
        manners: Manners,
    ) -> Result<Customer, ClerkError> {
        let client = cluster.client(&format!("c{number}"), |o| o.deadline = Some(DEADLINE)).await?;
        let random = fastrand::Rng::with_seed(cluster.random());
        Ok(Customer { number, client, recorder, manners, random, count: 0, seen: [0; 3] })
    }

    /// Asks until the recorder says that it is over.
    pub async fn shop(mut self) {
        while !self.recorder.0.over.get() {
            let longest = self.manners.think.as_millis() as u64;
            sleep(Duration::from_millis(self.random.u64(0..=longest))).await;
            match self.random.u8(0..20) {
                0..5 => self.read().await,
                5..10 => self.put().await,
                10..13 => self.put_if().await,
                13..17 => self.append().await,
                17 => self.delete().await,
                _ if self.manners.leases => self.hold().await,
                _ => self.read().await,
            }
        }
    }

    fn value(&mut self) -> Bytes {
        self.count += 1;
        let value = format!("{}.{}", self.number, self.count);
        Bytes::from(format!("{value:-<width$}", width = value.len() + self.manners.padding))
    }

    fn versioned_key(&mut self) -> (usize, Bytes) {
        let which = self.random.usize(0..self.seen.len());
        (which, Bytes::from(format!("key{which}")))
    }

    /// Another one every minute, lest values grow for ever.
    fn log_key(&mut self) -> Bytes {
        let minute = self.recorder.0.watch.now().as_secs() / 60;
        Bytes::from(format!("log{minute}-{}", self.random.u8(0..2)))
    }

    async fn read(&mut self) {
        let (which, key) = match self.random.u8(0..4) {
            0 => (None, self.log_key()),
            1 => (None, Bytes::from_static(b"gone")),
            _ => {
                let (which, key) = self.versioned_key();
                (Some(which), key)
            }
        };
        let consistency = match self.manners.lease_reads && self.random.bool() {
            true => Consistency::Lease,
            false => Consistency::Linearizable,
        };
        let told = get(&self.recorder, self.number, &self.client.with_consistency(consistency), key).await;
        if let (Some(which), Ok(Told::Value(found))) = (which, told) {
            self.seen[which] = found.map_or(0, |found| found.version);
        }
    }

    async fn put(&mut self) {
        let (which, key) = self.versioned_key();
        let value = self.value();
        let call = self.client.put(key.clone(), value.clone());
        let call = async { call.await.map(Told::Version) };
        let told = self.recorder.call(self.number, Ask::Put(key, value), call).await;
        if let Ok(Told::Version(version)) = told {
            self.seen[which] = version;
        }
    }

    async fn put_if(&mut self) {
        let (which, key) = self.versioned_key();
        let (value, version) = (self.value(), self.seen[which]);
        let call = self.client.put_if(key.clone(), value.clone(), version);
        let call = async { call.await.map(Told::Version) };
        let told = self.recorder.call(self.number, Ask::PutIf(key, value, version), call).await;
        match told {
            Ok(Told::Version(version)) => self.seen[which] = version,
            Err(ClerkError::VersionMismatch { actual }) => self.seen[which] = actual,
            _ => {}
        }
    }

    async fn append(&mut self) {
        self.count += 1;
        let key = self.log_key();
        let token = Bytes::from(format!("{}.{};", self.number, self.count));
        let call = self.client.append(key.clone(), token.clone());
        let call = async { call.await.map(Told::Version) };
        let _ = self.recorder.call(self.number, Ask::Append(key, token), call).await;
    }

    async fn delete(&mut self) {
        let key = Bytes::from_static(b"gone");
        if self.random.bool() {
            let call = self.client.delete(key.clone());
            let call = async { call.await.map(Told::Deleted) };
            let _ = self.recorder.call(self.number, Ask::Delete(key), call).await;
        } else {
            let value = self.value();
            let call = self.client.put(key.clone(), value.clone());
            let call = async { call.await.map(Told::Version) };
            let _ = self.recorder.call(self.number, Ask::Put(key, value), call).await;
        }
    }

    /// Takes a key under a lease, keeps it for a while, and lets it go or forgets it.
    async fn hold(&mut self) {
        let ttl = Duration::from_millis(self.random.u64(500..4000));
        let grant = self.client.grant_lease(ttl);
        let grant = async { grant.await.map(|Lease { id, ttl }| Told::Lease(id, ttl.as_millis() as u64)) };
        let told = self.recorder.call(self.number, Ask::Grant(ttl.as_millis() as u64), grant).await;
        let Ok(Told::Lease(id, _)) = told else { return };
        let (key, value) = (LOCK, self.value());
        let take = self.client.put_with(key.clone(), value.clone(), Expect::Absent, Lifetime::Lease(id));
        let take = async { take.await.map(Told::Version) };
        if self.recorder.call(self.number, Ask::Take(key.clone(), value, id), take).await.is_err() {
            return;
        }
        for _ in 0..self.random.u8(0..4) {
            sleep(Duration::from_millis(self.random.u64(0..1500))).await;
            let renew = self.client.renew_lease(id);
            let renew = async { renew.await.map(|_| Told::Done) };
            if self.recorder.call(self.number, Ask::Renew(key.clone(), id), renew).await.is_err() {
                return;
            }
        }
        if self.random.bool() {
            let release = self.client.revoke_lease(id);
            let release = async { release.await.map(|()| Told::Done) };
            let _ = self.recorder.call(self.number, Ask::Release(key, id), release).await;
        }
    }
}

/// Reads every key that anybody has asked for, from a client that is told to be patient.
///
/// # Errors
/// A sentence, when a key could not be read.
pub async fn read_all(recorder: &Recorder, client: &Client) -> Result<(), String> {
    let keys: BTreeSet<Bytes> = recorder.0.calls.borrow().iter().filter_map(|call| call.ask.key()).collect();
    for key in keys {
        let name = String::from_utf8_lossy(&key).into_owned();
        let told = get(recorder, 0, client, key).await;
        told.map_err(|error| format!("{name} cannot be read when everything is good again: {error}"))?;
    }
    Ok(())
}

async fn get(recorder: &Recorder, number: u32, client: &Client, key: Bytes) -> Result<Told, ClerkError> {
    let call = client.get(key.clone());
    recorder.call(number, Ask::Get(key), async { call.await.map(Told::Value) }).await
}
