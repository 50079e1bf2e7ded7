//! Deletes links beside everything else: the kernel waits tens of milliseconds for readers (RCU) when a link goes, once for any
//! number of links that go together.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use minipod_kernel::netlink::{NetlinkError, Rtnl};

/// The thread that deletes links. It works in the network namespace of the thread that made it and ends, after its last link, when it
/// is dropped.
#[derive(Debug)]
pub(super) struct Reaper {
    queue: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Delete(u32),
    /// answered when every link before it is gone
    Answer(Sender<()>),
}

impl Reaper {
    pub(super) fn start() -> Result<Self, NetlinkError> {
        let rtnl = Rtnl::open()?;
        let (queue, orders) = channel();
        let thread = Builder::new().name("link-reaper".into()).spawn(move || work(rtnl, &orders));
        Ok(Self { queue: Some(queue), thread: Some(thread.map_err(NetlinkError::Open)?) })
    }

    /// Deletes a link some time soon.
    pub(super) fn delete(&self, link: u32) {
        self.order(Order::Delete(link));
    }

    /// Waits until every link ordered so far is gone.
    pub(super) fn wait(&self) {
        let (sender, receiver) = channel();
        self.order(Order::Answer(sender));
        // An error means that the thread is gone, and with it what could be waited for.
        let _ = receiver.recv();
    }

    fn order(&self, order: Order) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(order);
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(mut rtnl: Rtnl, orders: &Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let mut links = Vec::new();
        let mut waiting = Vec::new();
        for order in std::iter::once(first).chain(orders.try_iter()) {
            match order {
                Order::Delete(link) => links.push(link),
                Order::Answer(sender) => waiting.push(sender),
            }
        }
        if !links.is_empty() {
            match rtnl.remove_links(&links) {
                Ok(failures) => {
                    for error in failures {
                        tracing::warn!(error = %error, "cannot delete an interface");
                    }
                }
                Err(error) => tracing::warn!(error = %error, "cannot delete interfaces"),
            }
        }
        for sender in waiting {
            let _ = sender.send(());
        }
    }
}
