//! Cuts live connections that a change has made forbidden (datapath, "Revocation"; semantics, ruling 4).
//!
//! After the rules are in force every tracked connection of the node's pods is judged anew, as if its first packet came now. One that is
//! forbidden gets a bit in its mark, by which the rules drop it; it is not deleted, because the next packet would only make a new
//! entry, perhaps the other way round (only those of protocols without ports are). All of them are judged at the start, after every change that can forbid something, and, as long as any is marked, after every
//! other change.

mod decision;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use minipod_kernel::conntrack::{Connection, Conntrack, ConntrackError};
use netd_policy::intent::Intent;
use netd_policy::interpret::Interpreter;

use crate::hostnet::{HostNetError, local_addresses};
use decision::{Node, allowed_again, decide};

pub(crate) use decision::first_packet;

/// A connection whose first packet the old rules let pass may be tracked a moment after the new ones are in force: this long after
/// a look everything is looked at once more.
const STRAGGLERS: Duration = Duration::from_millis(20);
/// Looks after a change: one, and one for stragglers.
const LOOKS: u32 = 2;
/// How soon a look that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What is in force now.
#[derive(Debug, Clone)]
pub struct InForce {
    /// what the rules do
    pub intent: Intent,
    /// something that was allowed may be forbidden now
    pub tightens: bool,
    /// `--pod-to-node allow`
    pub pod_to_node: bool,
    /// the bit of the connection mark that says "revoked"
    pub bit: u32,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// connections cut since the start
    pub cut: u64,
    /// connections that were allowed again since the start
    pub restored: u64,
    /// connections that are tracked and forbidden
    pub forbidden: usize,
    /// why connections cannot be cut at present
    pub failure: Option<String>,
}

enum Order {
    InForce(InForce),
    Again,
}

/// The thread that cuts connections. It works in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Revoker {
    queue: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Mutex<Counts>>,
}

impl Revoker {
    /// Starts it.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (queue, orders) = channel();
        let counts = Arc::new(Mutex::new(Counts::default()));
        let told = Arc::clone(&counts);
        let thread = Builder::new().name("netd-revoke".into()).spawn(move || run(&orders, &told))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), counts })
    }

    /// Tells it what is in force from now on.
    pub fn in_force(&self, state: InForce) {
        self.order(Order::InForce(state));
    }

    /// Tells it that for a while the rules were not what was told last: who came in then is judged by what is in force.
    pub fn was_open(&self) {
        self.order(Order::Again);
    }

    fn order(&self, order: Order) {
        if let Some(queue) = &self.queue {
            // Nobody listens only once the thread has panicked, which has been seen.
            let _ = queue.send(order);
        }
    }

    /// What it did.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Revoker {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(orders: &Receiver<Order>, counts: &Mutex<Counts>) {
    let Some(state) = orders.iter().find_map(|order| match order {
        Order::InForce(state) => Some(state),
        Order::Again => None,
    }) else {
        return;
    };
    // Of what happened before nothing is known.
    let mut work = Work { state, looks: LOOKS, forbidden: Vec::new(), relaxed: false };
    loop {
        for order in orders.try_iter() {
            work.follow(order);
        }
        work.restore_if_relaxed(counts);
        let wait = work.look_if_due(counts);
        let next = match wait {
            Some(wait) => orders.recv_timeout(wait),
            None => orders.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok(order) => work.follow(order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Work {
    state: InForce,
    /// how many looks are due
    looks: u32,
    /// the connections that the last look found forbidden
    forbidden: Vec<Connection>,
    /// some of them may be allowed by now
    relaxed: bool,
}

impl Work {
    fn follow(&mut self, order: Order) {
        match order {
            Order::Again => self.looks = LOOKS,
            Order::InForce(newer) => {
                if newer.tightens {
                    self.looks = LOOKS;
                } else if !self.forbidden.is_empty() {
                    self.looks = self.looks.max(1);
                    self.relaxed = true;
                }
                self.state = newer;
            }
        }
    }

    /// Lets connections go on that are known to be marked, without a walk through all that are tracked: what is granted is not to wait for
    /// that. The look that follows finds whatever this has missed.
    fn restore_if_relaxed(&mut self, counts: &Mutex<Counts>) {
        if !std::mem::take(&mut self.relaxed) {
            return;
        }
        let Ok(restored) = restore(&self.state, &self.forbidden) else { return };
        counts.lock().unwrap_or_else(PoisonError::into_inner).restored += restored as u64;
        if restored > 0 {
            tracing::info!(restored, "live connections allowed again");
        }
    }

    /// When to look next, if nothing happens.
    fn look_if_due(&mut self, counts: &Mutex<Counts>) -> Option<Duration> {
        if self.looks == 0 {
            return None;
        }
        let result = look(&self.state);
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(done) => {
                self.looks -= 1;
                counts.forbidden = done.forbidden.len();
                self.forbidden = done.forbidden;
                counts.cut += done.cut as u64;
                counts.restored += done.restored as u64;
                counts.failure = None;
                if done.cut + done.restored > 0 {
                    tracing::info!(cut = done.cut, restored = done.restored, "live connections judged anew");
                }
                (self.looks > 0).then_some(STRAGGLERS)
            }
            Err(error) => {
                let failure = crate::causes(&error).iter().fold(error.to_string(), |text, cause| text + ": " + cause);
                if counts.failure.as_ref() != Some(&failure) {
                    tracing::error!(error = %failure, "live connections cannot be judged; trying again");
                }
                counts.failure = Some(failure);
                Some(RETRY)
            }
        }
    }
}

struct Done {
    cut: usize,
    restored: usize,
    forbidden: Vec<Connection>,
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Conntrack(#[from] ConntrackError),
    #[error("cannot list the node's addresses")]
    Addresses(#[from] HostNetError),
}

fn look(state: &InForce) -> Result<Done, LookError> {
    let addresses = local_addresses()?;
    let node = Node { addresses: &addresses, lets_pods_in: state.pod_to_node, bit: state.bit };
    let mut tracked = Conntrack::open()?;
    let mut decision = decide(tracked.list_all()?, &Interpreter::new(&state.intent), &node);
    let cut = tracked.mark(&decision.cut, state.bit, state.bit)? + tracked.delete(&decision.forget)?;
    let restored = tracked.mark(&decision.restore, 0, state.bit)?;
    let mut forbidden = decision.cut;
    forbidden.append(&mut decision.stay_cut);
    Ok(Done { cut, restored, forbidden })
}

/// Takes the bit from those of marked connections that are allowed again; says from how many.
fn restore(state: &InForce, marked: &[Connection]) -> Result<usize, LookError> {
    let addresses = local_addresses()?;
    let node = Node { addresses: &addresses, lets_pods_in: state.pod_to_node, bit: state.bit };
    let allowed = allowed_again(marked, &Interpreter::new(&state.intent), &node);
    Ok(Conntrack::open()?.mark(&allowed, 0, state.bit)?)
}
