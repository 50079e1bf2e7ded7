//! What can go wrong with iptables, in words.

use std::io;

use minipod_model::IpFamily;

/// A run of an iptables program that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// Not installed.
    #[error("cannot find {program}; install it with `apt-get install iptables ipset`")]
    Missing {
        /// the program, or what was looked for
        program: String,
    },
    /// The forced variant is not there.
    #[error(
        "iptables variant `{variant}` was asked for, but `{program}` is not installed; install it with `apt-get install iptables ipset` or choose the other variant"
    )]
    VariantMissing {
        /// the variant
        variant: super::Variant,
        /// the program
        program: String,
    },
    /// No rights.
    #[error("not permitted to run `{program}`: this needs root or CAP_NET_ADMIN and CAP_NET_RAW")]
    Permission {
        /// the program
        program: String,
    },
    /// It could not be started or spoken to.
    #[error("cannot run `{program}`")]
    Run {
        /// the program
        program: String,
        /// why
        #[source]
        source: io::Error,
    },
    /// It refused the rules; the table is as before.
    #[error("`{program}` refuses line {number} `{line}`: {stderr}")]
    Line {
        /// the program
        program: String,
        /// the number of the line that it names, from 1
        number: usize,
        /// that line
        line: String,
        /// what it said
        stderr: String,
    },
    /// It failed otherwise.
    #[error("`{program}` failed: {stderr}")]
    Failed {
        /// the program with its arguments
        program: String,
        /// what it said
        stderr: String,
    },
    /// The programs of this family are not there.
    #[error("no {0} rules can be made on this host: `ip6tables` is not installed or the kernel has no IPv6")]
    Family(IpFamily),
}
