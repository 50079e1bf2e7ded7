//! Reads command lines of the form `[-a] [-b VALUE] [--c=VALUE] WORD...`.

use std::time::Duration;

use crate::ending::Ending;

/// An option that a program knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// `T` for `-T`
    pub(crate) short: char,
    /// `timeout` for `--timeout`
    pub(crate) long: &'static str,
    /// whether a value follows
    pub(crate) takes_value: bool,
}

/// What a command line says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    options: Vec<(char, String)>,
    /// what is no option
    pub(crate) words: Vec<String>,
}

impl Arguments {
    /// The last value of an option; empty for one without a value.
    pub(crate) fn get(&self, short: char) -> Option<&str> {
        self.options.iter().rev().find(|(option, _)| *option == short).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, short: char) -> bool {
        self.get(short).is_some()
    }

    /// A value in seconds, with fractions.
    pub(crate) fn seconds(&self, program: &str, short: char) -> Result<Option<Duration>, Ending> {
        self.get(short).map(|value| seconds(value).ok_or_else(|| not_seconds(program, value))).transpose()
    }
}

pub(crate) fn not_seconds(program: &str, value: &str) -> Ending {
    Ending::usage(format!("{program}: `{value}` is no number of seconds"))
}

/// `2`, `0.5`.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// Reads a command line. An unknown option is an error with the words of busybox, which the lesson's reader may see.
pub(crate) fn parse(program: &str, known: &[Known], given: &[String]) -> Result<Arguments, Ending> {
    let mut arguments = Arguments::default();
    let mut rest = given.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            arguments.words.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let option = known
                .iter()
                .find(|option| option.long == name)
                .ok_or_else(|| Ending::failure(format!("{program}: unrecognized option: {name}")))?;
            let value = match (option.takes_value, value) {
                (true, Some(value)) => value.to_owned(),
                (true, None) => next_value(program, name, &mut rest)?,
                (false, None) => String::new(),
                (false, Some(_)) => {
                    return Err(Ending::failure(format!("{program}: option takes no value: {name}")));
                }
            };
            arguments.options.push((option.short, value));
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            parse_cluster(program, known, cluster, &mut rest, &mut arguments)?;
        } else {
            arguments.words.push(word.clone());
        }
    }
    Ok(arguments)
}

/// `-qO-`: options without values, the last one perhaps with one.
fn parse_cluster<'a>(
    program: &str,
    known: &[Known],
    cluster: &str,
    rest: &mut impl Iterator<Item = &'a String>,
    arguments: &mut Arguments,
) -> Result<(), Ending> {
    let mut letters = cluster.chars();
    while let Some(letter) = letters.next() {
        let option = known
            .iter()
            .find(|option| option.short == letter)
            .ok_or_else(|| Ending::failure(format!("{program}: unrecognized option: {letter}")))?;
        if option.takes_value {
            let attached = letters.as_str();
            let value =
                if attached.is_empty() { next_value(program, &letter.to_string(), rest)? } else { attached.to_owned() };
            arguments.options.push((letter, value));
            return Ok(());
        }
        arguments.options.push((letter, String::new()));
    }
    Ok(())
}

fn next_value<'a>(program: &str, name: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<String, Ending> {
    rest.next().cloned().ok_or_else(|| Ending::failure(format!("{program}: option requires an argument: {name}")))
}

#[cfg(test)]
mod tests {
    use super::{Known, parse};

    const KNOWN: &[Known] = &[
        Known { short: 'q', long: "quiet", takes_value: false },
        Known { short: 'O', long: "output-document", takes_value: true },
        Known { short: 'T', long: "timeout", takes_value: true },
    ];

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_lessons_command_line_is_understood() {
        for text in ["-qO- --timeout=2 URL", "-q -O - -T 2 URL", "--quiet -O- -T2 URL", "URL -qO - --timeout 2"] {
            let arguments = parse("wget", KNOWN, &words(text)).expect(text);
            assert_eq!(
                (arguments.get('q'), arguments.get('O'), arguments.get('T')),
                (Some(""), Some("-"), Some("2")),
                "{text}"
            );
            assert_eq!(arguments.words, ["URL"]);
        }
    }

    #[test]
    fn the_lessons_misprint_is_refused_as_busybox_does() {
        let error = parse("wget", KNOWN, &words("-q0- --timeout=2 URL")).expect_err("misprint");
        assert_eq!((error.code, error.message.as_str()), (1, "wget: unrecognized option: 0"));
        assert!(parse("wget", KNOWN, &words("-T")).is_err());
        assert!(parse("wget", KNOWN, &words("--quiet=1")).is_err());
    }
}
