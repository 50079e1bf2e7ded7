//! Network namespaces in which workers run: pods, and two that a third one joins without any policy.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::lab::{Iptables, Lab};

const CLIENT_CORE: &str = "0";
const SERVER_CORE: &str = "1";

/// A network namespace by its name in a lab.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    lab: &'a Lab,
    name: &'a str,
}

/// A server that ends with this value.
#[derive(Debug)]
pub(super) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(lab: &'a Lab, name: &'a str) -> Self {
        Self { lab, name }
    }

    fn worker(self, arguments: &[&str]) -> Result<Command> {
        let program = std::env::current_exe().context("this program's file")?;
        // Where the two ends of a connection run decides more than anything that is measured: always on the same cores.
        let core = if matches!(arguments, ["serve" | "listen", ..]) { SERVER_CORE } else { CLIENT_CORE };
        let mut command = self.lab.command("taskset");
        command
            .args(["-c", core, "ip", "netns", "exec", self.name])
            .arg(program)
            .arg("worker")
            .args(arguments)
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Starts a worker whose output is read.
    pub(super) fn start(self, arguments: &[&str]) -> Result<Child> {
        Ok(self.worker(arguments)?.stdout(Stdio::piped()).spawn()?)
    }

    /// Starts a server and waits until it listens.
    pub(super) fn serve(self) -> Result<Server> {
        let mut server = self.start(&["serve"])?;
        let output = server.stdout.take().context("the server's output")?;
        let server = Server(server);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the server in `{}` does not start", self.name);
        Ok(server)
    }

    /// Runs a worker to its end: its figure.
    pub(super) fn ask(self, arguments: &[&str]) -> Result<f64> {
        let output = self.worker(arguments)?.output()?;
        let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        said.trim().parse().with_context(|| format!("`{}` in `{}`: {said}{error}", arguments.join(" "), self.name))
    }
}

/// A node without Minipod, with the networks [`CLIENT`] and [`SERVER`] that it routes between; `tracked`: it tracks connections.
pub(super) fn plain(name: &str, tracked: bool) -> Result<Lab> {
    let lab = Lab::new(name, Iptables::Nft)?;
    let track = "iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT";
    let script = format!(
        "echo 1 > /proc/sys/net/ipv4/ip_forward
         number=1
         for name in {CLIENT} {SERVER}; do
             ip netns add $name
             ip link add $name type veth peer name eth0 netns $name
             ip address add 10.1.$number.1/24 dev $name
             ip link set $name up
             ip -n $name address add 10.1.$number.2/24 dev eth0
             ip -n $name link set eth0 up
             ip -n $name route add default via 10.1.$number.1
             number=$((number + 1))
         done
         {}",
        if tracked { track } else { "" }
    );
    let _ = lab.shell(&script).expect_success();
    Ok(lab)
}

/// The one that opens connections.
pub(super) const CLIENT: &str = "client";
/// The other one, at [`SERVER_ADDRESS`].
pub(super) const SERVER: &str = "server";
pub(super) const SERVER_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 2));
