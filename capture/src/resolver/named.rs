//! Stacks whose functions have names: OpenSSL, BoringSSL (where it was not stripped), GnuTLS, NSPR.
//!
//! A name says what a function does; where in it a probe is cheap is decided by [`super::entry`].

use super::cookie::{Library, cookie, count, op};
use super::entry;
use super::image::Image;
use super::symbols::{self, Symbol};
use super::{ResolveError, Site, Stack};

/// The name, what the function does, and where its count is.
type Known = (&'static str, u64, u64);

const OPENSSL: &[Known] = &[
    ("SSL_read", op::READ, count::RETURNED),
    ("SSL_write", op::WRITE, count::RETURNED),
    ("SSL_read_ex", op::READ, count::ARGUMENT_4),
    ("SSL_write_ex", op::WRITE, count::ARGUMENT_4),
    ("SSL_seal_app_data", op::SEAL_DATA, count::RETURNED),
    ("SSL_free", op::FREE, count::RETURNED),
    ("SSL_clear", op::FREE, count::RETURNED),
];

/// `gnutls_record_send` jumps to `gnutls_record_send2`: the programs count the outer one of two nested calls.
const GNUTLS: &[Known] = &[
    ("gnutls_record_send", op::WRITE, count::RETURNED),
    ("gnutls_record_send2", op::WRITE, count::RETURNED),
    ("gnutls_record_send_early_data", op::WRITE, count::RETURNED),
    ("gnutls_record_send_range", op::WRITE, count::RETURNED),
    ("gnutls_record_uncork", op::UNCORK, count::RETURNED),
    ("gnutls_record_recv", op::READ, count::RETURNED),
    ("gnutls_record_recv_seq", op::READ, count::RETURNED),
    ("gnutls_record_recv_packet", op::READ_PACKET, count::RETURNED),
    ("gnutls_deinit", op::FREE, count::RETURNED),
];

/// Descriptors of NSPR stand for plain files too; which of them speak TLS is for the programs to find out.
const NSPR: &[Known] = &[
    ("PR_Read", op::NSS_READ, count::RETURNED),
    ("PR_Recv", op::NSS_READ, count::RETURNED),
    ("PR_Write", op::NSS_WRITE, count::RETURNED),
    ("PR_Send", op::NSS_WRITE, count::RETURNED),
    ("PR_Close", op::FREE, count::RETURNED),
];

/// Everything that is looked up. The last ones are of BoringSSL and its descendants only.
const NAMES: &[&str] = &[
    "SSL_read",
    "SSL_write",
    "SSL_read_ex",
    "SSL_write_ex",
    "SSL_seal_app_data",
    "SSL_free",
    "SSL_clear",
    "gnutls_record_send",
    "gnutls_record_send2",
    "gnutls_record_send_early_data",
    "gnutls_record_send_range",
    "gnutls_record_uncork",
    "gnutls_record_recv",
    "gnutls_record_recv_seq",
    "gnutls_record_recv_packet",
    "gnutls_deinit",
    "PR_Read",
    "PR_Recv",
    "PR_Write",
    "PR_Send",
    "PR_Close",
    "SSL_set_custom_verify",
    "SSL_CTX_set_grease_enabled",
];

/// The stacks whose functions are found by name.
pub(super) fn find(image: &Image<'_>) -> Result<Vec<Stack>, ResolveError> {
    let symbols = symbols::find(image, NAMES)?;
    let mut stacks = Vec::new();
    if has(&symbols, "SSL_read") || has(&symbols, "SSL_write") {
        let boring = has(&symbols, "SSL_set_custom_verify") || has(&symbols, "SSL_CTX_set_grease_enabled");
        stacks.push(if boring {
            plain(image, Library::Boringssl, OPENSSL, &symbols)
        } else {
            openssl(image, &symbols)
        });
    }
    if has(&symbols, "gnutls_record_send") || has(&symbols, "gnutls_record_recv") {
        stacks.push(plain(image, Library::Gnutls, GNUTLS, &symbols));
    }
    // Programs that carry a copy of their own use these names for other things.
    if has(&symbols, "PR_Read") && image.soname().is_some_and(|name| name.starts_with("libnspr4")) {
        stacks.push(plain(image, Library::Nss, NSPR, &symbols));
    }
    Ok(stacks)
}

fn has(symbols: &[Symbol], name: &str) -> bool {
    symbols.iter().any(|symbol| symbol.name == name)
}

/// Every known function, each probed by itself.
fn plain(image: &Image<'_>, library: Library, known: &[Known], symbols: &[Symbol]) -> Stack {
    let mut stack = Stack::new(library, "symbols");
    for (name, op, count) in known {
        for symbol in symbols.iter().filter(|symbol| symbol.name == *name) {
            add(image, &mut stack, name, symbol.address, cookie(library, *op, *count));
        }
    }
    stack
}

/// OpenSSL has one internal function below each pair of exported ones; probed there, a probe is cheap.
fn openssl(image: &Image<'_>, symbols: &[Symbol]) -> Stack {
    let mut stack = plain(image, Library::Openssl, OPENSSL, symbols);
    let address = |name| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
    let pairs = [
        ("SSL_write", "SSL_write_ex", "ssl_write_internal", op::WRITE),
        ("SSL_read", "SSL_read_ex", "ssl_read_internal", op::READ),
    ];
    for (name, name_ex, internal, op) in pairs {
        let (Some(one), Some(other)) = (address(name), address(name_ex)) else { continue };
        match entry::internal(image, one, other) {
            Ok((target, count)) => {
                let kept = |site: &Site| site.name != name && site.name != name_ex;
                stack.sites.retain(kept);
                stack
                    .why
                    .retain(|why| !why.starts_with(&format!("{name} ")) && !why.starts_with(&format!("{name_ex} ")));
                stack.why.push(format!(
                    "{name} and {name_ex} both call the function at {target:#x}, which is cheaper to probe; its count is \
                     behind argument {count}"
                ));
                add(image, &mut stack, internal, target, cookie(Library::Openssl, op, count));
            }
            Err(why) => stack.why.push(format!("{name}: no internal function in place of it: {why}")),
        }
    }
    stack
}

fn add(image: &Image<'_>, stack: &mut Stack, name: &'static str, address: u64, cookie: u64) {
    let at = entry::cheapest(image, address);
    match image.offset(at) {
        Some(offset) => {
            stack.why.push(format!("{name} at {at:#x}: {}", entry::cost(image, at)));
            stack.sites.push(Site::new(offset, cookie, name));
        }
        None => stack.why.push(format!("{name} at {at:#x}: not in the file")),
    }
}
