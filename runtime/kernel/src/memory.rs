//! What this process's allocator does with memory that is free again.

/// From this size on, in bytes, a block has pages of its own, which go back to the kernel as soon as it is free.
#[cfg(target_env = "gnu")]
const OWN_PAGES: libc::c_int = 64 << 10;

/// Has large blocks given back at once. A daemon that reads long lists at its start needs many of them for a moment; glibc learns from that to
/// keep such blocks among small ones (mallopt(3), `M_MMAP_THRESHOLD`), where they stay. With other C libraries nothing is done.
pub fn give_back_large_blocks() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "mallopt has no safe wrapper")]
        // SAFETY: the call takes two numbers, and glibc locks what it changes.
        let is_known = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES) };
        debug_assert_eq!(is_known, 1, "the parameter is a constant of glibc's and the size within its limits");
    }
}
