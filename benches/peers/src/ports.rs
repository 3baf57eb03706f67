//! Ports that are free.

use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which systems take the ports of outgoing connections, so that none of the many connections of
/// a measurement takes a port between its choice and its use.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// `count` different ports of 127.0.0.1 that can be listened on now.
pub fn free(count: u16) -> anyhow::Result<Vec<u16>> {
    // All are held until the last is found, so they differ.
    let mut held = Vec::new();
    for _ in RANGE {
        if held.len() == usize::from(count) {
            break;
        }
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(RANGE))));
    }
    anyhow::ensure!(held.len() == usize::from(count), "no {count} free ports in {RANGE:?}");
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_listened_on() {
        let mut ports = free(20).expect("20 ports");
        let listeners: Vec<_> =
            ports.iter().map(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free")).collect();
        assert_eq!(listeners.len(), 20);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }
}
