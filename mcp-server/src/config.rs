//! Flags, environment and config file become one checked struct.
//!
//! A flag or its environment variable wins over the file, and the file over the default. An unknown
//! key in the file is refused, so that a misspelt limit is not silently the default.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use tirami_agent_runtime::privacy::Privacy;
use tirami_agent_runtime::{ModelSource, NodeConfig, PeerAddr, Relay};
use tirami_manifest::{Amount, Multiplier, NodeId};

/// Where HTTP listens unless told otherwise. Chosen: loopback, and a port few programs use.
pub const HTTP_LISTEN: &str = "127.0.0.1:8474";

/// Longest time a hold may live without a sign of life, in seconds; chosen: a day.
pub const HOLD_TIMEOUT_SECONDS_MAX: u64 = 86_400;

/// Name of the config file in the data directory.
pub const CONFIG_FILE: &str = "config.toml";

/// Largest config file that is read; chosen.
const CONFIG_MAX: u64 = 64 * 1_024;

/// What is wrong with the config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no place for the data directory.
    #[error("neither XDG_DATA_HOME nor HOME says where data belongs; give --data-dir")]
    NoHome,
    /// The file could not be read.
    #[error("the config file {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something it cannot say.
    #[error("the config file {path}: {what}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the key.
        what: String,
    },
}

/// Where HTTP listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| {
            format!("'{text}' is not an address; write one such as {HTTP_LISTEN}, or 'off'")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// How much is logged, to standard error. Prompts, answers and keys never are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What somebody should look at.
    #[default]
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The filter for our own crates; everybody else's are kept at warnings, because some log what
    /// passes through them.
    pub fn filter(self) -> String {
        let (ours, others) = match self {
            Self::Off => ("off", "off"),
            Self::Error => ("error", "error"),
            Self::Warn => ("warn", "error"),
            Self::Info => ("info", "warn"),
            Self::Debug => ("debug", "warn"),
            Self::Trace => ("trace", "warn"),
        };
        format!(
            "{others},tirami_mcp_server={ours},tirami_agent={ours},tirami_agent_runtime={ours},\
             tirami_wallet={ours},tirami_mesh={ours}"
        )
    }
}

/// The config file. Every key is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// Where HTTP listens: an address, or `off`.
    #[serde(default, deserialize_with = "listen")]
    pub listen: Option<Listen>,
    /// Where other nodes reach this one.
    pub mesh_listen: Option<SocketAddr>,
    /// The model to sell: `sprout`, `echo` or a path, relative to the config file.
    pub model: Option<String>,
    /// True for a node that only buys.
    pub no_local: Option<bool>,
    /// Price relative to par in parts per million.
    pub price_ppm: Option<u32>,
    /// How long a hold lives without a sign of life.
    pub hold_timeout_seconds: Option<u64>,
    /// What is accepted in any 24 hours from payers that no witness stands behind.
    pub stranger_budget_trm: Option<Amount>,
    /// Nodes to look for beside those that were met: node id, `@`, address.
    #[serde(default, deserialize_with = "peers")]
    pub peers: Vec<PeerAddr>,
    /// Nodes of the same owner: ids.
    #[serde(default)]
    pub own_nodes: Vec<NodeId>,
    /// Who may see a prompt at most: `local`, `own`, `any`, or node ids.
    #[serde(default)]
    pub privacy: Privacy,
    /// A relay for what finds no straight way: `http://` or `https://`, name, port.
    #[serde(default, deserialize_with = "relay")]
    pub relay: Option<Relay>,
    /// Name of the network the node founds when it belongs to none.
    pub network_name: Option<String>,
    /// Where the passphrase of the node's key is, relative to the config file.
    pub key_passphrase_file: Option<PathBuf>,
    /// How much is logged.
    pub log: Option<LogLevel>,
}

