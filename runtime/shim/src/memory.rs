//! Giving memory back when a pod has become quiet.

/// Gives back free heap: afterwards a shim only waits, and a node has one for every pod.
pub(crate) fn give_back() {
    #[expect(unsafe_code, reason = "malloc_trim(3) has no safe wrapper")]
    // SAFETY: it only releases memory that the allocator itself holds as free.
    unsafe {
        libc::malloc_trim(0);
    }
}
