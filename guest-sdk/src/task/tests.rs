//! What cannot be seen from outside: more handles than one `poll` takes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use tidegate_abi::poll::{ENTRIES_MAX, READABLE, WRITABLE};

use super::{block_on, join_all, ready, select};
use crate::sys::native::{Host, with_host};

const MS: u64 = 1_000_000;

/// Runs `f` beside a host whose handles, from 100 on, are ready at these times.
#[allow(clippy::field_reassign_with_default, reason = "the other fields are private")]
fn with_handles<R>(ready_ns: impl IntoIterator<Item = u64>, f: impl FnOnce() -> R) -> (R, Host) {
    let others: BTreeMap<u32, u64> = (100..).zip(ready_ns).collect();
    let mut host = Host::default();
    host.others = others;
    with_host(host, f)
}

/// Waits for `n` handles at once; gives them in the order in which they became ready, with the time.
fn wait_for_all(n: u32) -> Vec<(u32, u64)> {
    let order = RefCell::new(Vec::new());
    block_on(join_all((100..100 + n).map(|handle| {
        let order = &order;
        async move {
            ready(handle, READABLE).await.unwrap();
            order.borrow_mut().push((handle, crate::sys::monotonic_ns()));
        }
    })));
    order.into_inner()
}

#[test]
fn handles_are_waited_for_in_one_call_as_long_as_they_fit() {
    let n = u64::try_from(ENTRIES_MAX).unwrap();
    // The last is ready first; two at a time.
    let (order, host) = with_handles((0..n).map(|i| (1 + (n - 1 - i) / 2) * 10 * MS), || wait_for_all(256));
    let handles: Vec<u32> = order.iter().map(|(handle, _)| *handle).collect();
    let expected: Vec<u32> = (0..128).flat_map(|pair| [354 - 2 * pair, 355 - 2 * pair]).collect();
    assert_eq!(handles, expected);
    assert_eq!(host.calls, ["poll"; 128], "one wait for each two");
}

#[test]
fn more_handles_than_one_call_takes_are_waited_for_in_turn() {
    for n in [257_u32, 1_000] {
        let due_ns = |handle: u32| 10 * MS + u64::from((handle * 7919) % 13) * 50 * MS;
        let (order, host) = with_handles((100..100 + n).map(due_ns), || wait_for_all(n));
        assert_eq!(order.len(), n as usize);
        let parts = u64::from(n.div_ceil(256));
        for (handle, at_ns) in order {
            assert!(at_ns >= due_ns(handle), "{handle} was not ready");
            assert!(
                at_ns <= due_ns(handle) + (parts + 1) * 6 * MS,
                "{handle} was late by {} ns",
                at_ns - due_ns(handle)
            );
        }
        // 610 ms in steps of 5, each of them a look at all parts and a wait for one.
        let polls = u64::try_from(host.calls.len()).unwrap();
        assert!(polls <= (parts + 1) * (610 / 5 + 20), "{polls} calls are too many to wait with");
    }
}

#[test]
fn one_handle_may_be_waited_for_in_both_directions() {
    let ((), host) = with_handles([5 * MS, 9 * MS], || {
        block_on(async {
            super::join(ready(100, READABLE), ready(100, WRITABLE)).await.0.unwrap();
            // The loser's wait is given up: nobody is woken for it.
            select(ready(101, READABLE), async {}).await;
            super::sleep(std::time::Duration::from_millis(20)).await;
        });
    });
    assert_eq!(host.calls, ["poll"; 2]);
}
