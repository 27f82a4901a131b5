//! Gives memory back: what only starting took, and what looking through a large program did.

use std::ffi::{c_int, c_void};

/// Has the kernel forget which pages of the program's file, of code and of constants, were touched until now: half of them are
/// relocations and the like, which nothing asks for again, and what is needed is found in the page cache.
pub(crate) fn forget_start() {
    // SAFETY: the callback keeps nothing of what it is shown.
    unsafe { libc::dl_iterate_phdr(Some(forget), std::ptr::null_mut()) };
}

/// Gives back what was freed: glibc keeps it where something in use lies behind it.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it works on memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Looks at the first object alone, which is the program.
unsafe extern "C" fn forget(object: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the linker hands over a description that is valid during the call.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)))
    };
    let page = crate::kernel::page_size();
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        let start = base + header.p_vaddr;
        let (first, end) = (start.next_multiple_of(page), (start + header.p_filesz) / page * page);
        if first < end {
            // SAFETY: a private mapping of a file that was never writable: each of its pages can be read again. Pages at its ends
            // may be of two mappings and stay.
            unsafe { libc::madvise(first as *mut c_void, (end - first) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}
