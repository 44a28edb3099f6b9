//! What a command works with: where it speaks, its settings, and the node.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tirami_agent_runtime::ops::{Operation, TextSink};
use tirami_agent_runtime::{NodeConfig, data_dir, keys};

use super::Globals;
use super::exit::{Exit, Problem};
use super::output::Output;
use super::passphrase;
use crate::access::{Access, Need};
use crate::config::{CONFIG_FILE, ConfigError, Overrides, Settings, default_data_dir};

/// What a command works with.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) out: Output,
    pub(super) globals: Globals,
}

impl Context {
    pub(super) fn new(globals: Globals) -> Self {
        Self {
            out: Output::new(globals.json).at(globals.data_dir.as_deref()),
            globals,
        }
    }

    /// Where keys and wallet are.
    pub(super) fn data_dir(&self) -> Result<PathBuf, Problem> {
        let dir = match &self.globals.data_dir {
            Some(dir) => dir.clone(),
            None => default_data_dir()?,
        };
        // The socket's and the key's paths must mean the same to every process.
        std::path::absolute(&dir).map_err(|error| Problem::file(&dir, &error))
    }

    /// Where the config file is, or would be.
    pub(super) fn config_path(&self) -> Result<PathBuf, Problem> {
        match &self.globals.config {
            Some(path) => Ok(path.clone()),
            None => Ok(self.data_dir()?.join(CONFIG_FILE)),
        }
    }

    /// The config file with what the command's flags say on top.
    pub(super) fn settings(&self, overrides: Overrides) -> Result<Settings, Problem> {
        let overrides = Overrides {
            key_passphrase_file: self.globals.key_passphrase_file.clone(),
            ..overrides
        };
        let mut settings =
            Settings::load(self.data_dir()?, self.globals.config.as_deref(), overrides)?;
        if let Some(file) = &settings.key_passphrase_file
            && keys::is_protected(&settings.node.data_dir)?
        {
            let passphrase = passphrase::from_file(file, &self.out)?;
            settings.node.key_passphrase = Some(Arc::new(passphrase));
        }
        Ok(settings)
    }

    /// The settings with what opens the node's key, asked for where no file says it.
    pub(super) fn unlocked(&self, config: &NodeConfig) -> Result<NodeConfig, Problem> {
        let mut config = config.clone();
        if config.key_passphrase.is_none() && keys::is_protected(&config.data_dir)? {
            let passphrase = passphrase::of_node_key(self)?;
            config.key_passphrase = Some(Arc::new(passphrase));
        }
        Ok(config)
    }

    /// The node of the data directory, in this process or another.
    pub(super) async fn open(&self, need: Need) -> Result<Session, Problem> {
        self.open_with(&self.settings(Overrides::default())?.node, need)
            .await
    }

    /// The same, started in a certain way when it has to be started.
    pub(super) async fn open_with(
        &self,
        config: &NodeConfig,
        need: Need,
    ) -> Result<Session, Problem> {
        data_dir::prepare(&config.data_dir)?;
        let is_new = !data_dir::node_key(&config.data_dir).exists();
        // Another process that has the node has its key.
        let unlocked = if Access::is_served(config).await {
            config.clone()
        } else {
            self.unlocked(config)?
        };
        let progress = self.out.progress("starting the node");
        let access = Box::pin(Access::open(&unlocked, need)).await;
        drop(progress);
        if is_new && data_dir::node_key(&config.data_dir).exists() {
            // Somebody who meant another directory would take it for theirs, whether or not it started.
            let dir = config.data_dir.display();
            self.out
                .note(&format!("there was no node in {dir}: a new one was made"));
        }
        let access = access?;
        let token = match &self.globals.token {
            Some(token) => token.trim().to_owned(),
            None => data_dir::read_token(&config.data_dir)?,
        };
        Ok(Session {
            access,
            token,
            data_dir: config.data_dir.clone(),
        })
    }

    /// One operation, from opening to closing.
    pub(super) async fn ask<O: Operation + Clone>(
        &self,
        need: Need,
        operation: O,
    ) -> Result<O::Output, Problem> {
        let session = self.open(need).await?;
        let progress = self.out.progress("waiting for the node");
        let answer = session.call(operation).await;
        drop(progress);
        session.close().await;
        answer
    }
}

/// The node, and the token that speaks to it.
pub(super) struct Session {
    pub(super) access: Access,
    pub(super) token: String,
    data_dir: PathBuf,
}

impl Session {
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(super) async fn call<O: Operation + Clone>(
        &self,
        operation: O,
    ) -> Result<O::Output, Problem> {
        Ok(self.access.call(&self.token, operation).await?)
    }

    pub(super) async fn call_streaming<O: Operation + Clone>(
        &self,
        operation: O,
        text: TextSink,
    ) -> Result<O::Output, Problem> {
        Ok(self
            .access
            .call_streaming(&self.token, operation, text)
            .await?)
    }

    pub(super) async fn close(self) {
        self.access.close().await;
    }
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Self {
        let exit = match &error {
            ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Exit::NotFound
            }
            ConfigError::Read { .. } => Exit::Store,
            ConfigError::NoHome | ConfigError::Invalid { .. } => Exit::Usage,
        };
        Self::usage(error.to_string()).exit(exit)
    }
}
