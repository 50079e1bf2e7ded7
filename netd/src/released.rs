//! Carries out the releases that the CNI plugin queued while netd was away, before anybody else is answered.

use std::fs;
use std::path::Path;

use minipod_protocol::queue;

use crate::command::{Command, Engine};

/// Detaches every queued sandbox. One that fails stays queued for the next start.
pub(crate) async fn carry_out(socket: &Path, engine: &Engine) {
    let directory = queue::directory(socket);
    let pending = match queue::pending(&directory) {
        Ok(pending) => pending,
        Err(error) => {
            tracing::warn!(error = %error, directory = %directory.display(), "cannot read the queued releases");
            return;
        }
    };
    for (file, sandbox) in pending {
        let (container, ifname) = (sandbox.container_id.clone(), sandbox.ifname.clone());
        match engine.ask(|reply| Command::Detach { sandbox, reply }).await {
            Ok(()) => {
                tracing::info!(container, ifname, "released what was queued");
                if let Err(error) = fs::remove_file(&file) {
                    tracing::warn!(error = %error, file = %file.display(), "cannot remove a queued release");
                }
            }
            Err(error) => tracing::warn!(error = %error, container, ifname, "cannot carry out a queued release"),
        }
    }
}

#[cfg(test)]
mod tests {
    use minipod_protocol::netd::{Code, Error, Sandbox};
    use minipod_protocol::queue;

    use super::carry_out;
    use crate::command::{Command, Engine};

    #[tokio::test]
    async fn what_is_carried_out_leaves_the_queue_and_what_fails_stays() {
        let directory = tempfile::TempDir::new().expect("temporary directory");
        let socket = directory.path().join("netd.sock");
        for container_id in ["bad", "good"] {
            let sandbox = Sandbox { container_id: container_id.into(), ifname: "eth0".into() };
            queue::put(&queue::directory(&socket), &sandbox).expect("queued");
        }
        let (engine, commands) = Engine::channel();
        let answering = std::thread::spawn(move || {
            for command in commands {
                let Command::Detach { sandbox, reply } = command else { unreachable!("only releases are queued") };
                let error = Error { code: Code::Io, message: "no".into(), details: Vec::new() };
                let _sent = reply.send(if sandbox.container_id == "good" { Ok(()) } else { Err(error) });
            }
        });
        carry_out(&socket, &engine).await;
        let left = queue::pending(&queue::directory(&socket)).expect("queue");
        assert_eq!(left.iter().map(|(_, sandbox)| sandbox.container_id.as_str()).collect::<Vec<_>>(), ["bad"]);
        drop(engine);
        answering.join().expect("engine");
    }
}
