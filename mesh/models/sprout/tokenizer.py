"""SPM-style tokenizer of sprout: BPE merges as scored pieces, with a byte for all that is unknown.

Encoding is that of llama.cpp for tokenizer.ggml.model = "llama" with add_space_prefix = false:
spaces become U+2581, the text falls into characters, and the neighbouring pair whose joined piece has
the highest score is merged (leftmost first) until none is left; a character that is no piece becomes
its UTF-8 bytes, one <0xNN> token each. Every UTF-8 text round-trips.

    python tokenizer.py train.jsonl tokenizer.json [--vocab 1536]
"""
import argparse
import collections
import json
import re

SPACE = "\u2581"
UNK, BOS, IM_START, IM_END = 0, 1, 2, 3
SPECIAL = ["<unk>", "<s>", "<|im_start|>", "<|im_end|>"]
N_SPECIAL, N_BYTE = len(SPECIAL), 256
CHARS = [SPACE, "\n"] + [chr(c) for c in range(33, 127)]
# a piece is an optional space and then letters, or one other character; digits never merge
PIECE = re.compile(SPACE + r"?[A-Za-z]+|" + SPACE + r"?[^\sA-Za-z0-9" + SPACE + r"]|.", re.S)


class Tokenizer:
    """pieces: list of str, index = id; scores: list of float, higher merges first."""

    def __init__(self, pieces, scores):
        self.pieces, self.scores = pieces, scores
        self.ids = {p: i for i, p in enumerate(pieces) if i >= N_SPECIAL + N_BYTE}
        self.cache = {}

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as f:
            d = json.load(f)
        return cls(d["pieces"], d["scores"])

    def _word(self, w):
        s = list(w)
        while True:
            best, at = None, -1
            for i in range(len(s) - 1):
                j = self.ids.get(s[i] + s[i + 1])
                if j is not None and (best is None or self.scores[j] > best):
                    best, at = self.scores[j], i
            if at < 0:
                break
            s[at:at + 2] = [s[at] + s[at + 1]]
        out = []
        for p in s:
            if p in self.ids:
                out.append(self.ids[p])
            else:
                out += [N_SPECIAL + b for b in p.encode("utf-8")]
        return out

    def encode(self, text):
        """Plain text (no special tokens are recognised) -> list of ids."""
        out = []
        for w in re.findall(SPACE + "[^" + SPACE + "]*|[^" + SPACE + "]+", text.replace(" ", SPACE)):
            t = self.cache.get(w)
            if t is None:
                t = self.cache[w] = self._word(w)
            out += t
        return out

    def decode(self, ids):
        """List of ids -> text; special tokens are left out."""
        b = b""
        for i in ids:
            if i < N_SPECIAL:
                continue
            b += bytes([i - N_SPECIAL]) if i < N_SPECIAL + N_BYTE else \
                self.pieces[i].replace(SPACE, " ").encode("utf-8")
        return b.decode("utf-8", errors="replace")

    def chat(self, messages, generate=True):
        """ChatML: messages -> (ids, answer mask); the mask is 1 on answers and their <|im_end|>."""
        ids, mask = [], []

        def put(t, m):
            ids.extend(t)
            mask.extend([m] * len(t))

        for m in messages:
            put([IM_START] + self.encode(m["role"] + "\n"), 0)
            a = 1 if m["role"] == "assistant" else 0
            put(self.encode(m["content"]) + [IM_END], a)
            put(self.encode("\n"), 0)
        if generate:
            put([IM_START] + self.encode("assistant\n"), 0)
        return ids, mask


def train(texts, vocab):
    """Byte-pair merges over the pieces of `texts` until `vocab` ids exist."""
    words = collections.Counter()
    for t in texts:
        words.update(PIECE.findall(t.replace(" ", SPACE)))
    words = {w: n for w, n in words.items() if n >= 3 and all(c in CHARS for c in w)}
    seqs = [[list(w), n] for w, n in words.items() if len(w) > 1]
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for k, (s, n) in enumerate(seqs):
        for p in zip(s, s[1:]):
            pairs[p] += n
            where[p].add(k)
    pieces = SPECIAL + [f"<0x{b:02X}>" for b in range(256)] + CHARS
    have, merges = set(pieces), []
    while len(pieces) + len(merges) < vocab:
        p = max(pairs, key=lambda q: (pairs[q], q))
        if pairs[p] < 20:
            break
        new = p[0] + p[1]
        if new not in have:
            have.add(new)
            merges.append(new)
        for k in list(where[p]):
            s, n = seqs[k]
            for q in zip(s, s[1:]):
                pairs[q] -= n
                where[q].discard(k)
            out, i = [], 0
            while i < len(s):
                if i + 1 < len(s) and (s[i], s[i + 1]) == p:
                    out.append(new)
                    i += 2
                else:
                    out.append(s[i])
                    i += 1
            seqs[k][0] = out
            for q in zip(out, out[1:]):
                pairs[q] += n
                where[q].add(k)
        pairs.pop(p, None)
    scores = [0.0] * (N_SPECIAL + N_BYTE) + [-1e6] * len(CHARS) + [-float(i) for i in range(len(merges))]
    return Tokenizer(pieces + merges, scores)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("train_jsonl")
    p.add_argument("out")
    p.add_argument("--vocab", type=int, default=1536)
    p.add_argument("--lines", type=int, default=15000)
    a = p.parse_args()
    texts = []
    with open(a.train_jsonl, encoding="utf-8") as f:
        for i, line in enumerate(f):
            if i >= a.lines:
                break
            texts += [m["role"] + "\n" + m["content"] for m in json.loads(line)["messages"]]
    t = train(texts, a.vocab)
    for s in ["Hello, world!", "  two  spaces \n\n tab\t", "Où est 東京? 🙂 \u0000 é", "<|im_start|>", SPACE + "x", ""]:
        got = t.decode(t.encode(s))
        assert got == s.replace(SPACE, " "), (s, got)
    with open(a.out, "w", encoding="utf-8") as f:
        json.dump({"pieces": t.pieces, "scores": t.scores}, f, ensure_ascii=False)
    n = sum(len(x.encode()) for x in texts[:3000]) / sum(len(t.encode(x)) for x in texts[:3000])
    print("vocab", len(t.pieces), "bytes per token %.2f" % n)


if __name__ == "__main__":
    main()
