//! The seccomp filter of a container, as a program for the kernel's filter machine.
//!
//! The shim makes the program once for each set of capabilities and loads it into a process as the last step but one before
//! `execve`, in [`crate::workload`]: the same way for a container's first process and for an exec'd one (libcontainer has no
//! filter for the latter). libseccomp knows the numbers of the calls.

mod assemble;
mod profile;

use std::io;

use libseccomp::{ScmpArch, ScmpSyscall};

use assemble::{Rules, assemble};

/// A program for the kernel's filter machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program(Vec<libc::sock_filter>);

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// the profile does not say what is allowed here
    #[error("there is no default seccomp profile for processors of type `{0}`; use the profile type `Unconfined`")]
    Architecture(&'static str),
}

/// The filter of the default profile for a process with these capabilities (`CAP_...`).
pub(crate) fn compile_default(capabilities: &[String]) -> Result<Program, CompileError> {
    let architectures = architectures();
    if architectures.is_empty() {
        return Err(CompileError::Architecture(std::env::consts::ARCH));
    }
    let rules: Vec<Rules> = architectures.iter().map(|(scmp, audit)| rules_for(*scmp, *audit, capabilities)).collect();
    Ok(Program(assemble(&rules)))
}

/// The architectures whose programs run here, with their `AUDIT_ARCH_*` (linux/audit.h). x32 is not among them: its calls
/// have numbers beyond every other and are answered with ENOSYS.
fn architectures() -> &'static [(ScmpArch, u32)] {
    if cfg!(target_arch = "x86_64") {
        &[(ScmpArch::X8664, 0xC000_003E), (ScmpArch::X86, 0x4000_0003)]
    } else if cfg!(target_arch = "aarch64") {
        &[(ScmpArch::Aarch64, 0xC000_00B7), (ScmpArch::Arm, 0x4000_0028)]
    } else if cfg!(target_arch = "riscv64") {
        &[(ScmpArch::Riscv64, 0xC000_00F3)]
    } else {
        &[]
    }
}

fn rules_for(scmp: ScmpArch, architecture: u32, capabilities: &[String]) -> Rules {
    let has = |capability: &str| capabilities.iter().any(|own| own == capability);
    // a name that this libseccomp does not know, or that the architecture does not have, stays refused
    let number = |name: &str| {
        let call = ScmpSyscall::from_name_by_arch(name, scmp).ok()?;
        u32::try_from(i32::from(call)).ok()
    };
    let with_capability = profile::WITH_CAPABILITY.iter().filter(|(capability, _)| has(capability));
    let allowed = profile::ALWAYS.iter().chain(profile::OF_THE_ARCHITECTURE);
    let allowed = allowed.chain(with_capability.flat_map(|(_, names)| names.iter()));
    let privileged = has("CAP_SYS_ADMIN");
    let conditional = profile::CONDITIONAL.iter();
    let conditional = conditional.chain(profile::CONDITIONAL_UNPRIVILEGED.iter().filter(|_| !privileged));
    let absent = profile::ABSENT_UNPRIVILEGED.iter().filter(|_| !privileged);
    Rules {
        architecture,
        allowed: allowed.filter_map(|name| number(name)).collect(),
        conditional: conditional.filter_map(|(name, argument)| Some((number(name)?, *argument))).collect(),
        absent: absent.filter_map(|name| number(name)).collect(),
    }
}

impl Program {
    /// Puts this process and its descendants under the filter for good. Needs `CAP_SYS_ADMIN` or `no_new_privs`.
    pub(crate) fn load(&self) -> io::Result<()> {
        let length = u16::try_from(self.0.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let program = libc::sock_fprog { len: length, filter: self.0.as_ptr().cast_mut() };
        let no_flags: libc::c_ulong = 0;
        #[expect(unsafe_code, reason = "seccomp(2) has no safe wrapper")]
        // SAFETY: `program` and the instructions that it points to live until the call has returned, and the kernel only reads
        // them.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, no_flags, &raw const program) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::compile_default;

    #[test]
    fn the_default_profile_compiles_and_depends_on_the_capabilities() {
        let few = compile_default(&["CAP_CHOWN".into()]).expect("compiled");
        let many = compile_default(&["CAP_CHOWN".into(), "CAP_SYS_ADMIN".into()]).expect("compiled");
        assert!(few.0.len() > 100 && few.0.len() < 4096, "{}", few.0.len());
        assert_ne!(many, few);
    }
}
