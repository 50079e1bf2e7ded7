//! A machine that lacks what a node needs: programs, kernel support, privileges, space.

use integration::fixture::HELLO_IMAGE;
use integration::lab::Lab;
use integration::ran::Ran;

use crate::{assert_nothing_left, assert_nothing_made, assert_refused, assert_says, fresh, started};

const NOT_STARTED: &str = "error: `minipod node` did not start (exit status: 1):\nerror: ";

/// Runs the command line as somebody else, or with fewer rights: `setpriv` and its options in front.
fn minipod_with(lab: &Lab, setpriv: &[&str], args: &[&str]) -> Ran {
    let mut command = lab.command("setpriv");
    Ran::run(command.args(setpriv).arg("minipod").args(args).stdin(std::process::Stdio::null())).expect("setpriv")
}

#[test]
fn a_machine_without_iptables_is_refused_and_nothing_is_made() {
    let lab = fresh();
    let begin = format!("{NOT_STARTED}cannot change the node's rules: ");
    assert_nothing_left(&lab, || {
        // The programs are found nowhere; the view of the machine's directory is the lab's own.
        let _ = lab.shell("mount -t tmpfs none /usr/sbin").expect_success();
        for (variant, said) in [
            (
                "nft",
                "iptables variant `nft` was asked for, but `iptables-nft` is not installed; install it with \
                 `apt-get install iptables ipset` or choose the other variant",
            ),
            ("auto", "cannot find iptables; install it with `apt-get install iptables ipset`"),
        ] {
            let start =
                || assert_says(&lab.minipod(&["node", "start", "--iptables", variant]), &(begin.clone() + said));
            assert_nothing_made(&lab, start, variant);
        }
        let _ = lab.shell("umount /usr/sbin").expect_success();
    });
    lab.start_node().expect("with the programs there, the same command works");
}

#[test]
fn a_machine_that_cannot_match_sets_is_refused_and_nothing_is_made() {
    let lab = fresh();
    // Without the extensions iptables has neither sets nor anything else: as on a kernel without xt_set.
    let directory = lab.shell("dirname $(find /usr/lib /lib -name libxt_set.so | head -n 1)").expect_success();
    let hide = format!("mount -t tmpfs none {directory}");
    let _ = lab.shell(&hide).expect_success();
    assert_nothing_left(&lab, || {
        let said = lab.minipod(&["node", "start"]).expect_failure();
        let begins =
            format!("{NOT_STARTED}this machine does not take the node's rules: cannot change the node's rules: `");
        let ends = "; install iptables anew with `apt-get install --reinstall iptables`, and see that the kernel has the modules ip_set, xt_set, xt_NFLOG and xt_hashlimit";
        assert!(said.starts_with(&begins) && said.trim_end().ends_with(ends), "{said}");
    });
    let _ = lab.shell(&format!("umount {directory}")).expect_success();
    lab.start_node().expect("with the extensions there, the same command works");
}

#[test]
fn a_machine_that_cannot_reject_what_is_denied_is_refused_and_nothing_is_made() {
    let lab = fresh();
    // What iptables-legacy says on a kernel without the modules.
    let fake = r#"mkdir -p /run/fake; cat > /run/fake/iptables-legacy-save <<'END'
#!/bin/sh
[ "$1 $2" != "-t security" ] || { echo "iptables-save: Cannot initialize: Table does not exist" >&2; exit 1; }
exec "$(find /usr/sbin /sbin -name iptables-legacy-save | head -n 1)" "$@"
END
chmod +x /run/fake/iptables-legacy-save"#;
    let _ = lab.shell(fake).expect_success();
    let start = |action: &str| {
        lab.shell(&format!("PATH=/run/fake:$PATH exec minipod node start --iptables legacy --deny-action {action}"))
    };
    assert_nothing_left(&lab, || {
        let refused = || {
            let said = start("reject").expect_failure();
            let begins = format!(
                "{NOT_STARTED}cannot reject what policy denies: this machine has no table `security` for iptables-legacy; load the kernel \
                 modules iptable_security and ip6table_security, or start with `--deny-action drop`"
            );
            assert!(said.starts_with(&begins), "{said}");
        };
        assert_nothing_made(&lab, refused, "a start that should reject");
    });
    let _ = start("drop").expect_success();
}

#[test]
fn who_is_not_root_is_told_so_by_every_command() {
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let lab = fresh();
    let refused = |args: &[&str], said: &str| {
        assert_nothing_made(&lab, || assert_says(&minipod_with(&lab, &nobody, args), said), &args.join(" "));
    };
    let run = ["run", "web", "--image", HELLO_IMAGE];
    let starting = "error: starting `minipod node` needs root (this is user 65534): use `sudo minipod ...`";
    refused(&["node", "start"], starting);
    refused(&run, starting);
    refused(&["node", "run"], "error: `minipod node` needs root (it runs as user 65534): start it with `sudo`");
    refused(
        &["node", "reset", "--yes"],
        "error: `minipod node reset` needs root (it runs as user 65534): start it with `sudo`",
    );
    lab.start_node().expect("root may");
    let socket =
        "error: cannot use /run/minipod/api.sock as user 65534: only root talks to the node; use `sudo minipod ...`";
    refused(&run, socket);
    refused(&["get", "pods"], socket);
    refused(&["node", "stop"], "error: stopping the node needs root (this is user 65534): use `sudo minipod ...`");
    refused(
        &["node", "status"],
        "error: asking for the node's status needs root (this is user 65534): use `sudo minipod ...`",
    );
    refused(
        &["image", "ls"],
        "error: the image store belongs to root (this is user 65534): use `sudo minipod image ...`",
    );
}

