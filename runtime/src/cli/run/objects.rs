//! The objects that `run` makes of its options.
//!
//! Pure: options in, a Pod and perhaps a Service out.

use std::collections::BTreeMap;

use minipod_image::Reference;
use serde_json::{Value, json};

use super::super::args::pairs;
use super::Args;

/// What is to be created.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Objects {
    /// the pod
    pub(super) pod: Value,
    /// with `--expose`
    pub(super) service: Option<Value>,
}

/// The objects for these options; they name their namespace only if one was asked for.
///
/// # Errors
/// Options that contradict each other or cannot be read.
pub(super) fn objects(args: &Args, namespace: Option<&str>) -> anyhow::Result<Objects> {
    check(args)?;
    let labels = match pairs("label", &args.labels)? {
        labels if labels.is_empty() => BTreeMap::from([("run".to_owned(), args.name.clone())]),
        labels => labels,
    };
    let annotations = pairs("annotation", &args.annotations)?;
    let mut metadata = json!({"name": args.name, "labels": labels});
    let mut service_metadata = json!({"name": args.name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
        service_metadata["namespace"] = json!(namespace);
    }
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    let mut spec = json!({
        "containers": [container(args)?],
        "dnsPolicy": "ClusterFirst",
        "restartPolicy": args.restart.as_str(),
    });
    if let Some(hostname) = &args.hostname {
        spec["hostname"] = json!(hostname);
    }
    let service = match args.port {
        Some(port) if args.expose => Some(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": service_metadata,
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": labels},
        })),
        _ => None,
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    Ok(Objects { pod, service })
}

fn check(args: &Args) -> anyhow::Result<()> {
    args.image.parse::<Reference>()?;
    anyhow::ensure!(!args.expose || args.port.is_some(), "--port must be set when exposing a service");
    anyhow::ensure!(
        !args.streams.tty || args.streams.stdin,
        "-i/--stdin is required for containers with -t/--tty=true"
    );
    anyhow::ensure!(
        !args.rm || args.attaches(),
        "--rm should only be used for attached containers: add `-i` or `--attach`"
    );
    anyhow::ensure!(
        !args.attaches() || args.dry_run == super::DryRun::None,
        "--dry-run=client can't be used with attached containers options (--attach, --stdin, or --tty)"
    );
    Ok(())
}

fn container(args: &Args) -> anyhow::Result<Value> {
    let mut container = json!({"name": args.name, "image": args.image});
    let mut set = |field: &str, value: Value| container[field] = value;
    if !args.command_words.is_empty() {
        set(if args.command { "command" } else { "args" }, json!(args.command_words));
    }
    if !args.env.is_empty() {
        let variable = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(json!({"name": name, "value": value})),
            _ => anyhow::bail!("invalid env: `{text}`: give `NAME=VALUE`"),
        };
        set("env", args.env.iter().map(variable).collect::<anyhow::Result<Value>>()?);
    }
    if let Some(port) = args.port {
        set("ports", json!([{"containerPort": port}]));
    }
    if let Some(policy) = &args.image_pull_policy {
        set("imagePullPolicy", json!(policy));
    }
    if args.streams.stdin {
        set("stdin", json!(true));
        // Whoever started it alone types into it; when that one leaves, the input ends.
        set("stdinOnce", json!(!args.leave_stdin_open));
    }
    if args.streams.tty {
        set("tty", json!(true));
    }
    Ok(container)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::super::super::{Cli, Command};
    use super::{Objects, objects};

    fn made(line: &str) -> anyhow::Result<Objects> {
        let cli = Cli::try_parse_from(["minipod", "run"].into_iter().chain(line.split_whitespace()))?;
        let Command::Run(args) = cli.command else { anyhow::bail!("not `run`") };
        objects(&args, None)
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "literals read better")]
    fn check(line: &str, container: Value, labels: Value, restart: &str) {
        let pod = made(line).expect("objects").pod;
        assert_eq!(pod["spec"]["containers"][0], container);
        assert_eq!(pod["metadata"]["labels"], labels);
        assert_eq!(pod["spec"]["restartPolicy"], restart);
    }

    #[test]
    fn a_web_server_with_its_service_as_in_the_lesson() {
        let objects =
            made("hello-web --labels app=hello --image=gcr.io/google-samples/hello-app:1.0 --port 8080 --expose")
                .expect("objects");
        assert_eq!(
            objects.pod,
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "hello-web", "labels": {"app": "hello"}},
                "spec": {"containers": [{"name": "hello-web", "image": "gcr.io/google-samples/hello-app:1.0",
                                         "ports": [{"containerPort": 8080}]}],
                         "dnsPolicy": "ClusterFirst", "restartPolicy": "Always"}})
        );
        assert_eq!(
            objects.service,
            Some(json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "hello-web"},
                "spec": {"ports": [{"port": 8080, "protocol": "TCP", "targetPort": 8080}], "selector": {"app": "hello"}}}))
        );
    }

    #[test]
    fn shells_as_in_the_lesson() {
        let container = json!({"name": "test", "image": "alpine", "stdin": true, "stdinOnce": true, "tty": true});
        let foo = json!({"app": "foo"});
        check("-l app=foo --image=alpine --restart=Never --rm -it test", container, foo.clone(), "Never");
        let container = json!({"name": "tmp", "image": "alpine", "stdin": true, "stdinOnce": true, "tty": true});
        check("-l app=foo --image=alpine --rm -i -t --restart=Never tmp", container, foo, "Never");
    }

    #[test]
    fn words_behind_the_dashes_are_arguments_or_the_command() {
        check(
            "a --image x --env A=1 --env B=x=y -- sh -c true",
            json!({"name": "a", "image": "x", "args": ["sh", "-c", "true"],
                   "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "x=y"}]}),
            json!({"run": "a"}),
            "Always",
        );
        check(
            "a --image x --command --image-pull-policy Never --restart OnFailure -- sh",
            json!({"name": "a", "image": "x", "command": ["sh"], "imagePullPolicy": "Never"}),
            json!({"run": "a"}),
            "OnFailure",
        );
    }

    #[track_caller]
    fn refused(line: &str, expected: &str) {
        assert_eq!(made(line).expect_err("refused").to_string(), expected);
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        refused("a --image x --expose", "--port must be set when exposing a service");
        refused(
            "a --image Bad",
            "invalid image reference `Bad`: `Bad` is no repository component; use lower-case letters and digits, separated by `.`, `_`, `__` or `-`",
        );
        refused("a --image x -t", "-i/--stdin is required for containers with -t/--tty=true");
        refused("a --image x --rm", "--rm should only be used for attached containers: add `-i` or `--attach`");
        refused("a --image x --env =1", "invalid env: `=1`: give `NAME=VALUE`");
        refused("a --image x -l app", "unexpected label `app`: give `key=value`");
    }
}
