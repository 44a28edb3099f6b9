//! Reads what a GGUF file says about itself, without loading its weights.
//!
//! Versions 2 and 3 of the format (ggml's `docs/gguf.md`): header, key-value pairs, tensor table. Only
//! what prices and prompts need is kept. Files come from anywhere, so every length is checked against
//! what is left of the file and against a bound before anything is allocated.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use tirami_manifest::ModelId;
use tirami_manifest::model::ModelCard;

/// Most key-value pairs. Chosen: real files have about thirty.
const KEYS_MAX: u64 = 4_096;
/// Most tensors. Chosen: the largest known files have some thousands.
const TENSORS_MAX: u64 = 65_536;
/// Longest name of a key or a tensor, in bytes. Chosen.
const NAME_MAX: u64 = 256;
/// Longest text that is kept, in bytes. Chosen: chat templates reach tens of thousands.
const TEXT_MAX: u64 = 1 << 20;
/// Longest array of numbers that is kept: one for each layer. Chosen.
const ARRAY_MAX: u64 = 4_096;
/// Most dimensions of a tensor (`GGML_MAX_DIMS`).
const DIMS_MAX: u32 = 4;
/// Where tensor data starts, unless the file says otherwise (`GGUF_DEFAULT_ALIGNMENT`).
const ALIGNMENT: u64 = 32;

/// Architectures whose every layer is plain softmax attention over all positions, or over one sliding
/// window, and whose tensors are named as llama.cpp names them.
const KNOWN: &[&str] = &[
    "apertus",
    "arcee",
    "baichuan",
    "bailingmoe",
    "codeshell",
    "command-r",
    "dbrx",
    "ernie4_5",
    "ernie4_5-moe",
    "exaone",
    "falcon",
    "gemma",
    "gemma2",
    "gemma3",
    "glm4",
    "glm4moe",
    "gpt2",
    "gptneox",
    "granite",
    "granitemoe",
    "internlm2",
    "llama",
    "mistral3",
    "mpt",
    "nemotron",
    "olmo",
    "olmo2",
    "olmoe",
    "orion",
    "phi2",
    "phi3",
    "phimoe",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "refact",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder",
    "starcoder2",
    "xverse",
];

/// Why a file is not a model that can be priced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Another kind of file.
    #[error("not a GGUF file: it starts with {found}")]
    NotGguf {
        /// Its first bytes, readable.
        found: String,
    },
    /// A version that is not read here.
    #[error("GGUF version {0} is not supported; versions 2 and 3 are, in little-endian order")]
    Version(u32),
    /// The file ends too early.
    #[error("the GGUF file is truncated: {0} goes past its end")]
    Truncated(String),
    /// The file contradicts itself or a bound.
    #[error("the GGUF file is damaged or unusual: {0}")]
    Damaged(String),
    /// Something that is needed is not there.
    #[error("the GGUF file has no {0}")]
    Missing(String),
    /// One of several files.
    #[error(
        "the model is split over {0} GGUF files; join them with llama-gguf-split --merge first"
    )]
    Split(u64),
    /// Reading failed.
    #[error("the GGUF file cannot be read")]
    Io(#[source] io::Error),
}

/// One line of the tensor table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Its dimensions, fastest first, as many as the file gives.
    pub dims: Vec<u64>,
    /// The number of its type (`ggml_type`).
    pub kind: u32,
    /// Where its data starts, after the start of all data.
    offset: u64,
    elements: u64,
}

/// The head of a GGUF file.
#[derive(Clone, Debug, Default)]
pub struct Gguf {
    numbers: BTreeMap<String, u64>,
    arrays: BTreeMap<String, Vec<u64>>,
    texts: BTreeMap<String, String>,
    /// Start and length of the vocabulary's texts.
    vocabulary: Option<(u64, u64)>,
    tensors: Vec<Tensor>,
    bos: String,
    eos: String,
}

