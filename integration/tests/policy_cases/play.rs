//! Carries a case out, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use integration::lab::Place;
use integration::packets::flow::{Flow, Kind};
use integration::ran::Ran;
use integration::wait::until;

use crate::case::{Case, Daemon, Step};
use crate::look::{differences, settles, told_all};
use crate::question::{Outcome, Pair, Question, Spoof};
use crate::table::{Expectation, Table};
use crate::world::{World, split};

const LIMIT: Duration = Duration::from_secs(30);
/// A connection through which nothing has come for so long was cut. How soon that is, `policy-time` and the benchmarks measure.
const SILENCE: Duration = Duration::from_secs(1);
/// Retransmissions come at 0.2, 0.6 and 1.4 s.
const LATER: Duration = Duration::from_secs(2);
/// What is allowed answers within this time, while a daemon starts beside it.
const PATIENCE: Duration = Duration::from_secs(1);
/// In turns over IPv4 and IPv6.
const KINDS: [Kind; 5] = [Kind::TcpBusy, Kind::TcpIdle, Kind::TcpOneWay, Kind::Udp, Kind::Sctp];
const SPOOFED: &str = "spoofed";

/// A case on its way.
struct Play<'a> {
    case: &'a Case,
    world: &'a mut World,
    /// to be deleted at the end
    applied: Vec<String>,
    flows: BTreeMap<String, Vec<(Kind, Flow)>>,
    /// what was seen last
    table: Option<Table>,
    is_running: bool,
}

/// Carries the case out, and takes back what it made.
///
/// # Panics
/// When something is otherwise than it says, naming case and step.
pub(crate) fn play(case: &Case, world: &mut World) {
    world.become_that_of(case);
    let mut play = Play { case, world, applied: Vec::new(), flows: BTreeMap::new(), table: None, is_running: true };
    for (number, step) in case.steps.iter().enumerate() {
        let begin = Instant::now();
        play.act(step);
        play.see(step).unwrap_or_else(|error| {
            let does = step.does.as_deref().map(|does| format!(" ({does})")).unwrap_or_default();
            unreachable!(
                "{}: {}\nstep {}{does}, after {:?}:\n{error}",
                case.name,
                case.says,
                number + 1,
                begin.elapsed()
            )
        });
    }
    play.end();
}

/// Asks until the outcome is the one that is expected.
fn outcome(question: &Question, from: &Place, to: IpAddr) -> Result<(), String> {
    let mut outcome = Outcome::Answered;
    let asked = until("the outcome", LIMIT, || {
        outcome = question.ask(from, to);
        (outcome == question.outcome).then_some(())
    });
    asked.map_err(|_| format!("it is {outcome:?}"))
}

