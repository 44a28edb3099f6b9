"""Asks sprout.gguf the exam and the smoke questions, greedily, with a forward pass in plain numpy.

    python exam.py sprout.gguf [--exam exam.jsonl] [--smoke smoke.json] [--ask TEXT ...] [--wrong N]

An answer is right when it holds one of the wanted substrings, case ignored. Exits with 1 when a smoke
question fails. The exam prints, a topic a line, how many answers were right.
"""
import argparse
import collections
import json
import sys
import time

import gguf
import numpy as np

from tokenizer import IM_END, Tokenizer


class Model:
    """The weights of a GGUF file as float32, and one sequence's keys and values."""

    def __init__(self, path):
        r = gguf.GGUFReader(path)

        def kv(k):
            return r.fields[k].contents()

        self.L, self.d = kv("llama.block_count"), kv("llama.embedding_length")
        self.H, self.K = kv("llama.attention.head_count"), kv("llama.attention.head_count_kv")
        self.hd, self.eps = self.d // self.H, kv("llama.attention.layer_norm_rms_epsilon")
        self.ctx, self.theta = kv("llama.context_length"), kv("llama.rope.freq_base")
        self.tok = Tokenizer(kv("tokenizer.ggml.tokens"), kv("tokenizer.ggml.scores"))
        self.t = {}
        for t in r.tensors:
            x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
            # matrices are [out, in]; all but the embedding are turned to [in, out]
            self.t[t.name] = np.ascontiguousarray(x.T) if x.ndim == 2 and t.name != "token_embd.weight" else x

    def norm(self, x, g):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * g

    def rope(self, x, pos):
        """x [T, heads, hd], pos [T]; rotates neighbouring pairs."""
        ang = pos[:, None] * self.theta ** (-np.arange(0, self.hd, 2) / self.hd)[None]
        c, s = np.cos(ang)[:, None].astype(np.float32), np.sin(ang)[:, None].astype(np.float32)
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
        out[..., 1::2] = x[..., 0::2] * s + x[..., 1::2] * c
        return out

    def run(self, ids, cache, at):
        """Feeds ids at positions at.. and returns the logits [V] after the last; fills cache."""
        T, H, K, hd = len(ids), self.H, self.K, self.hd
        pos = np.arange(at, at + T)
        x = self.t["token_embd.weight"][ids]
        for l in range(self.L):
            w = {n: self.t[f"blk.{l}.{n}.weight"] for n in
                 ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")}
            h = self.norm(x, w["attn_norm"])
            q = self.rope((h @ w["attn_q"]).reshape(T, H, hd), pos).reshape(T, K, H // K, hd)
            cache[l, 0, at:at + T] = self.rope((h @ w["attn_k"]).reshape(T, K, hd), pos)
            cache[l, 1, at:at + T] = (h @ w["attn_v"]).reshape(T, K, hd)
            k, v = cache[l, :, :at + T]
            o = np.empty((T, K, H // K, hd), np.float32)
            for g in range(K):
                s = q[:, g] @ k[:, g].T * hd ** -0.5
                s = np.where(np.arange(at + T)[None, None] > pos[:, None, None], -1e30, s)
                s = np.exp(s - s.max(-1, keepdims=True))
                o[:, g] = (s / s.sum(-1, keepdims=True)) @ v[:, g]
            x = x + o.reshape(T, H * hd) @ w["attn_output"]
            h = self.norm(x, w["ffn_norm"])
            a = h @ w["ffn_gate"]
            x = x + (a / (1 + np.exp(-a)) * (h @ w["ffn_up"])) @ w["ffn_down"]
        return self.norm(x[-1], self.t["output_norm.weight"]) @ self.t["token_embd.weight"].T

    def answer_ids(self, messages, limit=260):
        """Greedy answer: (prompt ids, answer ids without the end token)."""
        ids = self.tok.chat(messages)[0]
        cache = np.zeros((self.L, 2, min(self.ctx, len(ids) + limit) + 1, self.K, self.hd), np.float32)
        out, nxt, at = [], ids, 0
        while len(out) < limit and at + len(nxt) < cache.shape[2]:
            i = int(np.argmax(self.run(nxt, cache, at)))
            at += len(nxt)
            if i == IM_END:
                break
            out.append(i)
            nxt = [i]
        return ids, out

    def answer(self, messages):
        return self.tok.decode(self.answer_ids(messages)[1])


def right(text, any_of):
    return any(w.lower() in text.lower() for w in any_of)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("gguf")
    a.add_argument("--exam")
    a.add_argument("--smoke")
    a.add_argument("--ask", nargs="*", default=[])
    a.add_argument("--wrong", type=int, default=0, help="show up to N wrong answers of a topic")
    a.add_argument("--every", type=int, default=1, help="ask one exam prompt in N")
    a = a.parse_args()
    m, bad = Model(a.gguf), 0
    for q in a.ask:
        print(repr(q), "->", repr(m.answer([{"role": "user", "content": q}])))
    if a.smoke:
        with open(a.smoke, encoding="utf-8") as f:
            for c in json.load(f):
                t = m.answer([{"role": "user", "content": c["question"]}])
                ok = right(t, c["any_of"])
                bad += not ok
                print("ok   " if ok else "WRONG", repr(c["question"]), "->", repr(t))
    if a.exam:
        n, good, shown, size = (collections.Counter() for _ in range(4))
        t0 = time.time()
        with open(a.exam, encoding="utf-8") as f:
            for i, line in enumerate(f):
                if i % a.every:
                    continue
                e = json.loads(line)
                ids, out = m.answer_ids(e["messages"])
                t = m.tok.decode(out)
                size[e["topic"]] += len(ids)
                n[e["topic"]] += 1
                good[e["topic"]] += right(t, e["any_of"])
                if not right(t, e["any_of"]) and shown[e["topic"]] < a.wrong:
                    shown[e["topic"]] += 1
                    print("WRONG", e["topic"], repr(e["messages"][-1]["content"]), "->", repr(t[:120]))
        for k in n:
            print(f"{k:12s} {good[k]:4d} / {n[k]:4d}  {good[k] / n[k]:.2f}  prompt tokens {size[k] / n[k]:.0f}")
        print(f"{'all':12s} {sum(good.values()):4d} / {sum(n.values()):4d}  "
              f"{sum(good.values()) / sum(n.values()):.3f}  seconds {time.time() - t0:.0f}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
