//! A claim on a name in this network namespace: one holder, who tells everybody who asks what it is.
//!
//! The name is that of an abstract unix socket (unix(7)): it belongs to the network namespace, whatever files a process sees, and goes
//! with its holder, so nothing stale ever keeps anybody out.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};

/// A holder answers within this time, or it is none of ours.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nobody says more of himself.
const LONGEST: u64 = 1 << 16;

/// The claim, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Claim {
    listener: Arc<UnixListener>,
    answers: Option<JoinHandle<()>>,
}

/// Who has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// the process that took it; `None` where it is not seen from this process namespace
    pub pid: Option<i32>,
    /// what it says of itself
    pub says: Says,
}

/// What a holder says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// this
    Words(Vec<u8>),
    /// nothing: the connection ended before a word. So it is with a holder that is just ending
    Nothing,
    /// it does not answer
    Silence,
}

impl Claim {
    /// Takes the name; whoever asks is told `says`. `None` when another one has it.
    ///
    /// # Errors
    /// What the kernel says, other than that the name is taken.
    pub fn try_take(name: &str, says: Vec<u8>) -> io::Result<Option<Self>> {
        let listener = match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?) {
            Ok(listener) => Arc::new(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(error),
        };
        let asked = Arc::clone(&listener);
        let answer = move || {
            // Ends with the first error: the socket was shut down.
            while let Ok((mut stream, _)) = asked.accept() {
                // Who asks and leaves is not waited for.
                let _ = stream.write_all(&says);
            }
        };
        let answers = thread::Builder::new().name("claim".into()).spawn(answer)?;
        Ok(Some(Self { listener, answers: Some(answers) }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        // Wakes the thread, which holds the socket too.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(answers) = self.answers.take() {
            let _ = answers.join();
        }
    }
}

/// Who has the name now; `None` when nobody has.
///
/// # Errors
/// What the kernel says.
pub fn holder(name: &str) -> io::Result<Option<Holder>> {
    let stream = match UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error),
    };
    let pid = getsockopt(&stream, sockopt::PeerCredentials)?.pid();
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut words = Vec::new();
    let says = match stream.take(LONGEST).read_to_end(&mut words) {
        Ok(0) => Says::Nothing,
        Ok(_) => Says::Words(words),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Says::Silence,
        Err(_) => Says::Nothing,
    };
    Ok(Some(Holder { pid: (pid > 0).then_some(pid), says }))
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use super::{Claim, Holder, Says, holder};

    #[test]
    fn a_name_has_one_holder_who_says_what_it_is() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let name = format!("minipod/test-{pid}");
        assert_eq!(holder(&name).expect("asked"), None);
        let first = Claim::try_take(&name, b"the first".to_vec()).expect("asked");
        assert!(first.is_some());
        assert!(Claim::try_take(&name, Vec::new()).expect("asked").is_none());
        for _ in 0..2 {
            let told = holder(&name).expect("asked");
            assert_eq!(told, Some(Holder { pid: Some(pid), says: Says::Words(b"the first".to_vec()) }));
        }
        drop(first);
        assert_eq!(holder(&name).expect("asked"), None);
        assert!(Claim::try_take(&name, Vec::new()).expect("asked").is_some());
    }
    #[test]
    fn a_holder_that_ends_before_it_answers_says_nothing() {
        let name = format!("minipod/test-ending-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let ending = UnixListener::bind_addr(&address).expect("bound");
        let told = std::thread::scope(|scope| {
            let asked = scope.spawn(|| holder(&name).expect("asked").expect("somebody has it"));
            // Whoever asks waits for an answer by now; the listener goes without having taken the question.
            while nix::poll::poll(
                &mut [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&ending), nix::poll::PollFlags::POLLIN)],
                nix::poll::PollTimeout::NONE,
            ) != Ok(1)
            {}
            drop(ending);
            asked.join().expect("no panic")
        });
        assert_eq!(told.says, Says::Nothing);
    }
}
