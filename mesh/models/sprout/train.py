"""Trains sprout from scratch on the CPU with JAX.

    python train.py train.jsonl tokenizer.json OUT_DIR [--steps N] [--long-steps N] [--bound X]

Most steps learn from conversations packed into rows of 256 tokens, and in the last 60 percent some
steps from rows of 1024; a token sees only its own conversation. The loss is the mean cross entropy in
nats over the answer tokens (those of long answers weigh less), plus a small share for the prompt. Matrices learn by Muon, the embedding and the norms by Adam. Writes
OUT_DIR/weights.npz now and then and at the end; exits with 1 when the mean answer loss of the last 50
steps is not under --bound.
"""
import argparse
import itertools
import json
import os
import random
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tokenizer import Tokenizer

CFG = dict(layers=4, d=192, ff=512, heads=6, kv=2, hd=32, theta=10000.0, eps=1e-5)
MATS = ["wq", "wk", "wv", "wo", "wg", "wu", "wd"]


def init(key, vocab, c):
    """Parameters; the first axis of all but emb and out_norm is the layer."""
    L, d, ff, q, k = c["layers"], c["d"], c["ff"], c["heads"] * c["hd"], c["kv"] * c["hd"]
    ks = iter(jax.random.split(key, 8))

    def mat(i, o, s=1.0):
        return jax.random.normal(next(ks), (L, i, o)) * (s / i ** 0.5)

    return dict(emb=jax.random.normal(next(ks), (vocab, d)) * 0.05, wq=mat(d, q), wk=mat(d, k), wv=mat(d, k),
                wo=mat(q, d, 0.3), wg=mat(d, ff), wu=mat(d, ff), wd=mat(ff, d, 0.3),
                attn_norm=jnp.ones((L, d)), ffn_norm=jnp.ones((L, d)), out_norm=jnp.ones(d))


def norm(x, g, eps):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * g


def rope(x, cos, sin):
    """x [B, T, H, hd]; rotates the pairs (2i, 2i+1), which is the llama layout of GGUF."""
    a, b = x[..., 0::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], -1).reshape(x.shape)


