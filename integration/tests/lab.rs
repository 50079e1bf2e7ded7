//! The laboratory itself: what the other tests stand on.

use integration::lab::{Iptables, Lab};
use integration::snapshot::Snapshot;

#[test]
fn a_lab_has_no_uplink_and_its_own_processes_and_files() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let links = lab.shell("ip -o link | wc -l").expect_success();
    assert_eq!(links.trim(), "1", "only the loopback interface");
    assert_eq!(lab.shell("hostname").expect_success().trim(), "n1");
    assert_eq!(lab.shell("find /run -type f").expect_success(), "", "no file of the machine's");
    let processes = lab.shell("ls -d /proc/[0-9]* | wc -l").expect_success();
    assert!(processes.trim().parse::<u32>().expect("a number") < 10, "{processes}");
    assert_eq!(Snapshot::of(&lab).differences(&Snapshot::of(&lab)), "");
}

#[test]
fn orphans_are_reaped() {
    let lab = Lab::new("n1", Iptables::Nft).expect("a lab");
    let _ = lab.shell("setsid sh -c 'sleep 0.05 & sleep 0.05 & exit 0' &").expect_success();
    integration::wait::until("no zombie", std::time::Duration::from_secs(5), || {
        (!lab.shell("cat /proc/[0-9]*/stat").stdout.contains(" Z ")).then_some(())
    })
    .expect("the lab's first process reaps orphans");
}
