//! Secrets.

mod keywords;
mod scanner;

pub(super) use scanner::masked;
