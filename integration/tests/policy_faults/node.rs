//! The lab's daemon as these tests treat it: armed, killed, asked.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use integration::lab::Lab;
use integration::wait::until;
use minipod_protocol::judge::{FirstPacket, Judgement};
use minipod_protocol::netd::{self, Request, Response};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// A file of the node's run directory.
fn file(lab: &Lab, name: &str) -> PathBuf {
    format!("/proc/{}/root/run/minipod/{name}", lab.anchor()).into()
}

/// The daemon is to end before this operation of its next change, counted from 1.
pub(crate) fn arm(lab: &Lab, operation: u32) {
    fs::write(file(lab, "fault"), operation.to_string()).expect("the node's run directory");
}

/// It is not to end any more. `false`: it has met its end, or is about to.
pub(crate) fn disarm(lab: &Lab) -> bool {
    fs::remove_file(file(lab, "fault")).is_ok()
}

/// The daemon's process, as the lab counts.
fn pid(lab: &Lab) -> String {
    let text = fs::read_to_string(file(lab, "node.pid")).expect("node.pid");
    let daemon: Value = serde_json::from_str(&text).expect("JSON");
    daemon["pid"].to_string()
}

/// Whether it has ended without a word.
pub(crate) fn is_dead(lab: &Lab) -> bool {
    let stat = format!("/proc/{}/root/proc/{}/stat", lab.anchor(), pid(lab));
    fs::read_to_string(stat).map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z')))
}

pub(crate) fn kill(lab: &Lab) {
    let _ = lab.shell(&format!("kill -KILL {}", pid(lab))).expect_success();
    until("the daemon to be dead", PATIENCE, || is_dead(lab).then_some(())).expect("dead");
}

/// What netd says of packets, and where the kernel is not as it should be; `None` when it does not answer.
pub(crate) fn judge(lab: &Lab, packets: Vec<FirstPacket>) -> Option<(Vec<Judgement>, Vec<String>)> {
    match netd::ask(&file(lab, "netd.sock"), Request::Judge { packets }, PATIENCE) {
        Ok(Response::Judged { judgements, differences }) => Some((judgements, differences)),
        _ => None,
    }
}

/// What netd says of itself.
pub(crate) fn report(lab: &Lab) -> Value {
    try_report(lab).expect("netd answers")
}

/// The same of a netd that may have ended.
pub(crate) fn try_report(lab: &Lab) -> Option<Value> {
    match netd::ask(&file(lab, "netd.sock"), Request::Report, PATIENCE) {
        Ok(Response::Report { report }) => Some(report),
        _ => None,
    }
}
