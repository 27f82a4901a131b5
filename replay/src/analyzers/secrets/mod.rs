//! Secrets.

mod scanner;

pub(super) use scanner::masked;
