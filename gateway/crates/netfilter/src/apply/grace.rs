//! The time in which packets leave rules that are no longer in force.
//!
//! A packet keeps the rules of the moment at which it entered a base chain, but each of its look-ups sees the elements of
//! the moment of that look-up (`nft_do_chain` and `nft_genmask_cur` of net/netfilter/nf_tables_core.c). An interrupt or a
//! hypervisor can hold a packet between the two for longer than two commits take: then it is among rules that are gone,
//! and a map that only they use must not be emptied under it. Rules are passed inside an RCU read-side section, so after
//! a grace period no packet is among rules older than those that were in force when it began.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier, sched_getaffinity};

/// How long packets are given where the kernel cannot be asked to wait for them.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits until no packet is among rules that went out of force before this call.
pub(super) fn let_packets_leave() {
    // The kernel's own tests wait for a grace period in this way (`kern_sync_rcu` of tools/testing/selftests/bpf).
    match membarrier(MembarrierCommand::Global) {
        Ok(()) if !is_alone() => {}
        // One processor has no grace period to wait for, unless its kernel lets a task preempt another among the rules.
        Ok(()) => thread::sleep(PAUSE),
        // Kernels with `nohz_full` do not offer it.
        Err(error) => {
            tracing::debug!(%error, "no grace period can be waited for; a pause stands in for it");
            thread::sleep(PAUSE);
        }
    }
}

/// Waits in the same way, but not longer than that, and tells whether no such packet is left.
pub(super) fn have_packets_left_within(limit: Duration) -> bool {
    let (done, is_done) = mpsc::sync_channel(1);
    // The wait itself cannot be cut short; the thread ends with it.
    let waiter = thread::Builder::new().name("grace".to_owned()).spawn(move || {
        let_packets_leave();
        // Nobody listens any more where the time was over.
        let _ = done.send(());
    });
    waiter.is_ok() && is_done.recv_timeout(limit).is_ok()
}

/// Whether this thread sees one processor only.
fn is_alone() -> bool {
    sched_getaffinity(None).is_ok_and(|processors| processors.count() == 1)
}
