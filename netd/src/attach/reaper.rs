//! Clears away after pods beside everything else. When a link goes the kernel waits tens of milliseconds for readers (RCU), once for any
//! number of links that go together; a look at the tracked connections costs ten, once for any number of addresses. Both are far
//! quicker than the quarantine of the addresses.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use minipod_kernel::conntrack::Conntrack;
use minipod_kernel::netlink::{NetlinkError, Rtnl};

/// The thread that deletes links and connections. It works in the network namespace of the thread that made it and ends, after its
/// last order, when it is dropped.
#[derive(Debug)]
pub(super) struct Reaper {
    queue: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Order {
    Link(u32),
    Connections(Vec<IpAddr>),
    /// answered when everything ordered before it is gone
    Answer(Sender<()>),
}

impl Reaper {
    pub(super) fn start() -> Result<Self, NetlinkError> {
        let rtnl = Rtnl::open()?;
        let (queue, orders) = channel();
        let mut work = Work { rtnl, links: Vec::new(), addresses: Vec::new() };
        let thread = Builder::new().name("reaper".into()).spawn(move || work.run(&orders));
        Ok(Self { queue: Some(queue), thread: Some(thread.map_err(NetlinkError::Open)?) })
    }

    /// Deletes a link some time soon.
    pub(super) fn delete_link(&self, link: u32) {
        self.order(Order::Link(link));
    }

    /// Deletes the tracked connections of addresses that nobody has any more.
    pub(super) fn forget_connections(&self, addresses: Vec<IpAddr>) {
        self.order(Order::Connections(addresses));
    }

    /// Waits until everything ordered so far is gone.
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

struct Work {
    rtnl: Rtnl,
    links: Vec<u32>,
    /// what failed stays for the next round
    addresses: Vec<IpAddr>,
}

impl Work {
    fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(first) = orders.recv() {
            let mut waiting = Vec::new();
            for order in std::iter::once(first).chain(orders.try_iter()) {
                match order {
                    Order::Link(link) => self.links.push(link),
                    Order::Connections(addresses) => self.addresses.extend(addresses),
                    Order::Answer(sender) => waiting.push(sender),
                }
            }
            self.delete_links();
            self.forget_connections();
            for sender in waiting {
                let _ = sender.send(());
            }
        }
    }

    fn delete_links(&mut self) {
        if self.links.is_empty() {
            return;
        }
        match self.rtnl.remove_links(&self.links) {
            Ok(failures) => {
                for error in failures {
                    tracing::warn!(error = %error, "cannot delete an interface");
                }
            }
            Err(error) => tracing::warn!(error = %error, "cannot delete interfaces"),
        }
        self.links.clear();
    }

    fn forget_connections(&mut self) {
        if self.addresses.is_empty() {
            return;
        }
        match Conntrack::open().and_then(|mut tracked| tracked.delete_of(&self.addresses)) {
            Ok(_) => self.addresses.clear(),
            Err(error) => tracing::warn!(error = %error, "cannot delete the connections of released addresses"),
        }
    }
}