impl Gguf {
    /// Reads the head of a file of `len` bytes.
    ///
    /// # Errors
    ///
    /// See [`GgufError`]; the file is then not usable as a model.
    pub fn read(source: &mut (impl Read + Seek), len: u64) -> Result<Self, GgufError> {
        let mut from = Source {
            inner: source,
            len,
            at: 0,
        };
        from.inner.rewind().map_err(GgufError::Io)?;
        let (tensors, keys) = from.header()?;
        let mut gguf = Self::default();
        for _ in 0..keys {
            gguf.read_pair(&mut from)?;
        }
        for _ in 0..tensors {
            gguf.tensors.push(from.tensor()?);
        }
        gguf.check_data(from.at, len)?;
        if let Some(files) = gguf.numbers.get("split.count").filter(|n| **n > 1) {
            return Err(GgufError::Split(*files));
        }
        gguf.bos = gguf.special(&mut from, "tokenizer.ggml.bos_token_id")?;
        gguf.eos = gguf.special(&mut from, "tokenizer.ggml.eos_token_id")?;
        Ok(gguf)
    }

    fn read_pair<R: Read + Seek>(&mut self, from: &mut Source<'_, R>) -> Result<(), GgufError> {
        let key = from.text(NAME_MAX, "a key")?;
        let kind = from.u32("the type of a value")?;
        match kind {
            kind::STRING => {
                let len = from.u64("the length of a text")?;
                if len <= TEXT_MAX {
                    let text = from.bytes(len, &key)?;
                    let text = String::from_utf8_lossy(&text).into_owned();
                    self.texts.insert(key, text);
                } else {
                    from.skip(len, &key)?;
                }
            }
            kind::ARRAY => {
                let kind = from.u32("the type of an array")?;
                let count = from.u64("the length of an array")?;
                let start = from.at;
                if kind == kind::STRING {
                    if key == "tokenizer.ggml.tokens" {
                        self.vocabulary = Some((start, count));
                    }
                    for _ in 0..count {
                        from.skip_text(&key)?;
                    }
                } else if count <= ARRAY_MAX && kind::is_integer(kind) {
                    let numbers = (0..count)
                        .map(|_| from.number(kind, &key).map(Option::unwrap_or_default))
                        .collect::<Result<_, _>>()?;
                    self.arrays.insert(key, numbers);
                } else {
                    let size = kind::size(kind).ok_or_else(|| unknown_kind(kind, &key))?;
                    from.skip(count.saturating_mul(size), &key)?;
                }
            }
            kind => {
                if let Some(number) = from.number(kind, &key)? {
                    self.numbers.insert(key, number);
                }
            }
        }
        Ok(())
    }

    /// The text of the token whose id stands at `key`; nothing when there is none.
    fn special<R: Read + Seek>(
        &self,
        from: &mut Source<'_, R>,
        key: &str,
    ) -> Result<String, GgufError> {
        let (Some(id), Some((start, count))) = (self.numbers.get(key), self.vocabulary) else {
            return Ok(String::new());
        };
        if *id >= count {
            return Err(GgufError::Damaged(format!(
                "{key} is {id} of {count} tokens"
            )));
        }
        from.seek(start)?;
        for _ in 0..*id {
            from.skip_text("a token")?;
        }
        from.text(TEXT_MAX, "a token")
    }

    /// All data lies inside the file.
    fn check_data(&self, head: u64, len: u64) -> Result<(), GgufError> {
        let alignment = self.numbers.get("general.alignment").copied();
        let alignment = alignment.filter(|a| *a > 0).unwrap_or(ALIGNMENT);
        let start = head.div_ceil(alignment).saturating_mul(alignment);
        for tensor in &self.tensors {
            let size = kind::tensor_size(tensor.kind, tensor.elements).unwrap_or(0);
            let end = start.saturating_add(tensor.offset).saturating_add(size);
            if end > len {
                return Err(GgufError::Truncated(format!("tensor {}", tensor.name)));
            }
        }
        Ok(())
    }

