//! What comes over the socket: requests, and the frames of exec and attach sessions.

use std::time::Duration;

use minipod_protocol::frame::Channel;
use minipod_protocol::line;
use minipod_protocol::shim::{AttachStreams, Exit, Failure, Reply, Request, State};
use nix::poll::PollFlags;

use super::connection::{Broken, Connection, Mode};
use super::process::{Read, Role};
use super::{Key, Pod, note};
use crate::cri_log::Stream;

/// Output is taken up to this much when its process has ended; a descendant that goes on writing is cut off.
const LAST_OUTPUT: usize = 4 << 20;

impl Pod {
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            match Connection::new(stream) {
                Ok(connection) => {
                    let key = self.new_key();
                    self.connections.insert(key, connection);
                }
                Err(error) => note(&format!("cannot take a connection: {error}")),
            }
        }
    }

    pub(super) fn serve_connection(&mut self, key: Key, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        let mut outcome = connection.send();
        let mut ended = false;
        if outcome.is_ok() && flags.contains(PollFlags::POLLIN) {
            outcome = connection.receive().map(|half_closed| ended = half_closed);
        }
        if outcome.is_ok() {
            outcome = self.serve_received(key);
        }
        let gone = flags.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) && !flags.contains(PollFlags::POLLIN);
        if outcome.is_err() || gone {
            self.disconnect(key);
        } else if ended {
            self.end_of_input(key);
        }
        self.close_done();
    }

    fn serve_received(&mut self, key: Key) -> Result<(), Broken> {
        loop {
            let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
            match connection.mode {
                Mode::Asking => match connection.take_line() {
                    Some(line) => self.answer(key, &line)?,
                    None => return Ok(()),
                },
                Mode::Streaming { process, stdin } => match connection.take_frame()? {
                    Some((channel, payload)) => self.serve_frame(process, stdin, channel, &payload)?,
                    None => return Ok(()),
                },
                Mode::Watching | Mode::Closing => return Ok(()),
            }
        }
    }

    fn answer(&mut self, key: Key, request: &[u8]) -> Result<(), Broken> {
        let request: Request = match line::decode(request) {
            Ok(request) => request,
            Err(error) => {
                let message = format!("the shim does not understand the request: {error}");
                return self.reply(key, &Reply::Error(Failure { reason: "BadRequest".into(), message }));
            }
        };
        let outcome = match request {
            Request::Watch => return self.watch(key),
            Request::Stop { grace_period_seconds } => {
                self.stop(Duration::from_secs(grace_period_seconds));
                Ok(())
            }
            Request::Kill { container, grace_period_seconds, reason } => {
                self.kill_container(&container, Duration::from_secs(grace_period_seconds), reason)
            }
            Request::Exec(exec) => match self.exec(&exec) {
                Ok(process) => return self.begin_streaming(key, process, exec.stdin || exec.tty),
                Err(failure) => Err(failure),
            },
            Request::Attach(attach) => match self.attach(&attach) {
                Ok(process) => return self.begin_attach(key, process, attach.stdin),
                Err(failure) => Err(failure),
            },
        };
        self.reply(key, &outcome.map_or_else(Reply::Error, |()| Reply::Done))
    }

    fn reply(&mut self, key: Key, reply: &Reply) -> Result<(), Broken> {
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        connection.mode = Mode::Closing;
        connection.send_line(reply)
    }

    fn watch(&mut self, key: Key) -> Result<(), Broken> {
        let state = self.state();
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        connection.mode = Mode::Watching;
        connection.send_line(&state)
    }

    pub(super) fn tell_watchers(&mut self, state: &State) {
        self.connections
            .retain(|_, connection| connection.mode != Mode::Watching || connection.send_line(state).is_ok());
    }

    fn kill_container(&mut self, name: &str, grace: Duration, reason: String) -> Result<(), Failure> {
        let slot = self.life.running(name)?;
        let now = self.now();
        if let Some(action) = self.life.kill(slot, grace, reason, now) {
            self.act(action);
        }
        Ok(())
    }

    fn attach(&mut self, attach: &AttachStreams) -> Result<Key, Failure> {
        let slot = self.life.running(&attach.container)?;
        let process = self.processes.iter().find(|(_, process)| process.role == Role::Container(slot));
        let (key, process) = process.ok_or_else(|| Failure {
            reason: "NotRunning".into(),
            message: format!("container `{}` is not running", attach.container),
        })?;
        if let Some(size) = attach.size {
            process.resize(size);
        }
        Ok(*key)
    }

    fn begin_streaming(&mut self, key: Key, process: Key, stdin: bool) -> Result<(), Broken> {
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        connection.mode = Mode::Streaming { process, stdin };
        connection.send_line(&Reply::Started)
    }

    fn begin_attach(&mut self, key: Key, process: Key, stdin: bool) -> Result<(), Broken> {
        self.begin_streaming(key, process, stdin)?;
        let backlog = self.processes.get_mut(&process).map(super::process::Process::take_backlog).unwrap_or_default();
        let Some(connection) = self.connections.get_mut(&key) else { return Ok(()) };
        backlog.iter().try_for_each(|(stream, bytes)| connection.send_frame(channel_of(*stream), bytes))
    }

    fn serve_frame(&mut self, key: Key, stdin: bool, channel: Channel, payload: &[u8]) -> Result<(), Broken> {
        let now = self.epoch.elapsed();
        // a process that has just ended takes nothing any more
        let Some(process) = self.processes.get_mut(&key) else { return Ok(()) };
        match channel {
            Channel::Stdin if stdin && payload.is_empty() => self.detach_stdin(key, true),
            Channel::Stdin if stdin => process.push_stdin(payload, now),
            Channel::Stdin => {}
            Channel::Resize => process.resize(serde_json::from_slice(payload).map_err(|_| Broken)?),
            Channel::Stdout | Channel::Stderr | Channel::Exit => return Err(Broken),
        }
        Ok(())
    }

    /// The other side sends nothing any more: for an exec this ends the input, for an attach where the container says so.
    fn end_of_input(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        match connection.mode {
            Mode::Asking => connection.mode = Mode::Closing,
            Mode::Streaming { process, stdin } => self.detach_stdin(process, stdin),
            Mode::Watching | Mode::Closing => {}
        }
    }

    fn detach_stdin(&mut self, process: Key, stdin: bool) {
        let Some(role) = self.processes.get(&process).map(|process| process.role) else { return };
        let closes = match role {
            Role::Exec => true,
            Role::Container(slot) => stdin && self.container(slot).stdin_once,
        };
        if closes && let Some(process) = self.processes.get_mut(&process) {
            process.push_stdin(&[], self.epoch.elapsed());
        }
    }

    /// The other side is gone. An exec'd process goes with its client; a container stays.
    fn disconnect(&mut self, key: Key) {
        let Some(connection) = self.connections.remove(&key) else { return };
        let Mode::Streaming { process, stdin } = connection.mode else { return };
        self.detach_stdin(process, stdin);
        if let Some(process) = self.processes.get(&process)
            && process.role == Role::Exec
        {
            super::containers::send_signal(process.pid, libc::SIGKILL);
        }
    }

    /// A container does not wait for ever for somebody attached who takes nothing; an exec'd process does, it is theirs.
    pub(super) fn give_up_stuck(&mut self) {
        let of_container = |process: Option<Key>| {
            let process = process.and_then(|key| self.processes.get(&key));
            process.is_some_and(|process| process.role != Role::Exec)
        };
        let stuck = self.connections.iter().filter(|(_, c)| c.is_stuck() && of_container(c.process()));
        let stuck: Vec<Key> = stuck.map(|(key, _)| *key).collect();
        for key in stuck {
            note("somebody attached to a container took nothing of its output and is disconnected");
            self.disconnect(key);
        }
    }

    fn close_done(&mut self) {
        self.connections.retain(|_, connection| !connection.is_done());
    }

    /// Answers who has asked while the pod was ending, so that they learn that nothing runs any more.
    pub(super) fn answer_last_requests(&mut self) {
        self.accept();
        let asking = self.connections.iter().filter(|(_, connection)| connection.mode == Mode::Asking);
        let asking: Vec<Key> = asking.map(|(key, _)| *key).collect();
        for key in asking {
            self.serve_connection(key, PollFlags::POLLIN);
        }
    }

    pub(super) fn flush_connections(&mut self) {
        for connection in self.connections.values_mut() {
            connection.flush();
        }
    }

    /// Passes what a process has written to its log and to its sessions.
    pub(super) fn pass_output(&mut self, key: Key, stream: Stream) {
        let now = self.now().wall;
        let Some(process) = self.processes.get_mut(&key) else { return };
        if let Read::Bytes(bytes) = process.read(stream, now) {
            self.send_to_sessions(key, channel_of(stream), &bytes);
        }
    }

    fn send_to_sessions(&mut self, process: Key, channel: Channel, payload: &[u8]) {
        let sessions: Vec<Key> =
            self.connections.iter().filter(|(_, c)| c.process() == Some(process)).map(|(key, _)| *key).collect();
        for session in sessions {
            let sent = self.connections.get_mut(&session).map(|connection| connection.send_frame(channel, payload));
            if let Some(Err(Broken)) = sent {
                self.disconnect(session);
            }
        }
    }

    /// The last of a process's output, and then its exit code to its sessions.
    pub(super) fn end_streams(&mut self, key: Key, code: i32) {
        let now = self.now().wall;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut taken = 0;
            while taken < LAST_OUTPUT
                && let Some(process) = self.processes.get_mut(&key)
                && let Read::Bytes(bytes) = process.read(stream, now)
            {
                taken += bytes.len();
                self.send_to_sessions(key, channel_of(stream), &bytes);
            }
        }
        if let Some(process) = self.processes.get_mut(&key) {
            process.close_outputs(now);
        }
        let exit = serde_json::to_vec(&Exit { code, error: None }).unwrap_or_default();
        self.send_to_sessions(key, Channel::Exit, &exit);
        for connection in self.connections.values_mut().filter(|connection| connection.process() == Some(key)) {
            connection.mode = Mode::Closing;
        }
        self.close_done();
    }
}

fn channel_of(stream: Stream) -> Channel {
    match stream {
        Stream::Stdout => Channel::Stdout,
        Stream::Stderr => Channel::Stderr,
    }
}
