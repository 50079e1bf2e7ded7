//! Start, end and removal of netd: the parts in their order.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;
use std::{fs, io};

use kube::Client;
use minipod_kernel::iptables::{Table, Variant};
use minipod_kernel::netlink::{NetlinkError, NetworkChanges, PacketLog};
use minipod_model::IpFamily;
use minipod_model::defaults::DROPS_GROUP;
use minipod_protocol::netd::{Code, Error};
use netd_dataplane::{
    Changes, Dataplane, DataplaneError, DenyAction, KernelError, LinuxKernel, remove_from_other_variants,
};
use tokio::task::{JoinHandle, JoinSet};

use crate::attach::{AttachError, Attacher, Swept};
use crate::clock::Clock;
use crate::command::{Command, Engine as Handle};
use crate::consistent::Source;
use crate::dns::{BindError, DnsServer, Forwarder, Upstreams};
use crate::engine::{Enforcement, Engine, Parts, Publish};
use crate::hostnet::{self, Forwarding, HostNet, HostNetError, Removed};
use crate::kernel::node_kernel;
use crate::offload::Prober;
use crate::options::{Iptables, Options};
use crate::revoke::Revoker;
use crate::routes::Ranges;
use crate::{causes, drops, facts, metrics, released, socket, watch};

/// The node's own resolvers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;

/// Why netd does not start. Nothing is enforced less than before.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// a directory of netd's
    #[error("cannot make the directory `{}`", path.display())]
    Directory {
        /// which
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
    /// the node's network is not fit
    #[error(transparent)]
    HostNet(#[from] HostNetError),
    /// changes of links and routes
    #[error(transparent)]
    Changes(#[from] NetlinkError),
    /// links and addresses
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// iptables or ipset
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// the rules that are there
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// the first rules and sets
    #[error(
        "this machine does not take the node's rules: {failure}; install iptables anew with \
         `apt-get install --reinstall iptables`, and see that the kernel has the modules ip_set, xt_set, xt_NFLOG and xt_hashlimit"
    )]
    Refused {
        /// what the kernel or a program said
        failure: String,
    },
    /// denied packets cannot be answered
    #[error(
        "cannot reject what policy denies: this machine has no table `security` for iptables-{variant}; load the kernel modules \
         iptable_security and ip6table_security, or start with `--deny-action drop`"
    )]
    NoSecurityTable {
        /// the variant in use
        variant: Variant,
        /// what the program said
        #[source]
        source: KernelError,
    },
    /// the cluster DNS
    #[error(transparent)]
    Dns(#[from] BindError),
    /// the socket
    #[error("cannot listen on `{}`", path.display())]
    Socket {
        /// which
        path: PathBuf,
        /// why
        #[source]
        source: io::Error,
    },
    /// the address of the metrics
    #[error(
        "cannot tell metrics at `{address}`: give `--metrics-address` an address of this machine and a free port, or leave it out"
    )]
    Metrics {
        /// which
        address: SocketAddr,
        /// why
        #[source]
        source: io::Error,
    },
    /// the operating system
    #[error("cannot start the engine")]
    Thread(#[source] io::Error),
}

/// A running netd. The kernel keeps enforcing when it ends, however it ends.
#[derive(Debug)]
pub struct Netd {
    engine: Handle,
    enforcement: tokio::sync::watch::Receiver<Enforcement>,
    thread: thread::JoinHandle<()>,
    watches: JoinSet<()>,
    server: JoinHandle<()>,
}

