//! How much one answer to a worker may hold.

use crate::messages::mapreduce::{Order, TaskInput};

/// Orders in one answer take no more bytes than this, but for the first, which is always sent. A frame holds 16 MiB.
const MOST_BYTES: usize = 4 << 20;

/// What a place, a split or an order takes beside its text, encoded; rather more than less.
const FIXED_BYTES: usize = 128;

/// The first of these orders, as many as one answer may hold. A reducer's order names the place of every map output, so
/// a few of them can be more than a frame. The worker reports again as soon as it has begun these, and gets the others.
pub(super) fn as_many_as_fit(orders: impl Iterator<Item = Order>) -> Vec<Order> {
    let mut bytes = 0;
    let mut taken: Vec<Order> = Vec::new();
    for order in orders {
        bytes += size(&order);
        if bytes > MOST_BYTES && !taken.is_empty() {
            break;
        }
        taken.push(order);
    }
    taken
}

fn size(order: &Order) -> usize {
    let input = match &order.input {
        TaskInput::Split(split) => FIXED_BYTES + split.file.len(),
        TaskInput::Sources(places) => places.iter().map(|place| FIXED_BYTES + place.address.len()).sum(),
    };
    FIXED_BYTES + input + order.skips.records.len() * size_of::<u64>() * 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mapreduce::job::{Attempt, TaskId};
    use crate::logic::mapreduce::record::{JobId, WorkerId};
    use crate::logic::mapreduce::report::{Place, Work};
    use crate::logic::mapreduce::skip::Skips;

    /// A reduce task of a job with so many map tasks.
    fn order(partition: u32, maps: u32) -> Order {
        let attempt = |task| Attempt { task, number: 1 };
        let place = |map| Place {
            attempt: attempt(TaskId::map(map)),
            worker: WorkerId(u64::MAX),
            address: "worker-17.example:47101".into(),
        };
        let work = Work { job: JobId(1), attempt: attempt(TaskId::reduce(partition)) };
        Order { work, input: TaskInput::Sources((0..maps).map(place).collect()), skips: Skips::default() }
    }

    fn encoded(orders: &[Order]) -> usize {
        rmp_serde::to_vec_named(orders).expect("plain data can be written").len()
    }

    #[test]
    fn orders_for_many_free_slots_fit_into_a_frame_and_the_rest_comes_with_the_next_answer() {
        let all = || (0..32).map(|partition| order(partition, 20_000));
        let first = as_many_as_fit(all());
        assert!(encoded(&first) < 8 << 20, "{} bytes", encoded(&first));
        let mut sent = 0;
        while sent < 32 {
            let some = as_many_as_fit(all().skip(sent));
            assert!(!some.is_empty(), "nothing is left out for ever");
            sent += some.len();
        }
        assert_eq!(
            as_many_as_fit((0..32).map(|partition| order(partition, 100))).len(),
            32,
            "small ones go at once"
        );
    }

    #[test]
    fn an_order_is_not_taken_for_smaller_than_it_is() {
        for maps in [0, 1, 1000] {
            let order = order(7, maps);
            assert!(encoded(std::slice::from_ref(&order)) <= size(&order));
        }
    }
}
