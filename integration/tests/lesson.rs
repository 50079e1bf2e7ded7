//! The lesson (docs/lesson.md), page by page, with real pods, on both iptables variants.

use std::time::Duration;

use integration::fixture::image::Image;
use integration::fixture::registry::Registry;
use integration::fixture::{
    ALLOW_ALL_INGRESS, DENY_ALL, DENY_ALL_INGRESS, FOO_ALLOW_TO_HELLO, FOO_ALLOW_TO_HELLO_WITHOUT_DNS,
    HELLO_ALLOW_FROM_FOO, HELLO_IMAGE, NGINX_ACCESS,
};
use integration::lab::{Iptables, Lab};
use integration::outside::{ADDRESS_V4, Outside};
use integration::ran::Ran;
use integration::wait::until;

integration::on_both_variants! {
    containers_of_a_pod_share_localhost
    pods_reach_each_other_by_address_and_service_name
    a_restarted_container_keeps_the_pods_address
    hello_takes_connections_from_foo_only
    foo_reaches_hello_only
    the_default_policies
    the_exercise
    the_lesson_as_printed_with_images_from_a_registry
}

const GREETING: &str = "Hello, world!";

/// The page came.
#[track_caller]
fn reaches(ran: Ran) {
    let page = ran.expect_success();
    assert!(page.contains(GREETING), "not the page of hello-app: {page}");
}

/// Nothing came within the request's own 2 s, and it says so.
#[track_caller]
fn times_out(ran: &Ran) {
    assert!(!ran.succeeded(), "should have failed:\n{ran}");
    assert!(ran.stderr.contains("timed out") || ran.stdout.contains("timed out"), "not by a time-out:\n{ran}");
}

fn containers_of_a_pod_share_localhost(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    lab.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: pair
spec:
  containers:
  - name: web
    image: {HELLO_IMAGE}
  - name: client
    image: {HELLO_IMAGE}
    command: [sleep, infinity]
"
    ));
    lab.wait_ready("pair");
    reaches(lab.minipod(&[
        "exec",
        "pair",
        "-c",
        "client",
        "--",
        "wget",
        "-qO-",
        "--timeout=2",
        "http://localhost:8080",
    ]));
}

fn pods_reach_each_other_by_address_and_service_name(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    let run = ["run", "hello-web", "--labels", "app=hello", "--image", HELLO_IMAGE, "--port", "8080", "--expose"];
    let said = lab.minipod(&run).expect_success();
    assert!(said.contains("service/hello-web created") && said.contains("pod/hello-web created"), "{said}");
    lab.wait_ready("hello-web");
    lab.pod("client", "app=client");
    reaches(lab.wget("client", &format!("http://{}:8080", lab.pod_ip("hello-web"))));
    let addresses = lab.minipod(&["get", "pod", "hello-web", "-o", "jsonpath={.status.podIPs[*].ip}"]).expect_success();
    let v6 = addresses.split(' ').find(|a| a.contains(':')).expect("an IPv6 address");
    reaches(lab.wget("client", &format!("http://[{v6}]:8080")));
    wait_for_endpoint(&lab, "hello-web");
    reaches(lab.wget("client", "http://hello-web:8080"));
    reaches(lab.wget("client", "http://hello-web.default.svc.cluster.local:8080"));
}

/// A service answers once its endpoints are known; until then it refuses.
#[track_caller]
fn wait_for_endpoint(lab: &Lab, service: &str) {
    let selector = format!("kubernetes.io/service-name={service}");
    let args = ["get", "endpointslices", "-l", &selector, "-o", "jsonpath={.items[*].endpoints[*].addresses}"];
    until("an endpoint", Duration::from_secs(10), || (!lab.minipod(&args).stdout.trim().is_empty()).then_some(()))
        .expect("an endpoint of the service");
}