impl Netd {
    /// Starts everything; returns when the newest state is enforced and the socket answers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: &Options, client: Client) -> Result<Self, StartError> {
        for path in [&options.run_dir, &options.state_dir] {
            fs::create_dir_all(path).map_err(|source| StartError::Directory { path: path.clone(), source })?;
        }
        let clock = Clock::new().map_err(StartError::Thread)?;
        let kernel = LinuxKernel::open(variant(options.iptables))?;
        let in_use = kernel.variant();
        let mut host = HostNet::open(&options.state_dir, &ranges(options), &options.cluster_dns)?;
        // Before the first look: what is lost after it is told.
        let (changes, own_ranges) = (NetworkChanges::open()?, host.ranges().clone());
        let (attacher, swept) =
            Attacher::open(&options.run_dir, &options.state_dir, &host.ranges().node, host.mtu(), clock.now())?;
        tell_swept(&swept);
        host.ensure(&attacher.pod_routes())?;
        let dataplane = Dataplane::adopt(node_kernel(kernel, &options.run_dir))?;
        let found_nothing = dataplane.is_empty() && attacher.pod_routes().is_empty();
        let publish = serve_dns(options, &host).await?;
        let telling = match options.metrics_address {
            Some(address) => {
                Some(metrics::listen(address).await.map_err(|source| StartError::Metrics { address, source })?)
            }
            None => None,
        };
        let policy = netd_policy::Options {
            pod_to_node: options.pod_to_node,
            cluster_dns: options.cluster_dns.clone(),
            families: host.families().iter().copied().collect(),
            ..netd_policy::Options::new(&options.node_name)
        };
        let facts = facts::gather(options, &host);
        let forwarding = Forwarding::open(&options.state_dir, host.families())?;
        let revoker = Revoker::start().map_err(StartError::Thread)?;
        let prober = Prober::start().map_err(StartError::Thread)?;
        let log = PacketLog::open(DROPS_GROUP);
        let deaf = log.as_ref().err().map(not_listening);
        let (engine, mut enforcement) = Engine::new(Parts {
            policy,
            facts,
            dataplane,
            attacher,
            host,
            routing: options.routing,
            publish,
            revoker,
            prober,
            deaf,
            clock,
        });
        let (handle, commands) = Handle::channel();
        let thread = thread::Builder::new()
            .name("netd-engine".into())
            .spawn(move || engine.run(&commands))
            .map_err(StartError::Thread)?;
        let told = handle.clone();
        let (mut watches, progress) =
            watch::start(&client, move |news| told.tell(Command::News { news: Box::new(news), heard: Instant::now() }));
        watches.extend(telling.map(|listener| metrics::serve(listener, handle.clone())));
        watches.extend(log.ok().map(|log| drops::listen(log, handle.clone())));
        let told = handle.clone();
        watches.spawn(hostnet::watch_changes(changes, own_ranges, move || told.tell(Command::NetworkChanged)));
        // An error would mean that the engine has ended; the socket then says so.
        let first = enforcement.wait_for(|now| *now != Enforcement::Awaited).await.map(|first| first.clone());
        if let Ok(Enforcement::Failing(failure)) = first {
            watches.shutdown().await;
            end_engine(&handle, thread).await;
            // What was there before stays and enforces what it did.
            if found_nothing {
                drop(reset(&options.state_dir, options.iptables)?);
            }
            return Err(StartError::Refused { failure });
        }
        match remove_from_other_variants(in_use) {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                tracing::info!(?changes, variant = %in_use, "removed our rules from the other iptables variant");
            }
            Err(error) => {
                watches.shutdown().await;
                end_engine(&handle, thread).await;
                return Err(error.into());
            }
        }
        // Only now: what was not forwarded before must not be forwarded while there are no rules.
        forwarding.switch_on()?;
        let path = options.socket();
        let bound = socket::bind(&path).await;
        let listener = bound.map_err(|source| StartError::Socket { path: path.clone(), source })?;
        released::carry_out(&path, &handle).await;
        let source = Source { client, progress: options.prompt_bookmarks.then_some(progress) };
        let server = tokio::spawn(socket::serve(listener, handle.clone(), source));
        Ok(Self { engine: handle, enforcement, thread, watches, server })
    }

    /// Whether the kernel does what it should, from now on.
    #[must_use]
    pub fn enforcement(&self) -> tokio::sync::watch::Receiver<Enforcement> {
        self.enforcement.clone()
    }

    /// Ends it: no command is left half done.
    pub async fn stop(mut self) {
        self.server.abort();
        self.watches.shutdown().await;
        end_engine(&self.engine, self.thread).await;
    }
}

