//! Looks for what is wrong and says the way out. Changes nothing it was not asked about: a data
//! directory that is not there yet is not made.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Serialize;
use serde_json::json;
use tirami_agent_runtime::ops::{Audit, Identity, Network, Status, StatusOutput};
use tirami_agent_runtime::{ModelSource, data_dir, keys};

use super::context::{Context, Session};
use super::exit::{Exit, Problem};
use super::output::Style;
use super::secrets;
use crate::access::Need;
use crate::config::{Listen, Overrides, Settings};

/// A clock outside these is wrong: 2026-01-01 and 2100-01-01, in milliseconds since 1970.
const SANE_MS: std::ops::Range<u64> = 1_767_225_600_000..4_102_444_800_000;

/// First bytes of a GGUF file.
const GGUF_MAGIC: &[u8; 4] = b"GGUF";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    what: String,
    way_out: Option<String>,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Ok,
            what: what.into(),
            way_out: None,
        }
    }

    fn warn(name: &'static str, what: impl Into<String>, way_out: impl Into<String>) -> Self {
        let way_out = Some(way_out.into());
        Self {
            name,
            state: State::Warn,
            what: what.into(),
            way_out,
        }
    }

    fn fail(name: &'static str, what: impl Into<String>, way_out: Option<String>) -> Self {
        Self {
            name,
            state: State::Fail,
            what: what.into(),
            way_out,
        }
    }

    fn of(name: &'static str, problem: Problem) -> Self {
        Self::fail(name, problem.failure.message, problem.failure.hint)
    }
}

pub(super) async fn doctor(context: &Context) -> Result<Exit, Problem> {
    let mut checks = Vec::new();
    match context.settings(Overrides::default()) {
        Ok(settings) => {
            checks.push(Check::ok("config", "readable, or not there"));
            examine(context, &settings, &mut checks).await;
        }
        Err(problem) => checks.push(Check::of("config", problem)),
    }
    checks.push(clock());
    checks.push(core_dumps());
    checks.push(openmp());
    let healthy = checks.iter().all(|check| check.state != State::Fail);
    if context.out.is_json() {
        context
            .out
            .json(&json!({ "healthy": healthy, "checks": checks }));
    } else {
        for check in &checks {
            let (style, mark) = match check.state {
                State::Ok => (Style::Good, "ok  "),
                State::Warn => (Style::Warn, "warn"),
                State::Fail => (Style::Bad, "FAIL"),
            };
            context
                .out
                .marked(style, mark, &format!("{}: {}", check.name, check.what));
            if let Some(way_out) = &check.way_out {
                context.out.line(&format!("     > {way_out}"));
            }
        }
    }
    Ok(if healthy { Exit::Ok } else { Exit::Failure })
}

async fn examine(context: &Context, settings: &Settings, checks: &mut Vec<Check>) {
    let dir = &settings.node.data_dir;
    checks.push(model(settings.node.model.as_ref()));
    if !dir.exists() {
        let what = format!("{} is not there yet", dir.display());
        checks.push(Check::warn(
            "data directory",
            what,
            "the first start makes it",
        ));
        checks.push(http_port(settings, None));
        checks.push(mesh_port(settings, None));
        return;
    }
    match data_dir::prepare(dir) {
        Ok(()) => checks.push(Check::ok("data directory", dir.display().to_string())),
        Err(failure) => {
            checks.push(Check::of("data directory", failure.into()));
            return;
        }
    }
    checks.push(secret("node key", &data_dir::node_key(dir)));
    checks.push(passphrase(dir));
    checks.push(secret("agent token", &data_dir::token(dir)));
    let session = match context.open(Need::Books).await {
        Ok(session) => session,
        Err(problem) => {
            checks.push(Check::of("wallet", problem));
            return;
        }
    };
    match session.call(Status {}).await {
        Ok(status) => {
            node(&session, &status, settings, checks).await;
        }
        Err(problem) => checks.push(Check::of("wallet", problem)),
    }
    session.close().await;
}

