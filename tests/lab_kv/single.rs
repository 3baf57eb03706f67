//! The versioned server of 2025 (`kvsrv1`): one server, no replication.

use std::rc::Rc;

use quorate::logic::ids::NodeId;
use quorate::logic::verify::Model;

use crate::lab::{E, Lab, Put};
use crate::versioned::{check_count, race};

pub async fn reliable_put(lab: Rc<Lab>) {
    let clerk = lab.clerk().await;
    assert_eq!(clerk.put("k", "6.5840", 0).await, Put::Ok);
    clerk.check_get("k", "6.5840", 1).await;
    assert_eq!(clerk.put("k", "6.5840", 0).await, Put::OtherVersion);
    assert_eq!(clerk.put("y", "6.5840", 1).await, Put::NoKey);
    assert_eq!(clerk.get("y").await, None);
    lab.check_linearizable(Model::Versioned);
}

pub async fn put_concurrent(lab: Rc<Lab>) {
    let puts = race(&lab, 10, E, vec!["k".to_owned()]).await;
    check_count(&lab, puts, true).await;
    lab.check_linearizable(Model::Versioned);
}

/// The course looks at the heap of the server after 100 000 clients have put the same key: nothing may be kept for each.
/// Here the server says what it keeps, after 500 clients: no session, and one key with one value.
pub async fn many_clients(lab: Rc<Lab>) {
    let value = "v".repeat(1000);
    for version in 0..500 {
        let clerk = lab.clerk().await;
        if version == 0 {
            assert_eq!(clerk.put("k", "", 1).await, Put::NoKey);
        }
        assert_eq!(clerk.put("k", &value, version).await, Put::Ok);
    }
    let status = lab.asker().client.status(NodeId(1)).await.expect("it tells its state");
    let group = &status.groups[0];
    assert_eq!((group.sessions, group.keys), (0, 1));
    assert!(group.bytes < 2000, "{} bytes", group.bytes);
}

/// Each round puts at a version until it is told that another stands there: the first attempt is the one that counted.
pub async fn unreliable_net(lab: Rc<Lab>) {
    let clerk = lab.clerk().await;
    let mut maybes = 0;
    for version in 0..100 {
        let mut attempt = 0;
        loop {
            match clerk.put("k", &attempt.to_string(), version).await {
                Put::Maybe => maybes += 1,
                put => {
                    let expected = if attempt == 0 { Put::Ok } else { Put::OtherVersion };
                    assert_eq!(put, expected, "attempt {attempt} of round {version}");
                    break;
                }
            }
            attempt += 1;
        }
        clerk.check_get("k", "0", version + 1).await;
    }
    assert!(maybes > 0, "the network lost no answer");
    lab.check_linearizable(Model::Versioned);
}
