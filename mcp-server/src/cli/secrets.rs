//! Keeping what is in memory there: keys, tokens and passphrases.

/// Tells the system to write no memory of this process to a core dump, and to let no other process of the
/// same user read it.
///
/// # Errors
///
/// Why the system does not.
#[cfg(target_os = "linux")]
pub(super) fn keep_out_of_dumps() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Whether that is so.
#[cfg(target_os = "linux")]
pub(super) fn are_kept_out_of_dumps() -> bool {
    use rustix::process::{DumpableBehavior, dumpable_behavior};
    dumpable_behavior() == Ok(DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn keep_out_of_dumps() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn are_kept_out_of_dumps() -> bool {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Core).current == Some(0)
}
