"""Writes sprout.gguf and sprout.gguf.sha256 from trained weights.

    python export.py weights.npz tokenizer.json OUT_DIR [--type q8_0|f16] [--context 1024]

Matrices become Q8_0 (or F16), norms stay F32, and output.weight is left out, as it is the token
embedding. The files appear under their names only when they are whole.
"""
import argparse
import hashlib
import os

import gguf
import numpy as np

from tokenizer import BOS, IM_END, N_BYTE, N_SPECIAL, UNK, Tokenizer
from train import CFG

TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
            "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
            "{% endif %}")
ABOUT = ("A tiny test model made by the Tirami project to prove that a paid inference works end to end. It is "
         "small and often wrong. Trained from scratch on generated text.")
# GGUF name of a layer's tensor -> name in weights.npz; matrices are stored there as [in, out]
LAYER = {"attn_norm": "attn_norm", "attn_q": "wq", "attn_k": "wk", "attn_v": "wv", "attn_output": "wo",
         "ffn_norm": "ffn_norm", "ffn_gate": "wg", "ffn_up": "wu", "ffn_down": "wd"}


def main():
    a = argparse.ArgumentParser()
    a.add_argument("weights")
    a.add_argument("tokenizer")
    a.add_argument("out")
    a.add_argument("--type", choices=["q8_0", "f16"], default="q8_0")
    a.add_argument("--context", type=int, default=1024)
    a = a.parse_args()
    p, tok = np.load(a.weights), Tokenizer.load(a.tokenizer)
    L = p["wq"].shape[0]
    assert L == CFG["layers"] and p["emb"].shape == (len(tok.pieces), CFG["d"])
    path = os.path.join(a.out, "sprout.gguf")
    w = gguf.GGUFWriter(path + ".tmp", "llama")
    w.add_name("sprout")
    w.add_author("Tirami")
    w.add_description(ABOUT)
    w.add_license("MIT OR Apache-2.0")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if a.type == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(a.context)
    w.add_embedding_length(CFG["d"])
    w.add_block_count(L)
    w.add_feed_forward_length(CFG["ff"])
    w.add_head_count(CFG["heads"])
    w.add_head_count_kv(CFG["kv"])
    w.add_rope_dimension_count(CFG["hd"])
    w.add_rope_freq_base(CFG["theta"])
    w.add_layer_norm_rms_eps(CFG["eps"])
    w.add_vocab_size(len(tok.pieces))
    types = [gguf.TokenType.NORMAL] * len(tok.pieces)
    types[:N_SPECIAL] = [gguf.TokenType.CONTROL] * N_SPECIAL
    types[UNK] = gguf.TokenType.UNKNOWN
    types[N_SPECIAL:N_SPECIAL + N_BYTE] = [gguf.TokenType.BYTE] * N_BYTE
    w.add_tokenizer_model("llama")
    w.add_tokenizer_pre("default")
    w.add_token_list(tok.pieces)
    w.add_token_scores(tok.scores)
    w.add_token_types(types)
    w.add_bos_token_id(BOS)
    w.add_eos_token_id(IM_END)
    w.add_eot_token_id(IM_END)
    w.add_unk_token_id(UNK)
    w.add_pad_token_id(UNK)
    w.add_add_bos_token(False)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(TEMPLATE)

    kind = gguf.GGMLQuantizationType.Q8_0 if a.type == "q8_0" else gguf.GGMLQuantizationType.F16

    def put(name, x):
        x = np.ascontiguousarray(x, np.float32)
        if x.ndim == 1:
            w.add_tensor(name, x)
        else:
            w.add_tensor(name, gguf.quants.quantize(x, kind), raw_dtype=kind)

    put("token_embd.weight", p["emb"])
    put("output_norm.weight", p["out_norm"])
    for l in range(L):
        for g, n in LAYER.items():
            x = p[n][l]
            put(f"blk.{l}.{g}.weight", x.T if x.ndim == 2 else x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    with open(path + ".tmp", "rb") as f:
        h = hashlib.sha256(f.read()).hexdigest()
    with open(path + ".sha256.tmp", "w") as f:
        f.write(f"{h}  sprout.gguf\n")
    os.replace(path + ".tmp", path)
    os.replace(path + ".sha256.tmp", path + ".sha256")
    print(path, os.path.getsize(path), "bytes", h)


if __name__ == "__main__":
    main()
