//! Only one iptables variant holds our rules. A packet meets the rules of both, so what another one holds from an earlier start would go on
//! dropping what is allowed by now. Sets belong to no variant and are not touched here.

use minipod_kernel::iptables::{IptablesError, Variant};

use crate::dataplane::{Changes, Dataplane, DataplaneError};
use crate::kernel::KernelError;
use crate::linux::LinuxKernel;

/// Removes chains and jumps of ours from every installed variant but this one, whose rules must be in force already: so no packet passes
/// without a verdict.
///
/// # Errors
/// What a program refuses; the call can be repeated.
pub fn remove_from_other_variants(in_use: Variant) -> Result<Changes, DataplaneError> {
    let mut changes = Changes::default();
    for variant in Variant::ALL.into_iter().filter(|variant| *variant != in_use) {
        match LinuxKernel::open(Some(variant)).map_err(Into::into).and_then(Dataplane::adopt) {
            Ok(mut other) => {
                let removed = other.remove_rules()?;
                changes.chains += removed.chains;
                changes.jumps += removed.jumps;
            }
            // What is not installed, or what this kernel does not have, holds no rules.
            Err(DataplaneError::Kernel(KernelError::Rules(
                IptablesError::VariantMissing { .. } | IptablesError::Failed { .. },
            ))) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(changes)
}
