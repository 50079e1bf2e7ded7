//! The parts of the daemon, in the order in which they start and stop.
//!
//! Start: what an earlier boot left is swept, the machine is looked at, the store opens, the Node is registered, netd makes the network, controllers and
//! agent run, and last the API socket opens: whoever gets an answer there has a node that works. Stop: the other way round.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use minipod_api::Server;
use minipod_image::Images;
use minipod_model::defaults::{DNS_NAME, DNS_NAMESPACE};
use netd::engine::Enforcement;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch::{Receiver, channel};
use tokio_util::sync::CancellationToken;

use super::files::{check_registries, image_options, program};
use super::machine::{self, Machine};
use super::options::Settings;
use super::register::Readiness;
use super::{ServeError, Started, addresses, directory, name, network, register};
use crate::agent;

/// The parts have so long to end after a signal.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks at the machine's addresses.
const LOOK: Duration = Duration::from_secs(5);
/// What could not be made again is tried again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// The Node says so often that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(settings: Settings, hostname: String) -> Result<(), ServeError> {
    let mut terminate = on_signal(SignalKind::terminate())?;
    let mut interrupt = on_signal(SignalKind::interrupt())?;
    let directories = settings.directories.clone();
    let machine = Machine::observe();
    machine::check_addresses(&settings.node_ips)?;
    check_registries(settings.registries.as_deref())?;
    sweep_earlier_boot(&directories.run_dir, &machine.boot_id)
        .map_err(|source| ServeError::Sweep { path: directories.run_dir.clone(), source })?;

    let services = addresses::service_cidrs(&settings);
    let settings = addresses::of_host(settings, &netd::hostnet::available_families());
    // Before the store and the Node, which remembers its ranges: what is refused here leaves nothing.
    network::check(&settings)?;
    let server = open_server(&settings).await?;
    server.set_pod_streams(Arc::new(agent::Streams::new(directories.clone())));
    let client = Client::new(server.router(), "default");
    let named = name::keep(&directories, &settings.node_name)?;
    let mut earlier = register::Earlier { services, named, ranges: Vec::new() };
    let (tell_addresses, addresses) = channel(addresses_of(&settings));
    let node_ips = || addresses.borrow().clone();
    let ranges = register::register(&client, &settings, &earlier, &machine, &node_ips(), &hostname).await?;
    earlier.ranges.clone_from(&ranges);

    // From here on there is something that only these settings find again.
    Started::keep(&settings)?;
    let netd = network::start(&settings, &node_ips(), ranges, client.clone()).await?;
    let images = open_images(&settings)?;
    let config = agent::Config {
        node_name: settings.node_name.clone(),
        hostname: hostname.clone(),
        node_ips: addresses.clone(),
        directories: directories.clone(),
        cgroup_parent: settings.cgroup_parent.clone(),
        cluster_dns: addresses::cluster_dns(&settings),
        shim: program("MINIPOD_SHIM", "minipod-shim"),
    };
    let stop = CancellationToken::new();
    let mut agent = tokio::spawn(agent::run(client.clone(), images, config, stop.clone()));
    let controllers = tokio::spawn(minipod_controllers::run(client.clone(), settings.node_name.clone(), stop.clone()));
    let api = server.serve_unix(&directories.api_socket(), stop.clone()).await?;
    let tell = async |ready: &Readiness| {
        register::write_status(&client, &settings, &machine, &node_ips(), &hostname, ready).await
    };
    let mut enforcement = netd.enforcement();
    let now = |enforcement: &mut Receiver<Enforcement>| readiness(&enforcement.borrow_and_update());
    tell(&now(&mut enforcement)).await?;
    tracing::info!(node = settings.node_name, node_ips = ?node_ips(), socket = %directories.api_socket().display(), "node ready");

    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut look = tokio::time::interval(LOOK);
    let mut missing = pin!(missing(&client, &settings.node_name, Duration::ZERO));
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            ended = &mut agent => break match ended {
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(())) | Err(_) => Err(ServeError::PartEnded { part: "pod agent" }),
            },
            _ = heartbeat.tick() => if let Err(error) = tell(&now(&mut enforcement)).await {
                tracing::warn!(%error, "heartbeat not written");
            },
            // Addresses come and go with DHCP, and a machine may start its network after this daemon.
            _ = look.tick() => if tell_addresses.send_if_modified(|known| replace(known, addresses_of(&settings))) {
                tracing::info!(node_ips = ?node_ips(), "the node's addresses have changed");
                if let Err(error) = tell(&now(&mut enforcement)).await {
                    tracing::warn!(%error, "the Node does not say its new addresses");
                }
            },
            Ok(()) = enforcement.changed() => if let Err(error) = tell(&now(&mut enforcement)).await {
                tracing::warn!(%error, "the Node does not say whether policies are in force");
            },
            () = &mut missing => {
                let again = async {
                    server.ensure_cluster_objects().await?;
                    register::register(&client, &settings, &earlier, &machine, &node_ips(), &hostname).await?;
                    tell(&now(&mut enforcement)).await?;
                    Ok::<(), ServeError>(())
                };
                let after = made_again(again.await);
                missing.set(self::missing(&client, &settings.node_name, after));
            },
        }
    };
    tracing::info!("stopping; pods, links and policies stay");
    if let Err(error) = tell(&Readiness::Stopped).await {
        tracing::warn!(%error, "the Node still says that it is ready");
    }
    stop.cancel();
    let parts = async {
        if !agent.is_finished() {
            let _ = (&mut agent).await;
        }
        let _ = controllers.await;
        netd.stop().await;
        server.stop();
        let _ = api.await;
    };
    if tokio::time::timeout(STOP_PATIENCE, parts).await.is_err() {
        tracing::warn!("not everything ended in time");
    }
    // A new daemon finds nobody listening.
    let _ = fs::remove_file(directories.api_socket());
    ended
}