    /// The name of its architecture, such as `llama`.
    ///
    /// # Errors
    ///
    /// [`GgufError::Missing`].
    pub fn architecture(&self) -> Result<&str, GgufError> {
        self.text("general.architecture")
            .ok_or_else(|| GgufError::Missing("general.architecture".to_owned()))
    }

    /// A text of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.texts.get(key).map(String::as_str)
    }

    /// The texts of the tokens that begin and end a sequence; empty where there is none.
    pub fn sequence_tokens(&self) -> (&str, &str) {
        (&self.bos, &self.eos)
    }

    /// The tensor table.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Elements of all tensors.
    pub fn parameters(&self) -> u64 {
        let elements = self.tensors.iter().map(|tensor| tensor.elements);
        elements.fold(0, u64::saturating_add)
    }

    /// A whole number of this architecture.
    fn number(&self, key: &str) -> Result<Option<u64>, GgufError> {
        let key = format!("{}.{key}", self.architecture()?);
        Ok(self.numbers.get(&key).copied())
    }

    /// The figures that decide the price of a job on this model.
    ///
    /// # Errors
    ///
    /// [`GgufError::Missing`] and [`GgufError::Damaged`] when they cannot be known.
    pub fn card(&self, id: ModelId) -> Result<ModelCard, GgufError> {
        let narrow = |key: &str, number: u64| {
            u32::try_from(number).map_err(|_| GgufError::Damaged(format!("{key} is {number}")))
        };
        let context = self
            .number("context_length")?
            .filter(|n| *n > 0)
            .ok_or_else(|| GgufError::Missing("context length".to_owned()))?;
        let window = self.number("attention.sliding_window")?.unwrap_or(0);
        let head = self
            .tensor("output.weight")
            .or_else(|| self.tensor("token_embd.weight"))
            .ok_or_else(|| GgufError::Missing("output matrix".to_owned()))?;
        let block_weights = self.block_weights()?;
        if block_weights == 0 || head.elements == 0 {
            return Err(GgufError::Missing("weights".to_owned()));
        }
        Ok(ModelCard {
            id,
            block_weights,
            head_weights: head.elements,
            attention_flop: self.attention_flop()?,
            window: narrow("the sliding window", window)?,
            context: narrow("the context length", context)?,
        })
    }

    fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Elements of the blocks' matrices. Of experts those count that one token uses; norms, biases
    /// and other vectors do not.
    fn block_weights(&self) -> Result<u64, GgufError> {
        let used = self.number("expert_used_count")?;
        let mut sum = 0_u64;
        for tensor in &self.tensors {
            let name = tensor.name.as_str();
            if !name.starts_with("blk.") || !name.ends_with(".weight") || name.contains("_norm") {
                continue;
            }
            let weights = match tensor.dims.as_slice() {
                [rows, columns, experts] if name.contains("_exps.") => rows
                    .saturating_mul(*columns)
                    .saturating_mul(used.unwrap_or(*experts).min(*experts)),
                [_, _] | [_, _, _] => tensor.elements,
                _ => 0,
            };
            sum = sum
                .checked_add(weights)
                .ok_or_else(|| GgufError::Damaged("more than 2^64 weights".to_owned()))?;
        }
        Ok(sum)
    }

    /// FLOP per token and attended position: for each layer two for each element of all heads' keys,
    /// and two for each of their values. From the shapes of what makes queries and takes values; from
    /// the metadata where those are fused. Nothing for an architecture we do not know.
    fn attention_flop(&self) -> Result<u64, GgufError> {
        let architecture = self.architecture()?;
        if !KNOWN.contains(&architecture) {
            return Ok(0);
        }
        let layers = self
            .number("block_count")?
            .ok_or_else(|| GgufError::Missing("block count".to_owned()))?;
        if layers > ARRAY_MAX {
            return Err(GgufError::Damaged(format!("{layers} layers")));
        }
        let shapes: BTreeMap<&str, &[u64]> = self
            .tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.dims.as_slice()))
            .collect();
        let heads_key = format!("{architecture}.attention.head_count");
        let width = self.number("embedding_length")?.unwrap_or(0);
        let mut flop = 0_u64;
        for layer in 0..layers {
            let query = shapes.get(format!("blk.{layer}.attn_q.weight").as_str());
            let output = shapes.get(format!("blk.{layer}.attn_output.weight").as_str());
            let heads = usize::try_from(layer)
                .ok()
                .and_then(|layer| self.arrays.get(&heads_key)?.get(layer))
                .or_else(|| self.numbers.get(&heads_key))
                .copied()
                .unwrap_or(0);
            let per_head = width.checked_div(heads).unwrap_or(0);
            let keys = if let Some([_, keys]) = query {
                *keys
            } else {
                let length = self.number("attention.key_length")?;
                heads.saturating_mul(length.unwrap_or(per_head))
            };
            let values = if let Some([values, _]) = output {
                *values
            } else {
                let length = self.number("attention.value_length")?;
                heads.saturating_mul(length.unwrap_or(per_head))
            };
            flop = flop.saturating_add(keys.saturating_add(values).saturating_mul(2));
        }
        Ok(flop)
    }
}

