//! A model file with the shape of a small public one, about 135 million weights, and random values: speed
//! depends on the shape, not on what is said.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

const LAYERS: u32 = 30;
const WIDTH: u32 = 576;
const INNER: u32 = 1_536;
const HEADS: u32 = 9;
const KEY_HEADS: u32 = 3;
const VOCABULARY: u32 = 49_152;

/// Where tensors start in the file.
const ALIGNMENT: u64 = 32;

/// Begins, ends, and every byte.
const SPECIAL: u32 = 259;

const TEMPLATE: &str =
    "{% for m in messages %}<s>{{m.role}}: {{m.content}}\n{% endfor %}assistant:";

/// How values and tensors are marked.
mod kind {
    pub(super) const U32: u32 = 4;
    pub(super) const I32: u32 = 5;
    pub(super) const F32: u32 = 6;
    pub(super) const BOOL: u32 = 7;
    pub(super) const TEXT: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
    pub(super) const TENSOR_F32: u32 = 0;
    pub(super) const TENSOR_F16: u32 = 1;
}

/// The head of the file, in memory.
#[derive(Debug, Default)]
struct Head {
    pairs: Vec<u8>,
    count: u64,
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    let len = u64::try_from(text.len()).unwrap_or(u64::MAX);
    bytes.extend(len.to_le_bytes());
    bytes.extend(text.as_bytes());
}

impl Head {
    fn pair(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        text(&mut self.pairs, key);
        self.pairs.extend(kind.to_le_bytes());
        &mut self.pairs
    }

    fn word(&mut self, key: &str, value: &str) {
        text(self.pair(key, kind::TEXT), value);
    }

    fn number(&mut self, key: &str, value: u32) {
        self.pair(key, kind::U32).extend(value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.pair(key, kind::F32).extend(value.to_le_bytes());
    }

    fn list(&mut self, key: &str, of: u32) -> &mut Vec<u8> {
        let bytes = self.pair(key, kind::ARRAY);
        bytes.extend(of.to_le_bytes());
        bytes.extend(u64::from(VOCABULARY).to_le_bytes());
        bytes
    }

    fn shape(&mut self) {
        self.word("general.architecture", "llama");
        self.word("general.name", "random, 135M");
        self.number("llama.context_length", 32_768);
        self.number("llama.embedding_length", WIDTH);
        self.number("llama.block_count", LAYERS);
        self.number("llama.feed_forward_length", INNER);
        self.number("llama.attention.head_count", HEADS);
        self.number("llama.attention.head_count_kv", KEY_HEADS);
        self.float("llama.attention.layer_norm_rms_epsilon", 1e-6);
        self.float("llama.rope.freq_base", 10_000.0);
        self.number("llama.rope.dimension_count", WIDTH / HEADS);
        self.number("llama.vocab_size", VOCABULARY);
        self.number("general.file_type", 1);
    }

    fn vocabulary(&mut self) {
        self.word("tokenizer.ggml.model", "llama");
        let tokens = self.list("tokenizer.ggml.tokens", kind::TEXT);
        for special in ["<unk>", "<s>", "</s>"] {
            text(tokens, special);
        }
        for byte in 0..=u8::MAX {
            text(tokens, &format!("<0x{byte:02X}>"));
        }
        for number in 0..VOCABULARY - SPECIAL {
            text(tokens, &word(number));
        }
        let scores = self.list("tokenizer.ggml.scores", kind::F32);
        for number in 0..VOCABULARY {
            let after = u16::try_from(number.saturating_sub(SPECIAL)).unwrap_or(u16::MAX);
            scores.extend((-f32::from(after)).to_le_bytes());
        }
        let types = self.list("tokenizer.ggml.token_type", kind::I32);
        for number in 0..VOCABULARY {
            let of: i32 = match number {
                0 => 2,
                1 | 2 => 3,
                _ if number < SPECIAL => 6,
                _ => 1,
            };
            types.extend(of.to_le_bytes());
        }
        self.number("tokenizer.ggml.bos_token_id", 1);
        self.number("tokenizer.ggml.eos_token_id", 2);
        self.number("tokenizer.ggml.unknown_token_id", 0);
        self.pair("tokenizer.ggml.add_bos_token", kind::BOOL)
            .push(1);
        self.word("tokenizer.chat_template", TEMPLATE);
    }
}

/// A word of its own for every number: four letters after a space, and the space alone.
fn word(mut number: u32) -> String {
    let mut word = String::from('\u{2581}');
    if number == 0 {
        return word;
    }
    for _ in 0..4 {
        let letter = u8::try_from(number % 26).unwrap_or_default();
        word.push(char::from(b'a' + letter));
        number /= 26;
    }
    word
}

/// Columns and rows; a norm has one row.
struct Tensor {
    name: String,
    columns: u32,
    rows: u32,
}

impl Tensor {
    const fn is_norm(&self) -> bool {
        self.rows == 1
    }

