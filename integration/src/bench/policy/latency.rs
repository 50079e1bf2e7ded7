//! How soon a change holds for packets: from when the API server has acknowledged it until the first one passes, or the last one did. A pod sends a
//! datagram to another one five thousand times a second.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cluster::{delete_policy, label, policy};
use super::place::Place;
use crate::bench::figure::Figure;
use crate::bench::pod::figure;
use crate::bench::timing::Series;
use crate::lab::Lab;
use crate::wait::until;

const LIMIT: Duration = Duration::from_secs(10);
/// Nothing arrives for so long: it was cut.
const SILENCE: Duration = Duration::from_millis(300);

/// Between two pods of the lab, the second of which is isolated: `app` is its label, `client_app` the first one's.
pub(super) fn measure(
    lab: &Lab,
    (client, client_app): (&str, &str),
    (server, app): (&str, &str),
    address: IpAddr,
    rounds: usize,
) -> Result<Vec<Figure>> {
    let arrivals = Arrivals::at(Place::new(lab, server))?;
    let sender = Sender(Place::new(lab, client).start(&["send", &super::worker::at(address)])?);
    policy(lab, "granted", &spec(app, &json!({"granted": "yes"})));
    let [mut by_label, mut cut_by_label, mut by_policy, mut cut_by_policy] = [(); 4].map(|()| Series::default());
    for _ in 0..rounds {
        by_label.add(arrivals.begin(|| label(lab, client, &json!({"granted": "yes"})))?);
        cut_by_label.add(arrivals.end(|| label(lab, client, &json!({"granted": Value::Null})))?);
        by_policy.add(arrivals.begin(|| policy(lab, "allowed", &spec(app, &json!({"app": client_app}))))?);
        cut_by_policy.add(arrivals.end(|| delete_policy(lab, "allowed"))?);
    }
    drop(sender);
    delete_policy(lab, "granted");
    Ok(vec![
        figure("grant by a label, 100 pods, 1,000 policies", "ms", &by_label, 10.0),
        figure("grant by a new policy, 100 pods, 1,000 policies", "ms", &by_policy, 60.0),
        figure("revocation by a label, 100 pods, 1,000 policies", "ms", &cut_by_label, 100.0),
        figure("revocation by a deleted policy, 100 pods, 1,000 policies", "ms", &cut_by_policy, 100.0),
    ])
}

fn spec(app: &str, peer: &Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": app}}, "ingress": [{"from": [{"podSelector": {"matchLabels": peer}}]}]})
}

struct Sender(Child);

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When datagrams arrived, since the epoch.
struct Arrivals {
    times: Arc<Mutex<Vec<Duration>>>,
    _listener: Sender,
}

impl Arrivals {
    fn at(place: Place<'_>) -> Result<Self> {
        let mut listener = place.start(&["listen"])?;
        let output = listener.stdout.take().context("the listener's output")?;
        let times = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&times);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(nanoseconds) = line.parse() {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(Duration::from_nanos(nanoseconds));
                }
            }
        });
        Ok(Self { times, _listener: Sender(listener) })
    }

    fn last(&self) -> Option<Duration> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).last().copied()
    }

    /// The time from a change to the first arrival; before it nothing arrived.
    fn begin(&self, change: impl FnOnce()) -> Result<Duration> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clear();
        change();
        let acknowledged = now()?;
        let first = until("a datagram to arrive", LIMIT, || {
            self.times.lock().unwrap_or_else(PoisonError::into_inner).first().copied()
        })?;
        Ok(first.saturating_sub(acknowledged))
    }

    /// The time from a change to the last arrival.
    fn end(&self, change: impl FnOnce()) -> Result<Duration> {
        change();
        let acknowledged = now()?;
        until("datagrams to stop", LIMIT, || {
            let last = self.last()?.max(acknowledged);
            (now().ok()?.saturating_sub(last) > SILENCE).then_some(())
        })?;
        Ok(self.last().context("nothing had arrived")?.saturating_sub(acknowledged))
    }
}

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?)
}
