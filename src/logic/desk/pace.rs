//! When what waits is passed on: in rounds, not in trickles.
//!
//! A round (a frame of the log, a message to each follower, their answers) costs nearly the same for one request as for
//! fifty: wake-ups, system calls, a sync. So a request that comes while others are under way waits until as many
//! wait as are under way, or until some of those have come back. That is Nagle's rule (RFC 896) with requests for
//! bytes: it needs no timer, somebody alone never waits, and the busier the machine is, the larger the rounds become.

/// Bytes that make a round of their own worth while, however much is under way.
const ENOUGH_BYTES: usize = 64 << 10;

/// Whether `waiting` requests of so many bytes should go on now, while `under_way` are not answered yet.
pub fn is_worth_a_round(waiting: usize, bytes: usize, under_way: usize) -> bool {
    waiting >= under_way || bytes >= ENOUGH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_alone_never_waits_and_a_crowd_goes_in_two_halves() {
        assert!(is_worth_a_round(1, 100, 0));
        assert!(!is_worth_a_round(1, 100, 2));
        assert!(!is_worth_a_round(31, 31 * 300, 32));
        assert!(is_worth_a_round(32, 32 * 300, 32));
        assert!(is_worth_a_round(1, 1 << 20, 500), "large enough by itself");
    }
}