    fn values(&self) -> u64 {
        u64::from(self.columns) * u64::from(self.rows)
    }

    /// Its size, with what is left free until the next.
    fn room(&self) -> u64 {
        let each = if self.is_norm() { 4 } else { 2 };
        (self.values() * each).next_multiple_of(ALIGNMENT)
    }
}

fn tensors() -> Vec<Tensor> {
    let mut all = Vec::new();
    let mut add = |name: String, columns, rows| {
        all.push(Tensor {
            name,
            columns,
            rows,
        });
    };
    add("token_embd.weight".into(), WIDTH, VOCABULARY);
    add("output_norm.weight".into(), WIDTH, 1);
    let keys = WIDTH / HEADS * KEY_HEADS;
    for layer in 0..LAYERS {
        for (name, columns, rows) in [
            ("attn_norm", WIDTH, 1),
            ("ffn_norm", WIDTH, 1),
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, keys),
            ("attn_v", WIDTH, keys),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", WIDTH, INNER),
            ("ffn_up", WIDTH, INNER),
            ("ffn_down", INNER, WIDTH),
        ] {
            add(format!("blk.{layer}.{name}.weight"), columns, rows);
        }
    }
    all
}

/// Writes the file.
pub(crate) fn write(path: &Path) -> Result<()> {
    let mut head = Head::default();
    head.shape();
    head.vocabulary();
    let tensors = tensors();
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend(u64::try_from(tensors.len())?.to_le_bytes());
    bytes.extend(head.count.to_le_bytes());
    bytes.extend(head.pairs);
    let mut offset = 0_u64;
    for tensor in &tensors {
        text(&mut bytes, &tensor.name);
        if tensor.is_norm() {
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(u64::from(tensor.columns).to_le_bytes());
            bytes.extend(kind::TENSOR_F32.to_le_bytes());
        } else {
            bytes.extend(2_u32.to_le_bytes());
            bytes.extend(u64::from(tensor.columns).to_le_bytes());
            bytes.extend(u64::from(tensor.rows).to_le_bytes());
            bytes.extend(kind::TENSOR_F16.to_le_bytes());
        }
        bytes.extend(offset.to_le_bytes());
        offset += tensor.room();
    }
    let length = u64::try_from(bytes.len())?.next_multiple_of(ALIGNMENT);
    bytes.resize(usize::try_from(length)?, 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&bytes)?;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for tensor in &tensors {
        let mut data = Vec::with_capacity(usize::try_from(tensor.room())?);
        for _ in 0..tensor.values() {
            if tensor.is_norm() {
                data.extend(1.0_f32.to_le_bytes());
            } else {
                data.extend(dice.half().to_le_bytes());
            }
        }
        data.resize(usize::try_from(tensor.room())?, 0);
        file.write_all(&data)?;
    }
    Ok(file.flush()?)
}

/// Always the same random values (xorshift).
struct Dice(u64);

impl Dice {
    /// A half float of -2^-5 to 2^-5.
    fn half(&mut self) -> u16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let [low, high, ..] = self.0.to_le_bytes();
        let random = u16::from_le_bytes([low, high]);
        // k times 2^-15 is 2^(e-15) times 1.m, where e is the place of k's first bit.
        let (sign, k) = (random & 0x8000, random & 0x3ff);
        let Some(exponent) = k.checked_ilog2() else {
            return sign;
        };
        let mantissa = (k << (10 - exponent)) & 0x3ff;
        let exponent = u16::try_from(exponent).unwrap_or_default();
        sign | exponent << 10 | mantissa
    }
}