def forward(p, ids, seg, c):
    """ids, seg [B, T] -> logits [B, T, V]; a token attends to earlier ones with the same seg."""
    B, T = ids.shape
    H, K, hd = c["heads"], c["kv"], c["hd"]
    f = c["theta"] ** (-np.arange(0, hd, 2) / hd)
    ang = np.arange(T)[:, None] * f[None]
    cos, sin = (jnp.asarray(t, jnp.float32)[None, :, None, :] for t in (np.cos(ang), np.sin(ang)))
    ok = (seg[:, :, None] == seg[:, None, :]) & (np.arange(T)[:, None] >= np.arange(T)[None])
    bias = jnp.where(ok, 0.0, -1e9)[:, None, None]
    x = p["emb"][ids]
    for l in range(c["layers"]):
        h = norm(x, p["attn_norm"][l], c["eps"])
        q = rope((h @ p["wq"][l]).reshape(B, T, H, hd), cos, sin).reshape(B, T, K, H // K, hd)
        k = rope((h @ p["wk"][l]).reshape(B, T, K, hd), cos, sin)
        v = (h @ p["wv"][l]).reshape(B, T, K, hd)
        s = jnp.einsum("btkgh,bskh->bkgts", q, k) * hd ** -0.5 + bias
        o = jnp.einsum("bkgts,bskh->btkgh", jax.nn.softmax(s, -1), v).reshape(B, T, H * hd)
        x = x + o @ p["wo"][l]
        h = norm(x, p["ffn_norm"][l], c["eps"])
        x = x + (jax.nn.silu(h @ p["wg"][l]) * (h @ p["wu"][l])) @ p["wd"][l]
    return norm(x, p["out_norm"], c["eps"]) @ p["emb"].T


def loss_fn(p, ids, seg, ans, c, prompt_weight):
    """(training loss, answer loss), both in nats; ans [B, T] is 100 x the weight of an answer token."""
    lp = jax.nn.log_softmax(forward(p, ids, seg, c)[:, :-1])
    ce = -jnp.take_along_axis(lp, ids[:, 1:, None], -1)[..., 0]
    same = (seg[:, 1:] == seg[:, :-1]) & (seg[:, 1:] > 0)
    a = jnp.where(same, ans[:, 1:], 0) * 0.01
    w = a + prompt_weight * jnp.where(same & (ans[:, 1:] == 0), 1.0, 0.0)
    n = jnp.maximum(a.sum(), 1.0)
    return (ce * w).sum() / n, (ce * a).sum() / n


def muon_step(m):
    """m [L, i, o] -> the nearest matrices with equal singular values (five Newton-Schulz steps)."""
    flip = m.shape[1] > m.shape[2]
    x = m.transpose(0, 2, 1) if flip else m
    x = x / (jnp.sqrt((x * x).sum((1, 2), keepdims=True)) + 1e-7)
    for _ in range(5):
        s = x @ x.transpose(0, 2, 1)
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    x = x.transpose(0, 2, 1) if flip else x
    return x * max(1.0, m.shape[2] / m.shape[1]) ** 0.5


def weights(mask):
    """Answer mask -> 100 x weight a token: 1 in answers of up to 24 tokens, sqrt(24 / length) in longer ones."""
    out = []
    for m, run in itertools.groupby(mask):
        n = len(list(run))
        out += [m * min(100, round(100 * (24 / n) ** 0.5))] * n
    return out


def rows(docs, T, rng):
    """Packs (ids, weights) pairs into (ids, seg, ans) rows of length T; seg 0 is padding."""
    docs = docs[:]
    rng.shuffle(docs)
    pool, out = [], []
    while docs or pool:
        while docs and len(pool) < 64:
            pool.append(docs.pop())
        row, used, s = np.zeros((3, T), np.int32), 0, 0
        while pool:
            fit = [i for i, d in enumerate(pool) if len(d[0]) <= T - used]
            if not fit:
                break
            i = fit[0] if used < T // 2 else max(fit, key=lambda j: len(pool[j][0]))
            t, m = pool.pop(i)
            s += 1
            row[0, used:used + len(t)], row[1, used:used + len(t)], row[2, used:used + len(t)] = t, s, m
            used += len(t)
            while docs and len(pool) < 64:
                pool.append(docs.pop())
        out.append(row)
    rng.shuffle(out)
    return np.stack(out)


def save(path, p):
    np.savez(path + ".tmp.npz", **{k: np.asarray(v) for k, v in p.items()})
    os.replace(path + ".tmp.npz", path)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("train_jsonl")
    a.add_argument("tokenizer")
    a.add_argument("out")
    a.add_argument("--steps", type=int, default=1500, help="steps of 8 rows of 256 tokens")
    a.add_argument("--long-steps", type=int, default=150, help="steps of 2 rows of 1024 tokens")
    a.add_argument("--muon-lr", type=float, default=0.006)
    a.add_argument("--adam-lr", type=float, default=0.002)
    a.add_argument("--prompt-weight", type=float, default=0.03)
    a.add_argument("--bound", type=float, default=0.2)
    a.add_argument("--init", help="weights.npz to go on from, instead of random weights")
    a.add_argument("--start", type=int, default=0, help="first batch of rows, with --init")
    a.add_argument("--stop", type=int, default=0, help="end after this step; the schedule stays that of all steps")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--save-every", type=int, default=200)
    a = a.parse_args()
    os.makedirs(a.out, exist_ok=True)
    tok = Tokenizer.load(a.tokenizer)
    short, long = [], []
    with open(a.train_jsonl, encoding="utf-8") as f:
        for line in f:
            d = json.loads(line)
            t = tok.chat(d["messages"], generate=False)
            n = 1024 if d["long"] else 256
            (long if d["long"] else short).append((t[0][:n], weights(t[1])[:n]))
    rng = random.Random(a.seed)
    rng.shuffle(short)
    keep = min(len(short) // 10, a.long_steps * 20)
    ph1 = rows(short, 256, rng)
    ph2 = rows(long + short[:keep], 1024, rng)
    p = init(jax.random.PRNGKey(a.seed), len(tok.pieces), CFG)
    if a.init:
        p = {k: jnp.asarray(v) for k, v in np.load(a.init).items()}
    n_par = sum(v.size for v in p.values())
    fill = [float((r[:, 1] > 0).mean()) for r in (ph1, ph2)]
    print(f"parameters {n_par} vocab {len(tok.pieces)} rows256 {len(ph1)} fill {fill[0]:.2f} "
          f"rows1024 {len(ph2)} fill {fill[1]:.2f} tokens {int((ph1[:, 1] > 0).sum() + (ph2[:, 1] > 0).sum())}",
          flush=True)

    total = a.steps + a.long_steps
    # the long steps are spread over the last 60 percent
    long_at = {int(total * 0.4 + total * 0.6 * (j + 0.5) / a.long_steps): j for j in range(a.long_steps)}
    adam = optax.scale_by_adam(0.9, 0.98)
    rest = [k for k in p if k not in MATS]

    def lr_at(i):  # warm-up over 40 steps, flat, then down to zero over the last 60 percent
        return jnp.minimum(jnp.minimum((i + 1) / 40, 1.0), jnp.maximum((total - i) / (0.6 * total), 0.002))

    @jax.jit
    def step(p, mom, ad, i, b):
        (_, al), g = jax.value_and_grad(loss_fn, has_aux=True)(p, b[:, 0], b[:, 1], b[:, 2], CFG, a.prompt_weight)
        s = lr_at(i)
        mom = {k: 0.95 * mom[k] + g[k] for k in MATS}
        u, ad = adam.update({k: g[k] for k in rest}, ad)
        new = {k: p[k] * (1 - s * a.muon_lr * 0.05) - s * a.muon_lr * muon_step(g[k] + 0.95 * mom[k]) for k in MATS}
        new.update({k: p[k] - s * a.adam_lr * u[k] for k in rest})
        return new, mom, ad, al

    mom = {k: jnp.zeros_like(p[k]) for k in MATS}
    ad = adam.init({k: p[k] for k in rest})
    t0, losses, seen = time.time(), [], 0
    for i in range(total):
        if i in long_at:
            b = ph2[np.arange(long_at[i] * 2, long_at[i] * 2 + 2) % len(ph2)]
        else:
            b = ph1[np.arange((a.start + i) * 8, (a.start + i) * 8 + 8) % len(ph1)]
        seen += int((b[:, 1] > 0).sum())
        p, mom, ad, al = step(p, mom, ad, i, b)
        losses.append(float(al))
        if i % 25 == 24 or i == total - 1:
            print(f"step {i + 1}/{total} loss {np.mean(losses[-25:]):.4f} tokens {seen} "
                  f"seconds {time.time() - t0:.0f}", flush=True)
        if i % a.save_every == a.save_every - 1 or i == total - 1:
            save(os.path.join(a.out, "weights.npz"), p)
        if i + 1 == a.stop:
            save(os.path.join(a.out, "weights.npz"), p)
            break
    final = float(np.mean(losses[-50:]))
    print(f"final loss {final:.4f} bound {a.bound} seconds {time.time() - t0:.0f}")
    sys.exit(0 if final < a.bound else 1)


if __name__ == "__main__":
    main()