fn unknown_kind(kind: u32, what: &str) -> GgufError {
    GgufError::Damaged(format!("{what} has unknown type {kind}"))
}

/// Numbers of types.
mod kind {
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;

    /// Bytes of a metadata value of fixed size.
    pub(super) const fn size(kind: u32) -> Option<u64> {
        match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            _ => None,
        }
    }

    /// True for all but the two floats.
    pub(super) const fn is_integer(kind: u32) -> bool {
        size(kind).is_some() && kind != 6 && kind != 12
    }

    pub(super) const fn is_signed(kind: u32) -> bool {
        matches!(kind, 1 | 3 | 5 | 11)
    }

    /// Bytes of tensor data, rounded down to whole blocks; `None` for types not listed here. From
    /// `type_traits` in ggml.c: elements and bytes of one block.
    pub(super) fn tensor_size(kind: u32, elements: u64) -> Option<u64> {
        let (per_block, bytes) = match kind {
            24 => (1, 1),
            1 | 25 | 30 => (1, 2),
            0 | 26 => (1, 4),
            27 | 28 => (1, 8),
            2 | 20 => (32, 18),
            3 => (32, 20),
            6 => (32, 22),
            7 => (32, 24),
            8 => (32, 34),
            9 => (32, 36),
            10 => (256, 84),
            11 | 21 => (256, 110),
            12 => (256, 144),
            13 => (256, 176),
            14 => (256, 210),
            15 => (256, 292),
            16 | 35 => (256, 66),
            17 => (256, 74),
            18 => (256, 98),
            19 => (256, 50),
            22 => (256, 82),
            23 => (256, 136),
            29 => (256, 56),
            34 => (256, 54),
            39 => (32, 17),
            _ => return None,
        };
        Some((elements / per_block).saturating_mul(bytes))
    }
}

/// A reader that knows how much is left.
struct Source<'a, R> {
    inner: &'a mut R,
    len: u64,
    at: u64,
}