async fn node(
    session: &Session,
    status: &StatusOutput,
    settings: &Settings,
    checks: &mut Vec<Check>,
) {
    let running = session.access.is_attached().await;
    checks.push(Check::ok(
        "wallet",
        if running {
            format!("process {} has it", status.pid)
        } else {
            "opens".to_owned()
        },
    ));
    checks.push(match session.call(Audit::default()).await {
        Ok(audit) if audit.holds => {
            Check::ok("books", format!("{} rules hold", audit.checks.len()))
        }
        Ok(_) => Check::fail(
            "books",
            "they do not agree with themselves",
            Some(
                "stop spending with 'tirami-agent freeze', then see 'tirami-agent wallet audit'"
                    .to_owned(),
            ),
        ),
        Err(problem) => Check::of("books", problem),
    });
    checks.push(owner(session, status));
    checks.push(match session.call(Identity {}).await {
        Ok(identity) => successor(session.data_dir(), &identity.successor),
        Err(problem) => Check::of("successor", problem),
    });
    if let Ok(network) = session.call(Network {}).await
        && let Some(why) = network.uncertified
    {
        checks.push(Check::warn(
            "certificate",
            format!("the network's witness did not certify this node's chain: {why}"),
            "what waits for a receipt or repayment on its way passes by itself; anything else, tell the \
             witness's operator",
        ));
    }
    if let Some(reason) = &status.frozen {
        let way_out = "the owner lifts it: 'tirami-agent unfreeze'";
        checks.push(Check::warn(
            "freeze",
            format!("spending is frozen: {reason}"),
            way_out,
        ));
    }
    let running = running.then_some(status);
    checks.push(http_port(settings, running));
    checks.push(mesh_port(settings, running));
}

fn owner(session: &Session, status: &StatusOutput) -> Check {
    let key = data_dir::owner_key(session.data_dir());
    match status.owner {
        None => Check::warn(
            "owner",
            "none: the default limits hold, nobody can loosen them or lift a freeze, and whoever \
             makes an owner first owns the node",
            "run 'tirami-agent owner init'",
        ),
        Some(_) if !key.exists() => Check::warn(
            "owner",
            format!("set, but {} is not here", key.display()),
            "put the key back before limits have to be loosened or a freeze lifted",
        ),
        Some(id) => Check::ok("owner", id.to_string()),
    }
}

/// Whether the node's key is under a passphrase.
fn passphrase(dir: &Path) -> Check {
    match keys::is_protected(dir) {
        Ok(true) => Check::ok("passphrase", "the node's key is under one"),
        Ok(false) => Check::ok(
            "passphrase",
            "none: whoever reads node.key is this node; 'tirami-agent key protect' puts it under one",
        ),
        Err(failure) => Check::of("passphrase", failure.into()),
    }
}

/// The key that may succeed the node's.
fn successor(dir: &Path, named: &str) -> Check {
    let key = data_dir::successor_key(dir);
    match (named, key.exists()) {
        ("never", _) => Check::ok(
            "successor",
            "none: the chain began without one, so the node's key cannot be changed",
        ),
        (_, true) => Check::ok(
            "successor",
            format!(
                "{}: whoever steals this directory has it too; keep it elsewhere and give it to \
                 'tirami-agent key rotate --successor FILE'",
                key.display()
            ),
        ),
        (_, false) => Check::ok("successor", "named, and its key is kept elsewhere"),
    }
}

/// A file that only its user may read.
fn secret(name: &'static str, path: &Path) -> Check {
    match std::fs::metadata(path) {
        Ok(about) if is_exposed(&about) => Check::fail(
            name,
            format!("{} can be read by others", path.display()),
            Some(format!("run: chmod 600 {}", path.display())),
        ),
        Ok(_) => Check::ok(name, path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Check::warn(
            name,
            format!("{} is not there yet", path.display()),
            "the next start makes it",
        ),
        Err(error) => Check::fail(name, format!("{}: {error}", path.display()), None),
    }
}

#[cfg(unix)]
fn is_exposed(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::mode(about) & 0o077 != 0
}

#[cfg(not(unix))]
fn is_exposed(_: &std::fs::Metadata) -> bool {
    false
}

fn model(model: Option<&ModelSource>) -> Check {
    match model {
        None => Check::ok("model", "none: this node only buys"),
        Some(ModelSource::Echo) => Check::ok("model", "echo"),
        Some(ModelSource::Sprout | ModelSource::File(_)) if !cfg!(feature = "llama") => {
            Check::fail(
                "model",
                "this program was built without llama.cpp",
                Some(
                    "use --model echo or --no-local, or build with the feature 'llama'".to_owned(),
                ),
            )
        }
        Some(ModelSource::Sprout) => Check::ok("model", "sprout, inside this program"),
        Some(ModelSource::File(path)) => model_file(path),
    }
}

fn model_file(path: &Path) -> Check {
    let way_out = || Some("name a GGUF file with --model or in the config file".to_owned());
    let mut magic = [0; GGUF_MAGIC.len()];
    match std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if &magic == GGUF_MAGIC => Check::ok(
            "model",
            format!("{} begins as a GGUF file does", path.display()),
        ),
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => {
            Check::fail("model", format!("{}: {error}", path.display()), way_out())
        }
        _ => Check::fail(
            "model",
            format!("{} is not a GGUF file", path.display()),
            way_out(),
        ),
    }
}

