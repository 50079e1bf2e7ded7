//! Dropped packets: the kernel tells of some of them, the engine says whose they were, and whoever asks is told.
//!
//! The last ones are kept; who follows gets each as it comes.

mod header;
mod naming;

use std::collections::{BTreeMap, VecDeque};

use minipod_kernel::netlink::PacketLog;
use minipod_protocol::drops::{Dropped, Reason};
use tokio::sync::broadcast;

use crate::command::{Command, Engine};
pub(crate) use naming::named;

/// So many are kept.
const KEPT: usize = 1000;
/// Who follows may be behind by so many.
const BEHIND: usize = 1000;

/// What was dropped.
#[derive(Debug)]
pub struct Drops {
    last: VecDeque<Dropped>,
    told: broadcast::Sender<Dropped>,
    /// by pod and reason, of those that the kernel told of
    counts: BTreeMap<(Option<String>, Reason), u64>,
}

/// What was dropped until now, and what will be.
#[derive(Debug)]
pub struct Watched {
    /// the last ones
    pub last: Vec<Dropped>,
    /// those that come
    pub next: broadcast::Receiver<Dropped>,
}

impl Default for Drops {
    fn default() -> Self {
        Self { last: VecDeque::new(), told: broadcast::Sender::new(BEHIND), counts: BTreeMap::new() }
    }
}

impl Drops {
    pub(crate) fn note(&mut self, dropped: Dropped) {
        *self.counts.entry((dropped.pod.clone(), dropped.reason)).or_default() += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(dropped.clone());
        // Nobody may listen.
        let _ = self.told.send(dropped);
    }

    pub(crate) fn watch(&self) -> Watched {
        Watched { last: self.last.iter().cloned().collect(), next: self.told.subscribe() }
    }

    /// How many packets the kernel told of, by pod and reason.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Option<&str>, Reason, u64)> {
        self.counts.iter().map(|((pod, reason), count)| (pod.as_deref(), *reason, *count))
    }
}

/// Passes on what the kernel tells, until the engine has ended.
pub(crate) async fn listen(mut log: PacketLog, engine: Engine) {
    loop {
        match log.next().await {
            Ok(packets) => {
                if !packets.is_empty() && !engine.tell(Command::Logged(packets)) {
                    return;
                }
            }
            Err(error) => return tracing::warn!(%error, "dropped packets are not shown any more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use minipod_protocol::drops::{Dropped, End, Reason};

    use super::{Drops, KEPT};

    fn dropped(number: usize) -> Dropped {
        let end = |port| End { address: [10, 0, 0, 1].into(), port, pod: None };
        Dropped {
            time: number.to_string(),
            reason: Reason::Ingress,
            source: end(None),
            destination: end(Some(80)),
            protocol: "TCP".to_owned(),
            pod: Some("x/a".to_owned()),
            policies: Vec::new(),
        }
    }

    #[test]
    fn the_last_ones_are_kept_all_are_counted_and_who_follows_gets_each() {
        let mut drops = Drops::default();
        let mut follower = drops.watch();
        assert!(follower.last.is_empty());
        for number in 0..KEPT + 5 {
            drops.note(dropped(number));
            assert_eq!(follower.next.try_recv().expect("told").time, number.to_string());
        }
        let last = drops.watch().last;
        assert_eq!((last.len(), last[0].time.as_str()), (KEPT, "5"));
        assert_eq!(drops.counts().collect::<Vec<_>>(), [(Some("x/a"), Reason::Ingress, (KEPT + 5) as u64)]);
    }
}