impl Play<'_> {
    /// Does what the step does.
    fn act(&mut self, step: &Step) {
        if let Some(script) = &step.host {
            let _ = self.world.lab.shell(&self.world.filled(script)).expect_success();
        }
        for (name, script) in &step.within {
            let place = &self.world.actors[name].place;
            let enter = format!("nsenter --net={} sh -ec", place.netns.display());
            let mut command = self.world.lab.command_from_outside("sh");
            let quoted = self.world.filled(script).replace('\'', r"'\''");
            let ran = Ran::run(command.args(["-c", &format!("{enter} '{quoted}'")]));
            let _ = ran.expect("a shell").expect_success();
        }
        if let Some(manifests) = &step.apply {
            let filled = self.world.filled(manifests);
            self.world.lab.apply(&filled);
            self.applied.push(filled);
        }
        if let Some(refused) = &step.refused {
            let said = self.world.lab.minipod_with_input(&["apply", "-f", "-"], &self.world.filled(&refused.apply));
            let said = said.expect_failure();
            assert!(said.contains(&refused.says), "it should say `{}`: {said}", refused.says);
        }
        for line in &step.delete {
            let (kind, object) = line.split_once(' ').unwrap_or_else(|| unreachable!("`{line}`: write KIND NAME"));
            let (namespace, name) = split(object);
            self.world.run(&["delete", "-n", namespace, kind, name]);
        }
        for line in &step.label {
            self.world.label(line);
        }
        for name in &step.terminate {
            self.world.terminate(name);
        }
        self.remove(&step.remove);
        self.world.set_namespaces(&step.namespaces, &step.add);
        self.world.add_pods(&step.add);
        if let Some(daemon) = step.daemon {
            self.change_daemon(daemon, step.steadily);
        }
        for (name, pair) in &step.open {
            let pair = Pair::read(pair).unwrap_or_else(|error| unreachable!("{error}"));
            self.flows.insert(name.clone(), self.flows_of(&pair));
        }
        for line in &step.spoof {
            self.spoof(&Spoof::read(line).unwrap_or_else(|error| unreachable!("{error}")));
        }
        for name in &step.ended {
            self.wait_ended(name);
        }
    }

    /// Compares what is to be seen.
    fn see(&mut self, step: &Step) -> Result<(), String> {
        for (pod, gone) in &step.reuses {
            if !self.world.has_address_of(pod, gone) {
                return Err(format!("{pod} has no address that {gone} had"));
            }
        }
        if let Some(text) = &step.expect {
            let actors: BTreeSet<String> = self.world.actors.keys().cloned().collect();
            let table = match Expectation::of(text) {
                Expectation::Everything => Table::everything(&actors),
                Expectation::AsBefore => self.table.clone().ok_or("nothing was seen before")?,
                Expectation::Tables(text) => Table::read(text, &actors, &BTreeSet::new())?,
            };
            settles(self.world, &table, self.table.as_ref())?;
            self.table = Some(table);
        }
        self.ask(&step.ask)?;
        self.see_flows(step)?;
        for (name, expected) in &step.heard {
            let heard = self.world.actors[name].heard();
            if heard != *expected {
                return Err(format!("{name} heard {heard:?} instead of {expected:?}"));
            }
        }
        Ok(())
    }

    fn remove(&mut self, names: &[String]) {
        let (namespaces, pods): (Vec<&String>, Vec<&String>) =
            names.iter().partition(|name| name.starts_with("namespace "));
        self.world.remove_pods(&pods.into_iter().cloned().collect::<Vec<_>>());
        for name in namespaces.into_iter().filter_map(|name| name.strip_prefix("namespace ")) {
            self.world.forget_namespace(name);
            self.world.run(&["delete", "namespace", name]);
        }
    }

    fn change_daemon(&mut self, daemon: Daemon, is_watched: bool) {
        let (world, case) = (&*self.world, self.case);
        let change = || match daemon {
            Daemon::Kill => {
                let kill = r#"kill -KILL $(sed 's/.*"pid":\([0-9]*\).*/\1/' /run/minipod/node.pid)"#;
                let _ = world.lab.shell(kill).expect_success();
            }
            Daemon::Stop => world.run(&["node", "stop"]),
            Daemon::Start => world.start(&case.node),
        };
        self.is_running = daemon == Daemon::Start;
        let Some(table) = self.table.as_ref().filter(|_| is_watched) else { return change() };
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                // A look that begins after the change is the last.
                loop {
                    let is_last = is_done.load(Ordering::SeqCst);
                    let differences = differences(world, table, PATIENCE);
                    assert!(
                        differences.is_empty(),
                        "{}: while the daemon changes:\n{}",
                        case.name,
                        told_all(&differences)
                    );
                    if is_last {
                        return;
                    }
                }
            });
            change();
            is_done.store(true, Ordering::SeqCst);
            watch.join().expect("no moment at which packets do otherwise");
        });
    }

    fn flows_of(&self, pair: &Pair) -> Vec<(Kind, Flow)> {
        let [client, server] = [&pair.from, &pair.to].map(|name| &self.world.actors[name].place);
        let all = KINDS.iter().zip(server.addresses.iter().cycle());
        all.map(|(kind, address)| (*kind, Flow::open(*kind, client, (server, *address)))).collect()
    }

    fn see_flows(&self, step: &Step) -> Result<(), String> {
        let of = |names: &[String]| -> Vec<(String, &(Kind, Flow))> {
            names.iter().flat_map(|name| self.flows[name].iter().map(|flow| (name.clone(), flow))).collect()
        };
        let (cut, alive) = (of(&step.cut), of(&step.alive));
        for (name, (kind, flow)) in &cut {
            let is_silent = || flow.last().is_none_or(|last| last.elapsed() > SILENCE).then_some(());
            until(&format!("{name}, {kind:?}, to be cut"), LIMIT, is_silent).map_err(|error| error.to_string())?;
        }
        if !cut.is_empty() {
            let begin = Instant::now();
            for (_, (_, flow)) in &cut {
                flow.speak();
            }
            until("time to pass", LIMIT, || (begin.elapsed() > LATER).then_some(())).expect("time passes");
            for (name, (kind, flow)) in cut {
                if let Some(last) = flow.last().filter(|last| *last > begin) {
                    return Err(format!("{name}, {kind:?}: something came {:?} after it had been cut", last - begin));
                }
            }
        }
        let now = Instant::now();
        for (name, (kind, flow)) in alive {
            flow.speak();
            until(&format!("{name}, {kind:?}, to go on"), LIMIT, || flow.last().filter(|last| *last > now))
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// All at once, since silence takes its time.
    fn ask(&self, lines: &[String]) -> Result<(), String> {
        let questions: Vec<(&String, Question, IpAddr)> = lines
            .iter()
            .flat_map(|line| ["v4", "v6"].map(|family| (line, family)))
            .map(|(line, family)| {
                let question = Question::read(line)?;
                let to = self.world.address(&format!("{}.{family}", question.to));
                Ok((line, question, to))
            })
            .collect::<Result<_, String>>()?;
        std::thread::scope(|scope| {
            let asked = questions.iter().map(|(line, question, to)| {
                let from = &self.world.actors[&question.from].place;
                scope.spawn(move || outcome(question, from, *to).map_err(|error| format!("{line}\nat {to}: {error}")))
            });
            let asked: Vec<_> = asked.collect();
            asked.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    }

    /// Sends a datagram of each family from an address that the pod gives itself.
    fn spoof(&self, spoof: &Spoof) {
        let from = &self.world.actors[&spoof.from].place;
        for family in ["v4", "v6"] {
            let claimed = if self.world.actors.contains_key(&spoof.claimed) {
                self.world.address(&format!("{}.{family}", spoof.claimed))
            } else {
                spoof.claimed.parse().unwrap_or_else(|_| unreachable!("{spoof:?}: neither a pod nor an address"))
            };
            let to = self.world.address(&format!("{}.{family}", spoof.to));
            if claimed.is_ipv6() == to.is_ipv6() {
                self.with_address(from, claimed, || {
                    let socket = UdpSocket::bind((claimed, 0)).expect("a socket");
                    let _ = socket.send_to(SPOOFED.as_bytes(), (to, 80));
                });
            }
        }
    }

    fn with_address(&self, place: &Place, address: IpAddr, work: impl FnOnce() + Send) {
        let (length, nodad) = if address.is_ipv6() { (128, "nodad") } else { (32, "") };
        let change = |change: &str| {
            let netns = place.netns.display();
            let mut command = self.world.lab.command_from_outside("nsenter");
            let words = format!("--net={netns} ip address {change} {address}/{length} dev lo {nodad}");
            let _ = Ran::run(command.args(words.split_whitespace())).expect("ip").expect_success();
        };
        change("add");
        place.run(work);
        change("del");
    }

    fn wait_ended(&self, name: &str) {
        let (namespace, short) = split(name);
        let phase = ["get", "pod", "-n", namespace, short, "-o", "jsonpath={.status.phase}"];
        until(&format!("{name} to end"), LIMIT, || {
            let phase = self.world.lab.minipod(&phase).expect_success();
            matches!(phase.trim(), "Succeeded" | "Failed").then_some(())
        })
        .unwrap_or_else(|error| unreachable!("{error}"));
    }

    fn end(mut self) {
        self.flows.clear();
        if !self.is_running {
            self.world.start(&self.case.node);
        }
        for manifests in self.applied.iter().rev() {
            let delete = ["delete", "--ignore-not-found", "--force", "-f", "-"];
            let _ = self.world.lab.minipod_with_input(&delete, manifests).expect_success();
        }
    }
}
