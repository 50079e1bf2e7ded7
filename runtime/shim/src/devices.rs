//! Which devices a container may open, on cgroup v2: there it is a small BPF program at the container's group that decides (on
//! v1 the devices controller does, and libcontainer writes its list).
//!
//! A container may make any device node, as with the usual runtimes, but open only those of the default list. Without this a
//! node made with `CAP_MKNOD` would open the node's disks.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// `bpf(2)` commands and types (linux/bpf.h).
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// `struct bpf_cgroup_dev_ctx`: the kind in the low half of `access_type`, the access in the high half.
const KIND_CHARACTER: i32 = 2;
const ACCESS_MAKE_NODE: i32 = 1;

/// Character devices that every container has: null, zero, full, random, urandom, tty, console, ptmx.
const ALLOWED: [(i32, i32); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
/// The major number of pseudo-terminals.
const PSEUDO_TERMINALS: i32 = 136;

/// One instruction, as `struct bpf_insn` lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The beginning of `union bpf_attr` for [`PROG_LOAD`].
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The beginning of `union bpf_attr` for [`PROG_ATTACH`].
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Limits the group's processes to the default devices. The program stays as long as the group.
pub(crate) fn limit(group: &Path) -> io::Result<()> {
    let directory = File::open(group)?;
    let program = load(&compile())?;
    let unsigned = |descriptor: RawFd| u32::try_from(descriptor).unwrap_or(u32::MAX);
    let attributes = AttachAttributes {
        target: unsigned(directory.as_raw_fd()),
        program: unsigned(program.as_raw_fd()),
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    bpf(PROG_ATTACH, &attributes).map(drop)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let attributes = LoadAttributes {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let descriptor = bpf(PROG_LOAD, &attributes)?;
    #[expect(unsafe_code, reason = "a descriptor that a system call has returned is taken over")]
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    #[expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]
    // SAFETY: `attributes` is a prefix of `union bpf_attr` for this command, of the length that is given; what it points to
    // (instructions, license) lives in the caller until the call has returned.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    RawFd::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

/// Registers: the answer, the context and three values.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Opcodes of `linux/bpf.h` and `linux/bpf_common.h`.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

fn compile() -> Vec<Instruction> {
    let registers = |destination: u8, source: u8| destination | source << 4;
    let op =
        |code, destination, immediate| Instruction { code, registers: registers(destination, 0), offset: 0, immediate };
    let word = |destination, offset| Instruction {
        code: LOAD_WORD,
        registers: registers(destination, CONTEXT),
        offset,
        immediate: 0,
    };
    let jump =
        |code, register, immediate, offset| Instruction { code, registers: registers(register, 0), offset, immediate };
    let allow = [op(SET, ANSWER, 1), op(EXIT, 0, 0)];
    let over_allow = 2;

    let mut program = vec![
        word(KIND, 0),
        Instruction { code: MOVE, registers: registers(ACCESS, KIND), offset: 0, immediate: 0 },
        op(SHIFT_RIGHT, ACCESS, 16),
        op(AND, KIND, 0xffff),
        word(MAJOR, 4),
        word(MINOR, 8),
        // to make a node is allowed: it opens nothing
        jump(JUMP_UNLESS_EQUAL, ACCESS, ACCESS_MAKE_NODE, over_allow),
    ];
    program.extend(allow);
    // of block devices none
    program.extend([jump(JUMP_IF_EQUAL, KIND, KIND_CHARACTER, 2), op(SET, ANSWER, 0), op(EXIT, 0, 0)]);
    program.push(jump(JUMP_UNLESS_EQUAL, MAJOR, PSEUDO_TERMINALS, over_allow));
    program.extend(allow);
    for (major, minor) in ALLOWED {
        program.push(jump(JUMP_UNLESS_EQUAL, MAJOR, major, over_allow + 1));
        program.push(jump(JUMP_UNLESS_EQUAL, MINOR, minor, over_allow));
        program.extend(allow);
    }
    program.extend([op(SET, ANSWER, 0), op(EXIT, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use super::limit;

    /// A group in the v2 tree that is removed at the end.
    struct Group(PathBuf);

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn the_kernel_takes_the_program_and_it_decides() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let tree = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
        let tree = tree.expect("a cgroup2 tree is mounted");
        let group = Group(PathBuf::from(tree).join(format!("minipod-test-devices-{}", std::process::id())));
        fs::create_dir(&group.0).expect("group");
        limit(&group.0).expect("limited");
        let directory = tempfile::tempdir().expect("directory");
        let open = |kind: &str, major: u32, minor: u32| {
            let node = directory.path().join(format!("{kind}{major}-{minor}"));
            let script = format!(
                "echo $$ > {}/cgroup.procs; mknod {node} {kind} {major} {minor} || exit 9; exec 3< {node}",
                group.0.display(),
                node = node.display()
            );
            let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
            assert_ne!(output.status.code(), Some(9), "{output:?}");
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for (major, minor) in [(1, 3), (1, 5), (1, 9)] {
            assert!(open("c", major, minor).0, "{major}:{minor}");
        }
        // kernel memory and messages, a disk, a tunnel
        for (kind, major, minor) in [("c", 1, 1), ("c", 1, 11), ("b", 254, 0), ("b", 1, 3), ("c", 10, 200)] {
            let (opened, error) = open(kind, major, minor);
            assert!(!opened && error.contains("not permitted"), "{kind} {major}:{minor}: {error}");
        }
    }
}
