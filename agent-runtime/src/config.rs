//! What a node needs to know to start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{PeerAddr, Relay};
use tirami_manifest::{Amount, Multiplier, NodeId};
use tirami_wallet::keystore::Passphrase;

use crate::ModelSource;
use crate::privacy::Privacy;
use crate::selling::LOADAVG;

/// What a node needs to know to start.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where its keys and its wallet are.
    pub data_dir: PathBuf,
    /// Where other nodes reach it. With port 0 the port of the last start is taken again when it is
    /// free.
    pub mesh_listen: SocketAddr,
    /// The model it sells; none for a node that only buys.
    pub model: Option<ModelSource>,
    /// What it asks relative to par; the network's base price when nothing is set.
    pub multiplier: Option<Multiplier>,
    /// How long a hold lives after the last sign of life.
    pub hold_timeout_ms: u64,
    /// What it accepts in any 24 hours from payers that no witness stands behind.
    pub stranger_budget: Amount,
    /// Nodes that it looks for beside those it met.
    pub peers: Vec<PeerAddr>,
    /// Nodes of the same owner, which may see what is kept from others.
    pub own_nodes: Vec<NodeId>,
    /// Who may see a prompt at most; requests may say less.
    pub privacy: Privacy,
    /// A relay for what finds no straight way; its peers must name the same one.
    pub relay: Option<Relay>,
    /// Name of the network it founds when it belongs to none.
    pub network_name: String,
    /// Where the system says how busy the machine is.
    pub load_file: PathBuf,
    /// Where HTTP clients reach it, to be shown in status and manifest.
    pub http: Option<String>,
    /// What opens its key, where that is under a passphrase.
    pub key_passphrase: Option<Arc<Passphrase>>,
}

impl NodeConfig {
    /// Defaults: loopback, the embedded model at the network's base price, holds of 120 s.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            mesh_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            model: Some(ModelSource::Sprout),
            multiplier: None,
            hold_timeout_ms: tirami_wallet::HOLD_TIMEOUT_MS,
            stranger_budget: tirami_wallet::strangers::STRANGER_BUDGET,
            peers: Vec::new(),
            own_nodes: Vec::new(),
            privacy: Privacy::Any,
            relay: None,
            network_name: "private".to_owned(),
            load_file: LOADAVG.into(),
            http: None,
            key_passphrase: None,
        }
    }
}