fn http_port(settings: &Settings, running: Option<&StatusOutput>) -> Check {
    let Listen::At(address) = settings.listen else {
        return Check::ok("HTTP", "off");
    };
    if let Some(http) = running.and_then(|status| status.http.as_deref()) {
        return Check::ok("HTTP", format!("served at {http}"));
    }
    match std::net::TcpListener::bind(address) {
        Ok(_) => Check::ok("HTTP", format!("{address} is free")),
        Err(error) => Check::warn(
            "HTTP",
            format!("{address}: {error}"),
            "choose another for 'tirami-agent up' with --listen, or --listen off",
        ),
    }
}

fn mesh_port(settings: &Settings, running: Option<&StatusOutput>) -> Check {
    let address = settings.node.mesh_listen;
    if let Some(status) = running {
        return Check::ok(
            "mesh",
            format!("reached at {}", status.addresses.join(", ")),
        );
    }
    match std::net::UdpSocket::bind(address) {
        Ok(_) => Check::ok("mesh", format!("{address} is free")),
        Err(error) => Check::warn(
            "mesh",
            format!("{address}: {error}"),
            "choose another --mesh-listen",
        ),
    }
}

fn clock() -> Check {
    let now = super::clock::now();
    if SANE_MS.contains(&now.ms()) {
        return Check::ok("clock", now.to_rfc3339());
    }
    let what = format!("it says {}", now.to_rfc3339());
    Check::fail(
        "clock",
        what,
        Some("set the clock: quotes and receipts carry times".to_owned()),
    )
}

/// Whether a crash could write keys to a file.
fn core_dumps() -> Check {
    if secrets::are_kept_out_of_dumps() {
        return Check::ok("core dumps", "none are written of this program");
    }
    Check::warn(
        "core dumps",
        "a crash may write this program's memory, keys included, to a file",
        "run: ulimit -c 0",
    )
}

/// llama.cpp computes with OpenMP, which is linked into this program where it can be.
fn openmp() -> Check {
    if !cfg!(feature = "llama") {
        return Check::ok("OpenMP", "not needed");
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let shared = maps
        .lines()
        .find(|line| line.contains("libgomp") || line.contains("libomp"));
    match shared.and_then(|line| line.split_whitespace().last()) {
        Some(path) => Check::ok("OpenMP", format!("shared, from {path}")),
        None => Check::ok("OpenMP", "inside this program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_model_is_told_apart_from_a_missing_one() {
        let dir = tempfile::tempdir().unwrap();
        let (text, short) = (dir.path().join("text"), dir.path().join("short"));
        std::fs::write(&text, "not a model").unwrap();
        std::fs::write(&short, "G").unwrap();
        for path in [text, short] {
            let check = model_file(&path);
            assert_eq!(check.state, State::Fail);
            assert!(check.what.contains("not a GGUF file"), "{check:?}");
        }
        let missing = model_file(&dir.path().join("missing"));
        assert!(
            missing.state == State::Fail && !missing.what.contains("GGUF"),
            "{missing:?}"
        );
        let real = dir.path().join("real");
        std::fs::write(&real, "GGUF....").unwrap();
        assert_eq!(model_file(&real).state, State::Ok);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_fails_and_says_how_to_mend_it() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let check = secret("node key", file.path());
        assert!(check.state == State::Fail && check.way_out.unwrap().contains("chmod 600"));
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret("node key", file.path()).state, State::Ok);
    }
}
