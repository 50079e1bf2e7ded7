//! Whether the image has what a container is to run, said in words that name it; where nothing of the pod could start, before anything
//! of it is made.
//!
//! The shim would find the same out at the end of a start, and could say only that nothing was executed.

use std::path::PathBuf;

use minipod_image::Rootfs;
use minipod_protocol::shim::{Container, Sandbox};

use super::effects::with_causes;

/// In a container these are not the image's.
const MOUNTED: [&str; 3] = ["/proc/", "/sys/", "/dev/"];

/// What is to be started, and where it is looked for.
#[derive(Debug, Clone, Copy)]
struct Start<'a> {
    program: &'a str,
    working_dir: &'a str,
    /// `PATH`
    search: &'a str,
    /// topmost first
    layers: &'a [PathBuf],
}

/// Says why the container's program cannot be started from its image, called `image`.
pub(super) fn check(container: &Container, image: &str) -> Result<(), String> {
    let Some(program) = container.args.first() else { return Ok(()) };
    let search = container.env.iter().rev().find_map(|line| line.strip_prefix("PATH=")).unwrap_or_default();
    let (working_dir, layers) = (container.working_dir.as_str(), container.layers.as_slice());
    Start { program, working_dir, search, layers }.check(image)
}

/// The container whose program keeps the whole pod from starting anything, and why: the first init container, or each of the
/// containers. A pod of which something starts is made; its shim tells of the others.
pub(super) fn keeps_all(sandbox: &Sandbox) -> Option<(&str, &str)> {
    let begin = match sandbox.init_containers.first() {
        Some(init) => std::slice::from_ref(init),
        None => &sandbox.containers,
    };
    let first = begin.first().filter(|_| begin.iter().all(|container| container.unstartable.is_some()))?;
    Some((&first.name, first.unstartable.as_deref()?))
}

impl Start<'_> {
    fn check(self, image: &str) -> Result<(), String> {
        let Self { program, working_dir, search, layers } = self;
        if MOUNTED.iter().any(|mounted| program.starts_with(mounted)) {
            return Ok(());
        }
        let found = Rootfs::open(layers).and_then(|rootfs| rootfs.find_program(program, working_dir, search));
        match found {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(format!(
                "command `{program}` is not in the image `{image}`: {}; set `command` to a program of the image, or use another image",
                self.place()
            )),
            Err(error) => {
                Err(format!("cannot look for command `{program}` in the image `{image}`: {}", with_causes(&error)))
            }
        }
    }

    fn place(self) -> String {
        if self.program.starts_with('/') {
            "no executable file has this path".to_owned()
        } else if self.program.contains('/') {
            format!("no executable file has this path below `{}`", self.working_dir)
        } else {
            format!("no executable file has this name in PATH `{}`", self.search)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::Start;

    fn write(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, "").expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    #[test]
    fn a_command_is_looked_for_in_the_image_as_the_kernel_would() {
        let directory = tempfile::tempdir().expect("a directory");
        let (top, base) = (directory.path().join("top"), directory.path().join("base"));
        write(&base.join("usr/bin/busybox"), 0o755);
        write(&base.join("usr/bin/notes"), 0o644);
        write(&top.join("app/run"), 0o755);
        symlink("usr/bin", base.join("bin")).expect("a link");
        symlink("/bin/busybox", base.join("usr/bin/sh")).expect("a link");
        symlink("/bin/gone", base.join("usr/bin/broken")).expect("a link");
        let layers = [top, base];
        let check = |program, working_dir, search| Start { program, working_dir, search, layers: &layers }.check("x:1");
        for (program, working_dir, search) in [
            ("sh", "/", "/sbin:/bin"),
            ("/bin/sh", "/", ""),
            ("./run", "/app", ""),
            ("../bin/busybox", "/app", ""),
            ("run", "/app", "/bin:"),
            ("/proc/self/exe", "/", ""),
        ] {
            assert_eq!(check(program, working_dir, search), Ok(()), "{program}");
        }
        for (program, place) in [
            ("run", "name in PATH `/bin`"),
            ("notes", "name in PATH `/bin`"),
            ("broken", "name in PATH `/bin`"),
            ("/app", "path"),
            ("./run", "path below `/`"),
        ] {
            let expected = format!(
                "command `{program}` is not in the image `x:1`: no executable file has this {place}; \
                 set `command` to a program of the image, or use another image"
            );
            assert_eq!(check(program, "/", "/bin"), Err(expected));
        }
    }
}
