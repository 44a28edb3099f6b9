//! Which model to run, and where it comes from.
//!
//! Three kinds: `sprout`, a small chat model inside this program; `echo`, which needs no model; and any
//! GGUF file. Here is what a person can say and what is wrong with it; how tokens are made is in
//! [`crate::engine`].

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::echo::Echo;
use crate::engine::gguf::GgufError;

/// A choice of model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The model inside this program.
    Sprout,
    /// No model: the question comes back.
    Echo,
    /// A GGUF file.
    File(PathBuf),
}

impl FromStr for Source {
    type Err = Infallible;

    /// `sprout`, `echo`, or else a path; write `./echo` for a file of that name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "sprout" => Self::Sprout,
            "echo" => Self::Echo,
            path => Self::File(PathBuf::from(path)),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sprout => f.write_str("sprout"),
            Self::Echo => f.write_str("echo"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is not there or not readable.
    #[error("the model file {} cannot be read", path.display())]
    Read {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a model that can be run and priced.
    #[error("{model} cannot be used as a model: {reason}")]
    Unusable {
        /// What was asked for.
        model: String,
        /// What is wrong with it.
        reason: GgufError,
    },
    /// This program was built without llama.cpp.
    #[error(
        "{model} needs llama.cpp, and this program was built without it; build it with the feature \
         'llama', or use the model 'echo'"
    )]
    NoLlama {
        /// What was asked for.
        model: String,
    },
}

/// Opens a model. Weights are loaded by the first job, or ahead with [`Engine::preload`]. A file is
/// read once in full, since its id is its SHA-256: a second or two for each GB, during which this
/// call blocks.
///
/// # Errors
///
/// See [`ModelError`]; each names what was asked for.
pub fn open(source: &Source) -> Result<Arc<dyn Engine>, ModelError> {
    match source {
        Source::Echo => Ok(Arc::new(Echo)),
        #[cfg(feature = "llama")]
        Source::Sprout => with_llama::sprout(),
        #[cfg(feature = "llama")]
        Source::File(path) => with_llama::file(path),
        #[cfg(not(feature = "llama"))]
        Source::Sprout | Source::File(_) => Err(ModelError::NoLlama {
            model: source.to_string(),
        }),
    }
}

#[cfg(feature = "llama")]
mod with_llama {
    use std::fs::File;
    use std::io::{BufReader, Read};
    use std::path::Path;
    use std::sync::Arc;

    use sha2::{Digest, Sha256};
    use tirami_manifest::ModelId;

    use super::ModelError;
    use crate::engine::Engine;
    use crate::engine::gguf::{Gguf, GgufError};
    use crate::engine::llama::{CONTEXT_DEFAULT, Llama, Weights};

    /// The model inside this program.
    const SPROUT: &[u8] = include_bytes!("../models/sprout/sprout.gguf");

    /// Its SHA-256 as `sha256sum` writes it; a test compares.
    const SPROUT_SHA256: &str = include_str!("../models/sprout/sprout.gguf.sha256");

    /// Bytes hashed at a time. Chosen.
    const STEP: usize = 1 << 20;

    fn sprout_id() -> Option<ModelId> {
        SPROUT_SHA256.split_whitespace().next()?.parse().ok()
    }

    pub(super) fn sprout() -> Result<Arc<dyn Engine>, ModelError> {
        let id = sprout_id().ok_or_else(|| GgufError::Missing("checksum".to_owned()));
        id.and_then(|id| {
            Llama::new(
                "sprout".to_owned(),
                id,
                Weights::Embedded(SPROUT),
                CONTEXT_DEFAULT,
            )
        })
        .map(|engine| Arc::new(engine) as Arc<dyn Engine>)
        .map_err(|reason| ModelError::Unusable {
            model: "sprout".to_owned(),
            reason,
        })
    }

    pub(super) fn file(path: &Path) -> Result<Arc<dyn Engine>, ModelError> {
        let unreadable = |source| ModelError::Read {
            path: path.to_owned(),
            source,
        };
        let unusable = |reason| ModelError::Unusable {
            model: path.display().to_string(),
            reason,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(unreadable(std::io::Error::other("it is not a file")));
        }
        // Before the long part: is it worth hashing?
        Gguf::read(&mut BufReader::new(&file), about.len()).map_err(unusable)?;
        tracing::info!(path = %path.display(), bytes = about.len(), "computing the id of the model");
        let id = hash(&mut file).map_err(unreadable)?;
        tracing::info!(path = %path.display(), %id, "computed the id of the model");
        let name = path
            .file_stem()
            .map_or("model".into(), |stem| stem.to_string_lossy())
            .into_owned();
        let weights = Weights::File {
            path: path.to_owned(),
            file,
        };
        let engine = Llama::new(name, id, weights, CONTEXT_DEFAULT).map_err(unusable)?;
        Ok(Arc::new(engine))
    }

    fn hash(file: &mut File) -> std::io::Result<ModelId> {
        use std::io::Seek;
        file.rewind()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; STEP];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(ModelId::from_bytes(hash.finalize().into()));
            }
            hash.update(buffer.get(..read).unwrap_or_default());
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_checksum_beside_the_model_is_that_of_its_bytes() {
            let bytes: [u8; 32] = Sha256::digest(SPROUT).into();
            assert_eq!(sprout_id(), Some(ModelId::from_bytes(bytes)));
        }

        #[test]
        fn the_engine_names_the_llama_that_is_linked() {
            let lock = include_str!("../../Cargo.lock");
            let linked = lock.contains("name = \"llama-cpp-2\"\nversion = \"0.1.160\"\n");
            assert!(
                linked,
                "the fingerprint in engine/llama.rs names another version"
            );
        }
    }
}
