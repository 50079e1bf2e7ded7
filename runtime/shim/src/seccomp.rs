//! The seccomp filter of a container, as a BPF program made by libseccomp.
//!
//! The shim makes the program once for each set of capabilities and loads it into a process as the last step but one before
//! `execve`, in [`crate::workload`]: the same way for a container's first process and for an exec'd one (libcontainer has no
//! filter for the latter).

mod profile;

use std::fs::File;
use std::io::{self, Read, Seek};

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::sys::memfd::{MFdFlags, memfd_create};

use profile::Argument;

/// A program for the kernel's filter machine: `struct sock_filter` in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program(Vec<libc::sock_filter>);

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// libseccomp refused
    #[error("cannot make the seccomp filter")]
    Library(#[from] SeccompError),
    /// the program could not be taken over
    #[error("cannot read the seccomp filter back")]
    Read(#[from] io::Error),
}

/// The filter of the default profile for a process with these capabilities (`CAP_...`).
pub(crate) fn compile_default(capabilities: &[String]) -> Result<Program, CompileError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(libc::EPERM))?;
    for architecture in compatible_architectures() {
        filter.add_arch(*architecture)?;
    }
    let has = |capability: &str| capabilities.iter().any(|own| own == capability);
    let with_capability = profile::WITH_CAPABILITY.iter().filter(|(capability, _)| has(capability));
    let allowed = profile::ALWAYS.iter().chain(profile::OF_THE_ARCHITECTURE);
    for name in allowed.chain(with_capability.flat_map(|(_, names)| names.iter())) {
        add(&mut filter, ScmpAction::Allow, name, &[])?;
    }
    for (name, argument) in profile::CONDITIONAL {
        add(&mut filter, ScmpAction::Allow, name, &[comparison(*argument)])?;
    }
    if !has("CAP_SYS_ADMIN") {
        for (name, argument) in profile::CONDITIONAL_UNPRIVILEGED {
            add(&mut filter, ScmpAction::Allow, name, &[comparison(*argument)])?;
        }
        for name in profile::ABSENT_UNPRIVILEGED {
            add(&mut filter, ScmpAction::Errno(libc::ENOSYS), name, &[])?;
        }
    }
    export(&filter)
}

/// A name that this libseccomp does not know is a call that it cannot allow: it stays refused.
fn add(
    filter: &mut ScmpFilterContext,
    action: ScmpAction,
    name: &str,
    comparisons: &[ScmpArgCompare],
) -> Result<(), SeccompError> {
    match ScmpSyscall::from_name(name) {
        Ok(call) => filter.add_rule_conditional(action, call, comparisons).map(drop),
        Err(_) => Ok(()),
    }
}

fn comparison(argument: Argument) -> ScmpArgCompare {
    match argument {
        Argument::Is(index, value) => ScmpArgCompare::new(index, ScmpCompareOp::Equal, value),
        Argument::IsNot(index, value) => ScmpArgCompare::new(index, ScmpCompareOp::NotEqual, value),
        Argument::HasNoneOf(index, bits) => ScmpArgCompare::new(index, ScmpCompareOp::MaskedEqual(bits), 0),
    }
}

fn compatible_architectures() -> &'static [ScmpArch] {
    if cfg!(target_arch = "x86_64") {
        &[ScmpArch::X86, ScmpArch::X32]
    } else if cfg!(target_arch = "aarch64") {
        &[ScmpArch::Arm]
    } else {
        &[]
    }
}

fn export(filter: &ScmpFilterContext) -> Result<Program, CompileError> {
    let mut file = File::from(memfd_create("seccomp", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
    filter.export_bpf(&file)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let instruction = |chunk: &[u8; 8]| {
        let [a, b, jt, jf, k @ ..] = *chunk;
        libc::sock_filter { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes(k) }
    };
    Ok(Program(bytes.as_chunks::<8>().0.iter().map(instruction).collect()))
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
        assert!(few.0.len() > 300, "{}", few.0.len());
        assert!(many.0.len() > few.0.len());
    }
}
