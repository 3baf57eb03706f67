use super::*;

use std::collections::BTreeMap;

/// A store in memory that answers after a while.
#[derive(Clone)]
struct Memory {
    stored: Rc<RefCell<BTreeMap<Vec<u8>, usize>>>,
    under_way: Rc<RefCell<(usize, usize)>>,
}

impl Memory {
    fn new() -> Self {
        Self { stored: Rc::default(), under_way: Rc::default() }
    }

    async fn work(&self) {
        {
            let mut under_way = self.under_way.borrow_mut();
            under_way.0 += 1;
            under_way.1 = under_way.1.max(under_way.0);
        }
        tokio::task::yield_now().await;
        self.under_way.borrow_mut().0 -= 1;
    }
}

impl Client for Memory {
    async fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.work().await;
        self.stored.borrow_mut().insert(key.to_vec(), value.len());
        Ok(())
    }

    async fn get(&mut self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        self.work().await;
        Ok(self.stored.borrow().get(key).copied())
    }
}

fn args(op: Op, clients: u64) -> Args {
    Args { op, clients, seconds: 1, warmup: 0, keys: 100, value_size: 256, json: true }
}

#[test]
fn a_fill_writes_every_key_with_each_client_busy() {
    let memory = Memory::new();
    let clients = vec![memory.clone(); 7];
    block_on(measure(clients, 7, args(Op::Fill, 7))).expect("filled");
    assert_eq!(memory.stored.borrow().len(), 100);
    assert!(memory.stored.borrow().values().all(|&length| length == 256));
    assert_eq!(memory.under_way.borrow().1, 7);
}

#[test]
fn a_value_that_is_missing_or_short_is_a_failure() {
    let memory = Memory::new();
    let load = Load::new(&args(Op::Get, 1));
    block_on(async {
        let mut client = memory.clone();
        assert!(load.one(&mut client, b"k").await.is_err());
        client.put(b"k", &[0; 255]).await?;
        assert!(load.one(&mut client, b"k").await.is_err());
        client.put(b"k", &[0; 256]).await?;
        load.one(&mut client, b"k").await
    })
    .expect("the value is there");
}

#[test]
fn failures_are_counted_apart() {
    let mut measured = Measured::new();
    measured.count(Duration::from_millis(2), Ok(()));
    measured.count(Duration::from_millis(3), Err(anyhow::anyhow!("no leader")));
    let report = measured.report(&args(Op::Put, 3), 2, 2.0);
    assert_eq!(report["operations_per_s"], 0.5);
    assert_eq!(report["put"]["latency_us"]["p50"], 2000);
    assert_eq!((&report["errors"], &report["first_error"]), (&json!(1), &json!("no leader")));
}

#[test]
fn keys_are_those_of_quorate_bench() {
    let keys = keys(100_000);
    assert_eq!((&keys[0][..], &keys[99_999][..]), (&b"bench:000000"[..], &b"bench:099999"[..]));
}

#[test]
fn only_answers_within_the_measured_time_count() {
    let load = Rc::new(Load::new(&args(Op::Put, 1)));
    block_on(async {
        let now = Instant::now();
        let late = load.clone().client(Memory::new(), now, Some(now));
        let early = load.clone().client(Memory::new(), now + LONGEST, None);
        for task in [spawn_local(late), spawn_local(early)] {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
        assert_eq!(load.measured.borrow().latencies.len(), 0);
        let counted = spawn_local(load.clone().client(Memory::new(), now, Some(now + LONGEST)));
        while load.measured.borrow().latencies.is_empty() {
            tokio::task::yield_now().await;
        }
        counted.abort();
        Ok(())
    })
    .expect("measured");
}
