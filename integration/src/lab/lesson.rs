//! The lesson's first scene, in which many tests begin.

use std::time::Duration;

use super::{Iptables, Lab};
use crate::fixture::{HELLO_ALLOW_FROM_FOO, HELLO_IMAGE};
use crate::wait::until;

/// Where `hello-web` answers in [`Lab::with_lesson`].
pub const HELLO_URL: &str = "http://hello-web:8080";

impl Lab {
    /// A running node with the pod and service `hello-web`, which takes connections from pods with `app=foo` only, the pod `foo`, which is
    /// one, and the pod `other`, which is none; the policy is in force.
    ///
    /// # Panics
    /// When something of it does not come up.
    #[must_use]
    pub fn with_lesson(iptables: Iptables) -> Self {
        let lab = Self::started("n1", iptables).expect("a lab");
        let run = ["run", "hello-web", "--labels", "app=hello", "--image", HELLO_IMAGE, "--port", "8080", "--expose"];
        let _ = lab.minipod(&run).expect_success();
        lab.wait_ready("hello-web");
        lab.pod("foo", "app=foo");
        lab.pod("other", "app=other");
        lab.apply(HELLO_ALLOW_FROM_FOO);
        let denied = || (!lab.wget("other", HELLO_URL).succeeded()).then_some(());
        until("the policy", Duration::from_secs(30), denied).expect("denied");
        lab
    }
}

/// One test of each of these functions for each iptables variant.
#[macro_export]
macro_rules! on_both_variants {
    ($($name:ident)*) => {
        mod nft {
            $(#[test] fn $name() { super::$name($crate::lab::Iptables::Nft); })*
        }
        mod legacy {
            $(#[test] fn $name() { super::$name($crate::lab::Iptables::Legacy); })*
        }
    };
}