fn a_restarted_container_keeps_the_pods_address(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    lab.pod("web", "app=web");
    let before = lab.pod_ip("web");
    let _ = lab.shell("pkill -KILL -f [h]ello-app").expect_success();
    let count = ["get", "pod", "web", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    until("a restart", Duration::from_secs(30), || (lab.minipod(&count).stdout.trim() == "1").then_some(()))
        .expect("the container to be restarted");
    lab.wait_ready("web");
    assert_eq!(lab.pod_ip("web"), before);
    lab.pod("client", "app=client");
    reaches(lab.wget("client", &format!("http://{before}:8080")));
}

fn hello_web(lab: &Lab, name: &str, labels: &str) {
    let run = ["run", name, "--labels", labels, "--image", HELLO_IMAGE, "--port", "8080", "--expose"];
    let _ = lab.minipod(&run).expect_success();
    lab.wait_ready(name);
    wait_for_endpoint(lab, name);
}

fn hello_takes_connections_from_foo_only(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    hello_web(&lab, "hello-web", "app=hello");
    lab.pod("foo", "app=foo");
    lab.pod("other", "app=other");
    reaches(lab.wget("other", "http://hello-web:8080"));
    lab.apply(HELLO_ALLOW_FROM_FOO);
    wait_cut_off(&lab, "other", "http://hello-web:8080");
    reaches(lab.wget("foo", "http://hello-web:8080"));
    times_out(&lab.wget("other", "http://hello-web:8080"));
    // A pod made after the policy meets it with its first packet.
    let run = ["run", "late", "--rm", "-i", "--restart=Never", "--labels", "app=late", "--image", HELLO_IMAGE, "--"];
    times_out(&lab.minipod(&[&run[..], &["wget", "-qO-", "--timeout=2", "http://hello-web:8080"]].concat()));
    let run = ["run", "test", "--rm", "-i", "--restart=Never", "--labels", "app=foo", "--image", HELLO_IMAGE, "--"];
    reaches(lab.minipod(&[&run[..], &["wget", "-qO-", "--timeout=2", "http://hello-web:8080"]].concat()));
}

/// Waits until a policy applied a moment ago cuts this pod off.
#[track_caller]
fn wait_cut_off(lab: &Lab, pod: &str, url: &str) {
    until("the policy to be enforced", Duration::from_secs(10), || (!lab.wget(pod, url).succeeded()).then_some(()))
        .expect("the policy to be enforced");
}

/// Waits until a policy change lets this pod through.
#[track_caller]
fn wait_let_through(lab: &Lab, pod: &str, url: &str) {
    until("the policy to let it through", Duration::from_secs(10), || lab.wget(pod, url).succeeded().then_some(()))
        .expect("the policy to let it through");
}

fn foo_reaches_hello_only(iptables: Iptables) {
    let lab = Lab::new("n1", iptables).expect("a lab");
    let _outside = Outside::new(&lab).expect("an outside world");
    lab.start_node().expect("a node");
    hello_web(&lab, "hello-web", "app=hello");
    hello_web(&lab, "hello-again", "app=hello-again");
    lab.pod("tmp", "app=foo");
    let outside = format!("http://{ADDRESS_V4}");
    reaches(lab.wget("tmp", "http://hello-again:8080"));
    reaches(lab.wget("tmp", &outside));
    reaches(lab.wget("tmp", "http://www.example.com"));
    lab.apply(HELLO_ALLOW_FROM_FOO);
    lab.apply(FOO_ALLOW_TO_HELLO);
    wait_cut_off(&lab, "tmp", &outside);
    reaches(lab.wget("tmp", "http://hello-web:8080"));
    times_out(&lab.wget("tmp", "http://hello-again:8080"));
    times_out(&lab.wget("tmp", "http://www.example.com"));
    times_out(&lab.wget("tmp", &outside));
    let address = lab.exec("tmp", &["nslookup", "www.example.com"]).expect_success();
    assert!(address.contains(ADDRESS_V4), "the rule for port 53 lets names be resolved: {address}");
    lab.apply(FOO_ALLOW_TO_HELLO_WITHOUT_DNS);
    until("names to be cut off", Duration::from_secs(20), || {
        (!lab.exec("tmp", &["nslookup", "hello-web"]).succeeded()).then_some(())
    })
    .expect("without the rule for port 53 no name is resolved");
    reaches(lab.wget("tmp", &format!("http://{}:8080", lab.pod_ip("hello-web"))));
    let said = lab.exec("tmp", &["hostname"]);
    assert!(said.stderr.contains("53"), "exec warns that names cannot be resolved:\n{said}");
}

fn the_default_policies(iptables: Iptables) {
    let lab = Lab::started("n1", iptables).expect("a lab");
    lab.pod("a", "app=a");
    lab.pod("b", "app=b");
    let b = format!("http://{}:8080", lab.pod_ip("b"));
    reaches(lab.wget("a", &b));
    lab.apply(DENY_ALL_INGRESS);
    wait_cut_off(&lab, "a", &b);
    times_out(&lab.wget("a", &b));
    lab.apply(ALLOW_ALL_INGRESS);
    wait_let_through(&lab, "a", &b);
    lab.apply(DENY_ALL);
    wait_cut_off(&lab, "a", &b);
    let _ = lab.minipod(&["delete", "networkpolicy", "--all"]).expect_success();
    wait_let_through(&lab, "a", &b);
}

/// The exercise, with a real nginx pulled from a real registry.
fn the_exercise(iptables: Iptables) {
    let lab = Lab::new("n1", iptables).expect("a lab");
    let registry = Registry::start(&lab).expect("a registry");
    registry.push("library/nginx", "latest", &Image::nginx().expect("nginx")).expect("pushed");
    registry.push("library/alpine", "latest", &Image::busybox().expect("busybox")).expect("pushed");
    lab.start_node().expect("a node");
    let run = ["run", "nginx", "--labels", "app=nginx", "--image", "nginx", "--port", "80", "--expose"];
    let _ = lab.minipod(&run).expect_success();
    for (name, labels) in [("with", "access=true"), ("without", "access=false")] {
        let run = ["run", name, "--labels", labels, "--image", "alpine", "--", "sleep", "1000000"];
        let _ = lab.minipod(&run).expect_success();
        lab.wait_ready(name);
    }
    lab.wait_ready("nginx");
    wait_for_endpoint(&lab, "nginx");
    let ask = |pod: &str| lab.exec(pod, &["wget", "-qO-", "--timeout=2", "http://nginx"]);
    for pod in ["with", "without"] {
        assert!(ask(pod).expect_success().contains("Welcome to nginx!"), "without a policy {pod} reaches nginx");
    }
    lab.apply(NGINX_ACCESS);
    until("the policy", Duration::from_secs(10), || (!ask("without").succeeded()).then_some(())).expect("enforced");
    assert!(ask("with").expect_success().contains("Welcome to nginx!"));
    times_out(&ask("without"));
}

/// The lesson's own command lines, with its own image names: `alpine` is Debian's busybox under that name (with `wget` and
/// `nslookup` of ours, since Debian builds busybox's without time-outs and without resolver), the hello-app is ours under
/// Google's name, and both come from a registry.
fn the_lesson_as_printed_with_images_from_a_registry(iptables: Iptables) {
    let lab = Lab::new("n1", iptables).expect("a lab");
    let registry = Registry::start(&lab).expect("a registry");
    registry.push("google-samples/hello-app", "1.0", &Image::hello().expect("hello-app")).expect("pushed");
    registry.push("library/alpine", "latest", &Image::busybox().expect("busybox")).expect("pushed");
    lab.start_node().expect("a node");
    let image = "--image=gcr.io/google-samples/hello-app:1.0";
    let _ = lab
        .minipod(&["run", "hello-web", "--labels", "app=hello", image, "--port", "8080", "--expose"])
        .expect_success();
    lab.wait_ready("hello-web");
    wait_for_endpoint(&lab, "hello-web");
    lab.apply(HELLO_ALLOW_FROM_FOO);
    // The lesson types into the shell of the pod; here its standard input is a file. Debian's shell prefers the `wget` that is built
    // into it, so the path is given.
    let shell = |label: &str| {
        let run = ["run", "-l", label, "--image=alpine", "--restart=Never", "--rm", "-i", "test"];
        lab.minipod_with_input(&run, "exec /bin/wget -qO- --timeout=2 http://hello-web:8080\n")
    };
    reaches(shell("app=foo"));
    let other = shell("app=other");
    times_out(&other);
    let pods = lab.minipod(&["get", "pods", "-o", "name"]).expect_success();
    assert!(!pods.contains("pod/test"), "--rm removed it: {pods}");
}
