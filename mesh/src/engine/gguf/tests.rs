//! Small files made here, and the model in the repository.

use std::io::Cursor;

use super::*;

/// A GGUF file in the making.
struct Draft {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: u64,
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u64::try_from(text.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

impl Draft {
    fn new(architecture: &str) -> Self {
        let draft = Self {
            version: 3,
            keys: Vec::new(),
            tensors: Vec::new(),
            data: 0,
        };
        draft.text("general.architecture", architecture)
    }

    fn key(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        let mut key = text(name);
        key.extend(kind.to_le_bytes());
        key.extend(value);
        self.keys.push(key);
        self
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.key(name, 8, &text(value))
    }

    fn number(self, name: &str, value: u32) -> Self {
        self.key(name, 4, &value.to_le_bytes())
    }

    fn array(self, name: &str, kind: u32, items: &[Vec<u8>]) -> Self {
        let mut value = kind.to_le_bytes().to_vec();
        value.extend(u64::try_from(items.len()).unwrap().to_le_bytes());
        value.extend(items.concat());
        self.key(name, 9, &value)
    }

    /// A tensor of type F16.
    fn tensor(mut self, name: &str, dims: &[u64]) -> Self {
        let mut tensor = text(name);
        tensor.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        for dim in dims {
            tensor.extend(dim.to_le_bytes());
        }
        tensor.extend(1_u32.to_le_bytes());
        tensor.extend(self.data.to_le_bytes());
        self.data += (dims.iter().product::<u64>() * 2).next_multiple_of(32);
        self.tensors.push(tensor);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(u64::try_from(self.tensors.len()).unwrap().to_le_bytes());
        bytes.extend(u64::try_from(self.keys.len()).unwrap().to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.resize(bytes.len() + usize::try_from(self.data).unwrap(), 0);
        bytes
    }

    fn card(&self) -> Result<ModelCard, GgufError> {
        read(&self.bytes())?.card(ModelId::from_bytes([7; 32]))
    }
}

fn read(bytes: &[u8]) -> Result<Gguf, GgufError> {
    let len = u64::try_from(bytes.len()).unwrap();
    Gguf::read(&mut Cursor::new(bytes), len)
}

/// Two layers of width 8: 4 query heads of 2, one key-value head, 16 wide inside, 10 tokens.
fn dense(architecture: &str) -> Draft {
    let mut draft = Draft::new(architecture)
        .number(&format!("{architecture}.context_length"), 64)
        .number(&format!("{architecture}.block_count"), 2)
        .number(&format!("{architecture}.embedding_length"), 8)
        .number(&format!("{architecture}.attention.head_count"), 4)
        .tensor("token_embd.weight", &[8, 10])
        .tensor("output_norm.weight", &[8]);
    for layer in 0..2 {
        for (name, dims) in [
            ("attn_norm", &[8][..]),
            ("attn_q", &[8, 8]),
            ("attn_k", &[8, 2]),
            ("attn_v", &[8, 2]),
            ("attn_output", &[8, 8]),
            ("ffn_gate", &[8, 16]),
            ("ffn_up", &[8, 16]),
            ("ffn_down", &[16, 8]),
        ] {
            draft = draft.tensor(&format!("blk.{layer}.{name}.weight"), dims);
        }
        draft = draft.tensor(&format!("blk.{layer}.attn_q.bias"), &[8]);
    }
    draft
}

#[test]
fn a_card_is_the_sum_of_the_shapes() {
    let card = dense("llama").card().unwrap();
    assert_eq!(card.block_weights, 2 * (64 + 16 + 16 + 64 + 3 * 128));
    assert_eq!(card.head_weights, 80);
    assert_eq!(card.attention_flop, 2 * 2 * 4 * (2 + 2));
    assert_eq!((card.window, card.context), (0, 64));
}

#[test]
fn version_2_reads_the_same_and_others_are_refused() {
    let mut draft = dense("llama");
    draft.version = 2;
    assert_eq!(draft.card().unwrap(), dense("llama").card().unwrap());
    for version in [0, 1, 4, 3_u32.swap_bytes()] {
        draft.version = version;
        assert!(matches!(draft.card(), Err(GgufError::Version(v)) if v == version));
    }
}

#[test]
fn an_output_matrix_of_its_own_is_the_head() {
    let card = dense("llama").tensor("output.weight", &[8, 12]).card();
    assert_eq!(card.unwrap().head_weights, 96);
}

#[test]
fn an_unknown_architecture_has_no_attention_price() {
    let card = dense("novel").card().unwrap();
    assert_eq!(card.attention_flop, 0);
    assert_eq!(
        card.block_weights,
        dense("llama").card().unwrap().block_weights
    );
}

#[test]
fn a_sliding_window_is_read() {
    let card = dense("phi3").number("phi3.attention.sliding_window", 17);
    assert_eq!(card.card().unwrap().window, 17);
}

#[test]
fn fused_tensors_fall_back_to_the_metadata() {
    let heads = [3_u32, 1].map(|n| n.to_le_bytes().to_vec());
    let card = Draft::new("phi2")
        .number("phi2.context_length", 64)
        .number("phi2.block_count", 2)
        .number("phi2.embedding_length", 8)
        .array("phi2.attention.head_count", 5, &heads)
        .number("phi2.attention.key_length", 5)
        .number("phi2.attention.value_length", 7)
        .tensor("token_embd.weight", &[8, 10])
        .tensor("blk.0.attn_qkv.weight", &[8, 51])
        .tensor("blk.1.attn_qkv.weight", &[8, 17])
        .card()
        .unwrap();
    assert_eq!(card.attention_flop, 2 * (3 + 1) * (5 + 7));
    assert_eq!(card.block_weights, 8 * (51 + 17));
}

#[test]
fn of_experts_only_those_used_count() {
    let card = dense("qwen3moe")
        .number("qwen3moe.expert_count", 6)
        .number("qwen3moe.expert_used_count", 2)
        .tensor("blk.0.ffn_gate_inp.weight", &[8, 6])
        .tensor("blk.0.ffn_up_exps.weight", &[8, 4, 6])
        .tensor("blk.0.ffn_down_exps.weight", &[4, 8, 6])
        .tensor("blk.0.ffn_up_shexp.weight", &[8, 4])
        .tensor("blk.0.ffn_up_exps.bias", &[4, 6])
        .tensor("blk.0.attn_q_norm.weight", &[2, 4])
        .card()
        .unwrap();
    let base = dense("qwen3moe").card().unwrap();
    assert_eq!(
        card.block_weights - base.block_weights,
        48 + 2 * 32 + 2 * 32 + 32
    );
}

#[test]
fn tokens_that_begin_and_end_are_found_by_their_ids() {
    let tokens = ["<unk>", "<s>", "</s>", "a"].map(text);
    let draft = dense("llama")
        .number("tokenizer.ggml.eos_token_id", 2)
        .array("tokenizer.ggml.tokens", 8, &tokens)
        .number("tokenizer.ggml.bos_token_id", 1)
        .text("tokenizer.chat_template", "{{ bos_token }}");
    let gguf = read(&draft.bytes()).unwrap();
    assert_eq!(gguf.sequence_tokens(), ("<s>", "</s>"));
    assert_eq!(
        gguf.text("tokenizer.chat_template"),
        Some("{{ bos_token }}")
    );
    let outside = draft.number("tokenizer.ggml.bos_token_id", 4);
    assert!(matches!(read(&outside.bytes()), Err(GgufError::Damaged(_))));
}

#[test]
fn another_kind_of_file_is_named_by_its_beginning() {
    let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert_eq!(
        said(b"#!/bin/sh\necho"),
        "not a GGUF file: it starts with \"#!/bin/s\""
    );
    assert_eq!(
        said(b""),
        "not a GGUF file: it starts with nothing, it is empty"
    );
    assert!(said(b"GGUF").contains("truncated"));
}

#[test]
fn what_cannot_be_priced_says_what_is_missing() {
    let missing = |draft: Draft| draft.card().unwrap_err().to_string();
    assert!(missing(Draft::new("llama")).ends_with("no context length"));
    let bare = || Draft::new("llama").number("llama.context_length", 8);
    assert!(missing(bare()).ends_with("no output matrix"));
    assert!(missing(bare().tensor("output.weight", &[8, 8])).ends_with("no weights"));
    let split = dense("llama").key("split.count", 2, &3_u16.to_le_bytes());
    assert!(matches!(split.card(), Err(GgufError::Split(3))));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let tokens = ["<unk>", "<s>"].map(text);
    let bytes = dense("llama")
        .array("tokenizer.ggml.tokens", 8, &tokens)
        .bytes();
    // The last tensor has 16 bytes, and 16 of padding.
    for len in 0..bytes.len() - 16 {
        assert!(
            read(&bytes[..len]).is_err(),
            "{len} of {} bytes",
            bytes.len()
        );
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn claims_beyond_the_file_are_refused_without_reserving_memory() {
    let huge = u64::MAX.to_le_bytes();
    let mut array = 4_u32.to_le_bytes().to_vec();
    array.extend(huge);
    let mut nested = 9_u32.to_le_bytes().to_vec();
    nested.extend(1_u64.to_le_bytes());
    for draft in [
        dense("llama").key("a", 8, &huge),
        dense("llama").key("a", 9, &array),
        dense("llama").key("a", 9, &nested),
        dense("llama").key("a", 99, &huge),
        dense("llama").key("tokenizer.ggml.tokens", 9, &{
            let mut tokens = 8_u32.to_le_bytes().to_vec();
            tokens.extend(huge);
            tokens
        }),
    ] {
        assert!(draft.card().is_err());
    }
    let mut counts = dense("llama").bytes();
    counts[8..16].copy_from_slice(&huge);
    assert!(matches!(read(&counts), Err(GgufError::Damaged(_))));
}

/// Every byte of the head set to several values, one at a time: an answer or an error, no panic.
#[test]
fn damage_anywhere_in_the_head_is_no_panic() {
    let good = dense("llama").bytes();
    let data = usize::try_from(dense("llama").data).unwrap();
    for at in 0..good.len() - data {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            if let Ok(gguf) = read(&bytes) {
                match gguf.card(ModelId::from_bytes([0; 32])) {
                    Ok(card) => assert!(card.context > 0),
                    Err(e) => assert!(!e.to_string().is_empty()),
                }
            }
        }
    }
}

/// Expected figures from the file's own metadata, where the code takes them from tensor shapes.
#[test]
fn the_card_of_sprout_is_what_its_metadata_say() {
    let bytes = include_bytes!("../../../models/sprout/sprout.gguf");
    let gguf = read(bytes).unwrap();
    let card = gguf.card(ModelId::from_bytes([0; 32])).unwrap();
    let meta = |key: &str| gguf.numbers[&format!("llama.{key}")];
    let (d, ff, layers) = (
        meta("embedding_length"),
        meta("feed_forward_length"),
        meta("block_count"),
    );
    let (heads, kv) = (
        meta("attention.head_count"),
        meta("attention.head_count_kv"),
    );
    let each = 2 * d * d + 2 * d * (d / heads * kv) + 3 * d * ff;
    assert_eq!(card.block_weights, layers * each);
    assert_eq!(card.head_weights, meta("vocab_size") * d);
    assert_eq!(card.attention_flop, layers * 4 * d);
    assert_eq!(u64::from(card.context), meta("context_length"));
    assert_eq!(gguf.architecture().unwrap(), "llama");
}