#[test]
fn root_without_its_privileges_is_told_which_are_missing() {
    let lab = fresh();
    for (capability, name) in
        [("net_admin", "CAP_NET_ADMIN"), ("net_raw", "CAP_NET_RAW"), ("sys_admin", "CAP_SYS_ADMIN")]
    {
        let without = [format!("--bounding-set=-{capability}"), format!("--inh-caps=-{capability}")];
        let said = format!(
            "{NOT_STARTED}`minipod node` runs as root, but without {name}: start it outside of the container or session that took it away"
        );
        let start =
            || assert_says(&minipod_with(&lab, &without.each_ref().map(String::as_str), &["node", "start"]), &said);
        assert_nothing_made(&lab, start, capability);
    }
}

#[test]
fn a_full_disk_is_told_and_the_same_command_works_once_there_is_space() {
    let lab = fresh();
    let _ = lab.shell("mount -t tmpfs -o size=12m none /run/state").expect_success();
    lab.start_node().expect("there is space");
    lab.pod("web", "app=web");
    let _ = lab.shell("dd if=/dev/zero of=/run/state/fill bs=4k 2>/dev/null || true").expect_success();
    // The store takes what still fits into its file.
    let annotation = format!("--annotations=a={}", "x".repeat(30_000));
    let run = |name: &str| lab.minipod(&["run", name, "--image", HELLO_IMAGE, &annotation]);
    let refused = (0..20).map(|number| format!("full{number}")).find(|name| !run(name).succeeded());
    let refused = refused.expect("the store's file is full");
    let said = "Error from server (InternalError): cannot write to the store `/run/state/store.redb`; free space on its file system or repair it, then try again: I/O error: No space left on device (os error 28)";
    assert_says(&run(&refused), said);
    let pods = lab.minipod(&["get", "pods", "-o", "name"]).expect_success();
    assert!(!pods.lines().any(|pod| pod == format!("pod/{refused}")), "half a pod: {pods}");
    assert!(lab.exec("web", &["true"]).succeeded(), "what runs goes on");

    let _ = lab.shell("rm /run/state/fill").expect_success();
    let _ = run(&refused).expect_success();
    lab.wait_ready(&refused);
    let _ = lab.shell("umount -l /run/state").expect_success();
}

#[test]
fn a_disk_too_full_to_start_on_is_told() {
    let lab = fresh();
    let _ = lab
        .shell(
            "mount -t tmpfs -o size=8k none /run/state; dd if=/dev/zero of=/run/state/fill bs=4k 2>/dev/null || true",
        )
        .expect_success();
    let said = "error: `minipod node` did not start (exit status: 1):\nits log /run/state/node.log says nothing: free space on its \
                file system, then start again";
    assert_refused(&lab, &[(&["node", "start"], said)]);
    let _ = lab.shell("rm /run/state/fill; mount -o remount,size=4m /run/state").expect_success();
    lab.start_node().expect("with space the same command works");
    lab.pod("web", "app=web");
    let _ = lab.shell("umount -l /run/state").expect_success();
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_with_what_to_do() {
    let lab = fresh();
    let _ = lab.shell("mount -t tmpfs -o ro none /run/state").expect_success();
    let said = "error: cannot use the directory `/run/state`: give one on a file system that can be written: Read-only file system (os error 30)";
    assert_refused(&lab, &[(&["node", "start"], said)]);
    let _ = lab.shell("umount /run/state").expect_success();
    lab.start_node().expect("one that can be written");
}

#[test]
fn an_image_that_does_not_fit_leaves_nothing_of_it() {
    let lab = started();
    let files = || lab.shell("cd /run/state/images; find . | grep -v '\\.lock$' | sort").expect_success();
    let before = files();
    let root = lab.directory().join("root");
    std::fs::create_dir_all(root.join("bin")).expect("a directory");
    std::fs::write(root.join("bin/big"), vec![1; 3 << 20]).expect("a file");
    let _ = lab
        .shell("mkdir /run/small; mount -t tmpfs -o size=2m none /run/small; cp -a /run/state/images /run/small/; mount --bind /run/small/images /run/state/images")
        .expect_success();
    let import = ["image", "import", "--rootfs", &root.display().to_string(), "big:1", "--cmd", "/bin/big"];
    let root = root.display();
    let said = format!(
        "error: cannot unpack layer `{root}` of `{root}`: no space left for the layer's entry `bin/big`; free space or move the state directory: No space left on device (os error 28)"
    );
    assert_says(&lab.minipod(&import), &said);
    assert_eq!(files(), before);
    let _ = lab.shell("umount /run/state/images; umount /run/small").expect_success();
    let _ = lab.minipod(&import).expect_success();
}
