//! Whether the nodes' addresses are free on this machine.

use std::io::ErrorKind;
use std::net::TcpListener;

use crate::node::config::ClusterNode;
use crate::node::exit::Failure;

/// Checks that every node could listen at its address, and says of all that could not why.
///
/// # Errors
/// A failure of usage that names every address that cannot be used.
pub fn check(nodes: &[ClusterNode]) -> Result<(), Failure> {
    let mut sentences = Vec::new();
    for node in nodes {
        let Err(error) = TcpListener::bind(&node.address) else { continue };
        let (id, address) = (node.id, &node.address);
        sentences.push(match error.kind() {
            ErrorKind::AddrInUse => {
                format!(
                    "{address}, the address of {id}, is in use by another program (another `quorate up`?)"
                )
            }
            ErrorKind::AddrNotAvailable => format!(
                "{address}, the address of {id}, is not of this machine; \
                 run `quorate node --id {}` on the machine it belongs to",
                id.0
            ),
            _ => format!("{address}, the address of {id}, cannot be used: {error}"),
        });
    }
    if sentences.is_empty() {
        return Ok(());
    }
    sentences.push("Free the addresses, or give others in a configuration file: --config FILE".into());
    Err(Failure::usage(sentences.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::ids::NodeId;

    #[test]
    fn every_address_that_is_taken_is_named() {
        let taken: Vec<TcpListener> =
            (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let node = |(i, listener): (usize, &TcpListener)| {
            let address = listener.local_addr().expect("bound").to_string();
            ClusterNode { id: NodeId(i as u64 + 1), address, data_dir: None }
        };
        let nodes: Vec<ClusterNode> = taken.iter().enumerate().map(node).collect();
        let message = check(&nodes).expect_err("taken").message;
        for node in &nodes {
            assert!(
                message.contains(&format!("{}, the address of {}, is in use", node.address, node.id)),
                "{message}"
            );
        }
    }

    #[test]
    fn an_address_of_another_machine_is_told_apart() {
        // 192.0.2.0/24 is reserved for documentation.
        let node = ClusterNode { id: NodeId(3), address: "192.0.2.1:7101".into(), data_dir: None };
        let message = check(&[node]).expect_err("not ours").message;
        assert!(message.contains("quorate node --id 3"), "{message}");
    }
}
