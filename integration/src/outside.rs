//! The world outside the cluster: a host in a namespace of its own, joined to the lab node by one cable. It has a web server
//! on port 80 and a DNS server that knows `www.example.com`.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, Place};
use crate::programs;
use crate::ran::Ran;
use crate::wait::until;

/// Address of the outside host (TEST-NET-2, RFC 5737).
pub const ADDRESS_V4: &str = "198.51.100.1";
/// Address of the outside host (documentation prefix, RFC 3849).
pub const ADDRESS_V6: &str = "2001:db8::1";

/// The host; dropping it stops its servers and removes its namespace.
#[derive(Debug)]
pub struct Outside {
    processes: Vec<Child>,
}

impl Outside {
    /// Joins a new host to the lab as its default gateway and resolver.
    ///
    /// # Errors
    /// When the namespace or the cable cannot be made, or a server does not come up.
    pub fn new(lab: &Lab) -> Result<Self> {
        let mut outside = Self::silent(lab)?;
        lab.set_resolver(ADDRESS_V4);
        outside.serve()?;
        Ok(outside)
    }

    /// Joins a new host to the lab as its default gateway; it runs nothing.
    ///
    /// # Errors
    /// When the namespace or the cable cannot be made.
    pub fn silent(lab: &Lab) -> Result<Self> {
        let anchor = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up; exec sleep infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start unshare")?;
        let pid = anchor.id().to_string();
        let outside = Self { processes: vec![anchor] };
        let own = std::fs::read_link("/proc/self/ns/net")?;
        until("the outside namespace", Duration::from_secs(5), || {
            (std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()? != own).then_some(())
        })?;
        // The lab has process numbers of its own, so the cable is made from outside, by the machine's numbers.
        let between = Ran::run(
            lab.command_from_outside("ip")
                .args(["link", "add", "up0", "type", "veth", "peer", "name", "eth0"])
                .args(["netns", &pid]),
        )?;
        ensure!(between.succeeded(), "{between}");
        let cable = lab.shell(
            "ip address add 198.51.100.2/24 dev up0
             ip address add 2001:db8::2/64 dev up0 nodad
             ip link set up0 up",
        );
        ensure!(cable.succeeded(), "{cable}");
        let inside = Ran::run(outside.command("sh").args([
            "-ec",
            "ip address add 198.51.100.1/24 dev eth0
             ip address add 2001:db8::1/64 dev eth0 nodad
             ip link set eth0 up",
        ]))?;
        ensure!(inside.succeeded(), "{inside}");
        let routes = lab.shell("ip route add default via 198.51.100.1; ip -6 route add default via 2001:db8::1");
        ensure!(routes.succeeded(), "{routes}");
        Ok(outside)
    }

    /// Its network, at these of its addresses.
    #[must_use]
    pub fn place(&self, addresses: Vec<IpAddr>) -> Place {
        let anchor = self.processes.first().map(Child::id).unwrap_or_default();
        Place { netns: format!("/proc/{anchor}/ns/net").into(), addresses, is_bound: true }
    }

    /// A command in the outside host's namespace.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let anchor = self.processes.first().map(Child::id).unwrap_or_default();
        command.args(["--net", "--target", &anchor.to_string(), "--", program]);
        command
    }

    fn serve(&mut self) -> Result<()> {
        let hello = programs::directory()?.join("minipod-hello");
        let web =
            self.command(&hello.to_string_lossy()).arg("hello-app").env("PORT", "80").stdin(Stdio::null()).spawn()?;
        self.processes.push(web);
        let names = programs::directory()?.join("answer-dns");
        let dns = self
            .command(&names.to_string_lossy())
            .arg(format!("www.example.com={ADDRESS_V4}"))
            .stdin(Stdio::null())
            .spawn()?;
        self.processes.push(dns);
        let sockets = || Ran::run(self.command("ss").args(["-Hlntu"])).map(|ran| ran.stdout).unwrap_or_default();
        until("the outside servers", Duration::from_secs(5), || {
            let sockets = sockets();
            (sockets.contains(":80 ") && sockets.contains(":53 ")).then_some(())
        })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
