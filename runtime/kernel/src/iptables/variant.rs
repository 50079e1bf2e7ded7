//! Which of the two iptables variants is in use. Mixing them would give packets two sets of rules, so exactly one is chosen.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use minipod_model::IpFamily;
use minipod_model::defaults::CHAIN_PREFIX;

use super::{IptablesError, run};

/// The kernel side that the `iptables` programs speak to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// nftables (`iptables-nft`)
    Nft,
    /// the older `ip_tables` (`iptables-legacy`)
    Legacy,
}

impl Variant {
    /// Both, the newer first.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// `nft` or `legacy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not a variant's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown iptables variant `{0}`: use `nft` or `legacy`")]
pub struct UnknownVariant(pub String);

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVariant> {
        Self::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| UnknownVariant(text.to_owned()))
    }
}

/// The programs of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) command: PathBuf,
    pub(super) save: PathBuf,
    pub(super) restore: PathBuf,
}

impl Programs {
    /// The programs of `variant`, or those of the system's default where `variant` is `None`.
    fn find(family: IpFamily, variant: Option<Variant>) -> Result<Self, String> {
        let base = match family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        let stem = variant.map_or_else(|| base.to_owned(), |variant| format!("{base}-{variant}"));
        let locate = |name: String| run::locate(&name).ok_or(name);
        Ok(Self {
            command: locate(stem.clone())?,
            save: locate(format!("{stem}-save"))?,
            restore: locate(format!("{stem}-restore"))?,
        })
    }
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) variant: Variant,
    pub(super) v4: Programs,
    pub(super) v6: Option<Programs>,
}

/// Chooses: the forced one; else the one that already has rules; else what `iptables` is on this system.
pub(super) fn choose(forced: Option<Variant>) -> Result<Choice, IptablesError> {
    if let Some(variant) = forced {
        return found(variant, Some(variant)).map_err(|program| IptablesError::VariantMissing { variant, program });
    }
    let default = default_variant();
    let candidates: Vec<Choice> = Variant::ALL.into_iter().filter_map(|v| found(v, Some(v)).ok()).collect();
    let mut best: Option<(Use, Choice)> = None;
    for choice in candidates {
        let mut in_use = observe(&choice)?;
        in_use.default = default == Some(choice.variant);
        if best.as_ref().is_none_or(|(other, _)| in_use > *other) {
            best = Some((in_use, choice));
        }
    }
    match (best, default) {
        (Some((_, choice)), _) => Ok(choice),
        // Distributions with a single variant have no suffixed names.
        (None, Some(variant)) => found(variant, None).map_err(|program| IptablesError::Missing { program }),
        (None, None) => Err(IptablesError::Missing { program: "iptables".into() }),
    }
}

/// What speaks for a variant, the weightiest first.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations, compared in this order")]
struct Use {
    ours: bool,
    kubernetes: bool,
    any: bool,
    default: bool,
}

fn observe(choice: &Choice) -> Result<Use, IptablesError> {
    let mut in_use = Use::default();
    for programs in [Some(&choice.v4), choice.v6.as_ref()].into_iter().flatten() {
        match run::output(&programs.save, &[], None) {
            Ok(text) => judge(&text, &mut in_use),
            // A kernel without this variant has no rules in it; a missing right is no such answer.
            Err(IptablesError::Failed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(in_use)
}

/// Reads a dump. The hint chains are those by which a kubelet says which variant it uses.
fn judge(dump: &str, in_use: &mut Use) {
    let ours = format!(":{CHAIN_PREFIX}");
    in_use.ours |= dump.lines().any(|line| line.starts_with(&ours));
    in_use.kubernetes |=
        dump.lines().any(|line| line.starts_with(":KUBE-IPTABLES-HINT") || line.starts_with(":KUBE-KUBELET-CANARY"));
    in_use.any |= dump.lines().any(|line| line.starts_with("-A "));
}

fn found(variant: Variant, suffix: Option<Variant>) -> Result<Choice, String> {
    let v4 = Programs::find(IpFamily::V4, suffix)?;
    let v6 = Programs::find(IpFamily::V6, suffix).ok().filter(|_| Path::new("/proc/net/if_inet6").exists());
    Ok(Choice { variant, v4, v6 })
}

fn default_variant() -> Option<Variant> {
    let command = run::locate("iptables")?;
    let version = run::output(&command, &["--version"], None).ok()?;
    Some(if version.contains("nf_tables") { Variant::Nft } else { Variant::Legacy })
}

#[cfg(test)]
mod tests {
    use super::{Use, judge};

    #[test]
    fn our_own_chains_weigh_more_than_any_other_rules() {
        let mut ours = Use::default();
        judge("*filter\n:FORWARD ACCEPT [0:0]\n:MP-FWD - [0:0]\nCOMMIT\n", &mut ours);
        let mut others = Use::default();
        judge("*filter\n:KUBE-KUBELET-CANARY - [0:0]\n-A FORWARD -j ACCEPT\nCOMMIT\n", &mut others);
        others.default = true;
        assert!(ours > others);
        assert!(others > Use { default: true, ..Use::default() });
        assert!(Use { any: true, ..Use::default() } > Use { default: true, ..Use::default() });
    }
}
