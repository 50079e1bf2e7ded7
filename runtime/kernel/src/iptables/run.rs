//! Running the iptables programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::IptablesError;

/// Searched after `PATH`, which lacks them for users other than root.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Where program `name` is.
pub(super) fn locate(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_DIRECTORIES.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Runs `program` with `input` and returns what it prints.
pub(super) fn output(program: &Path, arguments: &[&str], input: Option<&str>) -> Result<String, IptablesError> {
    let name = program.display().to_string();
    let output =
        execute(program, arguments, input).map_err(|source| IptablesError::Run { program: name.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failure(name, &String::from_utf8_lossy(&output.stderr), &output, input))
}

fn execute(program: &Path, arguments: &[&str], input: Option<&str>) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A program that gives up early closes the pipe and says why on its standard error.
        let _ = pipe.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn failure(program: String, stderr: &str, output: &Output, input: Option<&str>) -> IptablesError {
    if stderr.contains("you must be root") || stderr.contains("Permission denied") {
        return IptablesError::Permission { program };
    }
    let said = stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Try `"));
    let mut stderr = said.collect::<Vec<_>>().join("; ");
    if stderr.is_empty() {
        stderr = output.status.to_string();
    }
    match input.and_then(|input| failing_line(input, &stderr)) {
        Some((number, line)) => IptablesError::Line { program, number, line, stderr },
        None => IptablesError::Failed { program, stderr },
    }
}

/// The line of `input` that the program complains about: `line 5 failed`, `Error occurred at line: 5`, `line 5: RULE_APPEND failed`.
/// Where several are named the first is the cause.
fn failing_line(input: &str, stderr: &str) -> Option<(usize, String)> {
    let number = stderr.match_indices("line").find_map(|(at, word)| {
        let rest = stderr[at + word.len()..].trim_start_matches([':', ' ']);
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse::<usize>().ok()
    })?;
    let line = input.lines().nth(number.checked_sub(1)?)?;
    Some((number, line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::failing_line;

    #[test]
    fn the_line_that_a_program_complains_about_is_quoted() {
        let input = "*filter\n-A FORWARD -j NOPE\nCOMMIT\n";
        let expected = Some((2, "-A FORWARD -j NOPE".to_owned()));
        assert_eq!(failing_line(input, "iptables-restore: line 2 failed"), expected);
        assert_eq!(failing_line(input, "Chain 'NOPE' does not exist; Error occurred at line: 2"), expected);
        assert_eq!(
            failing_line(input, "line 2: RULE_APPEND failed (Invalid argument): rule in chain FORWARD"),
            expected
        );
        assert_eq!(failing_line(input, "host offline"), None);
        assert_eq!(failing_line(input, "line 99 failed"), None);
    }
}
