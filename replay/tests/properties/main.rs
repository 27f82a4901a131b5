//! What a replay promises for every capture: the same rows however the bytes of its streams are cut, its file is put together and
//! its records came in. Checked on the captures of `fixtures/`, changed with a generator that starts from fixed numbers.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod losses;
mod recorded;
mod same;
