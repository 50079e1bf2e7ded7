//! Notices that links, addresses, routes or routing rules changed: systemd-networkd, DHCP clients and people take away what is ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use minipod_kernel::netlink::{NetlinkError, Watch};

/// How long nothing may change before it is said: an attach alone is a dozen changes.
const QUIET: Duration = Duration::from_millis(200);
/// How long it is not said at most.
const LATEST: Duration = Duration::from_secs(2);
/// How soon the thread notices that nobody listens any more.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the watch when dropped, some seconds later at most.
#[derive(Debug)]
#[must_use = "the watch ends when this is dropped"]
pub struct ChangeWatch(Arc<AtomicBool>);

impl Drop for ChangeWatch {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Calls `changed` from a thread of its own after changes in the current network namespace, once for many that follow each other
/// closely. It is called for our own changes as well; [`super::HostNet::ensure`] then finds nothing to do.
///
/// # Errors
/// No netlink.
pub fn watch_changes(changed: impl Fn() + Send + 'static) -> Result<ChangeWatch, NetlinkError> {
    let mut watch = Watch::open()?;
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let work = move || {
        while !end.load(Ordering::Relaxed) {
            match watch.wait(PATIENCE) {
                Ok(false) => continue,
                Ok(true) => settle(&mut watch),
                Err(error) => {
                    tracing::warn!(error = %error, "cannot watch links and routes any more; lost routes are repaired at the next start only");
                    return;
                }
            }
            if !end.load(Ordering::Relaxed) {
                changed();
            }
        }
    };
    Builder::new().name("route-watch".into()).spawn(work).map_err(NetlinkError::Open)?;
    Ok(ChangeWatch(ended))
}

/// Waits until nothing changes any more, but not for ever.
fn settle(watch: &mut Watch) {
    let deadline = Instant::now() + LATEST;
    while Instant::now() < deadline && matches!(watch.wait(QUIET), Ok(true)) {}
}