/// The node's addresses: those that were given, else those by which others know the machine.
fn addresses_of(settings: &Settings) -> Vec<IpAddr> {
    if settings.node_ips.is_empty() { machine::observe_addresses() } else { settings.node_ips.clone() }
}

/// Whether it is another value now.
fn replace<T: PartialEq>(known: &mut T, seen: T) -> bool {
    let differs = *known != seen;
    *known = seen;
    differs
}

fn readiness(enforcement: &Enforcement) -> Readiness {
    match enforcement {
        Enforcement::Failing(why) => Readiness::NotEnforcing(why.clone()),
        Enforcement::Awaited | Enforcement::InForce => Readiness::Ready,
    }
}

/// Tells what became of a Node that was missing, and says when to look the next time.
fn made_again(result: Result<(), ServeError>) -> Duration {
    match result {
        Ok(()) => {
            tracing::warn!("the Node or the service of the cluster DNS was deleted; made it again");
            Duration::ZERO
        }
        Err(error) => {
            tracing::warn!(%error, "the Node or the service of the cluster DNS is missing; trying again");
            AGAIN
        }
    }
}

/// Waits until the Node or the service of the cluster DNS is missing; looks `after` so long at the earliest.
async fn missing(client: &Client, node: &str, after: Duration) {
    tokio::time::sleep(after).await;
    let nodes: Api<Node> = Api::all(client.clone());
    let services: Api<Service> = Api::namespaced(client.clone(), DNS_NAMESPACE);
    loop {
        let seen = tokio::select! {
            seen = await_condition(nodes.clone(), node, |node: Option<&Node>| node.is_none()) => seen.map(drop),
            seen = await_condition(services.clone(), DNS_NAME, |service: Option<&Service>| service.is_none()) => {
                seen.map(drop)
            }
        };
        match seen {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the watch of the Node begins anew"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn on_signal(kind: SignalKind) -> Result<Signal, ServeError> {
    signal(kind).map_err(ServeError::Runtime)
}

async fn open_server(settings: &Settings) -> Result<Server, ServeError> {
    directory::ensure_state_dir(&settings.directories)?;
    let (store, pods) = (settings.directories.store(), agent::directories(&settings.directories.pods()).len());
    if pods > 0 && !store.exists() {
        return Err(ServeError::StoreMissing { store, pods });
    }
    let config =
        minipod_api::Config { store: settings.directories.store(), service_cidrs: addresses::service_cidrs(settings) };
    Ok(Server::open(config).await?)
}

fn open_images(settings: &Settings) -> Result<Images, ServeError> {
    let options = image_options(&settings.directories, settings.registries.clone());
    Images::open(options).map_err(|source| ServeError::Images(Box::new(source)))
}

/// Processes and links end with a boot; where the run directory does not, what it says of them is removed.
fn sweep_earlier_boot(run_dir: &Path, boot_id: &str) -> io::Result<()> {
    let mark = run_dir.join("boot-id");
    let known = fs::read_to_string(&mark).unwrap_or_default();
    if known.trim() == boot_id {
        return Ok(());
    }
    if !known.is_empty() {
        match fs::remove_dir_all(run_dir.join("pods")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::write(mark, boot_id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::sweep_earlier_boot;

    #[test]
    fn pods_of_an_earlier_boot_are_swept_and_those_of_this_one_stay() {
        let run_dir = tempfile::tempdir().expect("a directory");
        let pod = run_dir.path().join("pods/u1");
        sweep_earlier_boot(run_dir.path(), "boot-1").expect("marked");
        fs::create_dir_all(&pod).expect("made");
        sweep_earlier_boot(run_dir.path(), "boot-1").expect("nothing to do");
        assert!(pod.is_dir());
        sweep_earlier_boot(run_dir.path(), "boot-2").expect("swept");
        assert!(!pod.exists());
    }
}
