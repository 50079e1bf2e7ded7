//! The one program of the built-in image: the lesson's `hello-app` and the few tools that a pod needs to try its network.
//!
//! Which program it is, its own name decides, or the first argument. Small and static, without an async runtime: it must
//! start in a file system that has nothing else. What each program prints and returns is in `docs/hello.md`.

mod arguments;
mod dns;
mod ending;
mod hello_app;
mod http;
mod lookup;
mod resolve;
mod small;
mod tcp;
mod udp;
mod wget;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use ending::Ending;

fn main() -> ExitCode {
    let mut words = env::args();
    let name = words.next().unwrap_or_default();
    let name = Path::new(&name).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let arguments: Vec<String> = words.collect();
    let ending = match (program(&name), arguments.split_first()) {
        // The image's entrypoint is the server; what a pod gives as `args` may name another program.
        (Some(server), Some((first, rest))) if name == SERVER => {
            program(first).map_or_else(|| server(&arguments), |other| other(rest))
        }
        (Some(program), _) => program(&arguments),
        (None, Some((first, rest))) => match program(first) {
            Some(program) => program(rest),
            None => Err(Ending::usage(format!("{name}: no program `{first}`; there are {}", names()))),
        },
        (None, None) => Err(Ending::usage(format!("{name}: say which program: {}", names()))),
    };
    ending::exit_code(ending)
}

/// A program: arguments without its name in, exit code out.
type Program = fn(&[String]) -> Result<u8, Ending>;

const SERVER: &str = "hello-app";

const PROGRAMS: &[(&str, Program)] = &[
    (SERVER, hello_app::run),
    ("sleep", small::sleep),
    ("wget", wget::run),
    ("nslookup", lookup::nslookup),
    ("dns", lookup::dns),
    ("tcp", tcp::run),
    ("udp", udp::run),
    ("env", small::env),
    ("cat", small::cat),
    ("id", small::id),
    ("hostname", small::hostname),
    ("now", small::now),
    ("exit", small::exit),
    ("true", small::yes),
    ("false", small::no),
    ("sh", small::no_shell),
    ("ash", small::no_shell),
    ("bash", small::no_shell),
];

fn program(name: &str) -> Option<Program> {
    PROGRAMS.iter().find(|(known, _)| *known == name).map(|(_, program)| *program)
}

fn names() -> String {
    let names: Vec<&str> = PROGRAMS.iter().map(|(name, _)| *name).filter(|name| !name.ends_with("sh")).collect();
    names.join(", ")
}
