//! The programs that need no file of their own.

use std::fs::{self, File};
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::arguments::{not_seconds, seconds};
use crate::ending::{self, Ending};

/// `sleep N|infinity`: ends with 0 also when it is told to.
pub(crate) fn sleep(arguments: &[String]) -> Result<u8, Ending> {
    let [text] = arguments else {
        return Err(Ending::usage("usage: sleep SECONDS|infinity"));
    };
    let duration = match text.as_str() {
        "infinity" | "inf" => None,
        number => Some(seconds(number).ok_or_else(|| not_seconds("sleep", number))?),
    };
    ending::end_when_told()?;
    let end = duration.and_then(|duration| Instant::now().checked_add(duration));
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(0);
        }
        // Nothing wakes it: a waiting thread costs nothing.
        thread::park_timeout(left);
    }
}

/// `env`: the environment, a variable a line.
pub(crate) fn env(arguments: &[String]) -> Result<u8, Ending> {
    if let Some(word) = arguments.first() {
        return Err(Ending::usage(format!("env: unexpected argument `{word}`; it only prints the environment")));
    }
    for (key, value) in std::env::vars_os() {
        ending::print(format!("{}={}\n", key.to_string_lossy(), value.to_string_lossy()))?;
    }
    Ok(0)
}

/// `cat [FILE...]`: files, or standard input.
pub(crate) fn cat(arguments: &[String]) -> Result<u8, Ending> {
    let mut out = io::stdout().lock();
    if arguments.is_empty() {
        io::copy(&mut io::stdin().lock(), &mut out).map_err(|error| Ending::failure(format!("cat: {error}")))?;
    }
    for path in arguments {
        let fail = |error| Ending::failure(format!("cat: can't open '{path}': {error}"));
        io::copy(&mut File::open(path).map_err(fail)?, &mut out).map_err(fail)?;
    }
    Ok(0)
}

/// `id`: user, group and supplementary groups in numbers.
pub(crate) fn id(_arguments: &[String]) -> Result<u8, Ending> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(|error| Ending::failure(format!("id: cannot read /proc/self/status: {error}")))?;
    ending::print(id_line(&status))?;
    Ok(0)
}

fn id_line(status: &str) -> String {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or("").split_whitespace().collect::<Vec<_>>()
    };
    // Real, effective, saved, file system: the effective one counts.
    let effective = |name: &str| field(name).get(1).copied().unwrap_or("?").to_owned();
    let mut groups = field("Groups");
    let gid = effective("Gid");
    if !groups.contains(&gid.as_str()) {
        groups.insert(0, &gid);
    }
    format!("uid={} gid={gid} groups={}\n", effective("Uid"), groups.join(","))
}

/// `hostname`
pub(crate) fn hostname(_arguments: &[String]) -> Result<u8, Ending> {
    ending::print(format!("{}\n", own_hostname()))?;
    Ok(0)
}

/// `now [N|infinity]`: nanoseconds since the Unix epoch, for those who measure how long a start took; then it sleeps so long.
pub(crate) fn now(arguments: &[String]) -> Result<u8, Ending> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ending::print(format!("{}\n", since_epoch.as_nanos()))?;
    if arguments.is_empty() { Ok(0) } else { sleep(arguments) }
}

/// The host name of this UTS namespace.
pub(crate) fn own_hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// `exit N`
pub(crate) fn exit(arguments: &[String]) -> Result<u8, Ending> {
    match arguments {
        [text] => text.parse().map_err(|_| Ending::usage(format!("exit: `{text}` is no exit code (0 to 255)"))),
        _ => Err(Ending::usage("usage: exit CODE")),
    }
}

/// `true`
#[expect(clippy::unnecessary_wraps, reason = "every program has the same form")]
pub(crate) fn yes(_arguments: &[String]) -> Result<u8, Ending> {
    Ok(0)
}

/// `false`
#[expect(clippy::unnecessary_wraps, reason = "every program has the same form")]
pub(crate) fn no(_arguments: &[String]) -> Result<u8, Ending> {
    Ok(1)
}

/// `sh` and its like: 127, as for a command that is not there.
pub(crate) fn no_shell(_arguments: &[String]) -> Result<u8, Ending> {
    let message = "sh: the built-in image has no shell; give the program itself, e.g. `wget -qO- --timeout=2 http://hello-web:8080`";
    Err(Ending { code: 127, message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{exit, id_line};

    #[test]
    fn effective_ids_and_all_groups_are_told() {
        let status = "Name:\tx\nUid:\t0\t1000\t0\t0\nGid:\t5\t6\t5\t5\nGroups:\t7 8 \n";
        assert_eq!(id_line(status), "uid=1000 gid=6 groups=6,7,8\n");
    }

    #[test]
    fn exit_takes_codes_only() {
        assert_eq!(exit(&["7".to_owned()]), Ok(7));
        assert!(exit(&["256".to_owned()]).is_err() && exit(&[]).is_err());
    }
}
