//! Words of kubectl and podman that this program does not have: what each means here, or what to do instead.
//!
//! Pure. Without a hint the parser's own message stands.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

const POD_FIELD: &str =
    "write a manifest (`minipod run ... --dry-run -o yaml` begins one) and give it to `minipod apply -f`";

/// Options of `run`: what they are called elsewhere, and the next step here.
const RUN: &[(&[&str], &str)] = &[
    (
        &["--privileged"],
        "privileged containers are not supported; add single capabilities in a manifest, in `securityContext.capabilities.add`",
    ),
    (
        &["-v", "--volume", "--mount", "--tmpfs"],
        "volumes are not supported; put the files into the image, or send them with `minipod exec -i POD -- sh -c 'cat > FILE'`",
    ),
    (
        &["-p", "--publish", "-P", "--publish-all", "--hostport"],
        "nothing has to be published; this machine reaches the pod's own address, and `--port PORT --expose` makes a service of its name",
    ),
    (
        &["--network", "--net"],
        "every pod has a network of its own; for the machine's write `hostNetwork: true` in a manifest",
    ),
    (
        &["--ip", "--ip6", "--mac-address"],
        "addresses are chosen by the node; a service (`--port PORT --expose`) has one that stays",
    ),
    (&["-d", "--detach"], "a pod runs in the background unless `-i` or `--attach` is given; leave it out"),
    (&["--name"], "the name is a word of its own: `minipod run NAME --image IMAGE`"),
    (&["-e"], "it is `--env NAME=VALUE` here"),
    (&["--label"], "it is `--labels KEY=VALUE` here, or `-l`"),
    (&["--pull"], "it is `--image-pull-policy Always|IfNotPresent|Never` here"),
    (&["--entrypoint"], "it is `--command -- PROGRAM ARGUMENTS` here"),
    (&["-u", "--user"], "write `securityContext.runAsUser` in a manifest"),
    (&["-w", "--workdir"], "write `workingDir` in a manifest"),
    (&["--cap-add", "--cap-drop"], "write `securityContext.capabilities` in a manifest"),
    (&["--read-only"], "write `securityContext.readOnlyRootFilesystem: true` in a manifest"),
    (&["-m", "--memory", "--cpus", "--limits", "--requests"], "write `resources.limits` in a manifest"),
    (&["--overrides", "--serviceaccount", "--replicas", "--schedule", "--generator"], POD_FIELD),
];

/// Options of every command.
const ANY: &[(&[&str], &str)] = &[
    (
        &["--kubeconfig", "--context", "--cluster", "-s", "--server", "--token", "--user"],
        "minipod only talks to the node on this machine, over its socket; `--run-dir` says where that is",
    ),
    (&["-k", "--kustomize"], "build the manifests first and give them to `-f -`"),
    (&["--server-side", "--prune", "--force-conflicts"], "objects are applied by merging, one by one; leave it out"),
    (&["--sort-by", "--template"], "use `-o jsonpath=TEMPLATE`, or `-o json` and another program"),
];

/// Commands of others.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["ps"], "`minipod get pods` lists the pods"),
    (&["rm", "stop", "kill"], "`minipod delete pod NAME` ends and removes a pod"),
    (
        &["start", "restart"],
        "a pod is started by creating it: `minipod run` or `minipod apply -f`; the node itself by `minipod node start`",
    ),
    (&["pull"], "it is `minipod image pull` here"),
    (&["load", "import"], "it is `minipod image import` here"),
    (&["rmi"], "it is `minipod image rm` here"),
    (
        &["build", "push", "tag"],
        "images are not made here; build one elsewhere, save it, and bring it in with `minipod image import`",
    ),
    (&["inspect", "explain"], "`minipod describe` tells about an object, `minipod get -o yaml` shows all of it"),
    (
        &["edit", "patch", "replace", "set", "annotate"],
        "change the manifest and give it to `minipod apply -f`; labels are changed by `minipod label`",
    ),
    (&["scale", "autoscale", "rollout"], "there are pods only, no Deployments; apply a manifest for each pod"),
    (&["port-forward", "proxy"], "this machine reaches the pods' own addresses: `minipod get pods -o wide`"),
    (&["cp"], "use `minipod exec -i POD -- sh -c 'cat > FILE'`"),
    (&["top", "stats"], "there are no metrics; each pod's cgroup has the kernel's"),
    (&["cordon", "uncordon", "drain", "taint"], "there is one node; `minipod node stop --pods` empties it"),
    (&["network"], "every pod has an address of its own; policies are listed by `minipod policy list`"),
    (&["volume"], "volumes are not supported"),
    (&["api-resources", "api-versions", "config", "cluster-info"], "`minipod node status` tells about the node"),
];

/// What to print in place of the parser's message.
pub(super) fn instead(error: &Error) -> Option<String> {
    let given = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let option = given(ContextKind::InvalidArg)?;
            let command = command(error);
            let own = if command.as_deref() == Some("run") { find(RUN, option) } else { None };
            let hint = own.or_else(|| find(ANY, option))?;
            let of = command.map(|name| format!(" `minipod {name}`")).unwrap_or_default();
            Some(format!("error: unknown option `{option}` of{of}: {hint}"))
        }
        ErrorKind::InvalidSubcommand => {
            let word = given(ContextKind::InvalidSubcommand)?;
            Some(format!("error: unknown command `{word}`: {}", find(COMMANDS, word)?))
        }
        _ => None,
    }
}

fn find(table: &[(&[&str], &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(words, _)| words.contains(&word)).map(|(_, hint)| *hint)
}

/// The command that was being read: the first word behind `minipod` in the usage that the parser shows.
fn command(error: &Error) -> Option<String> {
    let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) else { return None };
    let usage = usage.to_string();
    let word = usage.split_whitespace().skip_while(|word| *word != "minipod").nth(1)?;
    word.starts_with(|c: char| c.is_ascii_lowercase()).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::super::Cli;
    use super::{ANY, COMMANDS, RUN, instead};

    fn said(line: &str) -> Option<String> {
        instead(&Cli::try_parse_from(line.split(' ')).expect_err("refused"))
    }

    #[test]
    fn words_of_others_are_refused_with_the_way_to_do_it_here() {
        assert_eq!(
            said("minipod run a --image b -e X=1").as_deref(),
            Some("error: unknown option `-e` of `minipod run`: it is `--env NAME=VALUE` here")
        );
        assert_eq!(
            said("minipod apply -k .").as_deref(),
            Some("error: unknown option `-k` of `minipod apply`: build the manifests first and give them to `-f -`")
        );
        assert_eq!(
            said("minipod ps").as_deref(),
            Some("error: unknown command `ps`: `minipod get pods` lists the pods")
        );
        assert_eq!(said("minipod get pods --frobnicate"), None);
        assert_eq!(said("minipod nod"), None, "a slip of the hand is told by the parser");
    }

    #[test]
    fn hints_are_only_for_words_that_are_not_there() {
        let cli = Cli::command();
        for word in COMMANDS.iter().flat_map(|(words, _)| *words) {
            assert!(cli.find_subcommand(word).is_none(), "{word}");
        }
        let run = cli.find_subcommand("run").expect("run");
        for word in RUN.iter().chain(ANY).flat_map(|(words, _)| *words) {
            let option = word.trim_start_matches('-');
            let is_there = run.get_arguments().any(|argument| {
                argument.get_long() == Some(option)
                    || argument.get_short().is_some_and(|short| *word == format!("-{short}"))
            });
            assert!(!is_there, "{word}");
        }
    }
}