/// Says what keeps this machine from being a node with these options, before anything is made: missing programs, kernel support or
/// privileges, and ranges that something else routes. Changes nothing; this node's own range need not be known yet.
///
/// # Errors
/// See [`StartError`].
pub fn check(options: &Options) -> Result<(), StartError> {
    let kernel = LinuxKernel::open(variant(options.iptables))?;
    if options.deny_action == DenyAction::Reject {
        let variant = kernel.variant();
        kernel.require(Table::Security).map_err(|source| StartError::NoSecurityTable { variant, source })?;
    }
    Ok(hostnet::check_ranges(&options.state_dir, &ranges(options))?)
}

/// Policies are enforced all the same.
fn not_listening(error: &NetlinkError) -> Error {
    let details = causes(error);
    tracing::warn!(%error, causes = ?details, group = DROPS_GROUP, "dropped packets are not shown");
    let message = format!(
        "netd does not hear of dropped packets: the kernel lets nobody listen on NFLOG group {DROPS_GROUP}; see that it has the module \
         nfnetlink_log, and that nobody else listens there"
    );
    Error { code: Code::NotAvailable, message, details }
}

async fn end_engine(engine: &Handle, thread: thread::JoinHandle<()>) {
    let _ = engine.tell(Command::Stop);
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
}

fn ranges(options: &Options) -> Ranges {
    Ranges {
        node: options.node_cidrs.clone(),
        cluster: options.cluster_cidrs.clone(),
        services: options.service_cidrs.clone(),
    }
}

/// Removes chains, sets, jumps, links, routes, addresses, and restores settings. Idempotent; for a node that nobody runs.
///
/// # Errors
/// The first thing that stays; called again, it goes on.
pub fn reset(state_dir: &Path, iptables: Iptables) -> Result<(Changes, Removed), StartError> {
    let kernel = LinuxKernel::open(variant(iptables))?;
    let in_use = kernel.variant();
    let mut dataplane = Dataplane::adopt(kernel)?;
    // Links go first: without them nothing passes that the gates would have stopped.
    let removed = hostnet::remove_all(state_dir)?;
    // A start that was interrupted leaves rules in both variants, and a set that a rule names cannot be destroyed.
    let others = remove_from_other_variants(in_use)?;
    let mut changes = dataplane.remove_all()?;
    changes.chains += others.chains;
    changes.jumps += others.jumps;
    Ok((changes, removed))
}

async fn serve_dns(options: &Options, host: &HostNet) -> Result<Option<Publish>, StartError> {
    let addresses: Vec<SocketAddr> = options
        .cluster_dns
        .iter()
        .filter(|address| host.families().contains(&IpFamily::of(**address)))
        .map(|address| SocketAddr::new(*address, DNS_PORT))
        .collect();
    if addresses.is_empty() {
        return Ok(None);
    }
    let upstreams = Upstreams::ResolvConf { path: RESOLV_CONF.into(), except: options.cluster_dns.clone() };
    let server = Arc::new(DnsServer::bind(&addresses, Forwarder::new(upstreams)).await?);
    Ok(Some(Box::new(move |records| server.publish(records))))
}

fn variant(iptables: Iptables) -> Option<Variant> {
    match iptables {
        Iptables::Auto => None,
        Iptables::Nft => Some(Variant::Nft),
        Iptables::Legacy => Some(Variant::Legacy),
    }
}

fn tell_swept(swept: &Swept) {
    let Swept { earlier_boot, gone, unknown_links, damaged } = swept;
    if *earlier_boot > 0 {
        tracing::info!(records = earlier_boot, "forgot attachments of an earlier boot");
    }
    for record in gone {
        tracing::info!(link = %record.link, addresses = ?record.addresses, "released an attachment whose sandbox is gone");
    }
    for link in unknown_links {
        tracing::warn!(link = %link, "deleted an interface that no record knows");
    }
    for path in damaged {
        tracing::warn!(path = %path.display(), "cannot read an attachment's record; it is left where it is");
    }
}