impl<R: Read + Seek> Source<'_, R> {
    /// Counts `len` bytes as read, if the file has them.
    fn advance(&mut self, len: u64, what: &str) -> Result<(), GgufError> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.len);
        self.at = end.ok_or_else(|| GgufError::Truncated(what.to_owned()))?;
        Ok(())
    }

    fn exact<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.advance(u64::try_from(N).unwrap_or(u64::MAX), what)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(GgufError::Io)?;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.exact(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.exact(what).map(u64::from_le_bytes)
    }

    /// The caller has bounded `len`.
    fn bytes(&mut self, len: u64, what: &str) -> Result<Vec<u8>, GgufError> {
        self.advance(len, what)?;
        let mut bytes = Vec::new();
        let read = self.inner.by_ref().take(len).read_to_end(&mut bytes);
        if u64::try_from(read.map_err(GgufError::Io)?) != Ok(len) {
            return Err(GgufError::Truncated(what.to_owned()));
        }
        Ok(bytes)
    }

    fn text(&mut self, max: u64, what: &str) -> Result<String, GgufError> {
        let len = self.u64(what)?;
        if len > max {
            return Err(GgufError::Damaged(format!("{what} has {len} bytes")));
        }
        let bytes = self.bytes(len, what)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip_text(&mut self, what: &str) -> Result<(), GgufError> {
        let len = self.u64(what)?;
        self.skip(len, what)
    }

    fn skip(&mut self, len: u64, what: &str) -> Result<(), GgufError> {
        self.advance(len, what)?;
        let step = i64::try_from(len).map_err(|_| GgufError::Truncated(what.to_owned()))?;
        self.inner.seek_relative(step).map_err(GgufError::Io)
    }

    fn seek(&mut self, at: u64) -> Result<(), GgufError> {
        self.inner
            .seek(SeekFrom::Start(at))
            .map_err(GgufError::Io)?;
        self.at = at;
        Ok(())
    }

    /// A value of fixed size; `None` unless it is a whole number, zero or more.
    fn number(&mut self, kind: u32, what: &str) -> Result<Option<u64>, GgufError> {
        let size = kind::size(kind).ok_or_else(|| unknown_kind(kind, what))?;
        let mut bytes = [0_u8; 8];
        let read = self.bytes(size, what)?;
        for (to, from) in bytes.iter_mut().zip(&read) {
            *to = *from;
        }
        let negative = kind::is_signed(kind) && read.last().is_some_and(|byte| *byte >= 0x80);
        let whole = kind::is_integer(kind) && !negative;
        Ok(whole.then(|| u64::from_le_bytes(bytes)))
    }

    /// Counts of tensors and keys.
    fn header(&mut self) -> Result<(u64, u64), GgufError> {
        let mut start = Vec::new();
        let read = self.inner.by_ref().take(8).read_to_end(&mut start);
        read.map_err(GgufError::Io)?;
        if !start.starts_with(b"GGUF") {
            return Err(GgufError::NotGguf {
                found: shown(&start),
            });
        }
        self.seek(4)?;
        let version = self.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = self.u64("the count of tensors")?;
        let keys = self.u64("the count of keys")?;
        if tensors > TENSORS_MAX || keys > KEYS_MAX {
            return Err(GgufError::Damaged(format!(
                "it claims {tensors} tensors and {keys} keys"
            )));
        }
        Ok((tensors, keys))
    }

    fn tensor(&mut self) -> Result<Tensor, GgufError> {
        let name = self.text(NAME_MAX, "the name of a tensor")?;
        let count = self.u32(&name)?;
        if !(1..=DIMS_MAX).contains(&count) {
            return Err(GgufError::Damaged(format!("{name} has {count} dimensions")));
        }
        let dims = (0..count)
            .map(|_| self.u64(&name))
            .collect::<Result<Vec<_>, _>>()?;
        let elements = dims
            .iter()
            .try_fold(1_u64, |product, dim| product.checked_mul(*dim))
            .ok_or_else(|| GgufError::Damaged(format!("{name} has more than 2^64 elements")))?;
        Ok(Tensor {
            kind: self.u32(&name)?,
            offset: self.u64(&name)?,
            name,
            dims,
            elements,
        })
    }
}

/// The first bytes of a file, for people.
fn shown(start: &[u8]) -> String {
    if start.is_empty() {
        "nothing, it is empty".to_owned()
    } else {
        format!("\"{}\"", start.escape_ascii())
    }
}

#[cfg(test)]
mod tests;