fn listen<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Listen>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn peers<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<PeerAddr>, D::Error> {
    Vec::<String>::deserialize(from)?
        .iter()
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

fn relay<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Relay>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl ConfigFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Read`] and [`ConfigError::Invalid`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        use std::io::Read;
        let failed = |source| ConfigError::Read {
            path: path.into(),
            source,
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(CONFIG_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(&text).map_err(|what| ConfigError::Invalid {
            path: path.into(),
            what,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if file.price_ppm == Some(0) {
            return Err("price_ppm is 0; it must be 1 or more: free work is not traded".to_owned());
        }
        if let Some(seconds) = file.hold_timeout_seconds
            && !(1..=HOLD_TIMEOUT_SECONDS_MAX).contains(&seconds)
        {
            return Err(format!(
                "hold_timeout_seconds is {seconds}; it must be 1 to {HOLD_TIMEOUT_SECONDS_MAX}"
            ));
        }
        if file.no_local == Some(true) && file.model.is_some() {
            return Err("model and no_local = true exclude each other".to_owned());
        }
        Ok(file)
    }
}

/// What flags and environment say; each wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<Listen>,
    /// `--mesh-listen`.
    pub mesh_listen: Option<SocketAddr>,
    /// `--relay`.
    pub relay: Option<Relay>,
    /// `--no-local`.
    pub no_local: bool,
    /// `--model`.
    pub model: Option<ModelSource>,
    /// `--price`.
    pub price_ppm: Option<u32>,
    /// `--hold-timeout`.
    pub hold_timeout_seconds: Option<u64>,
    /// `--stranger-budget`.
    pub stranger_budget: Option<Amount>,
    /// `--key-passphrase-file`.
    pub key_passphrase_file: Option<PathBuf>,
}

/// Everything a command needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where HTTP listens.
    pub listen: Listen,
    /// How much is logged.
    pub log: LogLevel,
    /// What the node is started with.
    pub node: NodeConfig,
    /// Where the passphrase of the node's key is, when it is under one.
    pub key_passphrase_file: Option<PathBuf>,
}

impl Settings {
    /// Reads the config file, when there is one, and lets `overrides` win.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the file and the key.
    pub fn load(
        data_dir: PathBuf,
        config: Option<&Path>,
        overrides: Overrides,
    ) -> Result<Self, ConfigError> {
        let default = data_dir.join(CONFIG_FILE);
        let path = config.unwrap_or(&default);
        let file = match ConfigFile::read(path) {
            Err(ConfigError::Read { source, .. })
                if config.is_none() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                ConfigFile::default()
            }
            other => other?,
        };
        Ok(Self::merge(data_dir, path, file, overrides))
    }

    fn merge(data_dir: PathBuf, path: &Path, file: ConfigFile, overrides: Overrides) -> Self {
        let mut node = NodeConfig::new(data_dir);
        if let Some(address) = overrides.mesh_listen.or(file.mesh_listen) {
            node.mesh_listen = address;
        }
        let from_file = file.model.map(|text| relative(path, source(&text)));
        if let Some(model) = overrides.model.or(from_file) {
            node.model = Some(model);
        } else if overrides.no_local || file.no_local == Some(true) {
            node.model = None;
        }
        if overrides.no_local {
            node.model = None;
        }
        if let Some(ppm) = overrides.price_ppm.or(file.price_ppm) {
            node.multiplier = Some(Multiplier::from_ppm(ppm));
        }
        if let Some(seconds) = overrides.hold_timeout_seconds.or(file.hold_timeout_seconds) {
            node.hold_timeout_ms = seconds.saturating_mul(1_000);
        }
        if let Some(budget) = overrides.stranger_budget.or(file.stranger_budget_trm) {
            node.stranger_budget = budget;
        }
        node.peers = file.peers;
        node.own_nodes = file.own_nodes;
        node.privacy = file.privacy;
        node.relay = overrides.relay.or(file.relay);
        if let Some(name) = file.network_name {
            node.network_name = name;
        }
        let default = || HTTP_LISTEN.parse().unwrap_or(Listen::Off);
        let beside = path.parent().unwrap_or(Path::new(""));
        let from_file = file.key_passphrase_file.map(|file| beside.join(file));
        Self {
            listen: overrides.listen.or(file.listen).unwrap_or_else(default),
            log: file.log.unwrap_or_default(),
            node,
            key_passphrase_file: overrides.key_passphrase_file.or(from_file),
        }
    }
}

/// The model a text names.
pub fn source(text: &str) -> ModelSource {
    match text.parse() {
        Ok(source) => source,
        Err(never) => match never {},
    }
}

/// A model's path in a config file starts where the file is.
fn relative(config: &Path, model: ModelSource) -> ModelSource {
    match model {
        ModelSource::File(path) => {
            ModelSource::File(config.parent().unwrap_or(Path::new(".")).join(path))
        }
        other => other,
    }
}

/// The data directory when no flag names one: `$XDG_DATA_HOME/tirami`, else
/// `$HOME/.local/share/tirami`.
///
/// # Errors
///
/// [`ConfigError::NoHome`].
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("tirami"))
        .ok_or(ConfigError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = ConfigFile::parse("price_pmm = 5").unwrap_err();
        assert!(error.contains("price_pmm"), "{error}");
    }

    #[test]
    fn values_that_cannot_be_are_refused_by_key() {
        for (text, key) in [
            ("listen = \"nowhere\"", "listen"),
            ("mesh_listen = 5", "mesh_listen"),
            ("price_ppm = -1", "price_ppm"),
            ("price_ppm = 0", "price_ppm"),
            ("hold_timeout_seconds = 0", "hold_timeout_seconds"),
            ("peers = [\"somewhere\"]", "'somewhere' is no peer"),
            (
                "relay = \"relay.example:3340\"",
                "'relay.example:3340' is no relay",
            ),
            ("stranger_budget_trm = \"-1\"", "stranger_budget_trm"),
            ("no_local = true\nmodel = \"echo\"", "no_local"),
            ("log = \"loud\"", "log"),
        ] {
            let error = ConfigFile::parse(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text = "listen = \"off\"\nmodel = \"m.gguf\"\nprice_ppm = 7\nhold_timeout_seconds = 3";
        let file = ConfigFile::parse(text).unwrap();
        let path = Path::new("/etc/tirami/config.toml");
        let plain = Settings::merge("/d".into(), path, file.clone(), Overrides::default());
        assert_eq!(plain.listen, Listen::Off);
        assert_eq!(
            plain.node.model,
            Some(ModelSource::File("/etc/tirami/m.gguf".into()))
        );
        assert_eq!(
            (
                plain.node.multiplier.map(Multiplier::ppm),
                plain.node.hold_timeout_ms,
            ),
            (Some(7), 3_000)
        );
        let flags = Overrides {
            listen: Some("127.0.0.1:1".parse().unwrap()),
            no_local: true,
            price_ppm: Some(9),
            ..Overrides::default()
        };
        let flagged = Settings::merge("/d".into(), path, file, flags);
        assert_eq!(flagged.listen.to_string(), "127.0.0.1:1");
        assert_eq!(
            (
                flagged.node.model,
                flagged.node.multiplier.map(Multiplier::ppm),
            ),
            (None, Some(9))
        );
        let empty = Settings::merge(
            "/d".into(),
            path,
            ConfigFile::default(),
            Overrides::default(),
        );
        assert_eq!(empty.listen.to_string(), HTTP_LISTEN);
        assert_eq!(empty.node.model, Some(ModelSource::Sprout));
    }
}
